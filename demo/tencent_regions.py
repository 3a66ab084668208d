"""The regions of the Tencent cloud as `DescribeRegions` of TCR tells them.

The names are those for which the service documents its API; numbers and short names are the cloud's usual
ones, of which the API's examples confirm Guangzhou's and Shanghai's.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Region:
    """A region: its number, the short name in old addresses, and the name that calls carry."""

    id: int
    alias: str
    name: str


REGIONS = (
    Region(1, "gz", "ap-guangzhou"),
    Region(4, "sh", "ap-shanghai"),
    Region(5, "hk", "ap-hongkong"),
    Region(7, "shjr", "ap-shanghai-fsi"),
    Region(8, "bj", "ap-beijing"),
    Region(9, "sg", "ap-singapore"),
    Region(11, "szjr", "ap-shenzhen-fsi"),
    Region(15, "usw", "na-siliconvalley"),
    Region(16, "cd", "ap-chengdu"),
    Region(17, "de", "eu-frankfurt"),
    Region(18, "kr", "ap-seoul"),
    Region(19, "cq", "ap-chongqing"),
    Region(21, "in", "ap-mumbai"),
    Region(22, "use", "na-ashburn"),
    Region(23, "th", "ap-bangkok"),
    Region(25, "jp", "ap-tokyo"),
    Region(33, "nj", "ap-nanjing"),
    Region(72, "jkt", "ap-jakarta"),
    Region(74, "sao", "sa-saopaulo"),
)
BY_NAME = {region.name: region for region in REGIONS}
ELSEWHERE = frozenset({"na-toronto", "ap-taipei", "eu-moscow", "ap-beijing-fsi"})
"""Regions of the cloud in which TCR has no API."""

"""Where an account's registries are: regions, TCR instances, and the personal edition's host names."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from repositories.registries.answers import MalformedError, as_list, as_mapping, text
from repositories.registries.failures import BadAnswerError, NotThereError
from repositories.registries.tencent_api import HOME_REGION, TencentAPI, is_region
from repositories.registries.tencent_failures import NotInitializedError, not_running
from repositories.registries.tencent_listing import Page, by_entry

RUNNING = "Running"
_REGIONS = 200
# The manual has no list of the registry's host names; these are the ones the vendor's own charts use.
_PREFIXES = {
    "ap-hongkong": "hk",
    "ap-singapore": "sg",
    "na-siliconvalley": "usw",
    "na-ashburn": "use",
    "eu-frankfurt": "de",
    "sa-saopaulo": "sao",
    "ap-bangkok": "th",
    "ap-jakarta": "jkt",
    "na-toronto": "ca",
    "ap-seoul": "kr",
    "ap-tokyo": "jp",
    "ap-mumbai": "in",
    "ap-taipei": "tpe",
    "ap-shanghai-fsi": "shjr",
    "ap-beijing-fsi": "bjjr",
    "ap-shenzhen-fsi": "szjr",
}


@dataclass(frozen=True, slots=True)
class Instance:
    """One TCR instance as DescribeInstances shows it; ``domain`` is its host outside, ``internal`` inside."""

    id: str
    name: str
    region: str
    status: str
    domain: str
    internal: str = ""


def home_region(region: str) -> str:
    """Where to ask what is about no region: beside ``region``, since finance regions stand apart."""
    return region if region.endswith("-fsi") else HOME_REGION


def list_regions(api: TencentAPI, region: str = HOME_REGION) -> list[str]:
    """The regions TCR is in, asked in one of them."""
    try:
        entries = as_list(api.call("DescribeRegions", region).get("Regions"), limit=_REGIONS)
        names = [as_mapping(entry).get("RegionName") for entry in entries]
    except MalformedError:
        raise BadAnswerError("REG_PROTOCOL", "Tencent Cloud's list of regions is damaged.") from None
    return [str(name) for name in names if is_region(name)]


def list_instances(api: TencentAPI, region: str) -> Iterator[Instance]:
    """Every instance of the account in a region."""

    def ask(offset: int, limit: int) -> Page:
        answer = api.call("DescribeInstances", region, Offset=offset, Limit=limit)
        return Page(answer.get("Registries"), answer.get("TotalCount"))

    yield from by_entry(ask, lambda entry: _instance(entry, region))


def find_instance(api: TencentAPI, region: str, instance_id: str) -> Instance:
    """One instance; NotThereError where the account has none of that ID in that region."""

    def ask(offset: int, limit: int) -> Page:
        answer = api.call("DescribeInstances", region, Registryids=[instance_id], Offset=offset, Limit=limit)
        return Page(answer.get("Registries"), answer.get("TotalCount"))

    for instance in by_entry(ask, lambda entry: _instance(entry, region)):
        if instance.id == instance_id:
            return instance
    raise NotThereError(
        "REG_NOT_FOUND",
        f"The account has no such TCR instance in {region}: it was deleted, or is another account's.",
        "Nothing listed before is lost; look for the instance in Tencent Cloud's console.",
    )


def require_running(instance: Instance) -> None:
    """Raise AccessRefusedError unless the instance can be used."""
    if instance.status != RUNNING:
        raise not_running(instance.status)


def _instance(entry: Mapping[str, object], region: str) -> tuple[str, Instance]:
    id_ = text(entry, "RegistryId", limit=64)
    if not id_:
        raise MalformedError("an instance without an ID")
    where = text(entry, "RegionName", limit=32)
    return id_, Instance(
        id=id_,
        name=text(entry, "RegistryName", limit=50),
        region=where if is_region(where) else region,
        status=text(entry, "Status", limit=32),
        domain=text(entry, "PublicDomain"),
        internal=text(entry, "InternalEndpoint"),
    )


def personal_domain(region: str) -> str:
    """CCR's host name for a region, where the API does not say; most regions of the mainland share one."""
    return f"{_PREFIXES.get(region, '')}ccr.ccs.tencentyun.com"


def personal_host(api: TencentAPI, region: str) -> str | None:
    """Where a region's personal edition is; None where the account has never used it there."""
    try:
        answer = api.call("DescribeRepositoryOwnerPersonal", region, Offset=0, Limit=1)
        named = text(as_mapping(answer.get("Data")), "Server")
    except NotInitializedError:
        return None
    except MalformedError:
        named = ""
    return named or personal_domain(region)


def vpc_host(instance: Instance) -> str:
    """An instance's host as a linked VPC knows it; where hosts have no names there is only the address."""
    name, dot, domain = instance.domain.partition(".")
    if not dot or name.isdecimal():
        return instance.internal or instance.domain
    return f"{name}-vpc.{domain}"

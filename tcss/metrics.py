"""What is old or stuck, as figures in Prometheus' text format; everything is read at the moment of asking."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from tcss.status import Status, status


class _StatusCollector(Collector):
    """One look at the installation."""

    def __init__(self, seen: Status) -> None:
        self._seen = seen

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The figures; what is not known now is left out rather than shown as nought."""
        seen = self._seen
        jobs = GaugeMetricFamily(
            "tcss_jobs",
            "Jobs that wait for a worker or for a time, run, or have lost their worker.",
            labels=["kind", "state"],
        )
        oldest = GaugeMetricFamily(
            "tcss_oldest_queued_seconds", "Age of the oldest waiting job.", labels=["kind"]
        )
        for kind, queue in (("scan", seen.scans), ("sync", seen.syncs)):
            for state in ("queued", "waiting", "running", "overdue"):
                jobs.add_metric([kind, state], getattr(queue, state))
            oldest.add_metric([kind], queue.oldest_queued_seconds or 0)
        yield jobs
        yield oldest
        yield GaugeMetricFamily("tcss_broker_up", "Whether the broker answers.", value=seen.broker.reachable)
        database, tick = seen.vulnerability_database, seen.broker.last_tick_seconds_ago
        yield GaugeMetricFamily(
            "tcss_vulnerability_database_present", "Whether there is one.", value=database.present
        )
        if database.age_days is not None:
            age = database.age_days * 86_400
            yield GaugeMetricFamily("tcss_vulnerability_database_age_seconds", "Its age.", value=age)
        signatures = seen.malware_signatures
        if signatures.clamd_named:
            yield GaugeMetricFamily(
                "tcss_clamd_up", "Whether the virus engine answers.", value=signatures.clamd_answers
            )
        if signatures.age_days is not None:
            age = signatures.age_days * 86_400
            yield GaugeMetricFamily("tcss_malware_signatures_age_seconds", "Their age.", value=age)
        if tick is not None:
            yield GaugeMetricFamily(
                "tcss_last_tick_age_seconds", "Since the scheduler was heard.", value=tick
            )
        yield GaugeMetricFamily(
            "tcss_disk_free_bytes", "Room in the data folder.", value=seen.disk.free_bytes
        )
        yield GaugeMetricFamily(
            "tcss_disk_floor_bytes", "Scans wait below this much room.", value=seen.disk.floor_bytes
        )


def exposition() -> bytes:
    """The figures as they are now; the database must answer."""
    registry = CollectorRegistry()
    registry.register(_StatusCollector(status()))
    return generate_latest(registry)

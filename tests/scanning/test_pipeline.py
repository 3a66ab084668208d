"""One scan from claim to end, with the real engine and the demo registry."""

from images.models import CategoryStatus, ScanStatus
from scanning import pipeline
from scanning.models import Category, Scan, TaskTrigger
from scanning.services import request_scan
from tcss.lifecycle import State
from tests.scanning.world import World

BOTH = (Category.VULNERABILITIES, Category.SENSITIVE)


def scanned(world: World, name: str) -> Scan:
    """The scan of one image, run to its end."""
    image = world.image(name)
    request_scan([image.pk], BOTH, TaskTrigger.MANUAL, None, name)
    scan = Scan.objects.filter(image=image).latest("pk")
    pipeline.run(scan.pk)
    scan.refresh_from_db()
    return scan


def test_without_a_database_sensitive_data_is_scanned_all_the_same(world: World) -> None:
    scan = scanned(world, "shop/api:2.3.0")
    image = world.image("shop/api:2.3.0")
    assert (scan.state, scan.error_code) == (State.SUCCEEDED, "")
    assert image.scan_status == ScanStatus.SCANNED
    assert image.vulnerabilities_status == CategoryStatus.FAILED
    assert image.sensitive_status == CategoryStatus.SCANNED
    assert image.sensitive_count > 0
    assert image.error_code == "ENG_DB"
    assert "vulnerability_db" in image.error_remedy


def test_a_scan_with_everything_at_hand_finds_both(world: World, database: object) -> None:
    scan = scanned(world, "shop/api:2.3.0")
    image = world.image("shop/api:2.3.0")
    assert scan.state == State.SUCCEEDED
    assert (image.vulnerabilities_status, image.sensitive_status) == ("scanned", "scanned")
    assert image.vulnerability_count > 0
    assert image.worst_severity >= 3
    assert image.error_code == ""

"""What the console shows is what the engine says when it is run by hand on the same image."""

from pathlib import Path

from images.models import ScanStatus
from scanning import pipeline
from scanning.engines.vulnerability_db import VulnerabilityDatabase
from scanning.models import Category, Scan, TaskTrigger
from scanning.services import request_scan
from tcss.lifecycle import State
from tests.invariants import assert_books_balance
from tests.scanning.by_hand import reported, shown, trivy_image
from tests.scanning.world import World

BOTH = (Category.VULNERABILITIES, Category.SENSITIVE)


def test_the_vulnerabilities_of_every_demo_image_equal_those_of_the_engine_run_by_hand(
    world: World, database: VulnerabilityDatabase, tmp_path: Path
) -> None:
    directory = database.directory()
    assert directory is not None
    images = world.names()
    request_scan([image.pk for image in images.values()], BOTH, TaskTrigger.QUICK, None, "every image")
    for scan in Scan.objects.order_by("pk"):
        while Scan.objects.filter(pk=scan.pk, state=State.QUEUED).exists():
            pipeline.run(scan.pk)
    compared, findings = 0, 0
    for name, image in images.items():
        image.refresh_from_db()
        if image.scan_status == ScanStatus.EXCEPTION:
            continue
        expected = reported(trivy_image(world.server, name, directory, tmp_path))
        assert shown(image) == expected, name
        assert image.vulnerability_count == expected.total()
        compared += 1
        findings += expected.total()
    broken = [name for name, image in images.items() if image.scan_status == ScanStatus.EXCEPTION]
    assert broken == ["payments/gateway:5.0.1"]
    assert compared >= 14
    assert findings > 100
    assert_books_balance()

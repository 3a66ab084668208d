"""After a new vulnerability database all known packages are matched again, and nothing is pulled."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from django.db.models import Count
from django.utils import timezone

from images.models import Image
from scanning import matching, pipeline, rematching
from scanning.engine_models import MatchNews, MatchRun, PastMatch
from scanning.engines.sbom import KnownPackage, documents
from scanning.engines.vulnerability_db import VulnerabilityDatabase
from scanning.models import Category, InventoryPackage, Match, Package, Scan, TaskTrigger, Vulnerability
from scanning.services import request_scan
from tcss.lifecycle import MAX_ATTEMPTS, State
from tests.invariants import assert_books_balance
from tests.scanning.by_hand import reported, shown, trivy_image
from tests.scanning.world import World

NAMES = ("library/python:3.11-slim", "library/nginx:1.24-alpine", "payments/ledger:1.8.2", "shop/front:3.2.0")


def scanned(world: World, *names: str) -> list[Image]:
    """These images of the demo registry, scanned for vulnerabilities."""
    images = [world.image(name) for name in names]
    request_scan([image.pk for image in images], (Category.VULNERABILITIES,), TaskTrigger.QUICK, None, "some")
    for scan in Scan.objects.order_by("pk"):
        while Scan.objects.filter(pk=scan.pk, state=State.QUEUED).exists():
            pipeline.run(scan.pk)
    for image in images:
        image.refresh_from_db()
    return images


def matched() -> MatchRun:
    """A matching with the database in use, at its end."""
    run = rematching.begin()
    assert run is not None
    matching.match_run(run.pk)
    run.refresh_from_db()
    assert run.state == State.SUCCEEDED, run.error_reason
    return run


def answers() -> list[tuple[object, ...]]:
    """All matches, as texts."""
    fields = (
        "package__identity",
        "vulnerability__identifier",
        "data_source",
        "fixed_version",
        "status",
        "severity",
    )
    return sorted(Match.objects.values_list(*fields))


def a_package(number: int, **texts: str) -> KnownPackage:
    plain = {"name": "openssl", "version": "1", "source_name": "", "source_version": "", "kind": "debian"}
    return KnownPackage(identity=str(number), os_release="debian 12.5", purl="pkg:deb/a@1", **(plain | texts))


def test_the_matches_of_stored_packages_are_those_that_the_scans_of_the_images_found(
    world: World, database: VulnerabilityDatabase
) -> None:
    images = scanned(world, *NAMES)
    found, counts = answers(), [image.vulnerability_count for image in images]
    assert len(found) > 150
    Match.objects.all().delete()

    run = matched()

    assert answers() == found
    assert run.packages_done == run.packages_total == Package.objects.count()
    assert (run.matches_new, run.matches_gone, run.images_changed) == (len(found), 0, len(NAMES))
    for image, count in zip(images, counts, strict=True):
        image.refresh_from_db()
        assert image.vulnerability_count == count
    assert_books_balance()


def test_what_is_shown_after_a_matching_is_what_the_engine_says_of_the_image_by_hand(
    world: World, database: VulnerabilityDatabase, tmp_path: Path
) -> None:
    [image] = scanned(world, "shop/front:3.2.0")
    Match.objects.all().delete()
    matched()
    directory = database.directory()
    assert directory is not None
    assert shown(image) == reported(trivy_image(world.server, "shop/front:3.2.0", directory, tmp_path))


def test_an_unchanged_database_writes_no_fact(world: World, database: VulnerabilityDatabase) -> None:
    scanned(world, "library/python:3.11-slim")
    before = list(Match.objects.order_by("pk").values()), list(Vulnerability.objects.order_by("pk").values())
    run = matched()
    assert (run.matches_new, run.matches_gone, run.images_changed) == (0, 0, 0)
    assert not MatchNews.objects.exists()
    assert not PastMatch.objects.exists()
    after = list(Match.objects.order_by("pk").values()), list(Vulnerability.objects.order_by("pk").values())
    assert after == before


def test_a_matching_tells_which_flaws_are_new_and_in_how_many_images(
    world: World, database: VulnerabilityDatabase
) -> None:
    scanned(world, "library/python:3.11-slim", "library/debian:12")
    flaw = (
        Vulnerability.objects.filter(matches__package__name="bash").first()
        or Vulnerability.objects.filter(matches__package__kind="debian").first()
    )
    assert flaw is not None
    holders = set(
        InventoryPackage.objects.filter(package__matches__vulnerability=flaw).values_list(
            "inventory__images", flat=True
        )
    )
    Match.objects.filter(vulnerability=flaw).delete()
    run = matched()
    news = MatchNews.objects.get(run=run)
    assert (news.vulnerability, news.image_count) == (flaw, len(holders))


def test_what_the_database_no_longer_reports_is_kept_as_the_past_with_both_dates(
    world: World, database: VulnerabilityDatabase
) -> None:
    [image] = scanned(world, "library/python:3.11-slim")
    count = image.vulnerability_count
    known = Match.objects.first()
    assert known is not None
    invented = Vulnerability.objects.create(identifier="CVE-2020-99999")
    wrong = Match.objects.create(
        package=known.package, vulnerability=invented, data_source="debian", severity=4
    )

    run = matched()

    assert run.matches_gone == 1
    past = PastMatch.objects.get()
    assert (past.package, past.vulnerability, past.severity) == (known.package, invented, 4)
    assert past.first_seen_at == wrong.first_seen_at
    assert past.fixed_at >= past.first_seen_at
    image.refresh_from_db()
    assert image.vulnerability_count == count
    assert_books_balance()


def test_what_is_reported_again_has_the_date_it_was_first_seen_at_and_no_past(
    world: World, database: VulnerabilityDatabase
) -> None:
    scanned(world, "library/python:3.11-slim")
    flaw = Vulnerability.objects.annotate(Count("matches")).filter(matches__count=1).first()
    assert flaw is not None
    match = Match.objects.get(vulnerability=flaw)
    long_ago = datetime(2020, 5, 1, tzinfo=UTC)
    PastMatch.objects.create(
        package=match.package, vulnerability=match.vulnerability, data_source=match.data_source,
        first_seen_at=long_ago,
    )  # fmt: skip
    match.delete()
    run = matched()
    again = Match.objects.get(package=match.package_id, vulnerability=match.vulnerability_id)
    assert again.first_seen_at == long_ago
    assert not PastMatch.objects.exists()
    assert MatchNews.objects.get(run=run).vulnerability == match.vulnerability


def test_a_changed_database_begins_one_matching_by_itself_and_a_matched_one_none(
    world: World, database: VulnerabilityDatabase
) -> None:
    scanned(world, "library/debian:12")
    version = database.current()
    assert version is not None
    assert not matching.is_current(version)
    rematching.tick()
    rematching.tick()
    run = MatchRun.objects.get()
    assert run.database_version == version.label
    matching.match_run(run.pk)
    assert matching.is_current(version)
    rematching.tick()
    assert MatchRun.objects.count() == 1


def test_a_newer_database_ends_the_matching_with_the_one_before(
    world: World, database: VulnerabilityDatabase
) -> None:
    scanned(world, "library/debian:12")
    stale = MatchRun.objects.create(database_version="demo 2020-01-01 00:00")
    run = rematching.begin()
    stale.refresh_from_db()
    assert stale.state == State.CANCELLED
    assert run is not None
    assert run.database_version != stale.database_version


def test_a_matching_whose_database_is_no_longer_in_use_ends_cancelled(
    world: World, database: VulnerabilityDatabase
) -> None:
    run = MatchRun.objects.create(database_version="demo 2020-01-01 00:00")
    matching.match_run(run.pk)
    run.refresh_from_db()
    assert run.state == State.CANCELLED
    version = database.current()
    assert version is not None
    assert rematching.begin() != run


def test_a_matching_that_lost_its_worker_is_taken_up_and_goes_to_its_end(
    world: World, database: VulnerabilityDatabase
) -> None:
    scanned(world, "library/debian:12")
    run = rematching.begin()
    assert run is not None
    MatchRun.objects.claim(run.pk)
    MatchRun.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    rematching.tick()
    run.refresh_from_db()
    assert run.state == State.QUEUED
    matching.match_run(run.pk)
    run.refresh_from_db()
    assert run.state == State.SUCCEEDED


def test_a_matching_that_lost_three_workers_ends_failed_and_is_not_begun_again_at_once(
    world: World, database: VulnerabilityDatabase
) -> None:
    scanned(world, "library/debian:12")
    run = rematching.begin()
    assert run is not None
    MatchRun.objects.claim(run.pk)
    MatchRun.objects.update(attempt=MAX_ATTEMPTS, lease_until=timezone.now() - timedelta(seconds=1))
    rematching.tick()
    rematching.tick()
    run = MatchRun.objects.get()
    assert (run.state, run.error_code) == (State.FAILED, "WORKER_LOST")


def test_a_scan_that_had_begun_with_the_database_before_makes_for_another_matching(
    world: World, database: VulnerabilityDatabase
) -> None:
    [image] = scanned(world, "library/debian:12")
    matched()
    late = Scan.objects.get(image=image).categories.get(category=Category.VULNERABILITIES)
    late.database_version, late.finished_at = "demo 2020-01-01 00:00", timezone.now()
    late.save()
    rematching.tick()
    assert MatchRun.objects.active().exists()


def test_packages_that_differ_only_in_what_the_engine_does_not_report_never_share_a_document() -> None:
    twins = [a_package(1), a_package(2), a_package(3, version="2")]
    assert [[each.identity for each in some] for some in documents(twins, 10)] == [["1", "3"], ["2"]]


def test_a_package_the_engine_fails_over_keeps_no_other_from_being_matched(
    world: World, database: VulnerabilityDatabase
) -> None:
    scanned(world, "library/debian:12")
    found = len(answers())
    Match.objects.all().delete()
    Package.objects.create(
        identity="strange",
        name="a",
        version="1",
        kind="debian",
        os_release="debian 12.5",
        purl="not a package URL",
    )
    matched()
    assert len(answers()) == found


def test_a_host_whose_database_is_older_begins_no_matching_unless_somebody_went_back_to_it(
    world: World, database: VulnerabilityDatabase
) -> None:
    scanned(world, "library/debian:12")
    newer = MatchRun.objects.create(
        database_version="mirror 2030-01-01 00:00",
        database_updated_at=datetime(2030, 1, 1, tzinfo=UTC),
        state=State.SUCCEEDED,
        started_at=timezone.now(),
    )
    rematching.tick()
    assert MatchRun.objects.get() == newer
    assert rematching.begin() != newer


def test_a_worker_that_has_yet_to_get_the_database_leaves_the_matching_to_others(
    world: World, database: VulnerabilityDatabase
) -> None:
    run = MatchRun.objects.create(
        database_version="mirror 2030-01-01 00:00", database_updated_at=datetime(2030, 1, 1, tzinfo=UTC)
    )
    matching.match_run(run.pk)
    run.refresh_from_db()
    assert (run.state, run.attempt) == (State.QUEUED, 0)

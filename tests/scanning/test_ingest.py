"""Writing what an engine found: only what changed, shared by layer, right in sum, and never in a deadlock."""

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from images.models import Image, ImageLayer, Layer
from scanning.engine_models import PastMatch
from scanning.engines.protocol import (
    FixStatus,
    MatchFact,
    PackageFact,
    ScanReport,
    SecretFact,
    Severity,
    VulnerabilityFact,
)
from scanning.findings import packages_of, secrets_of, vulnerabilities_of
from scanning.ingest import ingest, lacks_packages
from scanning.models import (
    Category,
    CategoryState,
    Inventory,
    InventoryPackage,
    Match,
    Package,
    Scan,
    ScanCategory,
    SecretFinding,
    Vulnerability,
)
from scanning.rows import SecretFilter, VulnerabilityFilter
from scanning.summaries import refresh_summaries
from tcss.lifecycle import State
from tests.invariants import assert_books_balance

FACTS = (Package, Inventory, InventoryPackage, Vulnerability, Match, SecretFinding)


def diff_id(number: int) -> str:
    return f"sha256:{number:064x}"


def make_image(number: int, *layers: int) -> Image:
    image = Image.objects.create(image_id=diff_id(10**6 + number), is_licensed=True)
    for position, layer in enumerate(layers):
        row, _ = Layer.objects.get_or_create(diff_id=diff_id(layer))
        ImageLayer.objects.create(image=image, position=position, layer=row, created_by=f"RUN {layer}")
    return image


def package(name: str, layer: int, version: str = "1.0", **fields: str) -> PackageFact:
    return replace(
        PackageFact(
            name,
            version,
            name,
            version,
            "debian",
            f"pkg:deb/{name}@{version}",
            "debian 12",
            "",
            diff_id(layer),
        ),
        **fields,
    )


def flaw(identifier: str, severity: Severity = Severity.HIGH, title: str = "A flaw") -> VulnerabilityFact:
    return VulnerabilityFact(
        identifier,
        severity,
        title,
        "Text.\nMore.",
        7.5,
        "CVSS:3.1/AV:N",
        ("CWE-79",),
        ("https://example.com/a",),
        "",
        None,
        None,
    )


def match(
    fact: PackageFact, identifier: str, severity: Severity = Severity.HIGH, fixed: str = ""
) -> MatchFact:
    status = FixStatus.FIXED if fixed else FixStatus.AFFECTED
    return MatchFact(fact.identity, identifier, "debian", fixed, status, severity)


def secret(layer: int | None, path: str, severity: Severity = Severity.CRITICAL) -> SecretFact:
    where = None if layer is None else diff_id(layer)
    return SecretFact(where, path, "aws-access-key-id", "AWS", "AWS key", severity, 3, 3, "AKIA********")


def report(*facts: object) -> ScanReport:
    def of(kind: type) -> tuple:
        return tuple(fact for fact in facts if isinstance(fact, kind))

    return ScanReport(
        "debian", "12.5", True, of(PackageFact), of(VulnerabilityFact), of(MatchFact), of(SecretFact)
    )


BASE = [package(f"base{number}", 1) for number in range(5)]
BASE_REPORT = (
    *BASE,
    flaw("CVE-1"),
    flaw("CVE-2", Severity.LOW),
    match(BASE[0], "CVE-1", fixed="1.1"),
    match(BASE[1], "CVE-2", Severity.LOW),
)


def write(image: Image, found: ScanReport, **parts: bool) -> set[int]:
    with transaction.atomic():
        scan = Scan.objects.create(image=image, state=State.SUCCEEDED)
        for category in (Category.VULNERABILITIES, Category.SENSITIVE):
            ScanCategory.objects.create(
                scan=scan, category=category, state=CategoryState.SUCCEEDED, finished_at=scan.created_at
            )
        touched = ingest(image, found, **({"vulnerabilities": True, "secrets": True} | parts))
        refresh_summaries(touched | {image.pk})
    image.refresh_from_db()
    return touched


def sizes() -> dict[str, int]:
    return {model.__name__: model.objects.count() for model in FACTS}


@pytest.mark.django_db
def test_a_report_becomes_rows_that_say_the_same() -> None:
    image = make_image(1, 1, 2)
    app = package("app", 2, path="srv/app")
    write(
        image,
        report(
            *BASE_REPORT,
            app,
            match(app, "CVE-1", Severity.CRITICAL),
            secret(2, "srv/.env"),
            secret(None, "config"),
        ),
    )
    rows = vulnerabilities_of(image).rows
    assert [(row.identifier, row.package, row.severity.name, row.layer.position) for row in rows] == [
        ("CVE-1", "app", "CRITICAL", 2),
        ("CVE-1", "base0", "HIGH", 1),
        ("CVE-2", "base1", "LOW", 1),
    ]
    assert rows[1].advice.startswith("Update base0 from 1.0 to 1.1")
    assert rows[0].layer.created_by == "RUN 2"
    assert [(row.path, row.in_configuration) for row in secrets_of(image)] == [
        ("config", True),
        ("srv/.env", False),
    ]
    assert packages_of(image).total == 6
    assert (image.os_family, image.os_name, image.os_end_of_life) == ("debian", "12.5", False)
    assert_books_balance()


@pytest.mark.django_db
def test_a_report_that_was_cut_takes_nothing_away_from_what_is_known() -> None:
    image = make_image(1, 1)
    write(image, report(*BASE_REPORT, secret(1, "etc/key")))
    cut = replace(report(*BASE, flaw("CVE-1"), match(BASE[0], "CVE-1")), truncated=("matches", "secrets"))
    write(image, cut)
    assert (image.vulnerability_count, image.sensitive_count) == (2, 1)
    write(image, replace(cut, truncated=()))
    assert (image.vulnerability_count, image.sensitive_count) == (1, 0)


def places_of_rows() -> dict[str, list[tuple[str, str]]]:
    """Of each row of the tables of facts and summaries, which transaction wrote it and where it is."""
    places = {}
    with connection.cursor() as cursor:
        for model in (*FACTS, PastMatch, Image, Inventory.images.through):
            table = model._meta.db_table
            cursor.execute(f"SELECT xmin::text, ctid::text FROM {table} ORDER BY ctid")  # noqa: S608
            places[table] = cursor.fetchall()
    return places


@pytest.mark.django_db(transaction=True)
def test_the_same_report_again_leaves_every_row_as_and_where_it_is() -> None:
    image = make_image(1, 1, 2)
    found = report(*BASE_REPORT, package("own", 2), secret(1, "etc/key"), secret(None, "ENV KEY"))
    write(image, found)
    before = places_of_rows()
    assert all(before[model._meta.db_table] for model in FACTS)
    with transaction.atomic():
        touched = ingest(image, found, vulnerabilities=True, secrets=True)
        assert refresh_summaries(touched | {image.pk}) == 0
    assert places_of_rows() == before


@pytest.mark.django_db
def test_the_same_report_again_writes_no_fact() -> None:
    image = make_image(1, 1)
    found = report(*BASE_REPORT, secret(1, "etc/key"))
    write(image, found)
    with CaptureQueriesContext(connection) as queries, transaction.atomic():
        assert ingest(image, found, vulnerabilities=True, secrets=True) == set()
    written = [query["sql"] for query in queries if query["sql"].split()[0] in {"INSERT", "UPDATE", "DELETE"}]
    assert written == []


@pytest.mark.django_db
def test_a_second_image_on_a_known_base_adds_rows_for_its_own_layers_alone() -> None:
    write(make_image(1, 1), report(*BASE_REPORT, secret(1, "etc/key")))
    before = sizes()
    own = package("own", 2)
    second = make_image(2, 1, 2)
    write(second, report(*BASE_REPORT, own, secret(1, "etc/key"), secret(2, "srv/key")))
    added = {name: count - before[name] for name, count in sizes().items()}
    assert added == {
        "Package": 1, "Inventory": 1, "InventoryPackage": 1,
        "Vulnerability": 0, "Match": 0, "SecretFinding": 1,
    }  # fmt: skip
    assert (second.vulnerability_count, second.sensitive_count) == (2, 2)
    assert_books_balance()


@pytest.mark.django_db
def test_a_package_deleted_in_an_upper_layer_is_not_the_base_images_loss() -> None:
    base, child = make_image(1, 1), make_image(2, 1, 2)
    write(base, report(*BASE_REPORT))
    write(child, report(*BASE[1:], flaw("CVE-2", Severity.LOW), match(BASE[1], "CVE-2", Severity.LOW)))
    base.refresh_from_db()
    assert (base.package_count, base.vulnerability_count) == (5, 2)
    assert (child.package_count, child.vulnerability_count) == (4, 1)
    assert_books_balance()


@pytest.mark.django_db
def test_what_a_newer_database_says_of_a_shared_package_reaches_every_image_that_holds_it() -> None:
    first, second = make_image(1, 1), make_image(2, 1, 2)
    write(first, report(*BASE_REPORT))
    write(second, report(*BASE_REPORT))
    newer = report(
        *BASE,
        flaw("CVE-1", Severity.CRITICAL),
        flaw("CVE-3"),
        match(BASE[0], "CVE-1", Severity.CRITICAL, "1.2"),
        match(BASE[2], "CVE-3"),
    )
    touched = write(second, newer)
    first.refresh_from_db()
    assert touched == {first.pk, second.pk}
    assert (first.critical_count, first.high_count, first.low_count) == (1, 1, 0)
    assert not Match.objects.filter(vulnerability__identifier="CVE-2").exists()
    assert_books_balance()


@pytest.mark.django_db
def test_a_category_that_was_not_looked_at_keeps_what_is_known() -> None:
    image = make_image(1, 1)
    write(image, report(*BASE_REPORT, secret(1, "etc/key")))
    write(image, report(*BASE), vulnerabilities=False, secrets=False)
    assert (image.vulnerability_count, image.sensitive_count) == (2, 1)
    write(image, report(*BASE))
    assert (image.vulnerability_count, image.sensitive_count) == (0, 0)
    assert_books_balance()


@pytest.mark.django_db
def test_a_distribution_without_a_package_of_its_own_is_not_believed() -> None:
    image = make_image(1, 1)
    jar = package("log4j", 1, os_release="", kind="jar")
    scratch = replace(report(), os_family="", os_name="", os_supported=None)
    assert not lacks_packages(image, report(*BASE))
    assert not lacks_packages(image, scratch)
    assert not lacks_packages(image, replace(scratch, packages=(jar,)))
    assert lacks_packages(image, report())
    assert lacks_packages(image, report(jar))


@pytest.mark.django_db
def test_an_image_that_had_packages_has_not_lost_them_all() -> None:
    image = make_image(1, 1)
    write(image, report(*BASE_REPORT))
    scratch = replace(report(), os_family="", os_name="", os_supported=None)
    assert lacks_packages(image, scratch)
    write(image, replace(scratch, secrets=(secret(1, "etc/key"),)), packages=False)
    assert (image.package_count, image.vulnerability_count, image.sensitive_count) == (5, 2, 1)
    assert_books_balance()


@pytest.mark.django_db
def test_hostile_texts_are_stored_inert_and_cut_to_their_columns() -> None:
    nasty = "a\x00b\x1b[31m\ud800\u2028" + "é" * 5000
    image = make_image(1, 1)
    app = package(nasty, 1, version=nasty, purl=nasty, path=nasty, kind=nasty, os_release=nasty)
    described = replace(
        flaw(nasty, title=nasty), description=nasty, references=(nasty,), cvss_score=float("nan")
    )
    found = replace(match(app, nasty, fixed=nasty), data_source=nasty)
    hidden = replace(secret(1, nasty), rule_id=nasty, title=nasty, masked_match=nasty)
    write(image, report(app, described, found, hidden))
    [row] = vulnerabilities_of(image).rows
    assert row.package.startswith("a\\x00b\\x1b[31m\\ud800\\u2028")
    assert row.cvss_score is None
    assert secrets_of(image).total == 1
    write(image, report(app, described, found, hidden))
    assert image.vulnerability_count == 1


@pytest.mark.django_db
def test_findings_are_filtered_paged_and_asked_for_in_few_queries() -> None:
    image = make_image(1, 1)
    many = [package(f"lib{number:03}", 1) for number in range(120)]
    flaws = [flaw(f"CVE-{number:03}", title="Overflow" if number % 2 else "Leak") for number in range(120)]
    matches = [
        match(fact, f"CVE-{number:03}", Severity(number % 6), "2.0" if number % 3 else "")
        for number, fact in enumerate(many)
    ]
    secrets = [replace(secret(1, f"etc/{number}"), rule_id=f"rule-{number % 2}") for number in range(10)]
    write(image, report(*many, *flaws, *matches, *secrets))
    with CaptureQueriesContext(connection) as queries:
        page = vulnerabilities_of(image, limit=50)
    assert len(queries) <= 3
    assert (page.total, len(page), page.next_offset, page.previous_offset) == (120, 50, 50, None)
    assert [row.severity for row in page] == sorted((row.severity for row in page), reverse=True)
    seen = Counter(row.key for start in (0, 50, 100) for row in vulnerabilities_of(image, offset=start))
    assert set(seen.values()) == {1}
    assert len(seen) == 120

    def total(**filters: object) -> int:
        return vulnerabilities_of(image, VulnerabilityFilter(**filters)).total

    assert total(severities=frozenset({5})) == 20
    assert total(severities=frozenset({5, 0}), fixable=False) == 20
    assert total(fixable=True) == 80
    assert total(text="cve-11") == 10
    assert total(text="LEAK") == 60
    assert total(text="lib007") == 1
    assert total(text="%") == total(text="_") == total(text="\\") == total(text="\x00") == 0
    with CaptureQueriesContext(connection) as queries:
        assert secrets_of(image, SecretFilter(type="rule-1")).total == 5
    assert len(queries) <= 3
    assert secrets_of(image, SecretFilter(name="aws", severities=frozenset({4}))).total == 0


@pytest.mark.django_db
def test_summaries_equal_the_facts_after_any_history() -> None:
    chance = random.Random(20260)
    images = [make_image(number, *chance.sample(range(1, 6), chance.randint(1, 4))) for number in range(6)]
    for step in range(1, 31):
        image = chance.choice(images)
        layers = [int(layer.layer.diff_id[-2:]) for layer in image.image_layers.select_related("layer")]
        packages = [
            package(f"p{chance.randint(1, 4)}", chance.choice(layers)) for _ in range(chance.randint(0, 6))
        ]
        flaws = [flaw(f"CVE-{number}") for number in range(4)]
        matches = {
            (fact.identity, number): match(
                fact, f"CVE-{number}", Severity(chance.randint(0, 5)), chance.choice(["", "2"])
            )
            for fact in packages
            for number in chance.sample(range(4), 2)
        }
        secrets = [
            secret(chance.choice([*layers, None]), f"s{chance.randint(1, 3)}", Severity(chance.randint(0, 5)))
            for _ in range(2)
        ]
        write(
            image,
            report(*packages, *flaws, *matches.values(), *secrets),
            vulnerabilities=chance.random() < 0.8,
        )
        if step % 5 == 0:
            assert_books_balance()


@pytest.mark.django_db(transaction=True)
def test_scans_that_ingest_the_same_packages_at_once_neither_deadlock_nor_drift() -> None:
    rounds, images = 6, [make_image(number, 1, 10 + number) for number in range(4)]
    barrier = Barrier(len(images))

    def scan(number: int) -> None:
        chance = random.Random(number)
        barrier.wait()
        try:
            for round_number in range(rounds):
                facts = [*BASE, *(package(f"own{number}-{each}", 10 + number) for each in range(3))]
                chance.shuffle(facts)
                matches = [match(fact, f"CVE-{round_number % 2}") for fact in facts]
                write(
                    images[number],
                    report(
                        *facts,
                        flaw(f"CVE-{round_number % 2}", title=str(number)),
                        *matches,
                        secret(1, f"etc/{round_number % 2}"),
                    ),
                )
        finally:
            connection.close()

    with ThreadPoolExecutor(len(images)) as pool:
        list(pool.map(scan, range(len(images))))
    assert_books_balance()


@pytest.mark.django_db
def test_ten_thousand_findings_are_written_in_statements_not_in_rows() -> None:
    image = make_image(1, 1)
    many = [package(f"lib{number}", 1) for number in range(2_500)]
    flaws = [flaw(f"CVE-{number}") for number in range(400)]
    matches = [
        match(fact, f"CVE-{(number * 4 + each) % 400}")
        for number, fact in enumerate(many)
        for each in range(4)
    ]
    found = report(*many, *flaws, *matches)
    with CaptureQueriesContext(connection) as queries:
        write(image, found)
    assert image.vulnerability_count == 10_000
    assert len(queries) < 100

"""The details of one image version: every tab, its filters, what it says where nothing was found."""

import re
from datetime import timedelta

import pytest
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from images.models import ArtifactKind, CategoryStatus, Image, ImageLayer, Layer, ScanStatus, Severity
from repositories.models import Tag
from scanning.models import (
    Category,
    CategoryState,
    Inventory,
    InventoryPackage,
    MalwareFinding,
    Match,
    Package,
    Scan,
    ScanCategory,
    SecretFinding,
    Vulnerability,
)
from tcss.lifecycle import State
from tests.images import shelf

pytestmark = pytest.mark.django_db

TABS = ("", "vulnerabilities/", "malware/", "sensitive/", "packages/", "history/")
HTMX = {"HX-Request": "true", "HX-Target": "drawer-body"}
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>\u202egnp.exe{{7*7}}'


def text(response: HttpResponse) -> str:
    return re.sub(r"\s+", " ", response.content.decode())


def ended(image: Image, category: Category, state: CategoryState, **columns: object) -> ScanCategory:
    scan = Scan.objects.create(image=image, state=State.SUCCEEDED, finished_at=timezone.now())
    fields = {"engine": "trivy", "engine_version": "0.76.0", "finished_at": timezone.now(), **columns}
    return ScanCategory.objects.create(scan=scan, category=category, state=state, **fields)


@pytest.fixture
def tag(db: None) -> Tag:
    """An image of one layer with three vulnerable packages and two secrets."""
    image = shelf.image(
        "a",
        is_licensed=True,
        scan_status=ScanStatus.SCANNED,
        vulnerabilities_status=CategoryStatus.SCANNED,
        sensitive_status=CategoryStatus.SCANNED,
        last_scanned_at=timezone.now(),
        vulnerability_count=3,
        history=[{"created": "2024-05-01T10:00:00Z", "created_by": f"RUN {HOSTILE}"}],
        labels={"maintainer": HOSTILE},
        os_family="debian",
        os_name="10",
        os_end_of_life=True,
    )
    ended(image, Category.VULNERABILITIES, CategoryState.SUCCEEDED)
    ended(image, Category.SENSITIVE, CategoryState.SUCCEEDED)
    layer = Layer.objects.create(diff_id=shelf.digest("layer"), size=2048)
    ImageLayer.objects.create(image=image, position=0, layer=layer, created_by=f"RUN {HOSTILE}")
    inventory = Inventory.objects.create(content_hash="1" * 64, layer=layer)
    inventory.images.add(image)
    for number, (name, severity, fixed) in enumerate(
        [
            ("openssl", Severity.CRITICAL, "3.0.13"),
            ("zlib", Severity.UNKNOWN, ""),
            (HOSTILE[:90], Severity.LOW, "2"),
        ]
    ):
        package = Package.objects.create(identity=str(number) * 64, name=name, version="1.0", kind="debian")
        InventoryPackage.objects.create(inventory=inventory, package=package, path=HOSTILE)
        flaw = Vulnerability.objects.create(
            identifier=f"CVE-2024-100{number}",
            title=HOSTILE,
            description=HOSTILE,
            severity=severity,
            references=[
                "https://nvd.example/x",
                "javascript:alert(3)",
                "https://user@evil.example/",
                "data:text/html,x",
            ],
        )
        Match.objects.create(package=package, vulnerability=flaw, severity=severity, fixed_version=fixed)
    for number, (rule, severity) in enumerate([("aws-key", Severity.CRITICAL), ("jwt", Severity.LOW)]):
        SecretFinding.objects.create(
            layer=layer, fingerprint=str(number) * 64, rule_id=rule, title=f"{rule} {HOSTILE}",
            severity=severity, path=HOSTILE, start_line=3, end_line=3, masked_match="KEY=******",
        )  # fmt: skip
    return shelf.tag(shelf.registry(), "1", content=image)


def test_every_tab_is_a_page_of_its_own_and_a_fragment_of_the_drawer(viewer: Client, tag: Tag) -> None:
    for tab in TABS:
        address = f"/images/{tag.pk}/{tab}"
        page, fragment = text(viewer.get(address)), text(viewer.get(address, headers=HTMX))
        assert page.startswith("<!doctype html>")
        assert "<html" not in fragment
        assert f'href="{address}" hx-get="{address}" aria-current="page"' in page
        assert 'id="detail-title"' in fragment


def test_text_from_outside_is_inert_in_every_tab(viewer: Client, tag: Tag) -> None:
    for tab in TABS:
        body = viewer.get(f"/images/{tag.pk}/{tab}").content.decode()
        for active in (
            "<script>alert",
            "<img src=x",
            "\u202e",
            'href="javascript',
            'href="data',
            'user@evil.example/"',
        ):
            assert active not in body, tab


def test_only_plain_web_addresses_become_links_that_tell_nothing(viewer: Client, tag: Tag) -> None:
    body = viewer.get(f"/images/{tag.pk}/vulnerabilities/").content.decode()
    assert 'href="https://nvd.example/x" target="_blank" rel="noopener noreferrer"' in body
    assert "javascript:alert(3)</span>" in body


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("", {"1000", "1001", "1002"}),
        ("severity=critical", {"1000"}),
        ("severity=unknown&severity=low", {"1001", "1002"}),
        ("fix=yes", {"1000", "1002"}),
        ("fix=no", {"1001"}),
        ("q=OPENSSL", {"1000"}),
        ("q=cve-2024-1001", {"1001"}),
        ("q=nothing", set()),
        ("severity=nonsense&fix=perhaps&offset=-5", {"1000", "1001", "1002"}),
    ],
)
def test_vulnerabilities_are_filtered_and_searched(
    viewer: Client, tag: Tag, query: str, shown: set[str]
) -> None:
    body = viewer.get(f"/images/{tag.pk}/vulnerabilities/?{query}").content.decode()
    assert set(re.findall(r'<b class="mono"><bdi>CVE-2024-(\d+)', body)) == shown


def test_a_vulnerability_tells_fix_package_path_layer_and_instruction(viewer: Client, tag: Tag) -> None:
    page = text(viewer.get(f"/images/{tag.pk}/vulnerabilities/?q=openssl"))
    for shown in ("Update openssl from 1.0 to 3.0.13", "Path", shelf.digest("layer")[7:19], "RUN "):
        assert shown in page


def test_sensitive_data_is_filtered_by_severity_name_and_type(viewer: Client, tag: Tag) -> None:
    for query, shown in [
        ("severity=low", {"jwt"}),
        ("q=aws", {"aws-key"}),
        ("type=jwt", {"jwt"}),
        ("q=x-y", set()),
    ]:
        body = viewer.get(f"/images/{tag.pk}/sensitive/?{query}").content.decode()
        assert set(re.findall(r"<b><bdi>([\w-]+)", body)) == shown, query


def _infected(image: Image, **columns: object) -> None:
    ended(
        image, Category.MALWARE, CategoryState.SUCCEEDED,
        engine="yara + clamav", engine_version="4.5.4 + 1.4.6", database_version="abcdef + 27800", **columns,
    )  # fmt: skip
    layer = image.image_layers.get().layer
    for number, (path, kind, severity) in enumerate(
        [("opt/e.com", "test_file", Severity.LOW), (f"srv/{HOSTILE}", "web_shell", Severity.CRITICAL)]
    ):
        MalwareFinding.objects.create(
            layer=layer, fingerprint=str(number) * 64, engine="yara", signature=f"Rule{number} {HOSTILE}",
            kind=kind, severity=severity, path=path, size=68, md5="a" * 32, sha256="b" * 64,
            file_type="Text", description=HOSTILE,
        )  # fmt: skip
    image.malware_status = CategoryStatus.SCANNED
    image.save()


def test_a_virus_tells_file_engine_hashes_layer_and_what_to_do(viewer: Client, tag: Tag) -> None:
    assert tag.image
    _infected(tag.image)
    page = text(viewer.get(f"/images/{tag.pk}/malware/"))
    for shown in (
        "yara + clamav 4.5.4 + 1.4.6", "abcdef + 27800", "opt/e.com", "Web shell", "a" * 32, "b" * 64,
        "web server&#x27;s log", "made to try out virus scanners", "First seen", "<dt>Layer</dt>", "68 bytes",
    ):  # fmt: skip
        assert shown in page, shown
    assert page.index("Rule1") < page.index("Rule0")
    assert "<script>alert" not in page
    assert "No malware engine has looked" not in page


def test_viruses_are_filtered_by_severity_and_file_name(viewer: Client, tag: Tag) -> None:
    assert tag.image
    _infected(tag.image)
    for query, shown in [
        ("severity=low", {"Rule0"}),
        ("q=E.COM", {"Rule0"}),
        ("q=srv", {"Rule1"}),
        ("q=nowhere", set()),
        ("severity=nonsense", {"Rule0", "Rule1"}),
    ]:
        body = viewer.get(f"/images/{tag.pk}/malware/?{query}").content.decode()
        assert set(re.findall(r"<b><bdi>(Rule\d)", body)) == shown, query


def test_an_image_that_was_not_fully_looked_at_is_not_called_clean(viewer: Client, tag: Tag) -> None:
    assert tag.image
    ended(
        tag.image, Category.MALWARE, CategoryState.PARTIAL, engine="yara", error_code="ENG_CRASH",
        error_reason="clamd is gone.", error_remedy="Start clamd.",
    )  # fmt: skip
    Image.objects.filter(pk=tag.image.pk).update(malware_status=CategoryStatus.PARTIAL)
    page = text(viewer.get(f"/images/{tag.pk}/malware/"))
    assert "clamd is gone." in page
    assert "Start clamd." in page
    assert "Not fully scanned" in page
    assert "Nothing found" not in page


def test_nothing_found_and_not_looked_are_told_apart(viewer: Client) -> None:
    where = shelf.registry()
    fresh = shelf.image("fresh", is_licensed=True)
    clean = shelf.image(
        "clean", vulnerabilities_status=CategoryStatus.SCANNED, sensitive_status=CategoryStatus.SCANNED
    )
    strange = shelf.image("strange", vulnerabilities_status=CategoryStatus.UNSUPPORTED)
    tags = {each: shelf.tag(where, str(each.pk), content=each).pk for each in (fresh, clean, strange)}
    assert "No scan has looked for vulnerabilities" in text(
        viewer.get(f"/images/{tags[fresh]}/vulnerabilities/")
    )
    assert "found no vulnerabilities" in text(viewer.get(f"/images/{tags[clean]}/vulnerabilities/"))
    assert "distribution was not recognised" in text(viewer.get(f"/images/{tags[strange]}/vulnerabilities/"))
    assert "found no sensitive data" in text(viewer.get(f"/images/{tags[clean]}/sensitive/"))
    assert "No malware engine has looked" in text(viewer.get(f"/images/{tags[clean]}/malware/"))
    ended(clean, Category.MALWARE, CategoryState.SUCCEEDED, engine="yara")
    Image.objects.filter(pk=clean.pk).update(malware_status=CategoryStatus.SCANNED)
    assert "found no viruses and trojans" in text(viewer.get(f"/images/{tags[clean]}/malware/"))


def test_a_failed_attempt_stands_beside_the_last_good_result(viewer: Client, tag: Tag) -> None:
    assert tag.image
    ended(
        tag.image, Category.VULNERABILITIES, CategoryState.FAILED,
        error_code="ENG_TIMEOUT", error_reason="It took too long.", error_remedy="Give it more time.",
    )  # fmt: skip
    page = text(viewer.get(f"/images/{tag.pk}/"))
    assert "It took too long." in page
    assert "Give it more time." in page
    assert "trivy 0.76.0" in page
    assert "CVE-2024-1000" in text(viewer.get(f"/images/{tag.pk}/vulnerabilities/"))


def test_the_overview_names_every_name_of_the_image_id_and_the_end_of_life(viewer: Client, tag: Tag) -> None:
    other = shelf.registry("other")
    shelf.tag(other, "same", repository="team/x", content=tag.image)
    page = text(viewer.get(f"/images/{tag.pk}/"))
    assert "other.example.org/team/x:same" in page
    assert "End of life" in page
    assert "debian 10" in page


def test_an_image_that_was_not_read_and_a_chart_say_so_in_every_tab(viewer: Client) -> None:
    where = shelf.registry()
    unread = shelf.tag(where, "1")
    chart = shelf.tag(where, "2", kind=ArtifactKind.CHART)
    for tab in TABS:
        assert "has not been read yet" in text(viewer.get(f"/images/{unread.pk}/{tab}"))
        assert "This is not an image" in text(viewer.get(f"/images/{chart.pk}/{tab}"))


def test_an_image_version_that_is_gone_is_a_404(viewer: Client, tag: Tag) -> None:
    for tab in (*TABS, "status/"):
        assert viewer.get(f"/images/{tag.pk + 1}/{tab}").status_code == 404
    assert viewer.get(f"/images/{2**63}/").status_code == 404


def test_the_status_polls_while_scanning_and_then_loads_the_tab_once(viewer: Client, tag: Tag) -> None:
    Image.objects.update(scan_status=ScanStatus.SCANNING)
    scan = Scan.objects.create(image=tag.image, state=State.RUNNING, progress=70)
    address = f"/images/{tag.pk}/status/"
    polling = text(viewer.get(address, headers=HTMX))
    assert "70%" in polling
    assert 'hx-trigger="every 2s"' in polling
    Scan.objects.filter(pk=scan.pk).update(state=State.SUCCEEDED)
    Image.objects.update(scan_status=ScanStatus.SCANNED)
    last = text(viewer.get(address, headers=HTMX))
    assert 'hx-trigger="load"' in last
    assert "every" not in last


def test_history_of_an_odd_configuration_is_shown_as_far_as_it_goes(viewer: Client, tag: Tag) -> None:
    Image.objects.update(
        history=[{}, {"empty_layer": True, "created_by": None}, {"created": 5, "comment": "x"}]
    )
    page = viewer.get(f"/images/{tag.pk}/history/")
    assert page.status_code == 200
    assert "nothing recorded" in text(page)


@pytest.mark.parametrize("tab", TABS)
def test_a_tab_costs_at_most_twelve_queries(
    viewer: Client, tag: Tag, tab: str, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(60):
        package = Package.objects.create(
            identity=f"{number + 100:064x}", name=f"p{number}", version="1", kind="debian"
        )
        InventoryPackage.objects.create(inventory=Inventory.objects.get(), package=package)
        Match.objects.create(
            package=package, vulnerability=Vulnerability.objects.all()[number % 3], severity=1
        )
        shelf.tag(
            shelf.Registry.objects.get(),
            f"n{number}",
            content=tag.image,
            pushed_at=timezone.now() - timedelta(1),
        )
    with django_assert_max_num_queries(12):
        viewer.get(f"/images/{tag.pk}/{tab}")


def test_an_action_from_the_drawer_is_told_in_the_drawer(operator: Client, tag: Tag) -> None:
    address = f"/images/{tag.pk}/"
    Image.objects.update(is_licensed=True)
    response = operator.post("/images/scan/", {"only": tag.pk, "back": address}, headers=HTMX, follow=True)
    shown = text(response)
    assert "Scan: 1 started." in shown
    assert "hx-swap-oob" not in shown
    assert "Cancel scanning" in shown

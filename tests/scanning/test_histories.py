"""Whatever happened to images that share layers: their summaries are what a slow count of the facts gives."""

from functools import partial

from hypothesis import given, settings, strategies as st
from hypothesis.extra.django import TestCase

from images.models import Image, Layer, Severity
from scanning.engines.protocol import EngineVersion, ScanReport
from scanning.examination import Examined
from scanning.malware import MalwareOutcome
from scanning.models import (
    Category,
    CategoryState,
    MalwareFinding,
    Match,
    Package,
    Scan,
    ScanCategory,
    SecretFinding,
)
from scanning.parts import close_part, end_cancelled, fail_categories
from scanning.pipeline import _save, _write_content, _write_malware
from scanning.summaries import refresh_summaries
from tcss.lifecycle import Failure, State
from tests.invariants import assert_books_balance
from tests.scanning.test_ingest import flaw, make_image, match, package, report, secret

# Which layers the images have; the last has one layer twice.
IMAGES = ((1,), (1, 2), (1, 2, 3), (2, 3), (3, 4, 3))
BROKEN = Failure("ENG_DB", "It is broken.", "Get another.")
CRASHED = Failure("ENG_CRASH", "It crashed.", "Scan again.")

numbers = st.integers(0, 3)
severities = st.integers(0, 5)
found = st.fixed_dictionaries(
    {
        "packages": st.lists(st.tuples(numbers, numbers), max_size=5),
        "matches": st.lists(st.tuples(numbers, numbers, severities, st.booleans()), max_size=6),
        "secrets": st.lists(st.tuples(st.integers(-1, 3), numbers, severities), max_size=3),
        "malware": st.lists(st.tuples(numbers, numbers, severities), max_size=2),
        "has_database": st.booleans(),
        "is_cut": st.booleans(),
    }
)
events = st.tuples(
    st.integers(0, len(IMAGES) - 1),
    st.sampled_from(("ask", "work", "work", "work", "fail", "cancel")),
    st.sets(st.sampled_from(Category), min_size=1),
    found,
)


def said(layers: tuple[int, ...], what: dict) -> ScanReport:
    """A report on an image of these layers."""
    packages = [package(f"p{name}", layers[place % len(layers)]) for name, place in what["packages"]]
    matches = {}
    for name, identifier, severity, fixed in what["matches"]:
        for fact in packages[name : name + 1]:
            hit = match(fact, f"CVE-{identifier}", Severity(severity), "2.0" if fixed else "")
            matches[fact.identity, identifier] = hit
    secrets = [
        secret(None if place < 0 else layers[place % len(layers)], f"etc/{name}", Severity(severity))
        for place, name, severity in what["secrets"]
    ]
    flaws = [flaw(f"CVE-{identifier}") for identifier in range(4)]
    return report(*packages, *flaws, *matches.values(), *secrets)


def ask(image: Image, categories: set[Category]) -> None:
    if Scan.objects.filter(image=image, state__in=(State.QUEUED, State.RUNNING)).exists():
        return
    part = "malware" if categories == {Category.MALWARE} else "content"
    scan = Scan.objects.create(image=image, part=part)
    ScanCategory.objects.bulk_create(ScanCategory(scan=scan, category=each) for each in categories)
    refresh_summaries([image.pk])


def go_on(image: Image, layers: tuple[int, ...], event: str, what: dict) -> None:
    """Let a worker take the image's scan, and have that happen to it."""
    queued = Scan.objects.filter(image=image, state=State.QUEUED).first()
    scan = Scan.objects.claim(queued.pk) if queued else None
    if scan is None:
        return
    if event == "cancel":
        end_cancelled(scan)
        refresh_summaries([image.pk])
    elif event == "fail":
        fail_categories([scan.pk], CRASHED, part=scan.part)
        close_part(scan, CRASHED)
        refresh_summaries([image.pk])
    elif scan.part == "malware":
        touched = judge(layers, what["malware"])
        outcome = MalwareOutcome(CategoryState.SUCCEEDED, engine="yara")
        _save(scan, lambda rows: touched | _write_malware(outcome, rows))
    else:
        examined = Examined(
            report=said(layers, what),
            engine=EngineVersion("trivy", "0.76.0"),
            database=None,
            database_failure=None if what["has_database"] else BROKEN,
            foreign_layers=int(what["is_cut"]),
        )
        _save(scan, partial(_write_content, scan, examined))


def judge(layers: tuple[int, ...], verdicts: list[tuple[int, int, int]]) -> set[int]:
    """Make what is found in the image's layers this; the images that share them."""
    rows = list(Layer.objects.filter(image_layers__image__in=Image.objects.all()).distinct().order_by("pk"))
    own = [row for row in rows if int(row.diff_id[-2:]) in layers]
    MalwareFinding.objects.filter(layer__in=own).delete()
    for place, name, severity in verdicts:
        MalwareFinding.objects.get_or_create(
            layer=own[place % len(own)],
            fingerprint=str(name),
            defaults={"signature": "EICAR", "kind": "test", "severity": severity, "path": str(name)},
        )
    return set(Image.objects.filter(image_layers__layer__in=own).values_list("pk", flat=True))


class AnyHistory(TestCase):
    """Scans of five images that share layers, asked for, done, failed and cancelled in any order."""

    @settings(max_examples=10, deadline=None)
    @given(history=st.lists(events, min_size=6, max_size=16))
    def test_the_summaries_equal_the_facts(self, history: list) -> None:
        images = [make_image(number, *layers) for number, layers in enumerate(IMAGES)]
        for number, event, categories, what in history:
            if event == "ask":
                ask(images[number], categories)
            else:
                ask(images[number], set(Category))
                go_on(images[number], IMAGES[number], event, what)
        assert_books_balance()

    def test_a_history_writes_facts_of_every_kind(self) -> None:
        """What the histories are made of is no empty play."""
        what = {
            "packages": [(0, 0), (1, 1)],
            "matches": [(0, 0, 5, True), (1, 1, 3, False)],
            "secrets": [(-1, 0, 4), (0, 1, 3)],
            "malware": [(0, 0, 5)],
            "has_database": True,
            "is_cut": False,
        }
        image = make_image(1, *IMAGES[1])
        ask(image, set(Category))
        for _ in range(2):
            go_on(image, IMAGES[1], "work", what)
        counts = [model.objects.count() for model in (Package, Match, SecretFinding, MalwareFinding)]
        assert counts == [2, 2, 2, 1]
        assert Scan.objects.get().state == State.SUCCEEDED
        assert_books_balance()

"""Random listings, right and wrong: no image is wrongly removed, none is left out of a complete one.

Each history is one registry over weeks: images are pushed, moved and deleted, data updates come at odd times,
and their listings are cut, refused, shuffled, doubled, shrunk, empty or somebody else's. A model that knows
what each listing really showed says what has to be in the list of images after it.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db.models import F
from django.utils import timezone

from repositories import connections, sync as data_update
from repositories.models import Registry, RepositoryHint, Sync, SyncTrigger, Tag
from repositories.registries.failures import (
    AccessRefusedError,
    BadAnswerError,
    ListingCutError,
    NotThereError,
    RegistryError,
    TryLaterError,
)
from repositories.registries.protocol import ArtifactItem, RepositoryItem
from repositories.removal import confirm_removal
from repositories.updates import cancel_sync, request_sync
from tcss.lifecycle import State
from tests.fakes.told_registry import (
    CONTENTS,
    Holdings,
    Name,
    Script,
    Told,
    ToldContents,
    ToldRegistry,
    doubled,
    faithful,
)

pytestmark = pytest.mark.django_db

# A thousand listings.
GROUPS, HISTORIES, LISTINGS = 10, 4, 25
AN_HOUR = 60
# Minutes between two data updates.
PAUSES = (1, 30, 59, 61, 180, 24 * 60, 24 * 60)
LIES = ("shrunk", "shrunk", "shrunk", "no_projects", "no_repositories", "no_artifacts", "foreign")
FAULTS = (
    "none",
    "none",
    "none",
    "none",
    "shuffled",
    "doubled",
    "broken_projects",
    "broken_repositories",
    "broken_artifacts",
    "broken_artifacts",
    "all_broken",
    "night",
    "partial",
)


class Wire:
    """Stands where the adapters are made; the listing under way is put here."""

    def __init__(self) -> None:
        self.adapter: ToldRegistry | None = None

    def connect(self, *_: object, **__: object) -> ToldRegistry:
        assert self.adapter is not None
        return self.adapter


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    made = Wire()
    monkeypatch.setattr(connections, "HarborV2", made.connect)
    monkeypatch.setattr(connections, "DistributionClient", lambda *_, **__: ToldContents())
    return made


@dataclass
class Known:
    """What is to be known of an image version; ``absent`` is when a complete listing first missed it."""

    digest: str
    absent: int | None = None
    hidden: bool = False


@dataclass
class Row:
    """What the database has."""

    digest: str
    missing_since: datetime | None
    absent_at: datetime | None
    removed_at: datetime | None


def rows(registry: Registry) -> dict[Name, Row]:
    columns = ("repository_name", "name", "manifest_digest", "missing_since", "absent_at", "removed_at")
    found = Tag.objects.filter(registry=registry).values_list(*columns)
    return {(repository, name): Row(*values) for repository, name, *values in found}


@dataclass
class History:
    """One registry over weeks, and the model of what has to be in the list of images."""

    rng: random.Random
    registry: Registry
    wire: Wire
    is_honest: bool
    counts: Counter[str]
    holdings: Holdings = field(default_factory=Holdings)
    model: dict[Name, Known] = field(default_factory=dict)
    minute: int = 0
    last_complete: int | None = None

    def visible(self) -> dict[Name, Known]:
        return {name: known for name, known in self.model.items() if not known.hidden}

    def run(self) -> None:
        for _ in range(self.rng.randint(20, 70)):
            self.push()
        for _ in range(LISTINGS):
            self.live()
            if self.rng.random() < 0.4:
                self.confirm()
            self.list()
            self.let_pass(self.rng.choice(PAUSES))

    # What happens in the registry.

    def push(self) -> None:
        project, repository, tag = (
            self.rng.choice(each) for each in (("a", "b"), ("x", "y", "z"), "12345678")
        )
        self.holdings.push(project, repository, tag, self.rng.randrange(len(CONTENTS)))

    def live(self) -> None:
        """People push and delete; now and then somebody tidies up."""
        for _ in range(self.rng.choice((0, 0, 1, 2, 4))):
            self.push()
        names = self.holdings.names()
        share = self.rng.choice((0, 0, 0, 0.03, 0.03, 0.05, 0.05, 0.1, 0.15, 0.5))
        for name in self.rng.sample(names, round(len(names) * share)):
            self.holdings.drop(name)
        if self.rng.random() < 0.03:
            repositories = self.rng.choice(list(self.holdings.projects.values()))
            repositories.pop(self.rng.choice(sorted(repositories) or [""]), None)

    def let_pass(self, minutes: int) -> None:
        """Everything is as it would be so much later."""
        self.minute += minutes
        past = timedelta(minutes=minutes)
        Tag.objects.filter(registry=self.registry).update(
            missing_since=F("missing_since") - past,
            absent_at=F("absent_at") - past,
            removed_at=F("removed_at") - past,
        )
        Sync.objects.filter(registry=self.registry).update(
            created_at=F("created_at") - past, started_at=F("started_at") - past
        )

    # What the registry says.

    def tell(self, fault: str) -> Told:
        told = faithful(self.holdings)
        if not self.is_honest and self.rng.random() < 0.3:
            lie = self.rng.choice(LIES)
            self.counts[lie] += 1
            told = getattr(self, f"tell_{lie}")(told)
        self.counts[fault] += 1
        getattr(self, f"tell_{fault}", lambda told: told)(told)
        return told

    def tell_shrunk(self, told: Told) -> Told:
        """Something is not shown, and nothing says so: a right was lost, or the pages shifted."""
        shown = [script for script in told.artifacts.values() if script.items]
        for script in self.rng.sample(shown, min(len(shown), self.rng.randint(1, 2))):
            script.items.remove(self.rng.choice(script.items))
        several = [script for script in told.repositories.values() if len(script.items) > 1]
        if several and self.rng.random() < 0.3:
            script = self.rng.choice(several)
            script.items.remove(self.rng.choice(script.items))
        if len(told.projects.items) > 1 and self.rng.random() < 0.2:
            told.projects.items.pop()
        return told

    def tell_no_projects(self, told: Told) -> Told:
        told.projects.items.clear()
        return told

    def tell_no_repositories(self, told: Told) -> Told:
        for script in told.repositories.values():
            script.items.clear()
        return told

    def tell_no_artifacts(self, told: Told) -> Told:
        for script in told.artifacts.values():
            script.items.clear()
        return told

    def tell_foreign(self, _: Told) -> Told:
        """Another tenant's list, some of whose names are ours."""
        theirs = Holdings()
        for _ in range(self.rng.randint(1, 12)):
            project, repository = self.rng.choice("ac"), self.rng.choice("xw")
            theirs.push(project, repository, self.rng.choice("1789"), self.rng.randrange(len(CONTENTS)))
        return faithful(theirs)

    def tell_shuffled(self, told: Told) -> None:
        for script in (told.projects, *told.repositories.values(), *told.artifacts.values()):
            self.rng.shuffle(script.items)

    def tell_doubled(self, told: Told) -> None:
        for script in (told.projects, *told.repositories.values(), *told.artifacts.values()):
            if self.rng.random() < 0.5:
                script.items[:] = doubled(script.items)

    def tell_broken_projects(self, told: Told) -> None:
        self.break_off(told.projects)

    def tell_broken_repositories(self, told: Told) -> None:
        self.break_some(list(told.repositories.values()))

    def tell_broken_artifacts(self, told: Told) -> None:
        self.break_some(list(told.artifacts.values()))

    def tell_all_broken(self, told: Told) -> None:
        for script in told.artifacts.values():
            self.break_off(script)

    def break_some(self, scripts: "list[Script[RepositoryItem]] | list[Script[ArtifactItem]]") -> None:
        for script in self.rng.sample(scripts, min(len(scripts), self.rng.randint(1, 2))):
            self.break_off(script)

    def break_off(self, script: "Script[Any]") -> None:
        """Let a listing end with an error after some of its items."""
        del script.items[self.rng.randint(0, len(script.items)) :]
        script.error = self.rng.choice(ERRORS)()

    # The data update, and what has to come of it.

    def list(self) -> None:
        fault = self.rng.choice(FAULTS)
        told = self.tell(fault)
        adapter = self.wire.adapter = ToldRegistry(told)
        before = rows(self.registry)
        update = self.ask(fault)
        data_update.run(update.pk)
        update.refresh_from_db()
        if update.state == State.QUEUED:
            # It is to be tried again later, and then nobody wants it any more.
            cancel_sync(update.pk)
        self.registry.refresh_from_db()
        now = rows(self.registry)
        self.note_given(adapter, now, is_certain=fault != "night" and not might_stop_early(told))
        expected = self.is_complete(fault, told, before)
        if expected is not None:
            assert update.is_complete is expected, (fault, update.state, update.error_reason)
        if update.is_complete:
            self.counts["complete"] += 1
            self.note_complete(adapter, told, now)
        self.compare(now)

    def ask(self, fault: str) -> Sync:
        if fault != "partial":
            update = request_sync(self.registry, SyncTrigger.MANUAL)
            if fault == "night":
                Sync.objects.filter(pk=update.pk).update(stop_at=timezone.now() - timedelta(seconds=1))
            return update
        named = [*{repository for repository, _ in self.holdings.names()}, "a/gone"]
        for repository in self.rng.sample(named, min(len(named), 2)):
            RepositoryHint.objects.get_or_create(registry=self.registry, repository_name=repository)
        return Sync.objects.create(registry=self.registry, trigger=SyncTrigger.WEBHOOK, is_partial=True)

    def note_given(self, adapter: ToldRegistry, now: dict[Name, Row], *, is_certain: bool) -> None:
        """What was shown is there and not missing; one that stopped early may have left some of it."""
        for name, digests in adapter.given.items():
            row = now.get(name)
            if is_certain:
                assert row is not None, f"{name} was left out"
                assert row.digest in digests
                assert (row.missing_since, row.absent_at, row.removed_at) == (None, None, None), name
            if row is not None and row.missing_since is None:
                self.model[name] = Known(row.digest)

    def is_complete(self, fault: str, told: Told, before: dict[Name, Row]) -> bool | None:
        """Whether the data update has to count as complete; None where both would be right."""
        if told.errors or fault == "partial":
            # What is behind an error nobody asked for does not matter.
            return False if told.projects.error or reachable_errors(told) or fault == "partial" else None
        if fault == "night":
            return None
        had_images = any(row.missing_since is None for row in before.values())
        if not told.projects.items:
            return False if had_images else None
        if not any(told.repositories[project.name].items for project in told.projects.items):
            return None
        return True

    def note_complete(self, adapter: ToldRegistry, told: Told, now: dict[Name, Row]) -> None:
        assert set(adapter.ended) >= set(reachable(told)), "a listing was left unread"
        visible = self.visible()
        missing = {name: known for name, known in visible.items() if name not in adapter.given}
        for known in missing.values():
            known.absent = self.minute if known.absent is None else known.absent
        is_held = len(missing) * 5 > len(visible)
        assert self.registry.removal_held_count == (len(missing) if is_held else 0)
        assert {name for name, row in now.items() if row.missing_since and not row.removed_at} == {
            name for name, known in missing.items() if is_held or not self.is_due(known, self.minute)
        }
        if not is_held:
            self.hide(missing, self.minute)
        self.last_complete = self.minute

    def is_due(self, known: Known, minute: int) -> bool:
        return known.absent is not None and known.absent + AN_HOUR <= minute

    def hide(self, missing: dict[Name, Known], minute: int) -> None:
        due = [name for name, known in missing.items() if self.is_due(known, minute)]
        for name in due:
            if self.is_honest:
                assert name not in self.holdings.names(), f"{name} is in the registry"
            self.model[name].hidden = True
        self.counts["removed"] += len(due)

    def confirm(self) -> None:
        """Somebody confirms what is held back."""
        if self.registry.removal_held_since is None or self.last_complete is None:
            return
        missing = {
            name for name, row in rows(self.registry).items() if row.missing_since and not row.removed_at
        }
        is_held = len(missing) * 5 > len(self.visible())
        expected = 0
        if is_held:
            self.counts["confirmed"] += 1
            known = {name: self.model[name] for name in missing}
            due = [name for name in known if self.is_due(known[name], self.last_complete)]
            expected = len(due)
            for name in due:
                self.model[name].hidden = True
            self.counts["removed by a person"] += len(due)
        assert confirm_removal(self.registry, None, shown=len(missing)).removed == expected
        self.compare(rows(self.registry))

    def compare(self, now: dict[Name, Row]) -> None:
        """The list of images is what it has to be."""
        assert {name: row.digest for name, row in now.items() if row.removed_at is None} == {
            name: known.digest for name, known in self.visible().items()
        }
        assert {name for name, row in now.items() if row.removed_at} == {
            name for name, known in self.model.items() if known.hidden
        }


ERRORS: tuple[Callable[[], RegistryError], ...] = (
    lambda: BadAnswerError("REG_PROTOCOL", "This is no list."),
    lambda: ListingCutError("REG_PROTOCOL", "The listing has no end."),
    lambda: TryLaterError("REG_SERVER", "The registry is busy."),
    lambda: NotThereError("REG_NOT_FOUND", "It was deleted."),
    lambda: AccessRefusedError("REG_FORBIDDEN", "The right was lost."),
    lambda: AccessRefusedError("REG_AUTH", "The password is wrong now."),
)


def might_stop_early(told: Told) -> bool:
    """Whether the data update may leave what it was given: it gives up, or is to be tried again later."""
    return any(isinstance(error, TryLaterError) or error.code == "REG_AUTH" for error in told.errors)


def reachable(told: Told) -> Iterator[str]:
    """The listings that a complete data update has to read."""
    yield "projects"
    for project in told.projects.items:
        yield project.name
        for repository in told.repositories[project.name].items:
            yield repository.name


def reachable_errors(told: Told) -> bool:
    """Whether any of them ends with an error."""
    scripts = {**told.artifacts, **told.repositories, "projects": told.projects}
    return any(scripts[name].error for name in reachable(told))


@pytest.mark.parametrize("group", range(GROUPS))
def test_no_image_is_wrongly_removed_and_none_left_out_of_a_complete_listing(
    group: int, make_registry: Callable[..., Registry], wire: Wire
) -> None:
    counts: Counter[str] = Counter()
    for number in range(HISTORIES):
        seed = group * HISTORIES + number
        registry = make_registry(f"https://r{seed}.example.org")
        history = History(random.Random(seed), registry, wire, is_honest=seed % 2 == 0, counts=counts)
        history.run()
    # The listings were what they were meant to be.
    assert counts["complete"] > HISTORIES * LISTINGS / 4
    assert min(counts[fault] for fault in FAULTS) > 0
    assert counts["removed"] + counts["removed by a person"] > 0

"""What is known of the repositories of a registry when a data update comes to them, and which are gone."""

from collections.abc import Collection, Iterator, Sequence
from functools import partial

from django.db.models import Count

from repositories.models import Repository, RepositoryHint, Tag
from repositories.registries.protocol import RepositoryItem
from repositories.sync_hold import Hold
from repositories.sync_intake import Work, create_rows
from repositories.sync_listed import Listed
from repositories.sync_tags import RepositoryTags, kinds_beside_images, known_tags, mark_missing

# Known tags are read for some repositories at once: first for few, so that the listing begins, then for up to
# so many, or for fewer that have so many tags.
_FIRST_REPOSITORIES = 10
_REPOSITORIES = 80
_TAGS = 5000
_BATCH = 500


class KnownRepositories:
    """The rows of a registry's repositories and the hints of its webhooks, as they are when it begins."""

    def __init__(self, hold: Hold) -> None:
        self._hold = hold
        mine = Repository.objects.filter(registry=hold.registry)
        self._rows = {row.name: row for row in mine}
        hints = RepositoryHint.objects.filter(registry=hold.registry)
        self._hints = {row.repository_name: row for row in hints}
        self._kinds: dict[int, str] = {}

    def hinted(self) -> list[RepositoryItem]:
        """The repositories that webhooks named, known or not, in the order of their names."""
        found = []
        for name in sorted(self._hints):
            row = self._rows.get(name)
            found.append(RepositoryItem(name, row.namespace if row else name.partition("/")[0]))
        return found

    def works(self, items: Sequence[RepositoryItem]) -> Iterator[Work]:
        """The repositories with what is known of them, which is looked up for many at once."""
        waiting: list[tuple[int, RepositoryItem]] = []
        mine = Tag.objects.filter(registry=self._hold.registry)
        if self._hold.sync.is_partial:
            named = [self._rows[item.name].pk for item in items if item.name in self._rows]
            mine = Tag.objects.filter(repository__in=named)
        self._kinds = kinds_beside_images(mine)
        counts = dict(
            mine.values_list("repository").annotate(count=Count("pk")).values_list("repository", "count")
        )
        tags = 0
        room = _FIRST_REPOSITORIES
        for position, item in enumerate(items):
            waiting.append((position, item))
            row = self._rows.get(item.name)
            tags += counts.get(row.pk, 0) if row else 0
            if len(waiting) >= room or tags >= _TAGS:
                yield from self._looked_up(waiting)
                waiting, tags = [], 0
                room = min(2 * room, _REPOSITORIES)
        yield from self._looked_up(waiting)

    def _looked_up(self, items: list[tuple[int, RepositoryItem]]) -> Iterator[Work]:
        for _, item in items:
            if item.name not in self._rows:
                self._rows[item.name] = Repository(
                    registry=self._hold.registry,
                    name=item.name,
                    namespace=item.namespace,
                    seen_generation=self._hold.registry.generation,
                )
        rows = [self._rows[item.name] for _, item in items]
        # One that only a webhook named gets a row when there is something in it.
        if not self._hold.sync.is_partial and any(row.pk is None for row in rows):
            self._hold.write(partial(create_rows, rows))
        known = known_tags([row.pk for row in rows if row.pk is not None], self._kinds)
        for (position, item), row in zip(items, rows, strict=True):
            yield Work(
                item,
                row,
                RepositoryTags(known.get(row.pk, {})),
                position,
                self._hints.get(item.name),
                self._hold.sync.is_partial,
            )

    def mark_gone(self, seen: Collection[str], listed: Listed) -> None:
        """Mark the tags of repositories that a complete listing no longer shows."""
        gone = [
            row.pk
            for row in self._rows.values()
            if row.name not in seen
            and (row.namespace in listed.complete_namespaces or row.namespace not in listed.projects)
        ]
        for start in range(0, len(gone), _BATCH):
            tags = Tag.objects.filter(repository__in=gone[start : start + _BATCH], missing_since=None)
            pks = list(tags.values_list("pk", flat=True))
            if pks:
                self._hold.write(partial(mark_missing, pks))
                self._hold.count("tags_missing", len(pks))

"""The line that tells how far the fleet is matched with its database, and what that found new."""

from dataclasses import dataclass

from scanning.engine_models import MatchNews, MatchRun
from tcss.lifecycle import State

_MOST_NEWS = 5


@dataclass(frozen=True, slots=True)
class MatchingLine:
    """The newest matching, and the gravest of what it found new; `more` counts the rest."""

    run: MatchRun
    news: tuple[MatchNews, ...]
    more: int

    @property
    def is_live(self) -> bool:
        """Whether it may still change by itself."""
        return self.run.is_active

    @property
    def is_failed(self) -> bool:
        """Whether it ended without an answer."""
        return self.run.state == State.FAILED


def matching_line() -> MatchingLine | None:
    """The newest matching that was not cancelled; None before the first. Three queries at most."""
    run = MatchRun.objects.exclude(state=State.CANCELLED).order_by("-pk").first()
    if run is None:
        return None
    if run.state != State.SUCCEEDED:
        return MatchingLine(run, (), 0)
    news = MatchNews.objects.filter(run=run).select_related("vulnerability")
    shown = tuple(news.order_by("-severity", "-image_count", "vulnerability__identifier")[:_MOST_NEWS])
    more = news.count() - len(shown) if len(shown) == _MOST_NEWS else 0
    return MatchingLine(run, shown, more)

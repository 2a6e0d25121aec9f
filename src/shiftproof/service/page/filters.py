"""What a person asked to see, as it stands in an address: read leniently, written back in full."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import Depends

from shiftproof.service.api.dependencies import printable_text, to_utc
from shiftproof.service.errors import RequestError
from shiftproof.service.page.rendering import address
from shiftproof.service.store import VERDICTS, Filter

OPEN = "open"
QUEUES = ("newest", "sample")


@dataclass(frozen=True)
class HistoryFilters:
    """Part of the history; empty text stands for all."""

    model: str = ""
    verdict: str = ""  # "good" or "defective"
    station: str = ""
    review: str = ""  # "open": not yet reviewed; or what the latest review says
    since: str = ""  # local time as a form's field writes it
    until: str = ""
    zone: int = 0  # minutes that these times are ahead of UTC
    queue: str = ""  # reviewing one after another: "newest" first, or a random "sample"

    def filter(self, *, before: int | None = None, after: int | None = None) -> Filter:
        """For the store.

        Raises:
            RequestError: 422, a time or a choice that is none.
        """
        if self.verdict not in ("", *VERDICTS) or self.review not in ("", OPEN, *VERDICTS):
            raise RequestError(422, f"verdict {self.verdict!r}, review {self.review!r}; expected good or defective")
        return Filter(
            model=printable_text(self.model),
            verdict=self.verdict or None,
            station=printable_text(self.station),
            since=self._time(self.since),
            until=self._time(self.until),
            reviewed=False if self.review == OPEN else None,
            truth=self.review if self.review in VERDICTS else None,
            before=before,
            after=after,
        )

    def link(self, path: str, **changes: object) -> str:
        """The address of a screen for the same choice."""
        return address(path, **{**self.__dict__, **changes})

    def with_changes(self, **changes: str) -> HistoryFilters:
        """Another choice."""
        return replace(self, **changes)  # type: ignore[arg-type]

    @property
    def narrow(self) -> bool:
        """Whether it leaves anything out."""
        return any((self.model, self.verdict, self.station, self.review, self.since, self.until))

    def _time(self, text: str) -> datetime | None:
        if not text:
            return None
        try:
            local = datetime.fromisoformat(text)
            shifted = local if local.tzinfo else (local - timedelta(minutes=self.zone)).replace(tzinfo=UTC)
        except (ValueError, OverflowError) as error:
            raise RequestError(422, f"time {text[:40]!r}; expected one such as 2026-01-02T13:30") from error
        return to_utc(shifted)


def _read_filters(
    model: str = "",
    verdict: str = "",
    station: str = "",
    review: str = "",
    since: str = "",
    until: str = "",
    zone: str = "",
    queue: str = "",
) -> HistoryFilters:
    minutes = int(zone) if zone.removeprefix("-").isdecimal() and len(zone) < 5 else 0
    return HistoryFilters(model, verdict, station, review, since, until, minutes, queue if queue in QUEUES else "")


HistoryFiltersParam = Annotated[HistoryFilters, Depends(_read_filters)]

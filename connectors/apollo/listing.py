"""Apollo's listings of contacts: everybody, and who was changed since.

Pages are numbers, so whoever is deleted meanwhile moves the others up, and one of them from the next page to the one that was read. The
order is chosen so that everybody who is new or changed moves others down only: then a total that falls tells of it, and the page before
is asked for again. In the end as many must have come as Apollo counts; how far it counts, nobody says [?]. 50,000 rows are shown of a
listing; by creation, the newest and the oldest 50,000 are within reach.
"""

from collections.abc import Generator, Iterator, Sequence
from datetime import datetime
from itertools import pairwise

from connectors.apollo.vendor import (
    BY_CHANGE,
    BY_CREATION,
    CONTACTS,
    PAGE_ROWS,
    PAGES_MAX,
    SHOWN_MAX,
    Page,
    Row,
    contacts,
    ident,
)
from syncd.errors import SourceError
from syncd.http import Api, parse_time

WALKS_MAX = 3  # through a listing whose rows are fewer than its total
BACK_MAX = 100  # times that a page is asked for again
OLD_PAGES = 2  # without a change, one after the other: the index is late, and its order with it
DISORDER = 4  # of so many neighbours one may be out of order: rows are newer than the index that sorts them


class Gap(Exception):
    """Apollo does not tell what has changed: everybody must be read. Its text is the reason."""


class Listing:
    """The contacts of one read, each of which it gives once. labels: ids of the lists that are read; none for all contacts.

    began: when the first page was answered, by Apollo's clock.
    """

    def __init__(self, api: Api, labels: Sequence[str]) -> None:
        self._api, self._labels = api, labels
        self._told: set[str] = set()
        self.began: datetime | None = None

    def fresh(self, rows: Sequence[Row]) -> list[Row]:
        """Those that were not given yet, as they are now."""
        found = {ident(row): row for row in rows if ident(row) not in self._told}
        self._told.update(found)
        return list(found.values())

    def everybody(self) -> Iterator[list[Row]]:
        """All contacts, or those in the lists. Raises SourceError where Apollo does not show as many as it counts."""
        for label in self._labels or ("",):
            yield from self.members(label)

    def members(self, label: str) -> Iterator[list[Row]]:
        """All contacts of a list; of "" all contacts."""
        seen = set[str]()
        least = 0
        for _ in range(WALKS_MAX):
            least = yield from self._walk(label, seen)
            if len(seen) >= least:
                return
        raise SourceError(
            f"Apollo counts {least:,} contacts and shows {len(seen):,}",
            hint="Its index may be late: the next run reads them anew",
        )

    def _walk(self, label: str, seen: set[str]) -> Generator[list[Row], None, int]:
        """The newest, then the oldest where these are not all; the smallest total that was told. seen: grows by who is met."""
        least = 2 * SHOWN_MAX
        for page in self._pages(BY_CREATION, label):
            least = min(least, page.total)
            seen.update(ident(row) for row in page.rows)
            yield self.fresh(page.rows)
        if least < SHOWN_MAX and page.is_last:
            return least
        for page in self._pages(BY_CREATION, label, ascending=True):
            met = {ident(row) for row in page.rows}
            if met <= seen:  # from here on the newest have come already
                return least
            seen |= met
            yield self.fresh(page.rows)
        if page.total <= SHOWN_MAX:
            raise _too_many("more")  # and how many more is not counted
        return least

    def changed(self, since: datetime) -> Iterator[list[Row]]:
        """Who was changed since then, the latest first, from all contacts. Raises Gap."""
        old_pages, is_last = 0, False
        for page in self._pages(BY_CHANGE, ""):
            times = [parse_time(row.get("updated_at")) for row in page.rows]
            old = [time for time in times if time is not None and time < since]
            if _out_of_order(old):
                raise Gap("Apollo does not sort contacts by their last change")
            yield self.fresh(
                [
                    row
                    for row, time in zip(page.rows, times, strict=True)
                    if time is None or time >= since
                ]
            )
            old_pages = old_pages + 1 if len(old) == len(times) else 0
            if old_pages == OLD_PAGES:
                return
            is_last = page.is_last
        if not is_last:
            raise Gap(f"more than {SHOWN_MAX:,} contacts have changed")

    def _pages(self, sort: str, label: str, *, ascending: bool = False) -> Iterator[Page]:
        number, total, back = 1, 0, 0
        while number <= PAGES_MAX:
            page = contacts(self._api, number, sort=sort, ascending=ascending, label=label)
            self.began = self.began or self._api.server_time()
            if page.total > 2 * SHOWN_MAX and sort == BY_CREATION:
                raise _too_many(f"{page.total:,}")
            yield page
            gone, total = total - page.total, page.total
            if gone > 0 and number > 1:
                back += 1
                if back > BACK_MAX:
                    raise SourceError(
                        f"Apollo: {CONTACTS} loses contacts faster than they can be read",
                        hint="The next run reads them anew",
                    )
                number = max(1, number - (gone + PAGE_ROWS - 1) // PAGE_ROWS)
            elif page.is_last:
                return
            else:
                number += 1


def _too_many(count: str) -> SourceError:
    return SourceError(
        f"Apollo shows {2 * SHOWN_MAX:,} contacts, and has {count}",
        hint="Name lists in `lists`: only their contacts are read, up to this number of each",
    )


def _out_of_order(times: Sequence[datetime]) -> bool:
    """Whether times, the latest first, are in no such order."""
    pairs = list(pairwise(times))
    return sum(late < later for late, later in pairs) > len(pairs) // DISORDER + 1

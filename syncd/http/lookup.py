"""Companies, owners and the like, which many records share: fetched in batches, kept up to a limit."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

KEPT_MAX = 10_000  # joined objects in memory: a few MB

Joined = Mapping[str, Any]


class Lookup:
    """Joined objects by their id.

    fetch: given at most `batch` ids, the objects that there are; an id that it leaves out has none. It raises SourceError.
    """

    def __init__(
        self, fetch: Callable[[Sequence[str]], Mapping[str, Joined]], *, batch: int
    ) -> None:
        self._fetch, self._batch = fetch, batch
        self._kept: dict[str, Joined | None] = {}

    def of(self, ids: Iterable[str | None]) -> dict[str, Joined | None]:
        """id -> object, or None where the vendor has none; for the ids of one page."""
        wanted = [one for one in dict.fromkeys(ids) if one]
        missing = [one for one in wanted if one not in self._kept]
        found = {one: self._kept[one] for one in wanted if one in self._kept}
        for start in range(0, len(missing), self._batch):
            part = missing[start : start + self._batch]
            fetched = self._fetch(part)
            found |= {one: fetched.get(one) for one in part}
        self._kept |= found
        for one in list(islice(self._kept, max(0, len(self._kept) - KEPT_MAX))):  # the oldest first
            del self._kept[one]
        return found

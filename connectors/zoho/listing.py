"""Zoho's listings of one module: who is there, who has changed, who is gone, who has opted out.

Page tokens reach 100,000 rows; COQL goes on from there by id. A listing whose pages are counted rows [?] passes over somebody when a
record leaves it meanwhile: then its ids are listed once more.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from connectors.zoho.vendor import (
    BATCH_IDS,
    COQL,
    COQL_IN_MAX,
    COQL_ROWS,
    READ_ACCOUNTS,
    READ_COQL,
    TOKEN_ROWS_MAX,
    Gap,
    deleted,
    pages,
    read_module,
    rows_of,
    zoned,
)
from syncd.errors import SourceError, SourceRefused
from syncd.http import Api

ACCOUNTS = "/crm/v8/Accounts"

Row = Mapping[str, Any]


class Listing:
    """One module's listings, with the same fields in each."""

    def __init__(self, api: Api, module: str, fields: Sequence[str]) -> None:
        self._api, self._module, self._fields = api, module, ",".join(fields)
        self._path, self._needs = f"/crm/v8/{module}", read_module(module)

    def rows(self, since: datetime | None, told: set[str]) -> Iterator[Sequence[Row]]:
        """Everybody, or who was modified since then, by id; who is in `told` is left out, and whoever comes is put into it."""
        began = self._api.server_time()
        count, last = 0, 0
        for page in self._pages(self._fields, since):
            count += len(page)
            fresh = [row for row in page if str(row["id"]) not in told]
            for row in fresh:
                if int(row["id"]) <= last:
                    raise _out_of_order(self._path)
                last = int(row["id"])
                told.add(str(row["id"]))
            yield fresh
            if count >= TOKEN_ROWS_MAX:
                break
        if self._has_anybody_left(began):
            yield from self._passed_over(since, told)
        if count >= TOKEN_ROWS_MAX:
            where = "" if since is None else f" and Modified_Time >= '{zoned(since)}'"
            for ids in self._coql(where, last):
                yield from self.by_ids([key for key in ids if key not in told])

    def by_ids(self, ids: Sequence[str]) -> Iterator[Sequence[Row]]:
        """Those of these records that are listed, in batches."""
        for start in range(0, len(ids), BATCH_IDS):
            yield records_by_ids(
                self._api, self._module, ids[start : start + BATCH_IDS], self._fields
            )

    def deleted(self, since: datetime) -> list[str]:
        """The ids of those who were deleted since then. Raises Gap where there are too many to be told."""
        return [str(row["id"]) for rows in deleted(self._api, self._module, since) for row in rows]

    def hidden(self, since: datetime) -> set[str]:
        """The ids of records that were modified since then and are listed no more: they wait for approval, or are converted leads.

        Where Zoho does not take the question [?] nobody is found, and the next full read shows who is gone.
        """
        kinds = [{"approved": "false"}]
        if self._module == "Leads":
            kinds.append({"converted": "true"})
        found = set[str]()
        for kind in kinds:
            query = {"fields": "id", **kind}
            with suppress(SourceRefused):
                for rows in pages(self._api, self._path, query, since=since, needs=self._needs):
                    found.update(str(row["id"]) for row in rows)
        return found

    def opted_out(self) -> set[str]:
        """The ids of all who have opted out, whenever that was."""
        return {key for ids in self._coql(" and Email_Opt_Out = true", 0) for key in ids}

    def of_changed_accounts(self, since: datetime) -> Iterator[list[str]]:
        """The ids of the contacts of accounts that were modified since then, in batches."""
        query = {"fields": "id", "sort_by": "id", "sort_order": "asc"}
        listed = pages(self._api, ACCOUNTS, query, since=since, needs=READ_ACCOUNTS)
        accounts = [str(row["id"]) for rows in listed for row in rows]
        for start in range(0, len(accounts), COQL_IN_MAX):
            some = ", ".join(f"'{key}'" for key in accounts[start : start + COQL_IN_MAX])
            yield from self._coql(f" and Account_Name in ({some})", 0)

    def _pages(self, fields: str, since: datetime | None) -> Iterator[list[dict[str, Any]]]:
        query = {"fields": fields, "sort_by": "id", "sort_order": "asc"}
        return pages(self._api, self._path, query, since=since, needs=self._needs)

    def _has_anybody_left(self, began: datetime) -> bool:
        try:
            return bool(self.deleted(began) or self.hidden(began))
        except Gap:
            return True

    def _passed_over(self, since: datetime | None, told: set[str]) -> Iterator[Sequence[Row]]:
        count = 0
        for page in self._pages("id", since):
            count += len(page)
            missing = [str(row["id"]) for row in page if str(row["id"]) not in told]
            told.update(missing)
            yield from self.by_ids(missing)
            if count >= TOKEN_ROWS_MAX:
                return

    def _coql(self, condition: str, last: int) -> Iterator[list[str]]:
        """All ids after `last` that fit, in the order of ids."""
        while True:
            where = f"id > {last}{condition}"
            query = (
                f"select id from {self._module} where {where} order by id asc limit 0, {COQL_ROWS}"  # noqa: S608
            )
            found = self._api.post(COQL, {"select_query": query}, needs=READ_COQL)
            ids = [int(row["id"]) for row in rows_of(found, COQL)]
            if not ids:
                return
            if ids != sorted(set(ids)) or ids[0] <= last:
                raise _out_of_order("coql")
            last = ids[-1]
            yield [str(key) for key in ids]


def records_by_ids(api: Api, module: str, ids: Sequence[str], fields: str) -> list[Row]:
    """Those of at most 100 records that are listed."""
    query = {"ids": ",".join(ids), "fields": fields, "per_page": BATCH_IDS}
    path = f"/crm/v8/{module}"
    found: list[Row] = []
    found += rows_of(api.get(path, query, needs=read_module(module)), path)
    return found


def _out_of_order(path: str) -> SourceError:
    return SourceError(
        f"Zoho: {path} does not keep to the order of ids",
        hint="Nothing is lost: the next run reads it anew",
    )

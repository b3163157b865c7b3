"""Writes back into Salesforce: fields of contacts and leads, 200 records in one request.

Each record is written on its own, whatever becomes of the others. No assignment rule is run: else a lead that opts out would get another
owner. Who is deleted, merged or converted counts as written: there is nobody to tell. A field that this user may not set fails all of it.

Source: developer.salesforce.com, "Update Records Using sObject Collections", "Assignment Rule Header"; the codes: "StatusCode".
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from connectors.salesforce.org import Org
from connectors.salesforce.people import OPT_OUT
from connectors.salesforce.vendor import SALESFORCE, describe
from syncd.connector import Context, Options
from syncd.errors import SourceDenied, SourceError
from syncd.http import Api
from syncd.writer import FieldOptions, News, Place, ToField, Unwritten

TABLES = {"003": "Contact", "00Q": "Lead"}  # how an id begins
GONE = frozenset(
    {
        "ENTITY_IS_DELETED",  # in the recycle bin: deleted or merged
        "INVALID_CROSS_REFERENCE_KEY",  # not even there
        "CANNOT_UPDATE_CONVERTED_LEAD",
    }
)
UNSETTABLE = frozenset({"INVALID_FIELD_FOR_INSERT_UPDATE", "INVALID_FIELD"})  # for whole objects
NO_RULES = {"Sforce-Auto-Assign": "FALSE"}


class SalesforceWriterOptions(Org, FieldOptions):
    """Fields which all of the objects have: a checkbox is ticked, others need a value."""

    opted_out: ToField | None = Place(field=OPT_OUT)
    """The field that says that a person has opted out."""


class SalesforceWriter:
    """One Salesforce org."""

    OPTIONS: ClassVar[type[Options]] = SalesforceWriterOptions
    SUMMARY: ClassVar[str] = "Salesforce: sets fields of contacts and leads"
    BATCH_MAX: ClassVar[int] = 200  # records in one request

    def __init__(self, options: SalesforceWriterOptions, context: Context) -> None:
        self._options, self._clock = options, context.clock
        self._places = options.places()
        self._login = options.login(context)

    def check(self) -> str:
        """Whether each object has the fields, and this user may set them; nothing is written."""
        with self._api() as api:
            for table in self._options.objects:
                columns = {one.name: one for one in describe(api, self._options.api_version, table)}
                for heard, place in self._places.items():
                    what = f"Salesforce: the field {place.field!r} of {table}, for {heard},"
                    if place.field not in columns:
                        raise _not_shown(what)
                    if not columns[place.field].updateable:
                        raise _not_settable(what, "it is read only for this user")
                    if place.value is None and columns[place.field].kind != "boolean":
                        hint = f'Name a checkbox, or the value: {heard} = {{ field = "{place.field}", value = "yes" }}'
                        raise SourceError(f"{what} is no checkbox", hint=hint)
        told = [f"{heard} in {place.field}" for heard, place in self._places.items()]
        return ", ".join(["Salesforce can be written to", *told])

    def write(self, news: Sequence[News]) -> Iterator[Unwritten]:
        """One request; contacts first, then leads."""
        records, keys = dict[str, dict[str, Any]](), dict[str, list[str]]()
        for one in sorted(news, key=lambda one: one.key[:3]):
            place, table = self._options.place(one), TABLES.get(one.key[:3])
            if place is None:
                continue
            if table is None:
                yield Unwritten(one.key, "this is no id of a contact or lead")
                continue
            known = {"attributes": {"type": table}, "id": one.record}
            record = records.setdefault(one.record, known)
            record[place.field] = True if place.value is None else place.value
            keys.setdefault(one.record, []).append(one.key)
        if records:
            with self._api() as api:
                refused = _refused(api, self._options.api_version, list(records.values()))
            yield from (Unwritten(key, why) for one, why in refused.items() for key in keys[one])

    def _api(self) -> Api:
        base_url = self._options.instance(self._login)
        return Api(base_url, SALESFORCE, self._login, self._clock)


def _refused(api: Api, version: str, records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Write these; id -> why not. Raises SourceError where the answer does not fit, or the fields cannot be set."""
    path = f"/services/data/v{version}/composite/sobjects"
    body = {"allOrNone": False, "records": records}
    needs = "the permission API Enabled, and edit access to contacts and leads"
    results = api.ask("PATCH", path, json=body, headers=NO_RULES, needs=needs).value
    if not isinstance(results, list) or len(results) != len(records):
        raise SourceError(
            "Salesforce: what became of the changes cannot be understood",
            why=f"{path} answered without one result for each record",
            hint="They are sent again in the next run, which changes nothing twice",
        )
    refused = dict[str, str]()
    for record, result in zip(records, results, strict=True):
        if result.get("success") is True:
            continue
        error: Mapping[str, Any] = next(iter(result.get("errors") or ()), {})
        code = str(error.get("statusCode") or "")
        why = api.plain(f"{code}: {error.get('message') or ''}")
        if code in UNSETTABLE:
            raise _not_settable("Salesforce: a field cannot be set", why)
        if code not in GONE:
            refused[record["id"]] = why
    return refused


def _not_shown(what: str) -> SourceDenied:
    return SourceDenied(
        f"{what} is not there, or not shown to this user",
        hint="Correct its API name (custom ones end in __c), or give the user edit access to it (field-level security)",
    )


def _not_settable(what: str, why: str) -> SourceDenied:
    hint = "Give the user's profile or permission set edit access to the object and to the field (field-level security)"
    return SourceDenied(what, why=why, hint=hint)

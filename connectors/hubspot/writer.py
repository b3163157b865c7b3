"""Writes back into HubSpot: an opt-out unsubscribes the address from all e-mail, or sets a property; bounces and replies set properties.

Unsubscribing goes address by address: HubSpot's batch of it is for Marketing Hub Enterprise only. A property belongs to the contact:
the opt-out of a further address sets it, for who has had enough has had enough; its bounce does not, for the first address may be fine.
Whoever is refused and is not there any more (deleted, merged) counts as written: there is nobody to tell.

Source: developers.hubspot.com, "Communication preferences", "Update a contact's opted out of all email status", its scopes; "Update a
batch of contacts". Unproven [?]: that a wrong request is answered with 403 where the scope is missing, on which `check` stands.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import quote

from connectors.hubspot.addresses import OPT_OUT
from connectors.hubspot.vendor import (
    CONTACTS,
    HUBSPOT,
    READ_CONTACTS,
    Portal,
    batch,
    properties,
    rows_of,
)
from syncd.connector import Context, Options
from syncd.errors import SourceError, SourceRefused
from syncd.http import Api
from syncd.writer import FieldOptions, Heard, News, Place, ToField, Unwritten

UPDATE, STATUSES = f"{CONTACTS}/batch/update", "/communication-preferences/v4/statuses"
WRITE_CONTACTS = "the scope crm.objects.contacts.write"
WRITE_OPT_OUTS = (
    "the scope communication_preferences.write, or communication_preferences.read_write"
)
NOBODY = "nobody%40example.com"
ALREADY = (
    "already unsubscribed"  # how an older version of that API says that there is nothing to do
)

Values = dict[str, str]


class HubspotWriterOptions(Portal, FieldOptions):
    """Properties of contacts: a checkbox is ticked, others need a value."""

    opted_out: ToField | None = Place(field=OPT_OUT)
    """A property instead of HubSpot's own opt-out."""


class HubspotWriter:
    """One HubSpot account."""

    OPTIONS: ClassVar[type[Options]] = HubspotWriterOptions
    SUMMARY: ClassVar[str] = (
        "HubSpot: unsubscribes from all e-mail, and sets properties of contacts"
    )
    BATCH_MAX: ClassVar[int] = 100  # contacts in one batch

    def __init__(self, options: HubspotWriterOptions, context: Context) -> None:
        self._options, self._clock = options, context.clock
        self._places = options.places()
        self._login = options.portal_login(context)

    def check(self) -> str:
        """Whether the properties are there and can be set, and the scopes: by requests that change nothing, for they name nobody."""
        named = {heard: one for heard, one in self._places.items() if one.field != OPT_OUT}
        with self._api() as api:
            rows_of(api.get(CONTACTS, {"limit": 1}, needs=READ_CONTACTS), CONTACTS)
            if named:
                known = {one["name"]: one for one in properties(api)}
                for heard, place in named.items():
                    _settable(heard, place, known)
                _allowed(api, UPDATE, {"inputs": []}, WRITE_CONTACTS)
            if len(named) < len(self._places):
                _allowed(api, f"{STATUSES}/{NOBODY}", {}, WRITE_OPT_OUTS)
        told = [f"{heard} in {place.field}" for heard, place in self._places.items()]
        return ", ".join(["HubSpot can be written to", *told])

    def write(self, news: Sequence[News]) -> Iterator[Unwritten]:
        """Opt-outs one by one, then properties in one batch; who is refused is looked for once."""
        refused = dict[str, str]()
        values = dict[str, Values]()
        keys = dict[str, list[str]]()
        with self._api() as api:
            for one in news:
                place = self._options.place(one)
                if place is None:
                    continue
                if place.field == OPT_OUT:
                    refused |= _unsubscribe(api, one)
                elif not one.record.isdecimal():
                    refused[one.key] = "this is no id of a contact"
                else:
                    values.setdefault(one.record, {})[place.field] = _value(place)
                    keys.setdefault(one.record, []).append(one.key)
            for contact, why in _update(api, values).items():
                refused |= dict.fromkeys(keys[contact], why)
            there = _still_there(api, refused)
        yield from (Unwritten(k, why) for k, why in refused.items() if k.partition("#")[0] in there)

    def _api(self) -> Api:
        return Api(self._options.base_url, HUBSPOT, self._login, self._clock)


def _settable(heard: Heard, place: Place, known: Mapping[str, Any]) -> None:
    """Raises SourceError where this property cannot be set to this."""
    found = known.get(place.field)
    what = f"HubSpot: the property {place.field!r}, for {heard},"
    hint = f"Make a checkbox in HubSpot's settings, and name it in `{heard}` by its internal name"
    if found is None:
        raise SourceError(f"{what} is not there", hint=hint)
    if found.get("calculated") or (found.get("modificationMetadata") or {}).get("readOnlyValue"):
        raise SourceError(f"{what} is read only", hint=hint)
    if place.value is None and found.get("type") != "bool":
        hint = (
            f'Name a checkbox, or the value: {heard} = {{ field = "{place.field}", value = "yes" }}'
        )
        raise SourceError(f"{what} is no checkbox", hint=hint)
    choices = [str(one.get("value")) for one in found.get("options") or ()]
    if choices and _value(place) not in choices:
        why = f"its values are {', '.join(choices[:12])}"
        raise SourceError(
            f"{what} does not take {_value(place)!r}", why=why, hint="Name one of them"
        )


def _allowed(api: Api, path: str, body: Mapping[str, Any], needs: str) -> None:
    """A request that is too short to change anything. Raises SourceDenied where the scope is missing."""
    try:
        api.post(path, body, needs=needs)
    except SourceRefused as error:
        if error.status == 404:
            raise


def _unsubscribe(api: Api, one: News) -> dict[str, str]:
    """key -> why not; empty when it is done, or was before."""
    path = f"{STATUSES}/{quote(one.email, safe='')}/unsubscribe-all"
    try:
        api.post(path, None, {"channel": "EMAIL"}, needs=WRITE_OPT_OUTS)
    except SourceRefused as error:
        return {} if ALREADY in error.why.lower() else {one.key: error.why}
    return {}


def _update(api: Api, values: Mapping[str, Values]) -> dict[str, str]:
    """contact -> why it was not written. A batch that is refused as a whole is written one by one: one contact may have spoiled it."""
    if not values:
        return {}
    inputs = [
        {"id": contact, "properties": some, "objectWriteTraceId": contact}
        for contact, some in values.items()
    ]
    try:
        found = api.post(UPDATE, {"inputs": inputs}, needs=WRITE_CONTACTS)
    except SourceRefused as error:
        if len(values) == 1:
            return dict.fromkeys(values, error.why)
        refused = dict[str, str]()
        for contact, some in values.items():
            refused |= _update(api, {contact: some})
        return refused
    written = {str(row["id"]) for row in rows_of(found, UPDATE)}
    refused = {}
    for fault in found.get("errors") or ():
        context = fault.get("context") or {}
        named = {*context.get("ids", ()), *context.get("objectWriteTraceId", ())} & values.keys()
        why = api.plain(f"{fault.get('category') or ''}: {fault.get('message') or ''}")
        refused |= dict.fromkeys(named or values.keys() - written, why)
    return refused


def _still_there(api: Api, keys: Mapping[str, str]) -> set[str]:
    """Which of these contacts there are. A key that is none of HubSpot's (the people come from elsewhere) cannot be looked for."""
    contacts = list(dict.fromkeys(key.partition("#")[0] for key in keys))
    others = {one for one in contacts if not one.isdecimal()}
    contacts = [one for one in contacts if one.isdecimal()]
    wanted = {"properties": ["email"]}
    path = f"{CONTACTS}/batch/read"
    found = batch(api, path, contacts, wanted, needs=READ_CONTACTS)
    return others | {str(row["id"]) for row in found}


def _value(place: Place) -> str:
    if isinstance(place.value, str):
        return place.value
    return "false" if place.value is False else "true"

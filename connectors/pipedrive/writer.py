"""Writes back into Pipedrive: the status in campaigns, or custom fields of persons; one person a request, within the token budget.

Pipedrive allows a status to be changed once, and of persons with a valid address only, and says nothing when it does not: so it is read
back. Who is refused and is not there any more counts as written: there is nobody to tell.

Source: developers.pipedrive.com, "Update a person" (v2): `marketing_status`, `custom_fields`, scope contacts:full. Unproven [?]: that
a change of nobody is answered with 403 where the scope is missing, on which `check` stands.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from connectors.pipedrive.account import Account
from connectors.pipedrive.person_fields import (
    STATUS,
    UNSUBSCRIBED,
    PersonField,
    added_fields,
    person_fields,
)
from connectors.pipedrive.vendor import BATCH_IDS, PERSONS, PIPEDRIVE, READ_CONTACTS, rows_of
from syncd.connector import Context, Options
from syncd.errors import SourceError, SourceRefused
from syncd.http import Api
from syncd.writer import FieldOptions, Heard, News, Place, ToField, Unwritten

WRITE_CONTACTS = "the scope contacts:full"
TEXTS = frozenset({"varchar", "text", "enum"})  # kinds of fields that one text is the value of
NOBODY = 0

Body = dict[str, Any]


class PipedriveWriterOptions(Account, FieldOptions):
    """Custom fields, by name or key. Each is set to its value, else to the word ("bounced"); of a field with choices, to the choice with
    that label.
    """

    opted_out: ToField | None = Place(field=STATUS)
    """A custom field instead of the status in campaigns."""


class PipedriveWriter:
    """One Pipedrive account."""

    OPTIONS: ClassVar[type[Options]] = PipedriveWriterOptions
    SUMMARY: ClassVar[str] = (
        "Pipedrive: unsubscribes from campaigns, and sets custom fields of persons"
    )
    BATCH_MAX: ClassVar[int] = BATCH_IDS  # as many as are read back at once

    def __init__(self, options: PipedriveWriterOptions, context: Context) -> None:
        self._options, self._clock = options, context.clock
        self._login = options.account_login(context)
        self._known: dict[Heard, Body] | None = None

    def check(self) -> str:
        """Whether the fields are there, and the scope: by a change of nobody."""
        places = self._options.places()
        with self._api() as api:
            rows_of(api.get(PERSONS, {"limit": 1}, needs=READ_CONTACTS), PERSONS)
            self._changes(api)
            asked = any(place.field == STATUS for place in places.values())
            if asked and STATUS not in added_fields(api):
                raise _no_campaigns()
            _change(api, NOBODY, {})
        told = [f"{heard} in {place.field}" for heard, place in places.items()]
        return ", ".join(["Pipedrive can be written to", *told])

    def write(self, news: Sequence[News]) -> Iterator[Unwritten]:
        """One request a person; then one for all whose status was set, and who were refused."""
        bodies, keys = dict[int, Body](), dict[int, list[str]]()
        refused = dict[int, str]()
        with self._api() as api:
            changes = self._changes(api)
            for one in news:
                if not one.record.isdecimal():
                    yield Unwritten(one.key, "this is no id of a person")
                elif self._options.place(one) is not None:
                    person = int(one.record)
                    body = bodies.setdefault(person, {})
                    for name, value in changes[one.heard].items():
                        held = body.get(name)
                        body[name] = {**held, **value} if isinstance(held, dict) else value
                    keys.setdefault(person, []).append(one.key)
            for person, body in bodies.items():
                if why := _change(api, person, body):
                    refused[person] = why
            status_set = {person for person, body in bodies.items() if STATUS in body}
            refused = _left_over(api, refused, status_set)
        yield from (Unwritten(key, why) for one, why in refused.items() for key in keys[one])

    def _changes(self, api: Api) -> dict[Heard, Body]:
        """What each thing changes of a person. Raises SourceError where a field is not there, or does not take the value."""
        if self._known is None:
            places = self._options.places()
            named = any(place.field != STATUS for place in places.values())
            fields = list(person_fields(api).values()) if named else []
            self._known = {heard: _body(heard, place, fields) for heard, place in places.items()}
        return self._known

    def _api(self) -> Api:
        return Api(self._options.host(self._login), PIPEDRIVE, self._login, self._clock)


def _body(heard: Heard, place: Place, fields: Sequence[PersonField]) -> Body:
    if place.field == STATUS:
        return {STATUS: UNSUBSCRIBED}
    custom = [one for one in fields if one.is_custom]
    what = f"Pipedrive: the field {place.field!r} of persons, for {heard},"
    hint = (
        f"Make a custom field of persons in Pipedrive, and name it in `{heard}` by its name or key"
    )
    found = [one for one in custom if one.key == place.field]
    found = found or [one for one in custom if one.name == place.field]
    if len(found) != 1:
        raise SourceError(f"{what} is {'there twice' if found else 'not there'}", hint=hint)
    field, value = found[0], str(heard if place.value is None else place.value)
    if field.kind not in TEXTS:
        raise SourceError(f"{what} holds neither text nor one choice", hint=hint)
    if not field.options:
        return {"custom_fields": {field.key: value}}
    choices = [key for key, label in field.options.items() if label == value]
    if not choices:
        why = f"its choices are {', '.join(list(field.options.values())[:12])}"
        hint = f'Name one of them: {heard} = {{ field = "{place.field}", value = "..." }}'
        raise SourceError(f"{what} has no choice {value!r}", why=why, hint=hint)
    return {"custom_fields": {field.key: int(choices[0])}}


def _change(api: Api, person: int, body: Body) -> str:
    """Why this person was not changed. Raises SourceDenied where the scope is missing."""
    try:
        api.ask("PATCH", f"{PERSONS}/{person}", json=body, needs=WRITE_CONTACTS)
    except SourceRefused as error:
        return error.why
    return ""


def _left_over(api: Api, refused: Mapping[int, str], status_set: Collection[int]) -> dict[int, str]:
    """Who of these is there and was not written, and why; those whose status was set are read back."""
    ids = sorted({*refused, *status_set})
    if not ids:
        return {}
    query = {"ids": ",".join(map(str, ids)), "limit": BATCH_IDS}
    query |= {"include_fields": STATUS} if status_set else {}
    try:
        rows = rows_of(api.get(PERSONS, query, needs=READ_CONTACTS), PERSONS)
    except SourceRefused:
        if status_set:
            raise _no_campaigns() from None
        raise
    left = dict[int, str]()
    for row in rows:
        person = int(row["id"])
        if row.get("is_deleted"):
            continue
        if person in refused:
            left[person] = refused[person]
        elif person in status_set:
            if STATUS not in row:
                raise _no_campaigns()
            if row[STATUS] != UNSUBSCRIBED:
                left[person] = (
                    f"{STATUS} stays {row[STATUS]}: Pipedrive lets it be changed once only, of a person with a valid address"
                )
    return left


def _no_campaigns() -> SourceError:
    return SourceError(
        f"Pipedrive: there is no {STATUS}, for the account has no Campaigns add-on",
        hint='Name a custom field for opt-outs: opted_out = { field = "NAME", value = "..." }',
    )

"""`check --probe`: what the API's reference leaves open [?], found out with one made-up contact.

The contact is in no group, so it is never mailed, and it is always deleted again. What cannot be found
out on this account is "unknown", and the product then works as under the more careful reading.
"""

import contextlib
import secrets
from typing import Any

import orjson

from syncd.config import Settings
from syncd.errors import FluenzrError, NotFound, NotSupported, Refused, SyncdError, Unanswered
from syncd.fluenzr import FluenzR
from syncd.fluenzr.types import BulkAnswer, Contact, Page

UNKNOWN, ABSENT = "unknown", "absent"
NO_ADDRESS = "syncd-probe-no-address"  # a row that any reading refuses
INVENTED = (
    "syncdProbeA",
    "syncdProbeB",
)  # custom fields, where the configuration names fewer than two
CLEARING = (("null", None), ("empty_string", ""))
PAGE = 20

Answers = dict[str, str]


def address() -> str:
    """A made-up address that nobody has."""
    return f"syncd-probe-{secrets.token_hex(6)}@example.com"


def custom_fields(settings: Settings) -> tuple[str, str]:
    """Two custom fields to try with: the configured ones, which the account has, where there are two."""
    names = [
        entry.send_as or name
        for sync in settings.syncs.values()
        for name, entry in sync.custom_fields.items()
    ]
    first, second = (*dict.fromkeys(names), *INVENTED)[:2] if len(set(names)) > 1 else INVENTED
    return first, second


def probe(api: FluenzR, email: str, names: tuple[str, str]) -> Answers:
    """Create the contact, try, delete it; the answers. Raises FluenzrError, and SyncdError when it may still be there."""
    answers: Answers = {}
    try:
        contact = _create(api, email, names)
        answers["sorting"] = _sorting(api, contact)
        answers["put_custom_fields"] = _custom_fields(api, contact, names, bulk=False)
        answers["bulk_custom_fields"] = _custom_fields(api, contact, names, bulk=True)
        answers["put_tags"] = _tags(api, contact, bulk=False)
        answers["bulk_tags"] = _tags(api, contact, bulk=True)
        answers["clearing"] = _clearing(api, contact)
        answers["bulk_errors"] = _bulk_errors(api, contact)
    finally:
        _delete(api, email)
    return answers


def _create(api: FluenzR, email: str, names: tuple[str, str]) -> Contact:
    """With the custom fields if the account takes them."""
    plain: dict[str, Any] = {"email": email, "firstName": "Probe", "tags": ["syncd-probe-a"]}
    try:
        return api.create(_body({**plain, "customFields": dict.fromkeys(names, "1")})).contact
    except Refused:
        return api.create(_body(plain)).contact


def _delete(api: FluenzR, email: str) -> None:
    """Also where the answer to the create was lost: it is looked up by its address."""
    try:
        found = api.find(email)
        if found is not None:
            with contextlib.suppress(NotFound):
                api.delete(found.id)
        left = api.find(email) is not None
    except FluenzrError as error:
        raise SyncdError(
            f"The made-up contact {email} could not be deleted",
            why=str(error),
            hint="Delete it by hand in FluenzR",
        ) from error
    if left:
        raise SyncdError(
            f"The made-up contact {email} is still in FluenzR", hint="Delete it by hand in FluenzR"
        )


def _custom_fields(api: FluenzR, contact: Contact, names: tuple[str, str], *, bulk: bool) -> str:
    """Whether a field that an update does not name survives it."""
    first, second = names
    try:
        api.update(contact.id, _body({"customFields": {first: "1", second: "1"}}))
        before = api.contact(contact.id).custom_fields
        if not before.get(first) or not before.get(second):
            return UNKNOWN  # dropped: the account does not have these fields
        after = _changed(api, contact, {"customFields": {first: "2"}}, bulk=bulk).custom_fields
    except NotSupported:
        return ABSENT
    except (Refused, Unanswered):
        return UNKNOWN
    if str(after.get(first)) != "2":
        return UNKNOWN
    return "merge" if after.get(second) else "replace"


def _tags(api: FluenzR, contact: Contact, *, bulk: bool) -> str:
    """Whether a tag that an update does not name survives it."""
    try:
        api.add_tags(contact.id, ["syncd-probe-a"])
        after = _changed(api, contact, {"tags": ["syncd-probe-b"]}, bulk=bulk).tags
        if after is not None:
            api.remove_tags(contact.id, ["syncd-probe-b"])
    except NotSupported:
        return ABSENT
    except (Refused, Unanswered):
        return UNKNOWN
    match (
        after is not None and "syncd-probe-a" in after,
        after is not None and "syncd-probe-b" in after,
    ):
        case True, True:
            return "merge"
        case False, True:
            return "replace"
        case True, False:
            return "ignored"
    return UNKNOWN


def _clearing(api: FluenzR, contact: Contact) -> str:
    """What empties a field: null where that works, else an empty string."""
    for name, value in CLEARING:
        try:
            api.update(contact.id, _body({"firstName": "Probe"}))
            api.update(contact.id, _body({"firstName": value}))
            if not api.contact(contact.id).fields.get("firstName"):
                return name
        except (Refused, Unanswered):
            continue
    return UNKNOWN


def _bulk_errors(api: FluenzR, contact: Contact) -> str:
    """How a bulk request names the row that it refuses."""
    rows = [{"email": contact.email, "firstName": "Probe"}, {"email": NO_ADDRESS}]
    try:
        answer = api.bulk(_body({"contacts": rows, "onDuplicate": "update"}))
    except NotSupported:
        return ABSENT
    except Refused:
        return "whole400"
    except Unanswered:
        return UNKNOWN
    if answer.created:
        _delete(api, NO_ADDRESS)  # it took what is no address
    return _shape(answer)


def _shape(answer: BulkAnswer) -> str:
    if not answer.errors:
        return UNKNOWN
    error = answer.errors[0]
    named = [
        word
        for word, value in (("index", error.index), ("email", error.email))
        if value is not None
    ]
    return "_".join(named) or "message"


def _sorting(api: FluenzR, contact: Contact) -> str:
    """Whether `sort=createdAt` [I] is honoured in both directions."""
    newest = api.contacts_page(1, sort="createdAt", order="desc", per_page=PAGE)
    oldest = api.contacts_page(1, sort="createdAt", order="asc", per_page=PAGE)
    if len(newest.items) < 2 or not oldest.items:
        return UNKNOWN  # one contact is in every order
    falls, rises = _times(newest), _times(oldest)
    here = contact.id in {item.id for item in newest.items}
    ordered = falls == sorted(falls, reverse=True) and rises == sorted(rises)
    return "honoured" if here and ordered and falls[0] >= rises[-1] else "ignored"


def _times(page: Page) -> list[int]:
    return [item.created_ms or 0 for item in page.items]


def _changed(api: FluenzR, contact: Contact, change: dict[str, Any], *, bulk: bool) -> Contact:
    """The contact after this update, made by one way or the other."""
    if bulk:
        row = {"email": contact.email, **change}
        api.bulk(_body({"contacts": [row], "onDuplicate": "update"}))
    else:
        api.update(contact.id, _body(change))
    return api.contact(contact.id)


def _body(value: Any) -> bytes:
    return orjson.dumps(value)

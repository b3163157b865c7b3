"""The mapping: a record becomes what is wanted in FluenzR, or the reason why it is not wanted.

Opt-outs come first: before the address, the filter and every field, so that no broken rule can hide
one. A value that was not read (its name is absent from the record) is left out: it is not known,
which is not the same as empty. FluenzR's field names: reference, "Contacts" [D].
"""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Mapping as Fields
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson

from syncd.core.address import AddressError, normalise_address
from syncd.core.expression import (
    MISSING,
    ExpressionError,
    Reader,
    compile_expression,
    compile_path,
    is_true,
)
from syncd.core.fingerprint import compile_fingerprint, compile_fingerprints
from syncd.core.model import OPT_OUT_UNREAD, Outcome, Skipped, SkipReason, Wanted
from syncd.core.transform import (
    Scalar,
    TransformError,
    Unusable,
    compile_transform,
    is_empty,
    to_boolean,
    to_plain,
    to_text,
)

# FluenzR's own fields besides `email` [D]; all of them are texts.
FLUENZR_FIELDS: Final = (
    "firstName",
    "lastName",
    "company",
    "jobTitle",
    "phone",
    "website",
    "pipelineStageId",
)
# What no field may be sent as: these change the identity, the groups, the tags or the status behind
# the guards' back.
RESERVED_NAMES: Final = frozenset(
    [
        "id",
        "email",
        "status",
        "groups",
        "groupId",
        "groupIds",
        "tags",
        "customFields",
        "pipelineStage",
        "contacts",
        "onDuplicate",
        "createdAt",
        "updatedAt",
    ]
)
CODE_VERSION: Final = 1  # raised when the same rules map the same record to something else

Read = Callable[[Fields[str, Any]], Any]
# place, name in FluenzR, reader, and the record's own name where its text is taken as it is
_Values = tuple[tuple[str, str, Read, str | None], ...]
_Names = Callable[[Fields[str, Any]], tuple[tuple[str, ...], bool]]


@dataclass(frozen=True, slots=True)
class FieldRule:
    """Where one value comes from: exactly one of a path, an expression and a constant.

    name: as in the configuration. send_as: the name that FluenzR gets. convert: the `as` of the
    configuration.
    """

    name: str
    path: str | None = None
    expr: str | None = None
    value: Scalar = None
    convert: str | None = None
    region: str | None = None
    default: Scalar = None
    send_as: str | None = None


@dataclass(frozen=True, slots=True)
class NameRule:
    """Names of groups or tags: one `name`, at all or `when` true; or those in `source`, prefixed."""

    name: str | None = None
    when: str | None = None
    source: str | None = None
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class MappingRules:
    """All that decides what a record becomes. fields include `email`."""

    fields: tuple[FieldRule, ...]
    custom_fields: tuple[FieldRule, ...] = ()
    where: str | None = None
    opted_out: str | None = None
    groups: tuple[NameRule, ...] = ()
    tags: tuple[NameRule, ...] = ()
    campaigns: tuple[NameRule, ...] = ()
    empty: Literal["clear", "keep"] = "clear"


@dataclass(frozen=True, slots=True)
class Use:
    """`place` of the configuration reads one of these names; a source that has none is a mistake."""

    place: str
    names: tuple[str, ...]


class Mapping:
    """A compiled mapping, made by `compile_mapping`; one instance belongs to one run, for it counts.

    names: top-level names that it may use. uses: the same per place. version: changes with the
    rules. fingerprint: of a raw record; fingerprints: of many rows of a table. notes: per field, how many telephone numbers or web
    addresses were none and counted as empty.
    """

    def __init__(self, rules: MappingRules) -> None:
        self.uses: list[Use] = []
        self.notes: Counter[str] = Counter()
        email = next(rule for rule in rules.fields if rule.name == "email")
        clear = rules.empty == "clear"
        self._email = self._value("fields.email", email, to_text, clear=True)
        self._email_as_it_is = _as_it_is(email)
        self._opted_out = self._expression("opted_out", rules.opted_out, strict=True)
        self._where = self._expression("where", rules.where)
        others = (rule for rule in rules.fields if rule is not email)
        self._fields = self._values("fields", others, clear=clear)
        self._custom_fields = self._values("custom_fields", rules.custom_fields, clear=clear)
        self._groups = self._names("groups", rules.groups)
        self._tags = self._names("tags", rules.tags)
        self._campaigns = self._names("campaigns", rules.campaigns)
        self.names = frozenset(name for use in self.uses for name in use.names)
        self.version = rules_version(rules)
        self.fingerprint = compile_fingerprint(self.names, self.version)
        self.fingerprints = compile_fingerprints(self.names, self.version)

    def map(self, record: Fields[str, Any]) -> Outcome:
        """What this record becomes; never raises for what a record holds."""
        email = self._address(record)
        out = self._opt_out(record, email if isinstance(email, str) else None)
        if out is not None:
            return out
        if isinstance(email, Skipped):
            return email
        try:
            if self._where is not None and not is_true(_at("where", self._where, record)):
                return Skipped(SkipReason.FILTERED, "the filter `where` says no", email)
            fields = _filled(self._fields, record)
            custom_fields = _filled(self._custom_fields, record)
            groups, groups_complete = self._groups(record)
            tags, tags_complete = self._tags(record)
            campaigns, _ = self._campaigns(record)
        except _BlockedError as error:
            return Skipped(SkipReason.BLOCKED, str(error), email)
        return Wanted(
            email, fields, custom_fields, groups, tags, groups_complete, tags_complete, campaigns
        )

    def _address(self, record: Fields[str, Any]) -> str | Skipped:
        try:
            text = None if self._email_as_it_is is None else record.get(self._email_as_it_is)
            if text.__class__ is not str or not text.isascii() or not text.strip():
                # Else, nearly always, two calls are spared.
                text = self._email(record)
            return normalise_address(text if isinstance(text, str) else "")
        except AddressError as error:
            return Skipped(SkipReason.ADDRESS, str(error))
        except (ExpressionError, TransformError) as error:
            return Skipped(SkipReason.BLOCKED, f"fields.email: {error}")

    def _opt_out(self, record: Fields[str, Any], email: str | None) -> Skipped | None:
        if self._opted_out is None:
            return None
        try:
            value = self._opted_out(record)
            out = not is_empty(value) and to_boolean(value)
        except (ExpressionError, TransformError) as error:
            # An opt-out that cannot be read must never count as consent.
            return Skipped(SkipReason.BLOCKED, f"{OPT_OUT_UNREAD}{error}", email)
        return Skipped(SkipReason.OPTED_OUT, "opted out in the source", email) if out else None

    def _use(self, place: str, reader: Reader) -> Read:
        self.uses.extend(Use(place, names) for names in reader.needs)
        return reader.read

    def _values(self, table: str, rules: Iterable[FieldRule], *, clear: bool) -> _Values:
        found = []
        for rule in rules:
            standard = table == "fields" and rule.send_as is None
            plain = to_text if standard else to_plain
            place = f"{table}.{rule.name}"
            read = self._value(place, rule, plain, clear=clear)
            found.append((place, rule.send_as or rule.name, read, _as_it_is(rule)))
        return tuple(found)

    def _value(
        self, place: str, rule: FieldRule, plain: Callable[[Any], Scalar], *, clear: bool
    ) -> Read:
        """A reader of one value: converted, with its default; None where it is to be cleared;
        MISSING: left out.
        """
        if rule.value is not None:
            constant = plain(rule.value)
            return lambda _record: constant
        read = self._use(
            place,
            compile_path(rule.path)
            if rule.path is not None
            else compile_expression(rule.expr or ""),
        )
        convert = compile_transform(rule.convert, rule.region) if rule.convert else plain
        if_empty: Any = None if clear else MISSING
        if_absent: Any = MISSING
        if rule.default is not None:
            if_absent = if_empty = if_empty if is_empty(rule.default) else plain(rule.default)
        text_only, notes = rule.convert in (None, "text"), self.notes

        def value(record: Fields[str, Any]) -> Any:
            found = read(record)
            if found.__class__ is str and text_only:  # nearly always: spare the questions below
                found = found.strip()
                if not found:
                    return if_empty
                return found if found.isascii() else to_text(found)
            if found is MISSING:
                return if_absent
            if is_empty(found):
                return if_empty
            try:
                converted = convert(found)
            except Unusable:
                notes[place] += 1
                return if_empty
            return if_empty if converted == "" else converted

        return value

    def _expression(self, place: str, text: str | None, *, strict: bool = False) -> Read | None:
        return None if text is None else self._use(place, compile_expression(text, strict=strict))

    def _names(self, place: str, rules: tuple[NameRule, ...]) -> _Names:
        """A reader of group or tag names: sorted, each once, and whether all their parts were read."""
        always = frozenset(
            rule.name.strip() for rule in rules if rule.name is not None and rule.when is None
        )
        sometimes, listed = [], []
        for number, rule in enumerate(rules):
            here = f"{place}[{number}]"
            if rule.name is not None and rule.when is not None:
                read = self._use(f"{here}.when", compile_expression(rule.when))
                sometimes.append((f"{here}.when", rule.name.strip(), read))
            elif rule.source is not None:
                read = self._use(f"{here}.from", compile_path(rule.source))
                listed.append((f"{here}.from", rule.prefix, read))
        constant = (tuple(sorted(always - {""})), True)
        if not sometimes and not listed:
            return lambda _record: constant

        def names(record: Fields[str, Any]) -> tuple[tuple[str, ...], bool]:
            found, complete = set(always), True
            for place, name, read in sometimes:
                if is_true(_at(place, read, record)):
                    found.add(name)
            for place, prefix, read in listed:
                value = _at(place, read, record)
                complete = complete and value is not MISSING
                found.update(_listed(place, prefix, value))
            found.discard("")
            return tuple(sorted(found)), complete

        return names


def compile_mapping(rules: MappingRules) -> Mapping:
    """Compile the rules. Raises ExpressionError for a path or expression that does not compile."""
    return Mapping(rules)


def rules_version(rules: MappingRules) -> str:
    """A digest of the rules, the same in every process; other rules have another one."""
    content = orjson.dumps([CODE_VERSION, dataclasses.asdict(rules)])
    return hashlib.blake2b(content, digest_size=8).hexdigest()


class _BlockedError(ValueError):
    """A rule failed for this record; the text begins with the rule's place."""


def _at(place: str, read: Read, record: Fields[str, Any]) -> Any:
    try:
        return read(record)
    except ExpressionError as error:
        raise _BlockedError(f"{place}: {error}") from None


def _as_it_is(rule: FieldRule) -> str | None:
    plain = rule.value is None and rule.convert in (None, "text")
    return rule.path if plain and rule.path is not None and "." not in rule.path else None


def _filled(values: _Values, record: Fields[str, Any]) -> dict[str, Any]:
    fields = {}
    place, get = "", record.get
    try:
        for place, name, read, as_it_is in values:  # noqa: B007 - the place of the one that failed
            if as_it_is is not None:  # nearly always: a plain text, without two calls (-40 %)
                text = get(as_it_is)
                if text.__class__ is str and text.isascii():
                    text = text.strip()
                    if text:
                        fields[name] = text
                        continue
            value = read(record)
            if value is not MISSING:
                fields[name] = value
    except (ExpressionError, TransformError) as error:
        raise _BlockedError(f"{place}: {error}") from None
    return fields


def _listed(place: str, prefix: str, value: Any) -> Iterator[str]:
    """The names in a value: a list of names or of objects that have one, or a single name."""
    if value is MISSING or is_empty(value):
        return
    for item in value if isinstance(value, list | tuple) else (value,):
        name = item.get("name") if isinstance(item, Fields) else item
        try:
            text = "" if is_empty(name) else to_text(name)
        except TransformError as error:
            raise _BlockedError(f"{place}: {error}") from None
        if text:
            yield (prefix + text).strip()

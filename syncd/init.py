"""`syncd init`: from a few answers to a commented configuration, with a mapping from the source's own fields.

It decides what is asked, what is suggested, and how the file reads. Nothing is sent to anybody; the source
is only asked for the names of its fields. Secrets are never asked for: the file holds references.
"""

import contextlib
import os
import re
import sys
import tomllib
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import tomlkit
from pydantic import ValidationError

from syncd import registry
from syncd.connector import Connector, Context, Options, Preset, SourceField
from syncd.core.nearest import suggestion
from syncd.core.schedule import ScheduleError, parse_schedule
from syncd.errors import SyncdError, UsageError
from syncd.secret import Secret

if TYPE_CHECKING:
    from questionary import Question

# What sources call FluenzR's fields, letters and digits only, in the order of preference.
USUAL: dict[str, tuple[str, ...]] = {
    "email": ("email", "emailaddress", "mail", "courriel", "emailadresse", "adressemail", "adresseemail", "correo", "eposta"),
    "firstName": ("firstname", "givenname", "vorname", "prenom", "nombre", "fname", "forename", "nome"),
    "lastName": (
        "lastname", "surname", "familyname", "nachname", "nomdefamille", "apellidos", "apellido",
        "cognome", "lname", "nom", "name",
    ),
    "company": (
        "company", "companyname", "organization", "organisation", "organizationname", "account",
        "accountname", "firma", "unternehmen", "societe", "entreprise", "empresa",
    ),
    "jobTitle": (
        "jobtitle", "title", "position", "role", "funktion", "stelle", "poste", "fonction", "cargo",
    ),
    "phone": (
        "phone", "phonenumber", "mobilephone", "mobile", "telephone", "telefon", "tel", "telefono",
    ),
    "website": ("website", "url", "web", "homepage", "siteweb", "webseite"),
}  # fmt: skip
OPT_OUTS = (
    "optedout", "optout", "emailoptout", "hsemailoptout", "hasoptedoutofemail", "unsubscribed",
    "donotemail", "donotcontact", "nomail", "noemail", "desinscrit", "desabonne", "abgemeldet",
    "werbesperre", "baja",
)  # fmt: skip
OPT_OUT_WORDS = ("optout", "optedout", "unsubscri", "donotemail", "abgemeldet", "desinscri")
NOT_OF_MAIL = ("fax", "phone", "sms", "whatsapp")  # what else there are opt-outs of
NOT_WHETHER = ("time", "date", "mode", "reason")  # at its end: when, how or why somebody opted out
KEYS = (
    "id",
    "contactid",
    "customerid",
    "customernumber",
    "kundennummer",
    "uuid",
    "recordid",
    "key",
)
SYNC = "customers"  # the name of the first sync: it is easily changed
NOTED_MAX = 5  # fields that look like an opt-out: HubSpot has one for each kind of mail
OFFERED_MAX = 40  # fields that are offered as comments: a CRM may have hundreds
SCHEDULE = "every 15 minutes"
NOTE_COLUMN = 44  # where the comments of the file begin
BARE = re.compile(r"[A-Za-z0-9_-]+")  # a key of TOML that needs no quotes


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for. fields: FluenzR's name -> the source's, a path or a table; None: as suggested."""

    connector: str
    options: Mapping[str, str]
    fields: Mapping[str, Any] | None = None
    groups: tuple[str, ...] = ()
    schedule: str = SCHEDULE


@dataclass(frozen=True, slots=True)
class Draft:
    """The file's text, and what its author should know."""

    text: str
    notes: list[str] = field(default_factory=list)


def suggest(fields: Iterable[SourceField]) -> dict[str, str]:
    """FluenzR's name -> the source's field that most likely holds it; each field once."""
    known = list(fields)
    plain = {_plain(one.name): one.name for one in reversed(known)}
    taken: set[str] = set()
    found = {}
    for ours, usual in USUAL.items():
        likely = [plain[name] for name in usual if name in plain]
        likely += [one.name for one in known if one.holds == ours]
        match = next((name for name in likely if name not in taken), None)
        if match is not None:
            found[ours] = match
            taken.add(match)
    return found


def suggest_opt_out(fields: Iterable[SourceField], known: Iterable[str] = ()) -> str | None:
    """The field that most likely says that somebody opted out. known: what the connector itself names."""
    there = list(fields)
    names = {one.name for one in there}
    # What a connector adds by itself begins with an underscore, and is no field of the source.
    named = [name for name in known if name in names or name.startswith("_")]
    return next(iter([*named, *like_opt_outs(there)]), None)


def like_opt_outs(fields: Iterable[SourceField]) -> list[str]:
    """The fields that look like an opt-out of e-mail, by their name or label, the likeliest first."""
    texts = [
        (one.name, text)
        for one in fields
        for text in map(_plain, (one.name, one.label))
        if not any(word in text for word in NOT_OF_MAIL) and not text.endswith(NOT_WHETHER)
    ]
    found = [name for name, text in texts if text in OPT_OUTS]
    found += [name for name, text in texts if any(word in text for word in OPT_OUT_WORDS)]
    return list(dict.fromkeys(found))


def suggest_key(fields: Iterable[SourceField]) -> str | None:
    """The column that most likely identifies a row for ever."""
    plain = {_plain(one.name): one.name for one in reversed(list(fields))}
    return next((plain[name] for name in KEYS if name in plain), None)


def _plain(name: str) -> str:
    """ "E-Mail Adresse" and "prénom" as letters and digits: "emailadresse", "prenom"."""
    text = unicodedata.normalize("NFKD", name.casefold())
    return re.sub(r"[^a-z0-9]", "", text)


def options_of(connector: type[Connector], given: Mapping[str, str]) -> dict[str, Any]:
    """The connector's options as the file will hold them. Raises UsageError."""
    model = connector.OPTIONS
    for name in given:
        if name not in model.model_fields:
            raise UsageError(
                f"The connector has no option {name!r}", hint=suggestion(name, model.model_fields)
            )
    options: dict[str, Any] = {name: _fitting(model, name, text) for name, text in given.items()}
    for name, info in model.model_fields.items():
        if info.is_required() and name not in options:
            if not _is_secret(info.annotation):
                raise UsageError(
                    f"The option {name!r} is needed", hint=f"Give it: --set {name}=..."
                )
            options[name] = f"env:{name.upper()}"
    try:
        model.model_validate(options)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the options"
        raise UsageError(
            f"The option {place!r} does not fit", why=first["msg"].removeprefix("Value error, ")
        ) from None
    return options


def _fitting(model: type[Options], name: str, text: str) -> Any:
    """The text itself if the option takes one; else what it says as TOML (5, true, ["a"])."""
    try:
        model.model_validate({name: text})
    except ValidationError as error:
        if any(one["loc"][:1] == (name,) for one in error.errors(include_input=False)):
            with contextlib.suppress(tomllib.TOMLDecodeError):
                return tomllib.loads(f"v = {text}")["v"]
    return text


def _is_secret(annotation: Any) -> bool:
    return annotation is Secret or Secret in get_args(annotation)


def draft(wish: Wish, *, folder: Path) -> Draft:
    """The configuration for this wish. Raises UsageError, ConfigError; a source that cannot be asked is a note."""
    kind = registry.load(wish.connector)
    options = options_of(kind, wish.options)
    notes: list[str] = []
    fields, problem = _fields(kind, options, folder)
    if problem:
        notes.append(f"The source could not be asked for its fields: {problem}")
        notes.append("So the mapping is only a guess: correct [sync.customers.fields]")
    takes_key = "key" in kind.OPTIONS.model_fields
    if takes_key and kind.OPTIONS.model_fields["key"].default is None and "key" not in options:
        key = suggest_key(fields)
        if key is not None:
            options["key"] = key
            notes.append(f'key = "{key}" identifies a row: it must never change or be used again')
        else:
            notes.append("No column identifies a row: a changed address will be another person")
    preset = _preset(kind, options, folder)
    suggested = preset.fields if preset else suggest(fields)
    mapping = dict[str, Any](suggested if wish.fields is None else wish.fields)
    if "email" not in mapping:
        mapping = {"email": "email", **mapping}
        if fields:
            notes.append(
                "No field looks like an e-mail address: set email in [sync.customers.fields]"
            )
    opted_out = preset.opted_out if preset else ""
    looks_like = None if opted_out else suggest_opt_out(fields, kind.ABILITIES.opt_outs)
    if looks_like:
        opted_out = as_expression(looks_like)
        notes.append(f"{looks_like!r} looks like an opt-out and is read as one")
    elif preset:
        notes += _unread_opt_outs(fields, opted_out, kind.ABILITIES.opt_outs)
    used = {*map(str, mapping.values()), opted_out, looks_like, options.get("key")}
    rest = [one for one in fields if one.name not in used]
    return Draft(_render(wish, options, mapping, opted_out, rest), notes)


def _unread_opt_outs(
    fields: Iterable[SourceField], opted_out: str, known: Iterable[str]
) -> Iterator[str]:
    """A connector's mapping reads the CRM's own opt-out, and not those that its users have made."""
    names = [name for name in like_opt_outs(fields) if name not in {*known, opted_out}]
    for name in names[:NOTED_MAX]:
        yield (
            f"{name!r} looks like an opt-out too, and is not read; if it is one:"
            f" opted_out = '{either(opted_out, name)}'"
        )


def either(opted_out: str, name: str) -> str:
    """The expression that is true where one of the two is: the text "no" alone would hide what stands behind it."""
    whole = opted_out if opted_out.isidentifier() else f"({opted_out})"
    return f"{whole}|boolean or {as_expression(name)}|boolean"


def _preset(kind: type[Connector], options: Mapping[str, Any], folder: Path) -> Preset | None:
    """The connector's own mapping, where its options are whole already."""
    try:
        validated = kind.OPTIONS.model_validate(options, context={"folder": folder})
    except ValidationError:
        return None
    return kind(validated, Context(folder=folder)).preset()


def _fields(
    kind: type[Connector], options: Mapping[str, Any], folder: Path
) -> tuple[list[SourceField], str]:
    """The source's fields, or why there are none."""
    try:
        validated = kind.OPTIONS.model_validate(options, context={"folder": folder})
        return kind(validated, Context(folder=folder)).fields(), ""
    except (SyncdError, ValidationError) as error:
        return [], error.what if isinstance(error, SyncdError) else "the options do not fit"


def _render(
    wish: Wish,
    options: Mapping[str, Any],
    mapping: Mapping[str, Any],
    opted_out: str,
    rest: Sequence[SourceField],
) -> str:
    """The file. Values go through tomlkit, so that any name is quoted as it must be."""
    source = wish.connector
    lines = [
        "# What `syncd` keeps equal, and how. `syncd check` looks at it, `syncd plan` shows what would",
        "# change. Secrets are references: env:NAME, file:PATH or credential:NAME (systemd).",
        "",
        "[fluenzr]",
        'api_key = "env:FLUENZR_API_KEY"',
        _noted('# base_url = "http://127.0.0.1:8025/v1"', "to try it with `syncd sandbox`"),
        "",
        "[state]",
        _noted('path = "syncd.db"', "relative to this file"),
        "",
        _noted("[guard]", "what exceeds a limit holds the whole sync"),
        _noted("# max_enrolments = 100", "people who would be mailed"),
        _noted('# max_removals = "10%"', "people who would leave"),
        "",
        f"[source.{source if BARE.fullmatch(source) else _value(source)}]",
        f"connector = {_value(source)}",
        *(f"{name} = {_value(value)}" for name, value in options.items()),
        "",
        f"[sync.{SYNC}]",
        f"source = {_value(source)}",
        _noted(f"schedule = {_value(wish.schedule)}", "where `syncd run` is running"),
        _noted(
            f"opted_out = {_value(opted_out)}" if opted_out else '# opted_out = "unsubscribed"',
            "true: never created, never mailed",
        ),
        _noted("# where = 'country == \"FR\"'", "only these records"),
        "# A dynamic group mails whoever joins it, at once; `syncd check` says which groups are dynamic.",
        f"groups = {_value(list(wish.groups))}",
        _noted('# on_removal = "ungroup"', "keep | ungroup | delete: who left the source"),
        "",
        _noted(f"[sync.{SYNC}.fields]", "FluenzR's field = the source's"),
        *(f"{ours} = {_value(theirs)}" for ours, theirs in mapping.items()),
        "",
        _noted(f"[sync.{SYNC}.custom_fields]", "by FluenzR's technical name"),
        *(_offer(one) for one in rest[:OFFERED_MAX]),
        *([f"# and {len(rest) - OFFERED_MAX:,} more fields"] if len(rest) > OFFERED_MAX else []),
    ]
    return "\n".join(lines) + "\n"


def _noted(line: str, note: str) -> str:
    """A line with its comment, in one column with the others."""
    return f"{line.ljust(NOTE_COLUMN)}# {note}"


def _offer(one: SourceField) -> str:
    """A field that nobody asked for yet, ready to be used."""
    name = re.sub(
        r"\W+", "_", unicodedata.normalize("NFKD", one.name).encode("ascii", "ignore").decode()
    )
    return f"# {name.strip('_') or 'name'} = {_value(one.name)}"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        inline = tomlkit.inline_table()
        inline.update(value)
        return inline.as_string()
    return str(tomlkit.item(value).as_string())


def as_expression(name: str) -> str:
    """A field in an expression; one whose name is no identifier through `record`."""
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        return name
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'record["{quoted}"]'


def write(path: Path, text: str) -> None:
    """Write a new file; one that is there is never overwritten. Raises UsageError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        raise UsageError(
            f"{path} is there already", hint="Move it away, or name another file"
        ) from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written", why=error.strerror or "") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def ask(connector: str | None, given: Mapping[str, str], *, folder: Path) -> Wish:
    """Ask on the terminal. Raises UsageError where there is none, or when nobody answers."""
    if not sys.stdin.isatty():
        raise UsageError(
            "There is no terminal to ask on",
            hint="Ask nothing: syncd init --connector csv --yes --set path=people.csv",
        )
    import questionary

    name = connector or _answer(
        questionary.select("Where are your contacts?", choices=registry.names())
    )
    kind = registry.load(name)
    options = dict(given)
    for option, info in kind.OPTIONS.model_fields.items():
        if info.is_required() and option not in options:
            secret = _is_secret(info.annotation)
            words = (
                f"{option}, as env:NAME, file:PATH or credential:NAME:" if secret else f"{option}:"
            )
            default = f"env:{option.upper()}" if secret else ""
            options[option] = _answer(questionary.text(words, default=default))
    whole = options_of(kind, options)
    fields, _ = _fields(kind, whole, folder)
    mapping = _ask_mapping(fields, _preset(kind, whole, folder))
    groups = _answer(
        questionary.text("Groups for everybody, with commas (a missing one is created, static):")
    )
    schedule = _answer(
        questionary.text(
            'When? ("every 15 minutes", or cron)', default=SCHEDULE, validate=_schedule_fits
        )
    )
    return Wish(
        connector=name,
        options=options,
        fields=mapping or None,
        groups=tuple(part.strip() for part in groups.split(",") if part.strip()),
        schedule=schedule,
    )


def _schedule_fits(text: str) -> bool | str:
    """True, or what is expected instead."""
    try:
        parse_schedule(text)
    except ScheduleError as error:
        return str(error)
    return True


def _ask_mapping(fields: list[SourceField], preset: Preset | None) -> dict[str, Any]:
    """Where each of FluenzR's fields is, beginning with what is usual; nothing is asked of a source that could not be reached."""
    import questionary

    usual = preset.fields if preset else suggest(fields)
    mapping, nothing = dict[str, Any](), "(leave it out)"
    for ours in USUAL if fields else ():
        values: dict[str, Any] = {one.name: one.name for one in fields}
        first = nothing
        if ours in usual:
            first = _shown(usual[ours])
            values = {first: usual[ours], **values}  # also where it is no field alone
        choices = [*([] if ours == "email" else [nothing]), *values]
        default = first if first in choices else choices[0]
        reply = _answer(questionary.select(f"{ours} is in", choices=choices, default=default))
        if reply != nothing:
            mapping[ours] = values[reply]
    return mapping


def _shown(source: str | Mapping[str, Any]) -> str:
    """Where a value comes from, in words: a path, or an expression."""
    return source if isinstance(source, str) else str(source.get("expr") or source.get("path"))


def _answer(question: "Question") -> str:
    reply: str | None = question.ask()
    if reply is None:  # Ctrl-C
        raise UsageError("Nothing was written: the questions were not answered")
    return reply

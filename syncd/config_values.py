"""What a single value of the configuration may be: addresses, paths, durations, names, expressions.

Which table has which of them: `syncd.config_models`.
"""

from datetime import date, datetime, time
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from phonenumbers import SUPPORTED_REGIONS
from pydantic import AfterValidator, BeforeValidator, PlainValidator, ValidationInfo

from syncd.core.expression import compile_expression, compile_path
from syncd.core.limit import Limit
from syncd.core.nearest import nearest
from syncd.core.schedule import Schedule, parse_duration_s, parse_schedule

LOCAL_HOSTS: Final = frozenset({"127.0.0.1", "localhost", "::1"})
WEBHOOKS_PATH: Final = "/webhooks/fluenzr"  # where FluenzR's events arrive
PORT_MAX = 65_535
NAME_CHARS_MAX = 200  # of a group or tag in the configuration


def _base_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        host, _port = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError("a web address expected") from None
    if parts.scheme not in {"http", "https"} or not host or parts.query or parts.fragment:
        raise ValueError("a web address such as https://api.fluenzr.co/v1 expected")
    if parts.username or parts.password:
        raise ValueError("a web address without user name and password expected")
    if parts.scheme == "http" and host not in LOCAL_HOSTS:
        raise ValueError("https expected: over http the API key could be read by anyone on the way")
    return text.rstrip("/")


def _host_and_port(value: object) -> tuple[str, int]:
    host, colon, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    if not colon or not host or not port.isdecimal() or int(port) > PORT_MAX:
        raise ValueError('an address and a port such as "127.0.0.1:8787" expected')
    return host.strip("[]"), int(port)


def _public_url(text: str) -> str:
    url = _base_url(text)
    if urlsplit(url).path != WEBHOOKS_PATH:
        raise ValueError(f"a web address that ends with {WEBHOOKS_PATH} expected")
    return url


def _origin(text: str) -> str:
    url = _base_url(text)
    if urlsplit(url).path:
        raise ValueError("a web address without a path, such as https://sync.example.com, expected")
    return url


def _timezone(name: str) -> str:
    try:
        return name if name == "UTC" else ZoneInfo(name).key
    except (ZoneInfoNotFoundError, ValueError, OSError):
        near = nearest(name, available_timezones())
        hint = f'did you mean "{near}"?' if near else 'write it as "Europe/Paris"'
        raise ValueError(f"there is no such time zone; {hint}") from None


def _scalar(value: object) -> object:
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if not isinstance(value, str | int | float):
        raise ValueError("text, a number, true or false expected")  # noqa: TRY004 - for pydantic
    return value


def _path_syntax(text: str) -> str:
    return compile_path(text).text


def _expression_syntax(text: str) -> str:
    return compile_expression(text).text


def _strict_syntax(text: str) -> str:
    return compile_expression(text, strict=True).text


def _region(text: str) -> str:
    if text.upper() not in SUPPORTED_REGIONS:
        raise ValueError('a country of two letters such as "FR" expected')
    return text.upper()


def _not_blank(text: str) -> str:
    if not text.strip() or len(text) > NAME_CHARS_MAX:
        raise ValueError(f"a name of 1 to {NAME_CHARS_MAX} characters expected")
    return text.strip()


def absolute_path(value: object, info: ValidationInfo, *, what: str) -> Path:
    """A path of the file, absolute."""
    folder: Path = (info.context or {}).get("folder", Path())
    text = str(value) if isinstance(value, str | Path) else ""
    try:
        path = (folder / Path(text).expanduser()).absolute()
    except RuntimeError:
        raise ValueError("a path without ~ expected: this user has no home folder") from None
    if not text.strip() or "\0" in text:
        raise ValueError(f"the path of a {what} expected")
    return path


def _schedule(value: object) -> Schedule:
    return parse_schedule(value if isinstance(value, str) else "")


PathText = Annotated[str, AfterValidator(_path_syntax), "path"]
Expression = Annotated[str, AfterValidator(_expression_syntax), "expression"]
StrictExpression = Annotated[str, AfterValidator(_strict_syntax), "expression"]
NameText = Annotated[str, AfterValidator(_not_blank)]
Value = Annotated[Any, PlainValidator(_scalar), "any value"]
DurationS = Annotated[float, BeforeValidator(parse_duration_s), "duration"]
GuardLimit = Annotated[Limit, PlainValidator(Limit.parse), "number or share"]
Convert = Literal["text", "number", "date", "boolean", "phone", "url", "lower", "upper", "title"]
BaseUrl = Annotated[str, AfterValidator(_base_url), "URL"]
PublicUrl = Annotated[str, AfterValidator(_public_url), "URL"]  # where FluenzR's events arrive
Origin = Annotated[str, AfterValidator(_origin), "URL"]
HostAndPort = Annotated[tuple[str, int], PlainValidator(_host_and_port), "host:port"]
Region = Annotated[str, AfterValidator(_region)]
Timezone = Annotated[str, AfterValidator(_timezone)]
ScheduleText = Annotated[Schedule, PlainValidator(_schedule), "schedule"]

"""The templates, and the headers that every answer of the page has. What comes from a source or from FluenzR is always escaped."""

import functools
import hashlib
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse, Response

from syncd.report.text import ago, clean, count, duration, moment, people, shown

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
ASSETS = {"page.css": "text/css", "icon.svg": "image/svg+xml"}
ASSET_S = 86_400  # their address changes with what they hold


def html(template: str, *, status: int = 200, **facts: Any) -> Response:
    """One page."""
    text = _environment().get_template(template).render(facts)
    return HTMLResponse(text, status_code=status, headers=HEADERS)


def asset(name: str) -> Response:
    """A file beside the templates, which holds nothing of anybody."""
    cached = {**HEADERS, "Cache-Control": f"private, max-age={ASSET_S}"}
    return Response(_asset(name), media_type=ASSETS[name], headers=cached)


def prose(text: str) -> Markup:
    """A sentence in which `what is typed` is set as such."""
    parts = clean(text).split("`")
    if len(parts) % 2 == 0:  # a mark without its other half
        return escape(clean(text))
    pieces = [
        Markup("<code>{}</code>").format(p) if n % 2 else escape(p) for n, p in enumerate(parts)
    ]
    return Markup("").join(pieces)


def _finalize(value: Any) -> Any:
    """No control characters, nor those that turn the direction of writing round."""
    return clean(value, lines=True) if type(value) is str else value


@functools.cache
def _asset(name: str) -> bytes:
    return files("syncd.web").joinpath("templates", name).read_bytes()


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("syncd.web"),
        autoescape=True,
        finalize=_finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"ago": ago, "count": count, "duration": duration, "moment": moment}
    environment.filters |= {"people": people, "prose": prose, "shown": shown}
    digest = hashlib.sha256(_asset("page.css") + _asset("icon.svg")).hexdigest()
    environment.globals["version"] = digest[:12]
    return environment

"""The page to look at: how each sync stands, what is held and may be approved, runs, quarantine, one person, campaigns.

What it shows are the answers of `syncd/state` in the words of `syncd/report`, as the commands have them; reading takes no lock. The
two things that it does, `approve` and `plan`, are the commands'. One request is answered at a time, in a thread: the daemon's work
comes first.
"""

import secrets
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from anyio import CapacityLimiter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from syncd.clock import Clock
from syncd.config_models import Settings
from syncd.core.address import AddressError, normalise_address
from syncd.errors import ConfigError, StateBusy, StateError, SyncdError, UsageError
from syncd.log import told_bug
from syncd.state import approvals, marker
from syncd.state.store import Connection, change, open_for_reading
from syncd.web import door, views
from syncd.web.body import Form, form_endpoint
from syncd.web.door import Door, PageOff, Session, TooMany
from syncd.web.references import References
from syncd.web.rehearsals import Rehearsals, bug
from syncd.web.render import HEADERS, asset, html

log = structlog.get_logger(__name__)

APPROVE_WAIT_S = 3.0  # for the lock: whoever waits sits before a browser
BY = "somebody on the page"  # who has approved, for `why` and `history`: one token is all that is known of them
STATUS = {
    UsageError: 409,
    StateBusy: 409,
    ConfigError: 503,
    StateError: 503,
    PageOff: 403,
    TooMany: 429,
}

Work = Callable[[Request, Form, Session], Response]


def routes(settings: Callable[[], Settings], *, clock: Clock) -> list[Route]:
    """What the listener answers for it. settings: the configuration as it is now."""
    page, limiter = Page(settings, clock=clock), CapacityLimiter(1)
    table: list[tuple[str, str, Work]] = [
        ("GET", "/", page.overview),
        ("GET", "/held/{sync}", page.held),
        ("POST", "/held/{sync}", page.approve),
        ("GET", "/plan/{sync}", page.plan),
        ("POST", "/plan/{sync}", page.rehearse),
        ("GET", "/runs", page.runs),
        ("GET", "/runs/{run:int}", page.run),
        ("GET", "/quarantine", page.quarantine),
        ("GET", "/person", page.ask),
        ("POST", "/person", page.find),
        ("GET", "/person/{reference}", page.person),
        ("GET", "/campaigns", page.campaigns),
        ("POST", "/logout", page.logout),
    ]
    inside = [
        Route(path, form_endpoint(page.guarded(work), limiter), methods=[method])
        for method, path, work in table
    ]
    login = form_endpoint(page.login, limiter)
    assets = [
        Route(f"/{name}", lambda _, name=name: asset(name)) for name in ("page.css", "icon.svg")
    ]
    return [*inside, Route("/login", login, methods=["GET", "POST"]), *assets]


class Page:
    """Each method answers one path; those that are given a session are behind `guarded`."""

    def __init__(self, settings: Callable[[], Settings], *, clock: Clock) -> None:
        self._settings, self._clock = settings, clock
        self._door = Door(lambda: settings().http, clock=clock)
        self._references = References()
        self._rehearsals = Rehearsals(settings, clock=clock)

    # --- the door -----------------------------------------------------------------------------------------------

    def guarded(self, work: Work) -> Callable[[Request, Form], Response]:
        """`work` for those who may see it, and every end that it can have as a page."""

        def answer(request: Request, form: Form) -> Response:
            try:
                if refused := self._refused(request):
                    return refused
                session = self._door.session(request)
                if session is None:
                    return _to("/login")
                if request.method == "POST" and not door.same(form.get("csrf", ""), session.csrf):
                    return _foreign()
                return work(request, form, session)
            except SyncdError as error:
                return self._error(request, error)
            except Exception as problem:  # noqa: BLE001 - told, and the rest goes on
                told_bug(log, problem)
                return self._error(request, bug(), status=500)

        return answer

    def login(self, request: Request, form: Form) -> Response:
        """The form, and what came of it."""
        try:
            if refused := self._refused(request):
                return refused
            self._door.check_open()
            if request.method == "GET":
                return self._login_form(request)
            if not door.same(form.get("csrf", ""), door.login_cookie(request)):
                return self._login_form(request, "The form was too old. Try it again.", status=403)
            cookie = self._door.enter(form.get("token", ""))
        except TooMany as error:
            return self._login_form(request, str(error), status=429)
        except PageOff as error:
            return self._error(request, error)
        if cookie is None:
            return self._login_form(request, "This is not the token.", status=403)
        response = _to("/")
        secure = self._door.is_secure(request)
        door.set_cookie(response, door.SESSION_COOKIE, cookie, secure=secure)
        door.set_cookie(response, door.LOGIN_COOKIE, None, secure=secure)
        return response

    def logout(self, request: Request, _form: Form, _session: Session) -> Response:
        """The session ends."""
        self._door.leave(request)
        response = _to("/login")
        door.set_cookie(response, door.SESSION_COOKIE, None, secure=self._door.is_secure(request))
        return response

    def _refused(self, request: Request) -> Response | None:
        """What is asked for under a foreign name, or sent by a foreign page."""
        host = request.headers.get("host", "")
        if not self._door.is_ours(host):
            facts = {"host": host[:100]}
            return html("foreign_name.html", status=421, session=None, **facts)
        if request.method == "POST" and not door.from_here(request):
            return _foreign()
        return None

    def _login_form(self, request: Request, problem: str = "", *, status: int = 200) -> Response:
        csrf = door.login_cookie(request) or secrets.token_urlsafe(32)
        response = html("login.html", status=status, session=None, csrf=csrf, problem=problem)
        secure = self._door.is_secure(request)
        door.set_cookie(response, door.LOGIN_COOKIE, csrf, secure=secure)
        return response

    def _error(self, request: Request, error: SyncdError, *, status: int = 0) -> Response:
        found = status or next((n for kind, n in STATUS.items() if isinstance(error, kind)), 500)
        session = None if isinstance(error, PageOff) else self._door.session(request)
        return html("error.html", status=found, session=session, error=error, here="")

    # --- what it shows --------------------------------------------------------------------------------------------

    def _show(
        self, template: str, session: Session, look: Callable[[Connection | None], dict[str, Any]]
    ) -> Response:
        """A page of what `look` finds in the state; None: there is none yet. Raises StateError."""
        path = self._settings().state.path
        db = open_for_reading(path)
        if db is None:
            facts = look(None)
        else:
            with closing(db):
                db.execute("BEGIN")  # one moment: what is counted is what is listed
                facts = look(db)
        restored = marker.standing(path) is marker.Standing.RESTORED
        now_s = self._clock.now_s()
        return html(
            template,
            session=session, restored=restored, now_s=now_s, reference=self._references.of, **facts,
        )  # fmt: skip

    def overview(self, _request: Request, _form: Form, session: Session) -> Response:
        """How each sync stands."""
        settings, now_s = self._settings(), self._clock.now_s()
        return self._show(
            "overview.html", session, lambda db: views.overview(settings, db, now_s=now_s)
        )

    def held(self, request: Request, _form: Form, session: Session) -> Response:
        """What a guard holds of one sync."""
        name, number = self._sync(request), _number(request.query_params.get("page"))
        return self._show("held.html", session, lambda db: views.held(name, db, page=number))

    def approve(self, request: Request, form: Form, _session: Session) -> Response:
        """Release what was shown, and nothing else."""
        name = self._sync(request)
        run, seal = _number(form.get("run")), _bytes(form.get("seal", ""))
        if form.get("mailed", "0") != "0" and "sure" not in form:
            raise UsageError(
                "It was not confirmed that people will be mailed", hint="Nothing was approved"
            )
        change(
            self._settings().state.path,
            lambda state: approvals.approve(
                state.db, run, name, by=BY, now_s=self._clock.now_s(), seal=seal
            ),
            clock=self._clock,
            wait_s=APPROVE_WAIT_S,
        )
        return _to(f"/held/{name}")

    def plan(self, request: Request, _form: Form, session: Session) -> Response:
        """What the next run of one sync would send, as far as that was asked for."""
        name = self._sync(request)
        last = self._rehearsals.last(name)
        return self._show("plan.html", session, lambda _: views.plan_of(name, last))

    def rehearse(self, request: Request, _form: Form, _session: Session) -> Response:
        """Find out."""
        name = self._sync(request)
        self._rehearsals.start(name)
        return _to(f"/plan/{name}")

    def runs(self, _request: Request, _form: Form, session: Session) -> Response:
        """Past runs."""
        return self._show("runs.html", session, views.runs)

    def run(self, request: Request, _form: Form, session: Session) -> Response:
        """What one run did."""
        number = min(request.path_params["run"], views.NUMBER_MAX)
        return self._show("run.html", session, lambda db: views.run(number, db))

    def quarantine(self, _request: Request, _form: Form, session: Session) -> Response:
        """What FluenzR refuses, and what cannot be used."""
        now_s = self._clock.now_s()
        return self._show("quarantine.html", session, lambda db: views.quarantine(db, now_s=now_s))

    def ask(self, _request: Request, _form: Form, session: Session) -> Response:
        """The form that asks for an address."""
        return html("person.html", session=session, email=None, blocks=[], problem="")

    def find(self, _request: Request, form: Form, session: Session) -> Response:
        """From an address to the person."""
        try:
            email = normalise_address(form.get("email", ""))
        except AddressError as error:
            words: dict[str, Any] = {
                "email": None,
                "blocks": [],
                "problem": f"{error}".capitalize() + ".",
            }
            return html("person.html", status=400, session=session, **words)
        return _to(f"/person/{self._references.of(email)}")

    def person(self, request: Request, _form: Form, session: Session) -> Response:
        """One person's story."""
        email = self._references.email(request.path_params["reference"])
        if email is None:
            words = "This link is from before a restart. Look the person up again."
            return html(
                "person.html", status=404, session=session, email=None, blocks=[], problem=words
            )
        settings, now_s = self._settings(), self._clock.now_s()
        return self._show(
            "person.html", session, lambda db: views.person(settings, email, db, now_s=now_s)
        )

    def campaigns(self, _request: Request, _form: Form, session: Session) -> Response:
        """What the campaigns have come to, as it was kept."""
        since = datetime.fromtimestamp(self._clock.now_s(), UTC) - timedelta(days=views.DAYS)
        return self._show(
            "campaigns.html", session, lambda db: views.campaigns(db, since=f"{since:%Y-%m-%d}")
        )

    def _sync(self, request: Request) -> str:
        name: str = request.path_params["sync"]
        if name not in self._settings().syncs:
            raise UsageError("There is no such sync", hint="The overview has those that there are")
        return name


def _to(path: str) -> Response:
    return RedirectResponse(path, status_code=303, headers=HEADERS)


def _foreign() -> Response:
    return html("foreign_form.html", status=403, session=None)


def _number(text: str | None) -> int:
    """A number of a form or a query; 0 for anything else."""
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) < 10 else 0


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""

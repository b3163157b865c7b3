"""The page, served from a state in which something has happened; a browser's manners over plain HTTP; hostile people."""

import re
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

import httpx
import pytest
from house import House, people, row

from syncd import config, statistics
from syncd.check import client
from syncd.web import page
from syncd.web.app import serving

TOKEN = "a-token-of-the-page-0123456789"
MARKUP = '<script>alert("x")</script><img src=x onerror=alert(1)>'
TURNED = "\u202egnp.exe"  # turns the direction of writing round
CSRF = re.compile(r'name="csrf" value="([^"]+)"')


@dataclass
class Visitor:
    """Somebody with a browser: cookies are kept, redirects are not followed by themselves."""

    http: httpx.Client
    answers: list[httpx.Response] = field(default_factory=list)

    def get(self, path: str, **how: object) -> httpx.Response:
        self.answers.append(self.http.get(path, **how))  # type: ignore[arg-type]
        return self.answers[-1]

    def post(self, path: str, form: dict[str, str], **how: object) -> httpx.Response:
        self.answers.append(self.http.post(path, data=form, **how))  # type: ignore[arg-type]
        return self.answers[-1]

    def form(self, path: str) -> dict[str, str]:
        """The hidden fields of the form that the page at this path sends to itself."""
        text = self.get(path).text
        found = re.search(rf'<form[^>]*action="{re.escape(path)}".*?</form>', text, re.DOTALL)
        assert found, text
        return dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', found[0]))

    def csrf(self, path: str = "/") -> str:
        found = CSRF.search(self.get(path).text)
        assert found, self.answers[-1].text
        return found[1]

    def login(self, token: str = TOKEN, **how: object) -> httpx.Response:
        form = {"csrf": self.csrf("/login"), "token": token}
        return self.post("/login", form, **how)

    def story(self, email: str) -> str:
        """The page of a person, found through the form."""
        found = self.post("/person", {"csrf": self.csrf(), "email": email})
        assert found.status_code == 303, found.text
        return self.get(found.headers["location"]).text


@dataclass
class Stand:
    """The page of a house."""

    house: House
    place: tuple[str, int]
    stack: ExitStack

    @property
    def url(self) -> str:
        return f"http://{self.place[0]}:{self.place[1]}"

    def visitor(self, *, inside: bool = True) -> Visitor:
        client = httpx.Client(base_url=self.url, trust_env=False, timeout=20)
        visitor = Visitor(self.stack.enter_context(client))
        if inside:
            assert visitor.login().status_code == 303
        return visitor

    def configure(self, http: str) -> None:
        """Another `[http]` table, as after a reload."""
        file = self.house.folder / "config.toml"
        text = file.read_text().split("\n[http]")[0]
        file.write_text(f"{text}\n[http]\n{http}\n")
        self.house.settings = config.load(file)

    def answer_to(self, path: str, **headers: str) -> httpx.Response:
        """What a stranger gets."""
        return self.visitor(inside=False).get(path, headers=headers)


@pytest.fixture(name="stand")
def stand_fixture(house: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    monkeypatch.setenv("SYNCD_PAGE_TOKEN", TOKEN)
    with ExitStack() as stack:
        place = stack.enter_context(
            serving(
                None,
                house.state,
                ("127.0.0.1", 0),
                clock=house.clock,
                on_news=lambda: None,
                more=page.routes(lambda: house.settings, clock=house.clock),
            )
        )
        stand = Stand(house, place, stack)
        stand.configure('token = "env:SYNCD_PAGE_TOKEN"')
        yield stand


def held_house(stand: Stand, *, more: int = 3, guard: int = 2) -> int:
    """Two people are there; these more would be mailed, and are held. The number of the run."""
    house = stand.house
    house.account.add_group("Newsletter", dynamic=True)
    house.configure(groups=["Newsletter"], guard={"max_enrolments": guard})
    stand.configure('token = "env:SYNCD_PAGE_TOKEN"')
    house.write(row(1, "ann@example.com", first="Ann"), row(2, "bob@example.com", first="Bob"))
    house.sync()
    add_people(house, more)
    return house.sync().run


def add_people(house: House, more: int, *, first: str = "New") -> None:
    house.write(
        row(1, "ann@example.com", first="Anna"),
        row(2, "bob@example.com", first="Bob"),
        *(row(10 + n, f"new{n}@example.com", first=f"{first}{n}") for n in range(more)),
    )


def lived_in(stand: Stand) -> None:
    """A month of runs: two syncs, people who come and go, a campaign, somebody refused, a mistake that is held."""
    house = stand.house
    for name in ("Newsletter", "Webinar"):
        house.account.add_group(name, dynamic=True)
    house.account.add_campaign("Spring in Lyon")
    house.account.add_campaign("Q1 outreach", status="paused")
    house.account.refuse("odd@example.com", "This domain does not accept e-mail")
    customers = {"groups": ["Customers", {"name": "Newsletter", "when": "score|int > 50"}],
                 "tags": ["crm"], "schedule": "every 15 minutes"}  # fmt: skip
    partners = {"groups": ["Partners"], "schedule": "0 6 * * 1-5", "timezone": "Europe/Paris"}
    house.configure(
        syncs={"customers": customers, "partners": partners}, guard={"max_enrolments": 40}
    )
    stand.configure('token = "env:SYNCD_PAGE_TOKEN"')
    for day in range(29):
        house.write(*_crowd(day), source="customers")
        house.write(*people(12, start=900 + day), row("none", "no address"), source="partners")
        house.sync_all()
        for email in list(house.everybody())[: 3 + day % 4]:
            with suppress(KeyError):
                house.account.enrol_by_hand(email, "Spring in Lyon")
        with client(house.settings, house.clock) as api:
            statistics.keep(house.settings, api=api, clock=house.clock)
        house.later(days=1)
    wrong = [{**one, "score": "90", "first": one["first"].title()} for one in _crowd(29)]
    house.write(*wrong, source="customers")
    house.sync_all()
    house.later(minutes=7)


def _crowd(day: int) -> list[dict[str, str]]:
    come = 60 + day * 3 + (day % 7) * 2
    rows = people(come, start=day // 5)
    for one in rows:
        if (int(one["id"]) + day) % 9 == 0:
            one["first"] = f"marie-{day}"
    return [*rows, row("odd", "odd@example.com", first="Odd", last="Ity")]

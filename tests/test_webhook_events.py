"""FluenzR's events on their way into the state: from the sandbox, over HTTP, into the inbox, into the ledger."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from house import House, house_fixture, ids, loaded, row  # noqa: F401

from syncd import config
from syncd.core.event import WANTED_TYPES
from syncd.errors import StateBusy
from syncd.fluenzr import FluenzR
from syncd.forget import forget
from syncd.state import inbox
from syncd.state.store import change, hold
from syncd.watch import Nobody
from syncd.web.app import serving

SECRET = "s3cret-of-the-webhook"


class Post:
    """The listener of a house, and FluenzR's way to it."""

    def __init__(self, house: House, url: str, news: list[str]) -> None:
        self.house, self.url, self.news = house, url, news

    def tell(self, kind: str, email: str, **data: Any) -> list[int | None]:
        """FluenzR sends an event about one of its contacts; the answers."""
        contact = self.house.account.contacts_by_email()[email]
        if kind.startswith("contact."):
            about: dict[str, Any] = {"contact": contact}
        else:
            about = {"campaignId": "cmp_1", "contactId": contact["id"], "contactEmail": email}
        return self.send(kind, {**about, **data})

    def send(self, kind: str, data: dict[str, Any]) -> list[int | None]:
        return [attempt.status for attempt in self.house.sandbox.account.deliver(kind, data)]

    def apply(self) -> None:
        """Whoever opens the state applies what waits."""
        change(self.house.state, lambda _: None, clock=self.house.clock, wait_s=0.0)

    def waiting(self) -> int:
        with inbox.opened(self.house.state) as box:
            return box.waiting_count()


@pytest.fixture(name="post")
def post_fixture(house: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[Post]:
    monkeypatch.setenv("SYNCD_TEST_SECRET", SECRET)
    file = house.folder / "config.toml"
    file.write_text(file.read_text() + '\n[webhooks]\nsecret = "env:SYNCD_TEST_SECRET"\n')
    settings = config.load(file)
    news: list[str] = []
    with serving(
        settings.webhooks,
        house.state,
        ("127.0.0.1", 0),
        clock=house.clock,
        on_news=lambda: news.append("news"),
    ) as (host, port):
        url = f"http://{host}:{port}/webhooks/fluenzr"
        with FluenzR("flz_sk_" + "a" * 32, base_url=house.sandbox.url, clock=house.clock) as api:
            api.create_webhook(url, [*WANTED_TYPES, "email.sent"], secret=SECRET)
        yield Post(house, url, news)


def ledger(house: House) -> set[str]:
    return {found["what"] for found in house.query("SELECT what FROM never")}


def test_an_opt_out_is_known_without_a_run(house: House, post: Post) -> None:
    loaded(house, row(1, "ann@example.com"), groups=["Customers"])
    assert post.tell("email.unsubscribed", "ann@example.com") == [200]
    assert post.news
    post.apply()
    assert house.known("ann@example.com")["status"] == "unsubscribed"
    assert "!" in ledger(house)
    assert post.waiting() == 0


def test_an_opt_out_that_only_an_event_tells_bars_from_a_dynamic_group(
    house: House, post: Post
) -> None:
    """FluenzR's own listing is late: the event alone keeps the person out."""
    loaded(house, row(1, "ann@example.com"), row(2, "bob@example.com"), groups=["Customers"])
    post.tell("email.unsubscribed", "ann@example.com")
    house.account.add_group("Drip", dynamic=True)
    house.configure(groups=["Customers", "Drip"])
    house.sync()
    assert house.mailed() == ["bob@example.com"]


def test_an_opt_out_of_somebody_unknown_holds_when_the_source_brings_the_address(
    house: House, post: Post
) -> None:
    loaded(house, row(1, "ann@example.com"), groups=["Customers"])
    post.send("email.unsubscribed", {"contactId": "con_9", "contactEmail": "New@Example.com"})
    house.write(row(1, "ann@example.com"), row(2, "new@example.com"))
    house.sync()
    assert house.everybody() == {"ann@example.com"}


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_a_hard_bounce_bars_and_a_soft_one_does_not(house: House, post: Post, kind: str) -> None:
    loaded(house, row(1, "ann@example.com"), groups=["Customers"])
    post.tell("email.bounced", "ann@example.com", bounceType=kind)
    post.apply()
    assert (house.known("ann@example.com")["status"] == "bounced") == (kind == "hard")
    assert ("!" in ledger(house)) == (kind == "hard")


def test_who_has_replied_joins_no_dynamic_group_any_more(house: House, post: Post) -> None:
    loaded(house, row(1, "ann@example.com"), groups=["Customers"])
    post.tell("email.replied", "ann@example.com")
    post.apply()
    assert house.known("ann@example.com")["status"] == "replied"


def test_events_in_any_order_and_twice_end_the_same(house: House, post: Post) -> None:
    """A late "replied" does not weaken an opt-out, nor does a contact that is shown as it was before."""
    loaded(house, row(1, "ann@example.com"), groups=["Customers"])
    for kind in ("email.unsubscribed", "email.replied", "contact.updated", "email.unsubscribed"):
        assert post.tell(kind, "ann@example.com") == [200]
    post.apply()
    assert house.known("ann@example.com")["status"] == "unsubscribed"
    assert "!" in ledger(house)


def test_a_contact_deleted_by_hand_is_seen_by_the_next_run(house: House, post: Post) -> None:
    """Without the event it would be a day."""
    loaded(house, row(1, "ann@example.com"), groups=["Customers"])
    contact = house.account.contacts_by_email()["ann@example.com"]
    house.account.remove("ann@example.com")
    post.send("contact.deleted", {"contact": contact})
    house.sync()
    assert house.known("ann@example.com")["state"] == "new"
    assert "x" in ledger(house)
    assert house.everybody() == set()


def test_a_contact_renamed_by_hand_is_seen_by_the_next_run(house: House, post: Post) -> None:
    loaded(house, row(1, "ann@example.com"), row(2, "bob@example.com"), groups=["Customers"])
    house.sync()
    house.later(days=1.1)
    house.sync()  # the daily listing tells the ids
    house.account.rename("ann@example.com", "ann.b@example.com")
    post.tell("contact.updated", "ann.b@example.com")
    house.sync()
    assert house.everybody() == {"ann@example.com", "bob@example.com"}


def test_what_we_changed_ourselves_is_not_read_again(house: House, post: Post) -> None:
    """FluenzR tells of our own writes too: a first load of a million people must not cost a million reads."""
    loaded(house, row(1, "ann@example.com", first="Ann"), groups=["Customers"])
    post.tell("contact.created", "ann@example.com")
    post.tell("contact.updated", "ann@example.com")
    post.apply()
    assert house.in_flight() == 0


def test_fields_that_hands_have_changed_are_left_alone(house: House, post: Post) -> None:
    loaded(house, row(1, "ann@example.com", first="Ann"), groups=["Customers"])
    house.account.edit("ann@example.com", firstName="Anna")
    post.tell("contact.updated", "ann@example.com")
    house.sync()
    assert house.account.contacts_by_email()["ann@example.com"]["firstName"] == "Anna"


def test_the_same_event_is_applied_once_also_after_a_restart(house: House, post: Post) -> None:
    loaded(house, row(1, "ann@example.com"), groups=["Customers"])
    with inbox.opened(house.state) as box:
        letter = inbox.Letter("evt_1", "email.unsubscribed", b"{}")
        assert box.put([letter, letter], now_s=1) == 1
    with inbox.opened(house.state) as box:
        assert box.put([letter], now_s=2) == 0
        box.applied([box.waiting(1)[0].seq], kept=[], now_s=3)
        assert box.put([letter], now_s=4) == 0
        assert box.waiting_count() == 0


def test_an_id_is_known_for_a_month_and_what_waits_is_never_dropped(house: House) -> None:
    letters = [inbox.Letter(f"evt_{n}", "email.unsubscribed", b"{}") for n in range(3)]
    with inbox.opened(house.state) as box:
        box.put(letters, now_s=1)
        first, _, last = (one.seq for one in box.waiting(3))
        box.applied([first], kept=[], now_s=10)
        box.applied([last], kept=[], now_s=10 + inbox.ID_KEEP_S)
        assert box.put(letters, now_s=11) == 0
        box.applied([], kept=[], now_s=11 + inbox.ID_KEEP_S)
        assert box.put(letters, now_s=12) == 1  # the first came long ago; the second still waits
        assert box.waiting_count() == 2


def test_events_wait_while_somebody_holds_the_state(house: House, post: Post) -> None:
    loaded(house, row(1, "ann@example.com"), groups=["Customers"])
    with hold(house.state, wait_s=0, clock=house.clock):
        assert post.tell("email.unsubscribed", "ann@example.com") == [200]
        with pytest.raises(StateBusy):
            post.apply()
        assert post.waiting() == 1
    post.apply()
    assert post.waiting() == 0


def test_a_plan_knows_what_was_told_and_leaves_it_waiting(house: House, post: Post) -> None:
    loaded(house, row(1, "ann@example.com"), groups=["Customers"])
    post.tell("email.unsubscribed", "ann@example.com")
    house.account.add_group("Drip", dynamic=True)
    house.configure(groups=["Customers", "Drip"])
    planned, _ = house.plan()
    assert planned.enrol == 0
    assert post.waiting() == 1


def test_unknown_events_are_kept_and_known_ones_leave_no_words(house: House, post: Post) -> None:
    loaded(house, row(1, "ann@example.com"), groups=["Customers"])
    post.tell("email.sent", "ann@example.com")
    post.tell("email.replied", "ann@example.com")
    post.apply()
    with closing(sqlite3.connect(str(house.state) + ".inbox")) as db:
        kept = dict(db.execute("SELECT type,body IS NOT NULL FROM event"))
    assert kept == {"email.sent": 1, "email.replied": 0}


def test_whoever_is_forgotten_leaves_no_trace_in_the_inbox(house: House, post: Post) -> None:
    loaded(house, row(1, "ann@example.com"), groups=["Customers"])
    post.tell("email.sent", "ann@example.com")
    post.apply()
    post.tell("email.replied", "ann@example.com")  # this one waits
    with FluenzR("flz_sk_" + "a" * 32, base_url=house.sandbox.url, clock=house.clock) as api:
        problems = forget(
            house.settings, "ann@example.com", api=api, clock=house.clock, watch=Nobody(), wait_s=0
        )
    assert problems == []
    post.send("email.sent", {"contactId": "con_1", "contactEmail": "ann@example.com"})
    post.apply()
    written = b"".join(found.read_bytes() for found in Path(house.folder).glob("syncd.db*"))
    assert b"ann@example.com" not in written
    assert ids(house) == {}


def test_the_inbox_is_for_its_owner_only(house: House, post: Post) -> None:
    assert inbox.exists(house.state)
    assert Path(str(house.state) + ".inbox").stat().st_mode & 0o077 == 0

"""The sandbox's listings under readings that leave the order, the filter or the total of them open."""

from typing import Any

import httpx
import pytest

from syncd.sandbox import Quirks, Sandbox
from syncd.testing.clock import FakeClock

KEY = "flz_sk_" + "a" * 32
OLD, MID, NEW = ("old@example.com", "mid@example.com", "new@example.com")


def ask(query: dict[str, Any], **quirks: Any) -> httpx.Response:
    """Three people, of whom two unsubscribe, the older one last; the answer to a listing."""
    clock = FakeClock()
    sandbox = Sandbox(clock=clock, quirks=Quirks(**quirks))
    for email in (OLD, MID, NEW):
        clock.advance_s(1)
        sandbox.account.add_contact(email)
    for email in (MID, OLD):
        clock.advance_s(1)
        sandbox.account.opt_out(email)
    with sandbox.serve():
        headers = {"Authorization": f"Bearer {KEY}"}
        return httpx.get(f"{sandbox.url}/contacts", params=query, headers=headers, trust_env=False)


def emails(answer: httpx.Response) -> list[str]:
    return [contact["email"] for contact in answer.json()["data"]]


@pytest.mark.parametrize(
    ("quirks", "expected"),
    [
        ({}, [OLD, MID, NEW]),
        ({"opt_out_moves": False}, [NEW, MID, OLD]),
        ({"sort_updated": "ignored"}, [OLD, MID, NEW]),
        ({"sort_updated": "ignored", "opt_out_moves": False}, [OLD, MID, NEW]),
    ],
)
def test_newest_changes_first(quirks: dict[str, Any], expected: list[str]) -> None:
    assert emails(ask({"sort": "updatedAt", "order": "desc"}, **quirks)) == expected


def test_sort_by_change_may_be_refused() -> None:
    assert ask({"sort": "updatedAt"}, sort_updated="refused").status_code == 400
    assert ask({"sort": "createdAt"}, sort_updated="refused").status_code == 200


@pytest.mark.parametrize(
    ("reading", "total"), [("right", 2), ("absent", None), ("everybody", 3), ("page", 1)]
)
def test_total_of_a_status(reading: str, total: int | None) -> None:
    answer = ask({"status": "unsubscribed", "perPage": 1}, status_total=reading)
    assert answer.json()["meta"].get("total") == total
    assert ask({"perPage": 1}, status_total=reading).json()["meta"]["total"] == 3


def test_status_filter_may_be_ignored() -> None:
    assert len(emails(ask({"status": "unsubscribed"}))) == 2
    assert len(emails(ask({"status": "unsubscribed"}, status_filter="ignored"))) == 3

"""EspoCRM against its double: values, logins, limits, failures. The numbers are those of what a real server answered."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from doubles.espocrm import KEY, SECRET, EspoCrm, problem
from doubles.server import Told
from espocrm_reads import OUT, connector, crm, cursor, fields, keys, read
from pydantic import ValidationError

from connectors.espocrm import EspocrmConnector
from syncd.connector import Record, Request
from syncd.core.expression import ExpressionError, compile_expression
from syncd.errors import SourceDenied, SourceError, SourceRefused
from syncd.testing import conformance
from syncd.testing.conformance import ConnectorSuite

__all__ = ["crm"]  # the fixture


# Values


def test_only_what_is_asked_for_comes_though_espocrm_sends_more(crm: EspoCrm) -> None:
    """20, 21: `select` always adds some names; without it nearly everything comes."""
    assert fields(read(crm, None, "firstName"), "a") == {"firstName": "Pa"}
    everything = next(
        e for e in connector(crm).read(Request()) if isinstance(e, Record) and e.key == "a"
    ).fields
    assert {"firstName", "emailAddress", OUT, "modifiedAt", "_owner", "_lists"} <= set(everything)
    assert "targetListIsOptedOut" not in everything  # 16: false by default, and no answer


def test_an_opt_out_that_is_null_was_not_told(crm: EspoCrm) -> None:
    """18: of somebody without an address; "not opted out" it is not."""
    crm.put("Contact", "f", firstName="No address")
    shown = fields(read(crm), "f")
    assert shown == {"emailAddress": None}
    preset = connector(crm).preset()
    says = compile_expression(preset.opted_out, strict=True).read
    assert not says(shown)  # so `syncd` says: no address
    assert says({"emailAddress": "a@example.com", OUT: True}) is True
    with pytest.raises(ExpressionError):
        says({"emailAddress": "a@example.com"})


def test_the_title_is_the_role_in_the_account(crm: EspoCrm) -> None:
    """14: what was typed in is not shown without one."""
    crm.put("Account", "x1", name="Example SA")
    crm.put("Contact", "a", title="Boss")
    crm.put("Contact", "b", title="Boss", accountId="x1")
    events = read(crm, None, "title")
    assert [fields(events, key)["title"] for key in "ab"] == [None, "Boss"]


def test_company_and_owner_are_joined_in_batches(crm: EspoCrm) -> None:
    for number in range(130):
        crm.put("Account", f"x{number:03}", name=f"Firm {number}", website="example.com")
        crm.put("Contact", f"f{number:03}", f"f{number}@example.com", accountId=f"x{number:03}")
    crm.put("User", "u1", "olga@example.com", name="Olga")
    crm.put("Contact", "a", assignedUserId="u1", accountId="x007")
    crm.delete("Account", "x009")
    crm.asked.clear()
    events = read(crm, None, "_company", "_owner")
    company = {"id": "x007", "name": "Firm 7", "website": "example.com"}
    owner = {"id": "u1", "name": "Olga", "email": "olga@example.com"}
    assert fields(events, "a") == {"_company": company, "_owner": owner}
    assert fields(events, "b") == {"_company": None, "_owner": None}
    assert fields(events, "f009")["_company"] == {"id": "x009", "name": "Firm 9"}
    assert crm.paths().count("GET /api/v1/Account") == 3  # 130, at most 50 at once


def test_leads_are_people_too(crm: EspoCrm) -> None:
    crm.put("Lead", "a", "lead@example.com", accountName="Lead SA", website="lead.example.com")
    crm.put("Lead", "b", "other@example.com", website="", accountName=None)
    names = ("_entity", "_company", "website", "emailAddress")
    events = read(crm, None, *names, entities=["Contact", "Lead"])
    lead = fields(events, "Lead:a")
    assert lead["_entity"] == "Lead"
    assert lead["_company"] == {"id": None, "name": "Lead SA", "website": "lead.example.com"}
    assert fields(events, "Lead:b")["_company"] is None
    assert fields(events, "a")["_entity"] == "Contact"
    assert "website" not in fields(events, "a")  # contacts have none: not known, not empty


def test_hostile_content_passes_unharmed(crm: EspoCrm) -> None:
    nasty = ["\x00nul", "🦄" * 9, "=cmd|' /C calc'!A0", "a@x.example; b@x.example", "\u202eabc", "n" * 1_000_000]  # fmt: skip
    for number, text in enumerate(nasty):
        crm.put("Contact", f"n{number}", f"n{number}@example.com", lastName=text)
    events = read(crm, None, "lastName")
    assert [fields(events, f"n{n}")["lastName"] for n in range(len(nasty))] == nasty


# Several addresses


def test_each_further_address_is_asked_for_with_its_own_opt_out(crm: EspoCrm) -> None:
    """1: no listing tells them."""
    crm.put("Contact", "a", "a@example.com", "A2@example.com", "a3@example.com")
    crm.opt_out("a2@example.com")
    events = read(crm, None, "emailAddress", OUT, emails="all")
    told = {e.fields["emailAddress"]: e.fields[OUT] for e in events if isinstance(e, Record)}
    assert told["a@example.com"] is False
    assert told["A2@example.com"] is True
    assert told["a3@example.com"] is False
    assert len(keys(read(crm))) == 5
    crm.hidden = {"emailAddressData"}
    with pytest.raises(SourceError, match="emailAddressData"):
        read(crm, None, "emailAddress", OUT, emails="all")


def test_who_has_opted_out_with_the_first_address_has_with_all(crm: EspoCrm) -> None:
    crm.put("Contact", "a", "a@example.com", "a2@example.com")
    crm.opt_out("a@example.com")
    events = read(crm, None, "emailAddress", OUT, emails="all")
    told = {e.fields["emailAddress"]: e.fields[OUT] for e in events if isinstance(e, Record)}
    assert (told["a@example.com"], told["a2@example.com"]) == (True, True)


def test_the_data_of_all_addresses_may_be_used(crm: EspoCrm) -> None:
    crm.put("Contact", "a", "a@example.com", "a2@example.com")
    data = fields(read(crm, None, "emailAddressData"), "a")["emailAddressData"]
    assert [one["emailAddress"] for one in data] == ["a@example.com", "a2@example.com"]


@pytest.mark.parametrize("admin", [False, True])
def test_whoever_is_deleted_since_the_listing_is_left_out(crm: EspoCrm, admin: bool) -> None:
    """5: 404; an administrator is shown the record, with `deleted`."""
    crm.admin = admin

    def delete(asked: Any) -> None:
        if asked.path.endswith("/Contact/b"):
            crm.delete("Contact", "c")

    crm.before_answer = delete
    assert keys(read(crm, emails="all")) == ["a", "b", "d", "e"]


# Logins


@pytest.mark.parametrize("raw", [False, True])
def test_hmac_signs_method_and_path_and_not_the_query(crm: EspoCrm, raw: bool) -> None:
    """4: hex since 8.4.1, raw bytes before; the path is without api/v1; the key alone is not taken."""
    crm.keys, crm.secrets, crm.raw_hmac = set(), {KEY: SECRET}, raw
    login = {"secret": "env:ESPO_SECRET", "digest": "raw" if raw else "hex"}
    assert len(keys(read(crm, emails="all", **login))) == 5
    assert len(keys(read(crm, base_url=f"{crm.url}/api/v1", **login))) == 5
    with pytest.raises(SourceDenied, match="HMAC") as caught:
        read(crm)
    with pytest.raises(SourceDenied):
        read(crm, secret="env:ESPO_SECRET", digest="hex" if raw else "raw")
    assert SECRET not in str(caught.value)
    assert KEY not in str(caught.value)


def test_an_administrator_logs_in_with_a_password(crm: EspoCrm) -> None:
    crm.passwords["admin"] = SECRET
    login = {"token": None, "username": "admin", "password": "env:ESPO_SECRET"}
    assert len(keys(read(crm, **login))) == 5


@pytest.mark.parametrize(
    "options",
    [
        {"token": None},
        {"username": "admin"},
        {"token": None, "username": "admin"},
        {"token": None, "secret": "env:ESPO_SECRET"},
        {"username": "admin", "password": "env:ESPO_SECRET"},
        {"entities": []},
        {"entities": ["Lead", "Lead"]},
        {"entities": ["Account"]},
    ],
)
def test_options_that_do_not_fit_together_are_refused(
    crm: EspoCrm, options: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError):
        connector(crm, **options)


# Limits and failures


def test_a_wrong_key_is_asked_for_once(crm: EspoCrm) -> None:
    """9: 401 has no body and no reason; EspoCRM locks out who tries again and again."""
    crm.keys = {"another"}
    with pytest.raises(SourceDenied, match=r"HTTP 401\. Check the user"):
        connector(crm).check()
    assert len(crm.asked) == 1


def test_reasons_come_from_the_header_or_the_body(crm: EspoCrm) -> None:
    """9."""
    crm.denied = {"Contact"}
    with pytest.raises(SourceDenied, match="No access to Contact scope"):
        read(crm)
    crm.denied = set()
    crm.faults = [None, Told(400, {"messageTranslation": {"label": "wrongDate", "scope": "A"}})]
    with pytest.raises(SourceRefused, match="wrongDate"):
        read(crm)
    crm.faults = [None, problem(500, "Boom."), problem(500, "Boom.")]
    assert len(keys(read(crm))) == 5


def test_a_firewall_that_dislikes_conditions(crm: EspoCrm) -> None:
    first = read(crm)
    crm.firewall = True
    with pytest.raises(SourceDenied, match='where_name = "whereGroup"'):
        read(crm, cursor(first))
    assert keys(read(crm, cursor(first), where_name="whereGroup")) == ["e"]


@pytest.mark.parametrize("counts", [False, True])
@pytest.mark.parametrize("count", [199, 200, 201, 401])
def test_every_page_is_read_and_no_more(crm: EspoCrm, count: int, counts: bool) -> None:
    """10: 200 at once; `total` is -1 while there are more and -2 at the end, or the number where something on the way strips the header."""
    crm.tables["Contact"].clear()
    crm.counts = counts
    for number in range(count):
        crm.put("Contact", f"{number:017x}", f"n{number}@example.com")
    crm.asked.clear()
    assert len(keys(read(crm))) == count
    assert crm.paths().count("GET /api/v1/Contact") == -(-count // 200)
    assert not any("offset" in one.query for one in crm.asked)  # 12
    assert not any("deleted" in one.query.values() for one in crm.asked)  # 6: it is ignored


def test_what_is_not_a_listing_is_no_read(crm: EspoCrm) -> None:
    row = {"id": "a", "modifiedAt": "2026-11-20 10:00:00", "emailAddress": "a@example.com", OUT: False}  # fmt: skip
    for body, words in (
        ({"rows": []}, "without `list`"),
        ({"list": [], "total": -1}, "gives nothing"),
        ({"list": [{**row, "id": "b"}, row], "total": -2}, "order of `id`"),  # 13
        ({"list": [{**row, "id": None}], "total": -2}, "order of `id`"),
    ):
        crm.faults = [None, Told(200, body)]
        with pytest.raises(SourceError, match=words):
            read(crm)
    crm.faults = [None, *[Told(200, {"list": [row], "total": -1})] * 3]
    with pytest.raises(SourceError, match="does not end"):
        read(crm)


def test_a_server_that_tells_no_total_is_read_to_its_end(crm: EspoCrm) -> None:
    answer = crm.answer

    def without_total(asked: Any) -> Told:
        told = answer(asked)
        if isinstance(told.body, dict):
            told.body.pop("total", None)
        return told

    crm.answer = without_total  # type: ignore[method-assign]
    assert len(keys(read(crm))) == 5


# Names


@pytest.mark.parametrize("metadata", ["key", "whole", "denied"])
def test_a_name_that_espocrm_leaves_out_is_missed(crm: EspoCrm, metadata: str) -> None:
    """11: an unknown name in `select` is dropped without a word, and so is what the role hides."""
    crm.metadata = metadata
    with pytest.raises(SourceDenied, match="no `cLevle`"):
        read(crm, None, "cLevle")
    crm.hidden = {OUT}
    with pytest.raises(SourceDenied, match=OUT):
        read(crm)
    with pytest.raises(SourceDenied, match=OUT):
        connector(crm).check()
    crm.hidden = {"modifiedAt"}
    with pytest.raises(SourceDenied, match="modifiedAt"):
        read(crm)
    crm.hidden = {"website"}  # which leads have, and contacts have not
    crm.put("Lead", "z", "z@example.com")
    with pytest.raises(SourceDenied, match="website"):
        read(crm, None, "website", entities=["Contact", "Lead"])


@pytest.mark.parametrize("metadata", ["key", "whole", "denied"])
def test_fields_come_from_the_metadata_and_from_a_row(crm: EspoCrm, metadata: str) -> None:
    crm.metadata = metadata
    crm.put("Lead", "z", "z@example.com")
    names = {one.name for one in connector(crm, entities=["Contact", "Lead"]).fields()}
    assert {"firstName", "emailAddress", OUT, "cLevel", "accountId", "website", "id"} <= names
    if metadata != "denied":
        assert {"teamsIds", "addressCity", "emailAddressData", "middleName"} <= names
        return
    crm.tables["Contact"].clear()
    with pytest.raises(SourceError, match="cannot be told"):
        connector(crm).fields()


def test_check_names_what_cannot_be_read(crm: EspoCrm) -> None:
    assert connector(crm).check() == "EspoCRM: Contact can be read"
    crm.denied = {"Account", "User", "TargetList"}
    text = connector(crm, entities=["Contact", "Lead"]).check()
    assert text.startswith("EspoCRM: Contact and Lead can be read, not _company: read access to Account")  # fmt: skip
    assert "not _owner: read access to User is missing" in text
    assert "not _lists: read access to TargetList is missing" in text
    crm.put("Contact", "a", assignedUserId="u1")
    with pytest.raises(SourceDenied, match="User"):
        read(crm, None, "_owner")
    crm.denied = {"Lead"}
    with pytest.raises(SourceDenied, match="read access to Lead"):
        connector(crm, entities=["Contact", "Lead"]).check()


class TestEspocrm(ConnectorSuite):
    """The promises of every connector."""

    many = 1_000

    @pytest.fixture(autouse=True)
    def _double(self) -> Iterator[None]:
        with EspoCrm() as self.crm:
            self.crm.keys = {conformance.SECRET}
            yield

    def source(self, folder: Path, records: Any) -> EspocrmConnector:
        self.crm.tables["Contact"].clear()
        self.crm.broken_after = None
        self.change(folder, records)
        return connector(self.crm, token=conformance.SECRET_REFERENCE)

    def break_source(self, folder: Path) -> None:
        self.crm.broken_after = len(self.crm.asked) + 4

    def change(self, folder: Path, records: Any) -> None:
        self.crm.clock.advance_s(60)
        for row in records:
            self.crm.put("Contact", row["id"], row["email"], name=row["name"])
        self.crm.clock.advance_s(60)

"""Salesforce against its double: logins, values, opt-outs, full reads by queries; the promises of every connector."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from doubles.salesforce import Salesforce, problem, queries, sid
from doubles.server import Told
from salesforce_org import (
    BOTH,
    IDS,
    LOGIN,
    NUMBERS,
    connector,
    fields,
    keys,
    merged,
    org_of_seven,
    read,
)

from connectors.salesforce import SalesforceOptions
from syncd.connector import Request
from syncd.errors import ConfigError, SourceDenied, SourceError
from syncd.http import parse_time
from syncd.testing import conformance
from syncd.testing.conformance import ConnectorSuite


@pytest.fixture
def org(monkeypatch: pytest.MonkeyPatch) -> Iterator[Salesforce]:
    with org_of_seven(monkeypatch) as double:
        yield double


# Logins


def test_the_login_says_where_the_org_lives(org: Salesforce) -> None:
    with Salesforce(org.clock) as elsewhere:
        elsewhere.answer = lambda asked: Told(  # type: ignore[method-assign]
            200, {"access_token": "session-1", "instance_url": org.url}
        )
        assert keys(read(org, login_url=elsewhere.url)) == IDS
        assert {one.path for one in elsewhere.asked} == {"/services/oauth2/token"}


@pytest.mark.parametrize("told", [None, "ftp://example.com", "https://example.com", 5])
def test_a_login_without_a_usable_instance_is_no_read(org: Salesforce, told: Any) -> None:
    """Not over https where the login was: then somebody else answers."""
    org.faults = [Told(200, {"access_token": "session-1", "instance_url": told})]
    with pytest.raises(SourceError, match="instance_url"):
        read(org)


def test_an_ended_session_is_renewed_once(org: Salesforce) -> None:
    first = connector(org)
    assert len(list(first.read(Request()))) > 7
    org.tokens.clear()
    assert len(list(first.read(Request()))) > 7
    ended = problem(401, "INVALID_SESSION_ID", "Session expired or invalid")
    org.faults = [ended, None, ended]
    with pytest.raises(SourceDenied, match="the app is blocked"):
        list(first.read(Request()))


def test_client_credentials_are_a_login_of_their_own(org: Salesforce) -> None:
    assert keys(read(org, refresh_token=None)) == IDS
    assert org.asked[0].form["grant_type"] == "client_credentials"


def test_a_refresh_token_that_rotates_is_kept_in_its_file(org: Salesforce, tmp_path: Path) -> None:
    file = tmp_path / "refresh"
    file.write_text("refresh-1\n")
    org.rotating = True
    for _ in range(2):
        assert keys(read(org, refresh_token=f"file:{file}")) == IDS
        assert file.read_text().strip() == org.refresh_token
    assert org.refresh_token != "refresh-1"


def test_a_refresh_token_that_rotates_and_cannot_be_kept_is_an_error(org: Salesforce) -> None:
    org.rotating = True
    with pytest.raises(ConfigError, match="replaced the refresh token"):
        read(org)


def test_a_revoked_refresh_token_is_named(org: Salesforce, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SF_REFRESH", "revoked-made-up")
    with pytest.raises(SourceDenied, match="invalid_grant") as caught:
        read(org)
    assert "revoked-made-up" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"client_secret": None, "refresh_token": None}, "client_secret, and refresh_token"),
        ({"refresh_token": None, "login_url": "https://login.salesforce.com"}, "own domain"),
        ({"objects": []}, "at least 1"),
        ({"objects": ["Contact", "Contact"]}, "once"),
        ({"objects": ["Contact WHERE"]}, "'Contact' or 'Lead'"),
        ({"api_version": "62.0/../.."}, "pattern"),
        ({"api_version": "46.0"}, "pattern"),
        ({"overlap_minutes": 0}, "greater than or equal"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], words: str) -> None:
    given = {k: v for k, v in {**LOGIN, **options}.items() if v is not None}
    with pytest.raises(ValueError, match=words):
        SalesforceOptions.model_validate(given)


# Values


def test_values_are_what_they_mean(org: Salesforce) -> None:
    org.put(
        "Contact",
        1,
        HasOptedOutOfEmail=True,
        Score__c=10.0,
        Since__c="2026-11-20T10:15:30.000+0000",
    )
    org.put("Contact", 2, Score__c=80.5, FirstName=None)
    names = ("HasOptedOutOfEmail", "Score__c", "Since__c", "FirstName")
    events = read(org, None, *names)
    since = parse_time("2026-11-20T10:15:30Z")
    assert fields(events, IDS[0]) == {
        "HasOptedOutOfEmail": True, "Score__c": 10, "Since__c": since, "FirstName": "P1",
    }  # fmt: skip
    two = fields(events, IDS[1])
    assert (two["HasOptedOutOfEmail"], two["Score__c"], two["FirstName"]) == (False, 80.5, None)


def test_company_owner_and_individual_come_along(org: Salesforce) -> None:
    account = org.put("Account", 9, Name="Example SA", Website="https://example.com")
    owner = org.put("User", 77, Name="Olga O.", Email="o@example.com")
    person = org.put("Individual", 5, HasOptedOutSolicit=True)
    org.put("Contact", 1, AccountId=account, OwnerId=owner, IndividualId=person)
    events = read(org, None, "_company", "_owner", "_individual")
    assert fields(events, IDS[0]) == {
        "_company": {
            "id": account, "name": "Example SA", "domain": None, "website": "https://example.com",
        },
        "_owner": {"id": owner, "name": "Olga O.", "email": "o@example.com"},
        "_individual": {
            "id": person, "HasOptedOutProcessing": False, "HasOptedOutSolicit": True,
            "ShouldForget": False,
        },
    }  # fmt: skip
    assert fields(events, IDS[1]) == {"_company": None, "_owner": None, "_individual": None}


def test_a_lead_has_its_company_in_itself(org: Salesforce) -> None:
    lead = org.put("Lead", 1, Company="Example SA", Website="https://example.com")
    company = {"id": None, "name": "Example SA", "domain": None, "website": "https://example.com"}
    assert fields(read(org, None, "_company", objects=BOTH), lead) == {"_company": company}


def test_the_account_of_a_person_account_is_no_company(org: Salesforce) -> None:
    """Its name is the person's."""
    org.types["Contact"]["IsPersonAccount"] = "boolean"
    account = org.put("Account", 9, Name="Ada Byron")
    for number in NUMBERS:
        org.put("Contact", number, AccountId=account, IsPersonAccount=number == 1)
    events = read(org, None, "_company")
    assert fields(events, IDS[0]) == {"_company": None}
    assert fields(events, IDS[1])["_company"]["name"] == "Ada Byron"


def test_compound_fields_are_skipped(org: Salesforce) -> None:
    names = [one.name for one in connector(org, objects=BOTH).fields()]
    assert {"Email", "Company"} <= set(names)
    assert not {"MailingAddress", "Address"} & set(names)
    assert len(names) == len(set(names))
    assert len(keys(list(connector(org).read(Request())))) == 7


HOSTILE = [
    '=HYPERLINK("https://example.com")',
    "a@example.com; b@example.com",
    "\u202egro.elpmaxe",
    'Zoë 👩‍👩‍👧 "quoted", and\na new line\r\nand NUL \x00',
    "x" * 1_000_000,
]


@pytest.mark.parametrize("mode", ["on", "off"])
def test_hostile_content_passes_unharmed(org: Salesforce, mode: str) -> None:
    for number, content in enumerate(HOSTILE, 1):
        org.put("Contact", number, Description=content)
    events = read(org, None, "Description", bulk=mode)
    assert [fields(events, key)["Description"] for key in IDS[:5]] == HOSTILE


# Opt-outs


def test_a_hidden_opt_out_ends_the_read(org: Salesforce) -> None:
    """Not shown is not "no": field-level security makes the field vanish."""
    org.hidden.add("Contact.HasOptedOutOfEmail")
    with pytest.raises(SourceDenied, match="HasOptedOutOfEmail of Contact is not shown"):
        read(org, None, "Email", "HasOptedOutOfEmail")
    assert "HasOptedOutOfEmail" not in fields(list(connector(org).read(Request())), IDS[0])
    assert "not HasOptedOutOfEmail of Contact" in connector(org).check()


def test_an_opt_out_that_is_hidden_for_leads_only_ends_the_read(org: Salesforce) -> None:
    org.hidden.add("Lead.HasOptedOutOfEmail")
    with pytest.raises(SourceDenied, match="of Lead"):
        read(org, None, "HasOptedOutOfEmail", objects=BOTH)


def test_an_opt_out_that_is_hidden_during_a_read_ends_it(org: Salesforce) -> None:
    def hide(asked: Any) -> None:
        if "/query" in asked.path:
            org.hidden.add("Contact.HasOptedOutOfEmail")

    org.before_answer = hide
    with pytest.raises(SourceDenied, match=r"INVALID_FIELD.*HasOptedOutOfEmail"):
        read(org, None, "HasOptedOutOfEmail")


def test_a_hidden_opt_out_of_an_individual_ends_the_read(org: Salesforce) -> None:
    org.hidden.add("Individual.HasOptedOutSolicit")
    with pytest.raises(SourceDenied, match=r"Individual\.HasOptedOutSolicit"):
        read(org, None, "_individual")
    assert "_individual" not in fields(list(connector(org).read(Request())), IDS[0])


@pytest.mark.parametrize("value", [None, ""])
def test_an_opt_out_without_a_value_is_not_known(org: Salesforce, value: Any) -> None:
    org.put("Contact", 1, HasOptedOutOfEmail=value)
    assert fields(read(org, None, "HasOptedOutOfEmail"), IDS[0]) == {}


def test_an_opt_out_of_another_kind_is_no_read(org: Salesforce) -> None:
    org.put("Contact", 1, HasOptedOutOfEmail="N")
    with pytest.raises(SourceError, match="neither true nor false"):
        read(org, None, "HasOptedOutOfEmail")


# Queries


def test_pages_end_early_and_their_locators_are_not_needed(org: Salesforce) -> None:
    """Wide rows make short pages; in the double, each locator is dead at once (INVALID_QUERY_LOCATOR)."""
    org.page_rows = 2
    assert keys(read(org)) == IDS
    assert not [path for path in org.paths() if "/query/" in path]


def test_rows_that_come_and_go_between_pages_do_no_harm(org: Salesforce) -> None:
    for number in range(1, 4_501):
        org.put("Contact", number, Email=f"p{number}@example.com")

    def touch(asked: Any) -> None:
        if asked.path.endswith("/query"):
            org.clock.advance_s(5)
            org.tables["Contact"].pop(sid("Contact", 3), None)
            org.put("Contact", 4_600, Email="new@example.com")

    org.before_answer = touch
    found = keys(read(org))
    assert set(found) >= {sid("Contact", n) for n in range(4, 4_501)}
    assert len(found) == len(set(found))


def test_more_fields_than_a_url_holds_are_asked_for_in_a_body(org: Salesforce) -> None:
    org.types["Contact"] |= {f"Custom_{n:03}_{'x' * 60}__c": "string" for n in range(300)}
    for number in NUMBERS:
        org.put("Contact", number)
    events = list(connector(org).read(Request()))
    assert keys(events) == IDS
    assert len(fields(events, IDS[0])) > 300
    assert any(path.endswith("/composite") for path in org.paths())


def test_an_error_within_a_composite_answer_is_an_error(org: Salesforce) -> None:
    org.types["Contact"] |= {f"Custom_{n:03}_{'x' * 60}__c": "string" for n in range(300)}

    def hide(asked: Any) -> None:
        if asked.path.endswith("/composite"):
            org.hidden.add("Contact.Email")

    org.before_answer = hide
    with pytest.raises(SourceDenied, match="INVALID_FIELD"):
        list(connector(org).read(Request()))


def test_a_name_that_is_none_never_gets_into_a_query(org: Salesforce) -> None:
    evil = "Id FROM User--"
    org.types["Contact"][evil] = "string"
    for number in NUMBERS:
        org.put("Contact", number)
    assert evil not in [one.name for one in connector(org).fields()]
    assert keys(read(org, None, "Email", evil, "Name' OR Id != '")) == IDS
    assert not [one for one in queries(org.asked) if "User" in one or " OR " in one]


def test_an_id_that_is_none_never_gets_into_a_query(org: Salesforce) -> None:
    org.faults = [
        None,
        None,
        None,
        Told(
            200,
            {
                "done": False,
                "records": [dict.fromkeys(org.types["Contact"]) | {"Id": "x' OR Id != '"}],
            },
        ),
    ]
    with pytest.raises(SourceError, match="without an id"):
        read(org, bulk="off")


def test_the_same_page_again_is_no_read(org: Salesforce) -> None:
    row = dict.fromkeys(org.types["Contact"]) | {"Id": IDS[0], "SystemModstamp": "x"}
    page = {"totalSize": 1, "done": False, "records": [row]}
    org.faults = [None, None, None, *[Told(200, page)] * 3]
    with pytest.raises(SourceError, match="does not end"):
        read(org, bulk="off")


def test_rows_without_what_was_asked_for_are_no_read(org: Salesforce) -> None:
    page = {"totalSize": 1, "done": True, "records": [{"Id": IDS[0]}]}
    org.faults = [None, None, None, Told(200, page)]
    with pytest.raises(SourceError, match="lack Email, IsDeleted"):
        read(org, bulk="off")


def test_an_empty_page_that_is_not_the_last_is_no_read(org: Salesforce) -> None:
    org.faults = [None, None, None, Told(200, {"totalSize": 9, "done": False, "records": []})]
    with pytest.raises(SourceError, match="empty, and not the last"):
        read(org, bulk="off")


def test_who_was_merged_before_a_full_read_is_told(org: Salesforce) -> None:
    """Else an opt-out of the loser would be lost whenever the daily full read comes first."""
    org.merge("Contact", IDS[0], IDS[1])
    org.merge("Contact", IDS[1], IDS[2])
    events = read(org)
    assert keys(events) == IDS[2:]
    assert merged(events) == [(IDS[0], IDS[2]), (IDS[1], IDS[2])]


class TestSalesforce(ConnectorSuite):
    """The promises of every connector."""

    many = 2_500

    @pytest.fixture(autouse=True)
    def _double(self) -> Iterator[None]:
        with Salesforce() as self.org:
            self.org.put("Account", 1, Name="Example SA")
            yield

    def source(self, folder: Path, records: Any) -> Any:
        self.org.tables["Contact"].clear()
        self.org.broken_after = None
        self.change(folder, records)
        secret = conformance.SECRET_REFERENCE
        return connector(self.org, client_secret=secret, refresh_token=None)

    def break_source(self, folder: Path) -> None:
        self.org.broken_after = len(self.org.asked) + 14

    def change(self, folder: Path, records: Any) -> None:
        self.org.clock.advance_s(60)
        for row in records:
            self.org.put("Contact", row["id"], Email=row["email"], LastName=row["name"])
        self.org.clock.advance_s(60)

    def remove(self, folder: Path, record: Any) -> None:
        self.org.delete("Contact", self.key_of(record))
        self.org.clock.advance_s(60)

    def merge(self, folder: Path, loser: Any, winner: Any) -> None:
        self.org.merge("Contact", self.key_of(loser), self.key_of(winner))
        self.org.clock.advance_s(60)

    def key_of(self, record: Any) -> str:
        return sid("Contact", record["id"])

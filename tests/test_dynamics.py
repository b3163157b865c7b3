"""Dynamics 365 against its double: what a record holds, everybody, the login, failures; the promises of every connector."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from doubles.dynamics import Dynamics, gid, problem
from doubles.server import Told
from dynamics_org import BOTH, IDS, connector, fields, gone, keys, merged, org_of_seven, read
from pydantic import ValidationError

from connectors.dynamics import DynamicsOptions, vendor
from connectors.dynamics.reading import JOINED
from syncd.connector import Request
from syncd.core.mapping import FieldRule, MappingRules, compile_mapping
from syncd.errors import SourceDenied, SourceError, SourceRefused, SourceTooLarge
from syncd.http import HttpClient, parse_time
from syncd.testing import conformance
from syncd.testing.conformance import ConnectorSuite

HOSTILE = "a\x00b \N{PILE OF POO} =1+1 \u202eabc two@example.com; three@example.com"


@pytest.fixture
def org(monkeypatch: pytest.MonkeyPatch) -> Iterator[Dynamics]:
    with org_of_seven(monkeypatch) as double:
        yield double


# Values


def test_values_keep_their_kind(org: Dynamics) -> None:
    org.put("contact", 1, revenue=12.5, new_customer=True, industrycode=7, birthdate="1990-02-03",
            createdon="2026-01-05T10:00:00Z", jobtitle="", new_topics="1,2")  # fmt: skip
    found = fields(
        read(org, None, "revenue", "new_customer", "industrycode", "birthdate", "createdon", "jobtitle", "new_topics"),
        IDS[0],
    )  # fmt: skip
    assert found == {
        "revenue": 12.5, "new_customer": True, "industrycode": 7, "birthdate": "1990-02-03",
        "createdon": parse_time("2026-01-05T10:00:00Z"), "jobtitle": "", "new_topics": "1,2",
    }  # fmt: skip


def test_labels_come_under_the_names_of_the_metadata(org: Dynamics) -> None:
    user = org.put("systemuser", 5, fullname="Olga Owner", internalemailaddress="o@example.com")
    org.put("contact", 1, industrycode=7, _ownerid_value=user)
    wanted = ("industrycodename", "statecodename", "ownerid", "owneridname", "donotemailname")
    assert fields(read(org, None, *wanted), IDS[0]) == {
        "industrycodename": "Consulting", "statecodename": "Active", "ownerid": user,
        "owneridname": "Olga Owner", "donotemailname": "No",
    }  # fmt: skip
    assert fields(read(org, None, *wanted), IDS[1])["industrycodename"] is None


def test_fields_are_columns_that_can_be_selected(org: Dynamics) -> None:
    found = {field.name: field.label for field in connector(org, tables=BOTH).fields()}
    assert found["emailaddress1"] == "Emailaddress1"
    assert {"owneridname", "companyname", "contactid", "leadid", "new_topics"} <= set(found)
    assert not {"entityimage", "owneridtype", "owneridyominame"} & set(found)
    whole = list(connector(org, tables=BOTH).read(Request()))
    assert set(fields(whole, IDS[0])) <= set(found) | connector(org).ABILITIES.joins


def test_company_and_owner_are_joined(org: Dynamics) -> None:
    account = org.put("account", 9, name="Example SA", websiteurl="www.Example.com/en")
    user = org.put("systemuser", 5, fullname="Olga Owner", internalemailaddress="o@example.com")
    team = org.put("team", 6, name="Sales", emailaddress="sales@example.com")
    org.put("contact", 1, _parentcustomerid_value=account, _ownerid_value=user)
    org.put("contact", 2, _parentcustomerid_value=IDS[0], _ownerid_value=team)
    events = read(org, None, "_company", "_owner")
    company = {
        "id": account,
        "name": "Example SA",
        "domain": "example.com",
        "website": "www.Example.com/en",
    }
    assert fields(events, IDS[0]) == {
        "_company": company,
        "_owner": {"id": user, "name": "Olga Owner", "email": "o@example.com"},
    }
    # A parent that is a person is no company.
    assert fields(events, IDS[1]) == {
        "_company": None,
        "_owner": {"id": team, "name": "Sales", "email": "sales@example.com"},
    }


def test_a_company_or_owner_that_is_not_shown_is_not_known(org: Dynamics) -> None:
    account = org.put("account", 9, name="Example SA")
    org.put("contact", 1, _parentcustomerid_value=account, _ownerid_value=gid("systemuser", 77))
    org.hidden = {account}
    events = read(org, None, "_company", "_owner")
    assert fields(events, IDS[0]) == {}
    assert fields(events, IDS[1]) == {"_company": None}


def test_a_leads_company_is_its_own_text(org: Dynamics) -> None:
    key = org.put("lead", 1, companyname="Example SA", websiteurl="https://example.com")
    bare = org.put("lead", 2)
    events = read(org, None, "_company", tables=["lead"])
    assert fields(events, key)["_company"]["name"] == "Example SA"
    assert fields(events, bare)["_company"] is None


def test_an_opt_out_that_may_not_be_seen_is_not_known(org: Dynamics) -> None:
    """A secured column comes as null for who may not see it: not known is not false."""
    org.put("contact", 1, donotemail=True)
    wanted = ("donotemail", "donotbulkemail", "_opted_out")
    assert fields(read(org, None, *wanted), IDS[0]) == {
        "donotemail": True, "donotbulkemail": False, "_opted_out": True,
    }  # fmt: skip
    org.masked = {"donotemail"}
    assert fields(read(org, None, *wanted), IDS[0]) == {"donotbulkemail": False}
    assert "donotemail of contact is a secured column" in connector(org).check()


def test_an_opt_out_that_is_null_is_not_known(org: Dynamics) -> None:
    """Rows that were imported may lack it; nobody has said that they may be mailed."""
    org.put("contact", 1, donotemail=None)
    assert fields(read(org, None, "donotemail", "_opted_out"), IDS[0]) == {}


def test_any_secured_column_that_is_null_is_not_known(org: Dynamics) -> None:
    org.masked = {"new_customer", "jobtitle"}
    assert fields(read(org, None, "new_customer", "jobtitle", "firstname"), IDS[0]) == {
        "firstname": "P"
    }
    org.masked = set()
    assert fields(read(org, None, "new_customer", "jobtitle"), IDS[0]) == {
        "new_customer": None,
        "jobtitle": None,
    }


def test_an_opt_out_that_is_no_boolean_is_no_read(org: Dynamics) -> None:
    org.put("contact", 1, donotemail="maybe")
    with pytest.raises(SourceError, match="neither true nor false"):
        read(org, None, "donotemail")
    assert "_opted_out" not in fields(read(org, None, "_opted_out"), IDS[0])


@pytest.mark.parametrize("flag", ["donotemail", "donotbulkemail"])
def test_either_flag_opts_out(org: Dynamics, flag: str) -> None:
    org.put("contact", 1, **{flag: True})
    events = read(org, None, "_opted_out")
    assert [fields(events, key)["_opted_out"] for key in IDS[:2]] == [True, False]


def test_the_preset_maps_a_person(org: Dynamics) -> None:
    account = org.put("account", 9, name="Example SA")
    org.put("contact", 1, lastname="Byron", jobtitle="CTO", mobilephone="+41 44 000 00 01",
            websiteurl="https://example.com", _parentcustomerid_value=account)  # fmt: skip
    org.put("contact", 2, donotbulkemail=True)
    preset = connector(org).preset()
    rules = [
        FieldRule(name, path=source) if isinstance(source, str) else FieldRule(name, **source)
        for name, source in preset.fields.items()
    ]
    mapping = compile_mapping(MappingRules(tuple(rules), opted_out=preset.opted_out))
    assert mapping.names <= {one.name for one in connector(org).fields()} | set(JOINED)
    found = list(connector(org).read(Request(fields=mapping.names)))
    wanted: Any = mapping.map(fields(found, IDS[0]))
    assert (wanted.email, wanted.fields) == ("p1@example.com", {
        "firstName": "P", "lastName": "Byron", "company": "Example SA", "jobTitle": "CTO",
        "phone": "+41 44 000 00 01", "website": "https://example.com",
    })  # fmt: skip
    assert "opted out" in repr(mapping.map(fields(found, IDS[1])))
    org.masked = {"donotemail"}
    hidden = list(connector(org).read(Request(fields=mapping.names)))
    assert "blocked" in repr(mapping.map(fields(hidden, IDS[2])))


def test_hostile_values_pass_unharmed(org: Dynamics) -> None:
    org.put("contact", 1, description=HOSTILE + "x" * 1_000_000, lastname=HOSTILE)
    found = fields(read(org, None, "description", "lastname"), IDS[0])
    assert found == {"description": HOSTILE + "x" * 1_000_000, "lastname": HOSTILE}


def test_further_addresses_are_people_where_they_are_wanted(org: Dynamics) -> None:
    org.put("contact", 1, emailaddress2="second@example.org", emailaddress3="P1@example.com")
    assert len(keys(read(org))) == 7
    events = read(org, None, "emailaddress1", emails="all")
    assert keys(events)[:3] == [IDS[0], f"{IDS[0]}#2", IDS[1]]
    assert fields(events, f"{IDS[0]}#2") == {"emailaddress1": "second@example.org"}


# Everybody


def test_everybody_comes_page_by_page(org: Dynamics) -> None:
    for number in range(8, 31):
        org.put("contact", number, emailaddress1=f"p{number}@example.com")
    org.rows_max = 10
    assert keys(read(org)) == [gid("contact", number) for number in range(1, 31)]


def test_inactive_people_and_merged_ones_do_not_come(org: Dynamics) -> None:
    org.put("contact", 1, statecode=1)
    org.merge("contact", 2, 3)
    org.merge("contact", 3, 4)
    events = read(org)
    assert keys(events) == IDS[3:]
    assert merged(events) == [(IDS[1], IDS[3]), (IDS[2], IDS[3])]
    assert gone(events) == []


def test_a_qualified_lead_has_become_its_contact(org: Dynamics) -> None:
    lead = org.put("lead", 1, emailaddress1="l1@example.com")
    open_lead = org.put("lead", 2, emailaddress1="l2@example.com")
    org.put("lead", 1, statecode=1)
    org.put("contact", 1, _originatingleadid_value=lead)
    org.put("contact", 2, _originatingleadid_value=open_lead)
    events = read(org, tables=BOTH)
    assert keys(events) == [open_lead, *IDS]
    assert merged(events) == [(lead, IDS[0])]


def test_wide_tables_come_in_smaller_pages(org: Dynamics) -> None:
    read(org)
    read(org, None, "firstname", page_rows=100)
    org.columns["contact"] |= {f"new_{number}": "String" for number in range(250)}
    list(connector(org).read(Request()))
    sizes = [
        asked.headers["prefer"].split(",")[0]
        for asked in org.asked
        if "$orderby" in asked.query and asked.path.endswith("/contacts")
    ]
    assert sizes[:2] == ["odata.maxpagesize=5000", "odata.maxpagesize=100"]
    assert int(sizes[2].partition("=")[2]) < 1000


def test_very_many_columns_are_not_named(org: Dynamics) -> None:
    """A URL has its limit: then all columns come."""
    org.columns["contact"] |= {f"new_a_long_name_of_a_column_{n}": "String" for n in range(700)}
    org.put("contact", 1, new_a_long_name_of_a_column_699="here")
    for cursor in (None, '{"v":1}'):
        events = list(connector(org).read(Request(cursor=cursor)))
        assert fields(events, IDS[0])["new_a_long_name_of_a_column_699"] == "here"


def test_a_first_page_that_is_too_large_is_asked_for_in_parts(
    org: Dynamics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(HttpClient.__init__.__kwdefaults__, "body_bytes_max", 200_000)
    monkeypatch.setattr(vendor, "PAGE_ROWS_MIN", 1)
    for number in range(1, 31):
        org.put("contact", number, description="x" * 40_000)
    assert len(keys(read(org, None, "description", page_rows=20))) == 30
    org.put("contact", 15, description="x" * 300_000)
    with pytest.raises(SourceTooLarge, match="page_rows = 1"):
        read(org, None, "description", page_rows=2)


def test_columns_that_are_not_in_the_metadata_are_not_asked_for(org: Dynamics) -> None:
    del org.columns["contact"]["emailaddress3"]
    assert len(keys(read(org, None, "emailaddress1", "emailaddress3", "nothing"))) == 7


# Login, limits, failures


def test_a_token_is_fetched_once_and_renewed_once(org: Dynamics) -> None:
    source = connector(org)
    for _ in range(2):
        list(source.read(Request()))
    assert org.handed_out == 1
    org.tokens = {"revoked"}
    assert len(keys(list(source.read(Request())))) == 7
    assert org.handed_out == 2
    org.clock.advance_s(2 * 3600)
    list(source.read(Request()))
    assert org.handed_out == 3
    org.faults = [problem(401, "0x80040220", "Unauthorized")]  # the code of a missing privilege
    list(source.read(Request()))
    assert org.handed_out == 4


def test_a_wrong_secret_is_denied(org: Dynamics) -> None:
    org.secret = "another-made-up"
    with pytest.raises(SourceDenied, match="invalid_client"):
        connector(org).check()


def test_who_is_no_user_of_the_environment_is_told_what_to_do(org: Dynamics) -> None:
    org.faults = [None, problem(403, "0x80072560", "The user is not a member of the organization.")]
    with pytest.raises(SourceDenied, match="application user"):
        connector(org).check()


def test_check_names_what_is_missing(org: Dynamics) -> None:
    assert connector(org).check() == (
        "Dynamics 365: contact can be read, changes and deletions of contact are tracked"
    )
    org.denied = {"account", "systemuser", "list", "msdynmkt_contactpointconsent4"}
    words = connector(org).check()
    for join, table in (
        ("_company", "account"), ("_owner", "systemuser"), ("_lists", "list"),
        ("_opted_out", "msdynmkt_contactpointconsent4"),
    ):  # fmt: skip
        assert f"not {join}: a security role that may read the table {table}" in words
    org.denied = {"contact"}
    with pytest.raises(SourceDenied, match="may read the table contact"):
        connector(org).check()


def test_check_says_why_deletions_cannot_be_seen(org: Dynamics) -> None:
    org.organization = False
    assert "show in a full read only: the user may not read all rows" in connector(org).check()
    org.tracked = set()
    assert "show in a full read only: change tracking is off" in connector(org).check()


def test_an_environment_without_sales_has_no_leads_and_lists(org: Dynamics) -> None:
    for name in ("lead", "list"):
        del org.tables[name]
    assert "not _lists: the environment has no table list" in connector(org).check()
    assert len(keys(list(connector(org).read(Request())))) == 7
    for fault in (lambda: read(org, None, "_lists"), lambda: read(org, tables=BOTH),
                  lambda: connector(org, tables=BOTH).check()):  # fmt: skip
        with pytest.raises(SourceError, match="has no table"):
            fault()


def test_what_nobody_asked_for_by_name_is_left_out_where_it_is_denied(org: Dynamics) -> None:
    org.put("contact", 1, donotemail=True)
    org.denied = {"account", "systemuser", "list", "msdynmkt_contactpointconsent4"}
    found = fields(list(connector(org).read(Request())), IDS[0])
    assert not {"_company", "_owner", "_lists", "_opted_out"} & set(found)
    for join in ("_company", "_owner", "_lists", "_opted_out"):
        org.put("contact", 1, _ownerid_value=gid("systemuser", 1), _parentcustomerid_value=None)
        if join != "_company":  # of nobody there is a company here
            with pytest.raises(SourceDenied):
                read(org, None, join)


def test_throttling_is_waited_for_as_told(org: Dynamics) -> None:
    started = org.clock.now_s()
    limit = problem(429, "0x80072322", "Number of requests exceeded the limit of 6000",
                    **{"Retry-After": "37"})  # fmt: skip
    org.faults = [None, limit, None, limit]
    assert len(keys(read(org))) == 7
    assert 74 <= org.clock.now_s() - started < 80


def test_a_wait_longer_than_patience_ends_the_read(org: Dynamics) -> None:
    """A window has five minutes: asking while waiting lengthens it [S2]."""
    limit = problem(429, "0x80072321", "Combined execution time", **{"Retry-After": "290"})
    org.faults = [None, limit]
    with pytest.raises(SourceError, match="left alone for 290 seconds"):
        read(org)
    assert len(org.asked) == 2


def test_the_last_requests_of_a_window_are_asked_slowly(org: Dynamics) -> None:
    started = org.clock.now_s()
    header = {"x-ms-ratelimit-burst-remaining-xrm-requests": "20"}
    org.faults = [None, Told(200, {"value": [
        {"LogicalName": "contact", "EntitySetName": "contacts", "PrimaryIdAttribute": "contactid",
         "ChangeTrackingEnabled": True}]}, header)]  # fmt: skip
    assert len(keys(read(org))) == 7
    assert org.clock.now_s() - started >= 1


def test_a_refusal_has_the_words_of_dataverse(org: Dynamics) -> None:
    words = "Could not find a property named 'x' on type 'contact', says ann@example.com"
    org.faults = [None, None, None, None, problem(400, "0x80060888", words)]
    with pytest.raises(SourceRefused, match=r"0x80060888: Could not find .*says \(address\)"):
        read(org)


@pytest.mark.parametrize(
    "link",
    [
        "https://elsewhere.example.com/api/data/v9.2/contacts?$skiptoken=x",
        "{url}/other/contacts?$skiptoken=x",
        "//elsewhere.example.com/api/data/v9.2/contacts",
        "contacts?$skiptoken=x",
    ],
)
def test_a_link_to_elsewhere_is_not_followed(org: Dynamics, link: str) -> None:
    page = {"value": [], "@odata.nextLink": link.replace("{url}", org.url)}
    org.faults = [None, None, None, None, Told(200, page)]
    with pytest.raises(SourceError, match="outside of base_url"):
        read(org)
    assert len(org.asked) == 5


def test_a_link_is_followed_as_it_stands(org: Dynamics) -> None:
    """A plus may be a space or a plus: whoever writes the link anew has to guess."""
    query = "$select=contactid&$skiptoken=%3Ccookie%20page=%222%22+a=%2b%20/%3e"
    link = f"/api/data/v9.2/contacts?{query}"
    page = {"value": [], "@odata.nextLink": f"{org.url}{link}"}
    org.faults = [None, None, None, None, Told(200, page), Told(200, {"value": []})]
    read(org)
    assert link in [one.target for one in org.asked]


def test_the_same_link_again_is_no_read(org: Dynamics) -> None:
    page = {"value": [], "@odata.nextLink": f"{org.url}/api/data/v9.2/contacts?$skiptoken=same"}
    org.faults = [None, None, None, None, *[Told(200, page)] * 5]
    with pytest.raises(SourceError, match="does not end"):
        read(org)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"rows": []}, "without `value`"),
        ([], "without an object"),
        ({"value": [{"contactid": "1 or 1 eq 1"}]}, "that is a GUID"),
        ({"value": [{"contactid": IDS[0]}]}, "without a state"),
    ],
)
def test_answers_unlike_any_that_are_known_are_no_read(
    org: Dynamics, body: Any, words: str
) -> None:
    org.faults = [None, None, None, None, Told(200, body)]
    with pytest.raises(SourceError, match=words):
        read(org)


def test_options_are_checked() -> None:
    given = {"base_url": "https://x.example.com", "client_id": "a", "client_secret": "env:A"}
    for wrong in ({}, {"tenant": "a/b"}, {"tenant": "t", "tables": ["lead", "lead"]},
                  {"tenant": "t", "tables": []}, {"tenant": "t", "page_rows": 5001}):  # fmt: skip
        with pytest.raises(ValidationError):
            DynamicsOptions.model_validate({**given, **wrong})
    assert DynamicsOptions.model_validate({**given, "tenant": "example.com"}).tables == ("contact",)


class TestDynamics(ConnectorSuite):
    """The promises of every connector."""

    many = 1_500

    @pytest.fixture(autouse=True)
    def _double(self) -> Iterator[None]:
        with Dynamics() as self.org:
            self.org.secret = conformance.SECRET
            self.org.rows_max = 500
            yield

    def source(self, folder: Path, records: Any) -> Any:
        self.org.tables["contact"].clear()
        self.org.broken_after = None
        self.change(folder, records)
        return connector(self.org, client_secret=conformance.SECRET_REFERENCE)

    def break_source(self, folder: Path) -> None:
        # Behind metadata and joins (9), the token (3), and two of three pages.
        self.org.broken_after = len(self.org.asked) + (14 if self.org.tracked else 11)

    def change(self, folder: Path, records: Any) -> None:
        self.org.clock.advance_s(60)
        for row in records:
            self.org.put("contact", row["id"], emailaddress1=row["email"], lastname=row["name"])
        self.org.clock.advance_s(60)

    def remove(self, folder: Path, record: Any) -> None:
        self.org.delete("contact", int(record["id"]))

    def merge(self, folder: Path, loser: Any, winner: Any) -> None:
        self.org.merge("contact", loser["id"], winner["id"])

    def key_of(self, record: Any) -> str:
        return gid("contact", record["id"])


class TestDynamicsByTime(TestDynamics):
    """The same without change tracking; deletions show in a full read only."""

    @pytest.fixture(autouse=True)
    def _untracked(self, _double: None) -> None:
        self.org.tracked = set()

    def test_a_deletion_is_told(self, tmp_path: Path) -> None:
        pytest.skip("without change tracking a full read finds deletions")

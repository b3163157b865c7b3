"""Airtable against its double: what is read, and what is survived."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airtable_reads import connector, crm_fixture, cursor, fields, numbers, read, reason
from doubles.airtable import BASE, COMPANIES, PEOPLE, Airtable, column, looked_up, problem, rec
from doubles.server import Told
from pydantic import ValidationError

from connectors.airtable import AirtableConnector, AirtableOptions
from syncd.connector import Record, Request, SourceField, Tombstone
from syncd.core.mapping import FieldRule, MappingRules, compile_mapping
from syncd.core.model import Skipped, SkipReason
from syncd.errors import SourceDenied, SourceError, SourceExhausted, SourceRefused
from syncd.init import suggest, suggest_opt_out
from syncd.testing import conformance
from syncd.testing.conformance import ConnectorSuite

__all__ = ["crm_fixture"]


def listings(crm: Airtable) -> list[Any]:
    """The requests for people's records."""
    return [one for one in crm.asked if one.path.endswith(PEOPLE)]


# Values


def test_a_cell_that_was_asked_for_and_left_out_is_empty(crm: Airtable) -> None:
    crm.put(1, Unsubscribed=True, Tags=["Hot", "Cold"], First_name="Ada")
    events = read(crm, None, "Unsubscribed", "Tags", "First name")
    assert fields(events, rec(1)) == {
        "Unsubscribed": True, "Tags": ["Hot", "Cold"], "First name": "Ada",
    }  # fmt: skip
    assert fields(events, rec(2)) == {"Unsubscribed": False, "Tags": (), "First name": None}


def test_only_the_columns_in_use_are_asked_for(crm: Airtable) -> None:
    read(crm, None, "Email", "Unsubscribed")
    assert listings(crm)[-1].queries["fields[]"] == ["fldEmail", "fldOut"]
    assert (
        len(numbers(read(crm, None, "_lists"))) == 5
    )  # nothing in use: the smallest of all columns
    assert listings(crm)[-1].queries["fields[]"] == ["fldName"]
    for number in range(350):
        crm.columns().append(column(f"fldX{number:013}", f"X{number}", "singleLineText"))
    assert len(numbers(read(crm, None, *(f"X{number}" for number in range(350))))) == 5
    assert "fields[]" not in listings(crm)[-1].queries  # the URL has room for 300


@pytest.mark.parametrize(
    "value", [{"error": "#ERROR!"}, {"specialValue": "NaN"}, [1, {"error": "?"}]]
)
def test_a_formula_with_an_error_is_not_known(crm: Airtable, value: Any) -> None:
    crm.computed["fldGone"] = lambda row: value if row["id"] == rec(2) else 1
    events = read(crm, None, "Gone")
    assert fields(events, rec(1)) == {"Gone": 1}
    assert fields(events, rec(2)) == {}
    mapping = compile_mapping(
        MappingRules(fields=(FieldRule("email", path="Email"),), opted_out="Gone")
    )
    events = read(crm, None, "Email", "Gone")
    outcome = mapping.map(fields(events, rec(2)))
    assert isinstance(outcome, Skipped)
    assert outcome.reason is SkipReason.BLOCKED


def test_a_column_that_is_broken_is_not_known(crm: Airtable) -> None:
    """Its cells are left out as empty ones are: an opt-out in it would look like none."""
    crm.column("fldBlocked")["options"]["isValid"] = False
    crm.column("fldGone")["options"]["isValid"] = False
    crm.computed = {"fldBlocked": lambda row: None, "fldGone": lambda row: None}
    assert fields(read(crm, None, "Blocked", "Gone"), rec(1)) == {}


def test_lookups_show_one_value_or_all(crm: Airtable) -> None:
    crm.put_company(1, Title="One", Web="https://one.example.com")
    crm.put_company(2, Title="Two", Web="https://two.example.com", Stop=True)
    crm.put(1, Company=[rec(1)])
    crm.put(2, Company=[rec(1), rec(2)])
    crm.computed["fldBlocked"] = lambda row: {1: [None], 2: [None, True]}.get(int(row["id"][3:]))
    events = read(crm, None, "Company site", "Blocked")
    one, two = "https://one.example.com", "https://two.example.com"
    assert fields(events, rec(1)) == {"Company site": one, "Blocked": False}
    assert fields(events, rec(2)) == {"Company site": [one, two], "Blocked": True}
    assert fields(events, rec(3)) == {"Company site": None, "Blocked": False}


def test_links_show_names(crm: Airtable) -> None:
    crm.put_company(1, Title="Example SA")
    crm.put_company(2, Title=None)
    crm.put(1, Company=[rec(1)])
    crm.put(2, Company=[rec(2)])
    crm.put(4, Company=[rec(77)])  # it was deleted meanwhile
    events = read(crm, None, "Company")
    assert [fields(events, rec(n)) for n in (1, 2, 3, 4)] == [
        {"Company": "Example SA"}, {"Company": None}, {"Company": None}, {"Company": None},
    ]  # fmt: skip
    crm.column("fldCompany")["options"]["prefersSingleRecordLink"] = False
    crm.computed["fldCompany"] = lambda row: [{"id": rec(1)}]  # as with dependencies of dates
    assert fields(read(crm, None, "Company"), rec(1)) == {"Company": ["Example SA"]}
    crm.computed["fldTitle"] = lambda row: {"error": "#ERROR!"}
    assert fields(read(crm, None, "Company"), rec(1)) == {}
    crm.column("fldCompany")["options"]["linkedTableId"] = "tblHIDDEN"
    assert fields(read(crm, None, "Company"), rec(1)) == {"Company": [{"id": rec(1)}]}


def test_company_and_owner_are_joined(crm: Airtable) -> None:
    crm.put_company(1, Title="Example SA", Web="https://example.com")
    person = {"id": "usr1", "name": "Olga", "email": "o@example.com"}
    crm.put(1, Company=[rec(1)], Owner={**person, "profilePicUrl": "https://example.com/p"})
    events = read(crm, None, "_company", "_owner", "Owner", company="Company", owner="Owner")
    company = {
        "id": rec(1),
        "name": "Example SA",
        "website": "https://example.com",
        "domain": "example.com",
    }
    assert fields(events, rec(1)) == {"_company": company, "_owner": person, "Owner": person}
    assert fields(events, rec(2)) == {"_company": None, "_owner": None, "Owner": None}
    with pytest.raises(SourceError, match="neither links nor collaborators"):
        read(crm, None, "_company", company="Email")
    with pytest.raises(SourceError, match="no column 'Compnay'"):
        connector(crm, company="Compnay").check()


def test_files_collaborators_and_what_else_is_an_object(crm: Airtable) -> None:
    """Links to files end after two hours: with them every record would be another one in each read."""
    crm.columns().extend(
        [
            column("fldFiles", "Files", "multipleAttachments"),
            column("fldCode", "Code", "barcode"),
            column("fldButton", "Button", "button"),
            column("fldTeam", "Team", "multipleCollaborators"),
            column("fldAi", "AI", "aiText"),
            column("fldNew", "New", "quantumText"),
            looked_up("fldAiOf", "AI of it", "fldAi", "aiText"),
        ]
    )
    file = {"id": "att1", "filename": "a.pdf", "size": 1, "type": "application/pdf"}
    state = {"state": "generated", "isStale": False, "value": "Hello"}
    crm.computed = {
        "fldFiles": lambda row: [{**file, "url": f"https://example.com/{crm.now()}"}],
        "fldCode": lambda row: {"text": "123", "type": "ean8"},
        "fldButton": lambda row: {"label": "Go", "url": "https://example.com"},
        "fldTeam": lambda row: [{"id": "usr1", "email": "t@example.com", "name": "T"}],
        "fldAi": lambda row: state if row["id"] == rec(1) else {**state, "state": "error"},
        "fldNew": lambda row: {"anything": [1, {"x": "y"}]},
        "fldAiOf": lambda row: [state],
    }
    events = read(crm, None, "Files", "Code", "Button", "Team", "AI", "New", "AI of it")
    found = fields(events, rec(1))
    assert found == {
        "Files": [file],
        "Code": "123",
        "Button": "https://example.com",
        "Team": [{"id": "usr1", "email": "t@example.com", "name": "T"}],
        "AI": "Hello",
        "New": {"anything": [1, {"x": "y"}]},
        "AI of it": "Hello",
    }
    assert "AI" not in fields(events, rec(2))
    crm.clock.advance_s(3600)
    assert fields(read(crm, None, "Files"), rec(1)) == {"Files": [file]}


def test_each_column_of_addresses_makes_a_person(crm: Airtable) -> None:
    crm.put(1, Private_e_mail="a@example.org", Unsubscribed=True)
    crm.put(2, Private_e_mail="P2@example.com")  # the same one again
    crm.put(3, Email=None, Private_e_mail="c@example.org")
    emails = ["Email", "Private e-mail"]
    events = read(crm, None, "_email", "Unsubscribed", emails=emails)
    found = {e.key: dict(e.fields) for e in events if isinstance(e, Record)}
    assert found[rec(1)] == {"_email": "p1@example.com", "Unsubscribed": True}
    assert found[f"{rec(1)}#fldOther"] == {"_email": "a@example.org", "Unsubscribed": True}
    assert f"{rec(2)}#fldOther" not in found
    assert found[rec(3)]["_email"] is None
    assert found[f"{rec(3)}#fldOther"]["_email"] == "c@example.org"
    keys = [event.key for event in events if isinstance(event, Record)]
    assert [e.key for e in read(crm, None, "Name", emails=emails) if isinstance(e, Record)] == keys
    first = cursor(events)
    crm.clock.advance_s(3600)
    crm.put(1, Private_e_mail=None)
    assert Tombstone(f"{rec(1)}#fldOther") in read(
        crm, first, "_email", "Unsubscribed", emails=emails
    )


def test_views_are_lists(crm: Airtable) -> None:
    crm.views = {"Newsletter": {rec(1), rec(2)}, "Customers": {rec(2)}, "Everybody": set()}
    events = read(crm, None, "_lists", views=["Newsletter", "Customers"])
    assert [fields(events, rec(n))["_lists"] for n in (1, 2, 3)] == [
        ["Newsletter"], ["Newsletter", "Customers"], [],
    ]  # fmt: skip
    assert "_lists" not in fields(
        list(connector(crm).read(Request())), rec(1)
    )  # none was asked for
    with pytest.raises(SourceError, match="no view 'Newslettre'"):
        connector(crm, views=["Newslettre"]).check()


def test_a_column_never_hides_what_is_joined(crm: Airtable) -> None:
    crm.columns().append(column("fldFake", "_lists", "singleLineText"))
    crm.computed["fldFake"] = lambda row: "VIP"
    assert "_lists" not in fields(list(connector(crm).read(Request())), rec(1))
    assert "_lists" not in {one.name for one in connector(crm).fields()}


# What `init` and `check` say


def test_init_finds_columns_by_name_or_kind(crm: Airtable) -> None:
    crm.column("fldEmail")["name"] = "Kontakt"
    crm.columns().append(column("fldTel", "Ruf", "phoneNumber"))
    found = connector(crm).fields()
    assert SourceField("Kontakt", "email", holds="email") in found
    assert suggest(found) == {
        "email": "Kontakt", "firstName": "First name", "lastName": "Name", "company": "Company", "phone": "Ruf",
    }  # fmt: skip
    assert suggest_opt_out(found) == "Unsubscribed"
    assert connector(crm).preset() is None


def test_check_names_what_is_missing(crm: Airtable) -> None:
    found = connector(crm).check()
    assert found == "Airtable: the table 'People' with 11 columns can be read"
    crm.denied = {"schema.bases:read"}
    with pytest.raises(SourceDenied, match=r"schema\.bases:read, and this base"):
        connector(crm).check()
    crm.denied = {"data.records:read"}
    with pytest.raises(SourceDenied, match=r"data\.records:read, and this base"):
        connector(crm).check()
    crm.denied = set()
    with pytest.raises(SourceError, match="'People', 'Companies'"):
        connector(crm, table="Poeple").check()
    with pytest.raises(SourceDenied, match="this base"):
        connector(crm, base="appOTHER").check()
    assert "5" not in connector(crm, table=COMPANIES).check()


def test_options_that_cannot_work_are_refused() -> None:
    base = {"base": BASE, "table": "People"}
    app = {"client_id": "id", "client_secret": "env:S"}
    for wrong in (
        base,
        {**base, "base": "https://airtable.com/app1", "token": "env:T"},
        {**base, "token": "env:T", "client_id": "id"},
        {**base, **app, "refresh_token": "env:R"},  # the new one could not be kept
    ):
        with pytest.raises(ValidationError):
            AirtableOptions.model_validate(wrong)
    AirtableOptions.model_validate({**base, **app, "refresh_token": "file:r"})


# Limits and failures


def test_a_long_read_keeps_to_five_requests_a_second(crm: Airtable) -> None:
    for number in range(1, 2_501):
        crm.put_company(number, Title=f"C{number}")
        crm.put(number, Company=[rec(number)])
    events = read(crm, None, "Company")
    assert len(numbers(events)) == 2_500
    assert crm.throttled == 0
    assert len(crm.asked) == 51


def test_after_a_429_nothing_is_asked_for_half_a_minute(crm: Airtable) -> None:
    """Whoever asks meanwhile is not answered, and begins to wait anew."""
    now_s = crm.now()
    crm.penalty_ends_s = now_s + 30
    assert len(numbers(read(crm))) == 5
    assert crm.throttled == 1
    assert crm.now() - now_s >= 30
    crm.penalty_ends_s = crm.now() + 1e9
    with pytest.raises(SourceError, match="RATE_LIMIT_REACHED"):
        read(crm)
    assert crm.throttled <= 6


def test_the_months_requests_end_the_read_at_once(crm: Airtable) -> None:
    for number in range(1, 501):
        crm.put(number, Email=f"p{number}@example.com")
    crm.calls_left = 2
    with pytest.raises(SourceExhausted, match="next month"):
        read(crm)
    assert len(crm.asked) == 4


def test_a_listing_that_is_forgotten_begins_anew(crm: Airtable) -> None:
    """Each record comes once all the same."""
    for number in range(1, 551):
        crm.put(number, Email=f"p{number}@example.com")
    seen = 0

    def forget(asked: Any) -> None:
        nonlocal seen
        seen += "offset" in asked.query
        if "offset" in asked.query and seen in {3, 5}:
            crm.forget()
            crm.delete(501 + seen)

    crm.before_answer = forget
    events = read(crm)
    assert sorted(numbers(events)) == [n for n in range(1, 551) if n not in {504, 506}]
    assert cursor(events)


def test_a_listing_that_is_forgotten_for_ever_is_no_read(crm: Airtable) -> None:
    for number in range(1, 551):
        crm.put(number, Email=f"p{number}@example.com")
    crm.before_answer = lambda asked: crm.forget()
    with pytest.raises(SourceError, match="forgotten again and again"):
        read(crm)
    assert len(crm.asked) == 1 + 5 * 2


def test_a_reader_that_is_slow_is_not_cut_short(crm: Airtable) -> None:
    """The engine may take its time between two pages, and Airtable forgets."""
    for number in range(1, 351):
        crm.put(number, Email=f"p{number}@example.com")
    found = []
    for event in connector(crm).read(Request(fields=frozenset({"Email"}))):
        found.append(event)
        if len(found) == 150:
            crm.clock.advance_s(600)
    assert len(numbers(found)) == len(set(numbers(found))) == 350


def test_rows_that_change_between_pages_come_once(crm: Airtable) -> None:
    for number in range(1, 351):
        crm.put(number, Email=f"p{number}@example.com", First_name="Old")
    crm.clock.advance_s(3600)

    def touch(asked: Any) -> None:
        if "offset" in asked.query:
            for number in (1, 150, 349):
                crm.put(number, First_name="New")
            crm.rows[PEOPLE].pop(rec(200), None)
            crm.put(400, First_name="New")

    crm.before_answer = touch
    first = read(crm, None, "First name")
    crm.before_answer = lambda asked: None
    assert len(numbers(first)) == len(set(numbers(first)))
    second = read(crm, cursor(first), "First name")
    shown = {e.key: e.fields["First name"] for e in [*first, *second] if isinstance(e, Record)}
    assert [shown[rec(n)] for n in (1, 150, 349, 400)] == ["New"] * 4
    assert set(shown) >= {rec(n) for n in range(1, 351) if n != 200}


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (Told(200, b"<html>Sign in</html>", {"Content-Type": "text/html"}), "not JSON"),
        (Told(200, {"items": []}), "without `records`"),
        (Told(200, {"records": [7]}), "without `records`"),
        (Told(200, {"records": [{"id": rec(1)}]}), "without the cells"),
        (Told(200, {"records": [{"id": "", "fields": {}}]}), "without an id"),
        (Told(200, {"records": [{"id": "rec'1", "fields": {}}]}), "without an id"),
        (Told(200, {"records": [], "offset": "itr1/rec1"}), "does not end"),
        (Told(200, {"records": [{"id": rec(1), "fields": {}}], "offset": "x"}), "does not end"),
        (problem(500, "SERVER_ERROR", "oops"), "failed 5 times"),
        (problem(401, "AUTHENTICATION_REQUIRED", "no"), "refuses the login"),
        (Told(404, {"error": "NOT_FOUND"}), "NOT_FOUND"),
        (problem(422, "UNKNOWN_FIELD_NAME", "gone meanwhile"), "UNKNOWN_FIELD_NAME"),
    ],
)
def test_an_answer_that_is_not_airtables_is_no_read(crm: Airtable, told: Told, words: str) -> None:
    crm.faults = [None, *[told] * 5]
    with pytest.raises(SourceError, match=words):
        read(crm)


@pytest.mark.parametrize(
    "body", [{}, [], {"tables": None}, {"tables": [{}]}, {"tables": [{"id": "t", "fields": [1]}]}]
)
def test_a_schema_that_is_none_is_no_read(crm: Airtable, body: Any) -> None:
    crm.faults = [Told(200, body)]
    with pytest.raises(SourceError, match="base_url"):
        read(crm)


def test_cells_under_other_names_are_no_empty_cells(crm: Airtable) -> None:
    """Else everybody would seem to have taken an opt-out back."""
    crm.by_name = True
    with pytest.raises(SourceError, match="without the cells"):
        read(crm)
    for number in range(350):
        crm.columns().append(column(f"fldX{number:013}", f"X{number}", "singleLineText"))
    with pytest.raises(SourceError, match="without the cells"):
        list(connector(crm).read(Request()))


def test_awkward_values_come_through(crm: Airtable) -> None:
    crm.put(1, Name="A\x00da \U0001f600", First_name="\ud83d", Tags=["x" * 10_000])
    double = {"id": rec(9), "fields": {"fldEmail": "a@example.com"}}
    found = fields(read(crm, None, "Name", "First name", "Tags"), rec(1))
    assert found["Name"] == "A\x00da \U0001f600"
    assert found["First name"] == "�"
    crm.faults = [None, Told(200, {"records": [double, double]})]
    assert numbers(read(crm)) == [9]


def test_an_integration_keeps_its_refresh_token(
    crm: Airtable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airtable replaces it at each use; the old one is dead."""
    monkeypatch.setenv("SECRET", "client-made-up")
    file = tmp_path / "refresh"
    file.write_text(crm.refresh)
    login = {
        "token": None, "token_url": f"{crm.url}/oauth2/v1/token", "client_id": "id",
        "client_secret": "env:SECRET", "refresh_token": f"file:{file}",
    }  # fmt: skip
    for _ in range(2):
        assert len(numbers(read(crm, **login))) == 5
    assert file.read_text().strip() == crm.refresh == "refresh-made-up-3"
    file.write_text("refresh-revoked")
    with pytest.raises(SourceDenied, match="invalid_grant") as caught:
        read(crm, **login)
    assert "refresh-revoked" not in str(caught.value)


def test_a_refused_request_is_told_in_airtables_words(crm: Airtable) -> None:
    crm.faults = [None, problem(422, "INVALID_REQUEST_UNKNOWN", "Invalid request")]
    with pytest.raises(SourceRefused, match="INVALID_REQUEST_UNKNOWN: Invalid request"):
        read(crm)
    assert reason(read(crm)) == ""


class TestAirtable(ConnectorSuite):
    """The promises of every connector."""

    many = 600

    @pytest.fixture(autouse=True)
    def _double(self) -> Iterator[None]:
        with Airtable() as self.crm:
            self.crm.tokens = {conformance.SECRET}
            yield

    def source(self, folder: Path, records: Any) -> AirtableConnector:
        self.crm.rows[PEOPLE].clear()
        self.crm.broken_after = None
        self.change(folder, records)
        return connector(self.crm, token=conformance.SECRET_REFERENCE)

    def break_source(self, folder: Path) -> None:
        self.crm.broken_after = len(self.crm.asked) + 4

    def change(self, folder: Path, records: Any) -> None:
        self.crm.clock.advance_s(60)
        for row in records:
            self.crm.put(int(row["id"]), Email=row["email"], Name=row["name"])
        self.crm.clock.advance_s(60)

    def key_of(self, record: Any) -> str:
        return rec(int(record["id"]))

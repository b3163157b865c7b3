"""Odoo against its double: who is read, with which values, company, owner, names and addresses; and the promises of a connector."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from doubles.odoo_query import shown
from odoo_reads import KEY, Odoo, connector, cursor, fields, keys, read

from connectors.odoo import OdooConnector
from connectors.odoo.person import addresses, mentioned
from syncd.connector import Record, Request
from syncd.core.mapping import FieldRule, MappingRules, compile_mapping
from syncd.http import parse_time
from syncd.testing import conformance
from syncd.testing.conformance import ConnectorSuite

VERSIONS = [14, 19]


@pytest.fixture(params=VERSIONS)
def odoo(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Odoo]:
    monkeypatch.setenv("ODOO_KEY", KEY)
    with Odoo(version=request.param) as double:
        for key in range(1, 8):
            double.put(key, email=f"p{key}@example.com", name=f"Pia P{chr(64 + key)}")
        yield double


# Who is a person


def test_companies_nameless_addresses_archived_and_internal_users_are_no_people(odoo: Odoo) -> None:
    odoo.put(10, is_company=True, name="Example SA")
    odoo.put(11, type="delivery", name=None, parent_id=10)
    odoo.put(12, partner_share=False, name="Olga Owner")
    odoo.put(13, active=False, name="OdooBot")
    odoo.put(
        14, name="Portal Customer", user_ids=[9]
    )  # a login of a customer: partner_share is true
    odoo.put(15, type="other", name="Second Office")
    assert keys(read(odoo)) == [*map(str, range(1, 8)), "14", "15"]
    assert "12" in keys(read(odoo, internal_users=True))


def test_without_partner_share_whoever_has_a_user_is_internal(odoo: Odoo) -> None:
    del odoo.schema["res.partner"]["partner_share"]
    odoo.put(12, user_ids=[3])
    first = read(odoo)
    assert keys(first) == [*map(str, range(1, 8))]
    assert "12" not in keys(read(odoo, cursor(first)))
    assert "12" in keys(read(odoo, internal_users=True))


# Values


def test_false_is_empty_for_every_type_but_a_boolean(odoo: Odoo) -> None:
    odoo.put(1, email="", x_vip=True)
    names = ("email", "phone", "x_vip", "x_score", "country_id", "parent_id", "create_date")
    found = fields(read(odoo, None, *names), 1)
    assert found == {
        "email": "",
        "phone": None,
        "x_vip": True,
        "x_score": 0,
        "country_id": None,
        "parent_id": None,
        "create_date": parse_time(shown(odoo.clock.now_s())),
    }
    assert fields(read(odoo, None, "x_vip"), 2) == {"x_vip": False}


def test_links_have_an_id_and_a_name(odoo: Odoo) -> None:
    odoo.add("res.country", 75, name="France")
    odoo.put(1, country_id=75)
    assert fields(read(odoo, None, "country_id"), 1) == {"country_id": {"id": 75, "name": "France"}}


def test_no_field_is_asked_for_that_this_odoo_lacks(odoo: Odoo) -> None:
    """`mobile` and `title` are gone in 19, where asking for them is an error of the server."""
    odoo.put(1, phone=None, mobile="+41 44 000 00 01")
    found = fields(read(odoo, None, "mobile", "title", "_phone"), 1)
    if odoo.version >= 19:
        assert found == {"_phone": None}
    else:
        assert found == {"mobile": "+41 44 000 00 01", "title": None, "_phone": "+41 44 000 00 01"}


def test_all_fields_are_those_that_are_stored_and_no_pictures(odoo: Odoo) -> None:
    found = list(connector(odoo).read(Request()))
    names = set(fields(found, 1))
    assert {"name", "comment", "_company", "_lists"} <= names
    assert not names & {"image_1920", "total_invoiced", "message_ids"}
    assert "image_1920" not in {one.name for one in connector(odoo).fields()}
    assert fields(read(odoo, None, "total_invoiced"), 1) == {"total_invoiced": 0}


def test_hostile_texts_pass_unharmed(odoo: Odoo) -> None:
    texts = {
        "name": "\u202eevil\u202c \U0001f4a5",
        "function": '=HYPERLINK("http://example.com")',
        "phone": "\x00+41",
        "company_name": "<script>alert(1)</script>",
        "comment": "x" * 1_000_000,
    }
    for key in range(1, 60):
        odoo.put(key, email="a@example.com; b@example.com", **texts)
    found = read(odoo, None, "email", *texts)
    assert fields(found, 59) == {"email": "a@example.com; b@example.com", **texts}
    assert len(keys(found)) == 59


# Names and addresses


def test_names_may_stay_whole_or_come_from_fields_of_their_own(odoo: Odoo) -> None:
    odoo.put(1, name="Ada Byron")
    whole = read(odoo, None, "_first_name", "_last_name", names="whole")
    assert fields(whole, 1) == {"_first_name": "Ada Byron", "_last_name": None}
    odoo.schema["res.partner"] |= {"firstname": {"type": "char"}, "lastname": {"type": "char"}}
    odoo.put(2, name="Grace Brewster Hopper", firstname="Grace Brewster", lastname="Hopper")
    found = read(odoo, None, "_first_name", "_last_name")
    assert fields(found, 2) == {"_first_name": "Grace Brewster", "_last_name": "Hopper"}
    assert fields(found, 1) == {"_first_name": "Ada", "_last_name": "Byron"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a@example.com", ["a@example.com"]),
        ("A@example.com, b@example.com", ["A@example.com", "b@example.com"]),
        (
            "a@example.com;b@example.com b2@example.com",
            ["a@example.com", "b@example.com", "b2@example.com"],
        ),
        ("Ann <a@example.com>", ["a@example.com"]),
        ('"old@example.com" <a@example.com>', ["a@example.com"]),
        ('"Byron, Ada" <a@example.com>, Bob <b@example.com>', ["a@example.com", "b@example.com"]),
        ("old@example.com <a@example.com>", ["a@example.com"]),
        ("mailto:a@example.com", ["a@example.com"]),
        ("o'brien@example.com", ["o'brien@example.com"]),
        ("a@example.com (work)", ["a@example.com"]),
        ("a@example.com, A@Example.com", ["a@example.com"]),
        ("none", []),
        ("", []),
        (False, []),
        ("x" * 5_000 + "@example.com", []),
    ],
)
def test_addresses_in_one_text(text: Any, expected: list[str]) -> None:
    assert addresses(text) == expected


def test_an_opt_out_may_mean_any_address_that_is_mentioned() -> None:
    assert mentioned('"Old@example.com" <a@example.com>') == ["old@example.com", "a@example.com"]
    assert mentioned("a@example.com/b@example.com") == ["a@example.com", "b@example.com"]
    assert mentioned("x" * 5_000) is None


def test_hostile_address_texts_take_no_time() -> None:
    for text in ("a" * 4_000, "<" * 4_000, '"' * 3_999, "@" * 4_000, "a@" * 2_000, "(" * 4_000):
        addresses(text)
        mentioned(text)


def test_the_first_address_is_the_person_and_others_where_they_are_wanted(odoo: Odoo) -> None:
    odoo.put(1, email="Ann <a@example.com>, b@example.com")
    odoo.put(2, email="nobody")
    found = read(odoo, None, "_email", "email")
    assert fields(found, 1) == {
        "_email": "a@example.com",
        "email": "Ann <a@example.com>, b@example.com",
    }
    assert fields(found, 2)["_email"] == "nobody"  # so that it is reported as no address
    events = read(odoo, None, "_email", "phone", emails="all")
    further = [e for e in events if isinstance(e, Record) and e.key.startswith("1#")]
    assert [e.fields["_email"] for e in further] == ["b@example.com"]
    assert [e.key for e in further] == [k for k in keys(read(odoo, emails="all")) if "#" in k]


# Company and owner


def test_company_and_owner_are_joined_in_batches(odoo: Odoo) -> None:
    odoo.put(
        20,
        is_company=True,
        name="Example SA",
        website="https://www.example.com/about",
        active=False,
    )
    odoo.add("res.users", 9, name="Olga Owner", email="o@example.com", active=False)
    for key in (1, 2, 3):
        odoo.put(key, parent_id=20, user_id=9)
    odoo.put(4, company_name="Free Text Ltd")
    odoo.put(5, parent_id=1, commercial_partner_id=1)  # belongs to a person, which is no company
    found = read(odoo, None, "_company", "_owner")
    company = {
        "id": "20",
        "name": "Example SA",
        "domain": "example.com",
        "website": "https://www.example.com/about",
    }
    owner = {"id": "9", "name": "Olga Owner", "email": "o@example.com"}
    assert fields(found, 1) == {"_company": company, "_owner": owner}
    free = {"id": None, "name": "Free Text Ltd", "domain": None, "website": None}
    assert fields(found, 4) == {"_company": free, "_owner": None}
    assert fields(found, 5)["_company"] is None
    assert fields(found, 6) == {"_company": None, "_owner": None}
    bodies = [asked.body for asked in odoo.asked]
    assert sum(b"is_company" in body and b"website" in body for body in bodies) == 1
    assert sum(b"res.users" in asked.body or "res.users" in asked.path for asked in odoo.asked) == 1


def test_of_a_company_that_may_not_be_read_the_name_is_known_and_nothing_else(odoo: Odoo) -> None:
    odoo.put(1, parent_id=99)
    odoo.put(2, user_id=98)
    found = read(odoo, None, "_company", "_owner")
    assert fields(found, 1)["_company"] == {"id": "99", "name": "res.partner,99"}
    assert fields(found, 2)["_owner"] == {"id": "98", "name": "res.users,98"}


# Leads, and the preset


def test_leads_are_read_by_their_own_fields(odoo: Odoo) -> None:
    tag = odoo.add("crm.tag", name="Hot")
    odoo.add(
        "crm.lead",
        5,
        name="100 chairs",
        contact_name="Ada Byron",
        partner_name="Example SA",
        email_from="Ada <ada@example.com>",
        tag_ids=[tag],
    )
    odoo.blacklist("ada@example.com")
    names = ("_email", "_first_name", "_company", "_tags", "_opted_out")
    found = read(odoo, None, *names, model="crm.lead")
    assert keys(found) == ["5"]
    assert fields(found, 5) == {
        "_email": "ada@example.com",
        "_first_name": "Ada",
        "_company": {"id": None, "name": "Example SA", "domain": None, "website": None},
        "_tags": ["Hot"],
        "_opted_out": True,
    }


def test_the_preset_maps_a_person(odoo: Odoo) -> None:
    odoo.put(20, is_company=True, name="Example SA", website="https://example.com")
    odoo.put(1, email="Ada <ada@example.com>", name="Ada Byron", function="CTO", parent_id=20)
    odoo.blacklist("p2@example.com")
    preset = connector(odoo).preset()
    rules = [
        FieldRule(name, path=source) if isinstance(source, str) else FieldRule(name, **source)
        for name, source in preset.fields.items()
    ]
    mapping = compile_mapping(MappingRules(tuple(rules), opted_out=preset.opted_out))
    found = list(connector(odoo).read(Request(fields=mapping.names)))
    wanted: Any = mapping.map(fields(found, 1))
    assert wanted.email == "ada@example.com"
    assert wanted.fields == {
        "firstName": "Ada",
        "lastName": "Byron",
        "company": "Example SA",
        "jobTitle": "CTO",
        "phone": None,
        "website": "https://example.com",
    }
    assert "opted out" in repr(mapping.map(fields(found, 2)))
    known = {one.name for one in connector(odoo).fields()} | OdooConnector.ABILITIES.joins
    assert mapping.names <= known


class OdooSuite(ConnectorSuite):
    """The promises of every connector, for one version."""

    many = 300  # all fields are asked for, long texts among them: small pages
    version = 19

    @pytest.fixture(autouse=True)
    def _double(self) -> Iterator[None]:
        with Odoo(version=self.version) as self.odoo:
            self.odoo.key = conformance.SECRET
            yield

    def source(self, folder: Path, records: Any) -> OdooConnector:
        self.odoo.broken_from = None
        for table in self.odoo.tables.values():
            table.clear()
        self.change(folder, records)
        return connector(self.odoo, token=conformance.SECRET_REFERENCE)

    def break_source(self, folder: Path) -> None:
        self.odoo.broken_from = 250

    def change(self, folder: Path, records: Any) -> None:
        self.odoo.clock.advance_s(60)
        for row in records:
            self.odoo.put(int(row["id"]), email=row["email"], name=row["name"])
        self.odoo.clock.advance_s(60)

    def remove(self, folder: Path, record: Any) -> None:
        self.odoo.clock.advance_s(60)
        self.odoo.put(int(record["id"]), active=False)

    def merge(self, folder: Path, loser: Any, winner: Any) -> None:
        self.odoo.clock.advance_s(60)
        self.odoo.merge(int(loser["id"]), int(winner["id"]))


class TestOdoo19(OdooSuite):
    """By JSON-2."""


class TestOdoo14(OdooSuite):
    """By JSON-RPC."""

    version = 14

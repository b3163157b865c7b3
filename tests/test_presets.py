"""Five lines of configuration: what a CRM's own mapping brings to FluenzR, and that `init` writes the same."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from doubles import close, dynamics, espocrm, hubspot, odoo, pipedrive, salesforce, zoho
from doubles.server import Double
from house import House, house_fixture

from syncd import config
from syncd.init import Wish, draft

__all__ = ["house_fixture"]

ADA = "ada@example.com"
TITLE, PHONE, FIRM, SITE = "CTO", "+41 44 000 00 01", "Example SA", "https://example.com"
EXPECTED = {
    "firstName": "Ada", "lastName": "Byron", "company": FIRM, "jobTitle": TITLE, "phone": PHONE,
    "website": SITE,
}  # fmt: skip
CONFIG = """\
[fluenzr]
api_key = "env:SYNCD_TEST_KEY"
base_url = "{url}"

[source.crm]
{source}

[sync.customers]
source = "crm"
"""


@dataclass
class Crm:
    """fill: Ada, with everything, and Bob, who has opted out. options: without `connector`."""

    double: Double
    options: dict[str, str]
    fill: Callable[[Any], None]


def of_hubspot(clock: Any) -> Crm:
    def fill(crm: hubspot.HubSpot) -> None:
        crm.companies[9] = {"name": FIRM, "domain": "example.com", "website": SITE}
        crm.put(1, email=ADA, firstname="Ada", lastname="Byron", jobtitle=TITLE, mobilephone=PHONE,
                associatedcompanyid="9")  # fmt: skip
        crm.put(2, email="bob@example.com", hs_email_optout="true")

    return Crm(hubspot.HubSpot(clock), {"token": hubspot.TOKEN, "base_url": ""}, fill)


def of_pipedrive(clock: Any) -> Crm:
    def fill(crm: pipedrive.Pipedrive) -> None:
        crm.contact_sync = True
        crm.put_organization(9, name=FIRM, website=SITE)
        crm.put(1, ADA, first_name="Ada", last_name="Byron", job_title=TITLE, org_id=9,
                phones=[{"value": PHONE, "primary": True}])  # fmt: skip
        crm.put(2, "bob@example.com", marketing_status="unsubscribed")

    return Crm(pipedrive.Pipedrive(clock), {"token": pipedrive.TOKEN, "base_url": ""}, fill)


def of_zoho(clock: Any) -> Crm:
    def fill(crm: zoho.Zoho) -> None:
        crm.put_account(9, Account_Name=FIRM, Website=SITE)
        crm.put(1, Email=ADA, First_Name="Ada", Last_Name="Byron", Title=TITLE, Mobile=PHONE,
                Account_Name={"id": "9", "name": FIRM})  # fmt: skip
        crm.put(2, Email="bob@example.com", Last_Name="Bob", Email_Opt_Out=True)

    login = {"client_id": "id", "client_secret": "client-made-up", "refresh_token": zoho.REFRESH}
    return Crm(zoho.Zoho(clock), {**login, "token_url": "/oauth/v2/token"}, fill)


def of_salesforce(clock: Any) -> Crm:
    def fill(crm: salesforce.Salesforce) -> None:
        account = crm.put("Account", 9, Name=FIRM, Website=SITE)
        crm.put("Contact", 1, Email=ADA, FirstName="Ada", LastName="Byron", Title=TITLE,
                MobilePhone=PHONE, AccountId=account)  # fmt: skip
        crm.put("Contact", 2, Email="bob@example.com", HasOptedOutOfEmail=True)

    login = {"client_id": "app", "client_secret": "client-made-up", "refresh_token": "refresh-1"}
    return Crm(salesforce.Salesforce(clock), {**login, "login_url": ""}, fill)


def of_odoo(clock: Any) -> Crm:
    def fill(crm: odoo.Odoo) -> None:
        crm.put(9, is_company=True, name=FIRM, website=SITE)
        crm.put(1, email=ADA, name="Ada Byron", function=TITLE, phone=PHONE, parent_id=9)
        crm.put(2, email="bob@example.com", name="Bob")
        crm.blacklist("bob@example.com")

    return Crm(
        odoo.Odoo(clock), {"token": odoo.KEY, "base_url": "", "database": odoo.DATABASE}, fill
    )


def of_espocrm(clock: Any) -> Crm:
    def fill(crm: espocrm.EspoCrm) -> None:
        crm.put("Account", "x9", name=FIRM, website=SITE)
        crm.put("Contact", "a", ADA, firstName="Ada", lastName="Byron", title=TITLE,
                phoneNumber=PHONE, accountId="x9")  # fmt: skip
        crm.put("Contact", "b", "bob@example.com")
        crm.opt_out("bob@example.com")

    return Crm(espocrm.EspoCrm(clock), {"token": espocrm.KEY, "base_url": ""}, fill)


def of_dynamics(clock: Any) -> Crm:
    def fill(crm: dynamics.Dynamics) -> None:
        account = crm.put("account", 9, name=FIRM)
        crm.put("contact", 1, emailaddress1=ADA, firstname="Ada", lastname="Byron", jobtitle=TITLE,
                mobilephone=PHONE, websiteurl=SITE, _parentcustomerid_value=account)  # fmt: skip
        crm.put("contact", 2, emailaddress1="bob@example.com", donotbulkemail=True)

    login = {"client_id": "app", "client_secret": dynamics.SECRET, "base_url": ""}
    return Crm(dynamics.Dynamics(clock), {**login, "token_url": "/token"}, fill)


def of_close(clock: Any) -> Crm:
    def fill(crm: close.Close) -> None:
        crm.put_lead("lead_1", display_name=FIRM, name=FIRM, url=SITE)
        crm.put("c1", ADA, name="Ada Byron", title=TITLE, lead_id="lead_1",
                phones=[{"phone": PHONE, "type": "office"}])  # fmt: skip
        crm.put("c2", "bob@example.com", name="Bob")
        crm.unsubscribe("bob@example.com")

    return Crm(close.Close(clock), {"token": close.KEY, "base_url": "/api/v1"}, fill)


CRMS = {
    "close": of_close, "dynamics": of_dynamics, "espocrm": of_espocrm, "hubspot": of_hubspot,
    "odoo": of_odoo, "pipedrive": of_pipedrive, "salesforce": of_salesforce, "zoho": of_zoho,
}  # fmt: skip
SECRETS = {"token", "client_secret", "refresh_token"}


@pytest.fixture(name="source", params=CRMS)
def source_fixture(
    house: House, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    """The options of a source over a CRM with Ada and Bob."""
    crm = CRMS[request.param](house.clock)
    with crm.double:
        crm.fill(crm.double)
        house.later(days=1)
        options = {"connector": request.param}
        for name, value in crm.options.items():
            if name in SECRETS:
                monkeypatch.setenv(f"CRM_{name.upper()}", value)
                options[name] = f"env:CRM_{name.upper()}"
            else:
                url = name.endswith("url")
                options[name] = f"{crm.double.url}{value}" if url else value
        yield options


def test_five_lines_bring_the_standard_fields_and_the_opt_outs(
    house: House, source: dict[str, str], tmp_path: Path
) -> None:
    lines = "\n".join(f'{name} = "{value}"' for name, value in source.items())
    file = tmp_path / "config.toml"
    file.write_text(CONFIG.format(url=house.sandbox.url, source=lines))
    house.settings = config.load(file)
    result = house.sync()
    assert (result.created, result.opted_out) == (1, 1), result
    assert house.everybody() == {ADA}
    contact = house.account.contact(ADA)
    shown = {name: contact[name] for name in EXPECTED}
    shown["website"] = shown["website"].replace("http://", "https://").rstrip("/")
    assert shown == EXPECTED


def test_init_writes_the_same_mapping(house: House, source: dict[str, str], tmp_path: Path) -> None:
    options = {name: value for name, value in source.items() if name != "connector"}
    made = draft(Wish(source["connector"], options), folder=tmp_path)
    (tmp_path / "made.toml").write_text(made.text)
    lines = "\n".join(f'{name} = "{value}"' for name, value in source.items())
    (tmp_path / "five.toml").write_text(CONFIG.format(url=house.sandbox.url, source=lines))
    written = config.load(tmp_path / "made.toml").syncs["customers"].rules()
    implied = config.load(tmp_path / "five.toml").syncs["customers"].rules()
    assert (written.fields, written.opted_out) == (implied.fields, implied.opted_out)

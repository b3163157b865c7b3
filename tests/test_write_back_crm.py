"""Writing back into a CRM through the whole product: what FluenzR hears reaches the CRM, and never comes back as a change."""

from typing import Any

import pytest
from doubles import hubspot
from house import House, house_fixture
from test_crm_to_fluenzr import (
    Crm,
    OfHubSpot,
    OfPipedrive,
    OfSalesforce,
    addresses,
    crm_fixture,
)
from test_write_back import writes_back

from syncd import check
from syncd.core.result import Status
from syncd.errors import ConfigError
from syncd.writer import Heard

__all__ = ["crm_fixture", "house_fixture"]

WRITTEN = [OfHubSpot, OfPipedrive, OfSalesforce]


@pytest.fixture(name="told")
def told_fixture(house: House, crm: Crm) -> House:
    """Four people of the CRM are in FluenzR; it is told what is heard of them."""
    house.sync()
    house.later(days=1)
    house.sync()
    writes_back(house, heard=["opted_out"])
    return house


@pytest.mark.parametrize("crm", WRITTEN, indirect=True, ids=lambda kind: kind.__name__)
def test_an_opt_out_reaches_the_crm_and_is_no_change_there(told: House, crm: Any) -> None:
    told.account.opt_out("bob@example.com")
    first = told.sync()
    assert (first.status, first.written_back, first.back_refused) == (Status.OK, 1, 0)
    told.later(hours=1)
    second = told.sync()
    assert (second.status, second.opted_out) == (Status.OK, 1)  # the CRM says it by now
    writes = told.sandbox.writes()
    for hours in (1, 24 * 11):  # an incremental read, and a full one
        told.later(hours=hours)
        again = told.sync()
        assert (again.written_back, again.updated, again.removed) == (0, 0, 0)
    assert told.sandbox.writes() == writes
    assert told.members("Customers") == addresses("ann", "cat", "dan")


@pytest.mark.parametrize("crm", WRITTEN, indirect=True, ids=lambda kind: kind.__name__)
def test_check_reaches_the_crm(told: House, crm: Any) -> None:
    found = list(check.findings(lambda: told.settings, offline=False, clock=told.clock))
    (ours,) = [one for one in found if one.what == "sync.people.write_back"]
    assert "can be written to" in ours.text


@pytest.mark.parametrize("crm", WRITTEN, indirect=True, ids=lambda kind: kind.__name__)
def test_what_is_told_is_what_has_a_field(told: House, crm: Any) -> None:
    assert told.settings.write_backs["people"].heard == {Heard.OPTED_OUT}
    writes_back(told, replied="any")
    assert told.settings.write_backs["people"].heard == {Heard.OPTED_OUT, Heard.REPLIED}
    with pytest.raises(ConfigError, match=r"sync\.people\.write_back\.heard: .*bounced = "):
        writes_back(told, heard=["bounced"])
    with pytest.raises(ConfigError, match=r"sync\.people\.write_back\.replied"):
        writes_back(told, replied={"fields": "any"})


@pytest.mark.parametrize("crm", [OfHubSpot], indirect=True)
def test_a_login_of_its_own_is_another_one_as_a_whole(told: House, crm: Any) -> None:
    """The source has a token: an app of its own for writing is no second login."""
    app = {"client_id": "id", "client_secret": "env:A", "refresh_token": "env:B"}
    writes_back(told, **app)
    options: Any = told.settings.write_backs["people"].validated
    assert (options.token, options.client_id, options.base_url) == (None, "id", crm.double.url)


@pytest.mark.parametrize("crm", [OfHubSpot], indirect=True)
def test_a_right_that_nothing_asked_for_needs_is_not_looked_for(told: House, crm: Any) -> None:
    crm.double.types["dead"] = "bool"
    crm.double.scopes.remove(hubspot.WRITE_OPT_OUTS)
    writes_back(told, heard=["bounced"], bounced="dead")
    told.account.opt_out("bob@example.com")
    told.account.opt_out("cat@example.com", status="bounced")
    result = told.sync()
    assert (result.status, result.written_back) == (Status.OK, 1)
    assert crm.double.contacts[3]["dead"] == "true"
    assert crm.double.out == set()
    found = list(check.findings(lambda: told.settings, offline=False, clock=told.clock))
    (ours,) = [one for one in found if one.what == "sync.people.write_back"]
    assert ours.text == "HubSpot can be written to, bounced in dead"

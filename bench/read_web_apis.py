"""What reading costs us per record and in memory, for each connector of a web API, from its double in another process.

    python bench/read_web_apis.py [RECORDS [CONNECTOR ...]]

CPU is that of the reading process alone; the vendor's limits are waited for on a clock that costs nothing, and their
time is printed beside ours: it is what bounds a read. Memory is above that of a read of ten records.
"""

import logging
import multiprocessing
import os
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import orjson
import structlog
from doubles.airtable import BASE as AIRTABLE_BASE
from doubles.airtable import TOKEN as AIRTABLE_TOKEN
from doubles.airtable import Airtable
from doubles.apollo import KEY as APOLLO_KEY
from doubles.apollo import Apollo
from doubles.attio import TOKEN as ATTIO_TOKEN
from doubles.attio import Attio
from doubles.close import KEY as CLOSE_KEY
from doubles.close import Close
from doubles.dynamics import SECRET as DYNAMICS_SECRET
from doubles.dynamics import Dynamics
from doubles.espocrm import KEY as ESPO_KEY
from doubles.espocrm import EspoCrm
from doubles.hubspot import TOKEN as HUBSPOT_TOKEN
from doubles.hubspot import HubSpot
from doubles.odoo import DATABASE, USER, Odoo
from doubles.odoo import KEY as ODOO_KEY
from doubles.pipedrive import TOKEN as PIPEDRIVE_TOKEN
from doubles.pipedrive import Pipedrive
from doubles.salesforce import Salesforce
from doubles.server import Asked, Double, Told
from doubles.zoho import REFRESH, Zoho
from read_files import peak_kib

from syncd import registry
from syncd.connector import Context, Record, Request
from syncd.testing.clock import FakeClock

RECORDS = 20_000
FEW = 10


def hubspot(count: int) -> tuple[Double, dict[str, Any], set[str]]:
    double = HubSpot()
    for key in range(1, count + 1):
        double.put(
            key, email=f"p{key}@example.com", firstname=f"First {key}", lastname=f"Last {key}",
            jobtitle="CTO", phone="+33 1 00 00 00 00", website="https://example.com", score="7",
        )  # fmt: skip
    wanted = {"email", "firstname", "lastname", "jobtitle", "phone", "website", "hs_email_optout"}
    return double, {"token": "env:BENCH_SECRET", "base_url": "URL"}, wanted


def pipedrive(count: int) -> tuple[Double, dict[str, Any], set[str]]:
    double = Pipedrive()
    double.starts = deque(maxlen=0)
    for key in range(1, count + 1):
        double.put(key, f"p{key}@example.com", first_name=f"First {key}", last_name=f"Last {key}")
    wanted = {"_email", "first_name", "last_name", "_phone", "_tags"}
    return double, {"token": "env:BENCH_SECRET", "base_url": "URL"}, wanted


def zoho(count: int) -> tuple[Double, dict[str, Any], set[str]]:
    double = Zoho()
    for key in range(1, count + 1):
        double.put(key, Email=f"p{key}@example.com", First_Name="First", Last_Name=f"Last {key}")
    secret = "env:BENCH_SECRET"
    login = {"client_id": "id", "client_secret": secret, "refresh_token": secret}
    wanted = {"Email", "First_Name", "Last_Name", "Title", "Phone", "Email_Opt_Out", "_tags"}
    return double, {**login, "token_url": "URL/oauth/v2/token"}, wanted


def salesforce(count: int) -> tuple[Double, dict[str, Any], set[str]]:
    double = Salesforce()
    for key in range(1, count + 1):
        double.put(
            "Contact", key, Email=f"p{key}@example.com", FirstName="First", LastName=f"Last {key}"
        )
    secret = "env:BENCH_SECRET"
    login = {"client_id": "app", "client_secret": secret, "refresh_token": secret}
    wanted = {"Email", "FirstName", "LastName", "Title", "Phone", "HasOptedOutOfEmail"}
    return double, {**login, "login_url": "URL", "bulk": "off"}, wanted


def odoo(count: int) -> tuple[Double, dict[str, Any], set[str]]:
    double = Odoo()
    for key in range(1, count + 1):
        double.put(
            key, email=f"p{key}@example.com", name=f"First Last{key}", phone="+33 1 00 00 00 00"
        )
    login = {"token": "env:BENCH_SECRET", "base_url": "URL", "database": DATABASE, "user": USER}
    return double, login, {"_email", "name", "phone", "_opted_out"}


def espocrm(count: int) -> tuple[Double, dict[str, Any], set[str]]:
    double = EspoCrm()
    for key in range(1, count + 1):
        double.put(
            "Contact",
            f"{key:017x}",
            f"p{key}@example.com",
            firstName="First",
            lastName=f"Last {key}",
        )
    wanted = {"emailAddress", "firstName", "lastName", "emailAddressIsOptedOut"}
    return double, {"token": "env:BENCH_SECRET", "base_url": "URL"}, wanted


def airtable(count: int) -> tuple[Double, dict[str, Any], set[str]]:
    double = Airtable()
    double.starts = deque(maxlen=0)  # it has another clock than its reader, and does not count
    for key in range(1, count + 1):
        double.put(
            key, Name=f"Last {key}", Email=f"p{key}@example.com", First_name="First", Tags=["Hot"]
        )
    login = {"token": "env:BENCH_SECRET", "base_url": "URL"}
    wanted = {"Email", "First name", "Name", "Unsubscribed", "Tags", "Blocked"}
    return double, {**login, "base": AIRTABLE_BASE, "table": "People"}, wanted


def close(count: int) -> tuple[Double, dict[str, Any], set[str]]:
    double = Close()
    double.limited = False  # its clock is not that of the reading process
    for key in range(1, count + 1):
        double.put(f"cont_{key:043}", f"p{key}@example.com", name=f"First Last{key}", title="CTO")
        double.clock.advance_s(0.1)
    double.clock.advance_s(86_400)
    wanted = {"_email", "_first_name", "_last_name", "title", "_phone", "_opted_out"}
    return double, {"token": "env:BENCH_SECRET", "base_url": "URL/api/v1"}, wanted


def apollo(count: int) -> tuple[Double, dict[str, Any], set[str]]:
    double = Apollo()
    double.limits = dict.fromkeys(double.limits, 1_000 + count)  # as for the other clock above
    company = {"id": "a1", "name": "Example SA", "website_url": "https://example.com"}
    for key in range(1, count + 1):
        double.put(
            key, f"p{key}@example.com", first_name="First", last_name=f"Last {key}", title="CTO",
            account=company, organization=company,
        )  # fmt: skip
    login = {"token": "env:BENCH_SECRET", "base_url": "URL/api/v1"}
    wanted = {"email", "first_name", "last_name", "title", "_company", "_phone", "_opted_out"}
    return double, login, wanted


def attio(count: int) -> tuple[Double, dict[str, Any], set[str]]:
    double = Attio()
    double.limited = False  # its clock is not that of the reading process
    for key in range(1, count + 1):
        name = {"first_name": "First", "last_name": f"Last {key}", "full_name": f"First Last {key}"}
        double.put(f"{key:036}", f"p{key}@example.com", name=name, job_title="CTO")
        double.clock.advance_s(0.1)
    wanted = {"_email", "name", "job_title", "_phone", "unsubscribed"}
    return double, {"token": "env:BENCH_SECRET", "base_url": "URL"}, wanted


def dynamics(count: int) -> tuple[Double, dict[str, Any], set[str]]:
    double = Dynamics()
    for key in range(1, count + 1):
        double.put(
            "contact", key, emailaddress1=f"p{key}@example.com", firstname="First",
            lastname=f"Last {key}", telephone1="+33 1 00 00 00 00",
        )  # fmt: skip
    secret = "env:BENCH_SECRET"
    login = {"client_id": "app", "client_secret": secret, "token_url": "URL/token"}
    wanted = {"emailaddress1", "firstname", "lastname", "jobtitle", "telephone1", "_opted_out"}
    return double, {**login, "base_url": "URL"}, wanted


def rest(count: int) -> tuple[Double, dict[str, Any], set[str]]:
    described = {
        "base_url": "URL", "path": "/people", "token": "env:BENCH_SECRET", "records": "people",
        "key": "id", "paging": "page", "size": 100, "total": "total", "modified": "changed",
        "since_param": "since",
    }  # fmt: skip
    return People(count), described, {"email", "first", "last", "title", "phone", "out"}


class People(Double):
    """A described API: 100 a page."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.people = [
            {
                "id": key, "email": f"p{key}@example.com", "first": f"First {key}",
                "last": f"Last {key}", "title": "CTO", "phone": "+33 1 00 00 00 00", "out": False,
                "city": "Lyon", "changed": "2026-01-01T09:00:00Z",
            }
            for key in range(1, count + 1)
        ]  # fmt: skip

    def answer(self, asked: Asked) -> Told:
        start = 100 * (int(asked.query["page"]) - 1)
        return Told(200, {"people": self.people[start : start + 100], "total": len(self.people)})


SECRETS = {
    "airtable": AIRTABLE_TOKEN,
    "apollo": APOLLO_KEY,
    "attio": ATTIO_TOKEN,
    "close": CLOSE_KEY,
    "dynamics": DYNAMICS_SECRET,
    "espocrm": ESPO_KEY,
    "hubspot": HUBSPOT_TOKEN,
    "odoo": ODOO_KEY,
    "pipedrive": PIPEDRIVE_TOKEN,
    "rest": "made-up",
    "salesforce": "refresh-1",
    "zoho": REFRESH,
}
MAKERS = {
    "airtable": airtable,
    "apollo": apollo,
    "attio": attio,
    "close": close,
    "dynamics": dynamics,
    "espocrm": espocrm,
    "hubspot": hubspot,
    "odoo": odoo,
    "pipedrive": pipedrive,
    "rest": rest,
    "salesforce": salesforce,
    "zoho": zoho,
}


def serve(name: str, count: int, told: Any) -> None:
    """The double's process: it tells its URL, and goes on until it is ended."""
    double, _, _ = MAKERS[name](count)
    with double:
        told.send(double.url)
        told.recv()


def read(name: str, url: str, told: Any) -> None:
    """The reading process: everything once."""
    os.environ["BENCH_SECRET"] = SECRETS[name]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    _, options, wanted = MAKERS[name](0)
    written = orjson.loads(orjson.dumps(options).replace(b"URL", url.encode()))
    kind, clock = registry.load(name), FakeClock()
    connector = kind(kind.OPTIONS.model_validate(written), Context(clock=clock))
    list(connector.fields())
    before, start_s, count = time.process_time(), clock.now_s(), 0
    for event in connector.read(Request(fields=frozenset(wanted))):
        count += type(event) is Record
    cpu_s = time.process_time() - before
    told.send((count, cpu_s, peak_kib(), clock.now_s() - start_s))


def measure(name: str, count: int) -> tuple[int, float, int, float]:
    """(records, CPU seconds, peak KiB, seconds that the vendor's limit asks for) of one read."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(name, count, theirs), daemon=True)
    server.start()
    theirs.close()  # so that a process that dies ends the waiting
    url = ours.recv()
    result, told = context.Pipe()
    reader = context.Process(target=read, args=(name, url, told), daemon=True)
    reader.start()
    told.close()
    found: tuple[int, float, int, float] = result.recv()
    reader.join()
    ours.send("enough")
    server.join()
    return found


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else RECORDS
    print(
        f"{'connector':<12}{'records':>9}{'us CPU a record':>17}{'MiB above':>11}{'s at the limit':>16}"
    )
    for name in sys.argv[2:] or MAKERS:
        _, _, base_kib, _ = measure(name, FEW)
        records, cpu_s, peak_kib, limit_s = measure(name, count)
        above = (peak_kib - base_kib) / 1024
        print(
            f"{name:<12}{records:>9,}{cpu_s / records * 1e6:>17.1f}{above:>11.1f}{limit_s:>16.0f}"
        )


if __name__ == "__main__":
    main()

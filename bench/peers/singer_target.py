"""A Singer target for FluenzR: one bulk request a batch of 1000 records."""

from typing import Any

import requests
from requests.adapters import HTTPAdapter
from singer_sdk import Target
from singer_sdk import typing as th
from singer_sdk.sinks import BatchSink
from urllib3.util import Retry

WAITS = Retry(total=5, backoff_factor=1, status_forcelist=(429, 502, 503), allowed_methods=None)


class Contacts(BatchSink):
    """What a batch of records becomes."""

    max_size = 1000

    def setup(self) -> None:
        """One connection for all batches."""
        self.session = requests.Session()
        self.session.mount(self.config["url"], HTTPAdapter(max_retries=WAITS))
        self.session.headers["Authorization"] = f"Bearer {self.config['api_key']}"

    def process_record(self, record: dict[str, Any], context: dict[str, Any]) -> None:
        """One record, under FluenzR's names."""
        contact = {
            "email": record["email"],
            "firstName": record["first"],
            "lastName": record["last"],
            "company": record["company"],
            "jobTitle": record["title"],
            "phone": record["phone"],
            "website": record["web"],
        }
        context.setdefault("contacts", []).append(contact)

    def process_batch(self, context: dict[str, Any]) -> None:
        """Send what was collected."""
        answer = self.session.post(
            f"{self.config['url']}/contacts/bulk",
            json={
                "contacts": context["contacts"],
                "groupIds": [self.config["group_id"]],
                "onDuplicate": "update",
            },
            timeout=60,
        )
        answer.raise_for_status()
        if errors := answer.json()["data"]["errors"]:
            raise ValueError(f"{len(errors)} contacts were refused")


class TargetFluenzr(Target):
    """All streams become contacts."""

    name = "target-fluenzr"
    default_sink_class = Contacts
    config_jsonschema = th.PropertiesList(
        th.Property("url", th.StringType, required=True),
        th.Property("group_id", th.StringType, required=True),
        th.Property("api_key", th.StringType, required=True, secret=True),
    ).to_dict()


if __name__ == "__main__":
    TargetFluenzr.cli()

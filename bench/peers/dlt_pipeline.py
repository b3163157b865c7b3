"""dlt: a resource with an incremental cursor over the file, and a custom destination that sends bulk requests."""

import csv
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import dlt
from dlt.common.schema import TTableSchema
from dlt.common.typing import TDataItems
from dlt.sources.helpers import requests  # waits and tries again on 429 and 5xx

BATCH = 1000


@dlt.resource(primary_key="id", write_disposition="append")
def people(
    modified: dlt.sources.incremental[str] = dlt.sources.incremental("modified"),  # noqa: ARG001, B008 dlt's way
) -> Iterator[list[dict[str, str]]]:
    """The rows of the file in pages; dlt keeps those that were modified since the last run."""
    with Path("people.csv").open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        while page := list(islice(rows, BATCH)):
            yield page


@dlt.destination(batch_size=BATCH, name="fluenzr", max_parallel_load_jobs=1)
def fluenzr(
    items: TDataItems,
    table: TTableSchema,  # noqa: ARG001 part of the contract
    url: str = dlt.config.value,
    group_id: str = dlt.config.value,
    api_key: str = dlt.secrets.value,
) -> None:
    """One bulk request a batch."""
    contacts = [
        {
            "email": item["email"],
            "firstName": item["first"],
            "lastName": item["last"],
            "company": item["company"],
            "jobTitle": item["title"],
            "phone": item["phone"],
            "website": item["web"],
        }
        for item in items
    ]
    body = {"contacts": contacts, "groupIds": [group_id], "onDuplicate": "update"}
    headers = {"Authorization": f"Bearer {api_key}"}
    answer = requests.post(f"{url}/contacts/bulk", json=body, headers=headers)
    answer.raise_for_status()
    if errors := answer.json()["data"]["errors"]:
        raise ValueError(f"{len(errors)} contacts were refused")


def main() -> None:
    """One run; the state is kept in the working folder."""
    destination = fluenzr(
        url=os.environ["FLUENZR_URL"],
        group_id=os.environ["FLUENZR_GROUP_ID"],
        api_key=os.environ["FLUENZR_API_KEY"],
    )
    pipeline = dlt.pipeline("people_to_fluenzr", destination=destination, pipelines_dir="pipelines")
    pipeline.run(people())


if __name__ == "__main__":
    main()

"""The loop that FluenzR's documentation shows: for each contact of the CRM, POST /contacts.

What a second run needs is added: whoever is there already (409) is looked up by the address and gets the values by PUT.
"""

import csv
import os
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

URL = os.environ["FLUENZR_URL"]
GROUP_ID = os.environ["FLUENZR_GROUP_ID"]
WAITS = Retry(total=5, backoff_factor=1, status_forcelist=(429, 502, 503), allowed_methods=None)


def put(session: requests.Session, contact: dict[str, str]) -> None:
    """One person, created or brought up to date."""
    created = session.post(f"{URL}/contacts", json={**contact, "groupIds": [GROUP_ID]}, timeout=30)
    if created.status_code != 409:
        created.raise_for_status()
        return
    found = session.get(f"{URL}/contacts", params={"email": contact["email"]}, timeout=30)
    found.raise_for_status()
    for one in found.json()["data"]:  # `email` finds whatever contains it
        if one["email"].lower() == contact["email"].lower():
            updated = session.put(f"{URL}/contacts/{one['id']}", json=contact, timeout=30)
            updated.raise_for_status()


def main() -> None:
    """The whole file."""
    session = requests.Session()
    session.mount(URL, HTTPAdapter(max_retries=WAITS))
    session.headers["Authorization"] = f"Bearer {os.environ['FLUENZR_API_KEY']}"
    with Path("people.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            contact = {
                "email": row["email"],
                "firstName": row["first"],
                "lastName": row["last"],
                "company": row["company"],
                "jobTitle": row["title"],
                "phone": row["phone"],
                "website": row["web"],
            }
            put(session, contact)


if __name__ == "__main__":
    main()

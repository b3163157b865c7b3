"""What the connector makes of one contact of Apollo's. Everything here is a pure function.

Source: connectors reference, section 10, "Fields"; docs.apollo.io, "Search for Contacts", its sample and its schema.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from connectors.apollo.beside import OUT
from syncd.http import domain_of

# What a contact may have, by Apollo's own names. `email` is empty where Apollo has put a placeholder.
FIELDS = (
    "id", "first_name", "last_name", "name", "title", "headline", "email", "email_status", "email_true_status",
    "email_source", "email_unsubscribed", "email_status_unavailable_reason", "email_domain_catchall", "email_from_customer",
    "contact_emails", "free_domain", "is_likely_to_engage", "phone_numbers", "sanitized_phone", "direct_dial_status",
    "linkedin_url", "linkedin_uid", "twitter_url", "facebook_url", "photo_url", "present_raw_address", "street_address",
    "city", "state", "country", "postal_code", "formatted_address", "time_zone", "organization_name", "organization_id",
    "organization", "account_id", "account", "person_id", "owner_id", "creator_id", "contact_stage_id", "label_ids",
    "emailer_campaign_ids", "contact_campaign_statuses", "contact_roles", "contact_job_change_event", "source",
    "original_source", "source_display_name", "existence_level", "crm_id", "crm_owner_id", "crm_record_url",
    "merged_crm_ids", "salesforce_id", "salesforce_lead_id", "salesforce_contact_id", "salesforce_account_id",
    "hubspot_vid", "hubspot_company_id", "last_activity_date", "created_at", "updated_at", "typed_custom_fields",
)  # fmt: skip
UNKNOWN = object()  # what is left out of a record
LOCKED = "email_not_unlocked@"  # how an address begins that Apollo does not show yet

Row = Mapping[str, Any]


def address_of(text: Any) -> str | None:
    """An address; None for the placeholder of one that was not paid for."""
    found = text.strip() if isinstance(text, str) else ""
    return None if not found or found.lower().startswith(LOCKED) else found


def further(row: Row) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(address, its entry) of each further address of a contact, each once."""
    told = {(address_of(row.get("email")) or "").lower()}
    for entry in row.get("contact_emails") or ():
        address = address_of(entry.get("email")) if isinstance(entry, dict) else None
        if address and address.lower() not in told:
            told.add(address.lower())
            yield address, entry


def phone_of(row: Row) -> str | None:
    """The number that Apollo has chosen, else the first of those that it knows."""
    numbers = [one for one in row.get("phone_numbers") or () if isinstance(one, dict)]
    found = [row.get("sanitized_phone")]
    found += [one.get("sanitized_number") or one.get("raw_number") for one in numbers]
    return next((one for one in found if isinstance(one, str) and one.strip()), None)


def company_of(row: Row) -> dict[str, Any] | None:
    """The account that the team has made of the company, else the company itself, else its name."""
    for part in ("account", "organization"):
        held = row.get(part)
        if isinstance(held, dict) and held.get("name"):
            website = held.get("website_url")
            domain = held.get("primary_domain") or held.get("domain") or domain_of(website)
            return {
                "id": held.get("id"),
                "name": held["name"],
                "domain": domain,
                "website": website,
            }
    name, key = row.get("organization_name"), row.get("account_id") or row.get("organization_id")
    return {"id": key, "name": name} if name else None


def opted_out(row: Row, *, stage: str, unsubscribed: bool) -> Any:
    """Whether a contact wants no e-mail: by its flag, an e-mail, its stage, or the end of a sequence. UNKNOWN without the flag."""
    flag = row.get("email_unsubscribed", UNKNOWN)
    ends = [
        f"{one.get('status')} {one.get('inactive_reason')} {one.get('failure_reason')}"
        for one in row.get("contact_campaign_statuses") or ()
        if isinstance(one, dict)
    ]
    if flag is True or unsubscribed or any(OUT.search(text) for text in (stage, *ends)):
        return True
    return False if flag in (None, False) else UNKNOWN  # null in each contact that has not

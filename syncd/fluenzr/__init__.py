"""FluenzR's REST API as a Python library: every endpoint, typed. One class with one part per noun.

    with FluenzR(os.environ["FLUENZR_API_KEY"]) as fluenzr:
        for contact in fluenzr.contacts(status="active"):
            print(contact.email, contact.fields["firstName"])

It keeps to the rate limit, also from several threads, waits out a 429, and tries reads several times;
a change is sent once. What it does not know of mail: whoever joins a dynamic group or an active
campaign is mailed at once; the sync (`syncd.run`) has guards for that, the library has none.

Errors of every method (`syncd.errors`): Unanswered, where nobody knows whether it was done; Refused
and what is below it (NotFound, NotSupported, Conflict), AccessDenied and what is below it, Throttled.
"""

from syncd.fluenzr.campaigns import Campaigns
from syncd.fluenzr.contacts import Contacts
from syncd.fluenzr.endpoints import BASE_URL
from syncd.fluenzr.groups import Groups
from syncd.fluenzr.webhooks import Webhooks

__all__ = ["BASE_URL", "FluenzR"]


class FluenzR(Contacts, Groups, Campaigns, Webhooks):
    """One FluenzR account; safe to use from up to 40 threads. See `Endpoints` for its arguments."""

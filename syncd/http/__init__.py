"""HTTP for connectors, and the one client under everything: what two connectors need stands here, once.

`client` sends one request with every limit set. `api` is a vendor's web API as a connector reads it: paced, retried, refreshed,
redacted. `login` and `options` hold the ways to log in, `verdict` what an answer means, `paging` and `times` what pages and times look
like, `keyset` how to read everything while it moves, `names` what people and companies are called, `rights` what a login may not do,
`beside` what a cursor keeps of what stands beside records.
"""

from syncd.http.api import Api, Query, Reply, Vendor
from syncd.http.beside import are_other, digests, members_digest
from syncd.http.client import Answer, HttpClient
from syncd.http.keyset import keyset, within
from syncd.http.login import Basic, Login, OAuth, Open, Token
from syncd.http.lookup import Lookup
from syncd.http.names import domain_of, further_key, split_name
from syncd.http.options import BaseUrl, TokenOrApp
from syncd.http.paging import (
    HighWater,
    Trail,
    pack_ids,
    read_cursor,
    since_of,
    unpack_ids,
    write_cursor,
)
from syncd.http.rights import if_allowed, lacking
from syncd.http.times import parse_time, rfc3339
from syncd.http.verdict import (
    Again,
    Denied,
    Exhausted,
    Expired,
    Good,
    Pace,
    Refused,
    Verdict,
    by_status,
    retry_after_s,
)

__all__ = [
    "Again",
    "Answer",
    "Api",
    "BaseUrl",
    "Basic",
    "Denied",
    "Exhausted",
    "Expired",
    "Good",
    "HighWater",
    "HttpClient",
    "Login",
    "Lookup",
    "OAuth",
    "Open",
    "Pace",
    "Query",
    "Refused",
    "Reply",
    "Token",
    "TokenOrApp",
    "Trail",
    "Vendor",
    "Verdict",
    "are_other",
    "by_status",
    "digests",
    "domain_of",
    "further_key",
    "if_allowed",
    "keyset",
    "lacking",
    "members_digest",
    "pack_ids",
    "parse_time",
    "read_cursor",
    "retry_after_s",
    "rfc3339",
    "since_of",
    "split_name",
    "unpack_ids",
    "within",
    "write_cursor",
]

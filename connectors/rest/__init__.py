"""Any web API that lists people as JSON, described in the configuration: address, login, pages, where the records stand.

A read that the description does not fit fails with words: another shape, a page that comes twice, a count that is not the total. What a
vendor does beside (joins, merges, lists) needs a connector of its own: docs/how-to/write-a-connector.md.
"""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from itertools import islice
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, StringConstraints, model_validator

from connectors.rest.reading import Reading
from connectors.rest.shape import Paging, Shape
from syncd.connector import Abilities, Context, Event, Options, Record, Request, SourceField
from syncd.http import Answer, Api, BaseUrl, Basic, Login, OAuth, Open, Pace, Token, Vendor
from syncd.secret import Secret

SAMPLE_RECORDS = 100  # whose names are shown by `init`
Path = Annotated[str, StringConstraints(pattern=r"^/")]
Words = Annotated[str, StringConstraints(min_length=1)]
Scalar = str | int | bool


class RestOptions(Options):
    """Where the people are listed, the login, how pages follow each other, and what incremental reads ask for.

    Login: token, or username and password, or token_url with client_id and client_secret, and a refresh_token where there is one.
    """

    base_url: BaseUrl
    """The address of the API."""
    path: Path
    """Where the people are listed."""
    method: Literal["GET", "POST"] = "GET"
    """Of the request that lists them."""
    params: Mapping[str, Scalar] = Field(default_factory=dict)
    """What else stands in the query."""
    body: Mapping[str, Any] | None = None
    """What is posted, with `method = "POST"`."""
    headers: Mapping[str, str] = Field(default_factory=dict)
    """What else stands in the headers; no secrets."""
    records: str = ""
    """The list in the answer, as a path such as `data.items`; left out, it is the answer itself."""
    key: Words | None = None
    """The path of what identifies a record for ever; without it the e-mail address does."""

    auth: Literal["bearer", "header"] = "bearer"
    """How `token` is sent: as a bearer's, or in `header`."""
    header: Words = "X-Api-Key"
    """The header that holds the token, with `auth = "header"`."""
    token: Secret | None = None
    """A token or key that does not change."""
    username: str | None = None
    """Of HTTP's basic authentication."""
    password: Secret | None = None
    """Of the same user."""
    token_url: BaseUrl | None = None
    """Where OAuth hands out tokens."""
    client_id: str | None = None
    """Of the OAuth app."""
    client_secret: Secret | None = None
    """Of the same app."""
    refresh_token: Secret | None = None
    """With `token_url`; without it, the app logs in by client credentials."""
    scope: str | None = None
    """With `token_url`, where the vendor asks for one."""

    paging: Paging = "none"
    """How the next page is asked for: page or offset (counted in `page_param`), cursor (the value at `cursor` goes into `cursor_param`),
    link (the URL at `cursor`, or of the Link header).
    """
    page_param: Words = "page"
    """The parameter that counts pages or records."""
    first_page: int = 1
    """The number of the first page."""
    size: int | None = Field(default=None, ge=1, le=10_000)
    """The records of a full page, as the API really gives them."""
    size_param: Words = "limit"
    """The parameter that asks for so many."""
    cursor: Words | None = None
    """The path of the next cursor, or of the next page's URL, in the answer."""
    cursor_param: Words = "cursor"
    """The parameter that takes the cursor."""
    total: Words | None = None
    """The path of the number of records, against which a full read is checked."""

    modified: Words | None = None
    """The path of a record's time of change, for incremental reads; with `since_param` and `key`."""
    since_param: Words | None = None
    """The parameter that asks for what changed since; with `modified` and `key`."""
    since_format: Literal["rfc3339", "date", "seconds", "milliseconds"] = "rfc3339"
    """How that time is written."""
    overlap_minutes: Annotated[int, Field(ge=1, le=1440)] = 5
    """How far an incremental read goes back behind the latest change."""
    deleted: Words | None = None
    """The path of a truth that says that a record is gone; with `key`."""
    requests_per_minute: int = Field(default=300, ge=1, le=60_000)
    """Never more than that."""

    @model_validator(mode="after")
    def _fits_together(self) -> "RestOptions":
        if [self.token, self.username, self.token_url].count(None) < 2:
            raise ValueError("one login: token, or username and password, or token_url")
        if self.token_url is not None and (self.client_id is None or self.client_secret is None):
            raise ValueError("token_url needs client_id and client_secret")
        if (self.modified is None) != (self.since_param is None):
            raise ValueError("an incremental read needs both modified and since_param")
        if self.key is None and (self.modified is not None or self.deleted is not None):
            raise ValueError("incremental reads and deletions need key: whom else would they mean?")
        if self.paging == "cursor" and self.cursor is None:
            raise ValueError('paging = "cursor" needs cursor: the path of the next one')
        if self.paging in {"page", "offset"} and self.size is None:
            raise ValueError(f'paging = "{self.paging}" needs size: the records of a full page')
        if self.body is not None and self.method == "GET":
            raise ValueError('a body goes with method = "POST"')
        return self

    def shape(self) -> Shape:
        """What the reading needs to know."""
        return Shape(
            path=self.path, method=self.method, params=dict(self.params), body=self.body,
            records=self.records, key=self.key, paging=self.paging, page_param=self.page_param,
            first_page=self.first_page, size=self.size, size_param=self.size_param,
            cursor=self.cursor, cursor_param=self.cursor_param, total=self.total,
            modified=self.modified, since_param=self.since_param, since_format=self.since_format,
            overlap=timedelta(minutes=self.overlap_minutes), deleted=self.deleted,
        )  # fmt: skip


class RestConnector:
    """One web API."""

    OPTIONS: ClassVar[type[Options]] = RestOptions
    ABILITIES: ClassVar[Abilities] = Abilities(
        incremental=True,
        sweep="sees deletions between full reads only where the API tells them and `deleted` names them",
    )
    SUMMARY: ClassVar[str] = "Any web API that lists people as JSON, described in the configuration"

    def __init__(self, options: RestOptions, context: Context) -> None:
        self._options, self._clock = options, context.clock
        self._login = _login(options, context)

    def check(self) -> str:
        """Read the first page."""
        with self._api() as api:
            rows = next(iter(Reading(api, self._options.shape(), Request()).pages(None)), [])
        return (
            f"{self._options.base_url}{self._options.path}, {len(rows):,} records on the first page"
        )

    def fields(self) -> list[SourceField]:
        """The names that the first records have."""
        events = self.read(Request())
        sample = list(islice((e for e in events if isinstance(e, Record)), SAMPLE_RECORDS))
        examples: dict[str, str] = {}
        for record in sample:
            for name, value in record.fields.items():
                shown = str(value) if isinstance(value, str | int | float) else ""
                examples[name] = examples.get(name) or shown
        return [SourceField(name, example=text) for name, text in examples.items()]

    def preset(self) -> None:
        """There is none: the names are the API's own."""

    def token(self) -> None:
        """There is none: the API must be asked."""

    def read(self, request: Request) -> Iterator[Event]:
        """All records, or those that the API says were changed since the cursor."""
        with self._api() as api:
            yield from Reading(api, self._options.shape(), request).events()

    def _api(self) -> Api:
        options = self._options
        vendor = Vendor(
            options.base_url.split("/")[2], Pace(options.requests_per_minute, 60.0), words=_words
        )
        return Api(options.base_url, vendor, self._login, self._clock, headers=options.headers)


def _words(answer: Answer) -> str:
    """The beginning of an error's body, where it is text and no page for people."""
    html = "html" in answer.headers.get("content-type", "")
    return "" if html else answer.body[:1000].decode("utf-8", "replace")


def _login(options: RestOptions, context: Context) -> Login:
    if options.token is not None:
        bearer = options.auth == "bearer"
        header, prefix = ("Authorization", "Bearer ") if bearer else (options.header, "")
        return Token(options.token, header=header, prefix=prefix)
    if options.username is not None:
        return Basic(options.username, options.password or "")
    if options.token_url is None:
        return Open()
    form: dict[str, str | Secret] = {"client_id": options.client_id or ""}
    if options.client_secret is not None:
        form["client_secret"] = options.client_secret
    if options.refresh_token is not None:
        form |= {"grant_type": "refresh_token", "refresh_token": options.refresh_token}
    else:
        form["grant_type"] = "client_credentials"
    if options.scope:
        form["scope"] = options.scope
    return OAuth(options.token_url, form, clock=context.clock)

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
    """base_url, path: where the people are listed. records: the list in the answer, as a path such as "data.items"; left out, it is
    the answer itself. key: the path of what identifies a record for ever; without it the e-mail address does.

    Login: token (auth = "bearer", or "header" with `header`), username and password, or token_url with client_id, client_secret and
    refresh_token (without it: client_credentials). Pages: none; page or offset (counted in page_param); cursor (the value at cursor goes
    into cursor_param); link (the URL at cursor, or of the Link header). size: the records of a full page, as the API really gives them.
    total: the path of the number of records, against which a full read is checked. modified and since_param: for incremental reads, which
    go overlap_minutes behind the latest change. deleted: the path of a truth that says that a record is gone. Both need a key.
    """

    base_url: BaseUrl
    path: Path
    method: Literal["GET", "POST"] = "GET"
    params: Mapping[str, Scalar] = Field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = Field(default_factory=dict)
    records: str = ""
    key: Words | None = None

    auth: Literal["bearer", "header"] = "bearer"
    header: Words = "X-Api-Key"
    token: Secret | None = None
    username: str | None = None
    password: Secret | None = None
    token_url: BaseUrl | None = None
    client_id: str | None = None
    client_secret: Secret | None = None
    refresh_token: Secret | None = None
    scope: str | None = None

    paging: Paging = "none"
    page_param: Words = "page"
    first_page: int = 1
    size: int | None = Field(default=None, ge=1, le=10_000)
    size_param: Words = "limit"
    cursor: Words | None = None
    cursor_param: Words = "cursor"
    total: Words | None = None

    modified: Words | None = None
    since_param: Words | None = None
    since_format: Literal["rfc3339", "date", "seconds", "milliseconds"] = "rfc3339"
    overlap_minutes: Annotated[int, Field(ge=1, le=1440)] = 5
    deleted: Words | None = None
    requests_per_minute: int = Field(default=300, ge=1, le=60_000)

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

"""What each answer of FluenzR counts as, and what its words say."""

import pytest

from syncd.core import answer
from syncd.core.answer import Question
from syncd.errors import (
    AccessDenied,
    Conflict,
    FluenzrError,
    KeyNotAccepted,
    NotFound,
    NotSupported,
    Refused,
    Unanswered,
)

KEY = "flz_sk_" + "k" * 32
PUT = Question("PUT", "/contacts/con_1", "api.fluenzr.co")
GET = Question("GET", "/contacts/con_1", "api.fluenzr.co")
BULK = Question("POST", "/contacts/bulk", "api.fluenzr.co", optional=True)

GOOD = b'{"success": true, "data": {}}'
NAMED = b'{"success": false, "error": {"code": "A_CODE", "message": "Some words", "details": null}}'
PLAN = (
    b'{"success": false, "error": {"code": "FORBIDDEN", "message": "API access requires Pro plan"}}'
)
HTML = b"\n<html><body>nginx</body></html>"


def judged(question: Question, status: int, body: bytes, fault: str = "") -> FluenzrError | None:
    return answer.failure(question, status, answer.read(body, fault), secret=KEY)


@pytest.mark.parametrize("status", [200, 201])
def test_success_needs_a_good_status_and_its_own_word(status: int) -> None:
    assert judged(PUT, status, GOOD) is None


@pytest.mark.parametrize(
    ("question", "status", "body", "kind"),
    [
        (PUT, 400, NAMED, Refused),
        (PUT, 413, HTML, Refused),
        (PUT, 422, NAMED, Refused),
        (PUT, 418, b"", Refused),
        (PUT, 404, NAMED, NotFound),
        (BULK, 404, NAMED, NotSupported),
        (BULK, 404, b"Cannot POST /v1/contacts/bulk", NotSupported),
        (PUT, 405, HTML, NotSupported),
        (PUT, 409, NAMED, Conflict),
        (GET, 401, b"", KeyNotAccepted),
        (GET, 402, NAMED, AccessDenied),
        (GET, 403, HTML, AccessDenied),
        (GET, 407, HTML, AccessDenied),
    ],
)
def test_definite_refusals(question: Question, status: int, body: bytes, kind: type) -> None:
    error = judged(question, status, body)
    assert type(error) is kind
    assert error.status == status


@pytest.mark.parametrize(
    ("status", "body", "answered"),
    [
        (200, HTML, True),
        (200, b"", True),
        (200, b"[]", True),
        (200, b'{"success": "true"}', True),
        (200, b'{"data": {}}', True),
        (200, NAMED, True),
        (204, b"", True),
        (302, b"", True),
        (404, HTML, True),  # another server's word: nobody was deleted by hand
        (404, b'{"message": "no Route matched"}', True),
        (408, b"", False),
        (500, NAMED, True),
        (503, NAMED, True),
        (500, HTML, False),  # a gateway's: what stands behind it may still be at work
        (502, NAMED, False),
        (503, HTML, False),
        (504, NAMED, False),
        (524, b"", False),
    ],
)
def test_no_answer_that_can_be_trusted(status: int, body: bytes, *, answered: bool) -> None:
    error = judged(PUT, status, body)
    assert type(error) is Unanswered
    assert (error.status, error.answered) == (status, answered)


def test_a_body_that_did_not_come_whole_is_no_success() -> None:
    error = judged(PUT, 200, b"", "its body ended early")
    assert isinstance(error, Unanswered)
    assert error.why == "its body ended early"
    assert type(judged(PUT, 401, b"", "its body ended early")) is KeyNotAccepted


def test_access_denied_has_three_texts() -> None:
    wrong, read_only, plan = (
        judged(GET, 401, NAMED),
        judged(PUT, 403, NAMED),
        judged(PUT, 403, PLAN),
    )
    assert wrong is not None
    assert read_only is not None
    assert plan is not None
    assert "does not accept the API key" in wrong.what
    assert "may not write" in read_only.what
    assert "has no API" in plan.what
    assert len({wrong.hint, read_only.hint, plan.hint}) == 3


def test_every_error_says_what_where_why_and_what_to_do() -> None:
    for status in (200, 301, 400, 401, 402, 403, 404, 405, 408, 409, 413, 422, 500, 502, 503, 504):
        for body in (NAMED, HTML):
            error = judged(PUT, status, body)
            assert error is not None
            assert "PUT /contacts/con_1 at api.fluenzr.co" in error.what
            assert error.hint
            assert error.why
    words = judged(PUT, 422, NAMED)
    assert words is not None
    assert (words.code, words.why) == ("A_CODE", "A_CODE: Some words")


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (
            b'{"success": false, "error": {"code": "V", "message": "Bad", "details": [{"f": "phone"}]}}',
            'V: Bad: [{"f":"phone"}]',
        ),
        (b'{"success": false, "error": "Just words"}', "Just words"),
        (b'{"success": false, "error": {"message": 5, "code": null}}', ""),
        (b'{"success": false}', ""),
        (
            b'{"success": false, "error": {"message": "a\\u0000b\\u001b[31m\\u202e\\n  c"}}',
            "a b [31m c",
        ),
        (f'{{"success": false, "error": "bad key {KEY}, flz_sk_x"}}'.encode(), "bad key {M}, {M}"),
    ],
)
def test_fluenzrs_words_are_kept_clean_and_without_the_key(body: bytes, why: str) -> None:
    error = judged(PUT, 422, body)
    assert error is not None
    assert error.why == why.replace("{M}", answer.MASK)


def test_a_key_of_another_shape_is_masked_too() -> None:
    content = answer.read(b'{"success": false, "error": "no such key: s3cr3t-key"}')
    error = answer.failure(PUT, 401, content, secret="s3cr3t-key")
    assert "s3cr3t" not in str(error)


def test_long_words_are_shortened() -> None:
    assert len(answer.clean("x" * 10**6)) == answer.WORDS_CHARACTERS_MAX

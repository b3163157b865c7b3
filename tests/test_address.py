"""Addresses: one form for one mailbox, and nothing that cannot be mailed."""

import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.address import AddressError, normalise_address

LONG = "a" * 60


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("ann@example.com", "ann@example.com"),
        ("  Ann.Smith@Example.COM\n", "ann.smith@example.com"),
        ("ann+crm@mail.example.co.uk", "ann+crm@mail.example.co.uk"),
        ("o'neil@example.com", "o'neil@example.com"),
        ("\u200bann@example.com\ufeff", "ann@example.com"),
        ("\u00a0ann@example.com\u00a0", "ann@example.com"),
        ("ann@MÜLLER.example.com", "ann@müller.example.com"),
        ("ann@xn--mller-kva.example.com", "ann@xn--mller-kva.example.com"),
        ("ann@ｅxample.com", "ann@example.com"),
        ("a@b.co", "a@b.co"),
        (f"{LONG}@{LONG}.example.com", f"{LONG}@{LONG}.example.com"),
    ],
)
def test_address_is_trimmed_and_lower_case(written, address):
    assert normalise_address(written) == address


@pytest.mark.parametrize(
    "written",
    [
        "",
        "   ",
        "ann",
        "@example.com",
        "ann@",
        "ann@localhost",
        "ann@corp.local",
        "ann@example.test",
        "ann@example..com",
        ".ann@example.com",
        "an..n@example.com",
        "ann@-example.com",
        "ann@exa_mple.com",
        "ann@example.123",
        "ann@1.2.3.4",
        "ann@[1.2.3.4]",
        "ann bob@example.com",
        "ann@example.com, bob@example.com",
        "ann@example.com;bob@example.com",
        "Ann <ann@example.com>",
        '"ann"@example.com',
        "änn@example.com",
        "mailto:ann@example.com ?",
        "a" * 65 + "@example.com",
        "ann@" + "a" * 64 + ".com",
        "ann@" + "a." * 130 + "com",
        "n/a",
        "ann@example.com\x00",
    ],
)
def test_what_cannot_be_mailed_is_refused_and_not_repeated(written):
    with pytest.raises(AddressError) as caught:
        normalise_address(written)
    assert not written.strip() or written.strip() not in str(caught.value)


@given(st.from_regex(r"[A-Za-z0-9._%+'-]{1,20}@[a-z0-9.-]{1,20}\.[a-z0-9]{1,9}", fullmatch=True))
def test_the_fast_form_accepts_exactly_what_the_library_accepts(text):
    try:
        expected = validate_email(text.lower(), check_deliverability=False, allow_smtputf8=False)
    except EmailNotValidError:
        with pytest.raises(AddressError):
            normalise_address(text)
    else:
        assert expected.original == normalise_address(text) == text.lower()


@given(st.text(alphabet="aA.@-+ é\u200b", max_size=20))
def test_normal_form_is_stable(text):
    try:
        once = normalise_address(f"{text}@example.com")
    except AddressError:
        return
    assert normalise_address(once) == once == once.strip().lower()

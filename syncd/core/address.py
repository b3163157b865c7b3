"""An e-mail address in the one form in which it is compared: trimmed, lower case, well-formed.

The address is the identity of a contact, and letter case is never data (reference, "Contacts" [D]).
Whether a mailbox exists is not asked: that would need the network, and FluenzR finds it out.
"""

import re

from email_validator import EmailNotValidError, validate_email

ADDRESS_CHARS_MAX = 254  # RFC 5321, 4.5.3.1.3, without the angle brackets

# What spreadsheets and web forms leave around a text.
_INVISIBLE = "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"
# The ordinary form, which email-validator accepts unchanged (a test compares the two): everything
# else goes to it.
_ORDINARY = re.compile(
    r"(?=[^@]{1,64}@[^@]{1,189}\Z)"
    r"[a-z0-9_%+-]+(?:\.[a-z0-9_%+-]+)*@"
    r"(?:[a-z0-9]+(?:-[a-z0-9]+)*\.)+"
    r"(?!(?:arpa|local|localhost|invalid|onion|test)\Z)[a-z]{2,24}\Z"
)
_LABEL_TOO_LONG = re.compile(r"[^.@]{64}")


class AddressError(ValueError):
    """Not a usable address; the text says why, without the address."""


def normalise_address(text: str) -> str:
    """The address trimmed and in lower case; a domain that is not ASCII in its normal Unicode form.

    Raises AddressError for anything that cannot be mailed: no @, two addresses, a display name, a
    local part that is not ASCII, a domain that exists on no public network.
    """
    address = text.strip().lower()
    if _ORDINARY.match(address) and not _LABEL_TOO_LONG.search(address, address.index("@")):
        return address
    return _unusual(address.strip(_INVISIBLE).strip())


def _unusual(address: str) -> str:
    if not address:
        raise AddressError("no e-mail address")
    if len(address) > ADDRESS_CHARS_MAX:
        raise AddressError(f"the e-mail address is longer than {ADDRESS_CHARS_MAX} characters")
    try:
        parts = validate_email(
            address, check_deliverability=False, strict=True, allow_smtputf8=False
        )
    except EmailNotValidError:
        raise AddressError("not a valid e-mail address") from None
    return address if address.isascii() else f"{parts.local_part}@{parts.domain}".lower()

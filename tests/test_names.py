"""What the texts of a CRM say of a person and a company."""

from typing import Any

import pytest

from syncd.http import domain_of, further_key, split_name


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("Ada Byron", "Ada", "Byron"),
        ("  Ada   Byron ", "Ada", "Byron"),
        ("Jean-Luc O'Brien", "Jean-Luc", "O'Brien"),
        ("BYRON Ada", "Ada", "BYRON"),
        ("ADA BYRON", "ADA", "BYRON"),
        ("JP Byron", "JP Byron", None),
        ("Dr. Byron", "Dr. Byron", None),
        ("Mme Byron", "Mme Byron", None),
        ("Anna Maria Lopez", "Anna Maria Lopez", None),
        ("Byron, Ada", "Byron, Ada", None),
        ("Ada & Bob", "Ada & Bob", None),
        ("van Gogh", "van Gogh", None),
        ("Team 7", "Team 7", None),
        ("Ada", "Ada", None),
        ("", None, None),
        (False, None, None),
    ],
)
def test_only_two_plain_words_are_first_and_last_name(name: Any, first: Any, last: Any) -> None:
    assert split_name(name) == (first, last)


@pytest.mark.parametrize(
    ("website", "domain"),
    [
        ("https://www.example.com/x", "example.com"),
        ("Example.com", "example.com"),
        ("http://[", None),
        ("soon", None),
        (False, None),
    ],
)
def test_the_domain_of_a_website(website: Any, domain: str | None) -> None:
    assert domain_of(website) == domain


def test_a_further_address_has_a_key_of_its_own_that_does_not_show_it() -> None:
    key = further_key("7", "ann@example.com")
    assert key == further_key("7", " ANN@example.com ")
    assert key.startswith("7#")
    assert "ann" not in key
    assert key != further_key("7", "bob@example.com")
    assert further_key("7", "half an emoji \ud83d@example.com")

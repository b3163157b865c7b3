"""To which contact a record belongs: one case per branch, then what must hold in every case."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.link import Link, LinkFacts, decide_link

ALONE = LinkFacts(
    email="ann@example.com",
    cid=None,
    contact_email=None,
    contact_state=None,
    contact_moves=False,
    undecided=False,
    target_cid=None,
    target_has_it=False,
    old_address_wanted=False,
    address_forgotten=False,
    address_opted_out=False,
)
MOVED = replace(ALONE, cid=1, contact_email="old@example.com", contact_state="ok")


@pytest.mark.parametrize(
    ("facts", "link"),
    [
        pytest.param(ALONE, Link.NEW, id="a new person"),
        pytest.param(
            replace(ALONE, target_cid=2, target_has_it=True),
            Link.JOIN,
            id="two records, one person",
        ),
        pytest.param(
            replace(ALONE, target_cid=2), Link.JOIN_LATER, id="somebody moves there just now"
        ),
        pytest.param(
            replace(ALONE, address_forgotten=True), Link.ERASE, id="forgotten after it was read"
        ),
        pytest.param(replace(MOVED, contact_email=ALONE.email), Link.KEEP, id="nothing moved"),
        pytest.param(MOVED, Link.MOVE, id="a changed address is the same person"),
        pytest.param(
            replace(MOVED, undecided=True), Link.WAIT, id="its contact cannot be read now"
        ),
        pytest.param(
            replace(MOVED, target_cid=2, target_has_it=True), Link.JOIN, id="swapped addresses"
        ),
        pytest.param(replace(MOVED, contact_state="new"), Link.NEW, id="never was created"),
        pytest.param(
            replace(MOVED, contact_moves=True), Link.NEW, id="another record has moved it already"
        ),
        pytest.param(
            replace(MOVED, old_address_wanted=True),
            Link.NEW,
            id="somebody stays at the old address",
        ),
        pytest.param(
            replace(MOVED, address_opted_out=True), Link.NEW, id="the new address has opted out"
        ),
    ],
)
def test_each_case(facts: LinkFacts, link: Link) -> None:
    assert decide_link(facts) is link


FACTS = st.builds(
    LinkFacts,
    email=st.sampled_from(["ann@example.com", "bob@example.com"]),
    cid=st.one_of(st.none(), st.just(1)),
    contact_email=st.sampled_from(["ann@example.com", "bob@example.com"]),
    contact_state=st.sampled_from(["new", "ok"]),
    contact_moves=st.booleans(),
    undecided=st.booleans(),
    target_cid=st.one_of(st.none(), st.just(2)),
    target_has_it=st.booleans(),
    old_address_wanted=st.booleans(),
    address_forgotten=st.booleans(),
    address_opted_out=st.booleans(),
)


@given(FACTS)
def test_a_contact_moves_only_to_a_free_clean_address_that_leaves_nobody_behind(
    facts: LinkFacts,
) -> None:
    if decide_link(facts) is Link.MOVE:
        assert facts.target_cid is None
        assert not facts.old_address_wanted
        assert not facts.address_opted_out
        assert not facts.address_forgotten
        assert not facts.undecided
        assert facts.contact_state == "ok"


@given(FACTS)
def test_nothing_is_decided_about_a_contact_in_doubt(facts: LinkFacts) -> None:
    in_doubt = facts.cid is not None and facts.undecided and facts.contact_email != facts.email
    if in_doubt and not facts.address_forgotten:
        assert decide_link(facts) is Link.WAIT

"""The sandbox's contacts, over HTTP, against the FluenzR reference [I] [D]; each [?] both ways."""

import httpx
import pytest

from syncd.sandbox import Quirks, Sandbox
from syncd.testing.clock import FakeClock

KEY = "flz_sk_" + "a" * 32


@pytest.fixture(scope="module")
def client():
    with httpx.Client(trust_env=False, headers={"Authorization": f"Bearer {KEY}"}) as opened:
        yield opened


@pytest.fixture
def opened(client):
    """Open a sandbox with these quirks: the sandbox, and a function that asks it."""
    servers = []

    def open_sandbox(**quirks):
        sandbox = Sandbox(clock=FakeClock(), quirks=Quirks(**quirks))
        server = sandbox.serve()
        server.__enter__()
        servers.append(server)

        def ask(method, path, body=None, **query):
            return client.request(method, sandbox.url + path, json=body, params=query)

        return sandbox, ask

    yield open_sandbox
    for server in servers:
        server.__exit__(None, None, None)


def emails(answer):
    return [contact["email"] for contact in answer.json()["data"]]


def error(answer):
    assert answer.json()["success"] is False
    return answer.status_code, answer.json()["error"]["code"], answer.json()["error"]["message"]


def test_created_contact_is_shown_with_every_documented_field(opened):
    sandbox, ask = opened()
    group = sandbox.account.add_group("Customers")
    body = {
        "email": "Ann@Example.com",
        "firstName": "Ann",
        "groupIds": [group.id],
        "tags": ["crm"],
        "customFields": {"score": 5},
        "pipelineStageId": "stg_1",
    }
    answer = ask("POST", "/contacts", body)
    assert answer.status_code == 201
    shown = answer.json()["data"]
    assert shown["id"].startswith("con_")
    assert shown == {
        "id": shown["id"],
        "email": "Ann@Example.com",
        "firstName": "Ann",
        "lastName": None,
        "company": None,
        "jobTitle": None,
        "phone": None,
        "website": None,
        "status": "active",
        "groups": [{"id": group.id, "name": "Customers"}],
        "tags": ["crm"],
        "customFields": {"score": 5},
        "pipelineStage": {"id": "stg_1", "name": "New"},
        "createdAt": "2026-01-01T10:00:00.000Z",
        "updatedAt": "2026-01-01T10:00:00.000Z",
    }
    assert ask("GET", f"/contacts/{shown['id']}").json() == {"success": True, "data": shown}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, (400, "VALIDATION_ERROR", "Email is required")),
        ({"email": ""}, (400, "VALIDATION_ERROR", "Email is required")),
        ({"email": "nobody"}, (400, "VALIDATION_ERROR", "Invalid email format")),
        ({"email": "a b@example.com"}, (400, "VALIDATION_ERROR", "Invalid email format")),
        ({"email": " ann@example.com"}, (400, "VALIDATION_ERROR", "Invalid email format")),
        ({"email": 5}, (400, "VALIDATION_ERROR", "Invalid email format")),
        ({"email": "TAKEN@example.com"}, (409, "CONFLICT", "Email already exists")),
        ({"email": "b@example.com", "groupIds": ["x"]}, (400, "VALIDATION_ERROR", "Unknown group")),
        (
            {"email": "b@example.com", "phone": 5},
            (400, "VALIDATION_ERROR", "phone must be a string"),
        ),
        ({"email": "no@example.com"}, (400, "VALIDATION_ERROR", "Not that one")),
    ],
)
def test_refused_create_changes_nothing(opened, body, expected):
    sandbox, ask = opened()
    sandbox.account.add_contact("taken@example.com")
    sandbox.account.refuse("No@example.com", "Not that one")
    assert error(ask("POST", "/contacts", body)) == expected
    assert list(sandbox.account.contacts_by_email()) == ["taken@example.com"]


def test_address_that_is_accepted_again_can_be_created(opened):
    sandbox, ask = opened()
    sandbox.account.refuse("ann@example.com")
    assert ask("POST", "/contacts", {"email": "ann@example.com"}).status_code == 400
    sandbox.account.accept("ann@example.com")
    assert ask("POST", "/contacts", {"email": "ann@example.com"}).status_code == 201


def test_email_filter_is_a_contains_match_without_letter_case(opened):
    sandbox, ask = opened()
    for email in ("Ann@x.example.com", "joann@X.example.com", "bob@x.example.com"):
        sandbox.account.add_contact(email)
    found = ask("GET", "/contacts", email="ann@x.example.com")
    assert emails(found) == ["Ann@x.example.com", "joann@X.example.com"]
    sandbox.account.add_contact("a+b@example.com")
    assert emails(ask("GET", "/contacts", email="a+b@example.com")) == ["a+b@example.com"]


def test_filters_narrow_the_listing(opened):
    sandbox, ask = opened()
    group = sandbox.account.add_group("Customers")
    sandbox.account.add_contact("ann@example.com", groups=["Customers"], tags=["vip"])
    sandbox.account.add_contact("bob@example.com", status="unsubscribed")
    for query in ({"groupId": group.id}, {"group": group.id}, {"tag": "vip"}, {"status": "active"}):
        assert emails(ask("GET", "/contacts", **query)) == ["ann@example.com"]
    assert emails(ask("GET", "/contacts", status="active", tag="none")) == []
    assert ask("GET", "/contacts", status="gone").status_code == 400


def test_unknown_group_parameter_lists_everyone(opened):
    sandbox, ask = opened(group_filter="group")
    group = sandbox.account.add_group("Customers")
    sandbox.account.add_contact("ann@example.com", groups=["Customers"])
    sandbox.account.add_contact("bob@example.com")
    assert len(emails(ask("GET", "/contacts", groupId=group.id))) == 2
    assert len(emails(ask("GET", "/contacts", group=group.id))) == 1


def test_paging_covers_everyone_once(opened):
    sandbox, ask = opened()
    for number in range(250):
        sandbox.account.add_contact(f"p{number}@example.com")
    pages = [ask("GET", "/contacts", page=page, perPage=500) for page in (1, 2, 3, 4)]
    assert [len(emails(page)) for page in pages] == [100, 100, 50, 0]
    assert len({email for page in pages for email in emails(page)}) == 250
    assert pages[0].json()["meta"] == {"page": 1, "perPage": 100, "total": 250, "totalPages": 3}
    assert len(emails(ask("GET", "/contacts"))) == 20
    for query in ({"page": 0}, {"page": "x"}, {"perPage": -1}):
        assert ask("GET", "/contacts", **query).status_code == 400


def test_listing_shows_changes_between_its_pages(opened):
    sandbox, ask = opened()
    sandbox.account.add_contact("ann@example.com")
    assert ask("GET", "/contacts").json()["meta"]["total"] == 1
    sandbox.account.add_contact("bob@example.com")
    assert ask("GET", "/contacts").json()["meta"]["total"] == 2
    sandbox.account.opt_out("bob@example.com", status="blocked")
    assert ask("GET", "/contacts").json()["data"][1]["status"] == "blocked"
    sandbox.account.remove("ann@example.com")
    assert emails(ask("GET", "/contacts")) == ["bob@example.com"]


@pytest.mark.parametrize(
    ("sort", "ascending"), [("honoured", "abc"), ("ignored", "abc"), ("updated_at", "bca")]
)
def test_sort_by_creation_has_three_readings(opened, sort, ascending):
    sandbox, ask = opened(sort=sort)
    for name in "abc":
        sandbox.account.add_contact(f"{name}@example.com")
        sandbox.clock.advance_s(1)
    sandbox.account.edit("a@example.com", firstName="Ann")
    rising = emails(ask("GET", "/contacts", sort="createdAt", order="asc"))
    falling = emails(ask("GET", "/contacts", sort="createdAt", order="desc"))
    assert "".join(email[0] for email in rising) == ascending
    assert falling == (rising if sort == "ignored" else rising[::-1])
    assert ask("GET", "/contacts", sort="shoeSize").status_code == 400


def test_update_changes_only_what_it_names(opened):
    sandbox, ask = opened()
    contact = sandbox.account.add_contact("ann@example.com", firstName="Ann", company="Acme")
    sandbox.clock.advance_s(5)
    shown = ask("PUT", f"/contacts/{contact.id}", {"company": "Bolt"}).json()["data"]
    assert (shown["firstName"], shown["company"]) == ("Ann", "Bolt")
    assert shown["createdAt"] == "2026-01-01T10:00:00.000Z"
    assert shown["updatedAt"] == "2026-01-01T10:00:05.000Z"


def test_moved_address_frees_the_old_one_and_respects_others(opened):
    sandbox, ask = opened()
    ann = sandbox.account.add_contact("ann@example.com")
    sandbox.account.add_contact("bob@example.com")
    taken = ask("PUT", f"/contacts/{ann.id}", {"email": "BOB@example.com", "firstName": "X"})
    assert error(taken) == (409, "CONFLICT", "Email already exists")
    assert sandbox.account.contact("ann@example.com")["firstName"] is None
    assert ask("PUT", f"/contacts/{ann.id}", {"email": "ANN@example.com"}).status_code == 200
    assert ask("PUT", f"/contacts/{ann.id}", {"email": "eve@example.com"}).status_code == 200
    assert ask("POST", "/contacts", {"email": "ann@example.com"}).status_code == 201
    assert set(sandbox.account.contacts_by_email()) == {
        "ann@example.com",
        "bob@example.com",
        "eve@example.com",
    }


def test_status_is_not_writable(opened):
    sandbox, ask = opened()
    ann = sandbox.account.add_contact("ann@example.com", status="unsubscribed")
    assert ask("PUT", f"/contacts/{ann.id}", {"status": "active"}).status_code == 200
    assert sandbox.account.contact("ann@example.com")["status"] == "unsubscribed"


def test_deleted_contact_is_gone_everywhere(opened):
    sandbox, ask = opened()
    sandbox.account.add_group("Customers", dynamic=True)
    ann = sandbox.account.add_contact("ann@example.com", groups=["Customers"])
    answer = ask("DELETE", f"/contacts/{ann.id}")
    assert answer.json() == {"success": True, "data": {"id": ann.id, "deleted": True}}
    assert error(ask("GET", f"/contacts/{ann.id}")) == (404, "NOT_FOUND", "Contact not found")
    assert ask("DELETE", f"/contacts/{ann.id}").status_code == 404
    assert sandbox.account.group("Customers").size == 0
    assert sandbox.account.campaign("Campaign of Customers").members == {}


def test_tags_are_added_once_and_removed(opened):
    sandbox, ask = opened()
    ann = sandbox.account.add_contact("ann@example.com", tags=["crm"])
    ask("POST", f"/contacts/{ann.id}/tags", {"tags": ["vip", "crm"]})
    assert sandbox.account.contact("ann@example.com")["tags"] == ["crm", "vip"]
    ask("DELETE", f"/contacts/{ann.id}/tags", {"tags": ["crm", "other"]})
    assert sandbox.account.contact("ann@example.com")["tags"] == ["vip"]


def test_search_combines_query_and_filters(opened):
    sandbox, ask = opened()
    group = sandbox.account.add_group("Customers")
    for name, score in (("ann", 1), ("joann", 2), ("bob", 1)):
        sandbox.account.add_contact(
            f"{name}@example.com", groups=["Customers"], custom_fields={"score": score}
        )
    body = {"query": "ANN", "filters": {"groups": [group.id], "status": "active"}}
    body["sort"] = {"field": "email", "order": "desc"}
    answer = ask("POST", "/contacts/search", body)
    assert emails(answer) == ["joann@example.com", "ann@example.com"]
    body["filters"]["customFields"] = {"score": 1}
    assert emails(ask("POST", "/contacts/search", body)) == ["ann@example.com"]
    assert emails(ask("POST", "/contacts/search", {"page": 2, "perPage": 2})) == ["bob@example.com"]
    assert sandbox.writes() == 0


# bulk


def test_bulk_counts_and_skips_strangers(opened):
    sandbox, ask = opened()
    group = sandbox.account.add_group("Customers")
    sandbox.account.add_contact("ann@example.com", firstName="Ann")
    rows = [{"email": "ANN@example.com", "firstName": "X"}, {"email": "bob@example.com"}]
    body = {"contacts": rows, "groupIds": [group.id], "onDuplicate": "skip"}
    data = ask("POST", "/contacts/bulk", body).json()["data"]
    assert data == {"created": 1, "updated": 0, "skipped": 1, "errors": []}
    assert sandbox.account.contact("ann@example.com")["firstName"] == "Ann"
    assert sandbox.account.members("Customers") == {"bob@example.com"}


def test_bulk_skip_may_add_the_groups(opened):
    sandbox, ask = opened(bulk_skip_adds_groups=True)
    group = sandbox.account.add_group("Customers")
    sandbox.account.add_contact("ann@example.com", firstName="Ann")
    rows = [{"email": "ann@example.com", "firstName": "X"}]
    body = {"contacts": rows, "groupIds": [group.id], "onDuplicate": "skip"}
    assert ask("POST", "/contacts/bulk", body).json()["data"]["skipped"] == 1
    assert sandbox.account.contact("ann@example.com")["firstName"] == "Ann"
    assert sandbox.account.members("Customers") == {"ann@example.com"}


def test_bulk_update_updates_and_creates(opened):
    sandbox, ask = opened()
    sandbox.account.add_contact("Ann@example.com", firstName="Ann", company="Acme")
    rows = [{"email": "ann@example.com", "firstName": "Anna"}, {"email": "bob@example.com"}]
    data = ask("POST", "/contacts/bulk", {"contacts": rows, "onDuplicate": "update"}).json()["data"]
    assert (data["created"], data["updated"], data["skipped"]) == (1, 1, 0)
    ann = sandbox.account.contact("ann@example.com")
    assert (ann["email"], ann["firstName"], ann["company"]) == ("Ann@example.com", "Anna", "Acme")


def test_second_row_of_one_address_is_a_duplicate(opened):
    sandbox, ask = opened()
    rows = [{"email": "ann@example.com", "phone": "1"}, {"email": "Ann@example.com", "phone": "2"}]
    for duplicates, key, phone in (("skip", "skipped", "1"), ("update", "updated", "2")):
        body = {"contacts": rows, "onDuplicate": duplicates}
        data = ask("POST", "/contacts/bulk", body).json()["data"]
        assert (data["created"], data[key]) == (1, 1)
        assert sandbox.account.contact("ann@example.com")["phone"] == phone
        sandbox.account.remove("ann@example.com")


@pytest.mark.parametrize(
    ("shape", "keys"),
    [
        ("index_email", {"index": 1, "email": "bad", "message": "Invalid email format"}),
        ("index", {"index": 1, "message": "Invalid email format"}),
        ("email", {"email": "bad", "message": "Invalid email format"}),
        ("message", {"message": "Invalid email format"}),
    ],
)
def test_bulk_errors_have_four_shapes(opened, shape, keys):
    _, ask = opened(bulk_errors=shape)
    rows = [{"email": "ann@example.com"}, {"email": "bad"}, {"email": "bob@example.com"}]
    data = ask("POST", "/contacts/bulk", {"contacts": rows}).json()["data"]
    assert data == {"created": 2, "updated": 0, "skipped": 0, "errors": [keys]}


def test_bulk_may_refuse_everything_for_one_row(opened):
    sandbox, ask = opened(bulk_errors="whole400")
    rows = [{"email": "ann@example.com"}, {"email": "bad"}]
    assert ask("POST", "/contacts/bulk", {"contacts": rows}).status_code == 400
    assert sandbox.account.contacts_by_email() == {}
    assert ask("POST", "/contacts/bulk", {"contacts": rows[:1]}).json()["data"]["created"] == 1


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"contacts": []},
        {"contacts": [{"email": f"p{number}@example.com"} for number in range(1001)]},
        {"contacts": [{"email": "ann@example.com"}], "onDuplicate": "merge"},
        {"contacts": [{"email": "ann@example.com"}], "groupIds": ["grp_x"]},
    ],
)
def test_bulk_that_is_refused_creates_nobody(opened, body):
    sandbox, ask = opened()
    assert ask("POST", "/contacts/bulk", body).status_code == 400
    assert sandbox.account.contacts_by_email() == {}


@pytest.mark.parametrize("status", [404, 405])
def test_bulk_may_be_absent(opened, status):
    _, ask = opened(absent=frozenset({"POST /contacts/bulk"}), absent_status=status)
    body = {"contacts": [{"email": "ann@example.com"}]}
    assert ask("POST", "/contacts/bulk", body).status_code == status
    assert ask("POST", "/contacts", body["contacts"][0]).status_code == 201


def test_large_body_is_refused_by_a_page(opened):
    sandbox, ask = opened(body_bytes_max=200)
    rows = [{"email": f"p{number}@example.com"} for number in range(20)]
    answer = ask("POST", "/contacts/bulk", {"contacts": rows})
    assert (answer.status_code, answer.headers["content-type"]) == (413, "text/html; charset=utf-8")
    assert sandbox.account.contacts_by_email() == {}


# what is there, and what is given: merge or replace


@pytest.mark.parametrize("way", ["put", "bulk"])
@pytest.mark.parametrize(
    ("mixing", "custom", "tags"),
    [("merge", {"a": 1, "b": 2}, ["x", "y"]), ("replace", {"b": 2}, ["y"])],
)
def test_custom_fields_and_tags_merge_or_replace(opened, way, mixing, custom, tags):
    sandbox, ask = opened(**{f"custom_fields_{way}": mixing, f"tags_{way}": mixing})
    ann = sandbox.account.add_contact("ann@example.com", custom_fields={"a": 1}, tags=["x"])
    change = {"customFields": {"b": 2}, "tags": ["y"]}
    if way == "put":
        ask("PUT", f"/contacts/{ann.id}", change)
    else:
        row = {"email": "ann@example.com", **change}
        ask("POST", "/contacts/bulk", {"contacts": [row], "onDuplicate": "update"})
    shown = sandbox.account.contact("ann@example.com")
    assert (shown["customFields"], shown["tags"]) == (custom, tags)


@pytest.mark.parametrize(("mixing", "names"), [("merge", {"A", "B"}), ("replace", {"B"})])
def test_groups_of_an_update_merge_or_replace(opened, mixing, names):
    sandbox, ask = opened(groups_put=mixing)
    sandbox.account.add_group("A")
    group = sandbox.account.add_group("B")
    ann = sandbox.account.add_contact("ann@example.com", groups=["A"])
    ask("PUT", f"/contacts/{ann.id}", {"groupIds": [group.id]})
    assert sandbox.account.groups_of("ann@example.com") == names


@pytest.mark.parametrize(
    ("refused", "null_status", "empty_status"),
    [("none", 200, 200), ("null", 400, 200), ("empty", 200, 400)],
)
def test_clearing_by_null_or_by_empty_string(opened, refused, null_status, empty_status):
    sandbox, ask = opened(clear_refused=refused)
    ann = sandbox.account.add_contact("ann@example.com", phone="1", custom_fields={"a": 1})
    path = f"/contacts/{ann.id}"
    assert ask("PUT", path, {"phone": None}).status_code == null_status
    assert ask("PUT", path, {"phone": ""}).status_code == empty_status
    assert not sandbox.account.contact("ann@example.com")["phone"]
    assert ask("PUT", path, {"customFields": {"a": ""}}).status_code == empty_status
    assert ask("PUT", path, {"customFields": {"a": None}}).status_code == null_status
    assert not sandbox.account.contact("ann@example.com")["customFields"].get("a")


@pytest.mark.parametrize(
    ("reading", "status", "shown"), [("accept", 200, 7), ("drop", 200, None), ("refuse", 400, None)]
)
def test_unknown_names_are_accepted_dropped_or_refused(opened, reading, status, shown):
    sandbox, ask = opened(unknown_custom_fields=reading, unknown_fields=reading)
    sandbox.account.custom_field_names.add("score")
    ann = sandbox.account.add_contact("ann@example.com")
    path = f"/contacts/{ann.id}"
    assert ask("PUT", path, {"customFields": {"score": 1}}).status_code == 200
    assert ask("PUT", path, {"customFields": {"size": 7}}).status_code == status
    assert ask("PUT", path, {"consentSource": 7}).status_code == status
    contact = sandbox.account.contact("ann@example.com")
    assert contact["customFields"]["score"] == 1
    assert contact["customFields"].get("size") == shown
    assert contact.get("consentSource") == shown


def test_address_may_be_shown_in_lower_case(opened):
    _, ask = opened(email_shown="lower")
    shown = ask("POST", "/contacts", {"email": "Ann@Example.com"}).json()["data"]
    assert shown["email"] == "ann@example.com"


# people's hands


def test_hands_change_what_the_api_shows(opened):
    sandbox, ask = opened()
    sandbox.account.add_group("Customers")
    ann = sandbox.account.add_contact("ann@example.com", tags=["a"])
    sandbox.account.edit("ann@example.com", lastName="Lee", custom_fields={"score": 1}, tags=["b"])
    sandbox.account.put_in("ann@example.com", "Customers")
    sandbox.account.opt_out("ann@example.com")
    sandbox.account.rename("ann@example.com", "lee@example.com")
    shown = ask("GET", f"/contacts/{ann.id}").json()["data"]
    assert (shown["email"], shown["lastName"], shown["tags"]) == ("lee@example.com", "Lee", ["b"])
    assert (shown["status"], shown["customFields"]) == ("unsubscribed", {"score": 1})
    assert [group["name"] for group in shown["groups"]] == ["Customers"]
    sandbox.account.take_out("lee@example.com", "Customers")
    sandbox.account.remove("lee@example.com")
    assert ask("GET", f"/contacts/{ann.id}").status_code == 404


def test_hands_refuse_what_does_not_exist(opened):
    sandbox, _ = opened()
    with pytest.raises(KeyError):
        sandbox.account.edit("nobody@example.com", firstName="X")
    with pytest.raises(TypeError, match="firstname"):
        sandbox.account.add_contact("ann@example.com", firstname="Ann")
    with pytest.raises(KeyError):
        sandbox.account.members("No such group")

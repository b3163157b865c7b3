"""The page in a real Chromium: readable on a phone, dark and light, usable by keyboard alone, and deaf to hostile records."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from browser import Browser, browser, until
from house import house_fixture, row  # noqa: F401 - a fixture
from page_house import (
    MARKUP,
    TOKEN,
    Stand,
    held_house,
    lived_in,
    stand_fixture,  # noqa: F401 - a fixture
)
from raw_server import response, serving

PHONE_PX, DESK_PX = 360, 1200
PATHS = (
    "/",
    "/held/customers",
    "/plan/customers",
    "/runs",
    "/runs/9",
    "/quarantine",
    "/campaigns",
    "/person",
)

# What is written too pale: WCAG 2.2, 1.4.3: 4.5 to 1, or 3 to 1 for large text. Its ground is the nearest that is not transparent.
PALE = """
const paint = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
const rgba = colour => { paint.clearRect(0, 0, 1, 1); paint.fillStyle = colour; paint.fillRect(0, 0, 1, 1);
  return [...paint.getImageData(0, 0, 1, 1).data]; };
const light = ([r, g, b]) => { const [x, y, z] = [r, g, b].map(v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
  return .2126 * x + .7152 * y + .0722 * z; };
const ground = e => { for (; e; e = e.parentElement) { const c = rgba(getComputedStyle(e).backgroundColor); if (c[3] == 255) return c; }
  return [255, 255, 255]; };
const pale = [];
for (const e of document.querySelectorAll('body *')) {
  if (!e.checkVisibility() || ![...e.childNodes].some(n => n.nodeType == 3 && n.textContent.trim())) continue;
  const style = getComputedStyle(e), pair = [light(rgba(style.color)), light(ground(e))];
  const ratio = (Math.max(...pair) + .05) / (Math.min(...pair) + .05);
  if (ratio < (parseFloat(style.fontSize) >= 24 ? 3 : 4.5)) pale.push(e.innerText.slice(0, 40) + ': ' + ratio.toFixed(2));
}
return pale;
"""
# What stands out of the window, and what somebody who cannot see the page would not be told.
OUTSIDE = """
const out = [...document.querySelectorAll('body *')].filter(e => e.checkVisibility() && e.getBoundingClientRect().right > arguments[0] + 1
  && !e.closest('.unseen, thead')).map(e => e.tagName + ' ' + e.innerText.slice(0, 40));
return document.documentElement.scrollWidth > arguments[0] ? ['the page itself', ...out] : out;
"""
UNTOLD = """
const bad = (css, fine) => [...document.querySelectorAll(css)].filter(e => !fine(e)).map(e => e.outerHTML.slice(0, 90));
return [...bad('input:not([type=hidden]):not([hidden])', e => e.labels.length),
  ...bad('button, a', e => e.innerText.trim()), ...bad('a', e => e.hasAttribute('href')), ...bad('svg', e => e.getAttribute('aria-label')),
  ...bad('table', e => e.caption && e.caption.textContent.trim()), ...bad('th', e => e.scope),
  ...bad('[aria-labelledby]', e => document.getElementById(e.getAttribute('aria-labelledby'))),
  ...bad('[onclick], [tabindex]:not(main)', () => false), ...(document.querySelectorAll('h1').length == 1 ? [] : ['h1']),
  ...(document.documentElement.lang && document.title ? [] : ['title'])];
"""


@contextmanager
def inside(stand: Stand) -> Iterator[Browser]:
    """A browser that has logged in."""
    with browser() as window:
        window.open(f"{stand.url}/login")
        window.type("#token", TOKEN)
        window.click("form.login button")
        until(lambda: window.url == f"{stand.url}/")
        yield window


def test_every_page_is_readable_on_a_phone_and_a_desk_by_day_and_by_night(stand: Stand) -> None:
    lived_in(stand)
    with inside(stand) as window:
        window.type("#search", "p5@example.com")
        window.click(".search button")
        pages = [stand.url + path for path in PATHS] + [window.url]
        find_out(window, stand, "customers")
        for url in pages:
            window.open(url)
            for width in (PHONE_PX, DESK_PX):
                window.size(width, phone=width == PHONE_PX)
                assert window.script(OUTSIDE, width) == [], (url, width)
                for dark in (False, True):
                    window.media(dark=dark)
                    assert window.script(PALE) == [], (url, width, dark)
            assert window.script(UNTOLD) == [], url
        assert window.complaints() == []


def test_the_checks_of_the_page_can_fail(stand: Stand) -> None:
    """A checker that cannot fail checks nothing."""
    with inside(stand) as window:
        window.size(PHONE_PX, phone=True)
        assert [window.script(check, PHONE_PX) for check in (PALE, OUTSIDE, UNTOLD)] == [[], [], []]
        window.script(
            "const p = document.createElement('p'), t = document.createElement('input');"
            "p.innerText = 'far '.repeat(9); p.style.cssText = 'color: #aaa; white-space: nowrap; width: 900px; max-width: none;"
            "background: #fff'; document.querySelector('main').append(p, t)"
        )
        assert all(window.script(check, PHONE_PX) for check in (PALE, OUTSIDE, UNTOLD))
        window.script("document.querySelector('main').setAttribute('onclick', '1')")
        assert any("Content Security Policy" in line for line in window.complaints())


def test_by_keyboard_alone_from_the_login_to_the_approval(stand: Stand) -> None:
    run = held_house(stand)
    with browser() as window:
        window.open(stand.url)
        assert window.focused() == "input token"
        window.press(*TOKEN, "enter")
        until(lambda: window.url == f"{stand.url}/")
        window.press("tab")
        assert window.focused() == "a Skip to the content"
        assert window.script("return document.activeElement.getBoundingClientRect().top >= 0")
        window.press("enter")
        reach(window, "a Look at what is held, and approve it")
        window.press("enter")
        until(lambda: window.url.endswith("/held/people"))
        reach(window, "input sure")
        window.press("space")
        reach(window, "button Approve 4 changes")
        window.press("enter")
        until(lambda: "Approved: 4 people" in window.text("main"))
        assert window.complaints() == []
    assert len(stand.house.query("SELECT 1 FROM held WHERE run=? AND approved=1", run)) == 4


def reach(window: Browser, wanted: str, *, steps: int = 30) -> None:
    """Tab until that has the focus; everything on the way shows that it has it."""
    for _ in range(steps):
        window.press("tab")
        if window.focused() != "body ":
            outline = "return getComputedStyle(document.activeElement).outlineStyle"
            assert window.script(outline) != "none", window.focused()
        if window.focused() == wanted:
            return
    pytest.fail(f"{wanted} was never reached")


def test_people_who_will_be_mailed_must_be_confirmed_before_anything_is_sent(stand: Stand) -> None:
    run = held_house(stand)
    with inside(stand) as window:
        window.open(f"{stand.url}/held/people")
        window.click("form.approve button")
        assert window.focused() == "input sure"  # the browser asks for it
    assert stand.house.query("SELECT 1 FROM held WHERE run=? AND approved=1", run) == []


def test_hostile_records_do_nothing_in_a_browser(stand: Stand) -> None:
    house = stand.house
    house.configure(guard={"max_field_changes": 0, "max_removals": 0})
    stand.configure('token = "env:SYNCD_PAGE_TOKEN"')
    house.write(row(1, "ann@example.com", first="Ann"))
    house.sync()
    house.write(
        row(MARKUP, "ann@example.com", first=MARKUP, last='" onfocus="alert(1)" autofocus="')
    )
    house.sync()
    with inside(stand) as window:
        for path in ("/", "/held/people", "/quarantine", "/runs/1"):
            window.open(stand.url + path)  # an open dialogue would end the next command
            assert window.script("return document.scripts.length + document.images.length") == 0
        window.open(f"{stand.url}/held/people")
        assert MARKUP[:25] in window.text("main")
        find_out(window, stand, "people")
        assert MARKUP[:25] in window.text("main")
        assert window.script("return document.scripts.length + document.images.length") == 0
        assert window.complaints() == []


def find_out(window: Browser, stand: Stand, sync: str) -> None:
    """Ask for a plan, and wait until the page shows it, as it does by itself."""
    window.open(f"{stand.url}/plan/{sync}")
    window.click("form.approve button")
    until(lambda: "Find out again" in window.text("main"))


def test_another_site_can_neither_frame_the_page_nor_use_the_session(stand: Stand) -> None:
    """Even one that knows what stands in the form: it is a foreign site, so the browser sends no cookie and says so."""
    run = held_house(stand)
    evil = '<iframe src="{0}/"></iframe><form method="post" action="{0}/held/people"></form>'
    page = response(evil.format(stand.url).encode(), "Content-Type: text/html")
    with serving(page) as server, inside(stand) as window:
        window.open(f"{stand.url}/held/people")
        form = window.script("return document.querySelector('.approve').innerHTML")
        window.open(f"http://localhost:{server.port}/")
        window.command("POST", "/frame", id=0)
        until(lambda: window.script("return document.URL") != "about:blank")
        assert window.script("return document.URL").startswith("chrome-error:")  # refused
        window.command("POST", "/frame", id=None)
        window.script("document.forms[0].innerHTML = arguments[0]", form)
        window.click("[name=sure]")
        window.click("form button")
        until(lambda: window.url.startswith(stand.url))
        assert "Nothing was done" in window.text("h1")
    assert stand.house.query("SELECT 1 FROM held WHERE run=? AND approved=1", run) == []

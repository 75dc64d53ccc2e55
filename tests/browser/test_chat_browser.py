"""The chat's page in a real browser: headless Chromium, driven by selenium.

    python -m pytest -m browser
    SILLY_SCREENSHOTS=/tmp/shots python -m pytest -m browser -k pictures

The server is a process of its own, so that selenium may block this one.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.test_chat import ChatServer, Person

from .page import ENTER, ESCAPE, SHIFT, TAB, Page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]
HOSTILE = "<img src=x onerror=\"document.title='owned'\">"


class ChatPage(Page):
    """The chat, and what a person does with it."""

    def open(self, server: ChatServer, name: str) -> None:
        """Opens the page and joins, by keyboard alone."""
        self.driver.get(server.url)
        self.focus_is_on("name")
        self.keys(name, ENTER)
        self.connected()
        self.focus_is_on("text")

    def connected(self) -> None:
        self.wait("connection", lambda: self.find("#state").text == "Connected")

    def say(self, text: str) -> None:
        self.keys(text, ENTER)

    def hears(self, text: str, who: str) -> None:
        """``text`` is in the log, as a message of ``who`` that has been sent."""
        script = """
            return Array.from(document.querySelectorAll('#log .msg:not(.waiting)'),
                (each) => [each.querySelector('b').textContent, each.querySelector('.text').textContent])
        """
        self.wait(f"{text!r} of {who}", lambda: [who, text] in self.driver.execute_script(script))

    def note(self, text: str) -> None:
        self.wait(f"note {text!r}", lambda: any(note.startswith(text) for note in self.texts("#log .note")))

    def people(self, *names: str) -> None:
        self.wait(f"people {names}", lambda: sorted(self.texts("#people li")) == sorted(names))


@pytest.fixture
def open_page(open_browser: Callable[[type[ChatPage]], ChatPage]) -> Callable[[], ChatPage]:
    """Starts a browser; each has a profile of its own."""
    return lambda: open_browser(ChatPage)


@pytest.fixture
def chat(tmp_path: Path) -> Iterator[ChatServer]:
    server = ChatServer(tmp_path)
    yield server
    server.stop()


def test_two_people_talk(open_page, chat):
    ann, ben = open_page(), open_page()
    ann.open(chat, "ann")
    ann.people("ann (you)")
    ben.open(chat, "ann")
    ben.note("You are here as ann 2")
    ben.people("ann", "ann 2 (you)")
    ann.people("ann (you)", "ann 2")
    ann.note("ann 2 joined")
    ann.say("hello from ann")
    ann.hears("hello from ann", "You")
    ben.hears("hello from ann", "ann")
    ben.say("hello from ben")
    ben.hears("hello from ben", "You")
    ann.hears("hello from ben", "ann 2")
    # An Enter with nothing typed sends nothing; Shift+Enter is a new line.
    ann.say("   ")
    from selenium.webdriver import ActionChains

    ActionChains(ann.driver).send_keys("two").key_down(SHIFT).send_keys(ENTER).key_up(SHIFT).send_keys("lines", ENTER).perform()
    ben.hears("two\nlines", "ann")
    assert len(ben.texts("#log .msg")) == 3
    ben.driver.get("about:blank")
    ann.note("ann 2 left")
    ann.people("ann (you)")
    assert ann.console() == []


def test_what_people_type_stays_text(open_page, chat):
    page = open_page()
    page.open(chat, HOSTILE)
    title = page.driver.title
    name = "img src x onerror docu"  # the field takes 24 characters
    page.note(f"You are here as {name}")
    page.people(f"{name} (you)")
    page.say(HOSTILE)
    page.hears(HOSTILE, "You")
    with Person(chat, '"><script>x</script>') as other:
        other.say(HOSTILE + "</p><script>document.title='owned'</script>")
        page.hears(HOSTILE + "</p><script>document.title='owned'</script>", "script x script")
    page.note("script x script left")
    page.say("the end")
    page.hears("the end", "You")
    assert page.driver.title == title == "silly chat"
    assert page.driver.find_elements("css selector", "img, #room script, #door script") == []
    # Newcomers get it from the history.
    late = open_page()
    late.open(chat, "late")
    late.hears(HOSTILE, name)
    assert late.driver.find_elements("css selector", "img, #room script, #door script") == []
    assert late.driver.title == title
    assert page.console() == late.console() == []


def test_who_looks_alike_has_another_colour(open_page, chat):
    """Letters of other scripts, a name that has changed hands, and one that reads like a note."""
    page = open_page()
    page.open(chat, "ben")
    colour = "return getComputedStyle(arguments[0]).color"

    def content(each) -> str:
        """Selenium's ``text`` is empty while a new line fades in."""
        return each.get_property("textContent")

    def colours(name: str) -> list[str]:
        """In its message's header, in the note that it joined, and in the list of people."""
        names = page.driver.find_elements("css selector", "#log .who b, #log .note bdi, #people li bdi")
        return [page.driver.execute_script(colour, each) for each in names if content(each) == name]

    with Person(chat, "alice", "1") as alice, Person(chat, "\u0430lice", "2") as other:  # the second has a Cyrillic a
        alice.say("one")
        other.say("two")
        page.hears("two", other.name)
        real, false = colours(alice.name), colours(other.name)
        assert len(real) == len(false) == 3
        assert len(set(real)) == len(set(false)) == 1
        assert real != false
    page.note("alice left")
    with Person(chat, "\u0430lice", "3") as third:
        third.say("three")
        page.hears("three", third.name)
        # It isn't put below the header of the one who had the name before.
        assert page.driver.find_elements("css selector", "#log .more") == []
    with Person(chat, "ann left", "4"):
        page.note("ann left joined")
        name = page.driver.find_elements("css selector", "#log .note bdi")[-1]
        assert (content(name), name.value_of_css_property("font-weight")) == ("ann left", "600")


def test_a_message_stays_in_its_place(open_page, chat):
    """One that turns the line around, one that is high, and one whose marks reach out of it."""
    page = open_page()
    page.open(chat, "ann")
    left = "const box = document.createRange(); box.selectNodeContents(arguments[0]); return box.getBoundingClientRect().left"
    with Person(chat, "\u05e9\u05dc\u05d5\u05dd") as other:
        page.note(f"{other.name} joined")
        note = page.driver.find_elements("css selector", "#log .note")[-1]
        name, when = (note.find_element("css selector", each) for each in ("bdi", "time"))
        assert page.driver.execute_script(left, name) < page.driver.execute_script(left, when)
        for text in ("\u202e\u2067evil", "high\n" * 300 + "end", "z" + "\u0301" * 500):
            other.say(text)
            page.hears(text, other.name)
            author, when, body = (
                page.driver.find_elements("css selector", f"#log .msg:last-child {each}")[0] for each in ("b", "time", ".text")
            )
            if text != "\u202e\u2067evil":  # of several messages in a row only the first shows its header
                assert body.size["height"] < 300
                assert body.value_of_css_property("overflow") == "auto"
            else:
                assert page.driver.execute_script(left, author) < page.driver.execute_script(left, when)
                assert body.value_of_css_property("unicode-bidi") == "isolate"


def test_what_was_said_before_the_connection_broke_is_not_said_again(open_page, chat):
    """Its echo was lost, and in the meantime so much was said that the history has it no more."""
    page = open_page()
    page.open(chat, "ann")
    page.driver.execute_script("here = false")
    page.say("one")
    page.say("two")
    assert len(page.texts("#log .waiting")) == 2
    page.driver.execute_script("ops.welcome({by: me, name: nick, n: 1, people: [[me, nick]], history: []})")
    page.hears("one", "You")
    page.hears("two", "You")
    with Person(chat) as late:
        late.call_oneself("late")
        assert [msg["text"] for msg in late.hear()["history"]] == ["two"]


def test_the_page_comes_back_by_itself(open_page, chat, tmp_path):
    ann, ben = open_page(), open_page()
    ann.open(chat, "ann")
    ben.open(chat, "ann")
    ann.say("before")
    ben.hears("before", "ann")
    chat.stop()
    for page in (ann, ben):
        page.wait("reconnecting", lambda page=page: page.find("#state").text == "Reconnecting…")
    ann.say("typed meanwhile")
    ann.say("and this")
    ann.wait("count", lambda: ann.find("#state").text == "Reconnecting… 2 messages wait to be sent.")
    assert len(ann.texts("#log .waiting")) == 2
    again = ChatServer(tmp_path, chat.port)
    try:
        for page in (ann, ben):
            page.connected()
        ann.note("Connected again as ann")
        ben.note("Connected again as ann 2")
        ben.hears("typed meanwhile", "ann")
        ben.hears("and this", "ann")
        ann.hears("typed meanwhile", "You")
        ann.hears("and this", "You")
        ben.say("after")
        ann.hears("after", "ann 2")
        ann.people("ann (you)", "ann 2")
        with Person(again, "cleo") as cleo:  # her first, as "before" was ann's
            cleo.say("mine")
            for page in (ann, ben):
                page.hears("mine", "cleo")
        for page in (ann, ben):
            # Nothing is lost, nothing is there twice, and all in the order in which it was said.
            page.wait("all", lambda page=page: len(page.texts("#log .msg")) == 5)
            assert page.texts("#log .text") == ["before", "typed meanwhile", "and this", "after", "mine"]
    finally:
        for page in (ann, ben):
            page.driver.get("about:blank")
        again.stop()


def test_the_keyboard_is_enough(open_page, chat):
    page = open_page()
    page.driver.get(chat.url)
    page.focus_is_on("name")
    page.keys(ENTER)  # no name
    page.wait("error", lambda: page.find("#doorerror").text == "Please choose a name.")
    page.focus_is_on("name")
    page.keys("ann", ENTER)
    page.connected()
    page.focus_is_on("text")
    for n in range(30):
        page.say(f"line {n}")
    page.hears("line 29", "You")
    # Every stop has a name that a screen reader tells, and a ring that shows where the focus is.
    stops = []
    page.driver.execute_script("document.activeElement.blur(); document.getElementById('change').focus()")
    for _ in range(5):
        element = page.focused()
        stops.append(element.accessible_name)
        assert element.value_of_css_property("outline-style") == "solid", element.accessible_name
        page.keys(TAB)
    assert stops == ["Change name", "Here now 1", "Messages", "Message", "Send"]
    page.driver.execute_script("document.getElementById('change').focus()")
    page.keys(ENTER)
    page.focus_is_on("newname")
    assert page.find("#rename").aria_role == "dialog"
    page.keys(ESCAPE)
    page.focus_is_on("change")
    page.keys(ENTER)
    page.focus_is_on("newname")
    page.keys("Annika", ENTER)  # the old name is selected
    page.note("ann is now Annika")
    page.people("Annika (you)")
    page.focus_is_on("change")
    assert page.find("#log").aria_role == "log"
    assert page.find("#state").aria_role == "status"
    assert page.console() == []


def test_the_log_follows_unless_scrolled_up(open_page, chat):
    at_end = "const log = document.getElementById('log'); return log.scrollHeight - log.scrollTop - log.clientHeight < 2"
    page = open_page()
    page.open(chat, "ann")
    with Person(chat, "ben") as ben:
        for n in range(40):
            ben.say(f"line {n} " + "w" * 300)
        page.hears("line 39 " + "w" * 300, "ben")
        page.wait("end", lambda: page.driver.execute_script(at_end))
        # Long words wrap.
        assert page.driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        assert page.driver.execute_script("const l = document.getElementById('log'); return l.scrollWidth <= l.clientWidth")
        page.driver.execute_script("document.getElementById('log').scrollTop = 50")
        page.wait("not following", lambda: not page.driver.execute_script("return follow"))
        ben.say("more")
        page.hears("more", "ben")
        page.wait("button", lambda: page.find("#newer").is_displayed())
        assert page.driver.execute_script("return document.getElementById('log').scrollTop") == 50
        page.find("#newer").click()
        page.wait("end", lambda: page.driver.execute_script(at_end))
        assert not page.find("#newer").is_displayed()
        page.focus_is_on("text")


# ---- pictures ---------------------------------------------------------------------------------------------------

TALK = [
    ("Marit", "Morning! The ferry is back on the winter timetable, so the last boat home leaves at 19:40."),
    ("Marit", "If we take the 8:15 we have the whole day on the island."),
    ("Jonas", "8:15 works. I can bring the stove and two pots."),
    ("", "I'll do bread, cheese and the big thermos. Does anybody have a map that isn't from 1987?"),
    ("Ama", "I do. Also https://example.org/trails/north-shore-loop-via-lighthouse-and-the-old-quarry-steps is the route."),
    ("Marit", "Then it's settled: 8:00 at the pier, tickets are on me."),
    ("", "Lovely. See you there."),
]


@pytest.mark.skipif("SILLY_SCREENSHOTS" not in os.environ, reason="pictures are made when SILLY_SCREENSHOTS=DIRECTORY is set")
def test_pictures(open_page, chat):
    directory = Path(os.environ["SILLY_SCREENSHOTS"])
    directory.mkdir(parents=True, exist_ok=True)
    page = open_page()

    def picture(name: str, width: int, height: int, scheme: str, scale: float = 1, mobile: bool = False) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": mobile}
        page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": "reduce"}]
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        # Two frames later everything has its place.
        page.driver.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
        shot = page.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
        (directory / f"{name}.png").write_bytes(base64.b64decode(shot["data"]))

    page.driver.get(chat.url)
    picture("door-light", 1200, 760, "light")
    picture("door-phone-dark", 390, 780, "dark", 2, True)
    people = {name: Person(chat, name) for name in ("Marit", "Jonas", "Ama")}
    page.keys("Elin", ENTER)
    page.connected()
    for name, text in TALK:
        if name:
            people[name].say(text)
        else:
            page.say(text)
        page.hears(text, name or "You")
    people["Wilhelmina"] = Person(chat, "Wilhelmina")
    page.note("Wilhelmina joined")
    picture("desk-light", 1200, 930, "light")
    picture("desk-dark", 1200, 930, "dark")
    picture("phone-light", 390, 780, "light", 2, True)
    picture("phone-dark", 390, 780, "dark", 2, True)
    page.find("#change").click()
    picture("rename-phone-light", 390, 780, "light", 2, True)
    page.keys(ESCAPE)
    for person in people.values():
        person.sock.close()
    chat.stop()
    page.wait("reconnecting", lambda: page.find("#state").text.startswith("Reconnecting"))
    page.find("#text").click()
    page.say("Is anybody still there?")
    picture("lost-desk-light", 1200, 760, "light")
    picture("lost-phone-dark", 390, 780, "dark", 2, True)

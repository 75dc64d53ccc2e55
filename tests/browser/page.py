"""A headless Chromium, driven by selenium."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

WAIT = 40
"""Seconds; only bounds a test that fails."""
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CHROMEDRIVER = shutil.which("chromedriver")
OPTIONS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --window-size=1200,800 --no-proxy-server"
)
HOSTS = "--host-resolver-rules=MAP *.test 127.0.0.1"
"""Names for certificates (RFC 6761, section 6.2)."""
ENTER, TAB, ESCAPE, SHIFT = "\ue007", "\ue004", "\ue00c", "\ue008"  # selenium's Keys


class Page:
    """One browser with a profile of its own, and a HOME when one is given."""

    def __init__(self, profile: Path, home: Path | None = None) -> None:
        # Imported here: where no browser is, selenium need not be either.
        from selenium.webdriver import Chrome, ChromeOptions
        from selenium.webdriver.chrome.service import Service

        options = ChromeOptions()
        options.binary_location = CHROMIUM or ""
        for option in OPTIONS.split():
            options.add_argument(option)
        options.add_argument(HOSTS)
        options.add_argument(f"--user-data-dir={profile}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        env = os.environ if home is None else {**os.environ, "HOME": str(home)}
        self.driver: Any = Chrome(options, Service(CHROMEDRIVER, env=env))
        self.driver.set_page_load_timeout(WAIT)
        self.driver.set_script_timeout(WAIT)

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *exc: object) -> None:
        self.driver.quit()

    def wait(self, what: str, condition: Callable[[], Any]) -> Any:
        """Until ``condition()`` holds; what it gives."""
        from selenium.common.exceptions import StaleElementReferenceException, TimeoutException
        from selenium.webdriver.support.ui import WebDriverWait

        waiter = WebDriverWait(self.driver, WAIT, 0.02, [StaleElementReferenceException])
        try:
            return waiter.until(lambda _: condition())
        except TimeoutException:
            shown = self.driver.find_element("tag name", "body").text
            raise AssertionError(f"{what} never came; the page shows:\n{shown}\nconsole: {self.console()}") from None

    def find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def texts(self, selector: str) -> list[str]:
        """``textContent`` of every match, in one step: the page changes meanwhile."""
        script = "return Array.from(document.querySelectorAll(arguments[0]), (each) => each.textContent)"
        return list(self.driver.execute_script(script, selector))

    def focused(self) -> Any:
        return self.driver.switch_to.active_element

    def focus_is_on(self, id: str) -> None:
        self.wait(f"focus on {id}", lambda: self.focused().get_attribute("id") == id)

    def keys(self, *keys: str) -> None:
        """Goes to whatever has the focus, as from a keyboard."""
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def call(self, function: str, *args: Any) -> Any:
        """What an asynchronous function of the page returns; a failure is one of the test."""
        script = "const done = [...arguments].pop();"
        script += f"{function}(...[...arguments].slice(0, -1)).then(done, (e) => done(String(e)))"
        got = self.driver.execute_async_script(script, *args)
        assert not isinstance(got, str), got
        return got

    def console(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]

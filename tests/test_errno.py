"""``silly.errno``: upstream's strings, one for each error."""

from __future__ import annotations

import errno as os_errno
import os
import re
import socket

import pytest

from silly import errno

OURS = {
    "RESOLVE": "Address resolution failed (10000)",
    "NOSOCKET": "No free socket available (10001)",
    "CLOSING": "Socket is closing (10002)",
    "CLOSED": "Socket is closed (10003)",
    "EOF": "End of file (10004)",
    "TLS": "TLS error (10005)",
}
SYSTEM = [name for name in errno.__all__ if name not in OURS and name.isupper()]


@pytest.mark.parametrize("name", OURS)
def test_errors_that_no_system_has(name: str) -> None:
    assert getattr(errno, name) == OURS[name]


@pytest.mark.parametrize("name", SYSTEM)
def test_a_system_s_error_carries_its_number_and_comes_back_for_an_oserror(name: str) -> None:
    number = getattr(os_errno, "E" + name)
    constant = getattr(errno, name)
    assert re.fullmatch(rf"[A-Z][A-Za-z/ -]+ \({number}\)", constant)
    assert errno.from_oserror(OSError(number, "whatever the system says")) is constant


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("CONNREFUSED", "Connection refused"),
        ("CONNRESET", "Connection reset by peer"),
        ("TIMEDOUT", "Operation timed out"),
        ("ADDRINUSE", "Address already in use"),
    ],
)
def test_some_texts_are_upstream_s(name: str, text: str) -> None:
    assert getattr(errno, name) == f"{text} ({getattr(os_errno, 'E' + name)})"


def test_different_errors_are_different_strings() -> None:
    numbers = {name: getattr(os_errno, "E" + name) for name in SYSTEM}
    for name, number in numbers.items():
        same = {other for other in SYSTEM if getattr(errno, other) == getattr(errno, name)}
        assert same == {other for other in SYSTEM if numbers[other] == number}
    assert errno.AGAIN is errno.WOULDBLOCK


def test_an_error_without_a_name_here_gives_its_own_text_and_number() -> None:
    assert errno.from_oserror(OSError(os_errno.ECHILD, "x")) == f"{os.strerror(os_errno.ECHILD)} ({os_errno.ECHILD})"


def test_a_timeout_without_a_number() -> None:
    assert errno.from_oserror(TimeoutError("timed out")) is errno.TIMEDOUT


def test_an_oserror_without_a_number() -> None:
    assert errno.from_oserror(OSError("something odd")) == "something odd"


def test_a_real_error_of_the_system() -> None:
    with socket.socket() as sock, pytest.raises(OSError) as caught:
        sock.getpeername()
    assert errno.from_oserror(caught.value) is errno.NOTCONN


@pytest.mark.parametrize(("name", "ours"), [("EAGAIN", "AGAIN"), ("ECONNRESET", "CONNRESET"), ("EWOULDBLOCK", "WOULDBLOCK")])
def test_a_number_of_the_standard_library_s_errno_says_which_text_is_ours(name: str, ours: str) -> None:
    with pytest.raises(AttributeError) as caught:
        getattr(errno, name)
    assert str(caught.value) == (
        f"module 'silly.errno' has no attribute '{name}': it is not the standard library's; "
        f"use errno.{ours}, a text, or import errno as numbers, and write numbers.{name}"
    )


@pytest.mark.parametrize("name", ["ENOENT", "errorcode"])
def test_every_other_name_of_the_standard_library_s_errno_says_whose_it_is(name: str) -> None:
    assert not hasattr(errno, name)
    with pytest.raises(AttributeError, match=f"; import errno as numbers, and write numbers.{name}$"):
        getattr(errno, name)


@pytest.mark.parametrize("name", ["EXYZZY", "TIMEOUT", "__path__"])
def test_a_name_that_no_module_has_is_python_s_plain_error(name: str) -> None:
    with pytest.raises(AttributeError, match=f"^module 'silly.errno' has no attribute '{name}'$"):
        getattr(errno, name)

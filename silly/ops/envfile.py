"""Files of ``--env-file``: lines of ``KEY=VALUE`` for the environment, each with
``export`` in front or not. A value in single quotes is as it is, one in double quotes
has the escapes of newline, return, tab, quote, backslash and dollar. Nothing is
replaced in a value: ``$HOME`` is just that. Comments begin with ``#``.
docs/deploying.md shows a file.
"""

from __future__ import annotations

import re

from .options import BadOption

_LINE = re.compile(r"\s*(?:export\s+)?(?P<key>[A-Za-z_][A-Za-z0-9_.-]*)\s*=[ \t]*(?P<value>.*)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


def read(path: str) -> dict[str, str]:
    """Returns the variables of the file ``path``. Raises BadOption, which says what is
    wrong, and where."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as exc:
        raise BadOption(f"can't read the --env-file {path!r}: {exc.strerror}") from None
    found: dict[str, str] = {}
    for number, line in enumerate(data.split(b"\n"), 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            if text and not text.startswith("#"):
                key, value = _parsed(text)
                found[key] = value
        except UnicodeDecodeError:
            raise BadOption(f"{path}:{number}: this is no UTF-8") from None
        except ValueError as exc:
            raise BadOption(f"{path}:{number}: {exc}") from None
    return found


def _parsed(text: str) -> tuple[str, str]:
    match = _LINE.fullmatch(text)
    if match is None:
        raise ValueError(f"KEY=VALUE is expected, not {text[:40]!r}")
    if "\0" in text:
        raise ValueError("a null character can't be in a variable")
    value = match["value"]
    if value[:1] in ("'", '"'):
        quoted = re.fullmatch(r"""'(?P<plain>[^']*)'(?P<rest>.*)|"(?P<escaped>(?:[^"\\]|\\.)*)"(?P<more>.*)""", value)
        if quoted is None:
            raise ValueError(f"the quote that begins with {value[:20]!r} has no end in this line")
        rest = quoted["more"] if quoted["plain"] is None else quoted["rest"]
        if rest.strip() and not re.match(r"\s+#", rest):
            raise ValueError(f"{rest.strip()[:20]!r} stands behind the quote")
        if quoted["plain"] is not None:
            return match["key"], quoted["plain"]
        return match["key"], re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), quoted["escaped"])
    return match["key"], re.split(r"(?:^|\s+)#", value, maxsplit=1)[0].rstrip()

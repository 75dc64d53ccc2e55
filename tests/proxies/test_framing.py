"""Where requests begin and end, as our server sees it and as nginx, h11 and httptools (llhttp) do.

Two parsers in a row that disagree about that let requests be smuggled past the first. So of what we take nothing may be
framed otherwise by nginx. All other differences are listed here, each with its reason: a difference that is not listed
fails, and so does a line of the list that no longer tells one.
"""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import NamedTuple

from tests.conftest import Logs
from tests.helpers import serving

from .corpus import CASES, CLOSED, GOES_ON
from .observers import (
    DATA,
    H11,
    HAPROXY_PATIENCE,
    OTHERWISE,
    REFUSES,
    TAKES,
    Llhttp,
    Observed,
    Seen,
    compare,
    observe,
    recorder,
    recording,
    within,
)
from .support import Front, Proxy, behind


def test_ours(ours: dict[int, Observed]) -> None:
    """What the corpus says of us is so; the sentinel is served after what we take, and never after what we refuse."""
    wrong = []
    for number, case in enumerate(CASES):
        got = ours[number]
        status = 200 if case.end in (GOES_ON, CLOSED) else case.end
        paths = [request.path for request in got.requests]
        after = [f"/sentinel-{number}"] if case.end == GOES_ON else []
        if got.status != status or len(paths) != case.requests + len(after) or paths[case.requests :] != after:
            wrong.append(f"{case.name}: {case}: {got}")
        if "/hidden" in paths or f"/sentinel-{number}" in paths[: case.requests]:
            wrong.append(f"{case.name}: a request was served that is none: {got}")
    assert not wrong, "\n".join(wrong)
    assert len(CASES) > 500


def test_ours_byte_by_byte(ours: dict[int, Observed], logs: Logs) -> None:
    """The same when each byte comes alone. (Long cases would take long: their parts are tested in tests/wire.)"""
    short = [number for number, case in enumerate(CASES) if len(case.data) < 700]
    with serving(recording) as server:
        dribbled = observe(f"127.0.0.1:{server.port}", short, dribbled=True)
    different = [f"{CASES[n].name}: {ours[n]}, dribbled {dribbled[n]}" for n in short if ours[n] != dribbled[n]]
    assert not different, "\n".join(different)


# ---- through a proxy --------------------------------------------------------------------------------------------------


def test_through_a_proxy(framing_front: Front, logs: Logs) -> None:
    """What our server serves behind a proxy is what the proxy takes, or less: never a request more, or another."""
    logs.allow(r"^INFO http: ")
    patience = HAPROXY_PATIENCE if framing_front.name == "haproxy" else 0
    taken = recorded(framing_front.proxy, patience)
    with behind(framing_front, recording):
        served = observe(framing_front.addr, patience=patience)
    wrong = [n for n in served if not within(served[n].requests, taken[n].requests)]
    assert not wrong, "\n".join(f"{CASES[n].name}: the proxy takes {taken[n]}, we serve {served[n]}" for n in wrong)
    assert sum(served[n].requests == taken[n].requests != [] for n in served) > 150


def recorded(proxy: Proxy, patience: int = 0) -> dict[int, Observed]:
    """What the proxy makes of each case."""
    with recorder(f"unix:{proxy.at('recorder')}"):
        return observe(f"unix:{proxy.at('recorded')}", patience=patience)


# ---- the differences --------------------------------------------------------------------------------------------------

class Difference(NamedTuple):
    kind: str
    reason: str
    cases: str
    """Patterns of the cases' names; each must tell at least one difference."""


def compare_all(ours: dict[int, Observed], theirs: Callable[[int], list[Seen]], listed: list[Difference]) -> None:
    """Every difference must be listed, and every pattern of the list must be needed."""
    problems = []
    needed: set[tuple[str, str]] = set()
    for number, case in enumerate(CASES):
        got = theirs(number)
        kind = compare(ours[number].requests, got)
        if kind:
            meant = [(kind, p) for line in listed if line.kind == kind for p in line.cases.split() if fnmatchcase(case.name, p)]
            needed.update(meant)
            if not meant:
                problems.append(f"{case.name}: the other {kind}: we see {ours[number]}, the other {got}")
    for line in listed:
        problems += [f"{p}: no longer told apart by: {line.reason}" for p in line.cases.split() if (line.kind, p) not in needed]
    assert not problems, "\n".join(problems)


SECOND = "pipeline/crlf-2-between"
AFTER_UPGRADE = "it goes on after a request for a WebSocket that became none; we end the connection, as frames may follow"
ZEROS = "cl/20-digits cl/5000-zeros chunk/17-digits chunk/300-digits"
LIMITS = "it has other limits"
NGINX = [
    Difference(
        TAKES,
        "nginx takes a bare LF as the end of a line (9112-2.2 allows it)",
        "line-end/lf* line-end/field-hides-lf-lf cl/bare-lf field/*-lf chunk/lf-* chunk/too-big-by-1 chunk/extension-*-lf",
    ),
    Difference(TAKES, "nginx drops a CR at the end of a value", "line-end/crcrlf-field field/value-cr-at-end"),
    Difference(
        TAKES,
        "nginx drops a field whose name is no token, or that has no colon (9112-5.1 has a server refuse some)",
        "te/name-* cl/name-* cl-te/coding-name-* field/name-0x* field/no-colon",
    ),
    Difference(TAKES, "nginx takes control characters in values (9110-5.5 forbids them)", "field/value-0x*"),
    Difference(TAKES, "nginx takes any number of leading zeros", ZEROS),
    Difference(
        TAKES,
        "nginx takes for a chunk extension whatever follows a blank (9112-7.1.1 has it begin with a semicolon)",
        "chunk/space-* chunk/spaces-after chunk/tab-after",
    ),
    Difference(TAKES, "nginx skips chunk extensions unseen, of any length", "chunk/extension-nul chunk/extension-*00"),
    Difference(
        TAKES, "nginx skips trailers unseen up to an empty line, the next request too", "trailer/* chunk/end-without-crlf"
    ),
    Difference(TAKES, "nginx skips any number of CR and LF before a request", f"leading/*cr* leading/*lf {SECOND}"),
    Difference(TAKES, "nginx skips spaces in the request line", "line/two-spaces* line/trailing-space"),
    Difference(TAKES, "nginx takes every HTTP/1 version", "line/version-1.* line/version-digits"),
    Difference(TAKES, "nginx passes on a target without its fragment", "line/fragment*"),
    Difference(TAKES, "nginx takes targets of any bytes but controls", "line/high* line/utf-8"),
    Difference(TAKES, "nginx takes any scheme, and any number for a port", "line/scheme-other line/absolute-bad-port"),
    Difference(TAKES, "nginx looks at Host less closely (9112-3.2: an invalid one is refused)", "host/*"),
    Difference(TAKES, "nginx ignores expectations other than 100-continue", "expect/*"),
    Difference(TAKES, AFTER_UPGRADE, "websocket/*"),
    Difference(TAKES, LIMITS, "field/too-many"),
    Difference(REFUSES, "nginx takes no tab around values that it reads itself (9110-5.6.3: OWS)", "te/tab* cl/tab* host/tab"),
    Difference(
        REFUSES, "nginx takes capitals, hyphen and underscore in methods", "cl-wrong/4 line/method-lower line/method-odd-token"
    ),
    Difference(REFUSES, "nginx decodes the path, and refuses NUL and bad codes", "line/encoded-nul line/percent-alone"),
    Difference(
        REFUSES, "nginx knows no OPTIONS *", "line/options-asterisk pipeline/methods body/options-asterisk-length"
    ),
    Difference(REFUSES, "nginx finds close within another word of Connection, and ends", "connection/not-close"),
]
HAPROXY = [
    Difference(TAKES, "HAProxy takes much that we refuse, and writes most of it anew", "*"),
    Difference(REFUSES, "HAProxy wants the target's authority in Host", "line/absolute-*"),
    Difference(REFUSES, LIMITS, "field/127"),
]
NO_HOST = "it leaves Host and the target to its caller (9112-3.2)"
H11_LIST = [
    Difference(
        TAKES,
        "h11 takes the coding where there is a length too (9112-6.3 allows it; it is how requests are smuggled)",
        "cl-te/length-* cl-te/coding-* cl-te/two-lengths cl-te/case cl-te/chunk-hides-a-request pipeline/then-cl-te",
    ),
    Difference(TAKES, "h11 takes a coding in HTTP/1.0 (9112-6.1: faulty framing)", "cl-te/in-1.0 te/in-1.0*"),
    Difference(TAKES, "h11 unfolds lines", "cl-te/*folded* te/folded* cl/folded* host/folded* field/folded* trailer/folded"),
    Difference(TAKES, "h11 unfolds a field without a name too", "cl-te/*-leading-space cl/leading-space* field/empty-name-*"),
    Difference(TAKES, "h11 merges equal lengths (9110-8.6 allows it)", "cl/comma-equal* cl/two-equal cl/two-case"),
    Difference(TAKES, "h11 takes lengths and sizes of up to 20 digits", "cl/20-digits chunk/17-digits"),
    Difference(
        TAKES,
        "h11 takes a bare LF as the end of a line (9112-2.2 allows it), but not in chunks",
        "line-end/lf* line-end/field-hides-lf-lf cl-te/coding-after-bare-lf trailer/*lf* chunk/lf-at-end",
    ),
    Difference(TAKES, "h11 takes blanks after a size", "chunk/space-after chunk/spaces-after chunk/tab-after"),
    Difference(TAKES, "h11 skips chunk extensions", "chunk/extension-cr* chunk/extension-nul chunk/extension-*00"),
    Difference(TAKES, "h11 takes any field as a trailer", "trailer/forbidden-*"),
    Difference(TAKES, "h11 takes control characters but NUL in values", "field/value-0x*"),
    Difference(TAKES, NO_HOST, "host/* line/*asterisk* line/authority* line/absolute-* line/scheme-*"),
    Difference(TAKES, "h11 leaves CONNECT and TRACE to its caller", "line/connect* body/connect-* line/trace"),
    Difference(TAKES, NO_HOST, "line/fragment* line/no-slash line/query-alone line/path-no-slash-dots"),
    Difference(TAKES, "h11 takes any version of two digits", "line/version-* line/http2-preface"),
    Difference(TAKES, LIMITS, "line/too-long field/*too-* trailer/*too-*"),
    Difference(TAKES, "h11 leaves expectations to its caller", "expect/*"),
    Difference(TAKES, AFTER_UPGRADE, "websocket/*"),
    Difference(REFUSES, "h11 takes no blank before a semicolon (9112-7.1.1: BWS)", "chunk/extension-*-before"),
    Difference(REFUSES, "h11 takes no empty line before a request (9112-2.2: SHOULD)", "leading/crlf pipeline/crlf-between"),
    Difference(REFUSES, "h11 ends the connection after HTTP/1.0", "connection/keep-alive-in-1.0*"),
]
LLHTTP = [
    Difference(TAKES, "llhttp takes a coding in HTTP/1.0 (9112-6.1: faulty framing)", "te/in-1.0*"),
    Difference(
        TAKES,
        "llhttp leaves codings before chunked to its caller; we know none (9112-6.1: 501)",
        "te/gzip-chunked te/identity-chunked te/two-lines-gzip te/comma-before",
    ),
    Difference(TAKES, "llhttp takes any number of leading zeros", ZEROS),
    Difference(TAKES, "llhttp takes any field as a trailer, but a length or a coding", "trailer/forbidden-*"),
    Difference(TAKES, "llhttp skips any number of CR and LF before a request", f"leading/*cr* leading/*lf {SECOND}"),
    Difference(TAKES, "llhttp skips spaces in the request line", "line/two-spaces*"),
    Difference(TAKES, "llhttp takes HTTP/0.9, HTTP/2.0, RTSP and ICE", "line/version-* line/no-version pipeline/then-bad-line"),
    Difference(TAKES, NO_HOST, "host/* line/*asterisk* line/absolute-* line/scheme-other line/fragment* pipeline/then-no-host"),
    Difference(TAKES, "llhttp leaves CONNECT and TRACE to its caller", "line/connect* line/trace body/connect-*"),
    Difference(TAKES, LIMITS, "chunk/extension-*00 line/too-long field/*too-* trailer/*too-*"),
    Difference(TAKES, "llhttp leaves expectations to its caller", "expect/*"),
    Difference(TAKES, AFTER_UPGRADE, "websocket/none-taken websocket/without-connection"),
    Difference(
        REFUSES,
        "llhttp has a list of methods",
        "cl-wrong/* line/method-* body/unknown-method*",
    ),
    Difference(REFUSES, "llhttp takes no tab after a coding", "te/tab-after"),
    Difference(REFUSES, "llhttp parses chunk extensions", "chunk/extension-*"),
    Difference(REFUSES, "llhttp takes Proxy-Connection for Connection", "connection/proxy-connection"),
    Difference(
        OTHERWISE,
        "llhttp takes what follows the head of any upgrade for the other protocol, whatever the length and coding say",
        "upgrade/* websocket/*",
    ),
]


def test_nginx(ours: dict[int, Observed], framing_nginx: Proxy) -> None:
    theirs = recorded(framing_nginx)
    assert not [line for line in NGINX if line.kind == OTHERWISE]
    compare_all(ours, lambda number: theirs[number].requests, NGINX)


def test_haproxy(ours: dict[int, Observed], haproxy_front: Proxy) -> None:
    """What we take, HAProxy frames as we do. (What it takes beside that is not listed: it is not what we look at.)"""
    theirs = recorded(haproxy_front, HAPROXY_PATIENCE)
    compare_all(ours, lambda number: theirs[number].requests, HAPROXY)


def test_h11(ours: dict[int, Observed]) -> None:
    compare_all(ours, lambda number: H11().run(DATA[number]), H11_LIST)


def test_llhttp(ours: dict[int, Observed]) -> None:
    compare_all(ours, lambda number: Llhttp().run(DATA[number]), LLHTTP)

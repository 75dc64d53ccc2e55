"""Every function that the README, the guides or the examples call shows a short example
in its docstring, and each example runs.

An example is a block of Python that is indented by four spaces, with an empty line
before it. (Below a first line alone Python takes that indentation away: a line of text
must follow.) The blocks of one docstring run one after the other, in one task. So that
they can stay short:

* The public modules are there by their names (``tcp``, ``http``, ``time``, …), and
  ``silly``.
* What the example uses and does not make itself is made for it, if its name is in
  ``MADE``: ``conn`` is a connection to a server that echoes, ``sock`` a WebSocket to
  one, ``stream`` the request that a handler got (in ``ClientStream`` a request that is
  to be sent), and so on.
* ``127.0.0.1:8080`` (or another host with that port) is a server of the test: for
  ``tcp`` one that echoes bytes, in an URL one that says hello, echoes a body, and
  echoes WebSocket messages. Port 8443 is the same with TLS, for the name ``localhost``
  (and, without HTTP, the protocol ``chat/1``).
  ``listen`` and ``bind`` take a free port in place of these, and then an address below
  it in the example means what listens there. Otherwise it is for ``udp`` a socket that
  echoes.
* The working directory has ``cert.pem`` and ``key.pem`` of a server, and ``ca.pem`` of
  its authority. ``/srv/www`` has an ``index.html``; ``/var/log`` is empty.

What an example says of its results is checked: a line that ends with ``# -> literal``
must have that value, a line that prints must have printed the text behind ``# ->``.
Every function that an example defines must be called and return. If that has not
happened by itself, the test connects to the example's listener, serves its
``handler(stream)``, asks for the routes of its ``router``, or sends the signals that it
handles.
"""

from __future__ import annotations

import ast
import asyncio
import importlib
import inspect
import io
import os
import re
import signal as std_signal
import textwrap
import tokenize
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
from greenlet import GreenletExit

import silly
from silly import bridge, check, env, logger, process, task, testing, time
from silly._core import scheduler, signals
from silly._core.callers import short_name
from silly.net import http, tcp, tls, udp, websocket
from silly.net.http._body import Incoming
from silly.sync import channel, event, mutex, pool, semaphore, singleflight, waitgroup
from silly.task import Task

from .helpers import joined, serving, spawn
from .net import authorities
from .net.support import Job, until
from .test_api import PUBLIC, documented

ROOT = Path(__file__).resolve().parent.parent
WITHIN = 10_000
"""Milliseconds that an example may take; only one that hangs takes so long."""

MODULES = {short_name(name.split(".")): importlib.import_module(name) for name in PUBLIC if name.count(".") < 3}

CLASSES: dict[str, tuple[type, ...]] = {
    "accounts": (mutex.Mutex,),
    "answers": (channel.Channel,),
    "bell": (channel.Channel,),
    "boats": (mutex.Mutex,),
    "broadcast_chan": (channel.Channel,),
    "canyon": (tls.Listener,),
    "chan": (channel.Channel,),
    "child": (process.Process,),
    "client": (testing.HandlerClient, tls.Conn),
    "clock": (testing.Clock,),
    "cloud": (udp.Conn,),
    "conn": (tls.Conn, udp.Conn, bridge.psycopg.Connection),
    "conns": (pool.Pool,),
    "crates": (mutex.Mutex,),
    "day": (waitgroup.WaitGroup,),
    "desk": (channel.Channel,),
    "done": (channel.Channel,),
    "evening": (channel.Channel,),
    "few": (semaphore.Semaphore,),
    "g": (task.Group,),
    "group": (waitgroup.WaitGroup,),
    "guests": (waitgroup.WaitGroup,),
    "hall": (channel.Channel,),
    "house": (waitgroup.WaitGroup, udp.Conn),
    "kitchen": (mutex.Mutex,),
    "letterbox": (channel.Channel,),
    "lift": (singleflight.SingleFlight,),
    "lines": (channel.Channel,),
    "listener": (tls.Listener,),
    "loading": (singleflight.SingleFlight,),
    "lock": (mutex.Lock,),
    "log": (http.AccessLog,),
    "m": (mutex.Mutex,),
    "machines": (mutex.Mutex,),
    "maids": (waitgroup.WaitGroup,),
    "message": (websocket.MessageWriter,),
    "mine": (channel.Channel,),
    "office": (http.Server,),
    "other": (channel.Channel, websocket.Socket),
    "outbox": (channel.Channel,),
    "outer": (mutex.Lock,),
    "parrot": (udp.Conn,),
    "people": (waitgroup.WaitGroup,),
    "places": (semaphore.Semaphore,),
    "ping": (channel.Channel,),
    "plain": (channel.Channel,),
    "post": (udp.Conn,),
    "press": (mutex.Lock,),
    "pumps": (waitgroup.WaitGroup,),
    "race": (waitgroup.WaitGroup,),
    "ready": (event.Event,),
    "response": (http.Response,),
    "results": (task.Results,),
    "riders": (waitgroup.WaitGroup,),
    "router": (http.Router,),
    "sailor": (udp.Conn,),
    "room": (waitgroup.WaitGroup,),
    "search": (waitgroup.WaitGroup,),
    "sender": (udp.Conn,),
    "server": (http.Server, udp.Conn),
    "secure": (tls.Conn,),
    "sessions": (pool.Pool,),
    "sf": (singleflight.SingleFlight,),
    "shelf": (channel.Channel,),
    "shelves": (mutex.Mutex,),
    "sink": (websocket.Socket,),
    "sky": (singleflight.SingleFlight,),
    "sock": (websocket.Socket,),
    "source": (websocket.Socket,),
    "stderr": (process.Conn,),
    "stdin": (process.Conn,),
    "stdout": (process.Conn,),
    "stopping": (event.Event,),
    "stream": (http.ServerStream, http.ClientStream),
    "t": (Task,),
    "target": (tls.Conn,),
    "teller": (singleflight.SingleFlight,),
    "tills": (mutex.Mutex,),
    "todo": (channel.Channel,),
    "tube": (channel.Channel,),
    "upstream": (http.ClientStream, websocket.Socket),
    "visitor": (http.ServerStream,),
    "wall": (waitgroup.WaitGroup,),
    "well": (udp.Conn,),
    "wg": (waitgroup.WaitGroup,),
}
"""Variables of the documents and examples, and what they hold: one name may be used for
two things."""
CLASSES |= dict.fromkeys(("each", "mails", "name", "one", "two"), (task.Task,))
CLASSES |= {"lines": (channel.Channel,), "source": (tls.Conn,), "target": (tls.Conn,)}
CLASSES["which"] = (task.Task, udp.Conn)

RETURNED = (task.Group, task.Results)
"""Classes of what public functions return, which no public module lists."""

ADDRESS = r"[\w.]*:(8080|8443)\b"

NOT_OURS = {"cache", "file", "greetings", "inbox", "latest", "msg", "reading", "sqlite3", "stories", "turns"}
NOT_OURS |= {"header", "tokens", "unicodedata", "visits", "writer"}
"""Variables that hold something else, though it has a method of a name that ours have
too."""
NOT_OURS |= {"both", "db", "environ", "member", "os", "page", "server", "session", "sqlite3"}
NOT_OURS |= {"answer", "dbs", "engine", "held", "imap", "mqtt", "pymysql", "raw", "sqs", "store", "web"}
OTHERS = {"conn.begin"}
"""Calls of another library's objects, whose variables have the names of ours."""



def served(name: str) -> bool:
    """Whether an example needs a database: ``bridge/test_psycopg_docs.py`` runs it."""
    return name.startswith("silly.bridge.psycopg") and ".ConnectionPool." not in name


# ---- what the documents call ---------------------------------------------------------


def sources() -> Iterator[tuple[str, ast.Module, bool]]:
    """File, code, and whether it is code that runs: in the text of a page it is only a
    phrase."""
    for path in sorted((ROOT / "examples").glob("*.py")):
        yield path.name, ast.parse(path.read_text()), True
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = path.read_text()
        for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
            yield path.name, ast.parse(block), True
        for phrase in re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
            try:
                yield path.name, ast.parse(phrase.replace("…", "...")), False
            except SyntaxError:
                pass  # not Python


def calls() -> Iterator[tuple[str, str, list[Any], bool]]:
    """For each call ``receiver.name(…)``: file, receiver, the functions that it may
    mean, and whether it runs."""
    for file, tree, runs in sources():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            receiver = re.search(r"(bridge\.)?\w*$", ast.unparse(node.func.value))[0]
            owners = [MODULES[receiver]] if receiver in MODULES else CLASSES.get(receiver, ())
            functions = [getattr(owner, node.func.attr) for owner in owners if hasattr(owner, node.func.attr)]
            yield file, f"{receiver}.{node.func.attr}", functions, runs


@cache
def public() -> dict[Any, str]:
    """Every public module, class and function, and its first public name."""
    found: dict[Any, str] = {}
    for name in PUBLIC:
        module = importlib.import_module(name)
        found[module] = name
        for inner, value in documented(module):
            if f"{name}.{inner}" not in found.values():  # else it is a method that a subclass has replaced
                found.setdefault(value, f"{name}.{inner}")
    for kind in RETURNED:
        found[kind] = f"silly.task.{kind.__name__}"
        for inner, value in vars(kind).items():
            if not inner.startswith("_") and inspect.isfunction(value):
                found[value] = f"silly.task.{kind.__name__}.{inner}"
    return found


def required() -> set[str]:
    functions = {getattr(each, "__func__", each) for _, _, functions, _ in calls() for each in functions}
    return {public()[each] for each in functions if not each.__module__.startswith("psycopg")}  # it has inherited those


def blocks(value: Any) -> str:
    """The example in the docstring of ``value``."""
    found = re.findall(r"(?<=\n)\n((?: {4}.*\n|\n)+)", (inspect.getdoc(value) or "") + "\n")
    return "\n".join(textwrap.dedent(block) for block in found)


EXAMPLES = {name: blocks(value) for value, name in public().items() if blocks(value).strip()}


def test_every_call_of_the_documents_is_understood() -> None:
    ours = {name.rpartition(".")[2] for value, name in public().items() if name.count(".") > 1 and callable(value)}
    unknown = set()
    for file, call, functions, runs in calls():
        receiver, _, name = call.rpartition(".")
        if runs and name in ours and not functions and receiver and receiver not in NOT_OURS and call not in OTHERS:
            unknown.add((file, call))
    assert unknown == set()


def test_every_function_that_the_documents_call_has_an_example() -> None:
    def shows(name: str) -> bool:
        return any(
            isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == name.rpartition(".")[2]
            for node in ast.walk(ast.parse(EXAMPLES.get(name, "")))
        )

    names = required()
    assert len(names) > 50
    assert [name for name in sorted(names) if not shows(name)] == []


# ---- what the examples find ----------------------------------------------------------


def echo(conn: Any) -> None:
    with conn:
        while True:
            first, _err = conn.read(1)
            if first is None:
                break
            rest, _err = conn.read(conn.unreadbytes())
            conn.write(first + rest)


def echo_datagrams(server: udp.Conn) -> None:
    while True:
        data, addr = server.recvfrom()
        if data is None:
            break
        server.sendto(data, addr)


def web(stream: Any) -> None:
    if stream.header["upgrade"] == "websocket":
        sock = check(websocket.upgrade(stream))
        while True:
            data, typ = sock.read()
            if data is None or typ == "close":
                break
            sock.write(data, typ)
        sock.close()
    elif stream.method == "GET":
        stream.respond(200, {"content-type": "text/plain"})
        stream.closewrite("Hello, " + (stream.query["name"] or "World"))
    else:
        body, _err = stream.readall()
        stream.respond(200, {"content-type": "text/plain"})
        stream.closewrite(body)


class Stage:
    """Where an example runs: its names, and what is opened for it."""

    def __init__(self, name: str, stack: ExitStack) -> None:
        self.name = name
        """The public name of what the example is about."""
        self.names: dict[str, Any] = {**MODULES, "asyncio": asyncio, "os": os, "print": self._print}
        self.expected: dict[str, Any] = {}
        """The results that lines must have; None of a function, which must return."""
        self.pending: set[str] = set()
        """Those of ``expected`` that have not come yet."""
        self.stack = stack
        self._servers: dict[tuple[bool, bool], Any] = {}
        self._routes: list[tuple[str, str, str]] = []

    def run(self, source: str) -> None:
        """Runs the example, and waits until all has happened that it promises."""
        tree = ast.parse(source)
        nodes = list(ast.walk(tree))
        made = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        made |= {node.arg for node in nodes if isinstance(node, ast.arg)}
        used = {node.id for node in nodes if isinstance(node, ast.Name)}
        for name in sorted((used - made) & MADE.keys()):
            self.names[name] = self.stack.enter_context(MADE[name](self))
        self._routes = re.findall(r'router\.(\w+)\((?:\[?"(\w+)".*?, )?"(/[^"]*)"', source)
        preparation = Preparation(source, self.expected)
        prepared = ast.fix_missing_locations(preparation.visit(tree))
        assert not preparation.results, "these lines have no result"
        self.pending.update(self.expected)
        self.names |= {"_here": self._here, "_returned": self.pending.discard, "_result": self._result}
        exec(compile(prepared, f"<example of {self.name}>", "exec"), self.names)
        if self.pending:
            self._visit()
        try:
            until(lambda: not self.pending, WITHIN)
        finally:
            assert self.pending == set()

    def address(self, secure: bool, speaks_http: bool) -> str:
        """The host and port of a server."""
        found = self._servers.get((secure, speaks_http))
        if found is None:
            certs = {"certs": [{"cert": "cert.pem", "key": "key.pem"}]} if secure else {}
            if speaks_http:
                found = self.stack.enter_context(serving(web, **certs))
            else:
                listen: Any = partial(tls.listen, alpnprotos=["chat/1"]) if secure else tcp.listen
                found = self.stack.enter_context(check(listen(addr="127.0.0.1:0", accept=echo, **certs)))
            self._servers[secure, speaks_http] = found
        return f"{'localhost' if secure else '127.0.0.1'}:{found.port}"

    def datagrams(self) -> udp.Conn:
        """A socket that echoes."""
        server = self.stack.enter_context(check(udp.bind("127.0.0.1:0")))
        spawn(lambda: echo_datagrams(server))
        return server

    def _here(self, text: str, listens: bool) -> str:
        """``text`` with the address of a server that is there."""

        def replace(match: re.Match[str]) -> str:
            if listens:
                return "127.0.0.1:0"
            opened = [each for each in self.names.values() if isinstance(each, (tcp.Listener, http.Server, udp.Conn))]
            if not opened and self.name.startswith("silly.net.udp"):
                opened = [self.datagrams()]
            return opened[-1].addr if opened else self.address(match[1] == "8443", "://" in text)

        return re.sub(ADDRESS, replace, text.replace("/srv/www", "www").replace("/var/log/", ""))

    def _visit(self) -> None:
        """Connects to what the example listens on, or would serve with its ``handler``
        or ``router``, and sends the signals that it handles."""
        for number in signals._taken:
            std_signal.raise_signal(number)
        for value in list(self.names.values()):
            if isinstance(value, http.Server):
                self._ask(value, [("get", "", "/")])
            elif isinstance(value, tls.Listener):
                self._say_hello(check(tls.connect(f"localhost:{value.port}", ca="ca.pem")))
            elif isinstance(value, tcp.Listener):
                self._say_hello(check(tcp.connect(value.addr)))
        for name, routes in (("handler", [("get", "", "/")]), ("router", self._routes)):
            if name in self.names and self.pending:
                with serving(self.names[name]) as server:
                    self._ask(server, routes)

    def _ask(self, server: Any, routes: list[tuple[str, str, str]]) -> None:
        for call, method, pattern in routes:
            path = re.sub(r"\{.*?\}", "7", pattern)
            if call == "websocket" or "websocket" in self.name:
                with check(websocket.connect(f"ws://{server.addr}{path}")) as sock:
                    sock.write("hello", "text")
                    sock.read(WITHIN)
            elif method == "CONNECT":
                with check(tcp.connect(server.addr)) as conn:
                    conn.write(f"CONNECT {server.addr} HTTP/1.1\r\nhost: {server.addr}\r\n\r\n")
                    conn.read("\r\n\r\n", WITHIN)
            else:
                http.fetch(method or call.upper(), f"http://{server.addr}{path}")  # whatever it speaks

    def _say_hello(self, conn: Any) -> None:
        with conn:
            conn.write("hello\n")
            conn.read("\n", WITHIN)

    def close(self) -> None:
        """Closes what the example has left open."""
        kinds = (tcp.Conn, tcp.Listener, udp.Conn, http.Server, http.Client, http.ClientStream, http.AccessLog)
        for value in list(self.names.values()):
            if isinstance(value, (*kinds, websocket.Socket, channel.Channel, pool.Pool)):
                value.close()
        http.closeidle()
        for number in list(signals._taken):
            silly.signal(number, None)

    def _print(self, *values: object, flush: bool = False) -> str:
        return " ".join(map(str, values))

    def _result(self, value: Any, line: str) -> Any:
        assert value == self.expected[line], line
        self.pending.discard(line)
        return value


class Preparation(ast.NodeTransformer):
    """Puts into an example what the test sees it by, and into ``expected`` what has to
    happen."""

    def __init__(self, source: str, expected: dict[str, Any]) -> None:
        tokens = tokenize.generate_tokens(io.StringIO(source).readline)
        self.results = {
            token.start[0]: token.string.removeprefix("# -> ") for token in tokens if token.string.startswith("# -> ")
        }
        """By their lines, the results that no statement has claimed."""
        self._expected = expected
        self._listens = False

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        self._expected[node.name] = None
        node.body = [ast.Try(node.body, [], [], ast.parse(f"_returned({node.name!r})").body)]
        return node

    def visit_Assign(self, node: Any) -> ast.AST:
        self.generic_visit(node)
        text = self.results.pop(node.end_lineno, None)
        if text is not None:
            line = f"{ast.unparse(node)}  # -> {text}"
            prints = ast.unparse(node.value).startswith("print(")
            self._expected[line] = text if prints else ast.literal_eval(text)
            node.value = ast.Call(ast.Name("_result", ast.Load()), [node.value, ast.Constant(line)], [])
        return node

    visit_Expr = visit_Assign

    def visit_Call(self, node: ast.Call) -> ast.AST:
        before, self._listens = self._listens, isinstance(node.func, ast.Attribute) and node.func.attr in ("listen", "bind")
        self.generic_visit(node)
        self._listens = before
        return node

    def visit_Tuple(self, node: ast.Tuple) -> ast.AST:
        """An address of two parts, as the standard library has it."""
        text = ast.unparse(node)
        if not re.fullmatch(r"\('[\w.]+', (8080|8443)\)", text):
            return self.generic_visit(node)
        text = ":".join(map(str, ast.literal_eval(text)))
        return ast.parse(f"(lambda host, port: (host, int(port)))(*_here({text!r}, False).split(':'))", mode="eval").body

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if not isinstance(node.value, str) or not re.search(f"{ADDRESS}|^/srv/www|^/var/log/", node.value):
            return node
        return ast.Call(ast.Name("_here", ast.Load()), [node, ast.Constant(self._listens)], [])


@contextmanager
def made_conn(stage: Stage) -> Iterator[Any]:
    if stage.name.startswith("silly.net.udp"):
        with check(udp.connect(stage.datagrams().addr)) as datagrams:
            yield datagrams
        return
    secure = stage.name.startswith("silly.net.tls")
    address = stage.address(secure, False)
    with check(tls.connect(address, ca="ca.pem", alpnprotos=["chat/1"]) if secure else tcp.connect(address)) as conn:
        yield conn


@contextmanager
def made_listener(stage: Stage) -> Iterator[Any]:
    with check(tls.listen(addr="127.0.0.1:0", certs=[{"cert": "cert.pem", "key": "key.pem"}], accept=echo)) as listener:
        yield listener


@contextmanager
def made_sock(stage: Stage) -> Iterator[Any]:
    with check(websocket.connect(f"ws://{stage.address(False, True)}/")) as sock:
        yield sock


@contextmanager
def made_stream(stage: Stage) -> Iterator[Any]:
    """A request: for what only ``ClientStream`` has one to send; else one that a server
    has got, which for a WebSocket asks for the upgrade."""
    if ".ClientStream." in stage.name and stage.name.rpartition(".")[2] in vars(http.ClientStream):
        with check(http.request("POST", f"http://{stage.address(False, True)}/hello?name=you")) as stream:
            yield stream
        return
    streams, over = channel.new(), channel.new()

    def handler(stream: Any) -> None:
        streams.push(stream)
        over.pop()
        if stage.name.rpartition(".")[2] in vars(Incoming):
            stream.answer(204)  # the example is for clients too, and only reads

    def ask() -> None:
        if "websocket" in stage.name:
            sock, _err = websocket.connect(f"ws://{server.addr}/hello?name=you")
            if sock is not None:
                sock.close()
        else:
            response = check(http.post(f"http://{server.addr}/hello?name=you", None, "some text"))
            assert response.status != 500

    with serving(handler) as server:
        asking = spawn(ask)
        try:
            yield streams.pop()[0]
        finally:
            over.close()
            joined(asking)


@contextmanager
def made_response(stage: Stage) -> Iterator[Any]:
    yield check(http.get(f"http://{stage.address(False, True)}/"))


@contextmanager
def made_child(stage: Stage) -> Iterator[Any]:
    with check(process.start(["cat"], stdin=process.PIPE, stdout=process.PIPE)) as child:
        yield child


@contextmanager
def made_chan(stage: Stage) -> Iterator[Any]:
    yield channel.new()


@contextmanager
def made_m(stage: Stage) -> Iterator[Any]:
    yield mutex.new()


@contextmanager
def made_wg(stage: Stage) -> Iterator[Any]:
    yield waitgroup.new()


@contextmanager
def made_client(stage: Stage) -> Iterator[Any]:
    yield http.newclient()


@contextmanager
def made_log(stage: Stage) -> Iterator[Any]:
    yield http.AccessLog("combined", "access.log")


@contextmanager
def made_handler(stage: Stage) -> Iterator[Any]:
    yield web


@contextmanager
def made_file(stage: Stage) -> Iterator[Any]:
    with Path("file").open("w+b") as file:
        file.write(b"some text")
        file.seek(0)
        yield file


@contextmanager
def made_reader(stage: Stage) -> Iterator[Any]:
    reader, writer = os.pipe()
    os.write(writer, b"hello")
    yield reader
    os.close(writer)
    if "os.close(" not in EXAMPLES[stage.name]:
        os.close(reader)


@contextmanager
def made_router(stage: Stage) -> Iterator[Any]:
    yield http.router()


@contextmanager
def made_server(stage: Stage) -> Iterator[Any]:
    with serving(web, certs=[{"cert": "cert.pem", "key": "key.pem"}]) as server:
        yield server


MADE: dict[str, Callable[[Stage], Any]] = {
    name.removeprefix("made_"): value for name, value in list(globals().items()) if name.startswith("made_")
}


# ---- the examples run ----------------------------------------------------------------


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory, and a process that an example may change."""
    entry = authorities.server().entry
    (tmp_path / "cert.pem").write_text(entry["cert"])
    (tmp_path / "key.pem").write_text(entry["key"])
    (tmp_path / "ca.pem").write_text(authorities.root().pem)
    (tmp_path / "www").mkdir()
    (tmp_path / "www/index.html").write_text("<p>hello\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(env, "_values", {})
    monkeypatch.setattr(logger._log, "level", logger._log.level)
    monkeypatch.setattr(scheduler, "_on_error", None)


@pytest.mark.parametrize("name", [name for name in EXAMPLES if not served(name)])
def test_the_example_runs(name: str, directory: None, monkeypatch: pytest.MonkeyPatch, logs: Any) -> None:
    if name.startswith("silly.logger"):
        logs.allow("")
    if name == "silly.task.onerror":
        logs.expect("ZeroDivisionError")
    logs.allow("plain HTTP on a port that speaks TLS")

    def leave(status: int = 0) -> None:
        raise GreenletExit

    monkeypatch.setattr(silly, "exit", leave)

    def run() -> None:
        with time.deadline(WITHIN) as limit, ExitStack() as stack:
            stage = Stage(name, stack)
            stack.callback(stage.close)
            try:
                stage.run(EXAMPLES[name])
            except GreenletExit:
                assert "silly.exit(" in EXAMPLES[name]
        assert not limit.expired

    Job(run).result()

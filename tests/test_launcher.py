"""The life of a process: ``python -m silly``, plain scripts that end in ``silly.run()``, and the REPL.

Every test runs a script in a process of its own, with this interpreter's flags, and follows it by the lines it prints.
"""

from __future__ import annotations

import os
import py_compile
import re
import signal
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import silly

from .children import LISTENING
from .implementations import needs_c

FLAGS = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
PATIENCE = 50
"""Seconds after which a child is taken to hang."""

PRELUDE = """\
import silly, sys
from silly import errno, task, time
from silly.net import tcp
from silly.sync import channel
"""
LINES = PRELUDE.count("\n")


class Child:
    """A process, its output, and what became of it."""

    def __init__(self, args: list[str], cwd: Path) -> None:
        env = {**os.environ, "PYTHONUNBUFFERED": "1"}
        env.pop("PYTHONINSPECT", None)
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [sys.executable, *FLAGS, *args], cwd=cwd, env=env, stdin=pipe, stdout=pipe, stderr=pipe, text=True, bufsize=1
        )

    def line(self) -> str:
        """The next line that it prints, without its end; "" after the last."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def type(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        """Its status (-N when signal N ended it), and what else it wrote to stdout and stderr; without where it listens."""
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, LISTENING.sub("", err)

    def stop(self) -> None:
        """Cleans up, whatever state it is in."""
        with self.process:  # closes the pipes
            self.process.kill()


Start = Callable[..., Child]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a script: as the launcher does, or (``plain``) with plain python, where ``silly.run()`` is added at its end."""
    children: list[Child] = []

    def start(script: str, *args: str, plain: bool = False, run: bool = True, options: tuple[str, ...] = ()) -> Child:
        path = tmp_path / "app.py"
        path.write_text(PRELUDE + script + ("\nsilly.run()\n" if plain and run else ""))
        launcher = [] if plain else ["-m", "silly"]
        child = Child([*options, *launcher, str(path), *args], tmp_path)
        children.append(child)
        return child

    yield start
    for child in children:
        child.stop()


both = pytest.mark.parametrize("plain", [False, True], ids=["launcher", "plain"])


def command(*args: str, cwd: Path) -> tuple[int, str, str]:
    child = Child(["-m", "silly", *args], cwd)
    try:
        return child.end()
    finally:
        child.stop()


# ---- the command line -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help(tmp_path: Path, option: str) -> None:
    status, out, err = command(option, cwd=tmp_path)
    assert (status, err) == (0, "")
    for word in ("usage: python -m silly", "SCRIPT", "-h", "-v", "--log-level LEVEL", "--key=value", "SILLY_WORKERS"):
        assert word in out


@pytest.mark.parametrize("option", ["-v", "-V", "--version"])
def test_version(tmp_path: Path, option: str) -> None:
    status, out, err = command(option, cwd=tmp_path)
    assert (status, err) == (0, "")
    assert out.startswith(f"silly {silly.version} (Python {sys.version.split()[0]}, greenlet ")
    assert out.count("\n") == 1


def version(cwd: Path, monkeypatch: pytest.MonkeyPatch, pure: str | None, before: str = "") -> str:
    """What ``-v`` says of the extensions, where ``SILLY_PURE`` is this, and ``before`` was run."""
    if pure is None:
        monkeypatch.delenv("SILLY_PURE", raising=False)
    else:
        monkeypatch.setenv("SILLY_PURE", pure)
    script = f"import sys\n{before}\nfrom silly.__main__ import main\nsys.exit(main(['-v']))\n"
    child = Child(["-c", script], cwd)
    try:
        status, out, err = child.end()
    finally:
        child.stop()
    assert (status, err) == (0, "")
    found = re.fullmatch(r"silly .+ \(.+, greenlet [^,]+, (.+)\)\n", out)
    assert found, out
    return found[1]


@needs_c
@pytest.mark.parametrize("pure", [None, "", "0"])
def test_the_version_says_that_the_extensions_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pure: str | None) -> None:
    assert version(tmp_path, monkeypatch, pure) == "accelerated in C, TLS in C"


@needs_c
@pytest.mark.parametrize("words", ["by cryptography's functions", "by pyOpenSSL's methods"])
def test_the_version_says_how_tls_goes(words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = "from silly.net import _tls_direct, _tls_pipe\n_tls_pipe._in_c = lambda: None"
    if "pyOpenSSL" in words:
        before += "\n_tls_direct._direct = lambda: None"
    assert version(tmp_path, monkeypatch, None, before) == f"accelerated in C, TLS {words}"


def test_the_version_says_that_python_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert version(tmp_path, monkeypatch, "1") == "pure Python: SILLY_PURE=1"


SOURCES = Path(silly.__file__).parent
EXTENSIONS = [".".join(("silly", *path.relative_to(SOURCES).with_suffix("").parts)) for path in sorted(SOURCES.rglob("*.c"))]


@pytest.mark.parametrize("name", EXTENSIONS)
def test_the_version_says_which_extension_is_missing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = "".join(f"sys.modules[{other!r}] = sys\n" for other in EXTENSIONS if other != name)
    text = version(tmp_path, monkeypatch, None, f"import silly.net\n{built}sys.modules[{name!r}] = None")
    assert text == f"slower Python code runs: {name} was not built"


@pytest.mark.parametrize(
    ("level", "shown"),
    [("debug", "debug info warn error"), ("info", "info warn error"), ("warn", "warn error"), ("error", "error")],
)
def test_the_log_level(tmp_path: Path, level: str, shown: str) -> None:
    script = "from silly import logger\nfor name in ('debug', 'info', 'warn', 'error'):\n    getattr(logger, name)(name)\n"
    (tmp_path / "app.py").write_text(script)
    status, out, err = command("-l", level, "app.py", cwd=tmp_path)
    assert (status, out) == (0, "")
    assert [line.split()[-1] for line in err.splitlines()] == shown.split()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "no script given"),
        (["-l", "info"], "no script given"),
        (["-x"], "unknown option '-x'"),
        (["--port=1", "app.py"], "unknown option '--port=1'"),
        (["-l"], "-l needs a level: debug, info, warn, error"),
        (["-l", "loud", "app.py"], "-l needs a level: debug, info, warn, error"),
        (["--log-level=", "app.py"], "--log-level needs a level: debug, info, warn, error"),
        (["--workers", "0", "app.py"], "--workers needs a whole number from 1 on, not '0'"),
        (["--spread", "5s", "app.py"], "--spread 5000 is more than --drain 2000"),
        (["--pid-file"], "--pid-file needs the path of a file"),
        (["missing.py"], "can't open 'missing.py': No such file or directory"),
        (["."], "can't find __main__.py in '.': silly runs a script, or a directory or a zip file with __main__.py"),
    ],
)
def test_a_command_line_that_cannot_run(tmp_path: Path, args: list[str], message: str) -> None:
    (tmp_path / "app.py").write_text("print('ran')")
    status, out, err = command(*args, cwd=tmp_path)
    assert (status, out) == (2, "")
    assert f"silly: {message}" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"x = 1\nif x\n    y\n", 'app.py", line 2'),
        (b"x = \xff\xfe\n", "app.py"),
        (b"x = 1\0\n", "null bytes"),
        (b"# coding: nonsense\n", "nonsense"),
    ],
    ids=["syntax", "encoding", "null", "coding"],
)
def test_a_file_that_is_not_a_python_script(tmp_path: Path, source: bytes, message: str) -> None:
    (tmp_path / "app.py").write_bytes(source)
    status, out, err = command("app.py", cwd=tmp_path)
    assert (status, out) == (2, "")
    assert message in err
    assert "silly: 'app.py' is not a Python script" in err
    assert "Traceback" not in err


def test_the_script_s_future_flags_are_its_own(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("def f(x: int): pass\nprint(f.__annotations__)\n")
    assert command("app.py", cwd=tmp_path) == (0, "{'x': <class 'int'>}\n", "")


# ---- as Python runs it ------------------------------------------------------------------------------------------

SHOW = """\
\"\"\"What it is.\"\"\"
import os, sys
try:
    import sibling
    found = os.path.basename(sibling.__file__ or "")
except ImportError as exc:
    found = str(exc)
names = {name: value for name, value in globals().items() if name.startswith("__")}
spec, loader = names.pop("__spec__"), names.pop("__loader__")
print(names.pop("__builtins__").__name__, names)
print(spec and (spec.name, spec.origin, spec.has_location, spec.parent), getattr(loader, "__name__", type(loader).__name__))
print(getattr(loader, "path", None), getattr(loader, "archive", None))
print(sys.argv, sys.path, found)
print(sys._getframe().f_code.co_filename, sys.modules["__main__"].names is names)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with scripts of all kinds; ``away`` is a directory to call them from."""
    root = tmp_path_factory.mktemp("place")
    for name in ("real", "links", "app", "away", "empty"):
        (root / name).mkdir()
    for script in ("real/app.py", "real/without_ending", "app/__main__.py"):
        (root / script).write_text(SHOW)
    for name in ("real", "app"):
        (root / name / "sibling.py").write_text("")
    for name, scripts in (("app.zip", ("__main__.py", "sibling.py")), ("empty.zip", ("sibling.py",))):
        with zipfile.ZipFile(root / name, "w") as archive:
            for script in scripts:
                archive.write(root / "app" / script, script)
    py_compile.compile(str(root / "real/app.py"), str(root / "real/compiled.pyc"))
    (root / "real/other.pyc").write_bytes(b"\0\1\r\n" + (root / "real/compiled.pyc").read_bytes()[4:])
    (root / "links/link.py").symlink_to("../real/app.py")
    (root / "links/second.py").symlink_to("link.py")
    (root / "links/directory").symlink_to("../real")
    (root / "links/zip").symlink_to("../app.zip")
    return root


def ran(*args: str, cwd: Path, text: str = "") -> str:
    """What a command that ends well prints, with nothing that differs from run to run."""
    done = subprocess.run(
        [sys.executable, *FLAGS, *args], cwd=cwd, input=text, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


SCRIPTS = {
    "a relative path": "real/app.py",
    "a path with dots": "./real/../real/app.py",
    "a link": "links/link.py",
    "a link to a link": "links/second.py",
    "a link of a directory": "links/directory/app.py",
    "no ending": "real/without_ending",
    "compiled": "real/compiled.pyc",
    "a directory": "app",
    "a directory with a slash": "app/",
    "a zip file": "app.zip",
    "a link to a zip file": "links/zip",
}


@pytest.mark.parametrize("safe", [False, True], ids=["", "-P"])
@pytest.mark.parametrize("kind", SCRIPTS)
def test_a_script_finds_what_it_finds_under_python(place: Path, kind: str, safe: bool) -> None:
    """``__file__``, ``sys.path``, ``__spec__`` and all else; also the siblings of the target of a link."""
    option = ["-P"] if safe else []
    script = SCRIPTS[kind]
    for cwd, path in ((place, script), (place / "away", f"../{script}"), (place, str(place / script))):
        args = [path, "a", "--key=value", "-x"]
        output = ran(*option, "-m", "silly", *args, cwd=cwd)
        assert output == ran(*option, *args, cwd=cwd)
        assert "What it is." in output
        assert ("sibling.py" in output) == (not safe or "zip" in kind or "directory" in kind.split(" ")[:2]), output


def test_a_script_from_standard_input(place: Path) -> None:
    assert ran("-m", "silly", "-", "a", "-x", cwd=place, text=SHOW) == ran("-", "a", "-x", cwd=place, text=SHOW)
    assert ran("-m", "silly", "-l", "warn", "--", "real/app.py", cwd=place) == ran("real/app.py", cwd=place)


MAIN = """\
import dataclasses, multiprocessing, pickle, sys
from silly import task, time
@dataclasses.dataclass
class Thing:
    size: "int"
def double(thing):
    return Thing(2 * thing.size)
def main():
    print(pickle.loads(pickle.dumps(Thing(1))))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        waiting = pool.apply_async(double, (Thing(4),))
        while not waiting.ready():
            time.sleep(5)
        print(waiting.get())
if __name__ == "__main__":
    import __main__
    print(__main__.Thing is Thing)
    task.fork(main)
"""


@pytest.mark.parametrize("link", [False, True])
def test_classes_of_the_script_in_pickle_and_in_processes_of_multiprocessing(tmp_path: Path, link: bool) -> None:
    (tmp_path / "app.py").write_text(MAIN)
    (tmp_path / "link.py").symlink_to("app.py")
    output = ran("-m", "silly", "link.py" if link else "app.py", cwd=tmp_path)
    assert output.splitlines() == ["True", "Thing(size=1)", "Thing(size=8)"]


def test_a_traceback_names_the_file_as_python_does(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("def crash():\n    raise ValueError('crash')\ncrash()\n")
    (tmp_path / "link.py").symlink_to("app.py")
    status, _, err = command("link.py", cwd=tmp_path)
    assert status == 1
    assert f'File "{tmp_path / "link.py"}", line 2, in crash' in err
    assert "    raise ValueError('crash')\n" in err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["empty"], "can't find __main__.py in 'empty': silly runs a script, or a directory or a zip file with __main__.py"),
        (["empty.zip"], "can't find __main__.py in 'empty.zip': silly runs a script, or a directory or a zip file with"),
        (["real/other.pyc"], "can't run 'real/other.pyc': bad magic number in '__main__'"),
        (["real/app.py/"], "can't open 'real/app.py/': Not a directory"),
    ],
)
def test_what_python_could_not_run_either(place: Path, args: list[str], message: str) -> None:
    status, out, err = command(*args, cwd=place)
    assert (status, out) == (2, "")
    assert err.startswith(f"silly: {message}")
    assert "Traceback" not in err


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="this user may read everything")
def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "app.py").touch(0)
    assert command("app.py", cwd=tmp_path) == (2, "", "silly: can't open 'app.py': Permission denied\n")


# ---- what other programs would understand -----------------------------------------------------------------------

AFTER = "Settings go after the script, as --key=value: python -m silly"
IMPORTS = "silly runs a script, which calls http.listen itself, and imports no application object: python -m silly"
HINTS = {
    "--port=80 app.py": f"{AFTER} app.py --port=80. The script reads it by silly.env.get('port')",
    "--port 80 app.py": f"{AFTER} app.py --port=80. The script reads it by silly.env.get('port')",
    "--port": f"{AFTER} SCRIPT --port=VALUE. The script reads it by silly.env.get('port')",
    "-p 80 app.py": f"{AFTER} app.py --port=80. The script reads it by silly.env.get('port')",
    "-b 0.0.0.0:80 app:app": f"{AFTER} SCRIPT --bind=0.0.0.0:80. The script reads it by silly.env.get('bind')",
    "--host 0.0.0.0 app.py": f"{AFTER} app.py --host=0.0.0.0. The script reads it by silly.env.get('host')",
    "--certfile=a.pem app.py": f"{AFTER} app.py --certfile=a.pem. The script reads it by silly.env.get('certfile')",
    "--workres 4 app.py": "Is it --workers?",
    "--worker=4 app.py": "Is it --workers?",
    "--log-paht x app.py": "Is it --log-path?",
    "--timeout 30 app.py": "For the end: python -m silly --drain TIME app.py",
    "--debug app.py": "python -m silly -l debug --reload app.py",
    "-w 4 app:app": "python -m silly --workers N SCRIPT",
    "-k gevent app:app": "one thread runs all tasks of a process, as greenlets",
    "--graceful-timeout 30 app.py": "python -m silly --drain TIME app.py",
    "--logpath=app.log app.py": "python -m silly --log-path FILE app.py",
    "--access-logfile - app.py": 'http.listen(accesslog=http.AccessLog("combined", "access.log"))',
    "-T 1 app.py": "taskset -c CPU python -m silly app.py",
    "-m package.module": "End the module with silly.run(), and start it with: python -m MODULE",
    "-c print(1)": "silly runs a file, or - for standard input",
    "-u app.py": "If it is an option of Python, it goes before -m: python -u -m silly app.py",
    "-Werror app.py": "If it is an option of Python, it goes before -m: python -Werror -m silly app.py",
    "--app app run": IMPORTS.partition(":")[0],
    "app:app": f"{IMPORTS} app.py",
    "app.py:app": f"{IMPORTS} app.py",
    "package.module:create_app()": f"{IMPORTS} package/module.py",
    "other:app": f"{IMPORTS} SCRIPT",
    "app": "Is it python -m silly app.py?",
    "package.module": "Is it python -m silly package/module.py?",
    "package.other": "End the module with silly.run(), and start it with: python -m package.other",
    "run app.py": "silly has no commands. Is it python -m silly app.py?",
    "": "The name of the script is empty: is a variable of the shell not set?",
}
"""Command lines, and what is said about each beside the error."""


@pytest.mark.parametrize("line", HINTS)
def test_a_command_line_of_another_program_gets_a_hint(tmp_path: Path, line: str) -> None:
    (tmp_path / "app.py").write_text("print('ran')")
    (tmp_path / "package").mkdir()
    (tmp_path / "package/module.py").write_text("print('ran')")
    status, out, err = command(*(line.split(" ")), cwd=tmp_path)
    assert (status, out) == (2, "")
    error, hint, *more = err.splitlines()
    assert error.startswith(("silly: unknown option ", "silly: can't open "))
    assert more in ([], ["python -m silly --help lists the options."])
    assert HINTS[line] in hint
    assert "Traceback" not in err


@pytest.mark.parametrize("path", ["missing.py", "/no/such/file", "a b", "http://x/app:app"])
def test_a_missing_file_that_tells_nothing_gets_no_hint(tmp_path: Path, path: str) -> None:
    assert command(path, cwd=tmp_path) == (2, "", f"silly: can't open {path!r}: No such file or directory\n")


def test_what_a_hint_proposes_runs(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("from silly import env\nprint(env.get('port'))\n")
    (tmp_path / "module.py").write_text("import silly\nsilly.run(lambda: print('main'))\n")
    assert command("app.py", "--port=80", cwd=tmp_path) == (0, "80\n", "")
    assert ran("-m", "module", cwd=tmp_path) == "main\n"


def test_settings(start: Start) -> None:
    child = start(
        "from silly import env\n"
        "print([env.get(k) for k in ('port', 'url', 'empty', 'a.b', 'flag', 'x', '', 'late')])\n",
        "--port=8080", "--url=http://h/?q=1", "--empty=", "--a.b=c", "--flag", "-x=1", "--=nothing", "other", "--late=yes",
    )  # fmt: skip
    assert child.end() == (0, "['8080', 'http://h/?q=1', '', 'c', None, None, None, 'yes']\n", "")


def test_a_setting_in_plain_python_is_not_read(start: Start) -> None:
    child = start("from silly import env\nprint(env.get('port'), sys.argv[1:])", "--port=1", plain=True)
    assert child.end() == (0, "None ['--port=1']\n", "")


# ---- the end of the script --------------------------------------------------------------------------------------


@both
def test_nothing_left_to_do_ends_with_0(start: Start, plain: bool) -> None:
    child = start("print('hello')", plain=plain)
    assert child.end() == (0, "hello\n", "")


@both
def test_the_process_lives_until_its_tasks_have_ended(start: Start, plain: bool) -> None:
    script = """
def body():
    print("task")
    time.sleep(5)
    task.fork(print, "grandchild")
task.fork(body)
print("script")
"""
    assert start(script, plain=plain).end() == (0, "script\ntask\ngrandchild\n", "")


@both
def test_a_timer_keeps_the_process_alive(start: Start, plain: bool) -> None:
    script = """
time.after(20, print, "second")
time.after(1, print, "first")
time.cancel(time.after(3_600_000, print, "never"))
"""
    assert start(script, plain=plain).end() == (0, "first\nsecond\n", "")


LISTEN = """
def accept(conn):
    with conn:
        print("accepted")
        conn.write("hello")
listener = silly.check(tcp.listen("127.0.0.1:0", accept))
print(listener.port)
"""


@both
def test_a_listener_keeps_the_process_alive(start: Start, plain: bool) -> None:
    child = start(LISTEN, plain=plain)
    port = int(child.line())
    for _ in range(2):
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
            assert sock.makefile("rb").read() == b"hello"
        assert child.line() == "accepted"
    child.signal(signal.SIGTERM)
    assert child.end() == (0, "", "")


@both
def test_a_listener_that_closes_lets_the_process_end(start: Start, plain: bool) -> None:
    child = start(LISTEN + "time.after(1, listener.close)\n", plain=plain)
    assert int(child.line()) > 0
    assert child.end() == (0, "", "")


@both
def test_an_unread_connection_does_not_keep_the_process_alive(start: Start, plain: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        child = start(f"conn = silly.check(tcp.connect('127.0.0.1:{server.getsockname()[1]}'))\nprint('done')", plain=plain)
        assert child.end() == (0, "done\n", "")


DEADLOCK = """
chan = channel.new()
def popper():
    chan.pop()
def waiter():
    task.wait()
task.fork(popper)
task.fork(waiter)
"""


@both
def test_tasks_that_nothing_can_wake_are_listed(start: Start, plain: bool) -> None:
    script = """try:
    task.fork(lambda: None)
finally:
    pass
def ended():
    try:
        task.wait()
    finally:
        print("finally")
task.fork(ended)
"""
    status, out, err = start(DEADLOCK + script, plain=plain).end()
    assert (status, out) == (1, "finally\n")
    assert err.count("ERROR") == 1
    assert "nothing can ever wake" in err
    at = [rf"app\.py:{LINES + n}\b" for n in range(10)]
    assert re.search(rf"popper: waits on channel\.pop; forked at \S*{at[7]}, waits at \S*{at[4]}", err)
    assert re.search(rf"waiter: waits on task\.wait; forked at \S*{at[8]}, waits at \S*{at[6]}", err)


def test_a_script_that_waits_for_ever_is_named_after_itself(start: Start) -> None:
    status, _, err = start("task.wait()").end()
    assert status == 1
    assert re.search(rf"app\.py: waits on task\.wait; .*waits at \S*app\.py:{LINES + 1}", err)


def test_a_plain_script_that_waits_for_ever_gets_an_error_where_it_waits(start: Start) -> None:
    status, out, err = start(DEADLOCK + "task.wait()\n", plain=True).end()
    assert (status, out) == (1, "")
    assert f"line {LINES + 9}" in err
    assert "silly._core.result.Error: nothing can ever wake" in err or "silly.Error: nothing can ever wake" in err
    for words in ("popper: waits on channel.pop", "waiter: waits on task.wait", "the main program: waits on task.wait"):
        assert words in err


def test_a_plain_script_can_go_on_after_that_error(start: Start) -> None:
    script = """
try:
    task.wait()
except silly.Error:
    print("caught")
time.sleep(1)
task.fork(print, "task")
"""
    assert start(script, plain=True).end() == (0, "caught\ntask\n", "")


# ---- errors and exits -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ValueError", "asyncio.CancelledError"])
def test_an_exception_at_the_top_level_is_logged_and_ends_the_process_with_1(start: Start, kind: str) -> None:
    script = """
def other():
    try:
        task.wait()
    finally:
        print("finally of a task")
task.fork(other)
time.sleep(1)
def crash():
    raise KIND("crash")
import asyncio; crash()
print("not reached")
"""
    status, out, err = start(script.replace("KIND", kind)).end()
    assert (status, out) == (1, "finally of a task\n")
    assert re.match(r"\S+ \S+ ERROR \S*app\.py:\n", err)
    assert f"line {LINES + 11}, in <module>" in err
    assert f"line {LINES + 10}, in crash" in err
    assert err.rstrip().endswith(f"{kind}: crash".replace("asyncio.", "asyncio.exceptions."))
    assert "__main__.py" not in err


@pytest.mark.parametrize("kind", ["ValueError", "asyncio.CancelledError", "BaseException"])
@both
def test_an_exception_in_a_task_is_logged_and_the_others_go_on(start: Start, plain: bool, kind: str) -> None:
    script = f"""
import asyncio
def crash():
    raise {kind}("crash")
task.fork(crash)
task.fork(print, "other")
"""
    status, out, err = start(script, plain=plain).end()
    assert (status, out) == (0, "other\n")
    assert "ERROR exception in <task crash" in err


@pytest.mark.parametrize(
    ("call", "status", "message"),
    [("sys.exit(3)", 3, ""), ("sys.exit()", 0, ""), ("sys.exit('message')", 1, "message\n"), ("exit(4)", 4, "")],
)
@pytest.mark.parametrize("where", ["script", "task"])
def test_sys_exit(start: Start, call: str, status: int, message: str, where: str) -> None:
    script = """
def waiter():
    try:
        task.wait()
    finally:
        print('finally')
task.fork(waiter)
time.sleep(1)
"""
    script += call if where == "script" else f"task.fork(lambda: {call})"
    assert start(script).end() == (status, "finally\n", message)


EXIT = """
from greenlet import GreenletExit
chan = channel.new()
def waiter(name):
    try:
        ok, result = silly.pcall(task.wait)
        print("pcall caught it")
    except GreenletExit:
        print(name, "GreenletExit")
        raise
    finally:
        print(name, "finally")
        print("slept:", time.sleep(1))
def reader():
    with silly.check(tcp.connect(listener.addr)) as conn:
        conn.read(1)
def quit():
    try:
        silly.exit(5)
        print("not reached")
    finally:
        print("finally of exit")
listener = silly.check(tcp.listen("127.0.0.1:0", lambda conn: chan.push(conn)))
task.fork(waiter, "a")
task.fork(waiter, "b")
task.fork(reader)
task.fork(lambda: time.sleep(60_000))
held = chan.pop()
"""


@pytest.mark.parametrize("call", ["silly.exit(5)", "task.fork(quit)", "task.fork(quit)\ntask.fork(lambda: silly.exit(6))"])
@both
def test_silly_exit(start: Start, plain: bool, call: str) -> None:
    status, out, err = start(EXIT + call, plain=plain).end()
    assert (status, err) == (5, "")
    lines = out.splitlines()
    if "quit" in call:
        lines.remove("finally of exit")
    assert lines[:4] == ["a GreenletExit", "a finally", "b GreenletExit", "b finally"]
    assert lines[4:] == ["slept: None"] * 2


@both
def test_silly_exit_at_the_top_level_runs_its_finally_blocks(start: Start, plain: bool) -> None:
    script = """
try:
    silly.exit(7)
    print("not reached")
except Exception:
    print("not an Exception")
finally:
    print("finally")
"""
    assert start(script, plain=plain).end() == (7, "finally\n", "")


def test_exit_while_a_plain_script_s_main_program_waits(start: Start) -> None:
    script = """
task.fork(lambda: silly.exit(5))
try:
    time.sleep(60_000)
finally:
    print("finally")
"""
    assert start(script, plain=True).end() == (5, "finally\n", "")


@pytest.mark.parametrize("pause", ["", "time.sleep(0)"])
def test_a_finally_block_that_hands_the_waiting_main_program_something_changes_no_status(start: Start, pause: str) -> None:
    script = f"""
chan = channel.new()
def body():
    try:
        task.wait()
    finally:
        {pause or "pass"}
        print("finally", bool(chan.push("item")))
task.fork(body)
task.fork(lambda: silly.exit(5))
chan.pop()
print("not reached")
"""
    assert start(script, plain=True).end() == (5, "finally True\n", "")


@both
def test_a_finally_block_that_wakes_another_task(start: Start, plain: bool) -> None:
    """It gets its GreenletExit all the same, once, and nothing runs a task that has ended."""
    script = """
chan, other = channel.new(), channel.new()
def first():
    try:
        task.wait()
    finally:
        print("first", bool(chan.push("item")), bool(other.push("item")))
def second():
    try:
        chan.pop()
        print("not reached")
    finally:
        time.sleep(0)
        time.sleep(0)
        print("second")
def third():
    other.pop()
    print("not reached")
for each in (first, second, third):
    task.fork(each)
time.sleep(1)
silly.exit(5)
"""
    assert start(script, plain=plain).end() == (5, "first True True\nsecond\n", "")


@both
def test_a_task_that_was_ready_when_the_process_ended(start: Start, plain: bool) -> None:
    script = """
def body():
    try:
        task.wait()
        print("not reached")
    finally:
        print("finally")
me = task.fork(body)
time.sleep(1)
for _ in range(5000):
    task.fork(lambda: None)  # more than run before the end
task.wakeup(me, "value")
silly.exit(5)
"""
    assert start(script, plain=plain).end() == (5, "finally\n", "")


@both
def test_tasks_and_timers_started_during_the_end_do_not_delay_it(start: Start, plain: bool) -> None:
    script = """
def body():
    try:
        task.wait()
    finally:
        time.after(3_600_000, print, "not reached")
        task.fork(print, "not reached")
        print(tcp.listen("127.0.0.1:0", print) == (None, errno.CLOSED))
        try:
            task.wait()
        finally:
            print("finally")
silly._core.ending.FINALLY = 3600.0
task.fork(body)
time.sleep(1)
silly.exit(5)
"""
    status, out, err = start(script, plain=plain).end()
    assert (status, out) == (5, "True\nfinally\n")
    assert re.fullmatch(r"\S+ \S+ WARNING .*print.* was not started: the process is ending\n", err)


@pytest.mark.parametrize("refuses", ["GreenletExit", "BaseException"])
@both
def test_a_task_that_refuses_to_end_is_cut_off(start: Start, plain: bool, refuses: str) -> None:
    script = f"""
from greenlet import GreenletExit
def stubborn():
    try:
        task.wait()
    except GreenletExit:
        print("refuses")
    while True:
        try:
            time.sleep(60_000)
        except {refuses}:
            pass
silly._core.ending.plan, silly._core.ending.FINALLY = silly._core.ending.Plan(drain=0), 0.1
task.fork(stubborn)
time.sleep(1)
silly.exit(5)
"""
    status, out, err = start(script, plain=plain).end()
    assert (status, out) == (5, "refuses\n")
    assert re.search(r"WARNING <task stubborn .*did not end within 0\.1 s", err)


STUBBORN = {
    "conn.read": ("", "conn.read(1)"),
    "conn.write": ("conn._stream.writev([bytes(65536)] * 512)", "conn.write(b'x')"),  # more than the kernel takes
    "tcp.connect": ("", "tcp.connect(listener.addr)"),
    "channel.pop": ("", "channel.new().pop()"),
    "task.wait": ("", "task.wait()"),
    "time.sleep": ("", "time.sleep(1000)"),
    "server.drain": ("", "server.drain()"),
    "silly.exit": ("", "silly.exit(6)"),
    "a free connection": ("", "client.get(f'http://127.0.0.1:{server.port}')"),
}
"""What blocks, with what is prepared before: each must let others run while the process ends."""


@pytest.mark.parametrize("what", STUBBORN)
def test_a_task_that_goes_on_and_on_does_not_keep_the_process_from_ending(start: Start, what: str) -> None:
    before, call = STUBBORN[what]
    script = f"""
from silly.net import http
held = []
def stubborn():
    try:
        task.wait()
    except BaseException:
        print("refuses")
    {before or "pass"}
    while True:
        try:
            {call}
        except BaseException:
            pass
def other():
    try:
        task.wait()
    finally:
        time.sleep(0)
        print("finally")
def serve(stream):
    held.append(stream)
    task.wait()
server = silly.check(http.listen("127.0.0.1:0", serve))
listener = silly.check(tcp.listen("127.0.0.1:0", held.append))
conn = silly.check(tcp.connect(listener.addr))
client = http.newclient(max_per_host=1)
task.fork(client.get, f"http://127.0.0.1:{{server.port}}")
task.fork(stubborn)
task.fork(other)
while len(held) < 2:
    time.sleep(1)
silly._core.ending.plan, silly._core.ending.FINALLY = silly._core.ending.Plan(drain=0), 0.2
silly.exit(5)
"""
    status, out, err = start(script, plain=True).end()
    assert (status, out) == (5, "refuses\nfinally\n")
    assert re.search(r"WARNING <task stubborn .*did not end within 0\.2 s", err)


def test_the_grace_is_3_seconds() -> None:
    assert (silly._core.ending.Plan().drain, silly._core.ending.FINALLY) == (2000, 1.0)


@both
def test_output_is_delivered_before_the_process_ends(start: Start, plain: bool) -> None:
    script = """
def accept(conn):
    conn.write("x" * 1_000_000)
    silly.exit(5)
print(silly.check(tcp.listen("127.0.0.1:0", accept)).port)
"""
    child = start(script, plain=plain)
    with socket.create_connection(("127.0.0.1", int(child.line())), timeout=PATIENCE) as sock:
        assert len(sock.makefile("rb").read()) == 1_000_000
    assert child.end() == (5, "", "")


# ---- signals ----------------------------------------------------------------------------------------------------

SERVE = """
def waiter():
    try:
        print("waiting")
        task.wait()
    except Exception:
        print("an end is no Exception")
    finally:
        print("finally", time.sleep(1000))
task.fork(waiter)
listener = silly.check(tcp.listen("127.0.0.1:0", print))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@both
def test_a_signal_ends_the_process_gracefully(start: Start, plain: bool, number: int) -> None:
    child = start(SERVE, plain=plain)
    assert child.line() == "waiting"
    child.signal(number)
    assert child.end() == (0, "finally None\n", "")


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
@both
def test_a_second_signal_ends_it_at_once(start: Start, plain: bool, first: int, second: int) -> None:
    script = """
silly._core.ending.FINALLY = 3600.0
def stubborn():
    try:
        print("waiting")
        task.wait()
    finally:
        print("refuses")
        while True:
            time.sleep(0)
task.fork(stubborn)
listener = silly.check(tcp.listen("127.0.0.1:0", print))
"""
    child = start(script, plain=plain)
    assert child.line() == "waiting"
    child.signal(first)
    assert child.line() == "refuses"
    child.signal(second)
    assert child.end() == (-second, "", "")


@both
def test_a_second_signal_ends_a_task_that_never_blocks(start: Start, plain: bool) -> None:
    script = """
import signal
def busy():
    handler = signal.getsignal(signal.SIGTERM)
    print("busy")
    while signal.getsignal(signal.SIGTERM) is handler:
        pass
    print("signalled")
    while True:
        pass
task.fork(busy)
"""
    child = start(script, plain=plain)
    assert child.line() == "busy"
    child.signal(signal.SIGTERM)
    assert child.line() == "signalled"
    child.signal(signal.SIGTERM)
    assert child.end()[:2] == (-signal.SIGTERM, "")


@both
def test_an_application_s_own_signal_handler_is_left_alone(start: Start, plain: bool) -> None:
    script = """
import signal
caught = []
signal.signal(signal.SIGTERM, lambda number, frame: caught.append(number))
def main():
    print("waiting")
    while not caught:
        time.sleep(1)
    print("mine")
    silly.exit(5)
task.fork(main)
"""
    child = start(script, plain=plain)
    assert child.line() == "waiting"
    child.signal(signal.SIGTERM)
    assert child.end() == (5, "mine\n", "")


@both
def test_a_keyboardinterrupt_raised_by_a_task(start: Start, plain: bool) -> None:
    script = """
def body():
    raise KeyboardInterrupt
task.fork(body)
"""
    status, out, err = start(script, plain=plain).end()
    assert (status, out) == (-signal.SIGINT, "")
    assert "KeyboardInterrupt" in err


# ---- plain python -----------------------------------------------------------------------------------------------


def test_run_with_a_main_function(start: Start) -> None:
    script = """
def main():
    print("main")
    task.fork(print, "child")
silly.run(main)
print("returned")
silly.run(main)
silly.run()
print("returned again")
"""
    expected = "main\nchild\nreturned\nmain\nchild\nreturned again\n"
    assert start(script, plain=True, run=False).end() == (0, expected, "")


def test_the_same_script_runs_under_the_launcher(start: Start) -> None:
    script = """
def main():
    time.sleep(1)
    print("main")
silly.run(main)
print("run returned at once")
"""
    assert start(script).end() == (0, "run returned at once\nmain\n", "")


def test_signals_are_python_s_own_again_after_run(start: Start) -> None:
    script = """
import signal
before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
silly.run(lambda: print(signal.getsignal(signal.SIGTERM) != before[1]))
print(signal.getsignal(signal.SIGTERM) == before[1], callable(signal.getsignal(signal.SIGINT)), signal.set_wakeup_fd(-1))
"""
    assert start(script, plain=True, run=False).end() == (0, "True\nTrue True -1\n", "")


def test_a_script_that_forks_and_never_runs_the_loop(start: Start) -> None:
    script = "def main():\n    print('not reached')\ntask.fork(main)\nprint('end')\n"
    status, out, err = start(script, plain=True, run=False).end()
    assert (status, out) == (1, "end\n")
    assert re.search(rf"  main, forked at \S*app\.py:{LINES + 3}\n", err)
    assert "silly.run()" in err
    assert "python -m silly" in err
    assert "Traceback" not in err


def test_a_script_that_fails_shows_only_its_own_error(start: Start) -> None:
    status, out, err = start("task.fork(print)\nraise ValueError('crash')\n", plain=True, run=False).end()
    assert (status, out) == (1, "")
    assert "ValueError: crash" in err
    assert "never ran" not in err


def test_a_plain_script_may_block(start: Start) -> None:
    script = """
chan = channel.new()
def producer():
    time.sleep(1)
    chan.push("item")
task.fork(producer)
print(chan.pop())
listener = silly.check(tcp.listen("127.0.0.1:0", lambda conn: conn.write("hello\\n")))
with silly.check(tcp.connect(listener.addr)) as conn:
    print(conn.read("\\n", 60_000))
print("end")
"""
    status, out, err = start(script, plain=True, run=False).end()
    assert (status, out, err) == (0, "('item', None)\n(b'hello\\n', None)\nend\n", "")


INTERRUPTED = """
chan = channel.new()
ticks = 0
def ticker():
    global ticks
    while True:
        time.sleep(1)
        ticks += 1
task.fork(ticker)
for _ in range(2):
    task.fork(print, "waiting")  # runs once the main program waits
    try:
        chan.pop()
    except KeyboardInterrupt:
        print("interrupted")
    before = ticks
    while ticks < before + 3:
        time.sleep(1)
    task.fork(chan.push, "item")
    print(chan.pop())
"""


def test_ctrl_c_reaches_the_waiting_main_program_and_the_loop_lives(start: Start) -> None:
    child = start(INTERRUPTED, plain=True, run=False)
    for _ in range(2):
        assert child.line() == "waiting"
        child.signal(signal.SIGINT)
        assert child.line() == "interrupted"
        assert child.line() == "('item', None)"
    assert child.end() == (0, "", "")


def test_uncaught_ctrl_c_ends_a_plain_script(start: Start) -> None:
    script = "task.fork(print, 'waiting')\ntry:\n    time.sleep(60_000)\nfinally:\n    print('finally')\n"
    child = start(script, plain=True, run=False)
    assert child.line() == "waiting"
    child.signal(signal.SIGINT)
    status, out, err = child.end()
    assert (status, out) == (-signal.SIGINT, "finally\n")
    assert f"line {LINES + 3}" in err
    assert "KeyboardInterrupt" in err


def test_a_second_ctrl_c_stops_a_task_that_never_blocks(start: Start) -> None:
    """The first is on its way to the main program, but that task doesn't let it through."""
    script = """
import signal
def busy():
    try:
        print("busy")
        while True:
            pass
    finally:
        print("stopped")
task.fork(lambda: signal.signal(signal.SIGINT, wrap(signal.getsignal(signal.SIGINT))))
def wrap(handler):
    def caught(number, frame):
        try:
            handler(number, frame)
        finally:
            print("signal")
    return caught
task.fork(busy)
try:
    time.sleep(60_000)
except KeyboardInterrupt:
    print("interrupted")
"""
    child = start(script, plain=True, run=False)
    assert child.line() == "busy"
    child.signal(signal.SIGINT)
    assert child.line() == "signal"
    child.signal(signal.SIGINT)
    assert [child.line() for _ in range(3)] == ["signal", "stopped", "interrupted"]
    assert child.end()[:2] == (0, "")


# ---- the REPL ---------------------------------------------------------------------------------------------------


@pytest.fixture
def repl(tmp_path: Path) -> Iterator[Child]:
    child = Child(["-i", "-q"], tmp_path)
    child.type(PRELUDE)
    yield child
    child.stop()


def test_blocking_calls_at_the_repl(repl: Child) -> None:
    repl.type("chan = channel.new()\nt = task.fork(chan.push, 'item')\nprint(chan.pop())\n")
    assert repl.line() == "('item', None)"
    repl.type("time.sleep(1); print('slept')\n")
    assert repl.line() == "slept"
    repl.type("silly.run(lambda: print('main'))\nprint('returned')\n")
    assert [repl.line(), repl.line()] == ["main", "returned"]
    repl.type("silly.run(); silly.run(); print('returned')\n")
    assert repl.line() == "returned"
    status, out, err = repl.end()
    assert (status, out) == (0, "")
    assert "Error" not in err


def test_ctrl_c_at_the_repl(repl: Child) -> None:
    repl.type("chan = channel.new()\n")
    repl.type("def ticker():\n    while True:\n        time.sleep(1)\n        chan.push('tick')\n\n")
    repl.type("t = task.fork(ticker)\n")
    for _ in range(2):
        repl.type("t = task.fork(print, 'waiting'); time.sleep(3_600_000)\n")
        assert repl.line() == "waiting"
        repl.signal(signal.SIGINT)
        repl.type("chan.clear(); print(chan.pop())\n")
        assert repl.line() == "('tick', None)"
    status, out, err = repl.end()
    assert (status, out) == (0, "")
    assert err.count("KeyboardInterrupt") == 2


def test_an_error_at_the_repl_leaves_it_usable(repl: Child) -> None:
    repl.type("task.wait()\nprint('next')\n")
    assert repl.line() == "next"
    repl.type("time.sleep(1); print('slept')\n")
    assert repl.line() == "slept"
    status, _, err = repl.end()
    assert status == 0
    assert "nothing can ever wake" in err


def test_exit_at_the_repl(repl: Child) -> None:
    repl.type("def body():\n    try:\n        task.wait()\n    finally:\n        print('finally')\n\n")
    repl.type("t = task.fork(body); time.sleep(1); silly.exit(5)\nprint('not reached')\n")
    status, out, _ = repl.end()
    assert (status, out) == (5, "finally\n")


def test_leaving_the_repl_with_tasks_that_never_ran_is_not_an_error(repl: Child) -> None:
    repl.type("t = task.fork(print)\n")
    status, out, err = repl.end()
    assert (status, out) == (0, "")
    assert "never ran" not in err

"""Where ``env.get`` has its values from: the command line, the environment, ``--env-file`` and ``env.load``."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from silly import env
from silly.ops import envfile
from silly.ops.options import BadOption

from .support import has, launch, running


@pytest.fixture(autouse=True)
def _own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(env, "_values", {})
    monkeypatch.setattr(env, "_loaded", {})


# ---- which goes before which ------------------------------------------------------------------------------------


def test_the_order(tmp_path: Path) -> None:
    keys = ["a", "b", "c", "d", "e", "f"]
    (tmp_path / "app.py").write_text(
        "from silly import env\nenv.set('a', 'set')\nassert env.load('1.conf') is None\nassert env.load('2.conf') is None\n"
        f"print(*[env.get(key) for key in {keys!r}])\n"
    )
    (tmp_path / "1.env").write_text("".join(f"SILLY_{key.upper()}=file1\n" for key in keys[:4]))
    (tmp_path / "2.env").write_text("SILLY_D=file2\nSILLY_LOG_LEVEL=error\n")
    (tmp_path / "1.conf").write_text("".join(f"{key} = 'loaded1'\n" for key in keys[:5]))
    (tmp_path / "2.conf").write_text("".join(f"{key} = 'loaded2'\n" for key in keys))
    args = ["--env-file", "1.env", "--env-file", "2.env", "app.py", "--a=line", "--b=line"]
    done = launch(tmp_path, *args, SILLY_A="variable", SILLY_B="variable", SILLY_C="variable")
    assert (done.stdout, done.stderr) == ("set line variable file2 loaded1 loaded2\n", "")


def test_the_environment_in_a_plain_script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SILLY_SERVER_TLS_KEY_FILE", "x.pem")
    monkeypatch.setenv("SILLY_EMPTY", "")
    assert env.get("server.tls.key-file") == "x.pem"
    assert env.get("empty") == ""
    assert env.get("nothing") is None
    env.set("empty", 0)
    assert env.get("empty") == 0
    env.set("empty", None)
    assert env.get("empty") == ""


def test_an_env_file_is_for_the_whole_environment_and_has_options(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("import os\nfrom silly import logger\nlogger.info('hidden')\nprint(os.environ['URL'])\n")
    (tmp_path / "x.env").write_text("URL=http://x/\nSILLY_LOG_LEVEL=warn\n")
    done = launch(tmp_path, "app.py", SILLY_ENV_FILE="x.env")
    assert (done.stdout, done.stderr) == ("http://x/\n", "")
    (tmp_path / "x.env").write_text("\nSILLY_DRAIN=soon\n")
    done = launch(tmp_path, "--env-file", "x.env", "app.py")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("silly: SILLY_DRAIN needs milliseconds, or a time such as 30s")


# ---- --env-file -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("K=v", "v"),
        ("  export\tK = v w  # comment", "v w"),
        ("K=", ""),
        ("K=#", ""),
        ("K=a#b", "a#b"),
        ("K='a # \\n $b'  # comment", "a # \\n $b"),
        ('K="a # \\n\\t\\"\\\\\\$b"', 'a # \n\t"\\$b'),
        ("K=a=b", "a=b"),
        ("K=é", "é"),
        ("K=a'b", "a'b"),
    ],
)
def test_lines_of_an_env_file(line: str, value: str) -> None:
    Path("x.env").write_bytes(b"\xef\xbb\xbf# first\r\n\n" + line.encode() + b"\r\n")
    assert envfile.read("x.env") == {"K": value}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"K", "KEY=VALUE is expected, not 'K'"),
        (b"=v", "KEY=VALUE is expected, not '=v'"),
        (b"1K=v", "KEY=VALUE is expected, not '1K=v'"),
        (b"K='v", "the quote that begins with \"'v\" has no end in this line"),
        (b'K="v\\"', "the quote that begins with '\"v\\\\\"' has no end in this line"),
        (b"K='v'w", "'w' stands behind the quote"),
        (b"K=a\0b", "a null character can't be in a variable"),
        (b"K=\xff", "this is no UTF-8"),
    ],
)
def test_bad_lines_of_an_env_file(line: bytes, why: str) -> None:
    Path("x.env").write_bytes(b"A=1\n\n" + line + b"\n")
    with pytest.raises(BadOption) as caught:
        envfile.read("x.env")
    assert str(caught.value) == f"x.env:3: {why}"


# ---- env.load ---------------------------------------------------------------------------------------------------

CONF = r"""
-- a comment
--[[ one of
  several lines ]] include("common.conf")
server = {
    host = "0.0.0.0"; port = 0x1F90,
    tls = { enabled = true, ["key-file"] = 'a\'b.pem' },
    names = { "one", 'two', [4] = "four" },
}
server.workers, = nil
"""


def test_a_file() -> None:
    Path("common.conf").write_text('timeout = 30 * 1000\nserver = { port = 1 }\n')
    Path("app.conf").write_text(CONF.replace("server.workers, = nil", "server.workers = 2\nserver.names[3] = server.port / 2"))
    assert env.load("app.conf") is None
    assert env._loaded == {
        "timeout": 30_000,
        "server.host": "0.0.0.0",
        "server.port": 8080,
        "server.tls.enabled": True,
        "server.tls.key-file": "a'b.pem",
        "server.names.1": "one",
        "server.names.2": "two",
        "server.names.4": "four",
        "server.names.3": 4040.0,
        "server.workers": 2,
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.5e3", 1500.0),
        ("-3 + 2 * (4 - 1)", 3),
        ("- 2", -2),
        ("false", False),
        ("nil or 'x'", "x"),
        ("false or nil or 0", 0),
        ("1 and 2", 2),
        ("nil and 2 or 3", 3),
        ("not nil", True),
        ("1 == 1.0", True),
        ("1 == true", False),
        ("'1' ~= 1", True),
        ("'a' .. 1 .. 'b'", "a1b"),
        ("[[\nlong\n]]", "long\n"),
        ("[==[a]]b]==]", "a]]b"),
        (r'"\n\t\\\x41\65\u{20AC}\z   x\'"', "\n\t\\AA€x'"),
        ("ENV('SILLY_TEST_A') or 'none'", "set"),
        ("ENV 'SILLY_TEST_B' or 'none'", "none"),
        ("ENV('SILLY_TEST_A') == 'set'", True),
        ("99999999999999999999", 1e20),
        ("{}", None),
    ],
)
def test_values(text: str, value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SILLY_TEST_A", "set")
    Path("app.conf").write_text(f"key = {text}; other = 1")
    assert env.load("app.conf") is None
    got = env.get("key")
    assert (got, type(got)) == (value, type(value))
    assert env.get("other") == 1


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("print('x')", "1: '=' is expected here, not '('"),
        ("local x = 1", "1: a name is expected here, not 'local': settings are NAME = VALUE, and include(FILE)"),
        ("a = 1\nif x then end", "2: a name is expected here, not 'if': settings are NAME = VALUE, and include(FILE)"),
        ("a = os.getenv('x')", "1: os is no table here"),
        ("a = load('x')", "1: settings can't call load: they have include(FILE) and ENV(NAME)"),
        ("a = function() end", "1: a value is expected here, not 'function'"),
        ("a = {\n1\n2}", "3: ',' or '}' is expected here, not '2'"),
        ("a = {", "1: a value is expected here, not the end of the file"),
        ("a = 'x\n", "1: this has no end"),
        ("\n--[[ x", "2: this has no end"),
        ("a = 1 ? 2", "1: '?' has no place in settings"),
        ("a = '\\q'", "1: the escape '\\\\q' is unknown"),
        ("a = '\\u{D800}'", "1: no such character"),
        ("a.b = 1", "1: a is no table here: assign a = {} first"),
        ("a = 1 + 'x'", "1: '+' can't be applied to a number and a string"),
        ("a = 1 / 0", "1: the result of '/' is no number"),
        ("a = {[{}] = 1}", "1: a key is a string or a number"),
        ("a = " + "{" * 100, "1: this is too deep"),
        ("include('missing.conf')", "1: can't include 'missing.conf': No such file or directory"),
        ("include('app.conf')", "1: too many files include each other: app.conf"),
        ("include(1)", "1: include needs the name of a file"),
        ("a = ENV(1)", "1: ENV needs the name of a variable"),
    ],
)
def test_mistakes_have_their_place_and_nothing_is_set(text: str, why: str) -> None:
    Path("app.conf").write_text(f"{text}")
    err = env.load("app.conf")
    assert err is not None
    assert err.startswith(f"app.conf:{why}")
    assert env._loaded == {}


def test_files_that_cannot_be_read() -> None:
    assert env.load("missing.conf") == "missing.conf: No such file or directory"
    assert env.load(Path("a\0b")) == "a\\x00b: embedded null byte"
    Path("app.conf").write_bytes(b"a = 1\nb = '\xff'\n")
    assert env.load("app.conf") == "app.conf:2: this is no UTF-8"
    with pytest.raises(TypeError, match="takes the path of a file, not int"):
        env.load(1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("t = {}\nt.a = t\n", ": the table 't' is too deep, or a part of itself"),
        ("t = {}\n" + "t = {t}\n" * 2000, ": the table 't' is too deep, or a part of itself"),
        ("t = {}\n" + "t = {t, t}\n" * 40, ": there are more than 100000 settings"),
        ("s = 'x'\n" + "s = s .. s\n" * 40, ":18: this text has more than 100000 characters"),
    ],
    ids=["itself", "deep", "wide", "text"],
)
def test_a_small_file_cannot_make_much(text: str, why: str) -> None:
    Path("app.conf").write_text(text)
    assert env.load("app.conf") == f"app.conf{why}"
    assert env._loaded == {}


def test_files_that_include_others_twice_are_not_read_for_ever() -> None:
    for number in range(40):
        Path(f"{number}.conf").write_text(f"include('{number + 1}.conf')\n" * 2)
    Path("40.conf").write_text("")
    assert "too many files include each other" in (env.load("0.conf") or "")


def test_many_names_and_a_large_number() -> None:
    Path("app.conf").write_text("a = 1\nt = {" + "a, " * 3000 + "}\nn = 0x" + "f" * 400)
    assert env.load("app.conf") is None
    assert (env.get("t.3000"), env.get("n")) == (1, float("inf"))


def test_a_worker_reads_env_files_anew(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import os\nfrom silly import time\nprint(os.environ['A'], os.environ['B'], flush=True)\ntime.sleep(60_000)\n"
    )
    (tmp_path / "app.env").write_text("A=1\nB=from the file\n")
    with running(tmp_path, "--workers", "1", "--env-file", "app.env", "app.py", B="given") as process:
        has(tmp_path / "out", "1 given\n")
        (tmp_path / "app.env").write_text("A=2\n")
        process.send_signal(signal.SIGHUP)
        has(tmp_path / "out", "2 given\n")

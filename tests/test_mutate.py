"""The tool that shows which mutations of a module its tests don't notice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tests

from . import mutate

SOURCE = b'''"""Text: 1 < 2."""
LIMIT = 5

def f(a: "1 < 2", b=3):
    """Not 1."""
    assert a < 1
    logger.info(a, 7)
    if a < b and not a:
        b += 2
        g(f"{a < b}")
    elif a == b:
        return True
    return a if b else g

def __repr__():
    return 9
'''


def found() -> dict[str, str]:
    """All mutations of ``SOURCE``: what they say, and the source with them."""
    return {f"{each.line}: {each.what}": each.apply(SOURCE).decode() for each in mutate.mutations(SOURCE)}


def test_the_mutations() -> None:
    assert sorted(found()) == sorted(
        [
            "8: if a < b and (not a): always True",
            "8: if a < b and (not a): always False",
            "8: a < b and (not a) -> a < b or not a",
            "8: a < b and (not a): without a < b",
            "8: a < b and (not a): without not a",
            "8: not (a < b)",
            "8: a < b -> a <= b",
            "8: not a: without not",
            "9: removed: b += 2",
            "9: 2 -> 3 in: b += 2",
            "9: 2 -> 1 in: b += 2",
            "10: removed: g(f'{a < b}')",
            "11: if a == b: always True",
            "11: if a == b: always False",
            "11: not (a == b)",
            "12: return True -> return False",
            "13: return a if b else g -> return None",
            "13: if b: always True",
            "13: if b: always False",
            '4: 3 -> 4 in: def f(a: "1 < 2", b=3):',
            '4: 3 -> 2 in: def f(a: "1 < 2", b=3):',
        ]
    )


def test_the_rest_of_the_source_stays() -> None:
    texts = found()
    assert len(set(texts.values())) == len(texts)
    assert "    if (a <= b) and not a:\n" in texts["8: a < b -> a <= b"]
    assert "    elif (False):\n        return True\n" in texts["11: if a == b: always False"]
    assert "        pass\n        g(f" in texts["9: removed: b += 2"]
    for text in texts.values():
        assert text.startswith(SOURCE[: SOURCE.index(b"def")].decode())
        compile(text, "mutation", "exec")


def test_offsets_count_bytes() -> None:
    """Those of the parser do, and a line may hold other than ASCII."""
    source = "def f():\n    return 'é' < g(5)\n".encode()
    texts = {each.apply(source).decode() for each in mutate.mutations(source)}
    assert "def f():\n    return ('é' <= g(5))\n" in texts
    assert "def f():\n    return 'é' < g((6))\n" in texts


def test_the_seed_draws() -> None:
    all_of_them = mutate.mutations(SOURCE)
    drawn = mutate.draw(all_of_them, 8, 1)
    assert drawn == mutate.draw(all_of_them, 8, 1)
    assert drawn != mutate.draw(all_of_them, 8, 2)
    assert len({each.kind for each in drawn}) == 8
    assert sorted(mutate.draw(all_of_them, 1000, 1)) == sorted(all_of_them)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A module and tests of it, which see whether 5 is small, and not where the line is."""
    root = tmp_path / "project"
    (root / "part").mkdir(parents=True)
    (root / "part" / "__init__.py").touch()
    (root / "part" / "sizes.py").write_text("def small(n):\n    return n < 10\n")
    (root / "test_sizes.py").write_text("from part.sizes import small\n\n\ndef test_small():\n    assert small(5)\n")
    (root / "test_other.py").write_text("def test_other():\n    pass\n")
    (root / "test_red.py").write_text("def test_red():\n    assert False\n")
    return root


def start(project: Path, *args: str) -> subprocess.Popen[str]:
    """The tool in ``project``; what it makes for itself is in ``project/../temporary``."""
    temporary = project.parent / "temporary"
    temporary.mkdir(exist_ok=True)
    home = str(Path(tests.__file__).parent.parent)
    env = {**os.environ, "PYTHONPATH": home, "TMPDIR": str(temporary), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "tests.mutate", "part/sizes.py", *args]
    return subprocess.Popen(
        command, cwd=project, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
    )


def files(project: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(project.parent.rglob("*")) if path.is_file()}


def test_a_survivor_is_reported(project: Path) -> None:
    before = files(project)
    with start(project, "--tests", "test_sizes.py", "--count", "100") as process:
        out, err = process.communicate(timeout=50)
    assert err == ""
    assert process.returncode == 1
    reported = out.partition("survived\n")[2].splitlines()
    assert sorted(reported) == [
        "part/sizes.py:2: 10 -> 11 in: return n < 10",
        "part/sizes.py:2: 10 -> 9 in: return n < 10",
        "part/sizes.py:2: n < 10 -> n <= 10",
    ]
    assert "part/sizes.py:2: not (n < 10): noticed\n" in out
    assert files(project) == before


def test_all_are_noticed(project: Path) -> None:
    (project / "test_sizes.py").write_text(
        "from part.sizes import small\n\n\ndef test_small():\n"
        "    assert [small(n) for n in (8, 9, 10)] == [True, True, False]\n"
    )
    with start(project, "--tests", "test_*s.py", "--count", "3") as process:
        out, _ = process.communicate(timeout=50)
    assert process.returncode == 0
    assert "0 survived" in out


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("test_other.py", "the tests pass without part/sizes.py: they never load it"),
        ("test_red.py", "the tests fail without a mutation:"),
    ],
)
def test_tests_that_cannot_judge(project: Path, names: str, said: str) -> None:
    with start(project, "--tests", names) as process:
        out, err = process.communicate(timeout=50)
    assert process.returncode == 2
    assert said in err
    assert "survived" not in out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing(project: Path, number: int) -> None:
    """Neither a file that was changed, nor the copy, nor tests that go on."""
    mark = project.parent / "running"
    (project / "test_sizes.py").write_text(
        "import os, time, part.sizes\n\n\ndef test_slow():\n"
        f"    with open({str(mark)!r}, 'w') as file:\n        file.write(str(os.getpid()) + '\\n')\n    time.sleep(60)\n"
    )
    with start(project, "--tests", "test_sizes.py") as process:
        end = time.monotonic() + 30
        while not mark.exists() or not mark.read_text().endswith("\n"):
            assert time.monotonic() < end
            time.sleep(0.01)
        child = int(mark.read_text())
        process.send_signal(number)
        process.communicate(timeout=30)
    assert process.returncode == 130
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    assert list((project.parent / "temporary").iterdir()) == []
    assert (project / "part" / "sizes.py").read_text() == "def small(n):\n    return n < 10\n"


def test_every_module_has_its_usual_tests() -> None:
    root = Path(tests.__file__).parent.parent
    for path in root.glob("silly/**/*.py"):
        file = str(path.relative_to(root))
        names = mutate.usual_tests(file).split()
        assert names, file
        assert all(list(root.glob(name)) for name in names), (file, names)

"""What is built and installed: with a compiler the extensions in C, in a wheel for every Python from 3.11 on; without one the
install succeeds all the same, says so, and Python code runs. Nothing here needs a network.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from .implementations import NEEDED

ROOT = Path(__file__).parent.parent
PATIENCE = 50
"""Seconds after which a build is taken to hang."""
PARTS = ("silly", "setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")
"""What a build reads."""
EXTENSIONS = sorted(str(path.relative_to(ROOT).with_suffix("")) for path in (ROOT / "silly").rglob("*.c"))
COMPILER = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
NO_COMPILER = "/bin/false"


def _missing() -> str:
    """What the build would need a network for."""
    for name, least in (("pip", (22,)), ("setuptools", (70, 1))):
        try:
            have = version(name)
        except PackageNotFoundError:
            return f"{name} is not installed"
        if tuple(map(int, have.split(".")[: len(least)])) < least:
            return f"{name} {have} is too old to build this package"
    return "" if ROOT.joinpath("setup.py").exists() else "this is no source tree"


MISSING = _missing()
pytestmark = pytest.mark.skipif(bool(MISSING) and not NEEDED, reason=MISSING)
needs_compiler = pytest.mark.skipif(
    shutil.which(COMPILER.split()[0]) is None and not NEEDED, reason=f"there is no compiler {COMPILER!r}"
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the source tree, as it is checked out."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        else:
            shutil.copy(ROOT / part, tree)
    return tree


def python(cwd: Path, *args: str, env: dict[str, str] | None = None, path: Path | None = None) -> str:
    """What Python says that is run with ``args``; it must end well. ``path``: where it looks for packages first."""
    environment = {name: value for name, value in os.environ.items() if name not in ("SILLY_PURE", "PYTHONPATH")}
    environment |= {"PYTHONPATH": str(path)} if path is not None else {}
    done = subprocess.run(
        [sys.executable, *args],
        check=False,
        cwd=cwd,
        env=environment | (env or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def pip(cwd: Path, command: str, *args: str, env: dict[str, str] | None = None) -> str:
    options = ("--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--no-cache-dir")
    return python(cwd, "-m", "pip", command, *options, *args, env=env)


def backend(tree: Path, call: str, env: dict[str, str] | None = None) -> str:
    """What pip has setuptools do."""
    return python(tree, "-c", f"from setuptools import build_meta; build_meta.{call}", env=env)


def wheel(tree: Path, *, env: dict[str, str] | None = None) -> tuple[str, list[str], str]:
    """The tag of the wheel that is built of ``tree``, the names of the files in it, and its ``WHEEL`` file."""
    out = tree.parent / "wheel"
    shutil.rmtree(out, ignore_errors=True)
    pip(tree, "wheel", "-w", str(out), str(tree), env=env)
    (path,) = out.iterdir()
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        (about,) = [name for name in names if name.endswith(".dist-info/WHEEL")]
        return path.stem.split("-", 2)[2], names, archive.read(about).decode()


def runs(path: Path, env: dict[str, str] | None = None) -> str:
    """What the package installed in ``path`` says of itself."""
    return python(path.parent, "-m", "silly", "-v", path=path, env=env)


def built(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("silly/**/*.so"))


LIBRARIES = [f"{name}.abi3.so" for name in EXTENSIONS]


def test_the_extensions_are_those_that_setup_names() -> None:
    assert "silly/_wire/_speedups" in EXTENSIONS
    text = ROOT.joinpath("setup.py").read_text()
    assert [name for name in EXTENSIONS if f'"{name.replace("/", ".")}"' not in text] == []


@needs_compiler
def test_a_wheel_with_the_extensions_and_then_without(tree: Path) -> None:
    """The second, whose build fails, has nothing of the first in it; what both names say is true."""
    tag, names, about = wheel(tree)
    assert tag.startswith("cp311-abi3-")
    assert not tag.endswith("-any")
    assert sorted(name for name in names if name.endswith(".so")) == LIBRARIES
    assert {"silly/py.typed", *(f"{name}.pyi" for name in EXTENSIONS)} <= set(names)
    assert "Root-Is-Purelib: false" in about
    assert f"Tag: {tag}" in about

    for name in EXTENSIONS:
        (tree / f"{name}.c").touch()
    tag, names, about = wheel(tree, env={"CC": NO_COMPILER})
    assert tag == "py3-none-any"
    assert [name for name in names if name.endswith((".so", ".o"))] == []
    assert "silly/_wire/accelerated.py" in names
    assert "Root-Is-Purelib: true" in about


@needs_compiler
def test_an_install_with_a_compiler(tree: Path, tmp_path: Path) -> None:
    out = pip(tree, "install", "-v", "--target", str(tmp_path / "installed"), str(tree))
    assert "was not built" not in out
    assert built(tmp_path / "installed") == LIBRARIES
    assert "accelerated in C" in runs(tmp_path / "installed")
    assert "pure Python: SILLY_PURE=1" in runs(tmp_path / "installed", {"SILLY_PURE": "1"})


@pytest.mark.parametrize("compiler", [NO_COMPILER, "no-such-compiler"])
def test_an_install_without_a_compiler(compiler: str, tree: Path, tmp_path: Path) -> None:
    """It succeeds, and says what it lacks, as ``python -m silly -v`` does; and messages pass."""
    out = pip(tree, "install", "-v", "--target", str(tmp_path / "installed"), str(tree), env={"CC": compiler})
    for name in EXTENSIONS:
        assert f"silly: {name.replace('/', '.')} was not built, so slower Python code will run: " in out
    assert compiler in out
    assert built(tmp_path / "installed") == []
    assert "slower Python code runs: silly._core._speedups was not built" in runs(tmp_path / "installed")
    script = (
        "from silly._wire import accelerated\n"
        "frame = accelerated.message_frame('text', 'text', b'mask')\n"
        "print(accelerated.in_c, accelerated.take_messages(bytearray(frame), [], True, 100))\n"
    )
    assert python(tmp_path, "-c", script, path=tmp_path / "installed") == "False ('text', 'text')\n"


@needs_compiler
def test_an_editable_install(tree: Path, tmp_path: Path) -> None:
    """The extensions are built beside their sources. One that can't be built any more is gone: it would be older than they."""
    call = f"build_editable({str(tmp_path)!r})"
    assert "was not built" not in backend(tree, call)
    assert built(tree) == LIBRARIES
    assert "accelerated in C" in runs(tree)
    for name in EXTENSIONS:
        (tree / f"{name}.c").touch()
    assert "was not built" in backend(tree, call, {"CC": NO_COMPILER})
    assert built(tree) == []
    assert "slower Python code runs: " in runs(tree)


def test_a_source_distribution(tree: Path, tmp_path: Path) -> None:
    """It has the sources in C, nothing that was built, and all that a build needs."""
    (tree / "silly/_wire/_speedups.abi3.so").write_bytes(b"left from a build")
    backend(tree, f"build_sdist({str(tmp_path)!r})")
    (path,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        assert {f"{name}.c" for name in EXTENSIONS} | {f"{name}.pyi" for name in EXTENSIONS} <= names
        assert {"setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE", "silly/py.typed"} <= names
        assert [name for name in names if name.endswith((".so", ".o", ".pyc"))] == []
        archive.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    tag, names_built, _ = wheel(unpacked)
    assert ("abi3" in tag) is (LIBRARIES[0] in names_built)


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_make_installs_again_when_a_source_in_c_changes(tree: Path) -> None:
    shutil.copy(ROOT / "Makefile", tree)
    (tree / ".venv/bin").mkdir(parents=True)
    (tree / ".venv/bin/python").touch()
    for name in ("installed", "tested"):
        (tree / ".venv" / name).touch()

    def current(target: str) -> bool:
        return subprocess.run(["make", "-q", target], check=False, cwd=tree, stdout=subprocess.DEVNULL).returncode == 0

    assert current(".venv/tested")
    for name in [f"{name}.c" for name in EXTENSIONS] + ["setup.py", "setup.cfg", "pyproject.toml"]:
        before = (tree / name).stat()
        os.utime(tree / name, (before.st_atime, before.st_mtime + 1_000_000))
        assert not current(".venv/installed"), name
        assert not current(".venv/tested"), name
        os.utime(tree / name, (before.st_atime, before.st_mtime))
    assert current(".venv/tested")

"""The tool that asks for the oldest versions which setup.cfg allows, and what setup.cfg says of them."""

from __future__ import annotations

import re
import subprocess
import sys
from configparser import ConfigParser
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from . import oldest
from .test_layers import MODULES, imports

ROOT = Path(__file__).parent.parent
SAMPLE = """
[options]
install_requires =
    # a reason
    one>=1.0  # another
    Two_words>=2,<3
    three>=3.1; python_version < "3.13"
    three>=3.3 ; python_version >= "3.13"

[options.extras_require]
test =
    pytest>=8
    py_test-timeout>=2.3
    three-four>=1
"""


def test_the_oldest_versions() -> None:
    assert oldest.oldest(SAMPLE, []) == [
        "one==1.0",
        "Two_words==2",
        'three==3.1; python_version < "3.13"',
        'three==3.3; python_version >= "3.13"',
    ]


def test_tools_are_as_new_as_they_come() -> None:
    assert oldest.oldest(SAMPLE, ["pytest", "Py-Test.timeout"])[4:] == ["pytest>=8", "py_test-timeout>=2.3"]


def test_a_tool_that_the_extra_does_not_have() -> None:
    with pytest.raises(ValueError, match="selenium is not in the extra"):
        oldest.oldest(SAMPLE, ["selenium"])


@pytest.mark.parametrize("line", ["greenlet", "greenlet==3.0", "greenlet<4", "greenlet>3", "greenlet ~= 3.0", "greenlet[x]"])
def test_a_requirement_without_a_floor(line: str) -> None:
    with pytest.raises(ValueError, match=re.escape(line)):
        oldest.requirements(line)


def test_the_command() -> None:
    """It needs no package."""
    command = [sys.executable, "-S", "-m", "tests.oldest"]
    done = subprocess.run([*command, "pytest"], cwd=ROOT, capture_output=True, text=True, timeout=50, check=True)
    assert done.stdout.splitlines() == oldest.oldest((ROOT / "setup.cfg").read_text(), ["pytest"])
    done = subprocess.run([*command, "no-such"], cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "oldest.py: no-such is not in the extra 'test' of setup.cfg\n"


def declared() -> set[str]:
    lines = oldest.oldest((ROOT / "setup.cfg").read_text(), [])
    return {oldest.normal(line.partition("==")[0]) for line in lines}


def of_extras() -> set[str]:
    """What modules import that need an extra. The extra ``test`` has these too, with the same bounds."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    extras = config["options.extras_require"]
    lines = [line for line in extras["postgres"].splitlines() if line]
    assert set(lines) <= set(extras["test"].splitlines())
    return {oldest.normal(re.split(r"[\[<>=]", line)[0]) for line in lines}


def test_every_package_that_is_imported_is_declared_with_a_floor() -> None:
    """Also one that another would bring: that one may cease to, or bring an older version."""
    modules = [module for module in MODULES if module != "silly.testing.plugin"]  # pytest loads that one
    imported = {name.split(".")[0] for module in modules for name in imports(module)} - sys.stdlib_module_names - {"silly"}
    assert imported
    names = packages_distributions()
    assert {oldest.normal(name) for each in imported for name in names[each]} == declared() | of_extras()

"""Only the extensions in C, which setup.cfg has no words for: everything else about the package is there.

Each is optional. Where it can't be built Python code does its work, more slowly, the build says so, and the wheel is one for
any platform; else it is one for any Python from 3.11 on, since the extensions use the limited API.
"""

from __future__ import annotations

import os
import sys

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

EXTENSIONS = [
    "silly._wire._speedups",
    "silly.net._speedups",
]
"""Each is the one C file of its name."""


class BuildExtensions(build_ext):
    """Builds the extensions that can be built, says which can't, and leaves nothing of those from an earlier build."""

    def run(self) -> None:
        self.failed: list[str] = []
        super().run()
        for name in self.failed:
            self._remove(name)  # beside its source, when it is built in place
        self.distribution.ext_modules = [ext for ext in self.extensions if ext.name not in self.failed]

    def build_extension(self, ext: Extension) -> None:
        try:
            super().build_extension(ext)
        except Exception as exc:
            self.failed.append(ext.name)
            self._remove(ext.name)
            reason = " ".join(str(exc).split())
            print(f"silly: {ext.name} was not built, so slower Python code will run: {reason}", file=sys.stderr)
            raise

    def _remove(self, name: str) -> None:
        path = self.get_ext_fullpath(name)
        if os.path.exists(path):
            os.remove(path)


class NameWheel(bdist_wheel):
    """Names the wheel for what is in it, which only the build tells."""

    def run(self) -> None:
        self.run_command("build")
        self.root_is_pure = not self.distribution.has_ext_modules()
        if not self.root_is_pure:
            self.py_limited_api = "cp311"
        super().run()


setup(
    ext_modules=[
        Extension(
            name,
            [name.replace(".", "/") + ".c"],
            py_limited_api=True,
            optional=True,
            extra_compile_args=["-O3"],
        )
        for name in EXTENSIONS
    ],
    cmdclass={"build_ext": BuildExtensions, "bdist_wheel": NameWheel},
)

"""The C extensions, which setup.cfg can't describe. Everything else about the package
is there.

Each extension is optional. If one can't be built, slower Python code does its work, and
the build says so. A wheel without extensions is for any platform; one with extensions
is for any Python from 3.11 on, since they use the limited API.
"""

from __future__ import annotations

import os
import sys

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

EXTENSIONS = [
    "silly._core._speedups",
    "silly._wire._answer_speedups",
    "silly._wire._chunked_speedups",
    "silly._wire._head_speedups",
    "silly._wire._speedups",
    "silly.net._speedups",
    "silly.net._tls_speedups",
]
"""Each is built from the one C file of its name."""


class BuildExtensions(build_ext):
    """Builds the extensions that can be built. For each other one it says why, and
    removes the result of an earlier build."""

    def run(self) -> None:
        self.failed: list[str] = []
        super().run()
        for name in self.failed:
            self._remove(name)  # beside its source, if built in place
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
    """Names the wheel for its contents, which are known only after the build."""

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

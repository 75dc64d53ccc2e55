"""Only the extension in C, which setup.cfg has no words for: everything else about the package is there."""

from __future__ import annotations

import sys

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext


class BuildSpeedups(build_ext):
    """Builds the extension where there is a compiler, and else says what that means."""

    def build_extension(self, ext: Extension) -> None:
        try:
            super().build_extension(ext)
        except Exception as exc:
            reason = " ".join(str(exc).split())
            print(f"silly: {ext.name} was not built, so the slower Python code will run: {reason}", file=sys.stderr)
            raise


setup(
    ext_modules=[
        Extension(
            "silly._wire._speedups",
            ["silly/_wire/_speedups.c"],
            py_limited_api=True,
            optional=True,
            extra_compile_args=["-O3"],
        )
    ],
    cmdclass={"build_ext": BuildSpeedups},
)

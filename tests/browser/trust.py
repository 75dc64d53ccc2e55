"""Authorities that a browser trusts beside those it has built in."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

CERTUTIL = shutil.which("certutil")


def trust(home: Path, pem: str) -> None:
    """Puts an authority where a Chromium whose HOME is ``home`` looks on Linux: a database of NSS, as its users would.

    All else of its verification stays as it is. (Packages in a sandbox, such as snaps, have a HOME of their own.)
    """
    if CERTUTIL is None:
        pytest.skip("NO BROWSER: certutil is not installed (Debian: apt install libnss3-tools)")
    database = home / ".pki" / "nssdb"
    database.mkdir(parents=True)
    for command in (["-N", "--empty-password"], ["-A", "-n", "tests", "-t", "C,,"]):
        argv = [CERTUTIL, "-d", f"sql:{database}", *command]
        subprocess.run(argv, input=pem, check=True, capture_output=True, text=True, timeout=20)

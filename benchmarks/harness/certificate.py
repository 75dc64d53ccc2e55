"""A certificate for TLS, made anew for each run."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from .programs import LoadError


def make_certificate(directory: Path) -> tuple[str, str]:
    """Makes a self-signed certificate on the curve P-256: the files of it and of its key; those that are there already, if
    there are. Raises LoadError without openssl."""
    cert, key = str(directory / "cert.pem"), str(directory / "key.pem")
    if not shutil.which("openssl"):
        raise LoadError("the command openssl makes the certificate for TLS, and it is not installed")
    if not Path(cert).exists():
        kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost"]
        command = ["openssl", "req", *kind, "-keyout", key, "-out", cert]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return cert, key

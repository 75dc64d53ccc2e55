"""PEM texts (RFC 7468), given as they are or in files, and what is wrong with one that
can't be used."""

from __future__ import annotations

import errno as os_errno
import os
import re
from typing import NamedTuple

from .._shown import cut, shown

EXHAUSTED = (os_errno.EMFILE, os_errno.ENFILE, os_errno.ENOMEM)
"""Errors of a file that say nothing about the file."""
_BARE_KEY = re.compile(r"(?!/)[A-Za-z0-9+/=_-]{40,}")
"""What a key looks like without the lines around it. A path may look so too."""


class Pem(NamedTuple):
    """PEM text, and its name in errors, such as ``key: 'server.key'``."""

    data: bytes
    name: str


def read_pem(value: object, what: str) -> Pem:
    """Returns ``value`` if it is PEM text, else the contents of the file at that path.
    ``what`` names the argument in errors.

    Raises TypeError; ValueError if the file can't be read; OSError if the process or
    the system is out of descriptors or memory.
    """
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, bytes):
        value = os.fsdecode(value)
    if not isinstance(value, str):
        raise TypeError(f"{what} is PEM text or a path, not {type(value).__name__}")
    if "-----BEGIN" in value:
        return Pem(value.encode("utf-8", "replace"), what)
    if not value:
        raise ValueError(f"{what}: it is empty: give PEM text or the path of a PEM file")
    if "\n" not in value and "\0" not in value:
        try:
            with open(value, "rb") as file:
                return Pem(file.read(), f"{what}: {shown(value)}")
        except OSError as exc:
            if exc.errno in EXHAUSTED:
                raise
            if not _BARE_KEY.fullmatch(value):
                raise ValueError(f"{what}: can't read {shown(value)}: {exc.strerror}") from None
        except UnicodeError:
            pass
    # Not shown: it may be a key.
    raise ValueError(
        f"{what}: neither PEM text nor a path: PEM text has a line '-----BEGIN …-----' before the data; "
        "DER, or base64 of PEM text, must be converted first"
    )


def why_no_certificate(data: bytes, exc: Exception) -> str:
    """Says why no certificate can be read from ``data``, and what to do. ``exc`` is
    what the parser raised."""
    kinds = _kinds(data)
    if "CERTIFICATE" in kinds or not kinds:
        return _damage(data, exc, "CERTIFICATE", "openssl x509 -inform der")
    if any(kind.endswith("PRIVATE KEY") for kind in kinds):
        return "it holds a private key and no certificate: are 'cert' and 'key' swapped?"
    if any(kind.endswith("CERTIFICATE REQUEST") for kind in kinds):
        return "it holds a request for a certificate: an authority makes the certificate from it"
    if "PKCS7" in kinds:
        return "it holds PKCS #7: 'openssl pkcs7 -print_certs' makes PEM of it"
    return f"it holds no certificate, only {', '.join(kinds)}"


def why_no_key(data: bytes, exc: Exception) -> str:
    """Says why no private key can be read from ``data``, and what to do. ``exc`` is
    what the parser raised."""
    kinds = _kinds(data)
    if "OPENSSH PRIVATE KEY" in kinds:
        return "it is a key in OpenSSH's form: 'ssh-keygen -p -m pkcs8' converts it in place"
    if not kinds or any(kind.endswith("PRIVATE KEY") for kind in kinds):
        return _damage(data, exc, "PRIVATE KEY", "openssl pkey -inform der")
    if "PUBLIC KEY" in kinds:
        return "it holds the public key: the private one is needed"
    if "CERTIFICATE" in kinds:
        return "it holds a certificate and no private key: are 'cert' and 'key' swapped?"
    return f"it holds no private key, only {', '.join(kinds)}"


def _kinds(data: bytes) -> list[str]:
    """Returns the labels of the blocks of PEM text, each once and in order."""
    found = re.findall(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----", data)
    return list(dict.fromkeys(kind.decode("ascii") for kind in found))


def _damage(data: bytes, exc: Exception, kind: str, converter: str) -> str:
    """Says what is wrong with ``data``, which is not PEM text, or is damaged."""
    if not data.strip():
        return "it is empty"
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "it is UTF-16: save it as ASCII or UTF-8"
    if data.startswith(b"0"):  # the tag of ASN.1's SEQUENCE
        return f"it is DER or PKCS #12, not PEM: '{converter}' makes PEM of DER, 'openssl pkcs12' of PKCS #12"
    if b"\\n" in data:
        return r"its line ends are the two characters \n: put real line ends there"
    if b"-----BEGIN" not in data:
        return f"it is no PEM text: there is no line '-----BEGIN {kind}-----' in it"
    whole = f"it needs whole blocks from '-----BEGIN {kind}-----' to '-----END {kind}-----'"
    return f"it is damaged, cut, or of a kind that is not supported: {whole} ({' '.join(cut(str(exc)).split())})"

"""What the OpenSSL contexts of servers and clients have in common."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from tempfile import NamedTemporaryFile

from cryptography import x509
from OpenSSL import SSL, crypto

from .._shown import shown
from ._certificates import KeyPair, pem_of
from ._pem import EXHAUSTED
from ._tls_words import reason

_NO_AUTO_CHAIN = 0x8
"""SSL_MODE_NO_AUTO_CHAIN, which pyOpenSSL doesn't name. Without it OpenSSL looks for
our certificate's issuers among the authorities for the peer's, and sends those it
finds."""

_DESCRIPTORS = "/proc/self/fd"
"""A directory with a path for each descriptor of the process."""


def new_context(ciphers: str | None) -> SSL.Context:
    """Makes a context for TLS 1.2 and 1.3, without compression and renegotiation.
    Raises TypeError or ValueError for invalid ``ciphers``."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS | _NO_AUTO_CHAIN)  # an idle connection keeps no buffers
    # ``_tls_client`` keeps a client's sessions. A server's are in tickets, so there is
    # no cache that clients could fill.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    if ciphers is not None:
        if not isinstance(ciphers, str):
            raise TypeError(f"ciphers is text such as 'ECDHE+AESGCM', not {type(ciphers).__name__}")
        try:
            context.set_cipher_list(ciphers.encode("ascii"))
        except (SSL.Error, UnicodeError):
            raise ValueError(f"ciphers: OpenSSL knows no TLS 1.2 cipher in {shown(ciphers)}") from None
    return context


def use_pairs(context: SSL.Context, pairs: Sequence[KeyPair]) -> None:
    """Sets a context's certificates, which have keys of different types. Raises
    ValueError if OpenSSL refuses one, and OSError if no file can be made for the chains
    of several."""
    try:
        for pair in pairs:
            if len(pairs) > 1:
                _use_chain(context, pair.chain)
            else:
                context.use_certificate(pair.chain[0])
                for extra in pair.chain[1:]:
                    context.add_extra_chain_cert(extra)
            context.use_privatekey(pair.key)  # type: ignore[arg-type]
            context.check_privatekey()
    except SSL.Error as exc:
        raise ValueError(f"certificate and key: {reason(exc)}") from None
    except TypeError as exc:
        raise ValueError(f"certificate and key: {exc}") from None


def _use_chain(context: SSL.Context, chain: Sequence[x509.Certificate]) -> None:
    """Sets a certificate with its own chain. pyOpenSSL can do that only from a file:
    ``add_extra_chain_cert`` adds to every certificate of the context."""
    try:
        with _file_of(pem_of(chain)) as path:
            try:
                context.use_certificate_chain_file(path)
            except SSL.Error:
                with open(path, "rb"):  # raises OSError if that is why
                    raise
    except OSError as exc:
        if exc.errno in EXHAUSTED:
            raise
        text = "certificates of several key types need /proc, or a temporary directory that can be written to"
        raise OSError(exc.errno, f"{text}: {exc.strerror}") from None


@contextmanager
def _file_of(data: bytes) -> Iterator[str]:
    """Makes a file with ``data`` for the time of a ``with``, and returns its path: a
    file in memory, or a temporary one where the system has no such files or no
    ``/proc``. Only certificates go there, never a key. Raises OSError, at once if the
    system has run out of what any file needs."""
    try:
        descriptor = os.memfd_create("certificates")  # which no child gets that executes a program
    except AttributeError:
        pass
    except OSError as exc:
        if exc.errno in EXHAUSTED:
            raise
    else:
        with open(descriptor, "wb") as file:
            path = f"{_DESCRIPTORS}/{descriptor}"
            if _leads_to(path, descriptor):
                file.write(data)
                file.flush()
                yield path
                return
    with NamedTemporaryFile(suffix=".pem") as file:  # mode 0600; removed when it is closed
        file.write(data)
        file.flush()
        yield file.name


def _leads_to(path: str, descriptor: int) -> bool:
    try:
        with open(path, "rb") as other:
            return os.path.sameopenfile(other.fileno(), descriptor)
    except OSError as exc:
        if exc.errno in EXHAUSTED:
            raise
        return False


def trust(context: SSL.Context, certificates: Iterable[x509.Certificate]) -> None:
    """Makes ``certificates`` the authorities of a context."""
    store = context.get_cert_store()
    assert store is not None
    for cert in certificates:
        store.add_cert(crypto.X509.from_cryptography(cert))


def protocols(alpnprotos: Sequence[str] | None) -> list[bytes]:
    """Encodes the names of application protocols for TLS (RFC 7301, section 3.1).
    Raises TypeError or ValueError."""
    if isinstance(alpnprotos, str) or not isinstance(alpnprotos, Iterable | None):
        raise TypeError(f"alpnprotos is a list of names such as ['http/1.1'], not {type(alpnprotos).__name__}")
    names = [proto.encode("ascii") for proto in alpnprotos or ()]
    if any(not 0 < len(name) < 256 for name in names):
        raise ValueError(f"alpnprotos: a name has from 1 to 255 characters: {shown(list(alpnprotos or ()))}")
    return names

"""A TLS 1.3 peer that sends whatever records a test likes, which no library would."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, HashAlgorithm
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from OpenSSL import SSL

from silly._wire.lines import take

from ..helpers import Raw, turn
from .authorities import Identity

CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, DATA = 20, 21, 22, 23
KEY_UPDATE, KEY_UPDATE_REQUESTED = b"\x18\0\0\x01\0", b"\x18\0\0\x01\x01"
CLOSE_NOTIFY = b"\x01\0"


def _expand(secret: bytes, label: bytes, length: int, algorithm: HashAlgorithm) -> bytes:
    """HKDF-Expand-Label of RFC 8446, section 7.1, without a context."""
    label = b"tls13 " + label
    info = length.to_bytes(2, "big") + bytes((len(label),)) + label + b"\0"
    return HKDFExpand(algorithm, length, info).derive(secret)


class Forger:
    """Shakes hands on ``raw`` by OpenSSL; then its records are made by hand. With an ``identity`` it is the server."""

    def __init__(self, raw: Raw, identity: Identity | None = None, version: int = SSL.TLS1_3_VERSION) -> None:
        self.raw = raw
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(version)
        context.set_max_proto_version(version)
        self._secrets: dict[str, bytes] = {}
        context.set_keylog_callback(self._note)
        if identity is not None:
            context.use_certificate(identity.cert)
            context.use_privatekey(identity.key)
        self.ssl = SSL.Connection(context, None)
        if identity is None:
            self.ssl.set_connect_state()
        else:
            self.ssl.set_accept_state()
        self._server = identity is not None
        self._mine = "SERVER_TRAFFIC_SECRET_0" if self._server else "CLIENT_TRAFFIC_SECRET_0"
        self._number = 0

    def _note(self, _: SSL.Connection, line: bytes) -> None:
        label, _, secret = line.decode().split(" ")
        self._secrets[label] = bytes.fromhex(secret)

    def output(self) -> bytes:
        """What OpenSSL would send."""
        try:
            return self.ssl.bio_read(1 << 20)
        except SSL.WantReadError:
            return b""

    def shake_hands(self, dribbled: bool = False) -> Forger:
        send = self.raw.dribble if dribbled else self.raw.send
        while True:
            try:
                self.ssl.do_handshake()
            except SSL.WantReadError:
                send(self.output())
                self.receive()
            else:
                break
        if not self._server:
            send(self.output())  # a server's would be tickets
        return self

    def receive(self) -> None:
        """Gives OpenSSL what comes."""
        self.ssl.bio_write(self.raw.read(1) + take(self.raw.conn._stream.buf, self.raw.conn.unreadbytes()))

    def read(self, size: int) -> bytes:
        """What the other side has sent."""
        data = b""
        while len(data) < size:
            try:
                data += self.ssl.recv(size - len(data))
            except SSL.WantReadError:
                self.receive()
        return data

    def failure(self) -> str:
        """The alert that must come, in OpenSSL's words."""
        while True:
            try:
                self.ssl.recv(65536)
            except SSL.WantReadError:
                self.receive()
            except SSL.Error as exc:
                return str(exc)

    def record(self, content: bytes, kind: int = DATA, padding: int = 0) -> bytes:
        """The next record, protected."""
        algorithm: Any = SHA384() if "SHA384" in (self.ssl.get_cipher_name() or "") else SHA256()
        secret = self._secrets[self._mine]
        key = _expand(secret, b"key", 32 if algorithm.name == "sha384" else 16, algorithm)
        nonce = int.from_bytes(_expand(secret, b"iv", 12, algorithm), "big") ^ self._number
        self._number += 1
        inner = content + bytes((kind,)) + bytes(padding)
        head = b"\x17\x03\x03" + (len(inner) + 16).to_bytes(2, "big")
        return head + AESGCM(key).encrypt(nonce.to_bytes(12, "big"), inner, head)

    def next_key(self) -> None:
        """What follows a key update of ours (RFC 8446, section 7.2)."""
        algorithm: Any = SHA384() if "SHA384" in (self.ssl.get_cipher_name() or "") else SHA256()
        self._secrets[self._mine] = _expand(self._secrets[self._mine], b"traffic upd", algorithm.digest_size, algorithm)
        self._number = 0

    def put(self, content: bytes, kind: int = DATA, padding: int = 0) -> None:
        self.raw.send(self.record(content, kind, padding))
        self.raw.conn._stream.flush()
        turn()

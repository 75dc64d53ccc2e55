"""Third parties' TLS, both roles: openssl's ``s_client`` and ``s_server``, curl, Python's ``ssl``."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from silly import check, errno
from silly._core import scheduler, worker
from silly.net import http, tls
from silly.sync import channel
from tests.conftest import Logs
from tests.net.authorities import CLIENT, Identity, client, intermediate, issue, root, rsa_key, server, stranger
from tests.net.tls_support import listening, reused

from .peers import WITHIN, environment, in_thread, run

VERSIONS = ["-tls1_2", "-tls1_3"]
NAMES = {"-tls1_2": "TLSv1.2", "-tls1_3": "TLSv1.3"}


def needs(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"SKIPPED THIRD PARTY: {program} is not on this machine")


class Files:
    """Certificates as files, for programs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, name: str, text: str) -> str:
        path = self._folder / name
        path.write_text(text)
        return str(path)

    def ca(self) -> str:
        return self.put("ca.pem", root().pem)

    def pair(self, identity: Identity) -> tuple[str, str]:
        """The paths of the certificate with its issuers, and of the key."""
        name = f"{identity.cert.serial_number:x}"
        return self.put(f"{name}.crt", identity.entry["cert"]), self.put(f"{name}.key", identity.entry["key"])


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


# ---- s_client against our listener ----------------------------------------------------------------------------------

Client = Callable[..., str]


@pytest.fixture
def s_client(files: Files) -> Client:
    """``s_client(port, arguments)``: sends a line, and returns all that it says once the server has closed."""
    needs("openssl")

    def call(port: int, *args: str, data: bytes = b"hello\n", status: int | None = 0) -> str:
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", files.ca(), "-verify_return_error"]

        def talk() -> tuple[int, bytes]:
            # Its input stays open: at its end it would close.
            with subprocess.Popen(
                [*command, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment()
            ) as process:
                assert process.stdin is not None
                assert process.stdout is not None
                timer = threading.Timer(WITHIN / 1000, process.kill)
                timer.start()
                try:
                    with contextlib.suppress(BrokenPipeError):
                        process.stdin.write(data)
                        process.stdin.flush()
                    out = process.stdout.read()
                    return process.wait(), out
                finally:
                    timer.cancel()
                    with contextlib.suppress(BrokenPipeError):
                        process.stdin.close()

        code, out = in_thread(talk)
        text = out.decode("utf-8", "replace")
        assert status is None or code == status, text
        return text

    return call


def once(conn: Any) -> None:
    """Answers one line that names the client, and closes."""
    line, _ = conn.read("\n")
    if line is not None:
        cert = conn.peercert()
        conn.write(b"answer: " + line + f"subject: {cert.subject if cert else None}; {conn.alpnproto()}\n".encode())
        conn.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_s_client(s_client: Client, version: str) -> None:
    with listening(once) as listener:
        said = s_client(listener.port, version, "-servername", "localhost", "-verify_hostname", "localhost")
    assert "answer: hello" in said
    assert f"New, {NAMES[version]}, Cipher is" in said
    assert "Verify return code: 0 (ok)" in said
    assert "Compression: NONE" in said


@pytest.mark.parametrize("version", VERSIONS)
def test_s_client_that_wants_short_records(s_client: Client, version: str) -> None:
    """Nothing of a longer write is lost (RFC 6066, section 4)."""

    def answer(conn: Any) -> None:
        conn.read("\n")
        for size in (100, 1000, 16_384, 40_000, 100_000):
            conn.write(b"!" * size)
        conn.close()

    with listening(answer) as listener:
        said = s_client(listener.port, version, "-maxfraglen", "512", "-quiet")
    assert said.count("!") == 157_484


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_s_client_of_old_versions(s_client: Client, version: str, logs: Logs) -> None:
    logs.expect("INFO tls: .*: handshake failed: TLS: the peer supports neither TLS 1.2 nor TLS 1.3")
    with listening(once) as listener:
        said = s_client(listener.port, version, "-cipher", "ALL:@SECLEVEL=0", status=1)
    assert "alert protocol version" in said


@pytest.mark.parametrize("version", VERSIONS)
def test_s_client_and_names(s_client: Client, version: str) -> None:
    """SNI, and the chain of each certificate."""
    certs = [
        server(),
        issue("second", intermediate(), names=["second.example"]),
        issue("third", root(), names=["*.third.example"]),
    ]
    with listening(once, [each.entry for each in certs]) as listener:
        for name, subject in (
            ("localhost", "server"),
            ("second.example", "second"),
            ("a.third.example", "third"),
            ("a.b.third.example", "server"),
            ("unknown.example", "server"),
        ):
            said = s_client(listener.port, version, "-servername", name)
            assert re.search(rf"subject=CN ?= ?{subject}\n", said), name
        said = s_client(listener.port, version, "-noservername")
        assert re.search(r"subject=CN ?= ?server\n", said)


@pytest.mark.parametrize("version", VERSIONS)
def test_s_client_and_key_types(s_client: Client, version: str) -> None:
    """RSA and ECDSA side by side, each with its own chain."""
    both = [server(), issue("rsa", intermediate(), names=["localhost"], key=rsa_key())]
    with listening(once, [each.entry for each in both]) as listener:
        for algorithms, subject, depth in (("RSA-PSS+SHA256", "rsa", 2), ("ECDSA+SHA256", "server", 1)):
            said = s_client(listener.port, version, "-servername", "localhost", "-sigalgs", f"{algorithms}:RSA+SHA256")
            assert "answer: hello" in said
            if version == "-tls1_3":
                assert re.search(rf"subject=CN ?= ?{subject}\n", said)
                assert f"depth={depth} CN" in said
        for cipher, subject in (("ECDHE-RSA-AES128-GCM-SHA256", "rsa"), ("ECDHE-ECDSA-AES128-GCM-SHA256", "server")):
            said = s_client(listener.port, "-tls1_2", "-servername", "localhost", "-cipher", cipher)
            assert re.search(rf"subject=CN ?= ?{subject}\n", said)


@pytest.mark.parametrize("version", VERSIONS)
def test_s_client_resumes(s_client: Client, version: str, files: Files, tmp_path: Path) -> None:
    """With a client's certificate: the resumed connection has it too; after a reload the handshake is a whole one."""
    cert, key = files.pair(client())
    session = str(tmp_path / "session")
    with listening(once, verify="require", ca=root().pem) as listener:
        said = s_client(listener.port, version, "-cert", cert, "-key", key, "-sess_out", session)
        assert f"New, {NAMES[version]}" in said
        assert "Max Early Data: 0" in said or version == "-tls1_2"
        for _ in range(2):
            said = s_client(listener.port, version, "-sess_in", session)
            assert f"Reused, {NAMES[version]}" in said
            assert "subject: CN=alice" in said
        assert listener.reload() == (True, None)
        said = s_client(listener.port, version, "-cert", cert, "-key", key, "-sess_in", session)
        assert f"New, {NAMES[version]}" in said
        assert "subject: CN=alice" in said


@pytest.mark.parametrize("version", VERSIONS)
def test_s_client_without_a_certificate(s_client: Client, version: str, files: Files, logs: Logs) -> None:
    logs.expect("INFO tls: .*: handshake failed: TLS: the peer sent no client certificate, but one is required")
    logs.expect("INFO tls: .*: handshake failed: TLS: the certificate's issuer is not trusted")
    with listening(once, verify="require", ca=root().pem) as listener:
        said = s_client(listener.port, version, status=None)
        assert ("alert certificate required" if version == "-tls1_3" else "alert handshake failure") in said
        cert, key = files.pair(issue("mallory", stranger(), usage=[CLIENT]))
        assert "alert unknown ca" in s_client(listener.port, version, "-cert", cert, "-key", key, status=None)


@pytest.mark.parametrize("version", VERSIONS)
def test_s_client_and_alpn(s_client: Client, version: str, logs: Logs) -> None:
    logs.expect("INFO tls: .*: handshake failed: TLS: the peer offers none of our application protocols")
    with listening(once, alpnprotos=["http/1.1", "a"]) as listener:
        said = s_client(listener.port, version, "-alpn", "a,http/1.1")
        assert "ALPN protocol: http/1.1" in said
        assert "; http/1.1" in said
        assert "No ALPN negotiated" in s_client(listener.port, version)
        assert "alert no application protocol" in s_client(listener.port, version, "-alpn", "h2", status=1)


def test_s_client_renegotiates(s_client: Client, logs: Logs) -> None:
    """TLS 1.2: it is refused, and openssl gives up."""
    logs.expect(r"INFO tls: .*: TLS: .*alert handshake failure")
    ends = channel.new()
    with listening(lambda conn: ends.push(conn.read(1))) as listener:
        said = s_client(listener.port, "-tls1_2", data=b"R\n", status=None)
        assert "RENEGOTIATING" in said
        assert "no renegotiation" in said
        (data, _), _ = ends.pop()
        assert data is None


def test_s_client_and_early_data(s_client: Client, tmp_path: Path) -> None:
    """0-RTT is off."""
    session, early = str(tmp_path / "session"), tmp_path / "early"
    early.write_text("early")
    with listening(once) as listener:
        s_client(listener.port, "-tls1_3", "-sess_out", session)
        said = s_client(listener.port, "-tls1_3", "-sess_in", session, "-early_data", str(early))
    assert "Early data was accepted" not in said
    assert "answer: hello" in said


# ---- our client against s_server ------------------------------------------------------------------------------------


@contextlib.contextmanager
def s_server(files: Files, identity: Identity, *args: str) -> Iterator[int]:
    """The port of an ``openssl s_server`` that reverses lines."""
    needs("openssl")
    cert, key = files.pair(identity)
    # With its key and certificate alone: -cert takes the first of a file.
    command = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-rev", "-cert", cert, "-cert_chain", cert, "-key", key]
    with subprocess.Popen(
        [*command, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment()
    ) as process:
        assert process.stdout is not None
        try:
            timer = threading.Timer(WITHIN / 1000, process.kill)
            timer.start()
            out = process.stdout

            def port() -> int:
                for line in out:
                    found = re.search(rb"ACCEPT .*:(\d+)", line)
                    if found:
                        return int(found[1])
                raise AssertionError("s_server didn't start")

            yield in_thread(port)
        finally:
            timer.cancel()
            process.kill()


def talk(port: int, **options: Any) -> tuple[Any, str | None]:
    """A connection that has reversed a line; or the reason against it."""
    given = {"hostname": "localhost", "alpnprotos": None, "ca": root().pem, "verify": True, "timeout": WITHIN, **options}
    conn, err = tls.connect_explained(f"127.0.0.1:{port}", **given)
    if conn is None:
        return None, err
    conn.write("abc\n")
    line, err = conn.read("\n", WITHIN)
    assert line in (b"cba\n", None)
    return (conn, None) if line else (None, err)


@pytest.mark.parametrize("version", VERSIONS)
def test_s_server(files: Files, version: str) -> None:
    """Verified, resumed, ended with close_notify."""
    identity = issue("server", intermediate(), names=["localhost"])
    with s_server(files, identity, version, "-alpn", "b,a") as port:
        for number in range(3):
            conn, err = talk(port, alpnprotos=["a"])
            assert err is None
            assert conn._stream.ssl.get_protocol_version_name() == NAMES[version]
            assert conn.alpnproto() == "a"
            assert conn.peercert().names == ("localhost",)
            assert reused(conn) is (number > 0)
            conn.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_s_server_that_wants_a_certificate(files: Files, version: str, logs: Logs) -> None:
    logs.allow("INFO tls: 127.*: TLS: the peer ")
    with s_server(files, server(), version, "-Verify", "1", "-CAfile", files.ca(), "-verify_return_error") as port:
        for _ in range(2):
            conn, err = talk(port, cert=client().entry)
            assert err is None
            conn.close()
        conn, err = talk(port)
        assert conn is None
        if version == "-tls1_2":
            assert err.startswith("TLS: the peer found no cipher or other parameter in common, or wants a client certificate")
        else:
            assert err == errno.TLS  # the handshake itself was over
            assert "the peer requires a client certificate" in logs.lines[0]


def test_s_server_of_an_old_version(files: Files) -> None:
    with s_server(files, server(), "-tls1_1", "-cipher", "ALL:@SECLEVEL=0") as port:
        assert talk(port)[1].startswith("TLS: the peer supports neither TLS 1.2 nor TLS 1.3")


def test_s_server_by_name(files: Files) -> None:
    """It gets our server name; and a name without a certificate fails."""
    other = issue("other", root(), names=["other.example"])
    cert, key = files.pair(other)
    args = ("-cert2", cert, "-key2", key, "-servername", "other.example")
    with s_server(files, server(), *args) as port:
        for name, subject in (("localhost", "CN=server"), ("other.example", "CN=other")):
            conn, err = talk(port, hostname=name)
            assert err is None
            assert conn.peercert().subject == subject
            conn.close()
        assert talk(port, hostname="third.example")[1] == (
            "TLS: the certificate is not for third.example: it is for localhost, 127.0.0.1"
        )


def test_s_server_that_renegotiates(files: Files, logs: Logs) -> None:
    """It can't make us."""
    logs.allow(r"INFO tls: .*: TLS: .*alert handshake failure")
    needs("openssl")
    cert, key = files.pair(server())
    command = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", cert, "-key", key, "-tls1_2"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment()
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        out = process.stdout
        try:

            def port() -> int:
                return int(next(m[1] for line in out if (m := re.search(rb"ACCEPT .*:(\d+)", line))))

            conn = check(tls.connect(f"127.0.0.1:{in_thread(port)}", "localhost", ca=root().pem, timeout=WITHIN))
            process.stdin.write(b"r\nstill here\n")
            process.stdin.flush()
            line, err = conn.read("\n", WITHIN)
            # Versions of OpenSSL differ in whether they end the connection when we refuse.
            assert (line, err) in ((b"still here\n", None), (None, errno.TLS), (None, errno.EOF))
            conn.close()
        finally:
            process.kill()


# ---- curl -----------------------------------------------------------------------------------------------------------

Curl = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def curl(files: Files) -> Curl:
    needs("curl")
    ca = files.ca()

    def call(*args: str, status: int = 0) -> subprocess.CompletedProcess[bytes]:
        return run("curl", "-q", "-sS", "--max-time", "20", "--noproxy", "*", "--cacert", ca, *args, status=status)

    return call


@contextlib.contextmanager
def https(certs: list[Identity] | None = None, **options: Any) -> Iterator[int]:
    """An HTTPS server that tells what it sees."""

    def handler(stream: http.ServerStream) -> None:
        body, _ = stream.readall()
        stream.respond(200)
        stream.close(f"{stream.scheme} {stream.header['host']} {len(body or b'')}")

    served = check(http.listen("127.0.0.1:0", handler, certs=[each.entry for each in certs or [server()]], **options))
    try:
        yield served.port
    finally:
        served.close()


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_curl(curl: Curl, version: str) -> None:
    names = [server(), issue("second", intermediate(), names=["second.example"])]
    with https(names) as port:
        for host in ("localhost", "127.0.0.1", "second.example"):
            resolve = ["--resolve", f"{host}:{port}:127.0.0.1"]
            done = curl(
                "-v", *resolve, "--tls-max", version, f"--tlsv{version}", f"https://{host}:{port}/", "-d", "x" * 100_000
            )
            assert done.stdout == f"https {host}:{port} 100000".encode()
            said = done.stderr.decode()
            assert f"SSL connection using TLSv{version}" in said
            assert "server accepted http/1.1" in said


def test_curl_refuses(curl: Curl, logs: Logs) -> None:
    """What it refuses, and what we refuse it."""
    logs.expect("INFO tls: .*: handshake failed: TLS: ")
    logs.expect("plain HTTP on a port that speaks TLS")
    with https() as port:
        assert (
            b"no alternative certificate subject name"
            in curl("--resolve", f"other.example:{port}:127.0.0.1", f"https://other.example:{port}/", status=60).stderr
        )
        curl("--tls-max", "1.1", "--ciphers", "ALL:@SECLEVEL=0", f"https://localhost:{port}/", status=35)
        done = curl("-i", f"http://localhost:{port}/")
        assert done.stdout.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert done.stdout.endswith(b"\r\n\r\nThis port speaks TLS: use https://\n")
    with https([issue("x", stranger(), names=["localhost"])]) as port:
        curl(f"https://localhost:{port}/", status=60)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_curl_with_a_certificate(curl: Curl, files: Files, version: str, logs: Logs) -> None:
    logs.expect("INFO tls: .*: handshake failed: TLS: the peer sent no client certificate, but one is required")
    cert, key = files.pair(client())
    with https(ca=root().pem, verify="require") as port:
        url = f"https://localhost:{port}/"
        assert curl("--tls-max", version, "--cert", cert, "--key", key, url).stdout == f"https localhost:{port} 0".encode()
        curl("--tls-max", version, url, status=35 if version == "1.2" else 56)


def test_curl_keeps_the_connection(curl: Curl) -> None:
    with https() as port:
        url = f"https://localhost:{port}/"
        done = curl("-v", url, url, url)
    assert done.stdout == f"https localhost:{port} 0".encode() * 3
    assert b"Re-using existing connection" in done.stderr


# ---- Python's ssl as the server -------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_pythons_ssl_as_the_server(files: Files, version: ssl.TLSVersion) -> None:
    """Its view of our client: versions, the name it asks for, its certificate, sessions that are used again."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(*files.pair(server()))
    context.load_verify_locations(cadata=root().pem)
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["b", "a"])
    names: list[str | None] = []
    context.sni_callback = lambda sock, name, context: names.append(name)  # type: ignore[assignment]

    def serve(listener: socket.socket) -> list[Any]:
        seen = []
        for _ in range(2):
            raw, _ = listener.accept()
            raw.settimeout(10)
            with raw, context.wrap_socket(raw, server_side=True) as sock:
                sock.sendall(sock.recv(100))
                cert: Any = sock.getpeercert()
                seen.append((sock.version(), sock.selected_alpn_protocol(), sock.session_reused, cert["subject"]))
                assert sock.recv(1) == b""
                sock.unwrap()
        return seen

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        port = listener.getsockname()[1]
        served = channel.new()
        worker.files.submit(scheduler.loop, serve, (listener,), lambda result, exc: served.push((result, exc)))
        for _ in range(2):
            conn = check(tls.connect(f"127.0.0.1:{port}", "localhost", ["a"], root().pem, client().entry, timeout=WITHIN))
            conn.write("hello")
            assert conn.read(5, WITHIN) == (b"hello", None)
            conn.close()
        (seen, exc), _ = served.pop()
    assert exc is None
    name = version.name.replace("_", ".")
    subject = ((("commonName", "alice"),),)
    assert seen == [(name, "a", False, subject), (name, "a", True, subject)]
    assert names == ["localhost"] * 2

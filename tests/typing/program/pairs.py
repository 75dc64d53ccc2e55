"""Pairs: unpacked, narrowed by one test, or taken out by ``silly.check``."""

from typing import assert_type

import silly
from silly import errno
from silly.net import http, tcp, tls, websocket


def narrowed() -> str | None:
    sock, err = websocket.connect("ws://127.0.0.1:8080/")
    if sock is None:
        return err
    assert_type(sock, websocket.Socket)
    ok, err = sock.write("hello", "text")
    if not ok:
        return err
    conn, err = tcp.connect("127.0.0.1:8080", timeout=1000)
    if conn is None:
        return err
    with conn:
        data, err = conn.read(5)
        if data is None:
            return err
        print(data.decode())
        data, err = conn.readsome(1024, timeout=100)
        assert_type(data, bytes | None)
        ok, err = conn.closewrite()
    adopted, err = tcp.adopt(3, limits=silly.Limits(linger=1000))
    assert_type(adopted, tcp.Conn | None)
    secure, err = tls.connect("127.0.0.1:8443")
    if secure is not None:
        print(secure.alpnproto())
    upgraded, err = tls.upgrade(silly.check(tcp.connect("127.0.0.1:25")), "localhost", ca="ca.pem")
    if upgraded is not None:
        assert_type(upgraded, tls.Conn)
    response, err = http.get("http://127.0.0.1:8080/", {"accept": "text/plain"})
    return None if response is None else response.text


def checked() -> None:
    assert_type(silly.check(tcp.connect("127.0.0.1:8080")), tcp.Conn)
    with silly.check(http.request("PUT", "http://127.0.0.1:8080/file")) as stream:
        stream.write("piece by ")
        stream.closewrite(b"piece")
        status, _ = stream.readheader()
        if status is not None:
            print(status + 1)


def wrong() -> None:
    websocket.connect("ws://127.0.0.1:8080/").write("x")  # wrong: union-attr, reportAttributeAccessIssue
    http.get("http://127.0.0.1:8080/").text  # wrong: union-attr, reportAttributeAccessIssue
    conn, _ = tcp.connect("127.0.0.1:8080")
    conn.write("x")  # wrong: union-attr, reportOptionalMemberAccess
    response, _ = http.get("http://127.0.0.1:8080/")
    print(response.text)  # wrong: union-attr, reportOptionalMemberAccess
    tcp.connect("127.0.0.1:8080", timeout="1 s")  # wrong: arg-type, reportArgumentType
    http.post("http://127.0.0.1:8080/", body={"a": 1})  # wrong: arg-type, reportArgumentType


def both_roles(conn: tcp.Conn) -> None:
    """A server has certificates, a client a name."""
    certs = [{"cert": "cert.pem", "key": "key.pem"}]
    assert_type(tls.upgrade(conn, certs=certs, ca="ca.pem", verify="require")[0], tls.Conn | None)
    tls.upgrade(conn)  # wrong: call-overload, reportCallIssue
    tls.upgrade(conn, "localhost", verify="require")  # wrong: call-overload, reportArgumentType
    tls.upgrade(conn, certs=certs, verify=True)  # wrong: call-overload, reportArgumentType


def phases() -> http.Phase | None:
    """The errors of the HTTP client are a ``str`` with two members."""
    response, err = http.get("http://127.0.0.1:8080/")
    if response is None and err is not None:
        assert_type(err, http.RequestError)
        assert_type(err.errno, str | None)
        return err.phase if err.errno == errno.TIMEDOUT else None
    stream = silly.check(http.request("PUT", "http://127.0.0.1:8080/file"))
    _, failed = stream.write("x")
    assert_type(failed, http.RequestError | None)
    assert_type(stream.closewrite()[1], http.RequestError | None)
    pieces = stream.pieces()
    assert_type(pieces.err, http.RequestError | None)
    for each in (stream.read(5), stream.readall()):
        assert_type(each[1], http.RequestError | None)
    status, header = stream.readheader()
    if status is None and not isinstance(header, http.Header):
        assert_type(header, http.RequestError)
    sent: silly.Result = stream.closewrite()
    if not sent:
        text: str | None = sent[1]
        print(text)
    wrong: http.Phase = "dns"  # wrong: assignment, reportAssignmentType
    return wrong


def served(stream: http.ServerStream) -> silly.Result:
    assert_type(stream.closewrite()[1], str | None)
    assert_type(stream.pieces().err, str | None)
    assert_type(stream.read(5)[1], str | None)
    return stream.flush()

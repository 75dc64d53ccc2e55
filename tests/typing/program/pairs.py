"""Pairs: unpacked, narrowed by one test, or taken out by ``silly.check``."""

from typing import assert_type

import silly
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
    secure, err = tls.connect("127.0.0.1:8443")
    if secure is not None:
        print(secure.alpnproto())
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

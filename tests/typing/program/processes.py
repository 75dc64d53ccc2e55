"""Other programs: their pipes are connections, and an end is a number or an error."""

from pathlib import Path
from typing import assert_type

import silly
from silly import process
from silly.net import tcp
from silly.process import DEVNULL, PIPE, STDOUT


def talked() -> int | None:
    child, err = process.start(["cat", Path("-")], stdin=PIPE, stdout=PIPE, stderr=STDOUT, cwd="/", env={"A": "b"})
    if child is None:
        print(err)
        return None
    with child:
        assert_type(child.stdin, process.Conn)
        child.stdin.write(["one\n", b"two\n"])
        line, err = child.stdout.read("\n", 1000)
        if line is not None:
            print(line.decode())
        pipe: tcp.Conn = child.stdout
        pipe.close()
        child.kill("SIGTERM")
        status, err = child.wait(1000)
        return None if status is None else status + 1


def called() -> bytes:
    done = silly.check(process.run(["sort"], "b\na\n", timeout=1000))
    assert_type(done.status, int)
    with open("/dev/null") as file:
        process.start(["cat"], file, DEVNULL)
    with silly.check(process.start(["sh"], pty=True, size=(24, 80))) as child:
        child.resize(1, 2)
    process.start(["cat", 7])  # wrong: list-item, reportArgumentType
    return done.stdout

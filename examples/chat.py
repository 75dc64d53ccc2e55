"""A chat room: a page, a WebSocket, and two tasks for each person.

    python -m silly examples/chat.py --port=8080 [--host=127.0.0.1]

Then open http://127.0.0.1:8080/ in two browser windows. `/` is the page (chat.html, beside this file), `/chat` the socket.

How it works. Each connection has two tasks, and both may block. One reads what its person
sends, and puts it into everybody's *outbox*, a channel. The other pops from the person's own
outbox and writes to the socket. Putting a message into an outbox never blocks, so a phone that
has stopped reading holds up nobody. When its outbox is full, its connection is dropped; the page
then connects again and gets the history.

No other task runs between two blocking calls, so the room's state below is plain data, without
locks.

Messages are JSON objects. The page sends
    {"op": "name", "name"}, first, and again to change it;    {"op": "say", "text", "id"};
and gets
    {"op": "welcome", "name", "people", "history"};    {"op": "said", "id", "name", "text", "at"};
    {"op": "joined" or "left", "name", "at"};    {"op": "renamed", "old", "name", "at"};    {"op": "error", "text", "id"}.
`id` is a random text by which a page recognises its own message. A page may send a message twice,
if the connection broke before the message came back; it is said once.
"""

import base64
import hashlib
import itertools
import json
import re
import unicodedata
from collections import deque
from pathlib import Path

import silly
from silly import env, logger, task, time
from silly.net import http, websocket
from silly.sync import channel

HISTORY = 50  # messages that a newcomer gets
OUTBOX = 100  # messages that may wait for one client
PACE = 10  # ms between two messages of one client: TCP holds back a client that sends faster
NAME = 24  # characters of a name; longer ones are cut
LONGEST = {"name": 200, "text": 2000, "id": 40}  # characters of a field; longer ones are refused
LIMITS = silly.Limits(message=32 * 1024, connections=500)

clients = []  # all that have said their name
history = deque(maxlen=HISTORY)


class Client:
    def __init__(self, sock):
        self.sock = sock
        self.name = None  # until the client says it
        self.outbox = channel.new()


def writer(client):
    """The task that empties a client's outbox. If the client doesn't read, only this task waits."""
    while True:
        text, _err = client.outbox.pop()
        if text is None or not client.sock.write(text, "text"):
            break


def send(client, text):
    if len(client.outbox) < OUTBOX:
        client.outbox.push(text)
    elif client.outbox.reason is None:
        client.outbox.close("full")
        # In a task of its own, because closing waits for the peer.
        task.fork(lambda: client.sock.close(1013, "too slow: messages were lost"))


def broadcast(op, **fields):
    text = json.dumps({"op": op, "at": time.now(), **fields})
    for client in clients:
        send(client, text)


def tidy(name):
    """A name as it is shown: no control or invisible characters, single spaces, not too long."""
    name = unicodedata.normalize("NFKC", name)
    name = "".join(char if char.isprintable() else " " for char in name)
    return " ".join(name.split())[:NAME].rstrip()


def unique(name, client):
    """The name, or "name (2)", "name (3)", … when another client has it."""
    taken = {other.name.casefold() for other in clients if other is not client}
    names = itertools.chain([name], (f"{name} ({n})" for n in itertools.count(2)))
    return next(each for each in names if each.casefold() not in taken)


# What a client may ask for: functions that get the checked message, and return None or what is wrong with it.


def take_name(client, msg):
    wanted = tidy(msg["name"])
    if not wanted:
        return "a name needs letters or digits"
    old, client.name = client.name, unique(wanted, client)
    if client.name == old:
        return f"your name is {old} already"
    if old is not None:
        broadcast("renamed", old=old, name=client.name)
        return None
    broadcast("joined", name=client.name)
    clients.append(client)
    people = [each.name for each in clients]
    send(client, json.dumps({"op": "welcome", "name": client.name, "people": people, "history": list(history)}))
    return None


def say(client, msg):
    text = msg["text"].strip()
    if client.name is None:
        return "say who you are first"
    if not text:
        return "the message is empty"
    for said in history:
        if said["id"] == msg["id"]:
            send(client, json.dumps(said))
            return None
    said = {"op": "said", "id": msg["id"], "name": client.name, "text": text, "at": time.now()}
    history.append(said)
    broadcast(**said)
    return None


OPS = {"name": (take_name, ["name"]), "say": (say, ["text", "id"])}


def parse(data, typ):
    """What a client sent: `(message, None)`, or `(None, what is wrong with it)`."""
    if typ != "text":
        return None, "messages are text, not binary"
    try:
        msg = json.loads(data)
    except (ValueError, RecursionError):
        return None, "this is no JSON"
    op = msg.get("op") if isinstance(msg, dict) else None
    if not isinstance(op, str) or op not in OPS:
        return None, "unknown op"
    for field in OPS[op][1]:
        if not isinstance(msg.get(field), str):
            return None, f"{field} must be a text"
        if len(msg[field]) > LONGEST[field]:
            return None, f"{field} is longer than {LONGEST[field]} characters"
    return msg, None


def converse(client):
    """Reads what a client sends, until it leaves."""
    while True:
        data, typ = client.sock.read()
        if data is None or typ == "close":
            break
        if typ in ("ping", "pong"):  # the library has answered
            continue
        msg, err = parse(data, typ)
        if msg is not None:
            err = OPS[msg["op"]][0](client, msg)
        if err is not None:
            about = msg["id"] if msg is not None and msg["op"] == "say" else None
            send(client, json.dumps({"op": "error", "text": err, "id": about}))
        time.sleep(PACE)


def chat(stream):
    sock, _err = websocket.upgrade(stream, limits=LIMITS)
    if sock is None:
        return  # ``upgrade`` has answered the request
    client = Client(sock)
    task.fork(writer, client)
    ok, err = silly.pcall(converse, client)
    if not ok:
        logger.error(err)  # a bug in this file; the others chat on
    client.outbox.close()
    if client in clients:
        clients.remove(client)
        broadcast("left", name=client.name)
    sock.close(1000 if ok else 1011)


page = Path(__file__).with_name("chat.html").read_bytes()


def inline(tag):
    """The hash of the page's one <script> or <style>: the browser uses that one only."""
    text = re.search(f"<{tag}>(.*?)</{tag}>".encode(), page, re.DOTALL)[1]
    return f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'"


PAGE_HEADER = {
    "content-type": "text/html; charset=utf-8",
    "content-security-policy": f"default-src 'none'; script-src {inline('script')}; style-src {inline('style')}; "
    "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


def handler(stream):
    if stream.path == "/chat":
        chat(stream)
    elif stream.path != "/":
        stream.respond(404, {"content-type": "text/plain; charset=utf-8", "x-content-type-options": "nosniff"})
        stream.closewrite("Nothing here: the chat is at /\n")
    elif stream.method not in ("GET", "HEAD"):
        stream.respond(405, {"allow": "GET, HEAD"})
        stream.closewrite()
    else:
        stream.respond(200, PAGE_HEADER)
        stream.closewrite(page)


addr = f"{env.get('host') or '127.0.0.1'}:{env.get('port') or 8080}"
server, _err = http.listen(addr=addr, handler=handler, limits=LIMITS)
if server is None:
    silly.exit(1)  # the reason has been logged
print(f"Open http://{server.addr}/ in two browser windows", flush=True)

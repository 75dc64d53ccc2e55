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

Anybody may connect, and nobody may hurt the others. An address has a share of the connections and
of the messages, and a connection that says no name is closed. (Behind a proxy all people have the
proxy's address: raise these limits, and let the proxy limit each address.) Names have no invisible
characters, and no two are equal. Two may still look alike, so each page has a colour, too.

Messages are JSON objects. The page sends
    {"op": "name", "name", "key"}, first, and again to change the name;    {"op": "say", "text", "n"};
and gets
    {"op": "welcome", "by", "name", "n", "people", "history"}, and "room" if there are several;
    {"op": "said", "id", "by", "n", "name", "text", "at"};
    {"op": "joined", "left" or "renamed", "by", "name", "at"};    {"op": "error", "text", "n"}.
`key` is a random text that only the page and the server know: by it the server recognises a page
that connects again. `by` is a hash of it, by which all know the page. `n` counts what a page says.
A page may send a message twice, if the connection broke before the message came back; it is said
once.
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
from silly.net import addr, http, websocket
from silly.sync import channel

HISTORY = 50  # messages that a newcomer gets
OUTBOX = 100  # messages that may wait for one client
PACE = 200  # ms for each message of one address; TCP holds back a faster sender
BURST = 20 * PACE  # but 20 messages may come at once
JOIN = 10_000  # ms until a client must have said its name
PAGES = 10_000  # pages of which we know what they said last
NAME = 24  # characters of a name; longer ones are cut
MARKS = 5  # accents, vowels and the like on one letter of a name
UNSEEN = re.compile("BLANK|FILLER|INHERENT|JOINER|SELECTOR")  # in Unicode's names of the letters and marks that show nothing
LONGEST = {"name": 200, "text": 2000, "key": 40}  # characters of a field; longer ones are refused
LIMITS = silly.Limits(message=32 * 1024, connections=500, address_connections=25, idle_timeout=10_000)

clients = []  # all that have said their name
history = deque(maxlen=HISTORY)
latest = {}  # page -> the `n` of its last message
ids = itertools.count(time.now())  # of messages: larger than any of an earlier process
room = env.get("worker")  # with --workers N the number of this process, whose people don't meet those of the others
turns = {}  # address -> until when it has used up its share


class Client:
    def __init__(self, sock, host):
        self.sock = sock
        self.host = host
        self.by = self.name = None  # until the client says its name
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


def leave(client):
    if client in clients:
        clients.remove(client)
        broadcast("left", by=client.by, name=client.name)


def tidy(name):
    """A name as it is shown: letters, a few marks on each, digits, `._-`, and single spaces for all else.

    What can't be seen is left out, so that it makes no second name that looks the same.
    """
    seen = [char for char in name if unicodedata.category(char) != "Cf" and not UNSEEN.search(unicodedata.name(char, ""))]
    shown, room = "", 0
    for char in unicodedata.normalize("NFKC", "".join(seen)):
        kind = unicodedata.category(char)[0]
        room = MARKS if kind == "L" else room - 1 if kind == "M" else 0
        shown += char if kind in "LN" or char in "._-" or (kind == "M" and room >= 0) else " "
    return " ".join(shown.split())[:NAME].rstrip()


def unique(name, client):
    """The name, or "name 2", "name 3", … when another client has it. The page calls its own person You."""
    taken = {"you"} | {other.name.casefold() for other in clients if other is not client}
    names = itertools.chain([name], (f"{name} {n}" for n in itertools.count(2)))
    return next(each for each in names if each.casefold() not in taken)


# What a client may ask for: functions that get the checked message, and return None or what is wrong with it.


def take_name(client, msg):
    wanted = tidy(msg["name"])
    if not wanted.strip(" ._-"):
        return "a name needs letters or digits"
    if client.name is None:
        join(client, wanted, msg["key"])
        return None
    old, client.name = client.name, unique(wanted, client)
    if client.name == old:
        return f"your name is {old} already"
    broadcast("renamed", by=client.by, name=client.name)
    return None


def join(client, name, key):
    client.by = hashlib.sha256(key.encode(errors="replace")).hexdigest()[:32]
    for lost in [each for each in clients if each.by == client.by]:  # its connection broke, and we have not noticed
        leave(lost)
        task.fork(lost.sock.close)
    client.name = unique(name, client)
    broadcast("joined", by=client.by, name=client.name)
    clients.append(client)
    people = [[each.by, each.name] for each in clients]
    welcome = {"by": client.by, "name": client.name, "n": latest.get(client.by, 0), "people": people, "history": list(history)}
    if room is not None:
        welcome["room"] = room
    send(client, json.dumps({"op": "welcome", **welcome}))


def say(client, msg):
    text = msg["text"].strip()
    if client.name is None:
        return "say who you are first"
    if not text:
        return "the message is empty"
    if msg["n"] <= latest.get(client.by, 0):
        return None  # said already, and the page knows that from its welcome
    latest[client.by] = msg["n"]
    if len(latest) > PAGES:
        del latest[next(iter(latest))]
    said = {"op": "said", "id": next(ids), "at": time.now(), "by": client.by, "n": msg["n"], "name": client.name, "text": text}
    history.append(said)
    broadcast(**said)
    return None


OPS = {"name": (take_name, ["name", "key"]), "say": (say, ["text"])}


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
    if op == "say" and (type(msg.get("n")) is not int or not 0 < msg["n"] < 2**53):
        return None, "n must be a whole number"
    return msg, None


def wait_turn(host):
    """Waits while an address has used up its share of the messages."""
    now = time.monotonic()
    for each in [each for each, until in turns.items() if until <= now]:
        del turns[each]
    turns[host] = turns.get(host, now) + PACE
    time.sleep(max(0, turns[host] - BURST - now))


def converse(client):
    """Reads what a client sends, until it leaves."""
    while True:
        data, typ = client.sock.read()
        if data is None or typ == "close":
            break
        if typ in ("ping", "pong"):  # the library has answered
            continue
        wait_turn(client.host)
        msg, err = parse(data, typ)
        if msg is not None:
            err = OPS[msg["op"]][0](client, msg)
        if err is not None:
            send(client, json.dumps({"op": "error", "text": err, "n": msg and msg.get("n")}))


def chat(stream):
    sock, _err = websocket.upgrade(stream, limits=LIMITS)
    if sock is None:
        return  # ``upgrade`` has answered the request
    client = Client(sock, addr.parse(stream.remoteaddr)[0])
    task.fork(writer, client)
    late = time.after(JOIN, lambda: client.name or sock.close(1008, "you have not said your name"))
    with sock:  # closes it with 1000, or with 1011 after an exception: a bug in this file
        try:
            converse(client)
        finally:
            time.cancel(late)
            client.outbox.close()
            leave(client)


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


server, _err = http.listen(
    addr=f"{env.get('host') or '127.0.0.1'}:{env.get('port') or 8080}",
    handler=handler,
    limits=LIMITS,
)
if server is None:
    silly.exit(1)  # the reason has been logged
if room is not None:
    logger.warn(f"the room is in the memory of one process: people of worker {room} don't see those of the others")
if room in (None, "1"):
    print(f"Open http://{server.addr}/ in two browser windows", flush=True)

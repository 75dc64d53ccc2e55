"""A shell in the browser: each page has one in a terminal of its own, joined to a WebSocket.

    python -m silly examples/terminal.py [--port=8080] [--shell=sh]

Prints the address to open. It listens on this machine only, and only this address, which holds
a token, leads to a shell: any page that the browser has open could ask this port.
"""

import os
import secrets

import silly
from silly import env, process, task
from silly.net import http, websocket

TOKEN = secrets.token_urlsafe()
SHELL = env.get("shell") or "sh"
PAGE = r"""<!doctype html><title>shell</title><pre id="out"></pre><script>
const sock = new WebSocket(location.href.replace("http", "ws")), text = new TextDecoder(); sock.binaryType = "arraybuffer"
const keys = {Enter: "\r", Backspace: "\x7f", Tab: "\t", Escape: "\x1b"}
sock.onmessage = event => { out.append(text.decode(event.data, {stream: true})); scrollTo(0, 1e9) }
sock.onclose = () => out.append("\n(the shell has ended)")
onkeydown = event => {
  const one = event.key.length == 1 ? event.key : keys[event.key]
  if (!one || event.metaKey) return
  sock.send(event.ctrlKey ? String.fromCharCode(one.charCodeAt(0) & 31) : one)
  event.preventDefault()
}
</script>"""


def handler(stream):
    if not secrets.compare_digest(stream.path, f"/{TOKEN}"):
        stream.answer(404)
    elif stream.header["upgrade"] == "websocket":
        shell(stream)
    else:
        stream.respond(200, {"content-type": "text/html; charset=utf-8", "referrer-policy": "no-referrer"})
        stream.closewrite(PAGE)


def shell(stream):
    sock, _err = websocket.upgrade(stream)
    if sock is None:
        return
    with sock, silly.check(process.start([SHELL], pty=True, env={**os.environ, "TERM": "dumb"})) as child:
        while True:
            which, _err = task.select(sock, child.stdout)
            data, typ = sock.read() if which is sock else child.stdout.readsome()
            if data is None or typ == "close":
                break
            if which is not sock:
                sock.write(data, "binary")
            elif typ in ("text", "binary"):
                child.stdin.write(data)


server = silly.check(http.listen(f"127.0.0.1:{env.get('port') or 8080}", handler))
print(f"open http://{server.addr}/{TOKEN}", flush=True)

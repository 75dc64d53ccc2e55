"""A server with picows on uvloop that sends each message to all who are connected: picows_broadcast.py PORT [CERT KEY]"""

import ssl
import sys

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

transports: set[WSTransport] = set()


class Broadcast(WSListener):
    def on_ws_connected(self, transport: WSTransport) -> None:
        transports.add(transport)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        transports.discard(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        else:
            message = frame.get_payload_as_bytes()
            for each in transports:
                each.send(frame.msg_type, message)


def accept(request: WSUpgradeRequest) -> WSListener:
    return Broadcast()


async def main(port: int, *cert_and_key: str) -> None:
    context = None
    if cert_and_key:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*cert_and_key)
    server = await ws_create_server(accept, "127.0.0.1", port, ssl=context)
    await server.serve_forever()


uvloop.run(main(int(sys.argv[1]), *sys.argv[2:]))

"""The client of picows on uvloop: picows_client.py PORT SECONDS CONNECTIONS, which does what ../ws_client.py does."""

import asyncio
import json
import sys
from time import monotonic, process_time

import uvloop
from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

PORT, SECONDS, CONNECTIONS = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
WARM = 0.2
MESSAGE = b"x" * 64
URL = f"ws://127.0.0.1:{PORT}/"


class Client(WSListener):
    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def start(self, end: float) -> asyncio.Future[int]:
        self.end = end
        self.count = 0
        self.done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.transport.send(WSMsgType.TEXT, MESSAGE)
        return self.done

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()
            return
        if frame.get_payload_as_bytes() != MESSAGE:
            raise SystemExit("not the echo")
        self.count += 1
        if monotonic() < self.end:
            transport.send(WSMsgType.TEXT, MESSAGE)
        else:
            self.done.set_result(self.count)


async def connect_and_close(end: float) -> int:
    count = 0
    while monotonic() < end:
        transport, _listener = await ws_connect(Client, URL)
        transport.send_close(WSCloseCode.OK)
        await transport.wait_disconnected()
        count += 1
    return count


async def run(clients: list[Client], seconds: float) -> int:
    end = monotonic() + seconds
    if not clients:
        return await connect_and_close(end)
    return sum(await asyncio.gather(*[client.start(end) for client in clients]))


async def main() -> None:
    clients = [(await ws_connect(Client, URL))[1] for _ in range(CONNECTIONS)]
    await run(clients, WARM)
    begin = process_time()
    count = await run(clients, SECONDS)
    print(json.dumps({"count": count, "cpu": process_time() - begin}), flush=True)
    for client in clients:
        client.transport.disconnect()


uvloop.run(main())

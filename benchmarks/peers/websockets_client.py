"""The client of websockets on uvloop: websockets_client.py PORT SECONDS CONNECTIONS, which does what ../ws_client.py does."""

import asyncio
import json
import sys
from time import monotonic, process_time

import uvloop
from websockets.asyncio.client import ClientConnection, connect

PORT, SECONDS, CONNECTIONS = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
WARM = 0.2
MESSAGE = "x" * 64
URL = f"ws://127.0.0.1:{PORT}/"


async def talk(socket: ClientConnection, end: float) -> int:
    count = 0
    while monotonic() < end:
        await socket.send(MESSAGE)
        if await socket.recv() != MESSAGE:
            raise SystemExit("not the echo")
        count += 1
    return count


async def connect_and_close(end: float) -> int:
    count = 0
    while monotonic() < end:
        socket = await connect(URL, compression=None, proxy=None)
        await socket.close()
        count += 1
    return count


async def run(sockets: list[ClientConnection], seconds: float) -> int:
    end = monotonic() + seconds
    if not sockets:
        return await connect_and_close(end)
    return sum(await asyncio.gather(*[talk(socket, end) for socket in sockets]))


async def main() -> None:
    sockets = [await connect(URL, compression=None, proxy=None) for _ in range(CONNECTIONS)]
    await run(sockets, WARM)
    begin = process_time()
    count = await run(sockets, SECONDS)
    print(json.dumps({"count": count, "cpu": process_time() - begin}), flush=True)
    for socket in sockets:
        await socket.close()


uvloop.run(main())

"""The client of aiohttp on uvloop: aiohttp_client.py PORT SECONDS CONNECTIONS, which does what ../ws_client.py does."""

import asyncio
import json
import sys
from time import monotonic, process_time

import uvloop
from aiohttp import ClientSession, ClientWebSocketResponse, TCPConnector

PORT, SECONDS, CONNECTIONS = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
WARM = 0.2
MESSAGE = "x" * 64
URL = f"ws://127.0.0.1:{PORT}/"


async def talk(socket: ClientWebSocketResponse, end: float) -> int:
    count = 0
    while monotonic() < end:
        await socket.send_str(MESSAGE)
        if await socket.receive_str() != MESSAGE:
            raise SystemExit("not the echo")
        count += 1
    return count


async def connect_and_close(session: ClientSession, end: float) -> int:
    count = 0
    while monotonic() < end:
        socket = await session.ws_connect(URL)
        await socket.close()
        count += 1
    return count


async def run(session: ClientSession, sockets: list[ClientWebSocketResponse], seconds: float) -> int:
    end = monotonic() + seconds
    if not sockets:
        return await connect_and_close(session, end)
    return sum(await asyncio.gather(*[talk(socket, end) for socket in sockets]))


async def main() -> None:
    async with ClientSession(connector=TCPConnector(limit=0)) as session:
        sockets = [await session.ws_connect(URL) for _ in range(CONNECTIONS)]
        await run(session, sockets, WARM)
        begin = process_time()
        count = await run(session, sockets, SECONDS)
        print(json.dumps({"count": count, "cpu": process_time() - begin}), flush=True)
        for socket in sockets:
            await socket.close()


uvloop.run(main())

"""A server that echoes lines, with the streams of asyncio on uvloop: asyncio_tcp.py PORT [uvloop | aiofastnet [CERT KEY]]

With ``aiofastnet`` its transports take the place of uvloop's.
"""

import asyncio
import ssl
import sys

import uvloop


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()


async def main(port: int, transports: str = "uvloop", *cert_and_key: str) -> None:
    context = None
    if cert_and_key:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*cert_and_key)
    if transports == "aiofastnet":
        import aiofastnet

        aiofastnet.patch_loop()
    server = await asyncio.start_server(echo, "127.0.0.1", port, ssl=context)
    await server.serve_forever()


uvloop.run(main(int(sys.argv[1]), *sys.argv[2:]))

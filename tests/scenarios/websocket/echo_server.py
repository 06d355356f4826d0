"""WebSocket echo server of one real server: answers each message with its own name and the message.

Usage: echo_server.py NAME PORT
"""

import asyncio
import signal
import sys

import websockets


async def main(name: str, port: int) -> None:
    async def echo(socket):
        async for message in socket:
            await socket.send(f"{name} {message}")

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with websockets.serve(echo, "127.0.0.1", port):
        print("listening", flush=True)
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))

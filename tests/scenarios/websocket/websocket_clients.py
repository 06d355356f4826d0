"""WebSocket clients: each source address holds one connection to the VIP open and talks on it.

A connection that breaks is opened again until that succeeds. Every --every seconds a message goes out
on each open connection; the echo names the server and must carry the same message.

Prints one line of JSON per event, as it happens:

    {"event": "open", "source": address, "server": name, "outage": seconds it was without, or null}
    {"event": "broken", "source": address, "server": name, "reason": text}
    {"event": "refused", "source": address, "reason": text}

and on SIGTERM, after closing every connection in order, one last line:

    {"event": "end", "sources": [{"source", "connections": attempts to connect, "servers": [names, in
     order], "broken": times, "sent": messages, "echoed": messages, "wrong": echoes that were not the
     message or not of the connection's server, "slowest": seconds from a message to its echo}]}

Every connection has a local port of its own, counted up from --port; see http_clients.py.
"""

import argparse
import asyncio
import json
import signal
import time

import websockets

# An echo that takes longer than this counts as a broken connection.
ECHO_LIMIT = 5


def emit(**event) -> None:
    print(json.dumps(event), flush=True)


class Source:
    """One source address and its one connection at a time."""

    def __init__(self, address: str, options: argparse.Namespace, stop: asyncio.Event) -> None:
        self.address = address
        self.options = options
        self.stop = stop
        self.port = options.port
        self.connections = 0
        self.servers: list[str] = []
        self.broken = 0
        self.sent = 0
        self.echoed = 0
        self.wrong = 0
        self.slowest = 0.0

    async def run(self) -> None:
        lost_at = None
        while not self.stop.is_set():
            socket = await self.connect()
            if socket is None:
                await self.pause(self.options.retry)
                continue
            try:
                await self.hold(socket, lost_at)
            except (OSError, asyncio.TimeoutError, websockets.ConnectionClosed) as error:
                lost_at = time.monotonic()
                self.broken += 1
                server = self.servers[-1] if self.servers else None
                reason = f"{type(error).__name__}: {error}"
                emit(event="broken", source=self.address, server=server, reason=reason)
            finally:
                await socket.close()

    async def connect(self):
        self.connections += 1
        self.port += 1
        try:
            return await websockets.connect(
                f"ws://{self.options.vip}/ws",
                local_addr=(self.address, self.port),
                open_timeout=3,
                close_timeout=1,
                ping_interval=None,
            )
        except (OSError, asyncio.TimeoutError, websockets.WebSocketException) as error:
            reason = f"{type(error).__name__}: {error}"
            emit(event="refused", source=self.address, reason=reason)
            return None

    async def hold(self, socket, lost_at: float | None) -> None:
        """Talks until told to stop; the first echo says who the server is."""
        server = None
        while not self.stop.is_set():
            message = f"{self.address} {self.sent}"
            start = time.monotonic()
            await socket.send(message)
            self.sent += 1
            echo = await asyncio.wait_for(socket.recv(), ECHO_LIMIT)
            now = time.monotonic()
            self.slowest = max(self.slowest, now - start)
            name, _, text = echo.partition(" ")
            if server is None:
                server = name
                self.servers.append(name)
                outage = None if lost_at is None else now - lost_at
                emit(event="open", source=self.address, server=name, outage=outage)
            if name == server and text == message:
                self.echoed += 1
            else:
                self.wrong += 1
            await self.pause(self.options.every)

    async def pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self.stop.wait(), seconds)
        except asyncio.TimeoutError:
            pass

    def summary(self) -> dict:
        return {
            "source": self.address,
            "connections": self.connections,
            "servers": self.servers,
            "broken": self.broken,
            "sent": self.sent,
            "echoed": self.echoed,
            "wrong": self.wrong,
            "slowest": self.slowest,
        }


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--vip", required=True)
    parser.add_argument("--sources", required=True, help="addresses, by comma")
    parser.add_argument("--port", type=int, required=True, help="first local port")
    parser.add_argument("--every", type=float, default=0.1, help="seconds between messages")
    parser.add_argument("--retry", type=float, default=0.2, help="seconds between attempts")
    options = parser.parse_args()

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    sources = [Source(address, options, stop) for address in options.sources.split(",")]
    await asyncio.gather(*(source.run() for source in sources))
    emit(event="end", sources=[source.summary() for source in sources])


if __name__ == "__main__":
    asyncio.run(main())

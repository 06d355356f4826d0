"""HTTP clients: each source address asks the VIP again and again, every time on a new connection.

Prints a line "ready" when every source has had its first answer, and one JSON object at the end:

    {"seconds": time from the first request to the last,
     "sources": [{"source": address,
                  "connections": connections that were attempted,
                  "answers": {server: requests it answered},
                  "errors": {text: how often},
                  "outage": seconds from the last answer of the server it had to the first answer of
                            another; null if it was never answered by another,
                  "gap": the longest time, s, from one answer to the next}]}

Every connection has a local port of its own, counted up from --port: the kernel would sometimes pick
one again, and a director rightly takes a known address pair for a known connection.
"""

import argparse
import collections
import http.client
import json
import sys
import threading
import time


class Source(threading.Thread):
    """One source address and its requests, one after the other."""

    def __init__(self, address: str, options: argparse.Namespace) -> None:
        super().__init__(daemon=True)
        self.address = address
        self.options = options
        self.port = options.port
        self.connections = 0
        self.answers: collections.Counter[str] = collections.Counter()
        self.errors: collections.Counter[str] = collections.Counter()
        self.outage: float | None = None
        self.gap = 0.0
        self.answered = threading.Event()

    def run(self) -> None:
        deadline = time.monotonic() + self.options.limit
        last_good = time.monotonic()
        last_server = None
        while time.monotonic() < deadline and not self.is_done():
            server = self.ask()
            now = time.monotonic()
            if server is not None:
                if last_server not in (None, server) and self.outage is None:
                    self.outage = now - last_good
                self.gap = max(self.gap, now - last_good)
                last_good, last_server = now, server
                self.answered.set()
            time.sleep(self.options.every)
        if last_server is not None:
            self.gap = max(self.gap, time.monotonic() - last_good - self.options.every)
        self.answered.set()

    def is_done(self) -> bool:
        if self.options.until_other:
            return self.outage is not None
        return self.connections >= self.options.requests

    def ask(self) -> str | None:
        """One request; the name of the server that answered, or None."""
        connection = http.client.HTTPConnection(
            self.options.vip, 80, timeout=3, source_address=(self.address, self.port)
        )
        self.port += 1
        self.connections += 1
        try:
            connection.request("GET", "/", headers={"Connection": "close"})
            response = connection.getresponse()
            body = response.read().decode().strip()
            server = response.getheader("X-Server")
            if response.status != 200 or server is None or body != server:
                raise ValueError(f"status {response.status}, server {server!r}, body {body!r}")
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.errors[f"{type(error).__name__}: {error}"] += 1
            return None
        finally:
            connection.close()
        self.answers[server] += 1
        return server


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--vip", required=True)
    parser.add_argument("--sources", required=True, help="addresses, by comma")
    parser.add_argument("--port", type=int, required=True, help="first local port")
    parser.add_argument("--requests", type=int, default=1, help="from each source")
    parser.add_argument("--until-other", action="store_true",
                        help="ask until another server answers, instead of a number of times")
    parser.add_argument("--every", type=float, default=0,
                        help="seconds between requests of a source")
    parser.add_argument("--limit", type=float, default=30, help="seconds until a source gives up")
    options = parser.parse_args()

    sources = [Source(address, options) for address in options.sources.split(",")]
    start = time.monotonic()
    for source in sources:
        source.start()
    for source in sources:
        source.answered.wait()
    print("ready", flush=True)
    for source in sources:
        source.join()
    json.dump(
        {
            "seconds": time.monotonic() - start,
            "sources": [
                {
                    "source": source.address,
                    "connections": source.connections,
                    "answers": source.answers,
                    "errors": source.errors,
                    "outage": source.outage,
                    "gap": source.gap,
                }
                for source in sources
            ],
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()

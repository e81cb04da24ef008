"""The load generator for machines without wrk and ab: slower, and itself a load on the machine.

Run as a child process: ``python -m benchmarks.pyload URL CLIENTS SECONDS keep|new``. It prints one
line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from urllib.parse import urlsplit

from attrs import define, field

from benchmarks.load import PATIENCE


@define(eq=False)
class Clients:
    """Clients that ask for one URL again and again.

    :param url: the URL.
    :param keep_alive: use each connection as long as the server does, else once.
    """

    url: str
    keep_alive: bool
    times: list[float] = field(factory=list, init=False)
    failures: int = field(default=0, init=False)

    async def run(self, clients: int, seconds: float) -> dict[str, float]:
        """Ask, and return what was found.

        :param clients: how many ask at the same time.
        :param seconds: for how long.
        """
        begun = time.perf_counter()
        await asyncio.gather(*(self._client(begun + seconds) for _ in range(clients)))
        taken = time.perf_counter() - begun
        times = sorted(self.times) or [0.0]
        return {
            "requests": len(self.times) + self.failures,
            "seconds": taken,
            "failures": self.failures,
            "p50": times[len(times) // 2],
            "p99": times[len(times) * 99 // 100],
        }

    async def _client(self, end: float) -> None:
        while time.perf_counter() < end:
            try:
                await self._connection(end)
            except (OSError, EOFError, TimeoutError):
                self.failures += 1

    async def _connection(self, end: float) -> None:
        parts = urlsplit(self.url)
        version = "1.1" if self.keep_alive else "1.0"
        question = f"GET {parts.path} HTTP/{version}\r\nHost: {parts.netloc}\r\n\r\n".encode()
        asked = time.perf_counter()
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            lasting = True
            while lasting and time.perf_counter() < end:
                writer.write(question)
                async with asyncio.timeout(PATIENCE):
                    lasting = await self._answer(reader)
                now = time.perf_counter()
                self.times.append(now - asked)
                asked = now
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> bool:
        """Read an answer; tell whether the connection lasts."""
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head[:16]:
            raise EOFError
        name, _, rest = head.lower().partition(b"content-length:")
        if not rest:
            await reader.read()
            return False
        await reader.readexactly(int(rest.split(b"\r\n", 1)[0]))
        return self.keep_alive and b"http/1.1" in name[:8] and b"connection: close" not in head


def main(url: str, clients: str, seconds: str, mode: str) -> None:
    """Run the generator and print what it found.

    :param url: the URL.
    :param clients: how many ask at the same time.
    :param seconds: for how long.
    :param mode: ``keep`` or ``new`` connections.
    """
    found = asyncio.run(Clients(url, mode == "keep").run(int(clients), float(seconds)))
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])

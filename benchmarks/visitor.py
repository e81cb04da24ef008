"""A client that behaves well: asks now and then, and writes down how long it took.

Run as a child process, ``python -m benchmarks.visitor PORT AUTHORITY``: it goes on until it is
ended and prints a line for each visit. The clock is the same in all processes.
"""

from __future__ import annotations

import gc
import math
import ssl
import sys
import time
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING

from attrs import define, field, frozen

from benchmarks.clients import HOST, NO_ANSWER_AFTER

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

KEPT, NEW = "kept", "new"
_PATH = "/primary"
_PAUSE = 0.01


@frozen
class Visit:
    """One request and its answer.

    :param kind: on a connection that was :data:`KEPT`, or on a :data:`NEW` one.
    :param begun: when it began.
    :param seconds: how long the answer took, with the connection if that is new; infinite if there
        was no good one.
    """

    kind: str
    begun: float
    seconds: float

    def __str__(self) -> str:
        return f"{self.kind} {self.begun!r} {self.seconds!r}"

    @classmethod
    def parse(cls, line: str) -> Visit:
        """Read what :meth:`__str__` wrote.

        :param line: the line.
        """
        kind, begun, seconds = line.split()
        return cls(kind, float(begun), float(seconds))


def within(visits: Iterable[Visit], kind: str, begin: float, end: float) -> list[float]:
    """Return, in order of size, how long the visits took that began in a span of time.

    :param visits: the visits.
    :param kind: which of them.
    :param begin: the beginning of the time.
    :param end: its end.
    """
    return sorted(
        visit.seconds for visit in visits if visit.kind == kind and begin <= visit.begun < end
    )


def percentile(ordered: Sequence[float], share: int) -> float | None:
    """Return the time within which a share of all visits was over; ``None`` if it never was.

    :param ordered: the times, the smallest first.
    :param share: the share in per cent.
    """
    if not ordered:
        return None
    value = ordered[min(len(ordered) * share // 100, len(ordered) - 1)]
    return None if math.isinf(value) else value


@define(eq=False)
class Visitor:
    """Asks ``GET /primary``.

    :param port: the server's port.
    :param authority: the file with the authority that the server's certificate comes from; empty
        for a server that speaks no TLS.
    """

    port: int
    authority: str
    _context: ssl.SSLContext | None = field(default=None, init=False)
    _kept: HTTPConnection = field(init=False)

    def __attrs_post_init__(self) -> None:
        if self.authority:
            self._context = ssl.create_default_context(cafile=self.authority)
        self._kept = self._connection()

    def _connection(self) -> HTTPConnection:
        if self._context is None:
            return HTTPConnection(HOST, self.port, timeout=NO_ANSWER_AFTER)
        return HTTPSConnection(HOST, self.port, timeout=NO_ANSWER_AFTER, context=self._context)

    def visit(self, kind: str) -> Visit:
        """Ask once.

        :param kind: on which connection.
        """
        begun = time.monotonic()
        connection = self._kept if kind is KEPT else self._connection()
        seconds = math.inf
        with suppress(OSError, HTTPException):
            # A server that closes after its answer gets a new connection at the next request.
            connection.request("GET", _PATH)
            answer = connection.getresponse()
            answer.read()
            if answer.status == 200:
                seconds = time.monotonic() - begun
        if kind is NEW or math.isinf(seconds):
            connection.close()
        return Visit(kind, begun, seconds)


def main(port: str, authority: str) -> None:
    """Visit until the process is ended.

    :param port: the server's port.
    :param authority: see :class:`Visitor`.
    """
    visitor = Visitor(int(port), authority)
    gc.disable()  # its pauses would count as the server's
    while True:
        for kind in (KEPT, NEW):
            print(visitor.visit(kind), flush=True)
            time.sleep(_PAUSE)


if __name__ == "__main__":
    main(*sys.argv[1:])

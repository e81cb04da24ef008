"""How many requests a client makes that has a number of them on their way at any time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import treq
from attrs import define, field
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.iweb import IAgent
from zope.interface import implementer

from benchmarks.visitor import percentile

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from twisted.web.http_headers import Headers
    from twisted.web.iweb import IBodyProducer, IResponse

    from benchmarks.measure import Values

#: Seconds of a load that do not count, in which connections are made.
_WARM_UP = 0.5


async def rate(ask: Callable[[], Awaitable[int]], in_flight: int, seconds: float) -> Values:
    """Ask again and again, and return the answers per second and how long they took.

    :param ask: asks once, and returns the length of the answer.
    :param in_flight: how many ask at the same time.
    :param seconds: how long.
    """
    begin = time.monotonic() + _WARM_UP
    end = begin + seconds
    times: list[float] = []

    async def one() -> None:
        while (asked := time.monotonic()) < end:
            if not await ask():
                raise AssertionError("an answer is empty")
            if begin <= (now := time.monotonic()) < end:
                times.append(now - asked)

    await gatherResults([Deferred.fromCoroutine(one()) for _ in range(in_flight)])
    milliseconds = sorted(1000 * each for each in times)
    return {
        "rate": len(times) / seconds,
        "p50": percentile(milliseconds, 50),
        "p99": percentile(milliseconds, 99),
    }


@define(eq=False)
class PlainTreq:
    """treq as its manual shows it, with as many kept connections as there are requests.

    :param reactor: the reactor.
    :param url: what to ask for.
    :param connections: how many are kept.
    """

    reactor: Any
    url: str
    connections: int
    _pool: HTTPConnectionPool = field(init=False)
    _agent: Agent = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._pool = HTTPConnectionPool(self.reactor)
        self._pool.maxPersistentPerHost = self.connections
        self._agent = Agent(self.reactor, pool=self._pool)

    async def ask(self) -> int:
        """Ask once."""
        response = await treq.get(self.url, agent=self._agent, timeout=10, reactor=self.reactor)
        return len(await treq.content(response))

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.closeCachedConnections()


@implementer(IAgent)
@define(eq=False)
class Distant:
    """Requests that take a while to arrive, as over a long line.

    :param reactor: the reactor.
    :param agent: makes the requests.
    :param seconds: how long they take.
    """

    reactor: Any
    agent: Any
    seconds: float

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """Make a request, later."""
        later: Deferred[IResponse] = deferLater(
            self.reactor, self.seconds, self.agent.request, method, uri, headers, bodyProducer
        )
        return later

"""What the tests of twisted_patroni.client.replicas have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.iweb import IAgent
from zope.interface import implementer

from twisted_patroni.client.replicas import Replicas
from twisted_patroni.client.settings import ClientSettings
from twisted_patroni.client.testing import MemoryCluster

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from twisted.web.http_headers import Headers
    from twisted.web.iweb import IBodyProducer, IResponse


@define(eq=False)
class Held:
    """A request that has been sent, and that the node has not answered.

    :param agent: brings it to the node.
    :param request: the request.
    :ivar given_up: its connection was closed.
    """

    agent: IAgent
    request: tuple[Any, ...]
    given_up: bool = field(default=False, init=False)
    answer: Deferred[IResponse] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.answer = Deferred(lambda _: self._close())

    def _close(self) -> None:
        self.given_up = True

    @property
    def method(self) -> str:
        """How it was asked."""
        method: str = self.request[0].decode()
        return method

    @property
    def name(self) -> str:
        """Who was asked."""
        return urlsplit(self.request[1].decode()).hostname or ""

    def let_go(self) -> None:
        """Have the node answer it."""
        self.agent.request(*self.request).chainDeferred(self.answer)

    def fail(self, error: Exception) -> None:
        """Have its connection fail."""
        self.answer.errback(error)


@implementer(IAgent)
@define(eq=False)
class Gate:
    """Brings requests to the nodes, and keeps those of some paths until a test lets them go.

    :param agent: brings them to the nodes.
    :ivar paths: the paths of those that are kept.
    :ivar held: those that were.
    """

    agent: IAgent
    paths: set[str] = field(factory=set, init=False)
    held: list[Held] = field(factory=list, init=False)

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """Send a request."""
        if urlsplit(uri.decode()).path not in self.paths:
            return self.agent.request(method, uri, headers, bodyProducer)
        self.held.append(Held(self.agent, (method, uri, headers, bodyProducer)))
        return self.held[-1].answer


class ReplicasCase(SynchronousTestCase):
    """A cluster in memory, of ``a``, which leads, ``b`` and ``c``, and its client."""

    def setUp(self) -> None:
        """Make them."""
        self.memory = MemoryCluster()
        self.clock = self.memory.clock
        self.gate = Gate(self.memory)
        self.replicas = self.client()

    def client(self, *seeds: str, **settings: Any) -> Replicas:
        """Return another client of the cluster, which is closed at the end."""
        made = ClientSettings(**settings)
        urls = seeds or self.memory.urls
        replicas = Replicas(self.clock, urls, made, self.gate, lambda: 0.5)
        self.addCleanup(lambda: self.successResultOf(Deferred.fromCoroutine(replicas.close())))
        return replicas

    def started(self) -> Replicas:
        """Return the client when it has found out about the cluster."""
        self.get(self.replicas.start())
        return self.replicas

    def begin(self, asking: Awaitable[Any]) -> Deferred[Any]:
        """Return a call that is under way."""

        async def ask() -> Any:
            return await asking

        return Deferred.fromCoroutine(ask())

    def get(self, asking: Awaitable[Any]) -> Any:
        """Return what a call returns at once."""
        return self.successResultOf(self.begin(asking))

    def fails(self, asking: Awaitable[Any], error: type[Exception], *words: str) -> Any:
        """Return what a call fails with at once.

        :param words: what must be in its text.
        """
        asked = asking if isinstance(asking, Deferred) else self.begin(asking)
        found = self.failureResultOf(asked, error).value
        for word in words:
            self.assertIn(word, str(found))
        self.assertNotIn("\n", str(found))
        return found

    def pass_time(self, seconds: float, step: float = 0.05) -> None:
        """Let time pass, in small steps, as a reactor does."""
        for _ in range(round(seconds / step)):
            self.clock.advance(step)

    def asked(self, path: str) -> list[str]:
        """Name those who were asked for a path, in order."""
        urls = [urlsplit(url) for _, url in self.memory.asked]
        return [url.hostname or "" for url in urls if url.path == path]

"""One receiver's connection: persistent, bounded in time and size, and the only one to it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import ConnectError, ConnectingCancelledError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from twisted_patroni.client.body import Bytes
from twisted_patroni.webhooks.files import Way, find_way
from twisted_patroni.webhooks.judging import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twisted.internet.interfaces import IProtocol, IProtocolFactory
    from twisted.python.failure import Failure
    from twisted.web.client import URI

    from twisted_patroni.settings import WebhookSettings

#: How much of an answer's body is read, and of all that a receiver sends for one request.
MOST_BODY, MOST_BYTES = 4 * 1024, 64 * 1024
#: Seconds for which a connection that is not used is kept.
IDLE = 60


class _Wrapper(ProtocolWrapper):
    """A connection that ends when too much has come since something was sent."""

    received = 0

    def write(self, data: bytes) -> None:
        self.received = 0
        super().write(data)

    def writeSequence(self, data: Any) -> None:
        self.received = 0
        super().writeSequence(data)

    def dataReceived(self, data: bytes) -> None:
        self.received += len(data)
        if self.received <= MOST_BYTES:
            super().dataReceived(data)
        else:
            self.abortConnection()

    def loseConnection(self) -> None:
        # Not politely: who does not take the last bytes would keep the connection.
        self.disconnecting = 1
        self.abortConnection()


class _Wrapping(WrappingFactory["_Wrapper"]):
    """Makes such connections, and does not log each."""

    protocol = _Wrapper

    def doStart(self) -> None:
        """Do nothing: there is nothing to start."""

    def doStop(self) -> None:
        """Do nothing: there is nothing to stop."""


@implementer(IStreamClientEndpoint)
@frozen
class _Endpoint:
    """Connects to the first of a receiver's addresses that takes the connection.

    :param reactor: the reactor.
    :param settings: the receiver.
    :param in_lane: runs a blocking function elsewhere.
    """

    reactor: Any
    settings: WebhookSettings
    in_lane: Callable[..., Deferred[Any]]

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect."""
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> Any:
        way: Way = await self.in_lane(find_way, self.settings)
        failed: Exception = ConnectError(string="the name has no addresses")
        for address in way.addresses:
            try:
                return await self._try(factory, way, *address)
            except (CancelledError, ConnectingCancelledError):
                raise
            except Exception as error:
                failed = error
        raise failed

    async def _try(self, factory: IProtocolFactory, way: Way, six: bool, address: str) -> Any:
        kind = TCP6ClientEndpoint if six else TCP4ClientEndpoint
        # Each address has its part of the time.
        seconds = self.settings.timeout / len(way.addresses)
        endpoint = kind(self.reactor, address, self.settings.port, timeout=seconds)
        bounded = _Wrapping(factory)
        wrapper: Any
        if way.creator is None:
            wrapper = await endpoint.connect(bounded)
        else:
            secure = TLSMemoryBIOFactory(way.creator, True, bounded, clock=self.reactor)
            outer: Any = await endpoint.connect(secure)
            wrapper = outer.wrappedProtocol
        return wrapper.wrappedProtocol


@implementer(IAgentEndpointFactory)
@frozen
class _Endpoints:
    """Has one endpoint for all requests."""

    endpoint: _Endpoint

    def endpointForURI(self, uri: URI) -> _Endpoint:
        """Return it."""
        return self.endpoint


class _Sink(Protocol):
    """Reads the little that receivers say, so that the connection can be used again.

    :ivar ended: fires when that is over; to cancel it ends the connection.
    """

    def __init__(self) -> None:
        self._left = MOST_BODY
        self.ended: Deferred[None] = Deferred(lambda _: self._abort())

    def dataReceived(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            self._abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.ended.called:
            self.ended.callback(None)

    def _abort(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()


@define(eq=False)
class Transport:
    """Posts to one receiver.

    :param reactor: the reactor.
    :param settings: the receiver.
    :param in_lane: runs a blocking function elsewhere.
    """

    reactor: Any
    settings: WebhookSettings
    in_lane: Callable[..., Deferred[Any]]
    _pool: HTTPConnectionPool = field(init=False)
    _agent: Agent = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._pool = HTTPConnectionPool(self.reactor, persistent=True)
        self._pool.maxPersistentPerHost = 1
        self._pool.cachedConnectionTimeout = IDLE
        endpoints = _Endpoints(_Endpoint(self.reactor, self.settings, self.in_lane))
        self._agent = Agent.usingEndpointFactory(self.reactor, endpoints, self._pool)

    def post(self, headers: Mapping[str, str], body: bytes) -> Deferred[Answer]:
        """Send a body; no redirect is followed.

        :param headers: the headers.
        :param body: the body.
        :return: fails if there is no answer in the receiver's time; to cancel it ends the
            connection.
        """
        return Deferred.fromCoroutine(self._post(headers, body))

    async def _post(self, headers: Mapping[str, str], body: bytes) -> Answer:
        deadline = self.reactor.seconds() + self.settings.timeout
        asking: Deferred[Any] = self._agent.request(
            b"POST",
            self.settings.url.encode("ascii"),
            Headers({name: [value] for name, value in headers.items()}),
            Bytes(body),
        )
        response = await asking.addTimeout(self.settings.timeout, self.reactor)
        said = response.headers.getRawHeaders("Retry-After") or [None]
        sink = _Sink()
        response.deliverBody(sink)
        # What the status says stands, whatever comes after it.
        left = max(0.0, deadline - self.reactor.seconds())
        with suppress(CancelledError, DeferredTimeout):
            await sink.ended.addTimeout(left, self.reactor)
        return Answer(response.code, said[0])

    def close(self) -> Deferred[Any]:
        """End the connection that waits to be used, if there is one."""
        ended: Deferred[Any] = self._pool.closeCachedConnections()
        return ended

"""How a connection to a node comes about: TCP, and TLS until both sides have shaken hands.

A connection that is not through with this has carried no request. What fails here may be asked
again without any doubt, wherever that is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import define, field
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.error import ConnectionClosed
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import (
    IHandshakeListener,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.web.client import Agent
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from twisted_patroni.client.asking import bounded
from twisted_patroni.client.reasons import reason_of
from twisted_patroni.client.tls import HandshakeFailed, TlsPolicy, is_alert

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress
    from twisted.python.failure import Failure
    from twisted.web.client import URI, HTTPConnectionPool
    from twisted.web.iweb import IAgent, IPolicyForHTTPS

    from twisted_patroni.client.settings import ClientSettings

#: Seconds until the next address of a name is tried, too, and until it is known that all refuse.
_NEXT_ADDRESS = 0.05
_PERHAPS_NONE = "perhaps this port speaks no TLS"


@implementer(IAgentEndpointFactory)
@define(eq=False)
class Reach:
    """Connects for one request.

    :param reactor: the reactor.
    :param policy: whom to trust; ``None`` for who never asks with TLS.
    :param patience: seconds until there must be a connection, its handshake included.
    :ivar connecting: a connection is being made, and so nothing was asked yet.
    """

    reactor: Any
    policy: IPolicyForHTTPS | None
    patience: float
    connecting: bool = field(default=False, init=False)

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """Return what connects to the server of a URI.

        :param uri: the URI.
        """
        endpoint = self._plain(uri.host.decode("ascii"), uri.port)
        if uri.scheme != b"https" or self.policy is None:
            return _Endpoint(self, endpoint, is_secure=False)
        try:
            creator = self.policy.creatorForNetloc(uri.host, uri.port)
        except ValueError:
            raise HandshakeFailed("has a name that no certificate can have") from None
        return _Endpoint(self, wrapClientTLS(creator, endpoint), is_secure=True)

    def _plain(self, host: str, port: int) -> IStreamClientEndpoint:
        # An address is spared the search for more of them, which would hold up a refusal.
        if isIPAddress(host):
            return TCP4ClientEndpoint(self.reactor, host, port, timeout=self.patience)
        if isIPv6Address(host):
            return TCP6ClientEndpoint(self.reactor, host, port, timeout=self.patience)
        return HostnameEndpoint(
            self.reactor, host, port, timeout=self.patience, attemptDelay=_NEXT_ADDRESS
        )


def agent_of(
    reactor: Any, settings: ClientSettings, pool: HTTPConnectionPool | None = None
) -> IAgent:
    """Return an agent that connects as settings say, and is as quick to tell that it cannot.

    :param reactor: the reactor.
    :param settings: whom to trust, and how long it may take.
    :param pool: keeps connections; by default none is kept.
    """
    reach = Reach(reactor, settings.policy, settings.connect_timeout)
    agent: IAgent = Agent.usingEndpointFactory(reactor, reach, pool)
    return agent


async def speaks_tls(reactor: Any, uri: URI, patience: float) -> bool:
    """Tell whether a server answers in TLS, whoever it may be.

    :param reactor: the reactor.
    :param uri: where it is, beginning with ``https``.
    :param patience: seconds until it must have.
    """
    secure = Reach(reactor, TlsPolicy(None, {}, True), patience).endpointForURI(uri)
    try:
        protocol: Any = await secure.connect(Factory.forProtocol(Protocol))
    except HandshakeFailed as error:
        return error.speaks_tls
    except CancelledError:
        raise
    except Exception:  # whatever it speaks, it has not said
        return False
    protocol.transport.abortConnection()
    return True


@implementer(IStreamClientEndpoint)
@define(eq=False)
class _Endpoint:
    """Connects, within the time for it.

    :param reach: for whom.
    :param endpoint: where.
    :param is_secure: the connection is one in TLS.
    """

    reach: Reach
    endpoint: IStreamClientEndpoint
    is_secure: bool

    def __repr__(self) -> str:  # connections show it
        return f"<endpoint of a node, {'with' if self.is_secure else 'without'} TLS>"

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """Return a protocol that can begin at once.

        :param protocolFactory: makes it.
        """
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        reach = self.reach
        reach.connecting = True
        shaking = _Hands(factory)
        going = self.endpoint.connect(shaking if self.is_secure else factory)
        began = reach.reactor.seconds()
        try:
            protocol = await bounded(going, reach.patience, reach.reactor)
        except DeferredTimeout:
            raise ConnectTimeout from None
        if self.is_secure:
            left = reach.patience - (reach.reactor.seconds() - began)
            protocol = await self._shaken(protocol, left)
        reach.connecting = False
        return protocol

    async def _shaken(self, hand: Any, left: float) -> IProtocol:
        try:
            return await bounded(hand.done, max(0.001, left), self.reach.reactor)
        except DeferredTimeout:
            hand.transport.abortConnection()
            text = f"does not finish the TLS handshake: {_PERHAPS_NONE}"
            raise HandshakeFailed(text) from None
        except CancelledError:
            hand.transport.abortConnection()
            raise
        except ConnectionClosed as error:
            text = f"closed the connection within the TLS handshake: {_PERHAPS_NONE}"
            raise HandshakeFailed(text) from error
        except Exception as error:
            failed = HandshakeFailed(reason_of(error))
            failed.speaks_tls = is_alert(error)
            raise failed from error


class _Hands(Factory):
    """Makes protocols that wait for the handshake.

    :param factory: makes those that come after it.
    """

    noisy = False

    def __init__(self, factory: IProtocolFactory) -> None:
        self._factory = factory

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        """Return such a protocol, ``None`` if there is none to come after it."""
        inner = self._factory.buildProtocol(addr)  # type: ignore[arg-type]
        return None if inner is None else _Hand(inner)


@implementer(IHandshakeListener)
class _Hand(Protocol):
    """Waits for the handshake, and then passes everything on.

    :param inner: to whom.
    :ivar done: the inner protocol, when hands are shaken.
    """

    def __init__(self, inner: IProtocol) -> None:
        self._inner = inner
        self.done: Deferred[IProtocol] = Deferred()

    def connectionMade(self) -> None:
        """Let the inner protocol know its transport."""
        assert self.transport is not None
        self._inner.makeConnection(self.transport)

    def handshakeCompleted(self) -> None:
        """Know that requests can be sent."""
        if not self.done.called:
            self.done.callback(self._inner)

    def dataReceived(self, data: bytes) -> None:
        """Pass data on."""
        self._inner.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Know that nothing comes of it, or pass it on."""
        if not self.done.called:
            self.done.errback(reason)
        self._inner.connectionLost(reason)

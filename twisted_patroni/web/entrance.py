"""The ways in: each listener's rules, and the factory that lets connections through."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from attrs import define, field
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_patroni.settings import Serves, VerifyClient
from twisted_patroni.web.phases import Phase
from twisted_patroni.web.wire import header_lines

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress
    from twisted.protocols.tls import TLSMemoryBIOProtocol

    from twisted_patroni.settings import Network
    from twisted_patroni.web.answers import Headers
    from twisted_patroni.web.channel import ApiChannel
    from twisted_patroni.web.site import ApiSite

#: How many bytes may arrive with nothing of HTTP in them; a handshake with a long chain of
#: certificates needs a quarter of that.
MOST_BESIDES = 64 * 1024
EXCESS = "excess"


@implementer(IOpenSSLServerConnectionCreator)
@define(eq=False)
class Door:
    """One listener's rules, which may be replaced at any time: connections to come mind them.

    :param name: where it listens, in the operator's words.
    :param serves: what it answers.
    :param context: what TLS connections begin with; ``None`` for plain HTTP.
    :param verify_client: what is asked of its clients.
    :param proxies: the networks of those who may tell a client's address; ``None`` if nobody tells.
    :param extra_headers: headers added to all answers but bare ones.
    """

    name: str = ""
    serves: Serves = Serves.ALL
    context: SSL.Context | None = None
    verify_client: VerifyClient = VerifyClient.NONE
    proxies: tuple[Network, ...] | None = None
    _extra_headers: Headers = ()
    extra_lines: bytes = field(init=False, default=b"")

    def __attrs_post_init__(self) -> None:
        self.extra_headers = self._extra_headers

    @property
    def extra_headers(self) -> Headers:
        """Headers added to all answers but bare ones."""
        return self._extra_headers

    @extra_headers.setter
    def extra_headers(self, headers: Headers) -> None:
        self._extra_headers = headers
        self.extra_lines = header_lines(headers)

    def is_proxy(self, host: str) -> bool:
        """Tell whether an address may tell where its connections come from.

        :param host: the address.
        """
        address = ip_address(host)
        return any(address in network for network in self.proxies or ())

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol | None) -> SSL.Connection:
        """Return the server's side of a new TLS connection.

        :param protocol: what will drive it.
        """
        assert self.context is not None
        return _TlsConnection(self.context, None)


class _TlsConnection(SSL.Connection):
    """Knows how much has arrived since something of HTTP did.

    :ivar besides: so many bytes.
    """

    besides = 0

    def bio_write(self, buf: Any) -> int:
        self.besides += len(buf)
        return super().bio_write(buf)

    def recv(self, bufsiz: int, flags: int | None = None) -> bytes:
        received = super().recv(bufsiz, flags)
        self.besides = 0
        return received


class _TlsTransport(BufferingTLSTransport):
    """TLS with a client that comes to the point.

    OpenSSL takes what is no HTTP without end, such as TLS 1.3's new keys, and answers each: while
    it works off what one client has sent, none of the others gets its turn.
    """

    wrappedProtocol: ApiChannel

    # What refers to each other would fill the memory until the garbage collector comes.

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.unregisterProducer()
        super().connectionLost(reason)

    def _tlsShutdownFinished(self, reason: Failure | None) -> None:
        super()._tlsShutdownFinished(reason)
        if reason is not None and reason.value is not None:
            reason.value.__traceback__ = None
            reason.cleanFailure()

    def dataReceived(self, data: bytes) -> None:
        connection = self.getHandle()
        super().dataReceived(data)
        if connection.besides > MOST_BESIDES:
            if self.wrappedProtocol.phase is not Phase.HANDSHAKE:  # which is counted at its end
                self.wrappedProtocol.site.handshake_failures[EXCESS] += 1
            self.failVerification(Failure(SSL.Error([("", "", EXCESS)])))


class _Turned(Protocol):
    """A connection that is closed as soon as it is there."""

    def connectionMade(self) -> None:
        self.transport.abortConnection()  # type: ignore[union-attr]


class _Within(Factory):
    """Builds the channels of those who were let in."""

    noisy = False

    def __init__(self, site: ApiSite, door: Door) -> None:
        self._site = site
        self._door = door

    def buildProtocol(self, addr: IAddress | None) -> Any:
        return self._site.channel(self._door, addr)


class Entrance(Factory):
    """The factory of one listener: turns connections away before anything is spent on them.

    :param site: where connections lead.
    :param door: the listener's rules.
    """

    noisy = False

    def __init__(self, site: ApiSite, door: Door) -> None:
        self._site = site
        self._door = door
        self._plain = _Within(site, door)
        self._tls = TLSMemoryBIOFactory(door, False, self._plain, clock=site.reactor)
        self._tls.protocol = _TlsTransport

    def logPrefix(self) -> str:
        """Return what Twisted calls the listener in the log."""
        return "The REST API"

    def doStart(self) -> None:
        """Count the listener."""
        super().doStart()
        self._site.doStart()

    def doStop(self) -> None:
        """Count the listener no more."""
        super().doStop()
        self._site.doStop()

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Serve a connection, or close it.

        :param addr: where it comes from.
        """
        if not self._site.admits(self._door, addr):
            # Not None: a factory that wraps this one (PROXY protocol) would trip over it.
            return _Turned()
        return (self._tls if self._door.context else self._plain).buildProtocol(addr)

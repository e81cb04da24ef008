"""A client of a site without sockets: a transport that behaves like TCP, on an injected clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IAddress, IHalfCloseableDescriptor, ISSLTransport
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from zope.interface import directlyProvides, implementer, providedBy

from twisted_patroni.web.answers import Answer, json_answer
from twisted_patroni.web.entrance import Door, Entrance

if TYPE_CHECKING:
    from twisted.internet.task import Clock

    from twisted_patroni.web.site import ApiRequest, ApiSite

SEND_BUFFER = 64 * 1024


@implementer(IHalfCloseableDescriptor)
class Pipe(StringTransport):
    """A transport that ends the connection a moment after it was asked to, as TCP does.

    :ivar reading: whether the client reads; if not, what is written piles up, and a clean close
        waits for it.
    """

    reading = True
    aborted = False
    write_closed = False

    def __init__(self, clock: Clock, peer: IAddress) -> None:
        super().__init__(peerAddress=peer)
        self.clock = clock
        self.protocol: object = None

    def write(self, data: bytes) -> None:
        """Take bytes, and stop the producer when nobody reads too many of them."""
        super().write(data)
        if not self.reading and len(self.value()) > SEND_BUFFER and self.producer is not None:
            self.producer.pauseProducing()

    def loseConnection(self) -> None:
        """Close once everything is sent."""
        if not self.disconnecting:
            super().loseConnection()
            # The end of TLS needs the client's consent, which ours withholds.
            if self.reading and not ISSLTransport.providedBy(self):
                self._lose(ConnectionDone())

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Accept what every TCP transport accepts."""

    def loseWriteConnection(self) -> None:
        """Close our direction."""
        self.write_closed = True

    def abortConnection(self) -> None:
        """Close whether or not everything is sent."""
        if not self.aborted:
            self.aborted = self.disconnecting = True
            self._lose(ConnectionAborted())

    def unregisterProducer(self) -> None:
        """Forget the producer, if there is one."""
        self.producer = None

    def writeConnectionLost(self, reason: Failure) -> None:
        """Not used: part of an interface."""

    def readConnectionLost(self, reason: Failure) -> None:
        """Not used: part of an interface."""

    def _lose(self, reason: Exception) -> None:
        self.clock.callLater(0, self.lost, reason)

    def lost(self, reason: Exception) -> None:
        """Tell the protocol, once, that the connection is gone."""
        if self.connected:
            self.connected = False
            protocol, self.protocol = self.protocol, None
            protocol.connectionLost(Failure(reason))  # type: ignore[attr-defined]


class Client:
    """One connection to a site.

    :param site: the site.
    :param clock: its clock.
    :param peer: the client's address.
    :param secure: look like a TLS transport.
    :param door: the way it comes, if it is not the site's own.
    """

    def __init__(
        self,
        site: ApiSite,
        clock: Clock,
        *,
        peer: IAddress | None = None,
        secure: bool = False,
        door: Door | None = None,
    ) -> None:
        address = peer or IPv4Address("TCP", "192.0.2.7", 5000)
        self.clock = clock
        self.pipe = Pipe(clock, address)
        if secure:
            directlyProvides(self.pipe, ISSLTransport, providedBy(self.pipe))
        self.protocol: Any = Entrance(site, door or site.door).buildProtocol(address)
        self.pipe.protocol = self.protocol
        self.protocol.makeConnection(self.pipe)

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.protocol.dataReceived(data)

    def received(self) -> bytes:
        """Return what has arrived since the last call."""
        data: bytes = self.pipe.value()
        self.pipe.clear()
        return data

    def ask(self, data: bytes) -> bytes:
        """Send bytes and return what arrives at once."""
        self.send(data)
        return self.received()

    def read_on(self) -> bytes:
        """Begin to read again; return what had piled up."""
        self.pipe.reading = True
        data = self.received()
        if self.pipe.producer is not None:
            self.pipe.producer.resumeProducing()
        return data

    def stop_reading(self) -> None:
        """Read no more, with more on the way than the transport holds."""
        self.pipe.reading = False
        assert self.pipe.producer is not None
        self.pipe.producer.pauseProducing()

    def vanish(self) -> None:
        """Close the connection from the client's side."""
        self.pipe.lost(ConnectionLost())

    def say_no_more(self) -> None:
        """Close the client's direction only."""
        self.protocol.readConnectionLost()

    @property
    def closed(self) -> bool:
        """Whether the connection is gone."""
        return not self.pipe.connected


class Echo(Resource):
    """Answers with what it was asked, or as the test says.

    :ivar reply: the answer to give instead.
    :ivar hold: keep requests waiting in :attr:`held`.
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.reply: Answer | None = None
        self.hold = False
        self.held: list[ApiRequest] = []
        self.seen: list[ApiRequest] = []
        self.bodies: list[bytes] = []

    def render(self, request: ApiRequest) -> int:
        """Answer, or wait."""
        self.seen.append(request)
        self.bodies.append(request.content.read())
        if self.hold:
            self.held.append(request)
        else:
            request.answer(self.reply or json_answer({"path": request.target_path}))
        return NOT_DONE_YET

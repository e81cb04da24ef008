"""A connection that is given to somebody who writes to it for as long as both sides like."""

from __future__ import annotations

import math
import socket
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.protocol import connectionDone

from twisted_patroni.web.identity import IdentifiedChannel
from twisted_patroni.web.phases import Phase

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IProtocol
    from twisted.python.failure import Failure

    from twisted_patroni.web.request import ApiRequest

#: Bytes that the kernel keeps for a guest's client; left to itself it would keep megabytes of what
#: is not read, and nobody would notice for long that it is not.
SEND_BUFFER = 64 * 1024
#: Seconds that a client has, when the node ends a stream, to take what was written last.
FAREWELL = 0.25


class Guest(Protocol):
    """Who has been given a connection: hears all that arrives, and ends it by himself."""

    def dataReceived(self, data: bytes) -> None:
        """Take what has arrived."""

    def connectionLost(self, reason: Failure) -> None:
        """Know that the connection is gone."""

    def retire(self) -> None:
        """Say goodbye and close."""


class HostingChannel(IdentifiedChannel):
    """A connection that can have a guest, or a request that is answered late on purpose.

    :ivar phase: what the connection is waiting for.
    :ivar deadline: when that phase ends, on the site's clock.
    :ivar guest: who has been given the connection, if it was given away.
    :ivar farewell: ends a stream, or a request that waits, with what there is to say.
    """

    requests: list[ApiRequest]
    _networkProducer: Any
    phase = Phase.FIRST_BYTE
    deadline = math.inf
    guest: Guest | None = None
    farewell: Callable[[], None] | None = None

    def enter(self, phase: Phase) -> None:
        """Begin a phase and its deadline.

        :param phase: what is waited for from now on.
        """
        self.phase = phase
        self.deadline = self.site.reactor.seconds() + self.site.allowance[phase]

    def wait(self, farewell: Callable[[], None], phase: Phase = Phase.STREAM) -> None:
        """Count the request no longer as one in flight: it waits for something to happen.

        :param farewell: has it answered at once, with what there is.
        :param phase: what the connection is from now on.
        """
        self._answered()
        self.farewell = farewell
        until = self.deadline  # there is one if the client has closed its side already
        self.enter(phase)
        self.deadline = min(self.deadline, until)

    def hand_over(self, guest: Guest, phase: Phase) -> None:
        """Give the connection away; the request that asked for that is forgotten.

        :param guest: who gets it.
        :param phase: what the connection is from now on.
        """
        self.requests.clear()
        self.wait(guest.retire, phase)
        self.guest = guest
        _keep_little(self.transport)

    def hear_early(self) -> None:
        """Let the guest hear what has arrived before he was there."""
        early, self._dataBuffer = b"".join(self._dataBuffer), []
        self._networkProducer.resumeProducing()  # it may have been too much
        if early:
            self.dataReceived(early)

    def part(self) -> None:
        """End the stream at once; what was written last has a moment to arrive."""
        self.persistent = False
        if self.farewell is not None:
            self.farewell()
        if self.phase is Phase.CLOSE:
            self.deadline = min(self.deadline, self.site.reactor.seconds() + FAREWELL)
            if self.isSecure():
                # A clean end of TLS would need the client's consent.
                getattr(self.transport, "transport", self.transport).loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell the guest."""
        guest, self.guest, self.farewell = self.guest, None, None
        super().connectionLost(reason)
        if guest is not None:
            guest.connectionLost(reason)

    def _protocolUpgradeForWebsockets(self, protocol: IProtocol) -> None:
        """Let Twisted's WebSocket write here; it hears what the guest passes on."""
        protocol.makeConnection(self)

    def _answered(self) -> None:
        raise NotImplementedError


def _keep_little(transport: Any) -> None:
    """Bound what the kernel keeps, whatever the socket is wrapped in."""
    while transport is not None:
        found = getattr(transport, "socket", None)
        if isinstance(found, socket.socket):
            found.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        transport = getattr(transport, "transport", None)

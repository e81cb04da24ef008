"""Clients that wear a server down: they hold connections, send slowly or never read, over TLS.

Run as a child process, ``python -m benchmarks.hostile``: it reads an :class:`Attack` as JSON from
its standard input and keeps it up until it is ended. Each second it prints, as a line of JSON, how
many clients of each kind are there.
"""

from __future__ import annotations

import base64
import json
import os
import random
import sys
from typing import TYPE_CHECKING, Any

from attrs import asdict, define, field, frozen
from OpenSSL import SSL
from twisted.internet.interfaces import (
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IPushProducer,
)
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.internet.task import LoopingCall
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from benchmarks.clients import HOST

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress, IConnector, IDelayedCall
    from twisted.protocols.tls import TLSMemoryBIOProtocol
    from twisted.python.failure import Failure

#: Seconds between two bytes of a slow client.
DRIP = 1.0
#: Seconds until a client that was turned away or dropped comes again.
_AGAIN = 0.1
_chance = random.Random(1)
#: The attackers stand for other machines: they must not take the server's processor time.
_NICENESS = 10
_QUESTION = b"GET /primary HTTP/1.1\r\nHost: hostile\r\n\r\n"
#: How a ClientHello of TLS begins, of which there is not more.
_HALF_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(20)


@frozen
class Attack:
    """Who attacks, and with what.

    :param port: the server's port.
    :param certificate: a client's certificate, as a file, which the server trusts.
    :param key: its key, as a file.
    :param login: user and password that the server knows.
    :param arriving: seconds in which all of them connect.
    :param asks_once: those who are idle have had one request answered before.
    :param idle: clients that have done the TLS handshake and are silent.
    :param half_open: clients that do not finish the TLS handshake, or do not begin it.
    :param slow_heads: clients that send a byte of a header each second.
    :param slow_bodies: clients with all rights that send a byte of a body each second.
    :param deaf: clients that send requests without end and never read.
    """

    port: int
    certificate: str
    key: str
    login: tuple[str, str]
    arriving: float
    asks_once: bool
    idle: int
    half_open: int
    slow_heads: int
    slow_bodies: int
    deaf: int

    def sizes(self) -> dict[str, int]:
        """Return how many there are of each kind."""
        return {kind: getattr(self, kind) for kind in KINDS}

    def dumps(self) -> str:
        """Return what the child process reads."""
        return json.dumps(asdict(self))


@implementer(IHandshakeListener)
class Hostile(Protocol):
    """One connection of a hostile client."""

    group: Group
    attack: Attack
    present = False

    def handshakeCompleted(self) -> None:
        """Begin, now that TLS is up."""

    def arrived(self) -> None:
        """Count as one that is there."""
        if not self.present:
            self.present = True
            self.group.present += 1

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Count no more."""
        if self.present:
            self.group.present -= 1

    def send(self, data: bytes) -> None:
        """Send something."""
        assert self.transport is not None
        self.transport.write(data)


class Idle(Hostile):
    """Asks at most once, and is silent."""

    def handshakeCompleted(self) -> None:
        """Ask, if idle connections are those that have asked."""
        if self.attack.asks_once:
            self.send(_QUESTION)
        else:
            self.arrived()

    def dataReceived(self, data: bytes) -> None:
        """Count from the answer on."""
        self.arrived()


class HalfOpen(Hostile):
    """Sends a piece of the first message, or nothing."""

    def connectionMade(self) -> None:
        """Let every second one say something."""
        self.arrived()
        if self.group.connections % 2:
            self.send(_HALF_HELLO)


class Slow(Hostile):
    """Sends a byte each second, of something that does not end."""

    _dripping: IDelayedCall | None = None

    def beginning(self) -> bytes:
        """Return what is sent at once."""
        raise NotImplementedError

    def handshakeCompleted(self) -> None:
        """Send the beginning."""
        self.arrived()
        self.send(self.beginning())
        self._wait()

    def _wait(self) -> None:
        self._dripping = self.group.reactor.callLater(DRIP, self._drip)

    def _drip(self) -> None:
        self.send(b"x")
        self._wait()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Send no more."""
        super().connectionLost(reason)
        if self._dripping is not None:
            self._dripping.cancel()


class SlowHead(Slow):
    """Never finishes a header."""

    def beginning(self) -> bytes:
        """Return a head up to a header's value."""
        return _QUESTION.removesuffix(b"\r\n") + b"X-Slow: "


class SlowBody(Slow):
    """Never finishes the body of a request that it may make."""

    def beginning(self) -> bytes:
        """Return a head that announces a body."""
        login = base64.b64encode(":".join(self.attack.login).encode())
        return (
            b"POST /switchover HTTP/1.1\r\nHost: hostile\r\nContent-Length: 1000\r\n"
            b"Authorization: Basic " + login + b"\r\n\r\n"
        )


@implementer(IPushProducer)
class Deaf(Hostile):
    """Sends requests as fast as they are taken, and reads no answer."""

    _willing = False

    def handshakeCompleted(self) -> None:
        """Stop reading, and begin to send."""
        transport: Any = self.transport
        self.arrived()
        transport.pauseProducing()
        transport.registerProducer(self, True)
        self.resumeProducing()

    def resumeProducing(self) -> None:
        """Send until nobody takes it."""
        self._willing = True
        while self._willing and self.present:
            self.send(100 * _QUESTION)

    def pauseProducing(self) -> None:
        """Send no more for now."""
        self._willing = False

    def stopProducing(self) -> None:
        """Send no more."""
        self._willing = False


@implementer(IOpenSSLClientConnectionCreator)
class Credulous:
    """Begins TLS with whomever.

    :param shown: the files of the certificate to show and of its key, if there is one.
    """

    def __init__(self, shown: tuple[str, str] | None = None) -> None:
        self._context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        if shown is not None:
            self._context.use_certificate_chain_file(shown[0])
            self._context.use_privatekey_file(shown[1])

    def clientConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Return the client's side of a new connection."""
        return SSL.Connection(self._context, None)


#: Each kind of client, by its name in :class:`Attack`.
KINDS: dict[str, type[Hostile]] = {
    "idle": Idle,
    "half_open": HalfOpen,
    "slow_heads": SlowHead,
    "slow_bodies": SlowBody,
    "deaf": Deaf,
}


@define(eq=False)
class Group(ClientFactory):
    """All clients of one kind: each comes again whenever its connection ends.

    :param reactor: the reactor.
    :param attack: the attack.
    :param kind: the kind's name.
    :param source: the address they come from.
    :ivar present: how many are there.
    :ivar connections: how many connections they have made.
    """

    noisy = False

    reactor: Any
    attack: Attack
    kind: str
    source: str
    present: int = field(default=0, init=False)
    connections: int = field(default=0, init=False)
    _factory: Any = field(init=False)

    def begin(self) -> None:
        """Let them arrive, one after the other."""
        self._factory = self
        if KINDS[self.kind] is not HalfOpen:
            shown = (self.attack.certificate, self.attack.key)
            creator = Credulous(shown if KINDS[self.kind] is SlowBody else None)
            self._factory = TLSMemoryBIOFactory(creator, True, self)
        size = self.attack.sizes()[self.kind]
        for _ in range(size):
            # Independent of each other, as clients on many machines are: at equal distances they
            # would go on in step, and each byte of a hundred of them would arrive at once.
            self.reactor.callLater(self.attack.arriving * _chance.random(), self._connect)

    def _connect(self) -> None:
        self.reactor.connectTCP(
            HOST, self.attack.port, self._factory, timeout=60, bindAddress=(self.source, 0)
        )

    def buildProtocol(self, addr: IAddress | None) -> Hostile:
        """Return a client for a connection that was made."""
        client = KINDS[self.kind]()
        client.factory, client.group, client.attack = self, self, self.attack
        self.connections += 1
        return client

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """Come again."""
        self._come_again()

    def clientConnectionLost(self, connector: IConnector, reason: Failure) -> None:
        """Come again."""
        self._come_again()

    def _come_again(self) -> None:
        self.reactor.callLater(2.0 * _AGAIN * _chance.random(), self._connect)


def _tell(groups: list[Group]) -> None:
    print(json.dumps({group.kind: group.present for group in groups}), flush=True)


def main() -> None:
    """Attack until the process is ended."""
    from twisted.internet import reactor

    given = json.loads(sys.stdin.readline())
    attack = Attack(**{**given, "login": tuple(given["login"])})
    os.nice(_NICENESS)
    groups = [
        Group(reactor, attack, kind, f"127.0.1.{number}") for number, kind in enumerate(KINDS, 1)
    ]
    for group in groups:
        group.begin()
    telling = LoopingCall(_tell, groups)
    telling.start(1.0).addErrback(lambda failure: failure.printTraceback())
    reactor.run()


if __name__ == "__main__":
    main()

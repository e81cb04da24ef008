"""A node on a real socket that answers as a test wants, and who asks it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.trial.unittest import TestCase

from twisted_patroni.client.pool import Pool
from twisted_patroni.client.settings import ClientSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from twisted.python.failure import Failure

    from twisted_patroni.client.errors import ClientError

HOST = "127.0.0.1"
GOOD = (
    b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{"a": "b"}\r\n'
)


class Connection(Protocol):
    """A connection to the node of a test."""

    def __init__(self, node: Server) -> None:
        self.node = node
        self.received = b""

    def connectionMade(self) -> None:
        """Count it."""
        self.node.connections.append(self)

    def dataReceived(self, data: bytes) -> None:
        """Answer each request that is there."""
        self.received += data
        while b"\r\n\r\n" in self.received:
            head, _, self.received = self.received.partition(b"\r\n\r\n")
            self.node.heads.append(head.decode())
            self.node.answer(self)

    def send(self, data: bytes, *, close: bool = False) -> None:
        """Write."""
        assert self.transport is not None
        self.transport.write(data)
        if close:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget it."""
        self.node.connections.remove(self)
        if not self.node.connections and self.node.empty is not None:
            empty, self.node.empty = self.node.empty, None
            empty.callback(None)


class Server(Factory):
    """A node that answers as the test wants.

    :ivar answer: called with a connection for each request.
    """

    def __init__(self) -> None:
        self.connections: list[Connection] = []
        self.heads: list[str] = []
        self.empty: Deferred[None] | None = None
        self.protocol_of: Callable[[], Protocol] = lambda: Connection(self)
        self.answer: Callable[[Connection], object] = lambda connection: connection.send(GOOD)

    def buildProtocol(self, addr: object) -> Protocol:
        """Take a connection."""
        return self.protocol_of()

    def left(self) -> Deferred[None]:
        """Return what fires when no connection is left."""
        self.empty = Deferred()
        if not self.connections:
            self.empty.callback(None)
        return self.empty


class ServerCase(TestCase):
    """A node, and pools that ask it."""

    timeout = 60

    def setUp(self) -> None:
        """Start the node."""
        self.node = Server()
        port = reactor.listenTCP(0, self.node, interface=HOST)  # type: ignore[arg-type]
        address = port.getHost()
        assert isinstance(address, IPv4Address)
        self.url = f"http://{HOST}:{address.port}"

        async def stop() -> None:
            await maybeDeferred(port.stopListening)
            for each in list(self.node.connections):
                assert each.transport is not None
                each.transport.abortConnection()  # type: ignore[attr-defined]
            await self.node.left()

        self.addCleanup(lambda: Deferred.fromCoroutine(stop()))

    def pool(self, url: str | None = None, **settings: Any) -> Pool:
        """Return a pool that is closed at the end."""
        settings = {"timeout": 20.0, "connections": 2, **settings}
        pool = Pool(reactor, url or self.url, ClientSettings(**settings))
        self.addCleanup(pool.close)
        return pool

    async def fails(
        self, asking: Awaitable[Any], error: type[ClientError], *words: str
    ) -> ClientError:
        """Assert that a request fails so, with these words in one line, and return the error."""

        async def asked() -> Any:
            return await asking

        found: ClientError = await self.assertFailure(Deferred.fromCoroutine(asked()), error)
        self.assertIs(type(found), error)
        for word in words:
            self.assertIn(word, str(found))
        self.assertNotIn("\n", str(found))
        return found

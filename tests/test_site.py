"""The site: how many connections, what is counted, and how it ends."""

from __future__ import annotations

import resource as rlimit
from typing import TYPE_CHECKING

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.wire_client import Client, Echo
from twisted_patroni.settings import Limits
from twisted_patroni.web.answers import text_answer
from twisted_patroni.web.connections import affordable_connections
from twisted_patroni.web.site import ApiSite

if TYPE_CHECKING:
    from twisted.python.failure import Failure

GET = b"GET / HTTP/1.1\r\n\r\n"


class ConnectionTests(SynchronousTestCase):
    """Connections are counted and limited."""

    def setUp(self) -> None:
        """Make a site for three clients."""
        self.clock = Clock()
        self.root = Echo()
        self.site = ApiSite(self.root, self.clock, Limits(connections=3, connections_reserved=0))

    def test_limit(self) -> None:
        """One connection too many is closed at once; a free place is free again."""
        self.root.hold = True
        clients = [Client(self.site, self.clock) for _ in range(3)]
        for client in clients:
            client.ask(GET)
        self.assertTrue(Client(self.site, self.clock).pipe.aborted)
        connections = self.site.connections
        self.assertEqual((len(connections), connections.refused["total"]), (3, 1))
        clients[0].vanish()
        self.root.hold = False
        self.assertNotEqual(Client(self.site, self.clock).ask(GET), b"")
        self.assertEqual((len(self.site.connections), self.site.connections.accepted), (3, 4))

    def test_room(self) -> None:
        """The connection that has waited longest for its client makes room for a new one."""
        self.root.hold = True
        busy, *waiting = (Client(self.site, self.clock) for _ in range(3))
        busy.ask(GET)
        self.root.hold = False
        waiting[1].ask(b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n")
        for each in waiting:
            self.assertFalse(each.pipe.aborted)
            self.assertNotEqual(Client(self.site, self.clock).ask(GET), b"")
            self.assertTrue(each.pipe.aborted)
        self.clock.advance(0)
        self.assertFalse(busy.pipe.aborted)
        connections = self.site.connections
        self.assertEqual((len(connections), connections.refused["total"]), (3, 2))

    def test_descriptors(self) -> None:
        """Whatever is configured, descriptors are left for other things."""
        for wanted, descriptors, affordable in [
            (10000, 1024, 768),
            (10000, 64, 32),
            (10000, 20000, 10000),
            (100, 1024, 100),
            (10000, -1, 10000),
        ]:
            self.assertEqual(affordable_connections(wanted, descriptors), affordable)
        soft = rlimit.getrlimit(rlimit.RLIMIT_NOFILE)[0]
        site = ApiSite(self.root, self.clock, Limits(connections=10**9))
        self.assertEqual(site.connections.limit, affordable_connections(10**9, soft))

    def test_in_flight(self) -> None:
        """Requests that wait for their answers are in flight."""
        self.root.hold = True
        clients = [Client(self.site, self.clock) for _ in range(3)]
        for client in clients[:2]:
            client.send(GET)
        self.assertEqual(self.site.in_flight, 2)
        self.root.held.pop().answer(text_answer(200, "x"))
        self.assertEqual(self.site.in_flight, 1)
        clients[0].vanish()
        self.assertEqual(self.site.in_flight, 0)

    def test_no_timer_left(self) -> None:
        """There is no timer without a connection, with and without a port."""
        client = Client(self.site, self.clock)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        client.vanish()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.site.doStart()
        client = Client(self.site, self.clock)
        client.vanish()
        self.clock.pump([1, 1])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        Client(self.site, self.clock).vanish()
        self.site.doStop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_crowd(self) -> None:
        """It is told, once, when most of a crowd has left, and never of a few."""
        told: list[int] = []
        site = ApiSite(self.root, self.clock)
        site.doStart()
        self.addCleanup(site.doStop)
        site.on_crowd_left = lambda: told.append(len(site.connections))
        for size, stay, expected in ((400, 0, 0), (600, 200, 0), (600, 100, 1), (600, 0, 1)):
            told.clear()
            clients = [Client(site, self.clock) for _ in range(size)]
            for client in clients:
                client.ask(GET)
            self.clock.pump([1, 1])
            for client in clients[stay:]:
                client.vanish()
            self.clock.pump([1] * 5)
            self.assertEqual(len(told), expected, (size, stay))
            for client in clients[:stay]:
                client.vanish()
            self.clock.pump([1] * 5)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_watched_without_port(self) -> None:
        """Connections that outlive their port still have deadlines."""
        self.site.doStart()
        client = Client(self.site, self.clock)
        self.site.doStop()
        self.clock.pump([1] * 6)
        self.assertTrue(client.closed)

    def test_one_bad_transport(self) -> None:
        """A connection that cannot be closed does not save the others."""
        bad, good = Client(self.site, self.clock), Client(self.site, self.clock)
        bad.pipe.loseConnection = lambda: 1 / 0  # type: ignore[method-assign,assignment]
        self.clock.pump([1] * 6)
        self.assertEqual((bad.closed, good.closed), (False, True))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.clock.pump([1] * 11)
        self.assertTrue(bad.closed)


class ShutTests(SynchronousTestCase):
    """The end comes in time, whatever clients do."""

    def setUp(self) -> None:
        """Make a site that keeps requests waiting."""
        self.clock = Clock()
        self.root = Echo()
        self.root.hold = True
        self.site = ApiSite(self.root, self.clock)

    def client(self, data: bytes = b"", secure: bool = False) -> Client:
        """Return a client that has sent something."""
        client = Client(self.site, self.clock, secure=secure)
        client.send(data)
        return client

    def test_nobody(self) -> None:
        """Without connections the end comes at once, every time."""
        self.successResultOf(self.site.shut(2))
        self.successResultOf(self.site.shut(2))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_idle(self) -> None:
        """What has no request in flight is closed at once."""
        half = b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nx"
        clients = [self.client(data) for data in (b"", b"GE", half)]
        clients += [self.client(b"", secure=True), self.client(b"GE", secure=True)]
        done = self.site.shut(2)
        self.clock.advance(0)
        self.assertTrue(all(client.closed for client in clients))
        self.successResultOf(done)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_in_flight(self) -> None:
        """A request in flight may be answered; that ends its connection."""
        client = self.client(GET + GET)
        done = self.site.shut(2)
        self.clock.advance(1.5)
        self.assertNoResult(done)
        self.root.held.pop().answer(text_answer(200, "made it"))
        reply = client.received()
        self.assertIn(b"\r\nConnection: close\r\n", reply)
        self.assertTrue(reply.endswith(b"made it"))
        self.clock.advance(0)
        self.successResultOf(done)
        self.assertEqual(len(self.root.seen), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_grace(self) -> None:
        """What is left after the grace is cut off."""
        waiting = self.client(GET)
        gone = self.root.held[0].notifyFinish()
        stubborn = self.client()
        stubborn.pipe.reading = False
        first, second = self.site.shut(2), self.site.shut(5)
        self.clock.advance(1.9)
        self.assertFalse(waiting.closed or stubborn.closed)
        self.clock.advance(0.1)
        self.assertTrue(waiting.pipe.aborted and stubborn.pipe.aborted)
        self.failureResultOf(gone)
        self.successResultOf(first)
        self.successResultOf(second)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_immortal(self) -> None:
        """A connection whose end is never reported does not hold up the end."""
        self.client(GET).pipe.abortConnection = lambda: 1 / 0  # type: ignore[method-assign,assignment]
        self.client(GET).pipe.abortConnection = lambda: None  # type: ignore[method-assign]
        done = self.site.shut(2)
        self.clock.advance(2)
        self.successResultOf(done)
        self.flushLoggedErrors(ZeroDivisionError)

    def test_newcomers(self) -> None:
        """Who comes after that is turned away."""
        waiting = self.client(GET)
        done = self.site.shut(2)
        self.assertTrue(Client(self.site, self.clock).pipe.aborted)
        waiting.vanish()
        self.successResultOf(done)
        self.assertTrue(Client(self.site, self.clock).pipe.aborted)


class Socket(Protocol):
    """A client with a socket that collects what it gets."""

    def __init__(self) -> None:
        self.data = b""
        self.lost: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        """Collect."""
        self.data += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Hand over what was collected."""
        self.lost.callback(self.data)


class SocketTests(TestCase):
    """It holds on real sockets, too."""

    timeout = 20

    async def listen(self, limits: Limits) -> TCP4ClientEndpoint:
        """Serve on loopback and return where."""
        self.site = ApiSite(Echo(), reactor, limits)
        port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(self.site)
        self.addCleanup(lambda: self.site.shut(0))
        self.addCleanup(port.stopListening)
        return TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)

    async def test_refused_upload(self) -> None:
        """A client in the middle of an upload reads why it is refused, and the end."""
        endpoint = await self.listen(Limits(linger=10))
        client = await connectProtocol(endpoint, Socket())
        assert client.transport is not None
        client.transport.write(
            b"POST / HTTP/1.1\r\nContent-Length: 8000000\r\n\r\n" + b"x" * 8000000
        )
        reply = await client.lost
        self.assertTrue(reply.startswith(b"HTTP/1.1 413 "), reply[:80])
        self.assertTrue(reply.endswith(b"</html>\n"))

    async def test_shut(self) -> None:
        """Idle clients see the end as soon as the site is shut."""
        endpoint = await self.listen(Limits())
        silent = await connectProtocol(endpoint, Socket())
        idle = await connectProtocol(endpoint, Socket())
        assert idle.transport is not None
        answered: Deferred[None] = Deferred()
        self.site.on_answered = lambda *_: answered.callback(None)
        idle.transport.write(GET)
        await answered
        self.assertEqual(len(self.site.connections), 2)
        await self.site.shut(10)
        self.assertEqual(len(self.site.connections), 0)
        self.assertEqual(await silent.lost, b"")
        self.assertTrue((await idle.lost).startswith(b"HTTP/1.1 200 OK\r\n"))

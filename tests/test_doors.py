"""The listeners on real sockets: opened before they are answered, changed, and closed."""

from __future__ import annotations

import socket
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, clientFromString, connectProtocol
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.testing import MemoryReactor
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.scratch import free_port, scratch_directory
from tests.wire_client import Echo
from twisted_patroni.doors import Doors, parse_endpoint
from twisted_patroni.settings import (
    DoorSettings,
    HostPort,
    Serves,
    Settings,
    SettingsError,
    VerifyClient,
)
from twisted_patroni.web.site import ApiSite

if TYPE_CHECKING:
    from twisted.internet.interfaces import IStreamClientEndpoint
    from twisted.python.failure import Failure

GET = b"GET /x HTTP/1.0\r\n\r\n"
HTTP = Settings(HostPort("127.0.0.1", 8008), "127.0.0.1:8008", "127.0.0.1:8008")


class Asking(Protocol):
    """Sends bytes and keeps what comes back until the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._received = b""
        self.ended: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        """Send."""
        assert self.transport is not None
        self.transport.write(self._data)

    def dataReceived(self, data: bytes) -> None:
        """Collect."""
        self._received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Report."""
        self.ended.callback(self._received)


class DoorsTests(TestCase):
    """Further listeners."""

    timeout = 20

    def setUp(self) -> None:
        """Make the doors of a site."""
        self.root = Echo()
        self.site = ApiSite(self.root, reactor)
        self.doors = Doors(reactor, self.site)
        self.addCleanup(self.end)

    async def end(self) -> None:
        """Close everything."""
        await self.doors.close()
        await self.site.shut(0)

    async def apply(self, *wanted: DoorSettings) -> None:
        """Let these further listeners be the wanted ones."""
        await self.doors.apply(evolve(HTTP, doors=wanted), {})

    def tcp(self, port: int, **rules: Any) -> DoorSettings:
        """Return the settings of a plain listener on a port of loopback."""
        return self.door(f"tcp:{port}:interface=127.0.0.1", **rules)

    def door(self, endpoint: str, **rules: Any) -> DoorSettings:
        """Return the settings of a plain listener."""
        settings = DoorSettings(endpoint, Serves.ALL, tls=False, verify_client=VerifyClient.NONE)
        return evolve(settings, **rules)

    async def ask(self, port: int, data: bytes = GET) -> bytes:
        """Return what a port answers."""
        return await self.talk(HostnameEndpoint(reactor, b"127.0.0.1", port), data)

    async def talk(self, endpoint: IStreamClientEndpoint, data: bytes = GET) -> bytes:
        """Return what an endpoint answers."""
        asking: Asking = await connectProtocol(endpoint, Asking(data))
        return await asking.ended

    async def assertServed(self, port: int) -> None:
        """Fail unless a port answers."""
        self.assertIn(b" 200 OK", await self.ask(port))

    async def assertRefused(self, port: int) -> None:
        """Fail unless nobody listens on a port."""
        with self.assertRaises(ConnectError):
            await self.ask(port)

    async def test_answered_from_the_start_on(self) -> None:
        """Who connects early is answered as soon as the node answers at all."""
        port = free_port()
        await self.apply(self.tcp(port))
        early = Deferred.fromCoroutine(self.ask(port))
        with socket.create_connection(("127.0.0.1", port)):
            self.assertFalse(early.called)
        self.doors.answer()
        self.assertIn(b" 200 OK", await early)

    async def test_changes(self) -> None:
        """What is wanted no more is closed, what is new is opened, and what stays is left."""
        one, two, three = free_port(), free_port(), free_port()
        self.doors.answer()
        await self.apply(self.tcp(one), self.tcp(two))
        with socket.create_connection(("127.0.0.1", one)) as kept:
            await self.apply(self.tcp(one, serves=Serves.HEALTH), self.tcp(three))
            await self.assertServed(one)
            await self.assertServed(three)
            await self.assertRefused(two)
            kept.sendall(GET)
            received = await deferToThread(kept.recv, 1000)
        self.assertIn(b" 200 OK", received)

    async def test_rules_from_the_beginning(self) -> None:
        """A listener has its rules before it can have a connection, also on a reload."""
        rules: list[Serves] = []

        class Noting(MemoryReactor):
            def listenTCP(self, port: int, factory: Any, *args: Any, **options: Any) -> Any:
                rules.append(factory.buildProtocol(None).door.serves)
                return super().listenTCP(port, factory, *args, **options)

        doors = Doors(Noting(), self.site)
        doors.answer()
        wanted = (self.tcp(1, serves=Serves.HEALTH), self.tcp(2, serves=Serves.READ))
        await doors.apply(evolve(HTTP, doors=wanted), {})
        self.assertEqual(rules, [Serves.HEALTH, Serves.READ])

    async def test_rules_change_at_once(self) -> None:
        """Rules that have changed count for requests of connections that exist, too."""
        port = free_port()
        self.doors.answer()
        self.root.hold = True
        await self.apply(self.tcp(port))
        waiting = Deferred.fromCoroutine(self.ask(port))
        while not self.root.held:
            await _turn()
        [request] = self.root.held
        await self.apply(self.tcp(port, serves=Serves.HEALTH))
        self.assertIs(request.channel.door.serves, Serves.HEALTH)
        await self.site.shut(0)
        self.assertEqual(await waiting, b"")

    async def test_busy(self) -> None:
        """A port that is taken is named, and nothing has changed."""
        one, two = free_port(), free_port()
        self.doors.answer()
        await self.apply(self.tcp(one))
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with self.assertRaises(SettingsError) as caught:
                await self.apply(self.tcp(two), self.tcp(port))
        self.assertEqual(
            str(caught.exception),
            f"restapi.endpoints: cannot listen on 'tcp:{port}:interface=127.0.0.1'"
            " (Address already in use)",
        )
        await self.assertServed(one)
        await self.assertRefused(two)

    def test_not_understood(self) -> None:
        """A string that Twisted does not understand is quoted."""
        for text in ("tcp:", "tcp:x:y:z", "nonsense", "systemd:domain=INET:name=nothing", ""):
            with self.assertRaises(SettingsError) as caught:
                parse_endpoint(reactor, self.door(text))
            self.assertIn(f"Twisted does not understand {text!r} (", str(caught.exception))
            self.assertNotIn("\n", str(caught.exception))

    async def test_unix(self) -> None:
        """A Unix socket is served, and removed at the end."""
        path = scratch_directory(self) / "api.sock"
        self.doors.answer()
        await self.apply(self.door(f"unix:{path}"))
        answer = await self.talk(clientFromString(reactor, f"unix:{path}"))
        self.assertIn(b" 200 OK", answer)
        self.assertEqual(self.root.seen[0].client_host, "")
        await self.doors.close()
        self.assertFalse(path.exists())

    async def test_proxy(self) -> None:
        """A proxy tells the client's address."""
        port = free_port()
        self.doors.answer()
        await self.apply(
            self.door(
                f"haproxy:tcp:{port}:interface=127.0.0.1", proxies=(ip_network("127.0.0.0/8"),)
            )
        )
        answer = await self.ask(port, b"PROXY TCP4 192.0.2.7 192.0.2.1 5000 80\r\n" + GET)
        self.assertIn(b" 200 OK", answer)
        self.assertEqual(self.root.seen[0].client_host, "192.0.2.7")
        self.assertEqual(await self.ask(port), b"")

    async def test_unknown_proxy(self) -> None:
        """Nobody else is believed: the connection is closed."""
        port = free_port()
        self.doors.answer()
        await self.apply(
            self.door(
                f"haproxy:tcp:{port}:interface=127.0.0.1", proxies=(ip_network("10.0.0.0/8"),)
            )
        )
        line = b"PROXY TCP4 192.0.2.7 192.0.2.1 5000 80\r\n"
        self.assertEqual(await self.ask(port, line + GET), b"")
        self.assertEqual(self.root.seen, [])


def _turn() -> Deferred[None]:
    turn: Deferred[None] = Deferred()
    reactor.callLater(0.01, turn.callback, None)
    return turn

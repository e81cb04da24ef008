"""The same attacks over real sockets, for what a transport in memory cannot show."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    connectProtocol,
    wrapClientTLS,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import optionsForClientTLS
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests import attack_lines, attacks
from tests.attacks import BODY, CHUNKED, GOOD_GET, GOOD_PATCH, LIMITS, SMUGGLED, patch
from tests.certificates import Authority
from tests.doubles import VERSION, FakeEngine, FakeLink
from tests.memory_api import inline_lanes
from tests.scratch import scratch_directory
from tests.strict_answers import read_answers
from tests.wirecase import codes, cut
from twisted_patroni.looks import Looks
from twisted_patroni.restapi import RestApi
from twisted_patroni.settings import Settings, TlsSettings, VerifyClient
from twisted_patroni.tls import load
from twisted_patroni.web.entrance import Door, Entrance

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from twisted.python.failure import Failure

    from tests.attacks import Attack

_AT_A_TIME = 40
_MEGABYTES = b" " * 8_000_000


class Asker(Protocol):
    """A client that keeps what it gets until the server has ended the connection."""

    def __init__(self) -> None:
        self.data = b""
        self.ended: Deferred[object] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        """Keep it."""
        self.data += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Report why."""
        self.ended.callback(reason.value)


class WireSocketTests(TestCase):
    """An API on the real reactor."""

    timeout = 30

    def setUp(self) -> None:
        """Open the API."""
        self.engine = FakeEngine()
        settings = Settings.of({"listen": "127.0.0.1:8008", "limits": LIMITS}, VERSION)
        self.api = RestApi(
            reactor,
            self.engine,
            Looks(reactor, self.engine.look),
            inline_lanes(),
            settings,
            make_link=lambda *_: FakeLink(),
        )
        self.addCleanup(self.api.close)
        self.successResultOf(self.api.apply(settings, None))
        listener = socket.create_server(("127.0.0.1", 0), backlog=500)
        self.server = TCP4ClientEndpoint(reactor, "127.0.0.1", listener.getsockname()[1])
        listener.setblocking(False)
        self.api.open(listener)

    async def connect(self) -> Asker:
        """Return a connected client."""
        asker: Asker = await connectProtocol(self.server, Asker())
        return asker

    async def many(self, attempts: Iterable[Awaitable[None]]) -> None:
        """Wait for attempts, so many of them at a time that no backlog overflows."""
        waiting = list(attempts)
        while waiting:
            some, waiting = waiting[:_AT_A_TIME], waiting[_AT_A_TIME:]
            await gatherResults([Deferred.fromCoroutine(each) for each in some])  # type: ignore[arg-type]

    async def all_gone(self) -> None:
        """Wait until the server knows of no connection."""
        while len(self.api.site.connections):
            await deferLater(reactor, 0.01)

    async def test_refusals(self) -> None:
        """Each client that is refused reads why, and then the end, and changes nothing."""
        tables = (attacks.FRAMING, attacks.CHUNKING, attacks.HEADS, attack_lines.REQUEST_LINES)
        table = [attack for table in tables for attack in table if _ended_by_server(attack)]
        self.assertGreater(len(table), 200)

        async def attempt(attack: Attack) -> None:
            asker = await self.connect()
            assert asker.transport is not None
            asker.transport.write(attack.data)
            await asker.ended
            self.assertEqual(codes(read_answers(asker.data)), attack.codes, attack.name)

        await self.many(map(attempt, table))
        self.assertEqual(self.engine.calls, [])

    async def test_piecemeal(self) -> None:
        """A request whose bytes come one by one is a request."""
        for request in (GOOD_PATCH, GOOD_GET.replace(b"/liveness", b"/config")):
            asker = await self.connect()
            assert asker.transport is not None
            for piece in cut(request, range(len(request))):
                asker.transport.write(piece)
                await deferLater(reactor, 0)
            asker.transport.loseWriteConnection()  # type: ignore[attr-defined]
            await asker.ended
            self.assertEqual(codes(read_answers(asker.data)), (200,))
        self.assertEqual(len(self.engine.calls), 1)

    async def test_half_close(self) -> None:
        """Who says within a request that nothing more will come reads the end, and no answer."""

        async def attempt(data: bytes) -> None:
            asker = await self.connect()
            assert asker.transport is not None
            asker.transport.write(data)
            asker.transport.loseWriteConnection()  # type: ignore[attr-defined]
            await asker.ended
            self.assertEqual(asker.data, b"", data)

        await self.many(attempt(GOOD_PATCH[:size]) for size in range(len(GOOD_PATCH)))
        self.assertEqual(self.engine.calls, [])

    async def leave(self, end: Callable[[Asker], object]) -> None:
        """Leave behind each byte of a request, and check that nothing has come of it."""

        async def attempt(data: bytes) -> None:
            asker = await self.connect()
            assert asker.transport is not None
            asker.transport.write(data)
            await deferLater(reactor, 0)
            end(asker)
            await asker.ended

        await self.many(attempt(GOOD_PATCH[:size]) for size in range(len(GOOD_PATCH)))
        await self.all_gone()
        self.assertEqual(self.api.site.connections.accepted, len(GOOD_PATCH))
        self.assertEqual(self.engine.calls, [])

    async def test_leaving(self) -> None:
        """Who leaves within a request has changed nothing."""
        await self.leave(lambda asker: asker.transport.loseConnection())  # type: ignore[union-attr]

    async def test_aborting(self) -> None:
        """Nor has who leaves without a word."""
        await self.leave(lambda asker: asker.transport.abortConnection())  # type: ignore[union-attr]

    async def test_refused_bodies(self) -> None:
        """Who is refused in the middle of a large body reads why."""
        length = b"Content-Length: %d\r\n" % len(_MEGABYTES)
        size = b"%x\r\n" % len(_MEGABYTES)
        for data, code in [
            (patch(length, _MEGABYTES), 413),
            (patch(CHUNKED, size + _MEGABYTES), 413),
            (patch(length + CHUNKED, _MEGABYTES), 400),
            (patch(CHUNKED, b"b\r\n" + BODY + b"0\r\n\r\n" + SMUGGLED + _MEGABYTES), 400),
            (patch(b"X: " + _MEGABYTES), 431),
            (_MEGABYTES, 414),
        ]:
            asker = await self.connect()
            assert asker.transport is not None
            asker.transport.write(data)
            await asker.ended
            self.assertEqual(codes(read_answers(asker.data)), (code,), data[:99])
        self.assertEqual(self.engine.calls, [])

    async def test_tls_at_the_plain_port(self) -> None:
        """A client that wants TLS where there is none learns so at once."""
        endpoint = wrapClientTLS(optionsForClientTLS("localhost"), self.server)
        asker: Asker = await connectProtocol(endpoint, Asker())
        reason = await asker.ended
        self.assertIsInstance(reason, SSL.Error)
        self.assertEqual(self.api.site.protocol_errors, {400: 1})

    async def test_plain_at_the_tls_port(self) -> None:
        """A client that knows no TLS where there is nothing else reads the end at once."""
        directory = scratch_directory(self)
        certfile, keyfile = Authority().server("localhost").write(directory, "server")
        material = load(TlsSettings(certfile=certfile, keyfile=keyfile), [VerifyClient.NONE])
        door = Door(context=material.contexts[VerifyClient.NONE])
        server = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        port = await server.listen(Entrance(self.api.site, door))
        self.addCleanup(port.stopListening)
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
        asker: Asker = await connectProtocol(endpoint, Asker())
        assert asker.transport is not None
        asker.transport.write(GOOD_PATCH)
        await asker.ended
        self.assertNotIn(b"HTTP", asker.data)
        self.assertEqual(sum(self.api.site.handshake_failures.values()), 1)
        self.assertEqual(self.engine.calls, [])


def _ended_by_server(attack: Attack) -> bool:
    return attack.codes[-1:] in [(400,), (413,), (414,), (431,), (505,)] and not attack.changes

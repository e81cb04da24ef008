"""Tests of twisted_patroni.client.pool on real sockets, with nodes that fail in each way."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, gatherResults
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater

from tests.scratch import black_hole, free_port
from tests.servercase import GOOD, HOST, Connection, ServerCase
from twisted_patroni.client.asking import Login
from twisted_patroni.client.errors import (
    BrokenAnswer,
    OutcomeUnknown,
    TimedOut,
    TlsFailure,
    Unreachable,
)
from twisted_patroni.client.pool import PoolClosed


class PoolTests(ServerCase):
    """A pool, and the node that it asks."""

    async def test_answer(self) -> None:
        """An answer has status, headers, body and the time that it took."""
        response = await self.pool().request("GET", "/patroni")
        self.assertEqual((response.status, response.reason, response.ok), (200, "OK", True))
        self.assertEqual(response.json(), {"a": "b"})
        self.assertEqual(response.header("content-type"), "application/json")
        self.assertGreater(response.time, 0.0)
        self.assertTrue(self.node.heads[0].startswith("GET /patroni HTTP/1.1"))

    async def test_who_asks(self) -> None:
        """Login and body are sent along, and what changes something has its own connection."""
        pool = self.pool(login=Login("demo", "secret"))
        await pool.request("GET", "/config")
        await pool.request("PATCH", "/config", body=b"", headers={"Prefer": "respond-async"})
        head = self.node.heads[1].lower()
        self.assertIn("authorization: basic zgvtbzpzzwnyzxq=", head)
        self.assertIn("prefer: respond-async", head)
        self.assertIn("connection: close", head)
        self.assertNotIn("connection: close", self.node.heads[0].lower())

    async def test_impossible(self) -> None:
        """What cannot be sent as it is, is not sent; a path cannot lead to another host."""
        pool = self.pool()
        for path in ("", "patroni", "@example.com/", ":1/", "/a b", "/\r\nX: y", "/\u00e9", "/a#b"):
            with self.assertRaisesRegex(ValueError, "path: "):
                await pool.request("GET", path)
            with self.assertRaisesRegex(ValueError, "path: "):
                await pool.stream(path)
        for method in ("", "GET /", "G\u00c9T"):
            with self.assertRaisesRegex(ValueError, "method: "):
                await pool.request(method, "/patroni")
        for name, value in (("", "x"), ("X Y", "x"), ("X:", "x"), ("X", "a\r\nY: b")):
            with self.assertRaisesRegex(ValueError, f"headers: '{name}' "):
                await pool.request("GET", "/patroni", headers={name: value})
        self.assertEqual(self.node.heads, [])

    async def test_method(self) -> None:
        """A method may be written in small letters."""
        self.assertEqual((await self.pool().request("get", "/patroni")).status, 200)
        self.assertEqual(self.node.heads[0][:4], "GET ")

    async def test_kept(self) -> None:
        """Requests one after the other share a connection."""
        pool = self.pool()
        for _ in range(5):
            await pool.request("GET", "/primary")
        self.assertEqual(len(self.node.connections), 1)
        self.assertEqual((pool.idle, pool.in_use, pool.waiting), (1, 0, 0))

    async def test_bound(self) -> None:
        """However many ask, there are no more connections than may be; the others wait in turn."""
        held: list[Connection] = []
        self.node.answer = held.append
        pool = self.pool()
        asking = [pool.request("GET", f"/{number}") for number in range(5)]
        while len(held) < 2:
            await deferLater(reactor, 0.01)
        self.assertEqual((pool.in_use, pool.waiting), (2, 3))
        self.assertEqual(len(self.node.connections), 2)
        self.node.answer = lambda connection: connection.send(GOOD)
        for each in held:
            each.send(GOOD)
        await gatherResults(asking)
        self.assertEqual((pool.idle, pool.in_use, pool.waiting), (2, 0, 0))
        self.assertEqual(len(self.node.connections), 2)

    async def test_no_place(self) -> None:
        """Who gets no connection in time has asked nothing."""
        self.node.answer = lambda connection: None
        pool = self.pool(connections=1)
        first = pool.request("GET", "/slow")
        await self.fails(
            pool.request("GET", "/primary", timeout=0.1), Unreachable, "no free connection"
        )
        first.cancel()
        await self.assertFailure(first, CancelledError)

    async def test_broken_replaced(self) -> None:
        """A connection that the node has closed meanwhile is replaced, and nobody notices."""
        pool = self.pool()
        await pool.request("GET", "/primary")
        for each in list(self.node.connections):
            assert each.transport is not None
            each.transport.loseConnection()
        for _ in range(3):
            self.assertEqual((await pool.request("GET", "/primary")).status, 200)

    async def test_idle(self) -> None:
        """A connection that nobody uses is closed."""
        pool = self.pool(idle=0.05)
        await pool.request("GET", "/primary")
        await self.node.left()
        self.assertEqual(pool.idle, 0)

    async def test_cancel(self) -> None:
        """Cancelling closes the request's connection, and frees its place."""
        self.node.answer = lambda connection: None
        pool = self.pool(connections=1)
        asking = pool.request("GET", "/slow")
        while not self.node.heads:
            await deferLater(reactor, 0.01)
        asking.cancel()
        await self.assertFailure(asking, CancelledError)
        await self.node.left()
        self.assertEqual((pool.in_use, pool.idle), (0, 0))

    async def test_close(self) -> None:
        """A closed pool gives up what is on its way, and asks nobody."""
        self.node.answer = lambda connection: None
        pool = self.pool()
        asking = pool.request("GET", "/slow")
        while not self.node.heads:
            await deferLater(reactor, 0.01)
        await pool.close()
        await self.fails(asking, PoolClosed, "is closed")
        await self.fails(pool.request("GET", "/primary"), PoolClosed)
        await self.node.left()

    async def test_refused(self) -> None:
        """Where nobody listens nothing was asked."""
        url = f"http://{HOST}:{free_port()}"
        await self.fails(self.pool(url).request("POST", "/restart"), Unreachable, "refuses")

    async def test_unknown_host(self) -> None:
        """A name that does not exist is told."""
        asking = self.pool("http://no-such-host.invalid:8008").request("GET", "/")
        await self.fails(asking, Unreachable, "has a name that cannot be resolved")

    async def test_black_hole(self) -> None:
        """Where no connection comes about, that is told in time."""
        url = f"http://{HOST}:{black_hole(self)}"
        asking = self.pool(url, connect_timeout=0.2).request("POST", "/restart")
        await self.fails(asking, Unreachable, "does not answer")

    async def test_too_late(self) -> None:
        """A request that was sent and is not answered in time may have had its effect."""
        self.node.answer = lambda connection: None
        asking = self.pool(timeout=0.5).request("POST", "/restart")
        await self.fails(asking, TimedOut, "within 0.5 seconds", "may have been done")
        await self.node.left()

    async def test_no_answer(self) -> None:
        """So may one whose connection ends without an answer."""
        self.node.answer = lambda connection: connection.send(b"", close=True)
        asking = self.pool().request("POST", "/restart")
        await self.fails(asking, OutcomeUnknown, "closed the connection")

    async def test_half_an_answer(self) -> None:
        """An answer that ends too early is none."""
        self.node.answer = lambda connection: connection.send(GOOD[:-4], close=True)
        asking = self.pool().request("GET", "/patroni")
        await self.fails(asking, BrokenAnswer, "before the answer was complete")

    def sends(self, content: bytes) -> None:
        """Have each request answered with these bytes."""
        self.node.answer = lambda connection: connection.send(content)

    async def test_no_http(self) -> None:
        """What is no HTTP is no answer."""
        for content in (
            b"hello\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nmany\r\n",
        ):
            self.sends(content)
            asking = self.pool().request("PATCH", "/config")
            await self.fails(asking, BrokenAnswer, "/config answers with what is not HTTP")

    async def test_redirect(self) -> None:
        """Nobody is followed elsewhere."""
        elsewhere = b"HTTP/1.1 302 Found\r\nLocation: http://x/\r\nContent-Length: 0\r\n\r\n"
        self.node.answer = lambda connection: connection.send(elsewhere)
        error = await self.fails(
            self.pool().request("GET", "/"), BrokenAnswer, "sends elsewhere, to http://x/"
        )
        assert isinstance(error, BrokenAnswer)
        assert error.response is not None
        self.assertEqual(error.response.status, 302)

    async def test_no_json(self) -> None:
        """A page of a proxy is told from what a node answers."""
        page = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n<html></html>"
        self.node.answer = lambda connection: connection.send(page)
        response = await self.pool().request("GET", "/patroni")
        error = self.assertRaises(BrokenAnswer, response.json)
        self.assertIn("what is not JSON", str(error))

    async def test_no_tls(self) -> None:
        """A node without TLS, asked with it, was asked nothing."""
        self.node.answer = lambda connection: None
        url = self.url.replace("http:", "https:")
        asking = self.pool(url).request("POST", "/restart", timeout=20.0)
        self.node.protocol_of = _Greeter
        await self.fails(asking, TlsFailure, "does not speak TLS at this port")


class _Greeter(Protocol):
    """Says something that is no TLS."""

    def connectionMade(self) -> None:
        """Say it."""
        assert self.transport is not None
        self.transport.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
        self.transport.loseConnection()

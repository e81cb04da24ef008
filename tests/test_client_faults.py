"""What a node may do to who asks it, on real sockets: each fault has its error, and in time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from tests.scratch import black_hole, free_port
from tests.servercase import HOST, ServerCase
from twisted_patroni.client.body import MAX_BODY
from twisted_patroni.client.errors import (
    BrokenAnswer,
    Disconnected,
    Forbidden,
    NotSupported,
    OutcomeUnknown,
    Refused,
    TimedOut,
    Unavailable,
    Unreachable,
)
from twisted_patroni.client.eventstream import WAITING
from twisted_patroni.client.node import Node
from twisted_patroni.client.pool import PoolClosed

if TYPE_CHECKING:
    from tests.servercase import Connection
    from twisted_patroni.client.eventstream import EventStream

reactor = cast("Any", global_reactor)

PAGE = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
BEAT = b": beat\n\n"
NESTED = b'{"members": ' * 100 + b"[]" + b"}" * 100


def answer(status: str, body: bytes, kind: str = "application/json", more: str = "") -> bytes:
    """Return an answer as it is on the wire."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


def event(number: int, kind: str = "leader") -> bytes:
    """Return an event as it is on the wire."""
    document = f'{{"number": {number}, "type": "{kind}", "data": {{"new": "n{number}"}}}}'
    return f"id: {number}.x\nevent: {kind}\ndata: {document}\n\n".encode()


class FaultCase(ServerCase):
    """A node that misbehaves."""

    def asked(self, **settings: Any) -> Node:
        """Return the node, as it is asked."""
        return Node(self.pool(**settings))

    def answers(self, data: bytes, *, close: bool = False) -> None:
        """Have each request answered with these bytes."""
        self.node.answer = lambda connection: connection.send(data, close=close)

    async def within(self, seconds: float, asking: Any, error: Any, *words: str) -> Any:
        """Assert that a request fails so, and in time."""
        began = reactor.seconds()
        found = await self.fails(asking, error, *words)
        self.assertLess(reactor.seconds() - began, seconds)
        return found


class AnswerTests(FaultCase):
    """Answers that are none."""

    async def test_page(self) -> None:
        """A page of a proxy is a refusal without a word of its markup, or no answer at all."""
        node = self.asked()
        self.answers(answer("502 Bad Gateway", PAGE, "text/html"))
        error = await self.fails(node.status(), Refused, "answers 502: Bad Gateway")
        self.assertEqual(cast("Refused", error).response.body, PAGE)
        await self.fails(node.is_primary(), Refused)
        self.answers(answer("200 OK", PAGE, "text/html"))
        await self.fails(node.status(), BrokenAnswer, "what is not JSON")
        await self.fails(node.is_primary(), BrokenAnswer, "what is not JSON")
        await self.fails(node.history(), BrokenAnswer)

    async def test_wrong_json(self) -> None:
        """JSON of another shape, or nested without end, is no answer."""
        node = self.asked()
        for body in (
            b"[]",
            b"7",
            b'"text"',
            b"null",
            b"[" * 100_000,
            NESTED,
            b'{"a": 1',
            b"\xff\xfe",
            b"",
        ):
            self.answers(answer("200 OK", body))
            await self.fails(node.cluster(), BrokenAnswer)

    async def test_unavailable(self) -> None:
        """A leader that answers 503 says so, with the time after which to come back."""
        node = self.asked()
        body, more = b'{"error": "too many requests"}', "Retry-After: 1\r\n"
        self.answers(answer("503 Service Unavailable", body, more=more))
        error = await self.fails(node.switchover("a"), Unavailable, "too many requests")
        self.assertEqual(cast("Unavailable", error).response.header("retry-after"), "1")

    async def test_redirect(self) -> None:
        """Nobody is sent elsewhere, and no password goes there."""
        node = self.asked()
        for status in ("301 Moved Permanently", "307 Temporary Redirect"):
            self.answers(answer(status, b"", more=f"Location: {self.url}/other\r\n"))
            await self.fails(node.restart(), BrokenAnswer, "sends elsewhere", "/other")
        self.assertFalse([each for each in self.node.heads if "/other" in each])

    async def test_halves(self) -> None:
        """Whatever is missing of an answer, it is not taken for a whole one."""
        whole = answer("200 OK", b'{"role": "primary"}')
        node = self.asked()
        for length in (5, 20, len(whole) - 19, len(whole) - 1):
            self.answers(whole[:length], close=True)
            expected = OutcomeUnknown if length < len(whole) - 19 else BrokenAnswer
            await self.within(15.0, node.restart(), expected)
        self.answers(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{", close=True)
        await self.fails(node.status(), BrokenAnswer)

    async def test_too_much(self) -> None:
        """An answer, or a head, without end is given up."""
        node = self.asked()
        self.answers(answer("200 OK", b" " * (MAX_BODY + 1)))
        await self.fails(node.status(), BrokenAnswer, f"more than {MAX_BODY} bytes")
        self.answers(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1_000_000)
        await self.within(15.0, node.restart(), OutcomeUnknown)


class TimeTests(FaultCase):
    """Nodes that take their time."""

    async def test_trickle(self) -> None:
        """Who sends a byte now and then does not extend the time there is."""

        def trickle(connection: Connection) -> None:
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            calls = [reactor.callLater(0.05 * each, connection.send, b" ") for each in range(600)]
            self.addCleanup(lambda: [each.cancel() for each in calls if each.active()])

        self.node.answer = trickle
        node = self.asked(timeout=0.5)
        await self.within(10.0, node.status(), TimedOut, "within 0.5 seconds")
        await self.node.left()

    async def test_black_hole(self) -> None:
        """Where no connection comes about nothing was asked, however short the time was."""
        place = f"{HOST}:{black_hole(self)}"
        for scheme in ("http", "https"):
            for times in (
                {"connect_timeout": 0.2, "timeout": 60.0},
                {"connect_timeout": 60.0, "timeout": 0.2},
            ):
                node = Node(self.pool(f"{scheme}://{place}", **times))
                await self.within(10.0, node.reload(), Unreachable)
                await self.within(10.0, node.is_primary(), Unreachable)
                asking = Deferred.fromCoroutine(node.reload())
                asking.cancel()
                await self.assertFailure(asking, CancelledError)

    async def test_refused(self) -> None:
        """Where nobody listens, that is known at once, for all methods and events."""
        for host in (HOST, "localhost"):
            for scheme in ("http", "https"):
                node = Node(self.pool(f"{scheme}://{host}:{free_port()}"))
                await self.within(10.0, node.restart(), Unreachable, "refuses connections")
                await self.within(10.0, node.is_primary(), Unreachable)
                await self.within(10.0, self.first(node.follow()), Unreachable)

    async def first(self, events: EventStream) -> Any:
        """Return the first event."""
        async for each in events:
            return each


class EventTests(FaultCase):
    """Streams of events."""

    async def taken(self, events: EventStream, number: int) -> list[Any]:
        """Return so many events, and leave the stream."""
        found: list[Any] = []
        async for each in events:
            found.append(each)
            if len(found) == number:
                break
        return found

    async def all(self, events: EventStream, found: list[Any]) -> None:
        """Add what comes to a list, until nothing does."""
        async for each in events:
            found.append(each)  # noqa: PERF401

    async def test_left(self) -> None:
        """Leaving the loop ends the request; connections for others are not taken by it."""
        self.answers(SSE + BEAT + event(1) + event(2) + event(3))
        node = self.asked(connections=1)
        first, second = await self.taken(node.follow(["leader", "config"], after="7.x"), 2)
        self.assertEqual((first.new, second.position), ("n1", "2.x"))
        head = self.node.heads[0]
        self.assertTrue(head.startswith("GET /events?types=leader,config HTTP/1.1"), head)
        self.assertIn("last-event-id: 7.x", head.lower())
        await self.node.left()

    async def test_beside(self) -> None:
        """While events are followed others can ask, however few connections there may be."""
        self.answers(SSE + event(1))
        node = self.asked(connections=1)
        async with node.follow() as events:
            self.answers(answer("200 OK", b"{}"))
            await node.status()
            self.assertEqual((node.pool.idle, node.pool.in_use), (1, 0))
            self.assertEqual((await self.taken(events, 1))[0].new, "n1")
        self.assertEqual(len(self.node.heads), 2)

    async def test_ends(self) -> None:
        """A stream that ends says why; what came before is taken first."""
        node = self.asked()
        for end, word in (
            (b"", "closed the connection"),
            (b'event: end\ndata: {"type": "end", "data": {"reason": "shutdown"}}\n\n', "shutdown"),
            (b"data: nothing\n\n", "not JSON"),
            (b"data: []\n\n", "no object"),
            (b"data: " + b"x" * 10_000_000, "tells too much"),
        ):
            self.answers(SSE + event(1) + end, close=True)
            found: list[Any] = []

            error = await self.fails(self.all(node.follow(), found), Disconnected, word)
            self.assertEqual([each.new for each in found], ["n1"], error)
        await self.node.left()

    async def test_no_stream(self) -> None:
        """Who has no events, or refuses to tell, is told from who does."""
        node = self.asked()
        status = b'{"state": "running", "patroni": {"name": "a"}}'
        for data, error in (
            (answer("503 Service Unavailable", status), NotSupported),
            (answer("404 Not Found", PAGE, "text/html"), NotSupported),
            (answer("403 Forbidden", b'{"error": "not you"}'), Forbidden),
            (answer("503 Service Unavailable", b'{"error": "too many"}'), Unavailable),
        ):
            self.answers(data)
            await self.fails(self.taken(node.follow(), 1), error)
        await self.node.left()

    async def test_cancelled(self) -> None:
        """Cancelling ends the request: before its answer, and while nothing happens."""
        for data in (b"", SSE + BEAT):
            self.answers(data)
            self.node.heads.clear()
            asking = Deferred.fromCoroutine(self.taken(self.asked().follow(), 1))
            while not self.node.heads:
                await deferLater(reactor, 0.01)
            await deferLater(reactor, 0.05)
            asking.cancel()
            await self.assertFailure(asking, CancelledError)
            await self.node.left()

    async def test_closed(self) -> None:
        """Closing the node ends its streams; so does closing the stream."""
        self.answers(SSE + event(1))
        node = self.asked()
        events = node.follow()

        async def follow() -> None:
            async for _ in events:
                await node.close()

        await self.fails(follow(), PoolClosed)
        await self.node.left()
        other = self.asked().follow()
        other.close()
        await self.fails(self.taken(other, 1), Disconnected, "not followed any more")

    async def test_slow(self) -> None:
        """Who is slow makes the node wait; what waits here is bounded, and nothing is lost."""
        many = 10_000
        self.answers(SSE + b"".join(map(event, range(many))), close=True)
        events = self.asked().follow()
        numbers: list[int | None] = []
        with self.assertRaises(Disconnected):
            async for each in events:
                if len(numbers) < 5:
                    await deferLater(reactor, 0.05)
                    # what one read has brought may go beyond the mark
                    self.assertLess(len(events._events), WAITING + 1000)
                numbers.append(each.number)
        self.assertEqual(numbers, list(range(many)))

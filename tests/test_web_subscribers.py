"""Tests of twisted_patroni.web.subscribers and reader: many at once, slow ones, and the limits."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any

from tests.doubles import NOW
from tests.eventcase import SOCKET, SSE, EventCase
from tests.memory_api import Reply
from tests.wire_client import SEND_BUFFER
from twisted_patroni.events.stream import KEPT
from twisted_patroni.web.reader import PATIENCE
from twisted_patroni.web.subscribers import HEARTBEAT, PORTION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.eventcase import SocketClient, SseClient

MEMBER = "10.0.0.2"


class LimitTests(EventCase):
    """How many there may be."""

    def test_limit(self) -> None:
        """All ways count together; one too many is refused, and told to come again."""
        self.start(limits={"subscribers": 3})
        self.sse()
        poll = self.poll(f"?after={self.place()}")
        self.socket()
        for headers in (SSE, SOCKET, {}):
            query = "" if headers else f"?after={self.place()}"
            reply = self.request("GET", f"/events{query}", headers, version="1.1")
            self.assertEqual((reply.code, reply.header("Retry-After")), (503, "1"))
            self.assertIn("too many", reply.json()["error"])
        self.assertEqual(self.metric("twisted_patroni_subscribers_refused_total"), 3)
        self.assertEqual(len(self.subscribers), 3)
        poll.vanish()
        self.assertEqual(self.socket().reply.code, 101)

    def test_answered_at_once(self) -> None:
        """Who needs not wait is not counted."""
        self.start(limits={"subscribers": 1})
        self.sse()
        self.assertEqual(self.request("GET", "/events").code, 200)

    def test_trusted(self) -> None:
        """This machine and the cluster's members always find room."""
        self.start(limits={"subscribers": 1})
        self.sse()
        for client in ("127.0.0.1", "", MEMBER):
            self.assertEqual(self.socket(client=client).reply.code, 101)
        self.assertEqual(len(self.subscribers), 4)

    def test_no_request_in_flight(self) -> None:
        """However many there are, other requests find room."""
        self.start(limits={"requests": 1})
        for _ in range(5):
            self.sse()
            self.socket()
            self.poll(f"?after={self.place()}")
        self.assertEqual(self.request("GET", "/patroni").code, 200)
        self.assertEqual(self.site.overloads, 0)

    def test_not_dispensable(self) -> None:
        """None is closed to make room for another connection."""
        self.start(limits={"connections": 8, "connections_reserved": 0})
        clients = [self.sse() for _ in range(4)] + [self.socket() for _ in range(4)]
        connection = self.api.begin("GET", "/patroni", client="192.0.2.9")
        self.assertTrue(connection.pipe.aborted)
        self.assertFalse(any(client.connection.closed for client in clients))

    def test_ways(self) -> None:
        """The metrics tell how many follow in each way, and how many events there were."""
        self.sse()
        self.sse()
        self.socket()
        for way, count in (("sse", 2), ("websocket", 1), ("long_poll", 0)):
            self.assertEqual(self.metric("twisted_patroni_subscribers", way=way), count)
        self.publish("leader", count=3)
        self.assertEqual(self.metric("twisted_patroni_events_total", type="leader"), 3)
        self.assertEqual(self.metric("twisted_patroni_events_total", type="history"), 0)

    def test_closing(self) -> None:
        """Nobody becomes a subscriber of a node that shuts down."""
        connections = [
            self.api.begin("GET", "/patroni", version="1.1", client="127.0.0.1") for _ in range(3)
        ]
        self.site.closing = True
        for connection, headers in zip(connections, (SSE, SOCKET, {}), strict=True):
            connection.received()
            lines = [f"{name}: {value}" for name, value in headers.items()]
            request = [f"GET /events?after={self.stream.newest} HTTP/1.1", *lines, "", ""]
            connection.send("\r\n".join(request).encode())
            self.turns()
            reply = Reply.parse(connection.received())
            self.assertEqual((reply.code, len(self.subscribers)), (503, 0))


class SlowTests(EventCase):
    """Readers that do not read."""

    def clients(self) -> Iterator[SseClient | SocketClient]:
        """Return a reader of each kind, one after the other."""
        yield self.sse()
        yield self.socket()

    def test_paused(self) -> None:
        """Nothing is written to who does not read; when he reads he gets it all."""
        for client in self.clients():
            client.messages()
            client.connection.stop_reading()
            self.publish(count=20)
            self.assertEqual(client.messages(), [])
            client.connection.read_on()
            self.assertEqual(len(client.messages()), 20)

    def test_bounded(self) -> None:
        """However much there is, no more than two portions wait for him."""
        for client in self.clients():
            client.messages()
            client.connection.pipe.reading = False
            self.publish(count=KEPT // 2, text="x" * 1000)
            self.assertLess(len(client.connection.pipe.value()), SEND_BUFFER + 2 * PORTION)
            client.connection.vanish()

    def test_too_long(self) -> None:
        """One that takes nothing for half a minute is told why, and dropped."""
        for client in self.clients():
            client.messages()
            client.connection.stop_reading()
            self.publish()
            self.beats(PATIENCE / HEARTBEAT)
            self.assertEqual(client.messages(), [])
            self.beats(0.5)
            self.assertEqual(len(self.subscribers), 0)
            self.assertIn(b"too slow: nothing was read", self.last_of(client))
            self.beats(1)
            self.assertTrue(client.connection.closed)
        self.assertEqual(self.metric("twisted_patroni_subscribers_dropped_total", reason="slow"), 2)

    def test_in_time(self) -> None:
        """One that takes something now and then stays."""
        client = self.sse()
        for _ in range(6):
            client.connection.stop_reading()
            self.beats(1)
            client.connection.read_on()
        self.beats(1)
        self.assertFalse(client.connection.closed)

    def test_overrun(self) -> None:
        """One that has not read what is not kept any more is dropped at once."""
        for client in self.clients():
            client.messages()
            client.connection.stop_reading()
            self.publish(count=KEPT)
            self.assertEqual(client.messages(), [])
            self.publish(count=1)
            self.assertIn(b"too slow: events were lost", self.last_of(client))
            self.beats(1)
            self.assertTrue(client.connection.closed)
        self.assertEqual(self.subscribers.dropped, {"overrun": 2})

    def test_flood(self) -> None:
        """So is one that reads, when more happens in one moment than is kept."""
        for client in self.clients():
            client.messages()
            self.publish(count=KEPT + 1)
            self.assertIn(b"too slow: events were lost", self.last_of(client))

    def test_alone(self) -> None:
        """Others do not wait for a slow one."""
        slow, quick = self.sse(), self.sse()
        slow.connection.stop_reading()
        quick.messages()
        self.publish()
        self.assertEqual(quick.types(), ["node"])

    def test_shutdown(self) -> None:
        """One that does not read delays the end by no more than a moment."""
        for client in list(self.clients()):
            client.connection.stop_reading()
        closed = self.api.api.close()
        self.api.clock.pump([0.1] * 10)
        self.successResultOf(closed)

    def last_of(self, client: SseClient | SocketClient) -> bytes:
        """Return what a client would be the last to read."""
        data: bytes = client.connection.pipe.value()
        return data


class HeartbeatTests(EventCase):
    """Signs of life, for all from one timer."""

    def test_interval(self) -> None:
        """There is one after 15 seconds of each stream, and no timer without streams."""
        client = self.sse()
        client.messages()
        before = len(self.api.clock.getDelayedCalls())
        for _ in range(9):
            self.sse()
        self.assertEqual(len(self.api.clock.getDelayedCalls()), before)
        self.beats(0.9)
        client.messages()
        self.assertEqual(client.raw, b"")
        self.beats(0.2)
        client.messages()
        self.assertEqual(client.raw, b": \n\n")

    def test_no_timer(self) -> None:
        """The last one that leaves takes the timer along."""
        count = len(self.api.clock.getDelayedCalls())
        client = self.sse()
        self.assertGreater(len(self.api.clock.getDelayedCalls()), count)
        client.connection.vanish()
        self.assertEqual(len(self.api.clock.getDelayedCalls()), count)

    def test_in_turns(self) -> None:
        """A few of many get theirs in one turn of the reactor."""
        clients = [self.socket() for _ in range(120)]
        for client in clients:
            client.messages()
        beaten: list[int] = []

        def count() -> None:
            for client in clients:
                client.messages()
            beaten.append(sum(len(client.pings) for client in clients))
            if len(beaten) < 4:
                self.api.clock.callLater(0, count)

        self.api.clock.pump([HEARTBEAT / 3] * 2)
        self.api.clock.callLater(HEARTBEAT / 3, count)
        self.api.clock.advance(HEARTBEAT / 3)
        self.assertEqual(beaten, [50, 100, 120, 120])

    def test_one_fails(self) -> None:
        """A defect in one does not end the heartbeats of others."""
        broken, client = self.socket(), self.socket()
        guest: Any = broken.connection.protocol.guest
        guest._socket = None
        self.beats(1)
        self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 1)
        client.messages()
        self.assertEqual(len(client.pings), 1)
        broken.connection.vanish()


class CrowdTests(EventCase):
    """Many of them."""

    def test_told_in_turns(self) -> None:
        """An event reaches a few of many in one turn of the reactor, and all of them soon."""
        clients = [self.sse() for _ in range(120)]
        for client in clients:
            client.messages()
        self.stream.publish("node", {})
        told: list[int] = []

        def count() -> None:
            told.append(sum(bool(client.connection.pipe.value()) for client in clients))
            if len(told) < 4:
                self.api.clock.callLater(0, count)

        count()
        self.api.clock.advance(0)
        self.assertEqual(told, [0, 50, 100, 120])

    def test_come_and_go(self) -> None:
        """A thousand that come and go leave nothing behind."""
        place = self.place()
        self.publish(count=3)
        calls = len(self.api.clock.getDelayedCalls())
        for number in range(1000):
            way = number % 3
            client: Any = self.sse(f"?after={place}") if way == 0 else None
            if way == 1:
                client = self.socket(f"?after={place}")
            if client is None:
                self.poll(f"?after={self.place()}").vanish()
            else:
                self.assertEqual(len(client.messages()), 3)
                client.connection.vanish()
        self.assertEqual((len(self.subscribers), self.stream.followers), (0, 0))
        self.assertEqual((len(self.site.connections), self.site.in_flight), (0, 0))
        self.assertEqual(len(self.api.clock.getDelayedCalls()), calls)
        self.assertEqual(self.clock_went_on(), 0)

    def test_small(self) -> None:
        """What is kept of each is small: a thousand take a few megabytes."""
        self.sse().connection.vanish()
        self.socket().connection.vanish()
        for follow, most in ((self.sse, 12_000), (self.socket, 20_000)):
            tracemalloc.start()
            before = tracemalloc.get_traced_memory()[0]
            clients = [follow() for _ in range(100)]
            for client in clients:
                client.messages()
            used = tracemalloc.get_traced_memory()[0] - before
            tracemalloc.stop()
            self.assertLess(used / 100, most)
            for client in clients:
                client.connection.vanish()

    def clock_went_on(self) -> float:
        """Return how much time has passed: none of this takes any."""
        return self.api.clock.seconds() - NOW.timestamp()

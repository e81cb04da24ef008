"""Tests of twisted_patroni.web.longpoll: events by long polling."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.eventcase import EventCase
from tests.memory_api import Reply
from twisted_patroni.events.stream import KEPT, SLICE
from twisted_patroni.web.subscribers import PORTION

if TYPE_CHECKING:
    from tests.wire_client import Client


class PollTests(EventCase):
    """A question, and when it is answered."""

    def answer(self, connection: Client) -> Reply | None:
        """Return the answer that there is."""
        received = connection.received()
        return Reply.parse(received) if received else None

    def test_newcomer(self) -> None:
        """Without a position it is answered at once, with the snapshot and where to go on."""
        reply = self.request("GET", "/events", version="1.1")
        self.assertEqual(reply.header("Cache-Control"), "no-store")
        document = reply.json()
        self.assertEqual(list(document), ["events", "next", "snapshot"])
        self.assertEqual((document["events"], document["next"]), ([], self.place()))
        self.assertEqual(document["snapshot"]["leader"], "alpha")

    def test_missed(self) -> None:
        """What was missed is answered at once."""
        place = self.place()
        events = [self.publish("node"), self.publish("config")]
        document = self.request("GET", f"/events?after={place}").json()
        self.assertEqual(list(document), ["events", "next"])
        self.assertEqual(document["events"], [json.loads(event.text) for event in events])
        self.assertEqual(document["next"], self.place())

    def test_waits(self) -> None:
        """With nothing missed it waits for the next event; the connection can be used again."""
        connection = self.poll(f"?after={self.place()}")
        self.api.wait(29)
        self.assertIsNone(self.answer(connection))
        event = self.publish("leader", old=None, new="beta", timeline=1)
        reply = self.answer(connection)
        assert reply is not None
        self.assertEqual([each["number"] for each in reply.json()["events"]], [event.number])
        connection.send(f"GET /events?after={self.place()}&timeout=0 HTTP/1.1\r\n\r\n".encode())
        self.turns()
        reply = self.answer(connection)
        assert reply is not None
        self.assertEqual(reply.json(), {"events": [], "next": self.place()})

    def test_timeout(self) -> None:
        """After the time it is answered with nothing: 30 seconds, or as many as it says."""
        for query, seconds in (("", 30), ("&timeout=7.5", 7.5), ("&timeout=60", 60)):
            connection = self.poll(f"?after={self.place()}{query}")
            self.api.wait(seconds - 0.5)
            self.assertIsNone(self.answer(connection))
            self.api.wait(0.5)
            reply = self.answer(connection)
            assert reply is not None
            self.assertEqual(reply.json(), {"events": [], "next": self.place()})

    def test_types(self) -> None:
        """It waits for an event of the types asked for, and passes over others."""
        connection = self.poll(f"?after={self.place()}&types=leader")
        passed = self.publish("node")
        self.assertIsNone(self.answer(connection))
        self.assertNotEqual(passed, self.publish("leader"))
        reply = self.answer(connection)
        assert reply is not None
        self.assertEqual([each["type"] for each in reply.json()["events"]], ["leader"])
        connection = self.poll(f"?after={self.place()}&types=leader&timeout=1")
        self.publish("node")
        self.api.wait(1)
        reply = self.answer(connection)
        assert reply is not None
        self.assertEqual(reply.json(), {"events": [], "next": self.place()})

    def test_gap(self) -> None:
        """When events are lost it is answered at once, with the gap and a snapshot."""
        before = self.stream.newest
        self.publish(count=KEPT + 5)
        document = self.request("GET", f"/events?after={before}.{self.stream.name}").json()
        self.assertEqual(list(document), ["events", "next", "snapshot", "gap"])
        self.assertEqual(document["gap"], {"after": before, "oldest": self.stream.oldest})
        self.assertEqual((document["events"], document["next"]), ([], self.place()))

    def test_gap_while_waiting(self) -> None:
        """So it is when too much happens in one moment."""
        place = self.place()
        connection = self.poll(f"?after={place}&types=leader")
        self.publish("node", count=KEPT + 5)
        reply = self.answer(connection)
        assert reply is not None
        self.assertEqual(list(reply.json()), ["events", "next", "snapshot", "gap"])

    def test_much(self) -> None:
        """Much is answered in parts, so that nobody's slowness costs much."""
        place = self.place()
        self.publish(count=300, text="x" * 1000)
        numbers = []
        for _ in range(10):
            reply = self.request("GET", f"/events?after={place}&timeout=0")
            self.assertLess(len(reply.body), PORTION + 2000)
            numbers += [each["number"] for each in reply.json()["events"]]
            place = reply.json()["next"]
        self.assertEqual(numbers, list(range(self.stream.newest - 299, self.stream.newest + 1)))

    def test_much_of_no_interest(self) -> None:
        """Types that are wanted are found behind much else."""
        place = self.place()
        self.publish(count=300, text="x" * 1000)
        self.publish("leader")
        document = self.request("GET", f"/events?after={place}&types=leader").json()
        self.assertEqual([each["type"] for each in document["events"]], ["leader"])

    def test_large_event(self) -> None:
        """One event that is larger than a part is a part."""
        place = self.place()
        self.publish(count=2, text="x" * 2 * PORTION)
        document = self.request("GET", f"/events?after={place}").json()
        self.assertEqual(len(document["events"]), 1)

    def test_head(self) -> None:
        """HEAD does not wait, and is told how long the answer would be."""
        reply = self.request("HEAD", f"/events?after={self.place()}", version="1.1")
        got = self.request("GET", f"/events?after={self.place()}&timeout=0", version="1.1")
        self.assertEqual((reply.code, reply.body), (200, b""))
        self.assertEqual(reply.headers, got.headers)

    def test_left(self) -> None:
        """A client that leaves is forgotten, with its timer."""
        connection = self.poll(f"?after={self.place()}")
        self.assertEqual(self.metric("twisted_patroni_subscribers", way="long_poll"), 1)
        connection.vanish()
        self.assertEqual((len(self.subscribers), self.stream.followers), (0, 0))
        self.api.wait(31)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_half_closed(self) -> None:
        """A client that has closed its side gets the answer that there is, at once."""
        connection = self.poll(f"?after={self.place()}")
        connection.say_no_more()
        reply = self.answer(connection)
        assert reply is not None
        self.assertEqual(reply.json()["events"], [])
        self.turns()
        self.assertTrue(connection.closed)

    def test_shutdown(self) -> None:
        """When the node shuts down it is answered, and the connection closed."""
        connection = self.poll(f"?after={self.place()}")
        closed = self.api.api.close()
        self.turns()
        self.successResultOf(closed)
        reply = self.answer(connection)
        assert reply is not None
        self.assertEqual(reply.json(), {"events": [], "next": self.place()})
        self.assertEqual(reply.header("Connection"), "close")
        self.assertTrue(connection.closed)

    def test_not_in_flight(self) -> None:
        """One that waits is no request in flight, and its wait is not how long we took."""
        self.poll(f"?after={self.place()}&timeout=20")
        self.assertEqual(self.metric("twisted_patroni_requests_in_flight"), 0)
        self.api.wait(20)
        self.assertEqual(self.metric("twisted_patroni_http_request_duration_seconds_sum"), 0)
        self.assertEqual(self.site.in_flight, 0)

    def test_ahead(self) -> None:
        """A request behind it is answered after it."""
        connection = self.poll(f"?after={self.place()}&timeout=1")
        connection.send(b"GET /events HTTP/1.1\r\n\r\n")
        self.assertEqual(connection.received(), b"")
        self.api.wait(1)
        self.turns()
        self.assertEqual(connection.received().count(b"HTTP/1.1 200 OK"), 2)


class CrowdTests(EventCase):
    """Many who ask again as soon as they are answered."""

    def test_all_told_first(self) -> None:
        """Nobody is answered a second time before all have been answered once."""
        asked = f"?after={self.place()}&timeout=60"
        crowd = [self.poll(asked) for _ in range(3 * SLICE)]
        self.stream.publish("node", {"name": "alpha"})
        again = f"GET /events?after={self.place()}&timeout=0 HTTP/1.1\r\n\r\n".encode()
        first = crowd[0]
        while not (told := first.received()):
            self.turns(1)
        first.send(again)
        while not (last := crowd[-1].received()):
            self.assertEqual(first.received(), b"")
            self.turns(1)
        self.assertEqual(Reply.parse(last).json(), Reply.parse(told).json())
        self.turns(6)
        self.assertEqual(Reply.parse(first.received()).json()["events"], [])

    def test_leaving(self) -> None:
        """One that leaves before it would be heard again is forgotten, and others are heard."""
        crowd = [self.poll(f"?after={self.place()}") for _ in range(2 * SLICE)]
        self.stream.publish("node", {"name": "alpha"})
        self.turns(1)
        crowd[0].vanish()
        self.turns(6)
        crowd[1].received()
        crowd[1].send(f"GET /events?after={self.place()}&timeout=0 HTTP/1.1\r\n\r\n".encode())
        self.turns(2)
        self.assertEqual(Reply.parse(crowd[1].received()).code, 200)
        self.assertEqual(len(self.site.connections), len(crowd) - 1)

"""Tests of what the benchmarks of events and switchovers read and count."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.audience import delays_of
from benchmarks.contest import OURS, UPSTREAM
from benchmarks.followers import delays
from benchmarks.measure import Plan, Values
from benchmarks.stopwatch import Moments, values_of
from benchmarks.switchover import report
from benchmarks.switchover import values_of as switchover_values
from benchmarks.ways import Answer, EventSource, LongPoll, Tally, Way, WebSocket

SNAPSHOT = {"number": 7, "type": "snapshot", "time": "", "data": {"stream": "ab12"}}


def event(number: int) -> dict[str, Any]:
    """Return an event.

    :param number: its number.
    """
    return {"number": number, "type": "node", "time": "2026-01-31T10:00:00+00:00", "data": {}}


def chunk(text: str) -> bytes:
    """Return a chunk of a body.

    :param text: what is in it.
    """
    return f"{len(text.encode()):x}\r\n{text}\r\n".encode()


def message(document: dict[str, Any]) -> str:
    """Return a server-sent event.

    :param document: the event.
    """
    data = json.dumps(document)
    return f"id: {document['number']}.ab12\nevent: {document['type']}\ndata: {data}\n\n"


def frame(opcode: int, payload: bytes) -> bytes:
    """Return a frame as servers send it.

    :param opcode: the kind.
    :param payload: what is in it.
    """
    size = len(payload)
    length = bytes((size,)) if size < 126 else bytes((126, *size.to_bytes(2, "big")))
    return bytes((0x80 | opcode,)) + length + payload


def fed(way: Way, data: bytes, piece: int) -> tuple[list[dict[str, Any]], bytes]:
    """Feed a follower piece by piece, and return all that comes of it.

    :param way: the follower.
    :param data: all that he receives.
    :param piece: how many bytes a piece has.
    """
    documents: list[dict[str, Any]] = []
    replies = b""
    for start in range(0, len(data), piece):
        found, reply = way.feed(data[start : start + piece])
        documents += found
        replies += reply
    return documents, replies


class AnswerTests(SynchronousTestCase):
    """Tests of Answer."""

    def test_chunks(self) -> None:
        """A body in chunks is put together, however it is cut."""
        data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n"
        data += chunk("one\r\n") + chunk("two") + b"0\r\n\r\n"
        for piece in range(1, len(data)):
            answer = Answer()
            starts = range(0, len(data), piece)
            body = b"".join(answer.feed(data[start : start + piece]) for start in starts)
            self.assertEqual((answer.code, body, answer.done), (200, b"one\r\ntwo", True))

    def test_length(self) -> None:
        """A body of known length is over when it is there."""
        answer = Answer()
        answer.feed(b"HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nab")
        self.assertFalse(answer.done)
        self.assertEqual((answer.feed(b"cd"), answer.done, answer.code), (b"cd", True, 503))


class EventSourceTests(SynchronousTestCase):
    """Tests of EventSource."""

    def test_events(self) -> None:
        """Comments and what has no number are left out; he comes back with the last id."""
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        texts = (message(SNAPSHOT), ": \n\n", message(event(8)), "event: end\ndata: {}\n\n")
        data = head + b"".join(map(chunk, texts))
        for piece in (1, 7, len(data)):
            source = EventSource()
            self.assertNotIn(b"Last-Event-ID", source.begin())
            self.assertEqual(fed(source, data, piece), ([SNAPSHOT, event(8)], b""))
            self.assertIn(b"Last-Event-ID: 8.ab12\r\n", source.begin())

    def test_refused(self) -> None:
        """Who is turned away has no events."""
        source = EventSource()
        source.begin()
        data = b"HTTP/1.1 503 Busy\r\nContent-Length: 12\r\n\r\ndata: 1\n\n..."
        self.assertEqual(source.feed(data), ([], b""))
        self.assertEqual(source.code, 503)


class WebSocketTests(SynchronousTestCase):
    """Tests of WebSocket."""

    def test_events(self) -> None:
        """Pings and the end are answered, masked; he comes back behind the last event."""
        long = event(8) | {"data": "x" * 300}
        data = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
        data += frame(1, json.dumps(SNAPSHOT).encode()) + frame(9, b"hm")
        data += frame(1, json.dumps(long).encode()) + frame(8, b"\x03\xe9")
        for piece in (1, 7, len(data)):
            socket = WebSocket()
            self.assertIn(b"GET /events HTTP/1.1", socket.begin())
            documents, replies = fed(socket, data, piece)
            self.assertEqual(documents, [SNAPSHOT, long])
            self.assertEqual(replies, b"\x8a\x82\0\0\0\0hm\x88\x82\0\0\0\0\x03\xe9")
            socket.number = 8
            self.assertIn(b"GET /events?after=8.ab12 ", socket.begin())


class LongPollTests(SynchronousTestCase):
    """Tests of LongPoll."""

    @staticmethod
    def answer(document: dict[str, Any]) -> bytes:
        """Return an answer with a document.

        :param document: the document.
        """
        body = json.dumps(document).encode()
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

    def test_events(self) -> None:
        """Each answer is followed by the next request, from where it ended."""
        poll = LongPoll()
        self.assertIn(b"GET /events HTTP/1.1", poll.begin())
        documents, reply = fed(
            poll, self.answer({"events": [], "next": "7.ab12", "snapshot": {"scope": "x"}}), 9
        )
        self.assertEqual(documents, [{"type": "snapshot", "number": 7}])
        self.assertIn(b"GET /events?after=7.ab12&timeout=30 ", reply)
        events = [event(8), event(9)]
        documents, reply = fed(poll, self.answer({"events": events, "next": "9.ab12"}), 9)
        self.assertEqual(documents, events)
        self.assertIn(b"after=9.ab12", reply)

    def test_gap(self) -> None:
        """A gap is told before the snapshot."""
        poll = LongPoll()
        poll.begin()
        answer = {"events": [], "next": "70.cd34", "snapshot": {"scope": "x"}, "gap": {"after": 1}}
        documents, _ = poll.feed(self.answer(answer))
        self.assertEqual([each["type"] for each in documents], ["gap", "snapshot"])


class TallyTests(SynchronousTestCase):
    """Tests of Tally."""

    def test_exactly_once(self) -> None:
        """What is left out counts as lost, and what is told again as sent twice."""
        tally, way = Tally(), EventSource()
        for document in (SNAPSHOT, event(8), event(8), event(11), event(10)):
            tally.heard(way, document, 1.0)
        self.assertEqual((tally.lost, tally.twice, tally.gaps, way.number), (2, 2, 0, 11))
        tally.heard(way, {"type": "gap", "number": 11}, 1.0)
        tally.heard(way, SNAPSHOT | {"number": 20}, 1.0)
        self.assertTrue(tally.heard(way, event(21), 1.0))
        self.assertEqual((tally.lost, tally.gaps), (2, 1))

    def test_delays(self) -> None:
        """The median and the last are told from the moment of publication."""
        found = delays("1970-01-01T00:01:40+00:00", [100.5, 100.25, 103.0])
        self.assertEqual(found, (3, 0.5, 3.0))

    def test_missing(self) -> None:
        """An event that somebody never had counts as one that takes forever."""
        values = delays_of([(3, 0.5, 1.0), (3, 1.0, 2.0), (2, 0.5, 1.0)], 3)
        self.assertEqual(values["event.median"], 500.0)
        self.assertEqual(values["event.last"], 2000.0)
        self.assertEqual(values["event.last_worst"], float("inf"))


class SwitchoverTests(SynchronousTestCase):
    """Tests of a switchover's numbers."""

    def test_watch(self) -> None:
        """Of etcd's messages only values count, not what was deleted."""
        put = {"kv": {"key": "L2E=", "value": "cGcx"}}
        deleted = {"type": "DELETE", "kv": {"key": "L2E="}}
        self.assertEqual(values_of({"result": {"events": [deleted, put]}}), ["pg1"])
        self.assertEqual(values_of({"result": {"created": True}}), [])

    def test_values(self) -> None:
        """What was not seen is left out; events count from the leader key on."""
        moments = Moments(200, "done", 10.0, {"answer": 12.0, "key": 11.5, "event_new": 11.75})
        values = switchover_values(moments)
        self.assertEqual(
            values, {"answer": 2000.0, "key": 1500.0, "told": 500.0, "event_new": 250.0}
        )

    def test_report(self) -> None:
        """Medians and the worst are told, and what failed."""
        theirs: list[Values] = [{"leader.answer": 3000.0}, {"leader.answer": 1000.0}, {}]
        ours: list[Values] = [
            {"leader.answer": 500.0, "leader.event_new": 2.0},
            {"leader.answer": 500.0},
            {},
        ]
        text = report({UPSTREAM: theirs, OURS: ours}, Plan(loop_wait=10, ttl=30))
        self.assertIn("Switchovers of Patroni that succeeded: 2 of 6.", text)
        self.assertIn("Events of theirs that came: 1 of 18.", text)
        self.assertIn(
            "| leader asked: from request to answer | 2000 ms, worst 3000 | 500 ms, worst 500 |"
            " 4.00 (2.00 to 6.00) |",
            text,
        )

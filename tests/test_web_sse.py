"""Tests of twisted_patroni.web.sse: events as Server-Sent Events."""

from __future__ import annotations

import json

from tests.eventcase import SSE, EventCase
from tests.wire_client import SEND_BUFFER
from twisted_patroni.events.stream import KEPT


class AnswerTests(EventCase):
    """The answer that has no end."""

    def test_head(self) -> None:
        """It is a stream that nobody keeps, in chunks, and the connection ends with it."""
        client = self.sse()
        self.assertEqual((client.reply.version, client.reply.code), ("HTTP/1.1", 200))
        self.assertEqual(
            client.reply.headers[2:],
            [
                ("Content-Type", "text/event-stream"),
                ("Cache-Control", "no-store"),
                ("X-Accel-Buffering", "no"),
                ("Transfer-Encoding", "chunked"),
                ("Connection", "close"),
            ],
        )
        self.assertEqual([name for name, _ in client.reply.headers[:2]], ["Server", "Date"])

    def test_old_version(self) -> None:
        """A client that speaks HTTP/1.0 gets it without chunks."""
        client = self.sse(version="1.0")
        self.assertEqual(client.reply.version, "HTTP/1.0")
        self.assertIsNone(client.reply.header("Transfer-Encoding"))
        self.publish()
        self.assertEqual(client.types(), ["snapshot", "node"])

    def test_extra_headers(self) -> None:
        """The operator's headers are on it."""
        self.start(http_extra_headers={"X-Frame-Options": "DENY"})
        self.assertEqual(self.sse().reply.header("X-Frame-Options"), "DENY")

    def test_messages(self) -> None:
        """The snapshot comes first, then each event, with its type, its position and itself."""
        client = self.sse()
        number = self.stream.newest
        ((kind, place, snapshot),) = client.messages()
        self.assertEqual((kind, place), ("snapshot", f"{number}.{self.stream.name}"))
        self.assertEqual((snapshot["number"], snapshot["type"]), (number, "snapshot"))
        self.assertEqual(snapshot["data"]["leader"], "alpha")
        event = self.publish("leader", old="alpha", new="beta", timeline=7)
        ((kind, place, told),) = client.messages()
        self.assertEqual((kind, place), ("leader", f"{number + 1}.{self.stream.name}"))
        self.assertEqual(told, json.loads(event.text))
        self.assertEqual(told["data"], {"old": "alpha", "new": "beta", "timeline": 7})

    def test_together(self) -> None:
        """What happens in one moment is one chunk."""
        client = self.sse()
        client.messages()
        self.publish(count=3)
        data = client.connection.pipe.value()
        self.assertEqual(client.types(), ["node"] * 3)
        self.assertEqual(data.count(b"\r\n"), 2)

    def test_beside_others(self) -> None:
        """All who read get the same, in the same bytes."""
        clients = [self.sse() for _ in range(3)]
        for client in clients:
            client.messages()
        self.publish(about="Größe 🐘")
        received = {client.connection.received() for client in clients}
        self.assertEqual(len(received), 1)
        self.assertIn(b"\\ud83d\\udc18", received.pop())

    def test_for_long(self) -> None:
        """More events than are kept are told while they come; no more are remembered."""
        client = self.sse()
        client.messages()
        for _ in range(4):
            self.publish(count=KEPT // 3)
            self.assertEqual(len(client.messages()), KEPT // 3)
        blocks = client.connection.protocol.guest.blocks
        self.assertEqual(len(blocks._known), KEPT)

    def test_head_method(self) -> None:
        """HEAD gets the head and the end."""
        connection = self.api.begin("HEAD", "/events", SSE, version="1.1")
        head = connection.received()
        self.assertTrue(head.endswith(b"\r\n\r\n"), head)
        self.assertIn(b"\r\nContent-Type: text/event-stream\r\n", head)
        self.turns()
        self.assertTrue(connection.closed)
        self.assertEqual(len(self.subscribers), 0)

    def test_counted_at_its_beginning(self) -> None:
        """It counts as answered when it begins, not by how long it goes on."""
        self.sse()
        labels = {"endpoint": "/events", "method": "GET", "code": "200"}
        self.assertEqual(self.metric("twisted_patroni_http_requests_total", **labels), 1)
        self.beats(20)
        self.assertEqual(self.metric("twisted_patroni_http_requests_total", **labels), 1)
        self.assertEqual(self.metric("twisted_patroni_http_request_duration_seconds_sum"), 0)


class ResumeTests(EventCase):
    """Coming back."""

    def test_missed(self) -> None:
        """Who comes back gets what he has missed, and no snapshot."""
        place = self.place()
        self.publish("node")
        self.publish("config")
        for query, headers in (
            (f"?after={place}", {}),
            (f"?after={place.partition('.')[0]}", {}),
            ("", {"Last-Event-ID": place}),
            ("?after=1.feedbeef", {"Last-Event-ID": place}),
            (f"?after={place}", {"Last-Event-ID": ""}),
        ):
            self.assertEqual(self.sse(query, headers).types(), ["node", "config"])

    def test_nothing_missed(self) -> None:
        """Who has missed nothing gets nothing until something happens."""
        client = self.sse(f"?after={self.place()}")
        self.assertEqual(client.types(), [])
        self.publish("history")
        self.assertEqual(client.types(), ["history"])

    def test_gap(self) -> None:
        """Who has missed more than is kept is told so, and gets a snapshot."""
        before = self.stream.newest
        self.publish(count=KEPT + 1)
        for place in (f"{before}", "12", f"{self.stream.newest + 99}", f"{before}.0badcafe"):
            client = self.sse(f"?after={place}")
            (kind, no_id, lost), (_, last_id, snapshot) = client.messages()
            self.assertEqual((kind, no_id), ("gap", ""))
            number = int(place.partition(".")[0])
            self.assertEqual(lost["data"], {"after": number, "oldest": self.stream.oldest})
            self.assertEqual((snapshot["type"], last_id), ("snapshot", self.place()))
            self.publish()
            self.assertEqual(client.types(), ["node"])

    def test_much(self) -> None:
        """Who has missed much gets it as fast as he reads."""
        place = self.place()
        self.publish(count=KEPT, text="x" * 1000)
        connection = self.api.begin("GET", f"/events?after={place}", SSE, version="1.1")
        connection.pipe.reading = True
        self.assertEqual(connection.received().count(b"event: node"), KEPT)

    def test_much_unread(self) -> None:
        """What he does not read is not written either."""
        place = self.place()
        self.publish(count=KEPT, text="x" * 1000)
        connection = self.api.begin("GET", "/patroni", version="1.1")
        connection.received()
        connection.pipe.reading = False
        connection.send(
            f"GET /events?after={place} HTTP/1.1\r\nAccept: text/event-stream\r\n\r\n".encode()
        )
        self.assertLess(len(connection.pipe.value()), 3 * SEND_BUFFER)
        count = 0
        while count < KEPT:
            got = connection.read_on().count(b"event: node")
            connection.pipe.reading = False
            self.assertGreater(got, 0)
            count += got
        self.assertEqual(count, KEPT)


class FilterTests(EventCase):
    """Who wants some types only."""

    def test_types(self) -> None:
        """He gets those, and the snapshot in any case."""
        client = self.sse("?types=leader,%20config")
        for kind in ("node", "leader", "member", "config"):
            self.publish(kind)
        self.assertEqual(client.types(), ["snapshot", "leader", "config"])

    def test_position_goes_on(self) -> None:
        """A heartbeat says how far he is when only other events have come, once."""
        client = self.sse("?types=leader")
        client.messages()
        self.publish("node")
        self.beats()
        self.assertEqual(client.messages(), [])
        self.assertEqual(client.raw, f": \nid: {self.place()}\n\n".encode())
        self.assertEqual(client.parser.last_id, self.place())
        self.beats()
        client.messages()
        self.assertEqual(client.raw, b": \n\n")


class EndTests(EventCase):
    """How it ends."""

    def test_shutdown(self) -> None:
        """The node says that it shuts down, and the answer is complete."""
        client = self.sse()
        client.messages()
        closed = self.api.api.close()
        self.turns()
        self.assertEqual(client.messages()[0][::2], ("end", {"reason": "the node shuts down"}))
        self.assertTrue(client.ended)
        self.assertTrue(client.connection.closed)
        self.successResultOf(closed)

    def test_shutdown_of_old_version(self) -> None:
        """So it does to a client that speaks HTTP/1.0."""
        client = self.sse(version="1.0")
        self.api.api.close()
        self.turns()
        self.assertEqual(client.types(), ["snapshot", "end"])
        self.assertTrue(client.connection.closed)

    def test_left(self) -> None:
        """A client that leaves is forgotten."""
        client = self.sse()
        client.connection.vanish()
        self.assertEqual((len(self.subscribers), self.stream.followers), (0, 0))
        self.publish()

    def test_half_closed(self) -> None:
        """A client that closes its side has the stream ended."""
        client = self.sse()
        client.messages()
        client.connection.say_no_more()
        self.turns()
        (told,) = client.messages()
        self.assertEqual(told[::2], ("end", {"reason": "the client sends no more"}))
        self.assertTrue(client.connection.closed)
        self.assertEqual(len(self.subscribers), 0)

    def test_input(self) -> None:
        """A little input, such as a request sent ahead, is not heard; much is the end."""
        client = self.sse()
        client.messages()
        for _ in range(3):
            client.connection.send(b"x" * 4096)
            self.beats(1.1)
        self.assertFalse(client.connection.closed)
        client.connection.send(b"x" * 4097)
        self.turns()
        self.assertEqual(client.types()[-1], "end")
        self.assertTrue(client.connection.closed)
        self.assertEqual(
            self.metric("twisted_patroni_subscribers_dropped_total", reason="input"), 1
        )

    def test_ahead(self) -> None:
        """What comes together with the request is not heard either."""
        client = self.api.begin("GET", "/patroni", version="1.1")
        client.received()
        client.send(
            b"GET /events HTTP/1.1\r\nAccept: text/event-stream\r\n\r\nGET / HTTP/1.1\r\n\r\n"
        )
        self.turns()
        self.assertEqual(client.received().count(b"HTTP/1.1 200"), 1)
        self.assertFalse(client.closed)

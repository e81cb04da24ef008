"""Tests of twisted_patroni.web.websocket: events through a WebSocket."""

from __future__ import annotations

import json
import struct
from random import Random
from typing import Any
from unittest.mock import ANY

from attrs import evolve
from twisted.internet.defer import Deferred
from wsproto.events import CloseConnection, Ping
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from tests.eventcase import KEY, SOCKET, EventCase, SocketClient
from tests.memory_api import Reply, inline_lanes
from twisted_patroni.engine.lanes import Lane, LaneSize
from twisted_patroni.events.stream import KEPT
from twisted_patroni.web.websocket import SILENCE

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
MASK = b"\x01\x02\x03\x04"


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    masked: bool = True,
    length: int | None = None,
    form: str = "",
) -> bytes:
    """Return a frame, which may be wrong.

    :param opcode: its kind.
    :param payload: what it holds.
    :param fin: it is the last of its message.
    :param rsv: the reserved bits.
    :param masked: it is masked, as clients must.
    :param length: the length to claim.
    :param form: how to write that, in the words of ``struct``, where it is not the shortest way.
    """
    size = len(payload) if length is None else length
    marker = {"": size, "H": 126, "Q": 127}
    if not form and size > 125:
        form = "H" if size < 65536 else "Q"
    head = bytes([fin << 7 | rsv << 4 | opcode, masked << 7 | marker[form]])
    if form:
        head += struct.pack(f"!{form}", size)
    if masked:
        payload = bytes(byte ^ MASK[index % 4] for index, byte in enumerate(payload))
    return head + (MASK if masked else b"") + payload


#: What clients must not send, and the close codes it may be answered by.
OFFENCES: dict[str, tuple[bytes, int]] = {
    "a text": (frame(TEXT, b"hello"), 1003),
    "an empty text": (frame(TEXT), 1003),
    "bytes": (frame(BINARY, b"\0\xff"), 1003),
    "the first part of a text": (frame(TEXT, b"hel", fin=False), 1003),
    "the head of an endless message": (frame(BINARY, b"x", length=2**62), 1003),
    "a text and a ping": (frame(TEXT, b"hello") + frame(PING, b"?"), 1003),
    "a message in parts with a ping between": (
        frame(TEXT, b"a", fin=False) + frame(PING) + frame(0, b"b"),
        1003,
    ),
    "a message that claims compression": (frame(TEXT, b"\xf2H\xcd\xc9\xc9\x07\0", rsv=4), 1002),
    "other reserved bits": (frame(PING, rsv=1), 1002),
    "reserved bits, all": (frame(TEXT, b"x", rsv=7), 1002),
    "an unmasked frame": (frame(PING, masked=False), 1002),
    "a continuation of nothing": (frame(0, b"x"), 1002),
    "a text within a text": (frame(TEXT, fin=False) + frame(TEXT, b"x"), 1002),
    "a long ping": (frame(PING, b"x" * 126), 1002),
    "a ping in parts": (frame(PING, b"x", fin=False), 1002),
    "a long length for a short ping": (frame(PING, b"x", form="H"), 1002),
    "a longer length than needed": (frame(TEXT, b"x" * 10, form="Q"), 1002),
    "a negative length": (frame(TEXT, b"x", form="Q", length=2**63), 1002),
    "no UTF-8": (frame(TEXT, b"\xc3("), 1007),
    "half a character at the end": (frame(TEXT, b"\xe2\x82"), 1007),
    "a surrogate": (frame(TEXT, b"\xed\xa0\x80"), 1007),
    "a close of one byte": (frame(CLOSE, b"\x03"), 1002),
    "a close with a code for local use": (frame(CLOSE, struct.pack("!H", 1005)), 1002),
    "a close with an unknown code": (frame(CLOSE, struct.pack("!H", 1016)), 1002),
    "a close with a code out of range": (frame(CLOSE, struct.pack("!H", 65535)), 1002),
    "a close whose reason is no UTF-8": (frame(CLOSE, struct.pack("!H", 1000) + b"\xff"), 1007),
    "too much in one frame": (frame(TEXT, b"x" * 5000), 1009),
    "too much in pings": (frame(PING, b"x" * 119) * 33, 1009),
    "too much in one piece": (b"\x81" * 70000, 1009),
} | {
    f"the opcode {opcode}": (frame(opcode, b"x"), 1002)
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
}


class HandshakeTests(EventCase):
    """How a connection becomes a WebSocket."""

    def assertRefused(self, code: int, words: str, **headers: str | None) -> Reply:
        """Fail unless a request with other headers is refused as JSON."""
        sent = SOCKET | {name.replace("_", "-"): value for name, value in headers.items()}
        present = {name: value for name, value in sent.items() if value is not None}
        reply = self.request("GET", "/events", present, version="1.1")
        self.assertEqual((reply.code, reply.header("Content-Type")), (code, "application/json"))
        self.assertIn(words, reply.json()["error"])
        self.assertEqual(len(self.subscribers), 0)
        return reply

    def test_switched(self) -> None:
        """The protocol is switched, with the accept that RFC 6455 wants."""
        client = self.socket()
        self.assertEqual((client.reply.code, client.reply.version), (101, "HTTP/1.1"))
        self.assertEqual(
            client.reply.header("Sec-WebSocket-Accept"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        )

    def test_browsers(self) -> None:
        """What browsers and libraries add does no harm; nothing that they offer is agreed to."""
        client = self.socket(
            headers={
                "Connection": "keep-alive, Upgrade",
                "Upgrade": "WebSocket",
                "Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits",
                "Sec-WebSocket-Protocol": "chat, superchat",
                "User-Agent": "Größe",
                "Cookie": "a=b",
            }
        )
        self.assertEqual(client.reply.code, 101)
        self.assertIsNone(client.reply.header("Sec-WebSocket-Extensions"))
        self.assertIsNone(client.reply.header("Sec-WebSocket-Protocol"))

    def test_without_host(self) -> None:
        """Not even a host is needed."""
        connection = self.api.begin("GET", "/patroni", version="1.1")
        connection.received()
        lines = [f"{name}: {value}" for name, value in SOCKET.items()]
        connection.send("\r\n".join(["GET /events HTTP/1.1", *lines, "", ""]).encode())
        self.assertIn(b" 101 Switching Protocols\r\n", connection.received())

    def test_version(self) -> None:
        """Another version is refused with the one that is spoken."""
        for version in ("8", None, "13, 8"):
            reply = self.assertRefused(426, "version 13", Sec_WebSocket_Version=version)
            self.assertEqual(reply.header("Sec-WebSocket-Version"), "13")
            self.assertEqual(reply.header("Upgrade"), "websocket")

    def test_key(self) -> None:
        """A key that is none is refused."""
        for key in (None, "", "short", KEY[:-4], f"{KEY[:-2]}!=", "Größe", f"{KEY}, {KEY}"):
            self.assertRefused(400, "Sec-WebSocket-Key", Sec_WebSocket_Key=key)

    def test_not_asked_for(self) -> None:
        """Without Connection or in HTTP/1.0 there is no upgrade, nor is there one for HEAD."""
        for method, headers, version in (
            ("GET", SOCKET | {"Connection": "keep-alive"}, "1.1"),
            ("GET", SOCKET | {"Upgrade": "h2c"}, "1.1"),
            ("GET", SOCKET, "1.0"),
            ("HEAD", SOCKET, "1.1"),
        ):
            reply = self.request(method, "/events", headers, version=version)
            self.assertEqual((reply.code, reply.header("Content-Type")), (200, "application/json"))

    def test_counted(self) -> None:
        """It counts as answered when it begins."""
        self.socket()
        labels = {"endpoint": "/events", "method": "GET", "code": "101"}
        self.assertEqual(self.metric("twisted_patroni_http_requests_total", **labels), 1)
        self.assertEqual(self.metric("twisted_patroni_subscribers", way="websocket"), 1)
        self.assertEqual(self.metric("twisted_patroni_requests_in_flight"), 0)

    def test_frames_with_the_request(self) -> None:
        """Frames in the segment of the request are heard, and do no harm."""
        lines = [f"{name}: {value}" for name, value in SOCKET.items()]
        request = "\r\n".join(["GET /events HTTP/1.1", *lines, "", ""]).encode()
        body = request[:-2] + b"Content-Length: 4\r\n\r\nbody"
        for head in (request, body):
            connection = self.api.begin("GET", "/patroni", version="1.1")
            connection.received()
            connection.send(head + frame(PING, b"early"))
            client = SocketClient(connection)
            self.assertEqual(client.reply.code, 101)
            self.assertIn(b"\x8a\x05early", client.reply.body)
            connection.send(frame(TEXT, b"x"))
            self.turns()
            self.assertTrue(connection.closed)

    def test_frames_before_the_answer(self) -> None:
        """Frames that come while a password is verified are heard afterwards."""
        verified: list[Deferred[Any]] = []

        class Slow(Lane):
            def call(self, function: Any, /, *args: Any, **kwargs: Any) -> Deferred[Any]:
                verified.append(Deferred())
                return verified[-1]

        slow = Slow("passwords", self.api.clock, LaneSize(1, 1))
        lanes = evolve(inline_lanes(), passwords=slow)
        user_hash = (
            "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA"
            "$1cUqrdV4Gi5LBVW3TWCcZSdkjnMSUfEoM4MDExVgcVU"
        )
        self.start(None, lanes, users={"ann": user_hash}, protect_reads=True)
        connection = self.api.begin(
            "GET", "/events", SOCKET | {"Authorization": "Basic YW5uOng="}, version="1.1"
        )
        connection.send(frame(PING, b"early"))
        self.assertEqual(connection.received(), b"")
        verified[0].callback(True)
        self.turns()
        received = connection.received()
        self.assertTrue(received.startswith(b"HTTP/1.1 101"), received)
        self.assertIn(b"\x8a\x05early", received)


class MessageTests(EventCase):
    """What comes through it."""

    def test_messages(self) -> None:
        """The snapshot comes first, then each event as a message, the same as in other ways."""
        client = self.socket()
        (snapshot,) = client.messages()
        self.assertEqual((snapshot["type"], snapshot["number"]), ("snapshot", self.stream.newest))
        events = [self.publish("leader", old="a", new="b", timeline=2), self.publish("member")]
        self.assertEqual(client.messages(), [json.loads(event.text) for event in events])

    def test_resume(self) -> None:
        """Who comes back gets what he has missed; a header that is not his is not looked at."""
        place = self.place()
        event = self.publish("config")
        client = self.socket(f"?after={place}", {"Last-Event-ID": "nonsense"})
        self.assertEqual(client.messages(), [json.loads(event.text)])

    def test_gap(self) -> None:
        """Who has missed too much is told so before the snapshot."""
        before = self.stream.newest
        self.publish(count=KEPT + 1)
        lost, snapshot = self.socket(f"?after={before}").messages()
        self.assertEqual(
            lost,
            {
                "number": self.stream.newest,
                "time": ANY,
                "type": "gap",
                "data": {"after": before, "oldest": self.stream.oldest},
            },
        )
        self.assertEqual(snapshot["type"], "snapshot")

    def test_types(self) -> None:
        """Only the types asked for come."""
        client = self.socket("?types=leader")
        self.publish("node")
        self.publish("leader")
        self.assertEqual([each["type"] for each in client.messages()], ["snapshot", "leader"])


class HeartbeatTests(EventCase):
    """Signs of life."""

    def test_answered(self) -> None:
        """A client that answers pings stays for as long as it likes."""
        client = self.socket()
        self.beats(20, client)
        client.messages()
        self.assertEqual(len(client.pings), 20)
        self.assertFalse(client.connection.closed)

    def test_silent(self) -> None:
        """One that does not is dropped after two and a half heartbeats."""
        client = self.socket()
        self.beats(2)
        self.assertFalse(client.connection.closed)
        self.beats(1)
        client.messages()
        self.assertEqual((client.close or (0,))[0], 1008)
        self.assertTrue(client.connection.closed)
        self.assertEqual(len(self.subscribers), 0)
        dropped = self.metric("twisted_patroni_subscribers_dropped_total", reason="silent")
        self.assertEqual((dropped, SILENCE), (1, 37.5))

    def test_clock_put_forward(self) -> None:
        """A clock that is put forward by an hour is not taken for silence."""
        client = self.socket()
        self.api.clock.advance(3600)
        self.turns()
        client.pong()
        self.beats(2, client)
        client.messages()
        self.assertFalse(client.connection.closed)

    def test_pings_of_theirs(self) -> None:
        """A client's own pings are answered, and are signs of life, too."""
        client = self.socket()
        for _ in range(8):
            self.beats(1)
            client.send(Ping(b"there?"))
        client.messages()
        self.assertFalse(client.connection.closed)


class EndTests(EventCase):
    """How it ends."""

    def test_shutdown(self) -> None:
        """The node says that it shuts down, and does not wait."""
        client = self.socket()
        closed = self.api.api.close()
        self.turns()
        self.successResultOf(closed)
        client.messages()
        self.assertEqual(client.close, (1001, "the node shuts down"))

    def test_close(self) -> None:
        """A client that closes is answered, and forgotten."""
        client = self.socket()
        client.messages()
        client.send(CloseConnection(1000, "enough"))
        self.assertEqual(len(self.subscribers), 0)
        client.messages()
        self.assertEqual(client.close, (1000, "enough"))
        self.publish()
        self.turns()
        self.assertTrue(client.connection.closed)
        self.assertEqual(self.subscribers.dropped.total(), 0)

    def test_close_and_stay(self) -> None:
        """One that closes but never goes is gone soon."""
        client = self.socket()
        client.connection.stop_reading()
        client.send(CloseConnection(1000))
        client.connection.send(frame(PING))
        self.assertFalse(client.connection.closed)
        self.beats(1)
        self.assertTrue(client.connection.closed)

    def test_half_closed(self) -> None:
        """One that closes its side only is told goodbye."""
        client = self.socket()
        client.connection.say_no_more()
        client.messages()
        self.assertEqual((client.close or (0,))[0], 1000)

    def test_vanish(self) -> None:
        """One that vanishes in the middle of a frame leaves nothing behind."""
        data = frame(PING, b"x" * 100)
        for cut in (1, 2, 5, 6, 50):
            client = self.socket()
            client.connection.send(data[:cut])
            client.connection.vanish()
            self.assertEqual((len(self.subscribers), self.stream.followers), (0, 0))

    def test_offences(self) -> None:
        """Whatever is sent that must not be ends in a clean close, with a code that says why."""
        for name, (data, code) in OFFENCES.items():
            for pieces in ([data], [data[i : i + 1] for i in range(len(data))]):
                if len(pieces) > 1 and code == 1009:
                    continue  # the first bytes are an offence already
                client = self.socket()
                client.messages()
                for piece in pieces:
                    client.connection.send(piece)
                self.turns()
                client.messages()
                self.assertEqual((client.close or (0,))[0], code, name)
                self.assertTrue(client.connection.closed, name)
                self.publish()
                self.assertEqual((len(self.subscribers), len(self.site.connections)), (0, 0), name)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_library(self) -> None:
        """Whatever else wsproto may raise is a clean close, too, or at least the end."""

        class Odd:
            def __init__(self, *, closable: bool) -> None:
                self.closable = closable

            def dataReceived(self, data: bytes) -> None:
                raise RemoteProtocolError("odd")

            def loseConnection(self, code: int, reason: str) -> None:
                if not self.closable:
                    raise LocalProtocolError("closed already")
                channel.write(b"closed by %d" % code)
                channel.loseConnection()

        for closable in (True, False):
            client = self.socket()
            client.messages()
            channel = client.connection.protocol
            channel.guest._socket = Odd(closable=closable)
            client.connection.send(b"?")
            self.turns()
            self.assertTrue(client.connection.closed)
            received = client.connection.received()
            self.assertEqual(received, b"closed by 1002" if closable else b"")
        self.assertEqual(self.subscribers.dropped, {"protocol": 2})
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_counted(self) -> None:
        """Broken frames and unwelcome messages are counted apart."""
        for name in ("an unmasked frame", "a text", "too much in one piece"):
            self.socket().connection.send(OFFENCES[name][0])
        self.assertEqual(self.subscribers.dropped, {"protocol": 1, "input": 2})

    def test_noise(self) -> None:
        """Random bytes, and random changes to good frames, never do more than end it."""
        random = Random(20261121)
        good = frame(PING, b"ping") + frame(PONG) + frame(TEXT, b"text") + frame(CLOSE, b"\x03\xe8")
        for number in range(600):
            data = bytearray(random.randbytes(random.randrange(1, 60)) if number % 2 else good)
            for _ in range(random.randrange(4)):
                data[random.randrange(len(data))] = random.randrange(256)
            client = self.socket()
            cut = random.randrange(len(data))
            client.connection.send(bytes(data[:cut]))
            client.connection.send(bytes(data[cut:]))
            self.publish("node")
            client.connection.vanish()
        self.assertEqual((len(self.subscribers), len(self.site.connections)), (0, 0))
        self.assertEqual(self.flushLoggedErrors(), [])

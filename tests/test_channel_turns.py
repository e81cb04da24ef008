"""Connections: whose turn it is, and what becomes of one that is handed over."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from attrs import define, field
from twisted.internet.address import IPv4Address
from twisted.web.server import NOT_DONE_YET

from tests.test_channel import GET, ChannelTestCase
from tests.wire_client import SEND_BUFFER, Client
from twisted_patroni.web.answers import Answer, text_answer
from twisted_patroni.web.phases import Phase

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from twisted_patroni.web.site import ApiRequest


class HalfClosedTests(ChannelTestCase):
    """A client may say that it will send no more, as ``nc -N`` does."""

    def ask(self) -> Client:
        """Send a request that waits for its answer, and no more."""
        self.root.hold = True
        client = self.client()
        client.send(GET)
        client.say_no_more()
        return client

    def test_answer(self) -> None:
        """It gets an answer that does not take long."""
        client = self.ask()
        self.pass_time(2)
        self.root.held.pop().answer(text_answer(200, "here"))
        self.assertTrue(client.received().endswith(b"\r\n\r\nhere"))
        self.clock.advance(0)
        self.assertTrue(client.closed)

    def test_long_answer(self) -> None:
        """Nothing is done for long for one who may have left."""
        client = self.ask()
        gone = self.root.held[0].notifyFinish()
        self.pass_time(5)
        self.failureResultOf(gone)
        self.assertTrue(client.closed)
        self.assertEqual(len(self.site.connections), 0)

    def test_without_request(self) -> None:
        """Without a complete request the connection is closed, too."""
        for data in (b"", GET[:9], GET):
            client = self.client()
            client.send(data)
            client.say_no_more()
            self.clock.advance(0)
            self.assertTrue(client.closed, data)


class FairnessTests(ChannelTestCase):
    """Pipelining clients get answers in turns, and no more than they read."""

    def test_turns(self) -> None:
        """A burst is answered in later turns of the reactor, in order and completely."""
        client = self.client()
        paths = [b"/%d" % number for number in range(8)]
        client.send(b"".join(b"GET %b HTTP/1.1\r\n\r\n" % path for path in paths))
        self.assertEqual(len(self.root.seen), 1)
        self.clock.advance(0)
        self.assertEqual([request.uri for request in self.root.seen], paths)
        self.assertEqual(client.received().count(b"HTTP/1.1 200 OK"), 8)
        self.assertEqual(client.pipe.producerState, "producing")

    def test_others(self) -> None:
        """The connections have their turns one after another."""
        answered = ""

        def note(request: ApiRequest, code: int, seconds: float) -> None:
            nonlocal answered
            answered += request.client_host[-1]

        self.site.on_answered = note
        clients = [
            Client(self.site, self.clock, peer=IPv4Address("TCP", f"192.0.2.{number}", 1))
            for number in range(5)
        ]
        for client in clients:
            client.send(GET * 3)
            self.assertEqual(client.pipe.producerState, "paused")
        self.clock.advance(0)
        self.assertEqual(answered, "01234" * 3)

    def test_pace(self) -> None:
        """They are answered one in a millisecond, however many they are."""
        self.site.turns.interval = 0.001
        for _ in range(50):
            self.client().send(GET * 3)
        self.assertEqual(len(self.root.seen), 50)
        self.clock.pump([0.001] * 100)
        self.assertEqual(len(self.root.seen), 150)

    def test_never_reading(self) -> None:
        """A client that does not read its answers is not read either, and its answers are few."""
        self.root.reply = Answer(200, b"x" * 1000, "text/plain")
        client = self.client()
        client.pipe.reading = False
        client.send(GET * 1000)
        self.clock.pump([0] * 1000)
        self.assertEqual(client.pipe.producerState, "paused")
        self.assertLess(len(client.pipe.value()), SEND_BUFFER + 2000)
        seen = len(self.root.seen)
        self.assertEqual(client.read_on().count(b"HTTP/1.1 200 OK"), seen)
        self.clock.pump([0] * 1000)
        self.assertEqual(len(self.root.seen), 1000)
        self.assertEqual(client.pipe.producerState, "producing")

    def test_reading_again(self) -> None:
        """A client that has caught up is served on, also if it had sent nothing meanwhile."""
        self.root.reply = Answer(200, b"x" * 100000, "text/plain")
        client = self.client()
        client.pipe.reading = False
        client.send(GET)
        self.assertEqual(client.pipe.producerState, "paused")
        client.read_on()
        client.read_on()
        self.clock.advance(0)
        self.assertEqual(client.pipe.producerState, "producing")
        self.assertTrue(client.ask(GET).startswith(b"HTTP/1.1 200 OK"))

    def test_never_reading_ends(self) -> None:
        """A client that does not read its answers is dropped in the end."""
        self.root.reply = Answer(200, b"x" * 100000, "text/plain")
        client = self.client()
        client.pipe.reading = False
        client.send(GET * 3)
        self.assertEqual(len(self.root.seen), 1)
        self.pass_time(62 + 7)
        self.assertTrue(client.closed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_slow_answers(self) -> None:
        """Requests that wait for one another are answered one after another."""
        self.root.hold = True
        client = self.client()
        client.send(GET * 10)
        for _ in range(10):
            self.clock.advance(0)
            self.root.held.pop().answer(text_answer(200, "x"))
        self.clock.advance(0)
        self.assertEqual(client.received().count(b"HTTP/1.1 200 OK"), 10)

    def test_behind_a_slow_answer(self) -> None:
        """What is sent behind a request in flight is not kept without limit."""
        self.root.hold = True
        client = self.client()
        client.send(GET + b"x" * 20000)
        self.assertEqual(client.pipe.producerState, "paused")

    def test_leaving_before_its_turn(self) -> None:
        """A client that leaves while it waits for its turn is forgotten."""
        client = self.client()
        client.send(GET * 8)
        client.vanish()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_paused_again(self) -> None:
        """A turn that comes when the client has stopped reading again is not taken."""
        client = self.client()
        client.send(GET * 8)
        client.stop_reading()
        self.clock.advance(0)
        self.assertEqual(len(self.root.seen), 1)
        client.read_on()
        self.clock.pump([0] * 8)
        self.assertEqual(len(self.root.seen), 8)


@define
class Carrier:
    """What a transport is wrapped around, or not.

    :param socket: the socket, ``None`` for no socket.
    :ivar closing: it was asked to close.
    """

    socket: socket.socket | None
    closing: bool = field(default=False, init=False)

    def loseConnection(self) -> None:
        """Close when everything is sent."""
        self.closing = True


class GuestTests(ChannelTestCase):
    """A connection that is given away is still counted, and ended with the others."""

    class Guest:
        """Remembers what it hears."""

        def __init__(self, channel: Any) -> None:
            self.channel = channel
            self.heard: list[bytes] = []
            self.ends: list[Failure] = []

        def dataReceived(self, data: bytes) -> None:
            """Remember bytes."""
            self.heard.append(data)

        def connectionLost(self, reason: Failure) -> None:
            """Remember the end."""
            self.ends.append(reason)

        def retire(self) -> None:
            """Say goodbye."""
            self.channel.write(b"bye")
            self.channel.loseConnection()

    def given(
        self, data: bytes = GET, carrier: socket.socket | None = None, secure: bool = False
    ) -> tuple[Client, Guest]:
        """Return a client whose connection is given away, and to whom.

        :param data: what it sends.
        :param carrier: the socket that the connection has, as far as anybody can tell.
        :param secure: the connection is TLS.
        """
        client = self.client(secure)
        client.pipe.transport = Carrier(carrier)  # type: ignore[attr-defined]
        guest = self.Guest(client.protocol)

        def render(request: object) -> int:
            client.protocol.hand_over(guest, Phase.UPGRADED)
            client.protocol.hear_early()
            return NOT_DONE_YET

        self.root.render = render  # type: ignore[method-assign]
        client.send(data)
        return client, guest

    def test_given(self) -> None:
        """The guest gets every byte, there is no deadline, and its end is noticed."""
        client, guest = self.given()
        self.assertEqual(client.protocol.phase, Phase.UPGRADED)
        client.send(b"frame")
        self.pass_time(200)
        self.assertEqual(guest.heard, [b"frame"])
        self.assertEqual((len(self.site.connections), self.site.in_flight), (1, 0))
        client.vanish()
        self.assertEqual(len(guest.ends), 1)
        self.assertEqual(len(self.site.connections), 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_bytes_with_the_request(self) -> None:
        """Bytes that came with the request are not lost, wherever its body ends."""
        for request in (GET, b"GET / HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody"):
            _, guest = self.given(request + b"frame")
            self.assertEqual(guest.heard, [b"frame"])

    def test_kernel(self) -> None:
        """The kernel keeps little of what a client does not read, as well through TLS."""
        with socket.socket() as carrier:
            self.given(GET, carrier)
            kept = carrier.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        self.assertLessEqual(kept, 2 * SEND_BUFFER)  # Linux tells twice of what was set

    def test_shut(self) -> None:
        """At the end of the site the guest says goodbye and nobody waits for the grace."""
        client, _ = self.given()
        ended = self.site.shut(2.0)
        self.clock.advance(0)
        self.assertEqual(client.received(), b"bye")
        self.successResultOf(ended)

    def test_shut_secure(self) -> None:
        """The end of TLS is said, but the client's consent is not waited for."""
        client, _ = self.given(secure=True)
        self.site.shut(2.0)
        self.assertEqual(client.received(), b"bye")
        self.assertTrue(client.pipe.transport.closing)  # type: ignore[attr-defined]

    def test_shut_unread(self) -> None:
        """A client that does not read its goodbye has a quarter of a second."""
        for secure in (False, True):
            client, _ = self.given(secure=secure)
            client.stop_reading()
            ended = self.site.shut(2.0)
            self.pass_time(1)
            self.successResultOf(ended)
            self.assertTrue(client.closed)
            self.site.closing = False

    def test_half_closed_before(self) -> None:
        """One that has said so before the connection was given away is not kept for long."""
        self.root.hold = True
        client = self.client()
        client.send(GET)
        client.say_no_more()
        client.protocol.hand_over(self.Guest(client.protocol), Phase.STREAM)
        self.assertEqual(client.received(), b"")
        self.pass_time(5)
        self.assertEqual(client.received(), b"bye")
        self.assertTrue(client.closed)

    def test_half_closed(self) -> None:
        """A client that will send no more is told goodbye."""
        client, _ = self.given()
        client.say_no_more()
        self.assertEqual(client.received(), b"bye")
        self.clock.advance(0)
        self.assertTrue(client.closed)

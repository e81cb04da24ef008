"""Connections: deadlines, protocol errors, fairness, and a transport that is not plain TCP."""

from __future__ import annotations

from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass

from tests.wire_client import Client, Echo
from twisted_patroni.settings import Limits
from twisted_patroni.web.answers import text_answer
from twisted_patroni.web.channel import ApiChannel
from twisted_patroni.web.site import ApiSite

GET = b"GET / HTTP/1.1\r\n\r\n"
POST = b"POST / HTTP/1.1\r\n"


class ChannelTestCase(SynchronousTestCase):
    """A site whose limits are all different."""

    limits = Limits(
        handshake=8,
        first_byte=5,
        head=10,
        body=30,
        idle=60,
        linger=2,
        close=6,
        line_bytes=200,
        head_bytes=1000,
        headers=20,
        linger_bytes=5000,
    )

    def setUp(self) -> None:
        """Make the site."""
        self.clock = Clock()
        self.root = Echo()
        self.site = ApiSite(self.root, self.clock, self.limits)
        self.site.turns.interval = 0.0

    def client(self, secure: bool = False) -> Client:
        """Return a connected client."""
        return Client(self.site, self.clock, secure=secure)

    def pass_time(self, seconds: int) -> None:
        """Let time pass, second by second."""
        self.clock.pump([1] * seconds)


class DeadlineTests(ChannelTestCase):
    """No client holds a connection by dripping bytes, or by doing nothing."""

    def assert_closed_after(self, client: Client, seconds: int, drip: bytes = b"") -> bytes:
        """Check when a connection is closed, give or take the sweep, and return what came."""
        received = b""
        for second in range(seconds):
            self.assertFalse(client.closed or client.pipe.write_closed, second)
            if drip:
                client.send(drip)
            self.pass_time(1)
            received += client.received()
        self.pass_time(1)
        self.assertTrue(client.closed or client.pipe.write_closed)
        return received + client.received()

    def test_silence(self) -> None:
        """A client that says nothing is let go without a word."""
        self.assertEqual(self.assert_closed_after(self.client(), 5), b"")
        self.assertEqual(self.site.timeouts, {"first_byte": 1})

    def test_dripped_head(self) -> None:
        """A head that does not end in time is answered with 408."""
        client = self.client()
        client.send(b"GET / HTTP/1.0\r\nX: ")
        page = self.assert_closed_after(client, 10, b"y")
        self.assertTrue(page.startswith(b"HTTP/1.0 408 Request Timeout\r\n"))
        self.assertEqual(self.site.timeouts, {"head": 1})
        self.assertEqual(self.site.protocol_errors, {408: 1})

    def test_dripped_body(self) -> None:
        """A body that does not end in time is answered with 408."""
        for head, drip in [
            (b"Content-Length: 99\r\n\r\n", b"x"),
            (b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        ]:
            client = self.client()
            client.send(POST + head)
            page = self.assert_closed_after(client, 30, drip)
            self.assertTrue(page.startswith(b"HTTP/1.1 408 Request Timeout\r\n"))
        self.assertEqual(self.site.timeouts["body"], 2)
        self.assertEqual(self.root.seen, [])

    def test_keep_alive(self) -> None:
        """Each request has its own time, and so has the pause before it."""
        client = self.client()
        for _ in range(3):
            self.assertNotEqual(client.ask(GET), b"")
            self.pass_time(50)
            self.assertEqual(client.ask(GET[:5]), b"")
            self.pass_time(9)
            self.assertNotEqual(client.ask(GET[5:]), b"")
        self.assertEqual(self.assert_closed_after(client, 60), b"")
        self.assertEqual(self.site.timeouts, {"idle": 1})

    def test_keep_alive_after_body(self) -> None:
        """The pause after a request with a body is a pause."""
        client = self.client()
        client.send(POST + b"Content-Length: 2\r\n\r\n{}")
        self.assertEqual(self.assert_closed_after(client, 60).count(b"HTTP/1.1 200 OK"), 1)

    def test_members_get_fresh_connections(self) -> None:
        """Another member's daemon, which does not repeat requests, is never kept connected."""
        agent = b"User-Agent: Patroni/4.1.5 Python/3.11.7 Linux"
        client = self.client()
        reply = client.ask(b"GET /patroni HTTP/1.1\r\n" + agent + b"\r\n\r\n")
        self.assertIn(b"\r\nConnection: close\r\n", reply)
        self.clock.advance(0)
        self.assertTrue(client.closed)

    def test_half_a_request_pipelined(self) -> None:
        """A request that began with the one before it has a head's time from then on."""
        self.root.hold = True
        client = self.client()
        client.send(GET + GET[:7])
        self.pass_time(20)
        self.root.held.pop().answer(text_answer(200, "late"))
        self.clock.advance(0)
        self.assertIn(b"HTTP/1.1 408 ", self.assert_closed_after(client, 10))

    def test_request_in_flight(self) -> None:
        """A request that is being answered has all the time it needs."""
        self.root.hold = True
        client = self.client()
        client.send(GET)
        self.pass_time(1000)
        self.assertFalse(client.closed)
        self.root.held.pop().answer(text_answer(200, "late"))
        self.assertTrue(client.received().endswith(b"late"))

    def test_unread_answer(self) -> None:
        """A client that asks for the close but never reads is cut off."""
        client = self.client()
        client.pipe.reading = False
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        self.pass_time(6)
        self.assertFalse(client.closed)
        self.pass_time(1)
        self.assertTrue(client.closed and client.pipe.aborted)
        self.assertEqual(self.site.timeouts, {"close": 1})

    def test_linger(self) -> None:
        """After a refusal, what comes is dropped for a while, and only for that."""
        client = self.client()
        client.send(b"nonsense\r\n\r\n")
        self.assertTrue(client.pipe.write_closed)
        self.pass_time(2)
        client.received()
        self.assertEqual(client.ask(GET), b"")
        self.assertFalse(client.closed)
        self.pass_time(1)
        self.assertTrue(client.closed)

    def test_linger_bytes(self) -> None:
        """After a refusal, what is dropped is limited."""
        client = self.client()
        client.send(b"nonsense\r\n\r\n" + b"x" * 4000)
        self.clock.advance(0)
        self.assertFalse(client.closed)
        client.send(b"x" * 1000)
        self.clock.advance(0)
        self.assertTrue(client.closed)
        client.send(b"more")

    def test_tls(self) -> None:
        """The handshake has a time of its own, before the first byte's."""
        client, other = self.client(secure=True), self.client(secure=True)
        self.pass_time(8)
        other.protocol.handshakeCompleted()
        self.assertFalse(client.pipe.disconnecting)
        self.pass_time(1)
        self.assertTrue(client.pipe.disconnecting)
        self.pass_time(4)
        self.assertFalse(other.pipe.disconnecting)
        self.pass_time(1)
        self.assertTrue(other.pipe.disconnecting)
        self.assertEqual(self.site.timeouts, {"handshake": 1, "first_byte": 1})
        self.assertTrue(verifyClass(IHandshakeListener, ApiChannel))

    def test_tls_refusal(self) -> None:
        """A client of TLS sees the end at once, too, and cannot put it off."""
        client = self.client(secure=True)
        client.protocol.handshakeCompleted()
        self.assertIn(b"HTTP/1.1 400 ", client.ask(b"nonsense\r\n\r\n"))
        self.assertTrue(client.pipe.disconnecting)
        self.assertFalse(client.pipe.write_closed)
        self.assertEqual(client.ask(GET), b"")
        self.pass_time(2)
        self.assertFalse(client.closed)
        self.pass_time(1)
        self.assertTrue(client.closed)

    def test_tls_close(self) -> None:
        """A client of TLS that never agrees to the close is cut off."""
        client = self.client(secure=True)
        client.protocol.handshakeCompleted()
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        self.pass_time(6)
        self.assertFalse(client.closed)
        self.pass_time(1)
        self.assertTrue(client.closed)


class ProtocolErrorTests(ChannelTestCase):
    """What cannot be read is answered with a page that says why, and a close."""

    def assert_refused(self, code: int, data: bytes) -> None:
        """Check that some bytes are answered with one page, and that no resource saw them."""
        client = self.client()
        reply = client.ask(data)
        self.assertTrue(reply.startswith(b"HTTP/1.1 %d " % code), (data, reply))
        self.assertEqual(reply.count(b"HTTP/1.1 "), 1)
        self.assertIn(b"\r\nConnection: close\r\nContent-Type: text/html", _sorted_head(reply))
        self.assertTrue(client.pipe.write_closed)
        self.assertEqual(client.ask(GET), b"")
        self.assertEqual(self.root.seen, [])

    def test_malformed(self) -> None:
        """Whatever breaks the grammar is 400."""
        for data in [
            b"GET /\r\n\r\n",
            b"\0\1\2\r\n\r\n",
            b"GET /a b HTTP/1.1\r\n\r\n",
            b"GET /\xff HTTP/1.1\r\n\r\n",
            b"\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            b"GET / HTTP/1.1\r\nno colon\r\nX: 1\r\n\r\n",
            b"GET / HTTP/1.1\r\nX: a\0b\r\n\r\n",
            POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
            POST + b"Content-Length: -5\r\n\r\nhello",
            POST + b"Content-Length: five\r\n\r\nhello",
            POST + b"Content-Length:\r\n\r\n",
            POST + b"Content-Length: " + b"9" * 150 + b"\r\n\r\n",
            POST + b"Transfer-Encoding: gzip\r\n\r\n",
            POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        ]:
            self.assert_refused(400, data)

    def test_limits(self) -> None:
        """A head that is too long is refused, whether it ends or not."""
        self.assert_refused(414, b"GET /" + b"x" * 200 + b" HTTP/1.1\r\n\r\n")
        self.assert_refused(414, b"GET /" + b"x" * 250)
        self.assert_refused(431, b"GET / HTTP/1.1\r\nX: " + b"x" * 200 + b"\r\n\r\n")
        self.assert_refused(431, b"GET / HTTP/1.1\r\nX: " + b"x" * 250)
        self.assert_refused(431, b"GET / HTTP/1.1\r\n" + b"X: 1\r\n" * 21 + b"\r\n")
        self.assert_refused(431, b"GET / HTTP/1.1\r\n" + b"X: 1\r\n" * 500)
        self.assert_refused(431, b"GET / HTTP/1.1\r\n" + (b"X: " + b"x" * 150 + b"\r\n") * 7)
        self.assertEqual(self.site.protocol_errors, {414: 2, 431: 5})

    def test_huge_length(self) -> None:
        """A length that no body has is refused without waiting for it."""
        self.assert_refused(413, POST + b"Content-Length: " + b"9" * 18 + b"\r\n\r\n")
        self.assert_refused(400, POST + b"Content-Length: " + b"9" * 19 + b"\r\n\r\n")

    def test_version(self) -> None:
        """Other versions of HTTP are refused as such."""
        self.assert_refused(505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self.assert_refused(505, b"GET / HTTP/3.7\r\n\r\n")

    def test_head(self) -> None:
        """A page in answer to HEAD is its head."""
        reply = self.client().ask(b"HEAD / HTTP/1.0\r\nX : 1\r\n\r\n")
        self.assertTrue(reply.startswith(b"HTTP/1.0 400 Bad Request\r\n"))
        self.assertTrue(reply.endswith(b"\r\n\r\n"))

    def test_after_good_request(self) -> None:
        """An error after a good request leaves that one's answer alone."""
        client = self.client()
        client.send(GET + b"nonsense\r\n\r\n" + GET)
        self.clock.advance(0)
        reply = client.received()
        self.assertEqual(reply.count(b"HTTP/1.1 200 "), 1)
        self.assertEqual(reply.count(b"HTTP/1.1 400 "), 1)

    def test_leaving_early(self) -> None:
        """A client may leave in the middle of anything."""
        for data in [
            b"",
            b"GET",
            b"GET / HTTP/1.1\r\nX",
            POST + b"Content-Length: 9\r\n\r\nx",
            b"?\r\n",
        ]:
            client = self.client()
            client.send(data)
            client.vanish()
        self.assertEqual(len(self.site.connections), 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])


def _sorted_head(reply: bytes) -> bytes:
    lines = reply.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    wanted = [line for line in lines if line.startswith((b"Connection", b"Content-Type"))]
    return b"".join(b"\r\n" + line for line in sorted(wanted))

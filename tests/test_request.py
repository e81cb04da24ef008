"""Requests: what reaches a resource, what reaches the client, and what is refused before."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from twisted.internet.address import IPv6Address, UNIXAddress
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from tests.wire_client import Client, Echo
from twisted_patroni.settings import Limits
from twisted_patroni.web.answers import Answer, bare_answer, error_page, text_answer
from twisted_patroni.web.site import ApiRequest, ApiSite

if TYPE_CHECKING:
    from collections.abc import Callable

DATE = b"Thu, 01 Jan 1970 00:00:00 GMT"
POST = b"POST /config HTTP/1.1\r\nHost: h\r\n"


class RequestTestCase(SynchronousTestCase):
    """A site with one echoing resource.

    :ivar decide: decides on requests at the end of their heads.
    """

    def setUp(self) -> None:
        """Make the site, which admits everything."""
        self.decide: Callable[[ApiRequest], Answer | None] = lambda request: None
        self.clock = Clock()
        self.root = Echo()
        self.site = self.make_site(self.root)

    def make_site(self, root: Resource) -> ApiSite:
        """Return a site that admits what :attr:`decide` admits."""
        site = ApiSite(root, self.clock, Limits(body_bytes=100), lambda r: self.decide(r))
        site.turns.interval = 0.0
        return site

    def client(self) -> Client:
        """Return a connected client."""
        return Client(self.site, self.clock)


class AnswerTests(RequestTestCase):
    """Answers arrive as the contract says."""

    def test_http_1_0(self) -> None:
        """An HTTP/1.0 client gets an HTTP/1.0 answer and the end of the connection."""
        client = self.client()
        self.site.server_token = b"Patroni"
        reply = client.ask(b"GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        self.assertEqual(
            reply,
            b"HTTP/1.0 200 OK\r\nServer: Patroni\r\nDate: " + DATE + b"\r\n"
            b"Content-Type: application/json\r\nContent-Length: 14\r\nConnection: close\r\n\r\n"
            b'{"path": "/x"}',
        )
        self.clock.advance(0)
        self.assertTrue(client.closed)

    def test_bare_http_1_0(self) -> None:
        """A bare answer to HTTP/1.0 is a status line and an empty line."""
        self.root.reply = bare_answer(503)
        for method in (b"OPTIONS", b"HEAD", b"GET"):
            client = self.client()
            reply = client.ask(method + b" /replica HTTP/1.0\r\n\r\n")
            self.assertEqual(reply, b"HTTP/1.0 503 Service Unavailable\r\n\r\n")
            self.clock.advance(0)
            self.assertTrue(client.closed)

    def test_bare_http_1_1(self) -> None:
        """A bare answer to HTTP/1.1 keeps the connection, and gets no extra headers."""
        self.root.reply = bare_answer(200)
        self.site.door.extra_headers = (("X-Frame-Options", "DENY"),)
        self.site.server_token = b"Patroni"
        client = self.client()
        for method in (b"OPTIONS", b"HEAD", b"GET"):
            self.assertEqual(
                client.ask(method + b" / HTTP/1.1\r\n\r\n"),
                b"HTTP/1.1 200 OK\r\nServer: Patroni\r\nDate: "
                + DATE
                + b"\r\nContent-Length: 0\r\n\r\n",
            )
        self.assertFalse(client.closed)

    def test_extra_headers(self) -> None:
        """The operator's headers are added to answers and pages, from the next request on."""
        client = self.client()
        self.assertNotIn(b"X-A", client.ask(b"GET / HTTP/1.1\r\n\r\n"))
        self.site.door.extra_headers = (("X-A", "1\r\nX-B: 2"), ("Server", "mine"))
        for reply in (
            client.ask(b"GET / HTTP/1.1\r\n\r\n"),
            client.ask(b"HEAD / HTTP/1.1\r\n\r\n"),
            client.ask(b"broken\r\n\r\n"),
        ):
            head = reply.partition(b"\r\n\r\n")[0].split(b"\r\n")
            self.assertEqual(head[-2:], [b"X-A: 1  X-B: 2", b"Server: mine"])
            self.assertTrue(head[1].startswith(b"Server: TwistedWeb/"))

    def test_head(self) -> None:
        """HEAD tells the length of the body it does not get."""
        client = self.client()
        reply = client.ask(b"HEAD /x HTTP/1.1\r\n\r\n")
        self.assertTrue(reply.endswith(b"Content-Length: 14\r\n\r\n"))

    def test_close(self) -> None:
        """Either side can ask for the end of the connection."""
        for header in (b"close", b"Close", b"keep-alive,close", b"x , close"):
            client = self.client()
            reply = client.ask(b"GET / HTTP/1.1\r\nConnection: " + header + b"\r\n\r\n")
            self.assertIn(b"\r\nConnection: close\r\n", reply)
            self.clock.advance(0)
            self.assertTrue(client.closed)
        self.root.reply = Answer(200, close=True)
        client = self.client()
        self.assertIn(b"\r\nConnection: close\r\n", client.ask(b"GET / HTTP/1.1\r\n\r\n"))
        self.clock.advance(0)
        self.assertTrue(client.closed)

    def test_date(self) -> None:
        """The Date follows the clock."""
        client = self.client()
        self.assertIn(DATE, client.ask(b"GET / HTTP/1.1\r\n\r\n"))
        self.clock.advance(1)
        self.assertIn(b" 00:00:01 GMT", client.ask(b"GET / HTTP/1.1\r\n\r\n"))

    def test_twice(self) -> None:
        """A second answer to one request is an error."""

        class Twice(Resource):
            isLeaf = True

            def render(self, request: ApiRequest) -> int:
                request.write(b"part")
                request.answer(bare_answer(200))
                return NOT_DONE_YET

        self.site = self.make_site(Twice())
        client = self.client()
        self.assertNotIn(b"HTTP/1.1 500", client.ask(b"GET / HTTP/1.1\r\n\r\n"))
        self.assertTrue(client.pipe.aborted)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_stream(self) -> None:
        """A resource may write in parts; the headers of every answer are there."""
        self.root.hold = True
        self.site.door.extra_headers = (("X-A", "1"),)
        client = self.client()
        client.send(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
        request = self.root.held.pop()
        request.setHeader(b"Content-Type", b"text/event-stream")
        request.write(b"one")
        head, _, body = client.received().partition(b"\r\n\r\n")
        for line in (b"Server: TwistedWeb/", b"Date: " + DATE, b"X-A: 1", b"Connection: close"):
            self.assertIn(b"\r\n" + line, head)
        self.assertEqual(body, b"3\r\none\r\n")
        request.write(b"two")
        self.assertEqual(client.received(), b"3\r\ntwo\r\n")
        request.finish()
        self.assertEqual(client.received(), b"0\r\n\r\n")

    def test_bytes(self) -> None:
        """A resource may return bytes, as with any site."""

        class Plain(Resource):
            def render_GET(self, request: ApiRequest) -> bytes:
                return b"hello"

        self.site = self.make_site(Plain())
        self.assertTrue(self.client().ask(b"GET http://h HTTP/1.1\r\n\r\n").endswith(b"hello"))

    def test_failure(self) -> None:
        """A resource that fails gives a page that says nothing, and an entry in the log."""

        class Broken(Resource):
            isLeaf = True

            def render(self, request: ApiRequest) -> bytes:
                raise ValueError("secret")

        self.site = self.make_site(Broken())
        client = self.client()
        reply = client.ask(b"GET / HTTP/1.1\r\n\r\n")
        self.assertTrue(reply.startswith(b"HTTP/1.1 500 Internal Server Error\r\n"))
        self.assertNotIn(b"secret", reply)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_failure_after_the_answer(self) -> None:
        """A resource that fails when it has answered costs nobody anything but a log entry."""

        class Hasty(Resource):
            isLeaf = True

            def render(self, request: ApiRequest) -> bytes:
                request.answer(bare_answer(200))
                raise ValueError

        self.site = self.make_site(Hasty())
        client = self.client()
        reply = client.ask(b"GET / HTTP/1.1\r\n\r\n")
        self.assertEqual(reply.count(b"HTTP/1.1 "), 1)
        self.assertFalse(client.pipe.disconnecting)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)


class ArrivalTests(RequestTestCase):
    """A resource sees what was asked."""

    def test_target(self) -> None:
        """Path, query and path components are upstream's."""
        client = self.client()
        client.send(b"GET http://h//cluster/%61;b?lag=1MB&lag=2&x= HTTP/1.1\r\n\r\n")
        client.send(b"OPTIONS * HTTP/1.1\r\n\r\n")
        first, star = self.root.seen
        self.assertEqual(first.target_path, "/cluster/%61")
        self.assertEqual(first.query, {"lag": "1MB"})
        self.assertEqual(first.postpath, [b"cluster", b"%61"])
        self.assertEqual(star.target_path, "*")

    def test_unreadable_target(self) -> None:
        """A target that is no URL is refused."""
        reply = self.client().ask(b"GET http://[/ HTTP/1.0\r\n\r\n")
        self.assertTrue(reply.startswith(b"HTTP/1.0 400 Bad Request\r\n"))
        self.assertEqual(self.root.seen, [])

    def test_tree(self) -> None:
        """The resource is found by its path components, and only once."""
        root = Resource()
        root.putChild(b"", first := Echo())
        root.putChild(b"%61", second := Echo())
        self.site = self.make_site(root)
        places: list[object] = []
        self.decide = lambda request: places.append(request.resource)
        client = self.client()
        client.send(b"GET / HTTP/1.1\r\n\r\nGET //%61 HTTP/1.1\r\n\r\n")
        self.clock.advance(0)
        self.assertEqual([len(first.seen), len(second.seen)], [1, 1])
        self.assertEqual(places, [first, second])

    def test_client_host(self) -> None:
        """Addresses are plain text; a Unix socket has none."""
        for peer, host in [
            (None, "192.0.2.7"),
            (IPv6Address("TCP", "::ffff:192.0.2.9", 1), "192.0.2.9"),
            (IPv6Address("TCP", "2001:db8::1", 1), "2001:db8::1"),
            (UNIXAddress(None), ""),
        ]:
            Client(self.site, self.clock, peer=peer).send(b"GET / HTTP/1.1\r\n\r\n")
            self.assertEqual(self.root.seen.pop().client_host, host)

    def test_body(self) -> None:
        """Bodies arrive whole, with a length or in chunks, in pieces, and one after another."""
        client = self.client()
        client.send(POST + b"Content-Length: 5\r\n\r\nhel")
        self.assertEqual(self.root.bodies, [])
        client.send(b"lo" + POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        client.send(b"2\r\nde\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n")
        self.clock.advance(0)
        self.assertEqual(self.root.bodies, [b"hello", b"abcde", b""])
        self.assertFalse(client.closed)

    def test_no_form(self) -> None:
        """What curl -d labels as a form is a body like any other."""
        form = b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 3\r\n\r\na=1"
        self.client().send(POST + form)
        self.assertEqual(self.root.bodies, [b"a=1"])
        self.assertEqual(self.root.seen[0].args, {})

    def test_disconnect(self) -> None:
        """A client that leaves is noticed, and answering it later is harmless."""
        self.root.hold = True
        client = self.client()
        client.send(b"GET / HTTP/1.1\r\n\r\n")
        request = self.root.held.pop()
        gone = request.notifyFinish()
        client.vanish()
        self.assertIsInstance(self.failureResultOf(gone), Failure)
        request.answer(bare_answer(200))
        self.assertEqual(client.received(), b"")
        self.assertEqual(self.clock.getDelayedCalls(), [])


class AdmissionTests(RequestTestCase):
    """Requests are decided on before their bodies are read."""

    refusal: Answer | None = None
    limit: int | None = None

    def setUp(self) -> None:
        """Let this case decide."""
        super().setUp()
        self.decide = self.admit

    def admit(self, request: ApiRequest) -> Answer | None:
        """Answer as the test says, having seen the whole head."""
        self.facts = (request.method, request.target_path, request.client_host)
        self.assertEqual(request.getHeader(b"host"), b"h")
        if self.limit is not None:
            request.body_limit = self.limit
        return self.refusal

    def test_refused_before_body(self) -> None:
        """The refusal comes at once, without 100 Continue, and the body is dropped."""
        self.refusal = text_answer(401, "no auth header received")
        client = self.client()
        reply = client.ask(POST + b"Expect: 100-continue\r\nContent-Length: 50\r\n\r\n")
        self.assertTrue(reply.startswith(b"HTTP/1.1 401 Unauthorized\r\n"))
        self.assertIn(b"\r\nConnection: close\r\n", reply)
        self.assertEqual(self.facts, (b"POST", "/config", "192.0.2.7"))
        self.assertTrue(client.pipe.write_closed)
        self.assertFalse(client.pipe.disconnecting)
        self.assertEqual(client.ask(b"x" * 50 + b"GET / HTTP/1.1\r\n\r\n"), b"")
        self.assertEqual(self.root.seen, [])
        self.clock.pump([1, 1, 1, 1])
        self.assertTrue(client.closed)

    def test_refused_without_body(self) -> None:
        """The refusal of a request without body does not cost the connection."""
        self.refusal = text_answer(403, "no")
        client = self.client()
        request = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
        client.send(request * 2)
        self.clock.advance(0)
        self.assertEqual(client.received().count(b"HTTP/1.1 403 Forbidden\r\n"), 2)
        self.assertEqual(self.root.seen, [])

    def test_continue(self) -> None:
        """An admitted client that waits for 100 Continue gets it."""
        client = self.client()
        reply = client.ask(POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        self.assertEqual(reply, b"HTTP/1.1 100 Continue\r\n\r\n")
        self.assertTrue(client.ask(b"{}").startswith(b"HTTP/1.1 200 OK\r\n"))

    def test_too_large(self) -> None:
        """A body over the limit is refused: from its length, or as soon as it is."""
        for limit, head in [(None, b"Content-Length: 101"), (7, b"Content-Length: 8")]:
            self.limit = limit
            client = self.client()
            reply = client.ask(POST + head + b"\r\nExpect: 100-continue\r\n\r\n")
            self.assertTrue(reply.startswith(b"HTTP/1.1 413 "), reply)
        client = self.client()
        self.assertEqual(
            client.ask(POST + b"Transfer-Encoding: chunked\r\n\r\n7\r\n1234567\r\n"), b""
        )
        self.assertTrue(client.ask(b"1\r\n8\r\n").startswith(b"HTTP/1.1 413 "))
        self.assertEqual(client.ask(b"1\r\n8\r\n" * 1000), b"")
        self.limit = 10**9
        self.assertEqual(self.client().ask(POST + b"Content-Length: 1000000\r\n\r\n"), b"")
        self.assertEqual(self.root.seen, [])

    def test_crumbs(self) -> None:
        """Tiny chunks without end are refused, which large ones are not."""
        self.limit = 10**6
        chunked = POST + b"Transfer-Encoding: chunked\r\n\r\n"
        client = self.client()
        self.assertEqual(client.ask(chunked + b"1\r\nx\r\n" * 1000), b"")
        self.assertTrue(client.ask(b"1\r\nx\r\n" * 1000).startswith(b"HTTP/1.1 400 "))
        client = self.client()
        reply = client.ask(chunked + (b"100\r\n" + b"x" * 256 + b"\r\n") * 3000 + b"0\r\n\r\n")
        self.assertTrue(reply.startswith(b"HTTP/1.1 200 "))

    def test_failing_decision(self) -> None:
        """A decision that fails is a refusal."""
        self.decide = lambda request: [][0]
        reply = self.client().ask(POST + b"Content-Length: 5\r\n\r\n")
        self.assertTrue(reply.startswith(b"HTTP/1.1 500 "))
        self.assertEqual(len(self.flushLoggedErrors(IndexError)), 1)


class AccountTests(RequestTestCase):
    """Each answered request is counted and, if wanted, logged."""

    def test_hook(self) -> None:
        """The hook hears of every answer once, with the time it took."""
        calls: list[tuple[bytes, int, float]] = []
        self.site.on_answered = lambda request, code, seconds: calls.append(
            (request.method, code, seconds)
        )
        self.root.hold = True
        client = self.client()
        client.send(b"GET / HTTP/1.1\r\n\r\n")
        self.clock.advance(2)
        self.root.held.pop().answer(error_page(503))
        client.send(POST + b"Content-Length: 500\r\n\r\n")
        self.assertEqual(calls, [(b"GET", 503, 2.0), (b"POST", 413, 0.0)])

    def test_access_log(self) -> None:
        """The line is upstream's, on upstream's logger, and only at DEBUG."""
        with self.assertLogs("patroni.api", logging.DEBUG) as caught:
            self.client().send(b"GET /a?b HTTP/1.0\r\n\r\n")
        self.assertEqual(
            caught.output,
            [
                "DEBUG:patroni.api:API thread: 192.0.2.7 - - "
                '"GET /a?b HTTP/1.0" 200 - latency: 0.000 ms'
            ],
        )
        with self.assertNoLogs("patroni.api", logging.INFO):
            self.client().send(b"GET / HTTP/1.0\r\n\r\n")

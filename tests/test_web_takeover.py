"""Tests of taking a request over: what a handler may return instead of an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.wire_client import Client
from twisted_patroni.web.resource import Responder
from twisted_patroni.web.routing import Endpoint, build_tree
from twisted_patroni.web.site import ApiSite

if TYPE_CHECKING:
    from twisted_patroni.web.request import ApiRequest, Takeover
    from twisted_patroni.web.resource import Call

GET = b"GET /it HTTP/1.1\r\n\r\n"


class Writer:
    """Writes an answer by itself."""

    def take(self, request: ApiRequest) -> None:
        """Write."""
        request.setHeader("Content-Length", "2")
        request.write(b"me")
        request.finish()


class Failing:
    """Fails."""

    def __init__(self, when: bytes | None) -> None:
        self.when = when

    def take(self, request: ApiRequest) -> None:
        """Fail, maybe after some of the answer was written."""
        if self.when is not None:
            request.write(self.when)
        raise ZeroDivisionError


class TakeoverTests(SynchronousTestCase):
    """A handler that returns who answers."""

    def setUp(self) -> None:
        """Serve one endpoint."""
        self.reply: Deferred[Takeover] = Deferred()
        self.clock = Clock()
        responder = Responder(lambda endpoint, request: None)
        endpoint = Endpoint("GET", "/it", "Show it.", handler=self.handle)
        self.site = ApiSite(build_tree([endpoint], responder.render), self.clock)
        self.client = Client(self.site, self.clock)

    async def handle(self, call: Call) -> Takeover:
        """Return what the test says, whether or not the client has left."""
        try:
            return await self.reply
        except CancelledError:
            return Writer()

    def test_taken(self) -> None:
        """It writes what it likes, and the connection goes on."""
        self.reply.callback(Writer())
        self.assertTrue(self.client.ask(GET).endswith(b"\r\n\r\nme"))
        self.clock.advance(0)
        self.assertTrue(self.client.ask(GET).endswith(b"\r\n\r\nme"))

    def test_too_late(self) -> None:
        """It is not asked when the client has left."""
        self.client.send(GET)
        self.client.vanish()
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertEqual(self.site.in_flight, 0)

    def test_failing(self) -> None:
        """A defect before its first byte is logged and answered by 500."""
        self.reply.callback(Failing(None))
        self.assertIn(b" 500 ", self.client.ask(GET).partition(b"\r\n")[0])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_failing_midway(self) -> None:
        """A defect after it ends the connection, so that nobody takes a part for the whole."""
        self.reply.callback(Failing(b"half"))
        self.client.ask(GET)
        self.assertTrue(self.client.pipe.aborted)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

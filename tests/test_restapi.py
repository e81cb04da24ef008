"""Tests of twisted_patroni.restapi: the API opened, reloaded and shut."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from tests.doubles import NOW
from tests.logs import logged_by
from tests.memory_api import ApiCase, Reply
from tests.tls_api import TlsApiCase
from twisted_patroni.restapi import GRACE


class CloseTests(ApiCase):
    """The end of the API: bounded, whatever clients do."""

    def test_nobody_there(self) -> None:
        """Without a connection it is over at once, and nothing ticks."""
        self.api.open()
        self.successResultOf(self.api.api.close())
        self.assertTrue(self.link.closed)
        self.assertEqual(self.api.clock.getDelayedCalls(), [])

    def test_never_opened(self) -> None:
        """An API that was never opened can be closed."""
        self.successResultOf(self.api.api.close())

    def test_idle_connection(self) -> None:
        """A connection without a request holds nothing up."""
        self.api.open()
        idle = self.api.begin("GET", "/primary", version="1.1")
        idle.received()
        closing = self.api.api.close()
        self.api.clock.advance(0)
        self.assertTrue(idle.closed)
        self.successResultOf(closing)

    def test_answer_within_the_grace(self) -> None:
        """A request in flight has a moment for its answer."""
        self.api.open()
        pending: Deferred[Any] = Deferred()
        self.engine.outcomes["cluster_document"] = pending
        connection = self.api.begin("GET", "/cluster")
        closing = self.api.api.close()
        self.api.clock.advance(GRACE / 2)
        self.assertNoResult(closing)
        pending.callback({"members": []})
        self.assertEqual(Reply.parse(connection.received()).code, 200)
        self.api.clock.advance(0)
        self.successResultOf(closing)

    def test_hanging_request(self) -> None:
        """A request that takes longer is aborted, and its waiting is cancelled."""
        self.api.open()
        connection = self.api.begin("POST", "/switchover", body={"leader": "alpha"})
        closing = self.api.api.close()
        self.api.clock.advance(GRACE)
        self.api.clock.advance(0)
        self.successResultOf(closing)
        self.assertTrue(connection.closed)
        self.assertEqual(self.api.clock.getDelayedCalls(), [])

    def test_twice(self) -> None:
        """Who asks again is told when it is over, during and after."""
        self.api.open()
        self.engine.outcomes["cluster_document"] = Deferred()
        self.api.begin("GET", "/cluster")
        first, second = self.api.api.close(), self.api.api.close()
        self.assertNoResult(second)
        self.api.clock.advance(GRACE)
        self.api.clock.advance(0)
        for each in (first, second, self.api.api.close()):
            self.successResultOf(each)

    def test_those_who_wait_for_the_hub(self) -> None:
        """Whoever still waits for a look is cancelled."""
        waiting: Deferred[None] = self.api.looks.wait(lambda look: None)
        self.successResultOf(self.api.api.close())
        self.failureResultOf(waiting, CancelledError)

    def test_opened_too_late(self) -> None:
        """A listener that comes after the end is closed."""
        self.successResultOf(self.api.api.close())
        listener = socket.socket()
        self.api.api.open(listener)
        self.assertEqual((listener.fileno(), self.api.clock.ports), (-1, []))


class ReminderTests(TlsApiCase):
    """Certificates that expire while the node runs."""

    def test_each_day(self) -> None:
        """Once a day the log says that a certificate expires soon."""
        self.use()
        self.api.open()
        log = logged_by(self, "twisted_patroni.restapi")
        material = self.api.api.material
        assert material is not None
        left = material.certificate.not_after.timestamp() - NOW.timestamp()
        days = int(left // 86400)

        def warnings() -> int:
            return sum("expires soon" in str(event.get("line")) for event in log)

        self.api.clock.pump([86400] * (days - 20))
        self.assertEqual(warnings(), 0)
        self.api.clock.pump([86400] * 10)
        self.assertGreaterEqual(warnings(), 4)

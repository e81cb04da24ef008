"""Tests of twisted_patroni.restapi: the API opened, reloaded and shut."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.doubles import FakeEngine, FakeLink
from tests.logs import logged_by
from tests.memory_api import ApiCase, Reactor, Reply
from tests.scratch import free_port
from twisted_patroni.engine.lanes import Lanes
from twisted_patroni.events import Hub
from twisted_patroni.restapi import GRACE, RestApi
from twisted_patroni.seat import ApiSeat
from twisted_patroni.settings import Settings, SettingsError


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
        waiting: Deferred[None] = self.api.hub.wait(lambda look: None)
        self.successResultOf(self.api.api.close())
        self.failureResultOf(waiting, CancelledError)

    def test_opened_too_late(self) -> None:
        """A listener that comes after the end is closed."""
        self.successResultOf(self.api.api.close())
        listener = socket.socket()
        self.api.api.open(listener)
        self.assertEqual((listener.fileno(), self.api.clock.ports), (-1, []))


class SeatTests(SynchronousTestCase):
    """The API in upstream's hands."""

    def setUp(self) -> None:
        """Take the seat on a free port."""
        self.reactor = Reactor()
        self.made: list[RestApi] = []
        self.section: dict[str, Any] = {"listen": f"127.0.0.1:{free_port()}"}
        self.seat = ApiSeat(self.reactor, self.make_api, self.section, "4.1.5")
        self.addCleanup(self.seat.shutdown)

    def make_api(self, settings: Settings) -> RestApi:
        """Build the API over doubles."""
        engine = FakeEngine()
        hub = Hub(self.reactor, engine.look)
        api = RestApi(
            self.reactor,
            engine,
            hub,
            Lanes.on(self.reactor),
            settings,
            make_link=lambda reactor, conninfo: FakeLink(),
        )
        self.made.append(api)
        return api

    def connects(self, section: dict[str, Any]) -> bool:
        """Tell whether somebody listens on a section's address."""
        host, _, port = section["listen"].rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except ConnectionRefusedError:
            return False
        return True

    def test_before_the_start(self) -> None:
        """The port is bound and the URL known before anything is answered."""
        expected = f"http://{self.section['listen']}/patroni"
        self.assertEqual(self.seat.connection_string, expected)
        self.assertTrue(self.connects(self.section))
        self.assertEqual(self.reactor.ports, [])
        self.seat.start()
        self.assertEqual(len(self.reactor.ports), 1)

    def test_shut_before_the_start(self) -> None:
        """Nobody can connect to a node that shut down before it began."""
        self.seat.shutdown()
        self.assertFalse(self.connects(self.section))

    def test_shut(self) -> None:
        """Nobody can connect to a node that has shut down; shutting twice is fine."""
        self.seat.start()
        self.seat.shutdown()
        self.seat.shutdown()
        self.assertFalse(self.connects(self.section))

    def test_wrong_from_the_start(self) -> None:
        """A wrong section, and a busy port, end the start."""
        self.assertRaises(SettingsError, ApiSeat, self.reactor, self.make_api, {}, "4.1.5")
        error = self.assertRaises(
            OSError, ApiSeat, self.reactor, self.make_api, self.section, "4.1.5"
        )
        self.assertIn("please check your `restapi.listen` configuration", str(error))

    def test_reload_in_place(self) -> None:
        """What does not concern the listener counts at once, and the listener stays."""
        self.seat.start()
        self.seat.reload_config({**self.section, "connect_address": "node1:8008", "auth": "a:b"})
        self.assertEqual(self.seat.connection_string, "http://node1:8008/patroni")
        self.assertIsNotNone(self.made[0].settings.credentials)
        self.assertEqual(len(self.reactor.ports), 1)
        self.assertFalse(self.seat.reload_local_certificate())

    def test_reload_elsewhere(self) -> None:
        """A new address is listened on."""
        self.seat.start()
        section = {"listen": f"127.0.0.1:{free_port()}"}
        self.seat.reload_config(section)
        self.assertEqual((self.connects(section), self.connects(self.section)), (True, False))
        self.assertEqual(len(self.made), 1)

    def test_reload_onto_more_addresses(self) -> None:
        """The port can stay while the addresses change, though somebody listens there: we do."""
        self.seat.start()
        port = self.section["listen"].rpartition(":")[2]
        self.seat.reload_config({"listen": f"*:{port}"})
        self.assertFalse(self.seat.reload_local_certificate())
        self.assertEqual(len(self.reactor.ports), 2)
        self.assertTrue(self.connects(self.section))

    def test_failed_reload(self) -> None:
        """A wrong section, or a busy port, is logged; what was in use stays, and is tried again."""
        events = logged_by(self, "twisted_patroni.seat")
        self.seat.start()
        with socket.create_server(("127.0.0.1", 0)) as busy:
            taken = f"127.0.0.1:{busy.getsockname()[1]}"
            for section in ({}, {"listen": "nowhere"}, {"listen": taken, "auth": "a:b"}):
                events.clear()
                self.seat.reload_config(section)
                self.assertEqual(len(events), 1, str(section))
                self.assertIn("restapi", str(events[0]["reason"]), str(section))
                self.assertIsNone(self.made[0].settings.credentials)
                self.assertIn(self.section["listen"], self.seat.connection_string)
                self.assertTrue(self.seat.reload_local_certificate())
        self.assertEqual(len(self.reactor.ports), 1)
        self.seat.reload_config({**self.section, "auth": "a:b"})
        self.assertFalse(self.seat.reload_local_certificate())
        self.assertIsNotNone(self.made[0].settings.credentials)

    def test_defect_reaches_the_engine(self) -> None:
        """What fails in the reactor's thread is raised in the engine's."""

        def broken(settings: Settings) -> RestApi:
            raise ZeroDivisionError

        section = {"listen": f"127.0.0.1:{free_port()}"}
        self.assertRaises(ZeroDivisionError, ApiSeat, self.reactor, broken, section, "4.1.5")
        self.assertFalse(self.connects(section))

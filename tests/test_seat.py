"""Tests of twisted_patroni.seat: the API in upstream's hands, opened, reloaded and shut."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from twisted.trial.unittest import SynchronousTestCase

from tests.certificates import Authority
from tests.doubles import FakeEngine, FakeLink
from tests.logs import logged_by
from tests.memory_api import Reactor
from tests.scratch import free_port, scratch_directory
from twisted_patroni.engine.lanes import Lanes
from twisted_patroni.looks import Looks
from twisted_patroni.restapi import RestApi
from twisted_patroni.seat import ApiSeat
from twisted_patroni.settings import Settings, SettingsError, VerifyClient

if TYPE_CHECKING:
    from collections.abc import Mapping


class SeatTestCase(SynchronousTestCase):
    """A seat over doubles."""

    reactor: Reactor
    made: list[RestApi]
    section: dict[str, Any]
    ctl: Mapping[str, Any] = {}

    def take(self) -> None:
        """Take the seat."""
        self.seat = ApiSeat(self.reactor, self.make_api, self.section, "4.1.5", lambda: self.ctl)
        self.addCleanup(self.seat.shutdown)

    def make_api(self, settings: Settings) -> RestApi:
        """Build the API over doubles."""
        engine = FakeEngine()
        looks = Looks(self.reactor, engine.look)
        api = RestApi(
            self.reactor,
            engine,
            looks,
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


class SeatTests(SeatTestCase):
    """The API in upstream's hands."""

    def setUp(self) -> None:
        """Take the seat on a free port."""
        self.reactor = Reactor()
        self.made = []
        self.section = {"listen": f"127.0.0.1:{free_port()}"}
        self.take()

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
        self.assertRaises(SettingsError, ApiSeat, self.reactor, self.make_api, {}, "4.1.5", dict)
        error = self.assertRaises(
            OSError, ApiSeat, self.reactor, self.make_api, self.section, "4.1.5", dict
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
        self.assertRaises(ZeroDivisionError, ApiSeat, self.reactor, broken, section, "4.1.5", dict)
        self.assertFalse(self.connects(section))


class TlsSeatTests(SeatTestCase):
    """Certificates: used from the start on, exchanged while the port stays open."""

    def setUp(self) -> None:
        """Take the seat with a certificate."""
        self.directory = scratch_directory(self)
        self.authority = Authority()
        self.cafile = self.authority.write(self.directory)
        self.certfile, self.keyfile = self.write()
        self.reactor = Reactor()
        self.made = []
        self.section = {
            "listen": f"127.0.0.1:{free_port()}",
            "certfile": self.certfile,
            "keyfile": self.keyfile,
            "cafile": self.cafile,
            "verify_client": "optional",
        }
        certfile, keyfile = self.authority.client("ctl").write(self.directory, "ctl")
        self.ctl = {"certfile": certfile, "keyfile": keyfile, "cacert": self.cafile}
        self.take()
        self.seat.start()
        self.events = logged_by(self, "twisted_patroni.seat")

    def write(self, **options: Any) -> tuple[str, str]:
        """Write a new certificate in the place of the former."""
        return self.authority.server("127.0.0.1", **options).write(self.directory, "node")

    @property
    def serial(self) -> str:
        """The serial number of the certificate that new connections get."""
        material = self.made[0].material
        assert material is not None
        return material.certificate.serial

    @property
    def context(self) -> object:
        """What new connections begin with."""
        return self.made[0].doors.main.context

    def hup(self) -> None:
        """Do what upstream does on SIGHUP when the section has not changed."""
        if self.seat.reload_local_certificate():
            self.seat.reload_config(self.section)

    def test_url(self) -> None:
        """The published URL says https."""
        expected = f"https://{self.section['listen']}/patroni"
        self.assertEqual(self.seat.connection_string, expected)

    def test_nothing_changed(self) -> None:
        """SIGHUP without a change is not a reload."""
        before = self.context
        self.assertFalse(self.seat.reload_local_certificate())
        self.hup()
        self.assertIs(self.context, before)

    def test_renewed(self) -> None:
        """A renewed certificate counts after SIGHUP, on the same socket."""
        before = self.serial
        self.write()
        self.hup()
        self.assertNotEqual(self.serial, before)
        self.assertEqual((len(self.reactor.ports), self.events), (1, []))
        self.assertFalse(self.seat.reload_local_certificate())

    def test_same_serial(self) -> None:
        """A certificate with the former serial number is noticed, and so are authorities."""
        self.write(serial=77)
        self.hup()
        for change in (lambda: self.write(serial=77), lambda: Authority("b").write(self.directory)):
            before = self.context
            change()
            self.hup()
            self.assertIsNot(self.context, before)

    def test_broken(self) -> None:
        """Files that do not fit are told of and not used; the next SIGHUP tries again."""
        before, context = self.serial, self.context
        former = (self.directory / "node.key").read_bytes()
        self.write()
        renewed = (self.directory / "node.key").read_bytes()
        (self.directory / "node.key").write_bytes(former)
        self.hup()
        self.assertEqual((self.serial, self.context), (before, context))
        [event] = self.events
        self.assertIn("restapi.keyfile", str(event["reason"]))
        (self.directory / "node.key").write_bytes(renewed)
        self.hup()
        self.assertNotEqual(self.serial, before)
        self.assertFalse(self.seat.reload_local_certificate())

    def test_verify_mode(self) -> None:
        """Another mode counts for connections to come."""
        before = self.context
        self.seat.reload_config({**self.section, "verify_client": "required"})
        self.assertIs(self.made[0].doors.main.verify_client, VerifyClient.REQUIRED)
        self.assertIsNot(self.context, before)

    def test_off_and_on(self) -> None:
        """TLS can be switched off and on, on the same socket."""
        self.seat.reload_config({"listen": self.section["listen"]})
        self.assertIsNone(self.context)
        self.assertIn("http://", self.seat.connection_string)
        self.assertFalse(self.seat.reload_local_certificate())
        self.seat.reload_config(self.section)
        self.assertIsNotNone(self.context)
        self.assertEqual(len(self.reactor.ports), 1)

    def test_extra_headers(self) -> None:
        """On TLS connections the headers for these count before those for all."""
        headers = {"http_extra_headers": {"A": "1", "B": "2"}, "https_extra_headers": {"A": "3"}}
        self.seat.reload_config({**self.section, **headers})
        self.assertEqual(self.made[0].doors.main.extra_lines, b"A: 3\r\nB: 2\r\n")

    def test_wrong_at_the_start(self) -> None:
        """Nothing listens if the certificate cannot be used, and one line says why."""
        section = {"listen": f"127.0.0.1:{free_port()}", "certfile": "/nowhere/node.crt"}
        error = self.assertRaises(
            SettingsError, ApiSeat, self.reactor, self.make_api, section, "4.1.5", dict
        )
        self.assertEqual(
            str(error), "restapi.certfile: cannot read /nowhere/node.crt: No such file or directory"
        )
        self.assertFalse(self.connects(section))

    def test_expired(self) -> None:
        """An expired certificate serves, and the log says so."""
        log = logged_by(self, "twisted_patroni.restapi")
        day = timedelta(days=1)
        now = datetime.now(UTC)
        self.write(not_before=now - 9 * day, not_after=now - 2 * day)
        self.reactor.advance(now.timestamp())
        self.hup()
        self.assertFalse(self.seat.reload_local_certificate())
        self.assertTrue([each for each in log if "has EXPIRED at" in str(each.get("line"))])

    def test_misfits(self) -> None:
        """What fails because the ctl section does not fit is said."""
        self.ctl = {}
        self.seat.reload_config({**self.section, "verify_client": "required"})
        [event] = self.events
        self.assertIn("ctl.certfile is not set", str(event["line"]))

"""Tests of twisted_patroni.audit: what is written down of requests that may change something."""

from __future__ import annotations

import json
from typing import Any

from attrs import evolve, frozen
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import LogLevel, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.doubles import NOW
from tests.logs import logged_by
from tests.memory_api import ApiCase
from twisted_patroni.audit import LONGEST, AuditLog, audit_line
from twisted_patroni.tls import ClientCertificate

AT = NOW.timestamp() + 0.0625


@frozen
class Door:
    """A listener."""

    name: str = "127.0.0.1:8008"


@frozen
class Channel:
    """A connection."""

    door: Door = Door()
    client_certificate: ClientCertificate | None = None


@frozen
class Request:
    """A request, as far as it is written down."""

    method: bytes = b"POST"
    target_path: str = "/restart"
    client_host: str = "192.0.2.7"
    user: str | None = None
    channel: Channel = Channel()


def facts(request: Request, code: int | None = 200, seconds: float = 0.25) -> dict[str, Any]:
    """Return what a line says."""
    said: dict[str, Any] = json.loads(audit_line(request, code, seconds, AT))
    return said


class AuditLineTests(SynchronousTestCase):
    """One line."""

    def test_allowed(self) -> None:
        """All that is known is there, in a fixed order."""
        certificate = ClientCertificate("CN=backup,O=dba", ("DNS:backup",), "7f3a")
        request = Request(user="alice", channel=Channel(Door(), certificate))
        self.assertEqual(
            audit_line(request, 200, 0.12345, AT),
            '{"time": "2026-07-01T12:00:00.062Z", "identity": {"user": "alice",'
            ' "subject": "CN=backup,O=dba", "serial": "7f3a"}, "address": "192.0.2.7",'
            ' "door": "127.0.0.1:8008", "method": "POST", "path": "/restart", "status": 200,'
            ' "duration": 0.123}',
        )

    def test_left(self) -> None:
        """A client that left has no status."""
        said = facts(Request(), None)
        self.assertEqual(
            list(said),
            ["time", "identity", "address", "door", "method", "path", "status", "left", "duration"],
        )
        self.assertEqual((said["status"], said["left"]), (None, True))

    def test_unknown_identity(self) -> None:
        """Only what is known of the client is said."""
        self.assertEqual(facts(Request())["identity"], {})
        self.assertEqual(facts(Request(user="bob"))["identity"], {"user": "bob"})
        nameless = Channel(Door(), ClientCertificate("", (), "7f"))
        self.assertEqual(facts(Request(channel=nameless))["identity"], {"serial": "7f"})

    def test_unix_socket(self) -> None:
        """A client of a Unix socket has no address."""
        self.assertEqual(facts(Request(client_host=""))["address"], "unix")

    def test_length(self) -> None:
        """Nobody can make lines long."""
        long = "x" * 100_000
        said = facts(
            Request(long.encode(), long, long, long, Channel(Door(long), ClientCertificate(long)))
        )
        self.assertEqual(len(said["path"]), LONGEST)
        self.assertEqual(LONGEST, 1024)
        self.assertLess(len(json.dumps(said)), 6 * LONGEST)

    @given(st.text(), st.binary(), st.text(alphabet=st.characters()))
    def test_any_text(self, path: str, method: bytes, user: str) -> None:
        """Whatever a client sends, the line is one line of JSON in printable ASCII."""
        line = audit_line(Request(method, path, user=user), None, 0.0, AT)
        self.assertTrue(line.isascii() and line.isprintable(), line)
        self.assertEqual(json.loads(line)["address"], "192.0.2.7")
        json.dumps(json.loads(line), ensure_ascii=False).encode("utf-8")


class AuditLogTests(SynchronousTestCase):
    """The log of one API."""

    def setUp(self) -> None:
        """Begin a log."""
        self.clock = Clock()
        self.clock.advance(AT)
        self.audit = AuditLog(self.clock)
        self.events = logged_by(self, "twisted_patroni.audit")

    def test_written(self) -> None:
        """A line goes through Twisted's log, at the level that is shown by default."""
        self.audit.record(Request(), 403, 0.5)
        (event,) = self.events
        self.assertEqual(event["log_level"], LogLevel.info)
        self.assertEqual(formatEvent(event), audit_line(Request(), 403, 0.5, AT))

    def test_safe(self) -> None:
        """Requests that change nothing are not written down; any other method is."""
        for method in (b"GET", b"HEAD", b"OPTIONS"):
            self.audit.record(evolve(Request(), method=method), 200, 0.1)
        self.assertEqual((self.events, self.audit.records), ([], 0))
        for method in (b"POST", b"PUT", b"PATCH", b"DELETE", b"BREW", b"get", b"\xff"):
            self.audit.record(evolve(Request(), method=method), 501, 0.1)
        self.assertEqual((len(self.events), self.audit.records), (7, 7))

    def test_braces(self) -> None:
        """What looks like a format in a path is text."""
        self.audit.record(Request(target_path="/{line!r}{clock}%s"), 200, 0.1)
        self.assertEqual(json.loads(formatEvent(self.events[0]))["path"], "/{line!r}{clock}%s")


class WithRequestsTests(ApiCase):
    """The lines of real requests."""

    def test_no_secret(self) -> None:
        """Neither the query nor a header nor the body shows up."""
        audit = AuditLog(self.api.clock)
        events = logged_by(self, "twisted_patroni.audit")
        self.api.api.site.on_answered = audit.record
        self.api.api.site.on_left = lambda request, seconds: audit.record(request, None, seconds)
        self.request("POST", "/reload?k=SECRET", {"Authorization": "Basic SECRET"}, b"SECRET")
        self.request("GET", "/primary")
        self.request("BREW", "/caf%C3%A9")
        lines = [formatEvent(event) for event in events]
        said = [json.loads(line) for line in lines]
        self.assertEqual(
            [(each["method"], each["path"], each["status"]) for each in said],
            [("POST", "/reload", 202), ("BREW", "/caf%C3%A9", 501)],
        )
        self.assertEqual(said[0]["address"], "192.0.2.7")
        self.assertNotIn("SECRET", "".join(lines))

    def test_left(self) -> None:
        """A client that leaves before its answer is written down, too."""
        audit = AuditLog(self.api.clock)
        events = logged_by(self, "twisted_patroni.audit")
        self.api.api.site.on_left = lambda request, seconds: audit.record(request, None, seconds)
        client = self.api.begin("POST", "/reload", {"Content-Length": "5"})
        self.api.clock.advance(1.5)
        client.vanish()
        (event,) = events
        said = json.loads(formatEvent(event))
        self.assertEqual((said["path"], said["left"], said["duration"]), ("/reload", True, 1.5))

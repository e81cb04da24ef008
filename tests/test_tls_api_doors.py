"""Listeners with and without TLS side by side, and what is written down of their clients."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from twisted.logger import formatEvent

from tests.certificates import Authority
from tests.handshakes import TLS_1_2, TLS_1_3, client_context
from tests.identities import ALICE, WRONG
from tests.logs import logged_by
from tests.memory_api import Reply
from tests.sections import HASH
from tests.tls_api import SAFE, UNSAFE, TlsApiCase, TlsClient, Wire, request_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.certificates import Certificate

HEALTH, READS = SAFE[:2], SAFE[2:]
VERSIONS = (TLS_1_2, TLS_1_3)


class DoorCase(TlsApiCase):
    """A test case that asks plain listeners, too."""

    def ask_plain(
        self,
        factory: Any,
        method: str,
        target: str,
        headers: Mapping[str, str] | None = None,
        body: object = None,
    ) -> Reply:
        """Send a request without TLS and return the reply."""
        wire = Wire(self.api, factory)
        reply = Reply.parse(wire.send(request_bytes(method, target, headers, body)))
        wire.leave()
        return reply

    def statuses(self, factory: Any, tls: bool, certificate: Certificate | None = None) -> str:
        """Return how requests end, as one letter for each kind: health checks, reads, changes.

        :param factory: the listener's.
        :param tls: how to speak to it.
        :param certificate: what the client shows.
        :return: ``+`` for an answer, ``-`` for a refusal with status 403.
        """
        found = ""
        for rows in (HEALTH, READS, UNSAFE):
            good, refused = True, True
            for method, target, body, code in rows:
                if tls:
                    client = self.connect(certificate, factory=factory)
                    status = client.ask(method, target, {}, body).code
                    client.leave()
                else:
                    status = self.ask_plain(factory, method, target, {}, body).code
                good, refused = good and status == code, refused and status == 403
            found += "+" if good else "-" if refused else "?"
        return found


class DoorTests(DoorCase):
    """A further listener's rules."""

    def test_certificate_on_plain_door(self) -> None:
        """Without TLS nobody has a certificate, and where one is wanted nothing is changed."""
        for mode in ("optional", "required"):
            plain = self.use_door(section={"verify_client": mode}, tls=False)
            for method, target, body, _ in UNSAFE:
                reply = self.ask_plain(plain, method, target, {}, body)
                self.assertReply(reply, 403, "client certificate required")
            self.assertEqual((self.engine.calls, self.engine.begun), ([], 0))
            self.assertEqual(self.statuses(plain, False), "++-", mode)

    def test_plain_door_of_its_own(self) -> None:
        """A plain listener that says that it wants none is open, and the main one is not."""
        section = {"verify_client": "required"}
        plain = self.use_door(section=section, tls=False, verify_client="none")
        self.assertEqual(self.statuses(plain, False), "+++")
        self.assertEqual(self.connect().status("GET", "/primary"), "CERTIFICATE_REQUIRED")

    def test_verify_mode_of_its_own(self) -> None:
        """Each TLS listener has a mode of its own."""
        good, bad = self.authority.client("x"), Authority().client("x")
        for main, own, nobody in (
            ("required", "optional", "++-"),
            ("optional", "none", "+++"),
            ("none", "optional", "++-"),
        ):
            door = self.use_door(section={"verify_client": main}, verify_client=own)
            self.assertEqual(self.statuses(door, True), nobody, (main, own))
            self.assertEqual(self.statuses(door, True, good), "+++", (main, own))
            found = self.connect(bad, factory=door).status("GET", "/primary")
            self.assertEqual(found, 200 if own == "none" else "UNKNOWN_CA")
        required = self.use_door(verify_client="required")
        found = self.connect(factory=required).status("GET", "/primary")
        self.assertEqual(found, "CERTIFICATE_REQUIRED")
        self.assertEqual(self.connect().status("POST", "/reload"), 202)

    def test_session_of_another_door(self) -> None:
        """A session begun where nobody is asked does not let in where everybody is."""
        required = self.use_door(verify_client="required")
        for version in VERSIONS:
            context = client_context(self, self.authority.pem, version=version)
            first = TlsClient(self.api, context)
            self.assertEqual(first.status("GET", "/primary"), 200)
            again = TlsClient(self.api, context, session=first.tls.session)
            self.assertEqual(again.status("GET", "/primary"), 200)
            self.assertTrue(again.tls.session_reused)
            other = TlsClient(self.api, context, required, session=first.tls.session)
            self.assertIn(
                other.status("GET", "/primary"), ("CERTIFICATE_REQUIRED", "HANDSHAKE_FAILURE")
            )

    def test_serves(self) -> None:
        """A listener answers what it serves, with TLS and without, certificate or not."""
        good = self.authority.client("x")
        for serves, expected in (("health", "+--"), ("read", "++-"), ("all", "+++")):
            for tls, mode in ((True, "none"), (True, "required"), (False, "none")):
                door = self.use_door(serves=serves, tls=tls, verify_client=mode)
                self.assertEqual(self.statuses(door, tls, good), expected, (serves, tls, mode))

    def test_extra_headers(self) -> None:
        """Each listener's answers have its headers, refusals and error pages included."""
        section = {
            "http_extra_headers": {"X-Both": "http", "X-One": "http"},
            "https_extra_headers": {"X-One": "https", "Strict-Transport-Security": "max-age=9"},
            "verify_client": "optional",
        }
        plain = self.use_door(section=section, tls=False)
        for method, target in (("GET", "/cluster"), ("POST", "/reload"), ("BREW", "/")):
            over_tls = self.connect().ask(method, target)
            without = self.ask_plain(plain, method, target)
            for reply, one, strict in (
                (over_tls, "https", "max-age=9"),
                (without, "http", None),
            ):
                found = [
                    reply.header(name) for name in ("X-Both", "X-One", "Strict-Transport-Security")
                ]
                self.assertEqual(found, ["http", one, strict], (method, target))
                self.assertEqual([name for name, _ in reply.headers].count("X-One"), 1)

    def test_proxied(self) -> None:
        """Behind a proxy TLS begins after its line; the client's address is what the line says."""
        events = logged_by(self, "twisted_patroni.audit")
        endpoint = "haproxy:tcp:8010"
        door = self.use_door(
            endpoint,
            section={"allowlist": ["203.0.113.0/24"]},
            proxies=["192.0.2.0/24"],
            verify_client="required",
        )
        for address, status in (("203.0.113.9", 202), ("198.51.100.1", 403)):
            events.clear()
            client = self.connect(self.authority.client("x"), factory=door)
            client.send(f"PROXY TCP4 {address} 192.0.2.1 5000 443\r\n".encode())
            self.assertEqual(client.status("POST", "/reload"), status)
            (event,) = events
            said = json.loads(formatEvent(event))
            self.assertEqual((said["address"], said["door"]), (address, endpoint))
            self.assertEqual(said["identity"]["subject"], "CN=x")
            client.leave()
        for silent in (b"", b"PROXY TCP4 203.0.113.9 192.0.2.1 5000 443\r\n"):
            wire = Wire(self.api, door)
            wire.send(silent)
            self.api.wait(7)
            self.assertTrue(wire.closed)
        self.assertEqual(self.api.api.site.handshake_failures, {"timeout": 2})
        self.assert_nothing_left()


class AuditTests(DoorCase):
    """What the audit log says of clients with certificates."""

    def setUp(self) -> None:
        """Watch the log."""
        super().setUp()
        self.events = logged_by(self, "twisted_patroni.audit")

    def said(self) -> tuple[Any, ...]:
        """Return who has asked, at which listener, and the answer's status, of the one line."""
        (event,) = self.events
        self.events.clear()
        said = json.loads(formatEvent(event))
        return said["identity"], said["door"], said["status"]

    def test_identity(self) -> None:
        """Subject and serial number are there, whether or not anybody asked for them."""
        door = self.use_door(
            section={"verify_client": "optional", "users": {"alice": HASH}},
            verify_client="required",
        )
        shown = self.authority.client("dba, night", "a.example.com", serial=0xBEEF)
        known = {"subject": "CN=dba\\, night", "serial": "BEEF"}
        main, further = "127.0.0.1:8008", "tcp:8009"
        for certificate, factory, headers, expected in (
            (shown, None, ALICE, ({"user": "alice", **known}, main, 202)),
            (shown, door, ALICE, ({"user": "alice", **known}, further, 202)),
            (shown, None, {}, (known, main, 401)),
            (shown, door, WRONG, (known, further, 401)),
            (None, None, ALICE, ({}, main, 403)),
        ):
            client = self.connect(certificate, factory=factory)
            client.status("POST", "/reload", headers)
            self.assertEqual(self.said(), expected)

    def test_not_asked(self) -> None:
        """Of a client that nobody has asked for a certificate, none is known."""
        self.use()
        self.connect(self.authority.client("x")).status("POST", "/reload")
        self.assertEqual(self.said(), ({}, "127.0.0.1:8008", 202))

    def test_resumed(self) -> None:
        """A client that takes up its session is the one that it was."""
        self.use(verify_client="required")
        for version in VERSIONS:
            shown = self.authority.client("dba", serial=0xABC)
            context = client_context(self, self.authority.pem, shown, version)
            first = TlsClient(self.api, context)
            first.status("GET", "/primary")
            again = TlsClient(self.api, context, session=first.tls.session)
            self.assertEqual(again.status("POST", "/reload"), 202)
            self.assertTrue(again.tls.session_reused)
            self.assertEqual(self.said()[0], {"subject": "CN=dba", "serial": "0ABC"})

    def test_refused_handshake(self) -> None:
        """A request that came with a bad certificate is none, and is not there."""
        self.use(verify_client="required")
        self.connect(Authority().client("x")).status("POST", "/reload")
        self.assertEqual(self.events, [])

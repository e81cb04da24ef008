"""Other settings while TLS connections exist: these go on, and the next ones see what is new."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from tests.certificates import Authority
from tests.doubles import VERSION
from tests.handshakes import TLS_1_2, TLS_1_3, client_context
from tests.logs import logged_by
from tests.memory_api import Reply
from tests.tls_api import TlsApiCase, TlsClient, Wire, request_bytes
from twisted_patroni.settings import Settings, SettingsError

VERSIONS = (TLS_1_2, TLS_1_3)
GET = request_bytes("GET", "/primary")


class ReloadTests(TlsApiCase):
    """``RestApi.apply`` with clients connected."""

    def reload(self, **section: Any) -> None:
        """Let other settings count, with the present certificate's files if no others are named.

        :param section: keys of the ``restapi`` section.
        """
        tls = self.api.settings.tls
        if tls is not None:
            files = {"certfile": tls.certfile, "keyfile": tls.keyfile, "cafile": tls.cafile}
            section = files | section
        self.api.apply(Settings.of({"listen": "127.0.0.1:8008", **section}, VERSION))

    def test_certificate(self) -> None:
        """Who is connected stays and is answered; the next one sees the new certificate."""
        for version in VERSIONS:
            self.use(**self.certificate(serial=7))
            idle, fresh = self.connect(version=version), self.connect(version=version)
            self.assertEqual(idle.status("GET", "/primary"), 200)
            fresh.shake_hands()
            self.engine.outcomes["restart"] = answer = Deferred[Any]()
            asking = self.connect(version=version)
            self.assertEqual(asking.say(request_bytes("POST", "/restart")), b"")
            listening = list(self.api.clock.ports)
            self.reload(**self.certificate(serial=8))
            answer.callback((True, "restarted successfully"))
            self.assertIn(b"restarted successfully", asking.pump())
            for client in (idle, fresh, asking):
                self.assertEqual(client.status("GET", "/primary"), 200)
                self.assertEqual(client.serial, 7)
            after = self.connect(version=version)
            self.assertEqual(after.status("GET", "/primary"), 200)
            self.assertEqual(after.serial, 8)
            self.assertEqual(self.api.clock.ports, listening)
            self.assertEqual(
                self.metric('twisted_patroni_certificate_info{serial="08",subject="CN=localhost"}'),
                1,
            )
            self.assertEqual(self.flushLoggedErrors(), [])

    def test_in_handshake(self) -> None:
        """A handshake ends as it began, at whichever flight the reload comes."""
        for version in VERSIONS:
            for flights in range(3):
                self.use(**self.certificate(serial=7))
                client = self.connect(version=version)
                for _ in range(flights):
                    client.hear(client.send(client.step()))
                self.reload(**self.certificate(serial=8), verify_client="required")
                self.assertEqual(client.status("GET", "/primary"), 200)
                self.assertEqual(client.serial, 7)
                self.assertEqual(self.connect().status("GET", "/primary"), "CERTIFICATE_REQUIRED")

    def test_verify_mode(self) -> None:
        """Who is connected without a certificate changes nothing once one is wanted."""
        self.use()
        client = self.connect()
        self.assertEqual(client.status("POST", "/reload"), 202)
        self.reload(verify_client="required")
        reply = client.ask("POST", "/reload")
        self.assertReply(reply, 403, "client certificate required")
        self.assertEqual(client.status("GET", "/primary"), 200)
        self.reload()
        self.assertEqual(client.status("POST", "/reload"), 202)

    def test_authority(self) -> None:
        """Another authority counts from the next handshake on, and so does a revocation."""
        self.use(verify_client="required")
        old = self.authority.client("old")
        before = self.connect(old)
        self.assertEqual(before.status("POST", "/reload"), 202)
        crlfile = self.directory / "crl.pem"
        crlfile.write_bytes(self.authority.revoke(old))
        self.reload(verify_client="required", crlfile=str(crlfile))
        self.assertEqual(self.connect(old).status("GET", "/primary"), "CERTIFICATE_REVOKED")
        other = Authority("other CA")
        self.reload(verify_client="required", cafile=other.write(self.directory, "other"))
        self.assertEqual(self.connect(old).status("GET", "/primary"), "UNKNOWN_CA")
        self.assertEqual(self.connect(other.client("x")).status("POST", "/reload"), 202)
        self.assertEqual(before.status("POST", "/reload"), 202)

    def test_sessions(self) -> None:
        """No session outlives the settings that it began with."""
        self.use(verify_client="required")
        for version in VERSIONS:
            context = client_context(
                self, self.authority.pem, self.authority.client("old"), version
            )
            first = TlsClient(self.api, context)
            self.assertEqual(first.status("GET", "/primary"), 200)
            other = Authority("other CA")
            self.reload(verify_client="required", cafile=other.write(self.directory, "other"))
            again = TlsClient(self.api, context, session=first.tls.session)
            self.assertEqual(again.status("GET", "/primary"), "UNKNOWN_CA")
            self.reload(verify_client="required", cafile=self.cafile)

    def test_tls_off_and_on(self) -> None:
        """TLS may go and come back: who is connected goes on as it began."""
        self.use()
        secure = self.connect()
        self.assertEqual(secure.status("GET", "/primary"), 200)
        files = self.certificate()
        self.api.apply(Settings.of({"listen": "127.0.0.1:8008"}, VERSION))
        plain = Wire(self.api)
        self.assertEqual(Reply.parse(plain.send(GET)).code, 200)
        self.assertEqual(secure.status("GET", "/primary"), 200)
        self.api.apply(Settings.of({"listen": "127.0.0.1:8008", **files}, VERSION))
        self.assertEqual(Reply.parse(plain.send(GET)).code, 200)
        self.assertEqual(self.connect().status("GET", "/primary"), 200)

    def test_headers(self) -> None:
        """Headers, passwords and limits that have changed count for who is connected, too."""
        self.use()
        client = self.connect()
        self.assertIsNone(client.ask("GET", "/primary").header("X-A"))
        self.reload(https_extra_headers={"X-A": "b"}, auth="user:secret", limits={"idle": 1})
        self.assertEqual(client.ask("GET", "/cluster").header("X-A"), "b")
        self.assertEqual(client.status("POST", "/reload"), 401)
        self.api.wait(3)
        client.pump()
        self.assertTrue(client.closed)

    def test_wrong(self) -> None:
        """What cannot be used changes nothing: the old certificate goes on."""
        self.use(**self.certificate(serial=7))
        self.certificate(serial=8)
        (self.directory / "server.key").write_bytes(self.authority.client("x").key_pem())
        with self.assertRaises(SettingsError):
            self.reload()
        client = self.connect()
        self.assertEqual((client.status("GET", "/primary"), client.serial), (200, 7))

    def test_further_listener(self) -> None:
        """A listener's own mode and use of TLS change as the main one's do."""
        factory = self.use_door(tls=False)
        plain = Wire(self.api, factory)
        self.assertEqual(Reply.parse(plain.send(GET)).code, 200)
        door = {"endpoint": "tcp:8009", "serves": "read", "verify_client": "required"}
        self.reload(endpoints=[door])
        self.assertEqual(Reply.parse(plain.send(GET)).code, 200)
        reply = Reply.parse(plain.send(request_bytes("POST", "/reload")))
        self.assertReply(reply, 403, "this listener answers only what changes nothing")
        found = self.connect(factory=factory).status("GET", "/primary")
        self.assertEqual(found, "CERTIFICATE_REQUIRED")
        good = self.connect(self.authority.client("x"), factory=factory)
        self.assertEqual(good.status("GET", "/primary"), 200)


class WatchTests(TlsApiCase):
    """``restapi.certificate_watch``."""

    def test_renewed(self) -> None:
        """A new certificate is used soon after it was written, and who is connected stays."""
        events = logged_by(self, "twisted_patroni.restapi")
        self.use(**self.certificate(serial=7), certificate_watch=10)
        before = self.connect()
        self.assertEqual(before.status("GET", "/primary"), 200)
        events.clear()
        self.api.wait(20)
        self.assertEqual(events, [])
        self.certificate(serial=8)
        self.api.wait(11)
        after = self.connect()
        self.assertEqual((after.status("GET", "/primary"), after.serial), (200, 8))
        self.assertEqual((before.status("GET", "/primary"), before.serial), (200, 7))
        self.assertEqual([event["serial"] for event in events if "serial" in event], ["08"])
        self.assertEqual(self.metric('twisted_patroni_reloads_total{result="success"}'), 1)

"""The API asked over TLS: verify mode by certificate by endpoint, passwords, rules."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

from tests.handshakes import TLS_1_2, TLS_1_3
from tests.identities import ALICE, WRONG
from tests.sections import HASH
from tests.test_web_access import GOOD
from tests.tls_api import SAFE, UNSAFE, TlsApiCase

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from tests.certificates import Certificate

VERSIONS = (TLS_1_2, TLS_1_3)
#: What a client hears whose certificate is no good.
ALERTS = {
    "expired": "CERTIFICATE_EXPIRED",
    "not yet valid": "BAD_CERTIFICATE",
    "wrong CA": "UNKNOWN_CA",
    "same name": "UNKNOWN_CA",
    "self-signed": "UNKNOWN_CA",
    "revoked": "CERTIFICATE_REVOKED",
    "server only": "UNSUPPORTED_CERTIFICATE",
}
MODES = ("none", "optional", "required")


def refusal(
    mode: str, kind: str, version: ssl.TLSVersion, unsafe: bool, password: bool | None
) -> str | int | None:
    """Return the alert or the status that a request is refused with, ``None`` if it is not.

    :param mode: what the listener asks for.
    :param kind: which certificate the client has.
    :param version: of TLS.
    :param unsafe: the request would change something.
    :param password: whether the client gives the right one; ``None`` where nobody has one.
    """
    if mode != "none" and kind in ALERTS:
        return ALERTS[kind]
    if mode == "required" and kind == "none":
        return "HANDSHAKE_FAILURE" if version is TLS_1_2 else "CERTIFICATE_REQUIRED"
    if not unsafe:
        return None
    if mode == "optional" and kind == "none":
        return 403
    return 401 if password is False else None


class TableTests(TlsApiCase):
    """Verify mode by certificate by method and endpoint, in TLS 1.2 and 1.3."""

    def check(self, password: bool | None = None, **section: Any) -> None:
        """Ask for everything in each mode, with each certificate, and compare."""
        crlfile = str(self.directory / "crl.pem")
        headers = GOOD if password else {}
        clients = self.clients()
        for mode in MODES:
            self.use(verify_client=mode, crlfile=crlfile, **section)
            for (kind, certificate), version in product(clients.items(), VERSIONS):
                self.check_one((mode, kind, version), certificate, headers, password)
            self.assert_nothing_left()

    def check_one(
        self,
        case: tuple[str, str, ssl.TLSVersion],
        certificate: Certificate | None,
        headers: Mapping[str, str],
        password: bool | None,
    ) -> None:
        """Ask for everything, and compare."""
        client = self.connect(certificate, case[2])
        for number, (method, target, body, code) in enumerate([*SAFE, *UNSAFE]):
            if client.ended:  # as after a body that was refused unread
                client = self.connect(certificate, case[2])
            expected = refusal(*case, number >= len(SAFE), password) or code
            found = client.status(method, target, headers, body)
            self.assertEqual(found, expected, f"{case}: {method} {target}")
            self.assertEqual(client.closed, client.ended or bool(client.alert))
        client.leave()

    def test_without_password(self) -> None:
        """Where nobody has a password, the certificate decides."""
        self.check()

    def test_password_missing(self) -> None:
        """A certificate does not stand for the password."""
        self.check(password=False, auth="user:secret")

    def test_password_right(self) -> None:
        """The password does not stand for a certificate."""
        self.check(password=True, auth="user:secret")

    def test_nothing_done(self) -> None:
        """What is refused for want of a certificate does not reach the engine, and says why."""
        self.use(verify_client="optional")
        for method, target, body, _ in UNSAFE:
            reply = self.connect().ask(method, target, {}, body)
            self.assertReply(reply, 403, "client certificate required")
        self.assertEqual((self.engine.calls, self.engine.begun), ([], 0))

    def test_counted(self) -> None:
        """The metrics tell good handshakes from those that fail, and why they do."""
        clients = self.clients()
        self.use(verify_client="required", crlfile=str(self.directory / "crl.pem"))
        for certificate in clients.values():
            self.connect(certificate).shake_hands()
        failures = 'twisted_patroni_tls_handshake_failures_total{reason="%s"}'
        self.assertEqual(self.metric("twisted_patroni_tls_handshakes_total"), 2)
        self.assertEqual(self.metric(failures % "bad_certificate"), len(ALERTS))
        self.assertEqual(self.metric(failures % "no_certificate"), 1)
        self.assertEqual(self.metric("twisted_patroni_connections"), 2)


class RuleTests(TlsApiCase):
    """``restapi.access`` by certificate: who may do what."""

    ROWS = (
        ("read", "GET", "/cluster", None, 200),
        ("operate", "POST", "/restart", None, 200),
        ("configure", "POST", "/reload", None, 202),
    )

    def allowed(
        self, certificate: Certificate | None, headers: Mapping[str, str] | None = None
    ) -> str:
        """Return what a client may do, and fail unless it is told that it may not do the rest."""
        client, found = self.connect(certificate), []
        for right, method, target, body, code in self.ROWS:
            reply = client.ask(method, target, headers, body)
            if reply.code == code:
                found.append(right)
            elif reply.code == 403:
                sentence = f"this client may not {right}: no rule of restapi.access allows it"
                self.assertReply(reply, 403, sentence)
            else:
                self.assertReply(reply, 401, "no auth header received")
                found.append(f"{right}?")
        self.assertEqual(client.ask("GET", "/primary").code, 200)
        client.leave()
        return " ".join(found)

    def use_rules(self, *rules: dict[str, Any], **section: Any) -> None:
        """Go on with an API with rules that count for reading, too."""
        section.setdefault("verify_client", "optional")
        self.use(access=list(rules), protect_reads=True, **section)

    def test_subject(self) -> None:
        """The subject is matched as a whole, with upper and lower case."""
        self.use_rules(
            {"may": "all", "subject": "CN=dba"},
            {"may": ["read", "operate"], "subject": "CN=op-*"},
        )
        for name, expected in (
            ("dba", "read operate configure"),
            ("op-7", "read operate"),
            ("DBA", ""),
            ("dba2", ""),
            ("x,CN=dba", ""),
            ("*", ""),
        ):
            self.assertEqual(self.allowed(self.authority.client(name)), expected, name)
        self.assertEqual(self.allowed(None), "")

    def test_san(self) -> None:
        """An alternative name of the right kind is enough."""
        self.use_rules(
            {"may": "configure", "san": "DNS:*.ops.example.com"},
            {"may": "operate", "san": "IP:10.0.0.7"},
            {"may": "read", "san": "URI:spiffe://x/*"},
        )
        for names, expected in (
            (["a.ops.example.com"], "configure"),
            (["b.example.com", "a.ops.example.com", "10.0.0.7"], "operate configure"),
            (["spiffe://x/monitoring"], "read"),
            (["ops.example.com", "10.0.0.70", "spiffe://y/x"], ""),
            (["a@x.ops.example.com"], ""),
            ([], ""),
        ):
            shown = self.authority.client("DNS:a.ops.example.com", *names)
            self.assertEqual(self.allowed(shown), expected, names)

    def test_certificate_and_user(self) -> None:
        """Where a rule asks for both, the password alone is nothing, and asked for last."""
        self.use_rules(
            {"may": "all", "subject": "CN=dba", "user": "alice"},
            {"may": "read", "user": "alice"},
            users={"alice": HASH},
        )
        dba, other = self.authority.client("dba"), self.authority.client("other")
        for certificate, headers, expected in (
            (dba, ALICE, "read operate configure"),
            (dba, {}, "read? operate? configure?"),
            (other, ALICE, "read"),
            (None, ALICE, "read"),
            (None, {}, "read?"),
        ):
            self.assertEqual(self.allowed(certificate, headers), expected)
        reply = self.connect(dba).ask("POST", "/restart", WRONG)
        self.assertReply(reply, 401, "not authenticated")

    def test_network(self) -> None:
        """A certificate counts only from where the rule says."""
        for network, expected in (("192.0.2.0/24", "operate"), ("10.0.0.0/8", "")):
            self.use_rules({"may": "operate", "subject": "CN=*", "network": [network]})
            self.assertEqual(self.allowed(self.authority.client("x")), expected)

    def test_not_asked(self) -> None:
        """A listener that asks for no certificate knows none, whatever the client has."""
        self.use_rules({"may": "all", "subject": "*"}, verify_client="none")
        self.assertEqual(self.allowed(self.authority.client("dba")), "")

    def test_without_right(self) -> None:
        """What members ask of each other is no matter of rules, but of the certificate."""
        self.use_rules()
        method, target, body, code = UNSAFE[-1]
        self.assertEqual(target, "/failsafe")
        self.assertEqual(self.connect().status(method, target, {}, body), 403)
        member = self.connect(self.authority.server("member"))
        self.assertEqual(member.status(method, target, {}, body), code)


class ProtectedReadTests(TlsApiCase):
    """``restapi.protect_reads`` over TLS."""

    def statuses(
        self, certificate: Certificate | None, headers: Mapping[str, str] | None = None
    ) -> list[int | str]:
        """Return how each request that changes nothing ends."""
        client = self.connect(certificate)
        return [client.status(method, target, headers) for method, target, *_ in SAFE]

    def test_certificate(self) -> None:
        """A certificate is asked for, and for health checks it is not."""
        for mode in ("optional", "required"):
            self.use(verify_client=mode, protect_reads=True)
            self.assertEqual(self.statuses(self.authority.client("x")), [200] * 5, mode)
        self.use(verify_client="optional", protect_reads=True)
        self.assertEqual(self.statuses(None), [200, 200, 403, 403, 403])

    def test_certificate_and_password(self) -> None:
        """Where there is a password as well, both are."""
        self.use(verify_client="optional", protect_reads=True, auth="user:secret")
        good = self.authority.client("x")
        for certificate, headers, expected in (
            (None, {}, 403),
            (None, GOOD, 403),
            (good, {}, 401),
            (good, GOOD, 200),
        ):
            found = self.statuses(certificate, headers)
            self.assertEqual(found, [200, 200, *[expected] * 3])

    def test_password_only(self) -> None:
        """Over TLS without certificates, the password decides."""
        self.use(protect_reads=True, auth="user:secret")
        self.assertEqual(self.statuses(None), [200, 200, 401, 401, 401])
        self.assertEqual(self.statuses(None, GOOD), [200] * 5)

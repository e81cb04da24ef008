"""Lines about clients that will fail, and silence about those that will not."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from tests.certificates import Authority, Certificate
from tests.handshakes import TlsCase
from twisted_patroni.fitness import CtlFacts, misfits, shut_out
from twisted_patroni.settings import HostPort, Settings, VerifyClient

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted_patroni.settings import Network

PLAIN = Settings(HostPort("", 8008), "*:8008", "localhost:8008")
NONE, OPTIONAL, REQUIRED = VerifyClient
YESTERDAY = datetime.now(UTC) - timedelta(days=1)
UNSAFE = "POST /failsafe of members and all that changes something with patronictl are refused"
NOTHING = "no request of members and patronictl succeeds"


def encoded(auth: str) -> bytes:
    """Return a password as settings keep it."""
    return base64.b64encode(auth.encode())


class CertificateTests(TlsCase):
    """Certificates of members, patronictl and the node itself."""

    def check(
        self,
        ctl: dict[str, Any],
        *expected: str,
        verify: VerifyClient = NONE,
        certificate: Certificate | None = None,
        address: str = "localhost:8008",
        **files: Any,
    ) -> None:
        """Compare lines, in which ``@`` is the files' directory."""
        material = self.material(certificate, verify, **files)
        settings = evolve(
            PLAIN, tls=material.settings, verify_client=verify, connect_address=address
        )
        found = misfits(settings, material, CtlFacts.read(ctl))
        self.assertEqual([line.replace(str(self.directory), "@") for line in found], [*expected])

    def client(self, certificate: Certificate | None = None, **more: Any) -> dict[str, Any]:
        """Return a ``ctl`` section with a certificate, a good one if not given."""
        certificate = certificate or self.authority.client("member")
        certfile, keyfile = certificate.write(self.directory, "ctl")
        return {"certfile": certfile, "keyfile": keyfile} | more

    def test_fine(self) -> None:
        """Nothing is said of what fits."""
        self.check({})
        for verify in VerifyClient:
            self.check(self.client(), verify=verify)
            member = self.authority.server("localhost")
            chain = self.authority.intermediate().client("x")
            for certificate in (member, chain):
                self.check(self.client(certificate), verify=verify, certificate=member)

    def test_none_asked(self) -> None:
        """Where no certificate is asked for, a wrong one does not matter."""
        self.check(self.client(Authority("other CA").client("x")))

    def test_missing(self) -> None:
        """Without a certificate nothing goes under ``required``, and little under ``optional``."""
        self.check(
            {},
            "ctl.certfile is not set, but restapi.verify_client is required: no request of members"
            " succeeds, those of a leader race included, nor does patronictl",
            verify=REQUIRED,
        )
        self.check(
            {},
            f"ctl.certfile is not set, but restapi.verify_client is optional: {UNSAFE}",
            verify=OPTIONAL,
        )

    def test_refused(self) -> None:
        """A certificate that servers refuse is worse than none."""
        for certificate, reason in (
            (Authority("other CA").client("x"), "unable to get local issuer certificate"),
            (self.authority.client("x", not_after=YESTERDAY), "certificate has expired"),
            (
                self.authority.server("localhost", client_too=False),
                "its extended key usage is not for clients",
            ),
        ):
            line = f"ctl.certfile: restapi.cafile does not let @/ctl.crt in ({reason}): {NOTHING}"
            for verify in (OPTIONAL, REQUIRED):
                self.check(self.client(certificate), line, verify=verify)

    def test_all_usages(self) -> None:
        """A certificate that does not say what it is for is for everything."""
        member = Certificate(self.authority.certificate, self.authority.key)
        self.check(self.client(member), verify=REQUIRED)

    def test_revoked(self) -> None:
        """Revocation counts."""
        member = self.authority.client("x")
        self.check(
            self.client(member),
            "ctl.certfile: restapi.cafile does not let @/ctl.crt in (certificate revoked):"
            f" {NOTHING}",
            verify=REQUIRED,
            crlfile=self.write("crl.pem", self.authority.revoke(member)),
        )

    def test_files(self) -> None:
        """Files of ``ctl`` that cannot be used stop all requests."""
        other = self.authority.client("x").write(self.directory, "other")[1]
        locked = self.write("locked", self.authority.client("x").key_pem("secret"))
        for more, fault in (
            ({"certfile": "/none"}, "ctl.certfile: cannot read /none: No such file or directory"),
            ({"cacert": "/none"}, "ctl.cacert: cannot read /none: No such file or directory"),
            (
                {"keyfile": other},
                "ctl.keyfile: @/other.key does not belong to the certificate in @/ctl.crt",
            ),
            ({"keyfile": None}, "ctl.certfile: @/ctl.crt holds no private key in PEM"),
            (
                {"keyfile": locked},
                "ctl.keyfile: @/locked is encrypted, and there is no ctl.keyfile_password",
            ),
            ({"keyfile": locked, "keyfile_password": "x"}, "ctl.keyfile: the password is wrong"),
        ):
            self.check(self.client(**more), f"{fault}: {NOTHING}", verify=REQUIRED)

    def test_server_unknown(self) -> None:
        """Who verifies the node's certificate depends on ``ctl``; who cannot is named."""
        other = Authority("other CA")
        cacert = other.write(self.directory, "other-ca")
        for ctl, whom in (
            ({}, "patronictl"),
            ({"insecure": True}, ""),
            (self.client(), "members and patronictl"),
            (self.client(insecure=True), "members and patronictl"),
        ):
            line = (
                f"restapi.certfile: {whom} cannot verify this node by ctl.cacert (@/other-ca.crt)"
                " (unable to get local issuer certificate)"
            )
            self.check(ctl | {"cacert": cacert}, *([line] if whom else []))
            self.check(ctl | {"cacert": cacert}, certificate=other.server("localhost"))

    def test_server_of_another(self) -> None:
        """Without ``ctl.cacert``, ``restapi.cafile`` counts, and without that the system's."""
        other = Authority("other CA").server("localhost")
        whom = "restapi.certfile: patronictl cannot verify this node by"
        reason = "(unable to get local issuer certificate)"
        self.check({}, f"{whom} restapi.cafile {reason}", certificate=other)
        self.check(
            {},
            f"{whom} the system's authorities (neither ctl.cacert nor restapi.cafile is set)"
            f" {reason}",
            certificate=other,
            cafile=None,
        )

    def test_server_expired(self) -> None:
        """The node's certificate may have expired, or not be meant for servers."""
        whom = "restapi.certfile: patronictl cannot verify this node by restapi.cafile"
        expired = self.authority.server("localhost", not_after=YESTERDAY)
        self.check({}, f"{whom} (certificate has expired)", certificate=expired)
        client = self.authority.client("x", "localhost")
        self.check({}, f"{whom} (its extended key usage is not for servers)", certificate=client)

    def test_names(self) -> None:
        """``patronictl`` looks at the name in ``connect_address``; members do not."""
        certificate = self.authority.server("pg1", "*.example.com", "10.0.0.7", "fd00::7")
        for host in ("pg1", "PG1", "a.example.com", "10.0.0.7", "[fd00::7]"):
            self.check({}, certificate=certificate, address=f"{host}:8008")
        for host in ("pg2", "a.b.example.com", "10.0.0.8", "fd00::8", "*"):
            line = (
                f"restapi.certfile: the certificate has no name for {host}, the host of"
                " restapi.connect_address: patronictl refuses this node"
            )
            address = f"[{host}]:8008" if ":" in host else f"{host}:8008"
            for ctl in ({}, self.client()):
                self.check(ctl, line, certificate=certificate, address=address)
                self.check(ctl | {"insecure": True}, certificate=certificate, address=address)


class PasswordTests(SynchronousTestCase):
    """Passwords, with and without TLS."""

    def check(self, ctl: dict[str, Any] | None, *expected: str, **settings: Any) -> None:
        """Compare lines."""
        found = misfits(evolve(PLAIN, **settings), None, CtlFacts.read(ctl))
        self.assertEqual(found, [*expected])

    def test_fine(self) -> None:
        """The same password, or none of its own, is fine."""
        for ctl in (None, {}, {"auth": "a:b"}, {"certfile": "/none"}):
            self.check(ctl)
        for auth in ("a:b", "é:ü"):
            self.check({"auth": auth}, credentials=base64.b64encode(auth.encode("latin-1")))
        self.check({}, credentials=encoded("a:b"))

    def test_differs(self) -> None:
        """Another password is refused for all that is not open."""
        line = f"ctl.authentication differs from restapi.authentication: {UNSAFE}"
        self.check({"auth": "a:c"}, line, credentials=encoded("a:b"))
        self.check({"auth": "a:€"}, line, credentials=encoded("a:€"))

    def test_encoding(self) -> None:
        """A password beyond ASCII reaches the server in another encoding."""
        self.check(
            {},
            "restapi.authentication: members and patronictl send characters beyond ASCII in"
            " another encoding, so they are refused",
            credentials=encoded("a:ü"),
        )

    def test_users(self) -> None:
        """Further users count; what their password is, only their hash knows."""
        users = {"patronictl": "$argon2id$..."}
        self.check({"auth": "patronictl:x"}, credentials=encoded("a:b"), users=users)
        self.check({"auth": "patronictl:x"}, users=users)
        self.check(
            {},
            "ctl.authentication is not set, nor is restapi.authentication, but restapi.users is:"
            " all that changes something with patronictl is refused",
            users=users,
        )

    def test_secret(self) -> None:
        """The password cannot be read from the representation."""
        self.assertNotIn("secret", repr(CtlFacts.read({"auth": "a:secret"})))


class ShutOutTests(SynchronousTestCase):
    """Members that the allowlist does not admit."""

    hosts: dict[str, Sequence[Network]] = {  # noqa: RUF012
        "pg1": [ip_network("10.0.0.1")],
        "pg2": [ip_network("10.0.1.2"), ip_network("fd00::2")],
        "pg3": [],
    }

    def check(self, *expected: str, admitted: Sequence[Network] = (), **settings: Any) -> None:
        """Compare the hosts that the lines begin with."""
        found = shut_out(evolve(PLAIN, **settings), self.hosts, admitted)
        start = "restapi.allowlist shuts out member "
        self.assertEqual(
            [line.removeprefix(start).partition(":")[0] for line in found], [*expected]
        )

    def test_open(self) -> None:
        """Without an allowlist nobody is shut out, members' own admission or not."""
        self.check()
        self.check(include_members=True)

    def test_networks(self) -> None:
        """A member is admitted by one of its addresses; one without is not judged."""
        self.check(restricted=True, networks=(ip_network("10.0.0.0/16"),))
        self.check("pg1 (10.0.0.1)", restricted=True, networks=(ip_network("fd00::/64"),))

    def test_names(self) -> None:
        """A member is admitted by an address behind a name."""
        self.check(
            "pg1 (10.0.0.1)",
            restricted=True,
            allowed_hosts=("pg2", "other"),
            admitted=[ip_network("10.0.1.2")],
        )

    def test_members_included(self) -> None:
        """Their own admission does not help members in failsafe mode, and the line says so."""
        settings = evolve(PLAIN, restricted=True, include_members=True)
        self.assertEqual(
            shut_out(settings, {"pg1": [ip_network("10.0.0.1")]}),
            [
                "restapi.allowlist shuts out member pg1 (10.0.0.1): its POST /failsafe is"
                " refused, so failsafe mode does not hold: restapi.allowlist_include_members does"
                " not count there"
            ],
        )

"""The demonstration's certificates: when they are made, kept and renewed, and for whom."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.x509.verification import PolicyBuilder, Store
from twisted.trial.unittest import SynchronousTestCase

from tests.scratch import scratch_directory
from twisted_patroni.demo import CannotStart, Place
from twisted_patroni.demo.certificates import issue
from twisted_patroni.demo.layout import Keys, Secrets, node_config

if TYPE_CHECKING:
    from collections.abc import Iterable

NOW = datetime.now(UTC)
NAMES = ("ca", "client", "pg1", "pg2")


class CertificateTests(SynchronousTestCase):
    """Tests of issue."""

    def setUp(self) -> None:
        """Make the certificates of two nodes."""
        self.keys = Keys(scratch_directory(self))
        self.issue()

    def issue(self, later: timedelta = timedelta()) -> None:
        """Make what is missing."""
        issue(self.keys, ["pg1", "pg2"], NOW + later)

    def certificate(self, name: str) -> x509.Certificate:
        """Read a certificate."""
        return x509.load_pem_x509_certificate(self.keys.certificate(name).read_bytes())

    def serials(self, names: Iterable[str] = NAMES) -> list[int]:
        """Return the serial numbers of some certificates."""
        return [self.certificate(name).serial_number for name in names]

    def test_private(self) -> None:
        """Only the owner may read a key, or anything else."""
        for name in NAMES:
            for path in (self.keys.certificate(name), self.keys.key(name)):
                self.assertEqual(path.stat().st_mode & 0o777, 0o600)

    def test_modern(self) -> None:
        """Nodes have ECDSA keys, loopback in their names, and a year, as Mozilla asks."""
        certificate = self.certificate("pg2")
        key = certificate.public_key()
        assert isinstance(key, EllipticCurvePublicKey)
        self.assertEqual(key.curve.name, "secp256r1")
        lasting = certificate.not_valid_after_utc - certificate.not_valid_before_utc
        self.assertLessEqual(lasting, timedelta(days=366))
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual(names.get_values_for_type(x509.DNSName), ["localhost"])
        self.assertEqual(
            [str(one) for one in names.get_values_for_type(x509.IPAddress)], ["127.0.0.1"]
        )

    def test_pairs(self) -> None:
        """Each certificate goes with its key."""
        for name in NAMES:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.keys.certificate(name), self.keys.key(name))

    def test_verified(self) -> None:
        """Strict verifiers take a node's certificate for a server's, and the client's for one."""
        store = Store([self.certificate("ca")])
        builder = PolicyBuilder().store(store)
        for name in (x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))):
            builder.build_server_verifier(name).verify(self.certificate("pg1"), [])
        builder.build_client_verifier().verify(self.certificate("client"), [])

    def test_kept(self) -> None:
        """What is there stays; what is missing comes from the same authority."""
        before = self.serials()
        self.issue(later=timedelta(days=300))
        self.assertEqual(self.serials(), before)
        self.keys.certificate("pg1").unlink()
        self.issue()
        self.assertEqual(self.serials(("ca", "client", "pg2")), [before[0], before[1], before[3]])
        self.assertNotIn(before[2], self.serials())
        self.certificate("pg1").verify_directly_issued_by(self.certificate("ca"))

    def test_renewed(self) -> None:
        """What ends soon is replaced, and so is what the authority has not made."""
        for spoil in (lambda: self.issue(timedelta(days=340)), self.lose_authority):
            before = self.serials(("client", "pg1", "pg2"))
            spoil()
            self.assertFalse(set(before) & set(self.serials()))

    def lose_authority(self) -> None:
        """Lose the authority's key, and make what is missing after that."""
        self.keys.key("ca").unlink()
        self.issue(timedelta(days=340))

    def test_damaged(self) -> None:
        """What is no certificate or key is told in one line that says what to do."""
        for path in (self.keys.certificate("pg1"), self.keys.key("ca")):
            kept = path.read_bytes()
            path.write_text("nonsense")
            self.assertRaisesRegex(
                CannotStart, f"{self.keys.directory} holds a damaged", self.issue
            )
            path.write_bytes(kept)


class ConfigTests(SynchronousTestCase):
    """Tests of the configuration over TLS."""

    def test_sections(self) -> None:
        """A node shows its own certificate and asks for one; ``ctl`` shows the client's."""
        place = Place(2, Path("/x"), 8008, tls=True)
        config = node_config(place, Path("/bin"), Secrets(), {})
        api, ctl = config["restapi"], config["ctl"]
        self.assertEqual((api["certfile"], api["keyfile"]), ("/x/tls/pg2.pem", "/x/tls/pg2.key"))
        self.assertEqual((api["cafile"], api["verify_client"]), ("/x/tls/ca.pem", "optional"))
        self.assertEqual(
            (ctl["cacert"], ctl["certfile"], ctl["keyfile"]),
            ("/x/tls/ca.pem", "/x/tls/client.pem", "/x/tls/client.key"),
        )
        self.assertEqual(api["authentication"], ctl["authentication"])
        self.assertEqual(place.rest_url, "https://127.0.0.1:8009")

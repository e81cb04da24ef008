"""Client certificates in handshakes: who is let in, what is known of whom, why others are not."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL, crypto
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from tests.certificates import Authority, Certificate, self_signed
from tests.handshakes import TLS_1_2, TLS_1_3, Exchange, TlsCase, client_context, shake
from twisted_patroni.settings import VerifyClient
from twisted_patroni.tls import ClientCertificate, client_certificate, handshake_failure

YESTERDAY = datetime.now(UTC) - timedelta(days=1)


class VerificationTests(TlsCase):
    """Client certificates."""

    def clients(self) -> dict[str, Certificate | None]:
        """Return a client of each kind."""
        return {
            "none": None,
            "good": self.authority.client("good"),
            "chain": self.authority.intermediate().client("of an intermediate"),
            "server too": self.authority.server("member"),
            "expired": self.authority.client("late", not_after=YESTERDAY),
            "wrong CA": Authority("other CA").client("good"),
            "same name": Authority().client("good"),
            "self-signed": self_signed("good"),
            "server only": self.authority.server("good", client_too=False),
        }

    def check(self, verify: VerifyClient, expected: dict[str, str]) -> None:
        """Compare, for each kind of client and both versions, how the handshake ends."""
        server = self.server(verify=verify)
        for kind, certificate in self.clients().items():
            for version in (TLS_1_2, TLS_1_3):
                exchange = self.exchange(server, certificate, version)
                wanted = expected.get(kind, "bad_certificate")
                self.assertEqual(exchange.ended, wanted, (kind, version))
                self.assertEqual(exchange.error is None, wanted == "", (kind, version))
                shown = exchange.echo.certificate
                welcome = verify is not VerifyClient.NONE and wanted == "" and certificate
                self.assertEqual(shown is not None, bool(welcome), (kind, version))

    def test_none(self) -> None:
        """Nobody is asked, so whatever a client might show does not matter."""
        self.check(VerifyClient.NONE, dict.fromkeys(self.clients(), ""))

    def test_optional(self) -> None:
        """A client may show none, but a wrong one ends the handshake."""
        self.check(VerifyClient.OPTIONAL, {"none": "", "good": "", "chain": "", "server too": ""})

    def test_required(self) -> None:
        """A client must show one of the authority."""
        self.check(
            VerifyClient.REQUIRED,
            {"none": "no_certificate", "good": "", "chain": "", "server too": ""},
        )

    def test_revoked(self) -> None:
        """What is on a list of the authority is refused, and nothing else."""
        revoked, good = self.authority.client("revoked"), self.authority.client("good")
        intermediate = self.authority.intermediate()
        lists = self.authority.revoke(revoked) + intermediate.revoke()
        crlfile = self.write("crl.pem", b"two lists\n" + lists)
        for verify in (VerifyClient.OPTIONAL, VerifyClient.REQUIRED):
            server = self.server(verify=verify, crlfile=crlfile)
            self.assertEqual(self.exchange(server, revoked).ended, "bad_certificate")
            self.assertEqual(self.exchange(server, good).ended, "")
            self.assertEqual(self.exchange(server, intermediate.client("x")).ended, "")
        open_to_all = self.server(crlfile=crlfile)
        self.assertEqual(self.exchange(open_to_all, revoked).ended, "")

    def test_revoked_authority(self) -> None:
        """Lists count for the authorities between, too."""
        intermediate = self.authority.intermediate()
        shown = intermediate.client("x")
        bought = Certificate(intermediate.certificate, shown.key)
        crlfile = self.write("crl.pem", self.authority.revoke(bought) + intermediate.revoke())
        server = self.server(verify=VerifyClient.REQUIRED, crlfile=crlfile)
        self.assertEqual(self.exchange(server, shown).ended, "bad_certificate")

    def test_both_authorities_listed(self) -> None:
        """Lists work where ``cafile`` holds the authority and one that it vouches for."""
        intermediate = self.authority.intermediate()
        cafile = self.write("both.pem", self.authority.pem + intermediate.pem)
        crlfile = self.write("crl.pem", self.authority.revoke() + intermediate.revoke())
        server = self.server(verify=VerifyClient.REQUIRED, cafile=cafile, crlfile=crlfile)
        for certificate in (intermediate.client("x"), self.authority.client("y")):
            self.assertEqual(self.exchange(server, certificate).ended, "")

    def test_list_outdated(self) -> None:
        """While a list is outdated, nobody of its authority is let in."""
        crlfile = self.write("crl.pem", self.authority.revoke(next_update=YESTERDAY))
        server = self.server(verify=VerifyClient.OPTIONAL, crlfile=crlfile)
        good = self.authority.client("good")
        self.assertEqual(self.exchange(server, good).ended, "bad_certificate")
        self.assertEqual(self.exchange(server).ended, "")

    def test_intermediate_only(self) -> None:
        """``cafile`` may hold an intermediate authority without its root."""
        intermediate = self.authority.intermediate()
        cafile = self.write("intermediate.pem", intermediate.pem)
        server = self.server(verify=VerifyClient.REQUIRED, cafile=cafile)
        self.assertEqual(self.exchange(server, intermediate.client("x")).ended, "")
        self.assertEqual(self.exchange(server, self.authority.client("x")).ended, "bad_certificate")

    def test_names_sent(self) -> None:
        """Clients learn which authorities are meant, to choose a certificate by."""
        context = self.server(verify=VerifyClient.OPTIONAL).context
        client = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD))
        assert context is not None
        shake(client, SSL.Connection(context))
        names = [name.get_components()[-1][1] for name in client.get_client_ca_list()]
        self.assertEqual(names, [b"test CA"])

    def test_no_authorities(self) -> None:
        """Without ``cafile`` each certificate is refused, even one of the system's authorities."""
        self.patch(os, "environ", os.environ | {"SSL_CERT_FILE": self.cafile})
        good = self.authority.client("good")
        for verify in (VerifyClient.OPTIONAL, VerifyClient.REQUIRED):
            server = self.server(verify=verify, cafile=None)
            self.assertEqual(self.exchange(server, good).ended, "bad_certificate")


class ClientCertificateTests(TlsCase):
    """What is known of a client."""

    def test_facts(self) -> None:
        """Subject, alternative names and serial number are told."""
        names = ("a.example.com", "10.0.0.7", "fd00::7", "a@example.com", "spiffe://x/y")
        client = self.authority.client("backup, nightly", *names, serial=0xABC)
        exchange = self.exchange(self.server(verify=VerifyClient.OPTIONAL), client)
        self.assertEqual(
            exchange.echo.certificate,
            ClientCertificate(
                "CN=backup\\, nightly",
                (
                    "DNS:a.example.com",
                    "IP:10.0.0.7",
                    "IP:fd00::7",
                    "email:a@example.com",
                    "URI:spiffe://x/y",
                ),
                "0ABC",
            ),
        )

    def test_none(self) -> None:
        """There is none on plain transports, none from a client that has none, and none later."""
        self.assertIsNone(client_certificate(StringTransport()))
        self.assertIsNone(client_certificate(None))
        server = self.server(verify=VerifyClient.OPTIONAL)
        self.assertIsNone(self.exchange(server).echo.certificate)
        exchange = self.exchange(server, self.authority.client("x"))
        transport = exchange.echo.transport
        self.assertIsNotNone(client_certificate(transport))
        exchange.server.connectionLost(Failure(ConnectionDone()))
        self.assertIsNone(client_certificate(transport))

    def test_odd(self) -> None:
        """A certificate that can hardly be read is still one."""
        content = self.authority.client("xy", "a.example.com", serial=7).certificate.public_bytes(
            Encoding.DER
        )
        version = content.index(b"\xa0\x03\x02\x01\x02")
        name = content.index(b"\x82\x0da.example.com")
        subject = content.rindex(b"\x0c\x02xy")
        for at, value, expected in (
            (subject, b"\x03\x02\x00y", ClientCertificate("", ("DNS:a.example.com",), "07")),
            (version + 4, b"\x09", ClientCertificate("", (), "07")),
            (name - 2, b"\x31", ClientCertificate("CN=xy", (), "07")),
        ):
            odd = bytearray(content)
            odd[at : at + len(value)] = value
            certificate = crypto.load_certificate(crypto.FILETYPE_ASN1, bytes(odd))
            self.assertEqual(client_certificate(Showing(certificate)), expected)


class Showing:
    """A transport whose client has shown a certificate.

    :param certificate: which.
    """

    def __init__(self, certificate: crypto.X509) -> None:
        class Connection(SSL.Connection):
            """Has verified it."""

            def get_peer_certificate(self, as_cryptography: bool = False) -> Any:
                """Return it.

                :param as_cryptography: in which form.
                """
                return certificate.to_cryptography() if as_cryptography else certificate

        self._connection = Connection(SSL.Context(SSL.TLS_SERVER_METHOD))

    def getHandle(self) -> SSL.Connection:
        """Return the connection, as Twisted's transport does."""
        return self._connection


class FailureTests(TlsCase):
    """Why a handshake failed, in few words."""

    def spoken(self, data: bytes) -> str:
        """Return the label for a client that says this."""
        exchange = Exchange(self.server(), client_context(self, self.authority.pem))
        if data:
            exchange.server.dataReceived(data)
        exchange.server.connectionLost(Failure(ConnectionDone()))
        return exchange.ended

    def test_plain(self) -> None:
        """Plain HTTP is recognised, and what is neither is not taken for it."""
        self.assertEqual(self.spoken(b"GET /primary HTTP/1.0\r\n\r\n"), "plain_http")
        self.assertEqual(self.spoken(b"OPTIONS / HTTP/1.0\r\n\r\n"), "plain_http")
        self.assertEqual(self.spoken(b"CONNECT a:1 HTTP/1.0\r\n\r\n"), "plain_http")
        self.assertEqual(self.spoken(b"\x00" * 50), "not_tls")

    def test_closed(self) -> None:
        """A client that leaves is not an error."""
        self.assertEqual(self.spoken(b""), "closed")
        self.assertEqual(self.spoken(b"\x16\x03\x01"), "closed")
        self.assertEqual(handshake_failure(Failure(ConnectionLost())), "closed")

    def test_rejected(self) -> None:
        """A client that does not trust us says so."""
        for version in (TLS_1_2, TLS_1_3):
            context = client_context(self, Authority("other CA").pem, version=version)
            exchange = Exchange(self.server(), context).shake_hands()
            self.assertEqual(exchange.ended, "rejected_by_client")

    def test_other(self) -> None:
        """What OpenSSL has never said before is a label, too."""
        strange = SSL.Error([("SSL routines", "", "something new")])
        self.assertEqual(handshake_failure(Failure(strange)), "other")
        self.assertEqual(handshake_failure(Failure(SSL.Error())), "closed")

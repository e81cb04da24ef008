"""Handshakes: keys that serve, what is spoken, sessions, and what a reload does to those within."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

from cryptography import x509
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from tests.certificates import Certificate
from tests.handshakes import TLS_1_2, TLS_1_3, Exchange, TlsCase, client_context, shake
from twisted_patroni.settings import VerifyClient
from twisted_patroni.tls import handshake_failure, load
from twisted_patroni.web.entrance import Door

if TYPE_CHECKING:
    from collections.abc import Callable


class ServerCertificateTests(TlsCase):
    """Keys and chains."""

    def test_kinds_of_keys(self) -> None:
        """ECDSA, RSA and Ed25519 keys serve, in TLS 1.2 and 1.3."""
        for kind in ("ecdsa", "rsa", "ed25519"):
            server = self.server(self.authority.server("localhost", key=kind))
            for version in (TLS_1_2, TLS_1_3):
                exchange = self.exchange(server, version=version)
                self.assertEqual((exchange.ended, exchange.error), ("", None), (kind, version))

    def test_chain(self) -> None:
        """The chain in ``certfile`` is sent: a client that knows the root alone is content."""
        server = self.server(self.authority.server("localhost", chain=True))
        self.assertIsNone(self.exchange(server).error)

    def test_chain_completed(self) -> None:
        """As upstream's, a chain that ``certfile`` lacks is taken from ``cafile``, in each mode."""
        intermediate = self.authority.intermediate()
        whole = intermediate.server("localhost")
        cafile = self.write("both.pem", intermediate.pem + self.authority.pem)
        for verify in VerifyClient:
            server = self.server(Certificate(whole.certificate, whole.key), verify, cafile=cafile)
            client = self.authority.client("x")
            self.assertIsNone(self.exchange(server, client).error)

    def test_encrypted_keys(self) -> None:
        """Encrypted keys serve, in PKCS#8 and in the traditional form."""
        for kind in ("ecdsa", "rsa"):
            certificate = self.authority.server("localhost", key=kind)
            for form in ("pkcs8", "traditional"):
                keyfile = self.write("key.pem", certificate.key_pem("sésame", form))
                server = self.server(certificate, keyfile=keyfile, keyfile_password="sésame")
                self.assertIsNone(self.exchange(server).error, (kind, form))

    def test_plain_traditional(self) -> None:
        """A key in the traditional form serves, OpenSSL's parameters before it, too."""
        certificate = self.authority.server("localhost")
        parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----"
        key = certificate.key_pem(form="traditional")
        for content in (key, parameters + b"\n" + key, key.replace(b"\n", b"\r\n")):
            server = self.server(certificate, keyfile=self.write("key.pem", content))
            self.assertIsNone(self.exchange(server).error)

    def test_password_unneeded(self) -> None:
        """A password for a key that is not encrypted does no harm."""
        self.assertIsNone(self.exchange(self.server(keyfile_password="unused")).error)

    def test_key_in_certfile(self) -> None:
        """The key may be in ``certfile``, before or after the certificate."""
        one = self.authority.server("localhost", chain=True)
        for content in (one.pem + one.key_pem(), one.key_pem() + one.pem):
            certfile = self.write("all.pem", content)
            server = self.server(certfile=certfile, keyfile=None)
            self.assertIsNone(self.exchange(server).error)


class ProtocolTests(TlsCase):
    """Versions, ciphers, ALPN."""

    def test_versions(self) -> None:
        """TLS 1.2 and 1.3 are spoken, and nothing older."""
        server = self.server()
        for version, name in ((TLS_1_2, "TLSv1.2"), (TLS_1_3, "TLSv1.3")):
            self.assertEqual(self.exchange(server, version=version).client.version(), name)
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_cipher_list(b"ALL:@SECLEVEL=0")
        context.set_max_proto_version(SSL.TLS1_1_VERSION)
        with self.assertRaises(SSL.Error) as raised:
            shake(SSL.Connection(context), server.serverConnectionForTLS(None))
        self.assertEqual(handshake_failure(Failure(raised.exception)), "protocol_version")

    def offered(self, server: Door) -> list[str]:
        """Return the ciphers for TLS 1.2 and before, in the server's order."""
        names = server.serverConnectionForTLS(None).get_cipher_list()
        return [name for name in names if not name.startswith("TLS_")]

    def test_mozilla(self) -> None:
        """By default only forward-secret, authenticated encryption is offered."""
        for name in self.offered(self.server()):
            self.assertRegex(name, "^ECDHE-(ECDSA|RSA)-(AES(128|256)-GCM-SHA|CHACHA20-POLY1305)")
        self.assertEqual(len(self.offered(self.server())), 6)

    def test_weak_client(self) -> None:
        """A client that can do worse only is refused."""
        context = client_context(self, self.authority.pem, version=TLS_1_2)
        context.set_ciphers("ECDHE-ECDSA-AES128-SHA")
        exchange = Exchange(self.server(), context).shake_hands()
        self.assertEqual(exchange.ended, "no_shared_cipher")

    def test_own_ciphers(self) -> None:
        """An operator's list replaces ours, and its order counts."""
        first, second = "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256"
        server = self.server(ciphers=f"{first}:{second}")
        self.assertEqual(self.offered(server), [first, second])
        self.assertEqual(self.preferred(server, second, first), first)

    def test_client_prefers(self) -> None:
        """Of our own list the client chooses, as Mozilla advises: all are good."""
        for order in (("AES256-GCM-SHA384", "AES128-GCM-SHA256"), ("CHACHA20-POLY1305",)):
            names = [f"ECDHE-ECDSA-{name}" for name in order]
            self.assertEqual(self.preferred(self.server(), *names), names[0])

    def preferred(self, server: Door, *names: str) -> str:
        """Return the cipher agreed upon with a client that has these."""
        context = client_context(self, self.authority.pem, version=TLS_1_2)
        context.set_ciphers(":".join(names))
        cipher = Exchange(server, context).shake_hands().client.cipher()
        assert cipher is not None
        return cipher[0]

    def test_alpn(self) -> None:
        """HTTP/1.1 is agreed upon, and HTTP/2 never."""
        for offered, agreed in (
            (["h2", "http/1.1"], "http/1.1"),
            (["http/1.1"], "http/1.1"),
            (["h2"], None),
            ([], None),
        ):
            context = client_context(self, self.authority.pem)
            context.set_alpn_protocols(offered)
            exchange = Exchange(self.server(), context).shake_hands()
            self.assertEqual((exchange.error, exchange.ended), (None, ""))
            self.assertEqual(exchange.client.selected_alpn_protocol(), agreed)

    def test_no_compression(self) -> None:
        """What is sent is not compressed."""
        for version in (TLS_1_2, TLS_1_3):
            self.assertIsNone(self.exchange(self.server(), version=version).client.compression())

    def test_no_renegotiation(self) -> None:
        """A client that wants another handshake within the connection does not get one."""
        server = self.server().serverConnectionForTLS(None)
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        client = SSL.Connection(context)
        shake(client, server)
        client.renegotiate()
        with self.assertRaises(SSL.Error):
            client.do_handshake()
            server.bio_write(client.bio_read(65536))
            server.recv(1)


class ResumptionTests(TlsCase):
    """Sessions that are taken up again."""

    def resume(
        self, server: Door, between: Callable[[], object], options: int, version: Any
    ) -> Exchange:
        """Come twice, as the same client."""
        context = client_context(self, self.authority.pem, self.authority.client("x"), version)
        context.options |= options
        first = Exchange(server, context).shake_hands()
        self.assertFalse(first.resumed)
        between()
        second = Exchange(server, context, session=first.client.session).shake_hands()
        self.assertEqual((second.error, second.ended), (None, ""))
        self.assertEqual(second.echo.certificate, first.echo.certificate)
        return second

    def test_resumed(self) -> None:
        """Both versions resume, and the client's certificate is known as before."""
        for verify in VerifyClient:
            server = self.server(verify=verify)
            for version in (TLS_1_2, TLS_1_3):
                again = self.resume(server, lambda: None, 0, version)
                self.assertTrue(again.resumed, (verify, version))
                known = again.echo.certificate is not None
                self.assertEqual(known, verify is not VerifyClient.NONE, (verify, version))

    def test_without_tickets(self) -> None:
        """Clients without tickets begin anew, for no session is kept for them."""
        server = self.server(verify=VerifyClient.REQUIRED)
        self.assertFalse(self.resume(server, lambda: None, ssl.OP_NO_TICKET, TLS_1_2).resumed)

    def test_new_context(self) -> None:
        """With a new context everybody is verified anew."""
        server = self.server(verify=VerifyClient.REQUIRED)

        def reload() -> None:
            server.context = self.server(verify=VerifyClient.REQUIRED).context

        for version in (TLS_1_2, TLS_1_3):
            self.assertFalse(self.resume(server, reload, 0, version).resumed, version)

    def test_other_listener(self) -> None:
        """A session of a listener that asks for nothing is of no use at one that does."""
        context = client_context(self, self.authority.pem)
        material = self.material(verify=VerifyClient.NONE)
        contexts = load(material.settings, VerifyClient).contexts
        for version in (TLS_1_2, TLS_1_3):
            context.minimum_version = context.maximum_version = version
            first = Exchange(Door(context=contexts[VerifyClient.NONE]), context).shake_hands()
            second = Exchange(
                Door(context=contexts[VerifyClient.REQUIRED]), context, session=first.client.session
            ).shake_hands()
            self.assertEqual(second.ended, "no_certificate", version)


class ReloadTests(TlsCase):
    """A context that is replaced."""

    def test_interface(self) -> None:
        """Twisted takes it for what it is."""
        self.assertTrue(verifyObject(IOpenSSLServerConnectionCreator, self.server()))

    def test_replaced(self) -> None:
        """New connections get the new certificate; open ones live on with the old."""
        old, new = self.authority.server("localhost"), self.authority.server("localhost")
        server = self.server(old)
        before = self.exchange(server)
        server.context = self.server(new).context
        after = self.exchange(server)
        serials = [
            x509.load_der_x509_certificate(each.client.getpeercert(True) or b"").serial_number
            for each in (before, after)
        ]
        self.assertEqual(serials, [old.certificate.serial_number, new.certificate.serial_number])
        self.assertEqual(before.ask(b"still there?"), b"still there?")
        self.assertEqual(after.ask(b"and you?"), b"and you?")

    def test_in_handshake(self) -> None:
        """A handshake that is under way ends as it began."""
        server = self.server()
        exchange = Exchange(server, client_context(self, self.authority.pem))
        with self.assertRaises(ssl.SSLWantReadError):
            exchange.client.do_handshake()
        exchange.pump()
        server.context = self.server(verify=VerifyClient.REQUIRED).context
        self.assertEqual(exchange.shake_hands().ended, "")

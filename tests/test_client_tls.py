"""The client's TLS: whom it believes, and what it says of files that it cannot use."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.ssl import Certificate as TwistedCertificate
from twisted.internet.ssl import CertificateOptions, trustRootFromCertificates
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.server import Site

from tests.certificates import Authority, Certificate
from tests.event_nodes import EventNode
from tests.scratch import scratch_directory
from twisted_patroni.client.asking import Asker
from twisted_patroni.client.reasons import NoAnswer
from twisted_patroni.client.tls import TlsError, TlsFiles, load_policy

reactor = cast("Any", global_reactor)


class Counted(WrappingFactory):
    """A server that knows when all its connections have ended."""

    _waiting: Deferred[None] | None = None

    def quiet(self) -> Deferred[None]:
        """Wait until there is no connection."""
        waiting = self._waiting = Deferred()
        self._look()
        return waiting

    def unregisterProtocol(self, p: ProtocolWrapper) -> None:
        """Forget a connection."""
        super().unregisterProtocol(p)
        self._look()

    def _look(self) -> None:
        if self._waiting is not None and not self.protocols:
            waiting, self._waiting = self._waiting, None
            waiting.callback(None)


class ConnectionTests(TestCase):
    """Real connections on loopback."""

    timeout = 30

    def setUp(self) -> None:
        """Have an authority."""
        self.directory = scratch_directory(self)
        self.authority = Authority()
        self.cafile = self.authority.write(self.directory)

    def serve(self, certificate: Certificate, clients: Authority | None = None) -> int:
        """Serve a cluster's document and return the port.

        :param certificate: the server's.
        :param clients: whose clients are let in; none for everybody.
        """
        options: dict[str, Any] = {}
        if clients is not None:
            options["trustRoot"] = trustRootFromCertificates(
                [TwistedCertificate.loadPEM(clients.pem)]
            )
        options.update(privateKey=certificate.key, certificate=certificate.certificate)
        context = CertificateOptions(**options)
        node = EventNode()
        node.cluster = {"members": []}
        self.server = Counted(Site(node))
        port = reactor.listenSSL(0, self.server, context, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return int(port.getHost().port)

    async def ask(self, port: int, host: str = "127.0.0.1", **files: Any) -> str:
        """Ask for the cluster; return ``ok`` or why there is no answer."""
        pool = HTTPConnectionPool(reactor, persistent=False)
        agent = Agent(reactor, load_policy(TlsFiles(**files)), pool=pool)
        try:
            await Asker(reactor, agent).document(f"https://{host}:{port}/cluster")
        except NoAnswer as error:
            return str(error)
        finally:
            await self.server.quiet()
        return "ok"

    async def test_address(self) -> None:
        """A certificate must have the address that is in the URL, or the name."""
        port = self.serve(self.authority.server("127.0.0.1", "localhost"))
        self.assertEqual(await self.ask(port, cafile=self.cafile), "ok")
        self.assertEqual(await self.ask(port, "localhost", cafile=self.cafile), "ok")

    async def test_wrong_name(self) -> None:
        """A certificate for another address or name is not believed."""
        port = self.serve(self.authority.server("127.0.0.2", "example.com"))
        for host, what in (("127.0.0.1", "IP address"), ("localhost", "name")):
            reason = await self.ask(port, host, cafile=self.cafile)
            self.assertEqual(reason, f"has a certificate for another {what} than {host}")

    async def test_stranger(self) -> None:
        """Another authority is not believed, unless nothing is to be verified."""
        port = self.serve(Authority("stranger").server("127.0.0.1"))
        reason = await self.ask(port, cafile=self.cafile)
        self.assertEqual(reason, "has a certificate of an authority that is not trusted")
        self.assertEqual(await self.ask(port), reason)
        self.assertEqual(await self.ask(port, insecure=True), "ok")
        self.assertEqual(await self.ask(port, "localhost", insecure=True), "ok")

    async def test_client_certificate(self) -> None:
        """The client's certificate is shown, also if its key is encrypted."""
        port = self.serve(self.authority.server("127.0.0.1"), self.authority)
        certfile, keyfile = self.authority.client("joe").write(self.directory, "joe", "s3cret")
        files = {"cafile": self.cafile, "certfile": certfile, "keyfile": keyfile}
        self.assertEqual(await self.ask(port, keyfile_password="s3cret", **files), "ok")
        reason = await self.ask(port, cafile=self.cafile)
        self.assertEqual(reason, "wants a client certificate")
        reason = await self.ask(port, insecure=True, keyfile_password="s3cret", **files)
        self.assertEqual(reason, "ok")


class FileTests(SynchronousTestCase):
    """Files that cannot be used are named, with what is wrong."""

    def setUp(self) -> None:
        """Write some files."""
        self.directory = scratch_directory(self)
        authority = Authority()
        self.cafile = authority.write(self.directory)
        self.certfile, self.keyfile = authority.client("joe").write(self.directory, "joe")
        self.other = authority.client("jim").write(self.directory, "jim", "s3cret")[1]
        self.nothing = self.directory / "nothing"
        self.nothing.write_text("nothing")

    def error(self, **files: Any) -> str:
        """Return what is said of some files."""
        text = str(self.assertRaises(TlsError, load_policy, TlsFiles(**files)))
        self.assertNotIn("s3cret", text + repr(TlsFiles(**files)))
        return text.replace(f"{self.directory}/", "")

    def test_errors(self) -> None:
        """Each mistake has a line of its own."""
        pair = {"certfile": self.certfile, "keyfile": self.other}
        for files, expected in (
            ({"cafile": f"{self.directory}/x"}, "cannot read x: No such file or directory"),
            ({"cafile": str(self.nothing)}, "nothing holds no certificate in PEM that can be read"),
            ({"certfile": self.cafile}, "ca.crt holds no private key in PEM that can be used"),
            ({"keyfile": self.keyfile}, "joe.key is a key without a certificate"),
            (pair, "jim.key is an encrypted key, and there is no password for it"),
            (
                {**pair, "keyfile_password": "s3cret1"},
                "the password for the key in jim.key is wrong",
            ),
            (
                {**pair, "keyfile_password": "s3cret"},
                "jim.key holds the key of another certificate than that in joe.crt",
            ),
        ):
            self.assertEqual(self.error(**files), expected)

    def test_needless_password(self) -> None:
        """A password for a key that is not encrypted does no harm."""
        load_policy(TlsFiles(certfile=self.certfile, keyfile=self.keyfile, keyfile_password="x"))

    def test_bounded(self) -> None:
        """It makes one context for a server, and keeps those of a hundred."""
        policy = load_policy(TlsFiles(cafile=self.cafile))
        first = policy.creatorForNetloc(b"a", 8008)
        self.assertIs(policy.creatorForNetloc(b"a", 8009), first)
        for number in range(100):
            policy.creatorForNetloc(b"b%d" % number, 8008)
        self.assertIsNot(policy.creatorForNetloc(b"a", 8008), first)

"""Each way in which TLS fails, on real sockets: the error says which, and nothing was asked."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import Certificate as TwistedCertificate
from twisted.internet.ssl import CertificateOptions, TLSVersion, trustRootFromCertificates
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent
from twisted.web.resource import Resource
from twisted.web.server import Site

from tests.certificates import Authority, self_signed
from tests.scratch import scratch_directory
from twisted_patroni.client.errors import OutcomeUnknown, TlsFailure
from twisted_patroni.client.node import Node
from twisted_patroni.client.pool import Pool
from twisted_patroni.client.reaching import agent_of
from twisted_patroni.client.settings import ClientSettings
from twisted_patroni.client.tls import TlsFiles

if TYPE_CHECKING:
    from twisted.internet.interfaces import IProtocolFactory
    from twisted.web.server import Request

    from tests.certificates import Certificate

reactor = cast("Any", global_reactor)

HOST = "127.0.0.1"
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
STRANGER = "has a certificate of an authority that is not trusted"
VERSIONS = (TLSVersion.TLSv1_2, TLSVersion.TLSv1_3)


class Page(Resource):
    """Answers everything, and counts it."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def render(self, request: Request) -> bytes:
        """Answer."""
        self.asked += 1
        request.setHeader("Content-Type", "application/json")
        return b'{"role": "primary"}'


class Counted(WrappingFactory):
    """Knows its connections, below TLS, and when the last one has ended."""

    def __init__(self, factory: IProtocolFactory) -> None:
        super().__init__(factory)
        self.ever = 0
        self._quiet: Deferred[None] | None = None

    def registerProtocol(self, p: ProtocolWrapper) -> None:
        """Count a connection."""
        super().registerProtocol(p)
        self.ever += 1

    def unregisterProtocol(self, p: ProtocolWrapper) -> None:
        """Forget a connection."""
        super().unregisterProtocol(p)
        if not self.protocols and self._quiet is not None:
            quiet, self._quiet = self._quiet, None
            quiet.callback(None)

    def quiet(self) -> Deferred[None]:
        """Return what fires when there is none."""
        self._quiet = Deferred()
        if not self.protocols:
            self._quiet.callback(None)
        return self._quiet


class Silent(Protocol):
    """Says nothing."""


class TlsCase(TestCase):
    """Servers, and nodes that ask them."""

    timeout = 60

    def setUp(self) -> None:
        """Have an authority."""
        self.directory = scratch_directory(self)
        self.authority = Authority()
        self.cafile = self.authority.write(self.directory)
        self.page = Page()

    def listen(self, factory: IProtocolFactory) -> int:
        """Serve, and return the port."""
        counted = self.server = Counted(factory)
        port: Any = reactor.listenTCP(0, counted, interface=HOST)

        async def stop() -> None:
            await maybeDeferred(port.stopListening)
            await counted.quiet()

        self.addCleanup(lambda: Deferred.fromCoroutine(stop()))
        return int(port.getHost().port)

    def serve(
        self,
        certificate: Certificate,
        clients: Authority | None = None,
        version: TLSVersion = TLSVersion.TLSv1_3,
    ) -> int:
        """Serve with TLS.

        :param certificate: the server's.
        :param clients: whose clients are let in; none for everybody.
        :param version: the only version of TLS.
        """
        options: dict[str, Any] = {}
        if clients is not None:
            trusted = [TwistedCertificate.loadPEM(clients.pem)]
            options["trustRoot"] = trustRootFromCertificates(trusted)
        if version is TLSVersion.TLSv1_3:
            options["raiseMinimumTo"] = version
        else:
            options["lowerMaximumSecurityTo"] = version
        if version is TLSVersion.TLSv1_1:
            options["insecurelyLowerMinimumTo"] = version
        options.update(privateKey=certificate.key, certificate=certificate.certificate)
        context = CertificateOptions(**options)
        return self.listen(TLSMemoryBIOFactory(context, False, Site(self.page)))

    def client(self, authority: Authority, name: str, **more: Any) -> dict[str, Any]:
        """Return the files of a client with a certificate."""
        password = more.pop("password", None)
        issued = authority.client(name, **more)
        certfile, keyfile = issued.write(self.directory, name, password)
        files = {"cafile": self.cafile, "certfile": certfile, "keyfile": keyfile}
        return files if password is None else {**files, "keyfile_password": password}

    async def ask(
        self, url: str, method: str = "POST", patience: float = 10.0, **files: Any
    ) -> str:
        """Return ``ok``, or after which URL how it has failed: nothing was asked then."""
        files.setdefault("cafile", self.cafile)
        settings = ClientSettings(tls=TlsFiles(**files), timeout=60.0, connect_timeout=patience)
        async with Node.at(reactor, url, settings) as node:
            before = self.page.asked
            body: Any = {} if method == "POST" else None
            try:
                await node.request(method, "/restart", json=body)
            except TlsFailure as error:
                self.assertEqual(self.page.asked, before)
                self.assertNotIn("\n", str(error))
                self.assertTrue(str(error).startswith(f"{url}/restart "), error)
                return str(error).removeprefix(f"{url}/restart ")
        self.assertEqual(self.page.asked, before + 1)
        return "ok"


class ServerTests(TlsCase):
    """Servers that are not believed."""

    async def test_right(self) -> None:
        """The name, or the address, that is in the URL has to be in the certificate."""
        for version in VERSIONS:
            port = self.serve(self.authority.server(HOST, "localhost"), version=version)
            for method in ("GET", "POST"):
                self.assertEqual(await self.ask(f"https://{HOST}:{port}", method), "ok")
                self.assertEqual(await self.ask(f"https://localhost:{port}", method), "ok")

    async def test_wrong_name(self) -> None:
        """A certificate for another name, or another address, is none."""
        for version in VERSIONS:
            port = self.serve(self.authority.server("127.0.0.2", "example.com"), version=version)
            self.assertEqual(
                await self.ask(f"https://localhost:{port}"),
                "has a certificate for another name than localhost",
            )
            self.assertEqual(
                await self.ask(f"https://{HOST}:{port}"),
                f"has a certificate for another IP address than {HOST}",
            )

    async def test_untrusted(self) -> None:
        """Whatever is wrong with a certificate is said."""
        later = datetime(2098, 1, 1, tzinfo=UTC), datetime(2099, 1, 1, tzinfo=UTC)
        for certificate, expected in (
            (Authority("stranger").server(HOST), STRANGER),
            (self_signed(HOST), STRANGER),
            (self.authority.server(HOST, chain=True), STRANGER),  # the chain is not sent
            (
                self.authority.server(HOST, not_after=LONG_AGO),
                "has a certificate that has expired",
            ),
            (
                self.authority.server(HOST, not_before=later[0], not_after=later[1]),
                "has a certificate that is not valid yet",
            ),
            (
                self.authority.client("joe", HOST),
                "has a certificate that is not made for servers",
            ),
        ):
            for version in VERSIONS:
                url = f"https://{HOST}:{self.serve(certificate, version=version)}"
                self.assertEqual(await self.ask(url), expected)
                self.assertEqual(await self.ask(url, insecure=True), "ok")

    async def test_system(self) -> None:
        """Without a file the system's authorities count, and a test's is none of them."""
        url = f"https://{HOST}:{self.serve(self.authority.server(HOST))}"
        self.assertEqual(await self.ask(url, cafile=None), STRANGER)

    async def test_old_version(self) -> None:
        """A server that speaks only what is not safe any more is not spoken to."""
        port = self.serve(self.authority.server(HOST), version=TLSVersion.TLSv1_1)
        reason = await self.ask(f"https://{HOST}:{port}")
        self.assertEqual(reason, "speaks no version of TLS that is accepted")


class ClientTests(TlsCase):
    """Clients that are not let in; with TLS 1.3 they hear of it after the handshake only."""

    async def test_missing(self) -> None:
        """A server that wants a certificate says so."""
        for version, expected in (
            (TLSVersion.TLSv1_2, "refuses the handshake: perhaps it wants a client certificate"),
            (TLSVersion.TLSv1_3, "wants a client certificate"),
        ):
            port = self.serve(self.authority.server(HOST), self.authority, version)
            for method in ("GET", "POST"):
                self.assertEqual(await self.ask(f"https://{HOST}:{port}", method), expected)

    async def test_refused(self) -> None:
        """A certificate that is not accepted is told of, with the reason."""
        refused = "does not accept the client certificate"
        for files, expected in (
            (self.client(Authority("stranger"), "sam"), "it does not know its authority"),
            (self.client(self.authority, "old", not_after=LONG_AGO), "it has expired"),
        ):
            for version in VERSIONS:
                port = self.serve(self.authority.server(HOST), self.authority, version)
                for method in ("GET", "POST"):
                    reason = await self.ask(f"https://{HOST}:{port}", method, **files)
                    self.assertEqual(reason, f"{refused}: {expected}")

    async def test_accepted(self) -> None:
        """One that is accepted is, also if its key is encrypted."""
        port = self.serve(self.authority.server(HOST), self.authority)
        for password in (None, "s3cret"):
            files = self.client(self.authority, f"joe{password}", password=password)
            self.assertEqual(await self.ask(f"https://{HOST}:{port}", **files), "ok")

    async def test_kept(self) -> None:
        """Connections with TLS are kept for the next request, too."""
        port = self.serve(self.authority.server(HOST))
        settings = ClientSettings(tls=TlsFiles(cafile=self.cafile))
        async with Node.at(reactor, f"https://{HOST}:{port}", settings) as node:
            for _ in range(3):
                self.assertTrue(await node.is_primary())
            self.assertEqual((self.server.ever, node.pool.idle), (1, 1))


class AgentTests(TlsCase):
    """Agents of others, that the requests are made by."""

    async def test_told(self) -> None:
        """It is known by the error alone that nothing was asked."""
        settings = ClientSettings(tls=TlsFiles(cafile=self.cafile))
        right, wrong = self.authority.server(HOST), self.authority.server("example.com")
        for certificate, clients, words in (
            (wrong, None, "for another IP address"),
            (Authority("stranger").server(HOST), None, STRANGER),
            (right, self.authority, "wants a client certificate"),
        ):
            url = f"https://{HOST}:{self.serve(certificate, clients)}"
            for agent in (agent_of(reactor, settings), Agent(reactor, settings.policy)):
                node = Node(Pool(reactor, url, settings, agent))
                with self.assertRaisesRegex(TlsFailure, words):
                    await node.restart()


class PortTests(TlsCase):
    """Ports that speak something else."""

    async def test_plain_to_tls(self) -> None:
        """A request without TLS at a port for it."""
        for version in VERSIONS:
            for clients in (None, self.authority):
                port = self.serve(self.authority.server(HOST), clients, version)
                for method in ("GET", "POST"):
                    reason = await self.ask(f"http://{HOST}:{port}", method)
                    self.assertEqual(reason, "speaks TLS at this port, and no plain HTTP")

    async def test_tls_to_plain(self) -> None:
        """A handshake at a port that speaks plain HTTP."""
        url = f"https://{HOST}:{self.listen(Site(self.page))}"
        reason = await self.ask(url, patience=0.3)
        # It waits for the end of a line, and finds one where a random byte looks like it.
        self.assertRegex(reason, "perhaps this port speaks no TLS|does not speak TLS at this port")

    async def test_silent(self) -> None:
        """Who accepts a connection and says nothing is given up in time, in both ways."""
        port = self.listen(Factory.forProtocol(Silent))
        began = reactor.seconds()
        reason = await self.ask(f"https://{HOST}:{port}", patience=0.3)
        self.assertIn("does not finish the TLS handshake", reason)
        self.assertLess(reactor.seconds() - began, 10.0)

    async def test_closing(self) -> None:
        """Who closes each connection may speak anything; what was sent may have been read."""

        class Closing(Protocol):
            """Closes its connection when it has read something."""

            def dataReceived(self, data: bytes) -> None:
                """Close."""
                assert self.transport is not None
                self.transport.loseConnection()

        port = self.listen(Factory.forProtocol(Closing))
        reason = await self.ask(f"https://{HOST}:{port}")
        self.assertIn("closed the connection within the TLS handshake", reason)
        with self.assertRaises(OutcomeUnknown):
            await self.ask(f"http://{HOST}:{port}")

"""Real TLS handshakes in memory: the standard library's client against Twisted's server."""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from OpenSSL import SSL
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase

from tests.certificates import Authority
from tests.scratch import scratch_directory
from twisted_patroni.settings import TlsSettings, VerifyClient
from twisted_patroni.tls import client_certificate, handshake_failure, load
from twisted_patroni.web.entrance import Door

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from tests.certificates import Certificate
    from twisted_patroni.tls import ClientCertificate, TlsMaterial

TLS_1_2 = ssl.TLSVersion.TLSv1_2
TLS_1_3 = ssl.TLSVersion.TLSv1_3


class Echo(Protocol):
    """Says everything again; remembers who asked and why it ended."""

    certificate: ClientCertificate | None = None
    reason: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        """Repeat it.

        :param data: what came.
        """
        self.certificate = client_certificate(self.transport)
        assert self.transport is not None
        self.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Remember why.

        :param reason: why.
        """
        self.reason = reason


class Exchange:
    """One client and its connection; nothing moves but by :meth:`pump`.

    :param server: makes the server's side.
    :param context: the client's.
    :param host: whom the client believes to talk to.
    :param session: an earlier one that the client wants to go on with.
    """

    def __init__(
        self,
        server: Door,
        context: ssl.SSLContext,
        host: str = "localhost",
        session: ssl.SSLSession | None = None,
    ) -> None:
        self.echo = Echo()
        self._clock = Clock()
        factory = TLSMemoryBIOFactory(
            server, False, Factory.forProtocol(lambda: self.echo), clock=self._clock
        )
        self.wire = StringTransport()
        self.server = factory.buildProtocol(None)
        assert self.server is not None
        self.server.makeConnection(self.wire)
        self._from_server, self._to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = context.wrap_bio(
            self._from_server, self._to_server, server_hostname=host, session=session
        )
        #: Why the client gave up.
        self.error: ssl.SSLError | None = None

    def pump(self) -> bool:
        """Carry bytes both ways; tell whether there were any."""
        sent, answered = self._to_server.read(), self.wire.value()
        self.wire.clear()
        if sent and not self.wire.disconnecting:
            self.server.dataReceived(sent)
            self._clock.advance(0)  # Twisted gathers what is written in one turn
        if answered:
            self._from_server.write(answered)
        return bool(sent or answered)

    def shake_hands(self) -> Exchange:
        """Let both do what they can, up to the first byte of data each way."""
        try:
            self._shake_hands()
        except ssl.SSLError as error:
            self.error = error
            while self.pump():  # the client's alert, and the server's
                pass
        if self.wire.disconnecting:
            self.server.connectionLost(connectionDone)
        return self

    def _shake_hands(self) -> None:
        while True:
            try:
                self.client.do_handshake()
                break
            except ssl.SSLWantReadError:
                if not self.pump():
                    return
        # In TLS 1.3 a client knows only after its first read whether it is welcome.
        self.ask(b"?")

    def ask(self, data: bytes) -> bytes:
        """Send something and return the answer.

        :param data: what to send.
        """
        self.client.write(data)
        while True:
            try:
                return self.client.read()
            except ssl.SSLWantReadError:
                if not self.pump():
                    return b""

    @property
    def ended(self) -> str:
        """Why the connection ended before its handshake did; empty if it did not."""
        return "" if self.echo.reason is None else handshake_failure(self.echo.reason)

    @property
    def resumed(self) -> bool:
        """Whether an earlier session was taken up."""
        return bool(self.client.session_reused)


def shake(client: SSL.Connection, server: SSL.Connection) -> None:
    """Carry what two connections say to each other until they have no more to say.

    For what the standard library's client cannot do.

    :param client: the one that begins.
    :param server: the other.
    :raise SSL.Error: if one of them has had enough.
    """
    client.set_connect_state()
    server.set_accept_state()
    for _ in range(4):
        for one, other in ((client, server), (server, client)):
            with suppress(SSL.WantReadError):
                one.do_handshake()
            with suppress(SSL.WantReadError):
                one.recv(1)
            with suppress(SSL.WantReadError):
                other.bio_write(one.bio_read(65536))


def client_context(
    case: SynchronousTestCase,
    authority_pem: bytes,
    certificate: Certificate | None = None,
    version: ssl.TLSVersion | None = None,
) -> ssl.SSLContext:
    """Return a client's context.

    :param case: the test.
    :param authority_pem: whom it trusts.
    :param certificate: what it shows if it is asked.
    :param version: the only one it speaks; any if not given.
    """
    context = ssl.create_default_context(cadata=authority_pem.decode())
    # Not all Pythons do so unasked, and a test must not depend on which.
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    if certificate is not None:
        context.load_cert_chain(*certificate.write(scratch_directory(case), "client"))
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


class TlsCase(SynchronousTestCase):
    """A test with an authority, and files that it may change.

    :ivar authority: it has issued the server's certificate, and is in ``cafile``.
    """

    def setUp(self) -> None:
        """Write the files."""
        self.directory = scratch_directory(self)
        self.authority = Authority()
        self.cafile = self.authority.write(self.directory)

    def material(
        self,
        certificate: Certificate | None = None,
        verify: VerifyClient = VerifyClient.NONE,
        **settings: Any,
    ) -> TlsMaterial:
        """Load a certificate from files.

        :param certificate: the server's, of the authority if not given.
        :param verify: the mode a context is wanted for.
        :param settings: these instead of the usual ones.
        """
        certificate = certificate or self.authority.server("localhost", "127.0.0.1")
        certfile, keyfile = certificate.write(self.directory, "server")
        values = {"certfile": certfile, "keyfile": keyfile, "cafile": self.cafile} | settings
        return load(TlsSettings(**values), [verify])

    def server(
        self,
        certificate: Certificate | None = None,
        verify: VerifyClient = VerifyClient.NONE,
        **settings: Any,
    ) -> Door:
        """Return what listeners use, of files as of :meth:`material`.

        :param certificate: the server's, of the authority if not given.
        :param verify: what is asked of clients.
        :param settings: these instead of the usual ones.
        """
        return Door(context=self.material(certificate, verify, **settings).contexts[verify])

    def exchange(
        self,
        server: Door,
        certificate: Certificate | None = None,
        version: ssl.TLSVersion | None = None,
    ) -> Exchange:
        """Let a client shake hands.

        :param server: with whom.
        :param certificate: what the client shows.
        :param version: the only one it speaks.
        """
        context = client_context(self, self.authority.pem, certificate, version)
        return Exchange(server, context).shake_hands()

    def write(self, name: str, content: bytes) -> str:
        """Write a file and return its path.

        :param name: what it is called.
        :param content: what it holds.
        """
        path = self.directory / name
        path.write_bytes(content)
        return str(path)

"""Tests of twisted_patroni.webhooks.transport and .files: connections in memory, and their TLS."""

from __future__ import annotations

import os
import socket
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID
from twisted.internet.defer import CancelledError, Deferred, fail, maybeDeferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseFailed, ResponseNeverReceived

from tests.certificates import Authority, Certificate
from tests.doubles import NOW
from tests.handshakes import Echo, TlsCase
from tests.logs import logged_by
from tests.memory_api import Reactor
from tests.webhook_cases import webhook
from twisted_patroni.engine.interface import LaneFull
from twisted_patroni.pem import TlsError
from twisted_patroni.settings import VerifyClient
from twisted_patroni.tls import client_certificate
from twisted_patroni.webhooks import check
from twisted_patroni.webhooks.files import connection_creator
from twisted_patroni.webhooks.judging import Answer
from twisted_patroni.webhooks.sender import reason_of
from twisted_patroni.webhooks.transport import IDLE, MOST_BODY, MOST_BYTES, Transport

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted_patroni.web.entrance import Door

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


def at_once(function: Callable[..., Any], *args: Any) -> Deferred[Any]:
    """Call a function as a lane with nothing else to do does."""
    return maybeDeferred(function, *args)


class Wire(StringTransportWithDisconnection):
    """A connection in memory that remembers how it was ended.

    :param factory: whose connection it is.
    :param clock: the reactor's.
    """

    aborted = False

    def __init__(self, factory: Any, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.protocol = factory.buildProtocol(None)
        self.protocol.makeConnection(self)

    def abortConnection(self) -> None:
        """End it, in a later turn as real ones do."""
        if not self.aborted:
            self.aborted = True
            self.clock.callLater(0, self.drop)

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Do nothing."""

    def answer(self, data: bytes) -> None:
        """Let the receiver send something."""
        if data and self.connected and not self.aborted:
            self.protocol.dataReceived(data)

    def drop(self) -> None:
        """Let the receiver end it."""
        if self.connected:
            self.loseConnection()

    def taken(self) -> bytes:
        """Return what the receiver was sent since the last time."""
        data: bytes = self.value()
        self.clear()
        return data


class TransportCase(SynchronousTestCase):
    """A test case with one receiver, in memory."""

    def setUp(self) -> None:
        """Begin without a connection."""
        self.use()

    def use(
        self,
        url: str = "http://127.0.0.1:9000/in?token=t",
        in_lane: Callable[..., Deferred[Any]] = at_once,
        **keys: Any,
    ) -> None:
        """Go on with another receiver."""
        self.reactor = Reactor()
        self.transport = Transport(self.reactor, webhook(url, **keys), in_lane)

    def post(self) -> Deferred[Answer]:
        """Send something."""
        return self.transport.post({"Content-Type": "application/json", "webhook-id": "s.1"}, b"{}")

    def accept(self) -> Wire:
        """Accept the connection that was asked for last."""
        return Wire(self.reactor.tcpClients[-1][2], self.reactor)

    def refuse(self, factory: Any, why: Failure) -> None:
        """Let a connection fail before it is made."""
        factory.clientConnectionFailed(None, why)

    def posted(self) -> tuple[Deferred[Answer], Wire]:
        """Send something over a new connection."""
        result = self.post()
        return result, self.accept()


class TransportTests(TransportCase):
    """One receiver with one address."""

    def test_request(self) -> None:
        """A request has path, query, headers and body; its answer is the status."""
        result, wire = self.posted()
        self.assertEqual(self.reactor.tcpClients[0][:2], ("127.0.0.1", 9000))
        head, _, body = wire.taken().partition(b"\r\n\r\n")
        request, *lines = head.split(b"\r\n")
        self.assertEqual((request, body), (b"POST /in?token=t HTTP/1.1", b"{}"))
        found = {line.lower() for line in lines}
        for line in (
            b"host: 127.0.0.1:9000",
            b"content-length: 2",
            b"content-type: application/json",
            b"webhook-id: s.1",
        ):
            self.assertIn(line, found)
        self.assertNoResult(result)
        wire.answer(OK)
        self.assertEqual(self.successResultOf(result), Answer(200))

    def test_not_logged(self) -> None:
        """Connections are not worth a line in the log, neither their begin nor their end."""
        events = logged_by(self, "twisted.web.client._HTTP11ClientFactory")
        result = self.post()
        factory = self.reactor.tcpClients[0][2]
        factory.doStart()
        self.accept().answer(OK)
        self.successResultOf(result)
        factory.doStop()
        self.assertEqual(events, [])

    def test_persistent(self) -> None:
        """The connection is used again, until it was idle for a minute."""
        result, wire = self.posted()
        wire.answer(OK)
        self.successResultOf(result)
        result = self.post()
        wire.answer(b"HTTP/1.1 204 No Content\r\n\r\n")
        self.assertEqual(self.successResultOf(result), Answer(204))
        self.assertEqual(len(self.reactor.tcpClients), 1)
        self.reactor.advance(IDLE)
        self.assertFalse(wire.connected)
        self.post()
        self.assertEqual(len(self.reactor.tcpClients), 2)

    def test_closed_between(self) -> None:
        """A connection that the receiver has closed is not used again."""
        result, wire = self.posted()
        wire.answer(OK)
        self.successResultOf(result)
        wire.drop()
        result, wire = self.posted()
        wire.answer(OK)
        self.assertEqual(self.successResultOf(result), Answer(200))

    def test_retry_after(self) -> None:
        """``Retry-After`` is passed on, and no redirect is followed."""
        result, wire = self.posted()
        wire.answer(b"HTTP/1.1 503 X\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual(self.successResultOf(result), Answer(503, "7"))
        result = self.post()
        wire.answer(b"HTTP/1.1 302 X\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual(self.successResultOf(result), Answer(302))
        self.assertEqual(len(self.reactor.tcpClients), 1)

    def test_silence(self) -> None:
        """Without an answer in time the request fails, and so does its connection."""
        result, wire = self.posted()
        self.reactor.advance(4.9)
        self.assertNoResult(result)
        self.reactor.advance(0.2)
        failure = self.failureResultOf(result, ResponseNeverReceived, DeferredTimeout)
        self.assertFalse(wire.connected)
        self.assertTrue(reason_of(failure.value))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_black_hole(self) -> None:
        """A connection that nobody accepts is given up in time; then nothing is left of it."""
        result = self.post()
        self.reactor.advance(5.1)
        failure = self.failureResultOf(result)
        self.assertEqual(reason_of(failure.value), "no answer in time")
        self.assertTrue(self.reactor.connectors[0].stoppedConnecting)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_slow_lane(self) -> None:
        """A name that takes for ever to resolve is given up in time; a full lane at once."""
        self.use(in_lane=lambda *args: Deferred())
        result = self.post()
        self.reactor.advance(5.1)
        self.failureResultOf(result, DeferredTimeout)
        self.use(in_lane=lambda *args: fail(LaneFull("webhooks", 1)))
        self.failureResultOf(self.post(), LaneFull)

    def test_refused(self) -> None:
        """A refused connection is an error that says so."""
        result = self.post()
        factory = self.reactor.tcpClients[0][2]
        self.refuse(factory, Failure(ConnectError()))
        self.failureResultOf(result, ConnectError)

    def test_long_body(self) -> None:
        """No more of a body is read than a little; the status counts all the same."""
        result, wire = self.posted()
        wire.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        wire.answer(b"x" * MOST_BODY)
        self.assertNoResult(result)
        self.assertTrue(wire.connected)
        wire.answer(b"x")
        self.reactor.advance(0)
        self.assertEqual(self.successResultOf(result), Answer(200))
        self.assertFalse(wire.connected)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_slow_body(self) -> None:
        """A body that does not end is not waited for longer than for the whole answer."""
        result, wire = self.posted()
        self.reactor.advance(3.0)
        wire.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx")
        self.reactor.advance(1.9)
        self.assertNoResult(result)
        self.reactor.advance(0.2)
        self.assertEqual(self.successResultOf(result), Answer(200))
        self.assertTrue(wire.aborted)
        self.post()
        self.assertEqual(len(self.reactor.tcpClients), 2)

    def test_endless_head(self) -> None:
        """Neither is more read of a head that does not end."""
        result, wire = self.posted()
        wire.answer(b"HTTP/1.1 200 OK\r\n")
        line = b"X-Y: " + b"z" * 1000 + b"\r\n"
        for _ in range(MOST_BYTES // len(line) + 1):
            wire.answer(line)
        self.reactor.advance(0)
        self.assertFalse(wire.connected)
        self.failureResultOf(result, ResponseNeverReceived, ResponseFailed)

    def test_bytes_per_request(self) -> None:
        """That bound is each request's: a connection is good for any number of them."""
        result, wire = self.posted()
        answer = b"HTTP/1.1 200 OK\r\nX: " + b"y" * 10000 + b"\r\nContent-Length: 0\r\n\r\n"
        wire.answer(answer)
        for _ in range(20):
            self.successResultOf(result)
            result = self.post()
            wire.answer(answer)
        self.assertEqual(len(self.reactor.tcpClients), 1)

    def test_not_http(self) -> None:
        """Something else than HTTP is an error."""
        result, wire = self.posted()
        wire.answer(b"220 smtp.example.com ESMTP\r\n")
        self.failureResultOf(result, ResponseFailed, ResponseNeverReceived)

    def test_lost(self) -> None:
        """A connection that ends without an answer is an error."""
        result, wire = self.posted()
        wire.drop()
        failure = self.failureResultOf(result, ResponseNeverReceived)
        self.assertEqual(reason_of(failure.value), "it closed the connection")

    def test_cancel(self) -> None:
        """Who cancels ends the connection."""
        result, wire = self.posted()
        result.cancel()
        self.reactor.advance(0)
        self.failureResultOf(result, ResponseNeverReceived, CancelledError)
        self.assertFalse(wire.connected)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_close(self) -> None:
        """The connection that waits to be used is ended with the transport."""
        result, wire = self.posted()
        wire.answer(OK)
        self.successResultOf(result)
        closed = self.transport.close()
        self.reactor.advance(0)
        self.successResultOf(closed)
        self.assertFalse(wire.connected)
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class AddressTests(TransportCase):
    """A receiver whose name has several addresses."""

    def setUp(self) -> None:
        """Give the name two addresses, the first of IPv6."""
        self.found: list[Any] = [
            (socket.AF_INET6, 1, 6, "", ("2001:db8::1", 9000, 0, 0)),
            (socket.AF_INET, 1, 6, "", ("192.0.2.1", 9000)),
            (socket.AF_INET, 1, 6, "", ("192.0.2.1", 9000)),
        ]
        self.asked: list[Any] = []

        def getaddrinfo(*args: Any, **kwargs: Any) -> Any:
            self.asked.append(args)
            return self.found

        self.patch(socket, "getaddrinfo", getaddrinfo)
        super().setUp()

    def test_next(self) -> None:
        """The next address is tried when one fails, each with its part of the time."""
        self.use("http://hooks.example.com:9000/")
        result = self.post()
        self.assertEqual(self.asked[0], ("hooks.example.com", 9000))
        host, port, factory, timeout, _ = self.reactor.tcpClients[0]
        self.assertEqual((host, port, timeout), ("2001:db8::1", 9000, 2.5))
        self.refuse(factory, Failure(ConnectError()))
        self.assertEqual(self.reactor.tcpClients[1][:2], ("192.0.2.1", 9000))
        wire = self.accept()
        wire.answer(OK)
        self.assertEqual(self.successResultOf(result), Answer(200))

    def test_time(self) -> None:
        """When the time is over no further address is tried."""
        result = self.post()
        self.reactor.advance(5.1)
        self.assertEqual(reason_of(self.failureResultOf(result).value), "no answer in time")
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_none(self) -> None:
        """If all fail the last error counts; no addresses are an error as well."""
        result = self.post()
        for number in range(2):
            factory = self.reactor.tcpClients[number][2]
            self.refuse(factory, Failure(ConnectError(number)))
        failure = self.failureResultOf(result, ConnectError)
        self.assertEqual(failure.value.osError, 1)
        self.found = []
        self.failureResultOf(self.post(), ConnectError)

    def test_unknown(self) -> None:
        """A name that does not exist is an error."""

        def getaddrinfo(*args: Any, **kwargs: Any) -> Any:
            raise socket.gaierror(-2, "Name or service not known")

        self.patch(socket, "getaddrinfo", getaddrinfo)
        failure = self.failureResultOf(self.post(), socket.gaierror)
        self.assertEqual(
            reason_of(failure.value), "it cannot be reached: Name or service not known"
        )


class Receiver(Echo):
    """Answers any request with 200; remembers it."""

    request = b""

    def dataReceived(self, data: bytes) -> None:
        """Answer."""
        self.certificate = client_certificate(self.transport)
        self.request += data
        assert self.transport is not None
        self.transport.write(OK)


class TlsTests(TlsCase):
    """A receiver over TLS, with a real handshake in memory."""

    def setUp(self) -> None:
        """Make an authority and the files of a node."""
        super().setUp()
        self.reactor = Reactor()
        self.receiver = Receiver()

    def post(
        self, server: Door, url: str = "https://127.0.0.1:9000/", **keys: Any
    ) -> Deferred[Answer]:
        """Post to a receiver, and let both sides have their say."""
        settings = webhook(url, **{"cafile": self.cafile, **keys})
        transport = Transport(self.reactor, settings, at_once)
        result = transport.post({}, b"{}")
        if not self.reactor.tcpClients:
            return result
        wire = Wire(self.reactor.tcpClients[0][2], self.reactor)
        clock = Clock()
        factory = TLSMemoryBIOFactory(
            server, False, Factory.forProtocol(lambda: self.receiver), clock=clock
        )
        other = Wire(factory, clock)
        for _ in range(10):
            other.answer(wire.taken())
            clock.advance(0)
            wire.answer(other.taken())
            self.reactor.advance(0)
        return result

    def assert_fails(self, result: Deferred[Answer], *words: str) -> None:
        """Fail unless there is no answer, for a reason with these words."""
        failure = self.failureResultOf(result)
        for word in words:
            self.assertIn(word, reason_of(failure.value))

    def test_delivered(self) -> None:
        """A receiver of the authority in ``cafile`` gets the request."""
        result = self.post(self.server())
        self.assertEqual(self.successResultOf(result), Answer(200))
        self.assertTrue(self.receiver.request.startswith(b"POST / HTTP/1.1\r\n"))
        self.assertIsNone(self.receiver.certificate)

    def test_client_certificate(self) -> None:
        """A receiver that asks for it is shown the node's certificate."""
        certfile, keyfile = self.authority.client("node").write(self.directory, "node", "secret")
        result = self.post(
            self.server(verify=VerifyClient.REQUIRED),
            certfile=certfile,
            keyfile=keyfile,
            keyfile_password="secret",
        )
        self.assertEqual(self.successResultOf(result), Answer(200))
        assert self.receiver.certificate is not None
        self.assertIn("CN=node", self.receiver.certificate.subject)

    def test_strangers(self) -> None:
        """Nothing is sent to a receiver with another name or of another authority."""
        self.assert_fails(self.post(self.server(self.authority.server("other"))), "name")
        self.assertEqual(self.receiver.request, b"")

    def test_other_authority(self) -> None:
        """Nor to one of another authority, the system's among them."""
        for cafile in (Authority("another").write(self.directory, "another"), None):
            self.reactor = Reactor()
            result = self.post(self.server(), cafile=cafile)
            self.assert_fails(result, "TLS fails", "verify failed")
        self.assertEqual(self.receiver.request, b"")

    def test_intermediate(self) -> None:
        """An intermediate authority in ``cafile`` is enough."""
        middle = self.authority.intermediate()
        door = self.server(middle.server("127.0.0.1"))
        result = self.post(door, cafile=middle.write(self.directory, "middle"))
        self.assertEqual(self.successResultOf(result), Answer(200))

    def test_renewed(self) -> None:
        """The files are read for each connection; one that has gone is no answer."""
        settings = webhook("https://127.0.0.1:9000/", cafile=self.cafile)
        check([settings])
        os.remove(self.cafile)
        failure = self.failureResultOf(Transport(self.reactor, settings, at_once).post({}, b""))
        self.assertIn("restapi.webhooks[0].cafile: cannot read", reason_of(failure.value))
        self.cafile = self.authority.write(self.directory)
        self.assertEqual(self.successResultOf(self.post(self.server())), Answer(200))


class CheckTests(TlsCase):
    """What is wrong with files is known before they are used."""

    def error(self, **keys: str) -> str:
        """Return what is wrong, empty if nothing is."""
        try:
            check([webhook(), webhook("https://localhost/", **keys)])
        except TlsError as error:
            return str(error).replace(str(self.directory), "")
        return ""

    def test_table(self) -> None:
        """Each error names the webhook and its key."""
        certfile, keyfile = self.authority.client("node").write(self.directory, "node", "secret")
        _, other = self.authority.client("other").write(self.directory, "other")
        nothing = self.write("nothing", b"nothing")
        shown = {"certfile": certfile, "keyfile": keyfile, "keyfile_password": "secret"}
        hook = "restapi.webhooks[0]."
        rows: list[tuple[dict[str, str], str]] = [
            ({}, ""),
            ({"cafile": self.cafile}, ""),
            (shown, ""),
            ({"cafile": "missing"}, f"{hook}cafile: cannot read missing: No such file"),
            ({"cafile": nothing}, f"{hook}cafile: /nothing holds no certificate in PEM"),
            ({"certfile": nothing}, f"{hook}certfile: /nothing holds no certificate in PEM"),
            ({"certfile": certfile}, f"{hook}certfile: /node.crt holds no private key"),
            (shown | {"keyfile": other}, f"{hook}keyfile: /other.key does not belong to"),
            (shown | {"keyfile_password": "x"}, f"{hook}keyfile: the password is wrong"),
            (
                {"certfile": certfile, "keyfile": keyfile},
                f"{hook}keyfile: /node.key is encrypted, and there is no {hook}keyfile_password",
            ),
        ]
        for keys, begin in rows:
            error = self.error(**keys)
            self.assertTrue(error.startswith(begin) and bool(error) is bool(begin), error)

    def test_weak(self) -> None:
        """What OpenSSL refuses is told in its words."""
        key = rsa.generate_private_key(65537, 1024)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "weak")])
        builder = x509.CertificateBuilder(name, name, key.public_key(), 1)
        builder = builder.not_valid_before(NOW).not_valid_after(NOW + timedelta(days=1))
        weak = Certificate(builder.sign(key, SHA256()), key)
        certfile, keyfile = weak.write(self.directory, "weak")
        error = self.error(certfile=certfile, keyfile=keyfile)
        self.assertEqual(error, "restapi.webhooks[0]: OpenSSL refuses the files: ee key too small")

    def test_made_early(self) -> None:
        """Nothing is read when a connection begins: all was when its context was made."""
        creator = connection_creator(webhook("https://localhost/", cafile=self.cafile))
        os.remove(self.cafile)
        nobody = TLSMemoryBIOFactory(creator, True, Factory.forProtocol(Echo)).buildProtocol(None)
        assert nobody is not None
        creator.clientConnectionForTLS(nobody)

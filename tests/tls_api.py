"""The whole API over real TLS in memory: the standard library's clients, and certificates."""

from __future__ import annotations

import json
import re
import ssl
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from OpenSSL import SSL
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone

from tests.certificates import Authority, self_signed
from tests.handshakes import client_context
from tests.memory_api import ApiCase, ApiInMemory, Reply, inline_lanes
from tests.scratch import scratch_directory
from tests.test_web_access import MESSAGE, failsafe_engine
from tests.wire_client import Pipe
from twisted_patroni.web.entrance import Entrance

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.certificates import Certificate
    from tests.doubles import FakeEngine
    from twisted_patroni.engine.lanes import Lanes

CLIENT = IPv4Address("TCP", "192.0.2.7", 50000)
YESTERDAY = datetime.now(UTC) - timedelta(days=1)
TOMORROW = datetime.now(UTC) + timedelta(days=1)

#: Endpoints with a body that they take and the status that they then have.
SAFE: list[tuple[str, str, Any, int]] = [
    ("GET", "/primary", None, 200),
    ("HEAD", "/primary", None, 200),
    ("GET", "/patroni", None, 200),
    ("GET", "/cluster", None, 200),
    ("GET", "/metrics", None, 200),
]
UNSAFE: list[tuple[str, str, Any, int]] = [
    ("PATCH", "/config", {"ttl": 20}, 200),
    ("PUT", "/config", {"ttl": 20}, 200),
    ("POST", "/switchover", {"leader": "x"}, 412),
    ("DELETE", "/switchover", None, 404),
    ("POST", "/restart", None, 200),
    ("POST", "/reinitialize", None, 200),
    ("POST", "/reload", None, 202),
    ("POST", "/failsafe", MESSAGE, 200),
]


def request_bytes(
    method: str, target: str, headers: Mapping[str, str] | None = None, body: object = None
) -> bytes:
    """Return a request in HTTP/1.1.

    :param method: the method.
    :param target: the target.
    :param headers: the headers besides ``Host`` and the body's length.
    :param body: what to send as JSON, ``None`` for nothing.
    """
    content = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    lines += [f"Content-Length: {len(content)}"] if content else []
    return "\r\n".join([*lines, "", ""]).encode() + content


class Wire:
    """A connection as the network sees it: a client that only sends bytes.

    :param api: whom it is with.
    :param factory: the listener's; that of the main one if not given.
    :ivar pipe: the server's transport.
    :ivar received: all that the server has sent so far.
    """

    def __init__(self, api: ApiInMemory, factory: Any = None) -> None:
        self.clock = api.clock
        self.pipe = Pipe(api.clock, CLIENT)
        entrance = factory or Entrance(api.api.site, api.api.doors.main)
        self.protocol: Any = entrance.buildProtocol(CLIENT)
        self.pipe.protocol = self.protocol
        self.protocol.makeConnection(self.pipe)
        self.received = b""

    def send(self, data: bytes) -> bytes:
        """Send bytes, which arrive as long as anybody listens; return what comes back at once.

        :param data: the bytes.
        """
        if data and not self.pipe.disconnecting:
            self.protocol.dataReceived(data)
        return self.take()

    def take(self) -> bytes:
        """Return what the server has sent since the last time."""
        self.clock.pump([0, 0])  # what is written in one turn is sent at its end
        sent: bytes = self.pipe.value()
        self.pipe.clear()
        self.received += sent
        return sent

    def leave(self, reason: Exception | None = None) -> None:
        """Close the connection without a word.

        :param reason: how that looks to the server; like an orderly end of TCP if not given.
        """
        self.pipe.lost(reason or ConnectionDone())
        self.clock.advance(0)

    @property
    def closed(self) -> bool:
        """Whether the connection is gone."""
        return not self.pipe.connected


class TlsClient(Wire):
    """A client with the standard library's TLS; nothing moves but by its methods.

    :param api: whom it talks to.
    :param context: its side of TLS.
    :param factory: the listener's; that of the main one if not given.
    :param session: an earlier one that the client wants to go on with.
    :ivar alert: what the server said when it gave up, empty if it did not.
    :ivar greeted: the handshake is done, as far as the client knows.
    :ivar ended: the server has said that it will send no more, and the client agrees.
    """

    def __init__(
        self,
        api: ApiInMemory,
        context: ssl.SSLContext,
        factory: Any = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        super().__init__(api, factory)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self._incoming, self._outgoing, server_hostname="localhost", session=session
        )
        self.alert = ""
        self.greeted = False
        self.ended = False
        self._plain, self._queued = b"", b""

    def step(self) -> bytes:
        """Do what can be done with what has arrived, and return what there is to send."""
        try:
            if not self.greeted:
                self.tls.do_handshake()
                self.greeted = True
            if self._queued:
                self.tls.write(self._queued)
                self._queued = b""
            while data := self.tls.read(65536):
                self._plain += data
            self.ended = True
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            # Such as SSLV3_ALERT_BAD_CERTIFICATE, with a prefix that depends on the library.
            self.alert = self.alert or (error.reason or "").rpartition("ALERT_")[2]
        return self._outgoing.read()

    def hear(self, data: bytes) -> None:
        """Take what has arrived.

        :param data: as the server has sent it.
        """
        self._incoming.write(data)

    def pump(self) -> bytes:
        """Carry bytes both ways until nobody has more to say; return what was received."""
        while True:
            sent = self.step()
            answered = self.send(sent)
            self.hear(answered)
            if not (sent or answered):
                break
        received, self._plain = self._plain, b""
        return received

    def shake_hands(self) -> TlsClient:
        """Do the handshake, as far as the server lets us."""
        self.pump()
        return self

    def say(self, data: bytes) -> bytes:
        """Send something, with the end of the handshake at the earliest; return the answer.

        :param data: what to send.
        """
        self._queued += data
        return self.pump()

    def say_goodbye(self) -> None:
        """End the connection as TLS wants it."""
        with suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self.pump()

    def ask(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | None = None,
        body: object = None,
    ) -> Reply:
        """Send a request and return the reply; see :func:`request_bytes`."""
        return Reply.parse(self.say(request_bytes(method, target, headers, body)))

    def status(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | None = None,
        body: object = None,
    ) -> int | str:
        """Send a request and return the status, or the alert if there is no answer."""
        received = self.say(request_bytes(method, target, headers, body))
        return Reply.parse(received).code if received else self.alert

    @property
    def serial(self) -> int:
        """The serial number of the server's certificate."""
        found = self.tls.getpeercert()
        assert found is not None
        return int(str(found["serialNumber"]), 16)


class OpenSslClient(Wire):
    """A client for what the standard library's cannot do; it looks at no certificate.

    :param api: whom it talks to.
    :param version: of TLS.
    :ivar secrets: from which the keys of the connection are made, by the names of key logs.
    """

    def __init__(self, api: ApiInMemory, version: ssl.TLSVersion) -> None:
        super().__init__(api)
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(version)
        context.set_max_proto_version(version)
        self.secrets: dict[str, bytes] = {}
        context.set_keylog_callback(self._note)
        self.tls = SSL.Connection(context)
        self.tls.set_connect_state()

    def _note(self, connection: SSL.Connection, line: bytes) -> None:
        label, _, secret = line.decode().split(" ")
        self.secrets[label] = bytes.fromhex(secret)

    def pump(self) -> bytes:
        """Carry bytes both ways until nobody has more to say; return what was received."""
        received = b""
        while True:
            with suppress(SSL.WantReadError):
                received += self.tls.recv(65536)
            sent = b""
            with suppress(SSL.WantReadError):
                sent = self.tls.bio_read(65536)
            answered = self.send(sent)
            if answered:
                self.tls.bio_write(answered)
            elif not sent:
                return received

    def say(self, data: bytes) -> bytes:
        """Send something and return the answer.

        :param data: what to send.
        """
        self.pump()
        self.tls.send(data)
        return self.pump()


class TlsApiCase(ApiCase):
    """A test case with the API of a healthy leader behind TLS.

    :ivar authority: it has issued the server's certificate, and is in ``cafile``.
    """

    def setUp(self) -> None:
        """Write the files."""
        self.authority = Authority()
        self.directory = scratch_directory(self)
        self.cafile = self.authority.write(self.directory)
        super().setUp()

    def use(
        self, engine: FakeEngine | None = None, lanes: Lanes | None = None, **section: Any
    ) -> ApiInMemory:
        """Go on with another API; see there for the parameters."""
        if "certfile" not in section:
            section |= self.certificate()
        section.setdefault("cafile", self.cafile)
        return super().use(engine or failsafe_engine(), lanes or inline_lanes(), **section)

    def certificate(self, serial: int | None = None) -> dict[str, Any]:
        """Give the server a new certificate.

        :param serial: its serial number, random if not given.
        :return: the keys of the section that name its files.
        """
        issued = self.authority.server("localhost", serial=serial)
        certfile, keyfile = issued.write(self.directory, "server")
        return {"certfile": certfile, "keyfile": keyfile}

    def clients(self) -> dict[str, Certificate | None]:
        """Return a client of each kind, and revoke one of them in ``crl.pem``."""
        intermediate = self.authority.intermediate()
        revoked = self.authority.client("revoked")
        lists = self.authority.revoke(revoked) + intermediate.revoke()
        (self.directory / "crl.pem").write_bytes(lists)
        return {
            "none": None,
            "good": self.authority.client("good"),
            "chain": intermediate.client("of an intermediate"),
            "expired": self.authority.client("late", not_after=YESTERDAY),
            "not yet valid": self.authority.client("early", not_before=TOMORROW),
            "wrong CA": Authority("other CA").client("good"),
            "same name": Authority().client("good"),
            "self-signed": self_signed("good"),
            "revoked": revoked,
            "server only": self.authority.server("good", client_too=False),
        }

    def connect(
        self,
        certificate: Certificate | None = None,
        version: ssl.TLSVersion | None = None,
        factory: Any = None,
    ) -> TlsClient:
        """Return a client that has not said anything yet.

        :param certificate: what it shows.
        :param version: the only one it speaks.
        :param factory: the listener's; that of the main one if not given.
        """
        context = client_context(self, self.authority.pem, certificate, version)
        return TlsClient(self.api, context, factory)

    def use_door(self, endpoint: str = "tcp:8009", *, section: Any = None, **rules: Any) -> Any:
        """Go on with another API, with a further listener, and return that one's factory.

        :param endpoint: where it listens.
        :param section: keys of the ``restapi`` section.
        :param rules: the listener's.
        """
        door = {"endpoint": endpoint, "serves": "all", **rules}
        self.use(endpoints=[door], **(section or {}))
        return self.api.clock.tcpServers[-1][1]

    def metric(self, name: str) -> float:
        """Return the value of a metric, 0 if there is none.

        :param name: its name with its labels, as Prometheus sees it.
        """
        text = self.api.api.metrics.text()
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def assert_nothing_left(self) -> None:
        """Fail unless all connections are gone, and neither an error nor a timer is left."""
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertEqual(len(self.api.api.site.connections), 0)
        self.assertEqual(self.api.api.site.in_flight, 0)

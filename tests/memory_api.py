"""The whole API in memory: real routing, real HTTP, a fake engine, and a clock set by hand."""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING, Any

from attrs import frozen
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort, IReactorFromThreads
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.doubles import NOW, VERSION, FakeEngine, FakeLink, primary_row, replica_row
from tests.wire_client import Client
from twisted_patroni.engine.lanes import Lane, Lanes, LaneSize
from twisted_patroni.looks import Looks
from twisted_patroni.renewal import load
from twisted_patroni.restapi import RestApi
from twisted_patroni.settings import Settings
from twisted_patroni.web.answers import ERROR_HTML

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twisted.python.failure import Failure

    from twisted_patroni.tls import ClientCertificate
    from twisted_patroni.web.entrance import Door


@implementer(IListeningPort)
class Port:
    """A port that nobody accepts from; it has a socket all the same, as the reactor's have.

    :param descriptor: the socket's, which stays the caller's.
    """

    def __init__(self, descriptor: int) -> None:
        self.socket: socket.socket | None = socket.socket(fileno=os.dup(descriptor))

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return -1 if self.socket is None else self.socket.fileno()

    def startListening(self) -> None:
        """Not used: part of an interface."""

    def stopListening(self) -> None:
        """Close the socket."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def getHost(self) -> IPv4Address:
        """Return an address."""
        return IPv4Address("TCP", "127.0.0.1", 8008)


@implementer(IReactorFromThreads)
class Reactor(MemoryReactorClock):
    """A reactor in memory, with nobody but the test to call it from another thread.

    :ivar ports: what it was given to listen on.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ports: list[Port] = []

    def adoptStreamPort(self, fileno: int, addressFamily: int, factory: object) -> Port:
        """Take a listening socket over."""
        self.ports.append(Port(fileno))
        return self.ports[-1]

    def stop_listening(self) -> None:
        """Close all ports."""
        for port in self.ports:
            port.stopListening()

    def callFromThread(self, callable: Callable[..., Any], *args: object, **kwargs: object) -> None:  # noqa: A002
        """Call a function at once."""
        callable(*args, **kwargs)


class InlineLane(Lane):
    """A lane that makes its calls at once, in the caller's thread."""

    def call(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Deferred[Any]:
        """Make the call."""
        return maybeDeferred(function, *args, **kwargs)


def inline_lanes() -> Lanes:
    """Return lanes that make their calls at once."""
    names = ("local", "read", "write", "long", "probe", "names", "passwords", "webhooks")
    return Lanes(*[InlineLane(name, Reactor(), LaneSize(1, 1)) for name in names])


@frozen
class Reply:
    """A reply as a client sees it.

    :param version: of HTTP, in the status line.
    :param code: the status.
    :param reason: the reason phrase.
    :param headers: names and values in the order received.
    :param body: all that followed.
    """

    version: str
    code: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes

    @classmethod
    def parse(cls, data: bytes) -> Reply:
        """Read one reply.

        :param data: all that was received.
        """
        head, end, body = data.partition(b"\r\n\r\n")
        assert end, data
        status, *lines = head.decode("latin-1").split("\r\n")
        version, code, reason = status.split(" ", 2)
        headers = [tuple(line.split(": ", 1)) for line in lines]
        return cls(version, int(code), reason, headers, body)  # type: ignore[arg-type]

    def header(self, name: str) -> str | None:
        """Return the value of the first header of a name, in whatever case."""
        values = [value for each, value in self.headers if each.lower() == name.lower()]
        return values[0] if values else None

    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)


class ApiInMemory:
    """The whole API over a fake engine, asked with bytes and driven by an injected clock.

    :param engine: the engine; a healthy leader if not given.
    :param lanes: where it resolves names; by default nowhere.
    :param section: keys of the ``restapi`` section, besides ``listen``.
    """

    def __init__(
        self, engine: FakeEngine | None = None, lanes: Lanes | None = None, **section: Any
    ) -> None:
        self.engine = FakeEngine() if engine is None else engine
        self.link = FakeLink(primary_row() if self.engine.view.leader else replica_row())
        self.clock = Reactor()
        self.clock.advance(NOW.timestamp())
        self.looks = Looks(self.clock, self.engine.look)
        self.engine.on_look = self.looks.publish
        self.settings = Settings.of({"listen": "127.0.0.1:8008", **section}, VERSION)
        self.api = RestApi(
            self.clock,
            self.engine,
            self.looks,
            lanes or Lanes.on(self.clock),
            self.settings,
            make_link=lambda reactor, conninfo: self.link,
        )
        self.api.site.turns.interval = 0.0  # clients that pipeline need not be waited for
        self.apply(self.settings)

    def apply(self, settings: Settings) -> None:
        """Let settings count, and the files that they name.

        :param settings: the settings.
        """
        self.settings = settings
        failures: list[Failure] = []
        self.api.apply(settings, load(settings)).addErrback(failures.append)
        for failure in failures:
            failure.raiseException()

    def open(self) -> None:
        """Open the API as the engine does; without this it only answers what the test sends."""
        self.api.open(socket.socket())

    def begin(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | None = None,
        body: object = None,
        *,
        version: str = "1.0",
        client: str = "192.0.2.7",
        door: Door | None = None,
        certificate: ClientCertificate | None = None,
    ) -> Client:
        """Send a request and return the connection, whether or not there is an answer yet.

        :param method: the method.
        :param target: the target.
        :param headers: the headers; ``Content-Length`` is added where there is a body.
        :param body: bytes, or what to send as JSON; ``None`` for none.
        :param version: of HTTP.
        :param client: where the request comes from; empty for a Unix socket.
        :param door: the way it comes, if not by the main listener.
        :param certificate: the client's certificate.
        """
        lines = [f"{method} {target} HTTP/{version}", "Host: node"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        if body is None:
            content = b""
        else:
            lines.append(f"Content-Length: {len(content)}")
        connection = Client(
            self.api.site,
            self.clock,
            peer=IPv4Address("TCP", client, 50000) if client else UNIXAddress(b"/run/x"),
            door=door or self.api.doors.main,
        )
        if certificate is not None:
            connection.protocol._certificate_known = True
            connection.protocol._certificate = certificate
        connection.send("\r\n".join([*lines, "", ""]).encode("latin-1") + content)
        self.clock.advance(0)  # who asks in the same turn shares a statement
        return connection

    def request(self, method: str, target: str, *arguments: Any, **options: Any) -> Reply:
        """Send a request as :meth:`begin` does and return the reply that is there at once."""
        return Reply.parse(self.begin(method, target, *arguments, **options).received())

    def wait(self, seconds: float) -> None:
        """Let time pass in steps of half a second.

        :param seconds: how much.
        """
        self.clock.pump([0.5] * round(seconds * 2))


class ApiCase(SynchronousTestCase):
    """A test case with the API of a healthy leader.

    :ivar api: the API.
    """

    def setUp(self) -> None:
        """Open the API."""
        self.use()

    def use(
        self, engine: FakeEngine | None = None, lanes: Lanes | None = None, **section: Any
    ) -> ApiInMemory:
        """Go on with another API; see there for the parameters."""
        self.api = ApiInMemory(engine, lanes, **section)
        self.addCleanup(self.api.clock.stop_listening)
        self.engine, self.link = self.api.engine, self.api.link
        self.request = self.api.request
        return self.api

    def assertReply(self, reply: Reply, code: int, sentence: str) -> None:
        """Fail unless a reply is this sentence, labelled as upstream labels its sentences."""
        self.assertEqual((reply.code, reply.body.decode()), (code, sentence))
        self.assertEqual(reply.header("Content-Type"), "text/html")

    def assertErrorPage(self, reply: Reply, code: int, *words: str) -> None:
        """Fail unless a reply is the error page of a status, with these words in it."""
        self.assertEqual((reply.code, reply.header("Content-Type")), (code, ERROR_HTML))
        for word in (f"Error code: {code}", *words):
            self.assertIn(word, reply.body.decode())

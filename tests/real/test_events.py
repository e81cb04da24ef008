"""A node's events over real sockets, with and without TLS, and its end while clients follow."""

from __future__ import annotations

import json
import signal
import socket
from typing import TYPE_CHECKING, Any, cast

from attrs import define, field
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.web.websocket import WebSocketClientEndpoint, WebSocketTransport

from tests.real.asking import eventually, together
from tests.real.harness import kill
from tests.real.onenode import OneNode
from tests.real.visiting import Visitor, trusting
from twisted_patroni.demo.certificates import ClientPolicy
from twisted_patroni.demo.layout import AUTHORITY, CLIENT, HOST
from twisted_patroni.restapi import GRACE

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from twisted.internet.interfaces import IReactorTCP
    from twisted.python.failure import Failure

    from tests.real.asking import Reply

#: Seconds after which a long poll is answered that has nothing to tell.
POLLING = 30.0
_KEY = "dGhlIHNhbXBsZSBub25jZQ=="
_HEADERS = {
    "sse": "Accept: text/event-stream\r\n",
    "websocket": (
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {_KEY}\r\n"
    ),
    "long_poll": "",
}
#: The last bytes of each way when the node shuts down.
_GOODBYES = {
    "sse": b'event: end\ndata: {"reason":"the node shuts down"}\n\n\r\n0\r\n\r\n',
    "websocket": b"\x88\x15\x03\xe9the node shuts down",
    "long_poll": b'"}',
}


class Line:
    """A client that knows nothing but sockets, as ``curl -N`` on a terminal; it blocks.

    :param port: the node's port.
    :param way: how to follow.
    :param context: how to speak TLS, if at all.
    :param query: the query to ask with.
    """

    def __init__(
        self, port: int, way: str, context: ssl.SSLContext | None = None, query: str = ""
    ) -> None:
        self.way = way
        plain = socket.create_connection((HOST, port), 30)
        self.socket = plain if context is None else context.wrap_socket(plain, server_hostname=HOST)
        target = f"/events{query}"
        self.socket.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n{_HEADERS[way]}\r\n".encode())
        self.data = b""

    def until(self, text: bytes) -> bytes:
        """Read until a text has come; return all that has."""
        while text not in self.data:
            received = self.socket.recv(65536)
            assert received, self.data
            self.data += received
        return self.data

    def rest(self) -> bytes:
        """Read to the end, and close."""
        with self.socket:
            while received := self.socket.recv(65536):
                self.data += received
        return self.data


@define(eq=False)
class Listener:
    """A WebSocket of Twisted's own client.

    :ivar messages: what has come.
    :ivar ended: fires at the end.
    """

    messages: list[Any] = field(factory=list, init=False)
    ended: Deferred[None] = field(factory=Deferred, init=False)
    transport: WebSocketTransport = field(init=False)

    def buildProtocol(self, url: str) -> Listener:
        """Return the protocol."""
        return self

    def negotiationStarted(self, transport: WebSocketTransport) -> None:
        """Remember the transport."""
        self.transport = transport

    def negotiationFinished(self) -> None:
        """Do nothing."""

    def textMessageReceived(self, message: str) -> None:
        """Remember a message."""
        self.messages.append(json.loads(message))

    def bytesMessageReceived(self, data: bytes | bytearray) -> None:
        """Remember what should not come."""
        self.messages.append(data)

    def pongReceived(self, payload: bytes) -> None:
        """Do nothing."""

    def connectionLost(self, reason: Failure) -> None:
        """Tell of the end."""
        self.ended.callback(None)

    def types(self) -> list[str]:
        """Return the types of the messages."""
        return [message["type"] for message in self.messages]


class EventTests(OneNode):
    """One node without TLS."""

    tls = False
    context: ssl.SSLContext | None = None

    async def begin(self) -> None:
        """Start a node whose primary is running."""
        self.cluster = self.prepared()
        await self.launch()

    async def launch(self) -> None:
        """Start the node and wait until it is a running primary."""
        await self.cluster.start()
        await self.cluster.ready()
        self.url = self.node.rest_url

    async def listen(self, query: str = "") -> Listener:
        """Follow by Twisted's WebSocket."""
        url = f"{self.url.replace('http', 'ws', 1)}/events{query}"
        # Twisted's client knows http and https.
        endpoint = WebSocketClientEndpoint.new(
            cast("IReactorTCP", reactor), url.replace("ws", "http", 1), **self.trust()
        )
        return await endpoint.connect(Listener())

    def trust(self) -> dict[str, Any]:
        """Return whom Twisted's client trusts."""
        return {}

    def line(self, way: str, query: str = "") -> Line:
        """Follow by sockets."""
        return Line(self.node.place.rest_port, way, self.context, query)

    async def change(self, ttl: int) -> Reply:
        """Change the dynamic configuration."""
        reply = await self.api.ask("PATCH", f"{self.url}/config", {"ttl": ttl})
        self.assertEqual(reply.code, 200)
        return reply

    async def test_ways(self) -> None:
        """A change of the configuration is told in all three ways, soon and the same."""
        await self.begin()
        reply = await self.api.ask("GET", f"{self.url}/events")
        document = reply.json()
        self.assertEqual(document["snapshot"]["leader"], self.node.name)
        self.assertEqual(document["snapshot"]["node"]["state"], "running")
        self.assertRegex(document["snapshot"]["node"]["config"], r"^[0-9a-f]{16}$")
        place = document["next"]
        stream = await deferToThread(self.line, "sse")
        await deferToThread(stream.until, b"event: snapshot")
        listener = await self.listen()
        polled, _ = await together(
            self.api.ask("GET", f"{self.url}/events?types=config&after={place}"), self.change(21)
        )
        (event,) = polled.json()["events"]
        self.assertEqual(event["data"], {"changed": {"ttl": {"old": 20, "new": 21}}})
        self.assertLess(polled.seconds, POLLING)
        text = json.dumps(event, separators=(",", ":")).encode()
        await deferToThread(stream.until, b"event: config\nid: ")
        await deferToThread(stream.until, text)

        async def told() -> bool:
            return event in listener.messages

        await eventually("the WebSocket tells of it", told)
        self.assertEqual(listener.types()[0], "snapshot")
        listener.transport.loseConnection()
        await listener.ended
        stream.socket.close()
        # Who comes back is told of the same.
        again = await self.listen(f"?types=config&after={place}")
        await eventually("what was missed", told_to(again, event))
        again.transport.loseConnection()
        await again.ended

    async def test_shutdown(self) -> None:
        """With a hundred clients that follow, the node stops as fast as without any."""
        await self.begin()
        alone = await self.stop([])
        self.node.start()
        await self.cluster.ready()
        number = (await self.api.ask("GET", f"{self.url}/events")).json()["next"]

        def connect() -> list[Line]:
            poll = f"?timeout=60&after={number}&types=history"
            lines = [self.line("sse") for _ in range(40)]
            lines += [self.line("websocket") for _ in range(40)]
            for line in lines:
                line.until(b'"type":"snapshot"')
            return lines + [self.line("long_poll", poll) for _ in range(20)]

        lines = await deferToThread(connect)

        async def all_there() -> bool:
            text = (await self.api.ask("GET", f"{self.url}/metrics")).text
            return 'twisted_patroni_subscribers{way="long_poll"} 20.0' in text

        await eventually("all of them follow", all_there, 10.0)
        seconds = await self.stop(lines)
        self.assertLess(seconds, alone + GRACE)  # or requests were waited for

    async def stop(self, lines: Sequence[Line]) -> float:
        """Send SIGTERM, see clients get their goodbye, and return how long the process took."""
        assert self.node.pid is not None
        begun = reactor.seconds()
        kill(self.node.pid, signal.SIGTERM)
        self.assertEqual(await self.node.exited.addTimeout(30.0, reactor), 0)
        seconds = reactor.seconds() - begun
        for line in lines:
            data = await deferToThread(line.rest)
            self.assertTrue(data.endswith(_GOODBYES[line.way]), data[-200:])
        return seconds


def told_to(listener: Listener, event: Any) -> Any:
    """Return a look whether a listener was told of an event."""

    async def look() -> bool:
        return event in listener.messages

    return look


class SecureEventTests(EventTests):
    """The same over TLS, where each client has to show a certificate."""

    tls = True

    async def begin(self) -> None:
        """Start a node that asks for certificates."""
        self.cluster = self.prepared({"restapi": {"verify_client": "required"}})
        await self.launch()
        self.context = trusting(self.cluster.keys)

    def trust(self) -> dict[str, Any]:
        """Trust the cluster's authority, and show a certificate."""
        keys = self.cluster.keys
        pair = (keys.certificate(CLIENT), keys.key(CLIENT))
        return {"tlsPolicy": ClientPolicy(keys.certificate(AUTHORITY), pair)}

    async def test_without_certificate(self) -> None:
        """Nobody follows without one."""
        await self.begin()
        stranger = Visitor(self.node.place.rest_port, trusting(self.cluster.keys, None))
        visit = await stranger.visit("GET", "/events")
        self.assertNotEqual(visit.seen, 200)

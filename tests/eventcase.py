"""The API in memory with clients that follow its events, each in its way."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

from tests.memory_api import ApiCase, Reply
from twisted_patroni.client.sse import SseParser
from twisted_patroni.web.subscribers import HEARTBEAT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.doubles import FakeEngine
    from tests.memory_api import ApiInMemory
    from tests.wire_client import Client
    from twisted_patroni.engine.lanes import Lanes
    from twisted_patroni.events import Event

SSE = {"Accept": "text/event-stream"}
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
SOCKET = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}


def unchunked(data: bytes) -> tuple[bytes, bool]:
    """Return what chunks hold, and whether the last one is among them.

    :param data: complete chunks.
    """
    parts = []
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        parts.append(data[:length])
        assert data[length : length + 2] == b"\r\n", data
        data = data[length + 2 :]
        if not length:
            assert not data, data
            return b"".join(parts), True
    return b"".join(parts), False


class SseClient:
    """A client of Server-Sent Events.

    :ivar reply: the head of the answer.
    :ivar raw: the last bytes received, without chunks.
    :ivar ended: the answer is complete.
    """

    def __init__(self, connection: Client) -> None:
        self.connection = connection
        self.parser = SseParser()
        self.reply = Reply.parse(connection.received())
        self.chunked = self.reply.header("Transfer-Encoding") == "chunked"
        self.ended = False
        self.raw = b""
        self._unread = self.reply.body

    def messages(self) -> list[tuple[str, str, Any]]:
        """Return type, last id and data of the events that have come since the last call."""
        self.raw, self._unread = self._unread + self.connection.received(), b""
        if self.chunked:
            self.raw, self.ended = unchunked(self.raw)
        found = self.parser.feed(self.raw)
        return [(each.type, each.last_id, json.loads(each.data)) for each in found]

    def types(self) -> list[str]:
        """Return the types of the events that have come since the last call."""
        return [kind for kind, _, _ in self.messages()]


class SocketClient:
    """A client of a WebSocket.

    :ivar reply: the answer to its request.
    :ivar pings: the payloads of pings that have come.
    :ivar close: code and reason of the end, once it has come.
    """

    def __init__(self, connection: Client) -> None:
        self.connection = connection
        self.reply = Reply.parse(connection.received())
        self.pings: list[bytes] = []
        self.close: tuple[int, str | None] | None = None
        self._frames = Connection(ConnectionType.CLIENT)
        self._unread = self.reply.body

    def messages(self) -> list[Any]:
        """Return the messages that have come since the last call."""
        data, self._unread = self._unread + self.connection.received(), b""
        found, text = [], ""
        if self._frames.state is not ConnectionState.CLOSED:
            self._frames.receive_data(data)
        for event in self._frames.events():
            if isinstance(event, TextMessage):
                text += event.data
                if event.message_finished:
                    found.append(json.loads(text))
                    text = ""
            elif isinstance(event, Ping):
                self.pings.append(bytes(event.payload))
            elif isinstance(event, CloseConnection):
                self.close = (int(event.code), event.reason)
        return found

    def send(self, event: Ping | CloseConnection) -> None:
        """Send a control frame."""
        self.connection.send(bytes(self._frames.send(event)))

    def pong(self) -> None:
        """Answer a ping."""
        self.connection.send(bytes(self._frames.send(Ping(b"").response())))

    def bytes_of(self, text: str, *, last: bool = True) -> bytes:
        """Return the frame of a message, or of a part of one."""
        return bytes(self._frames.send(TextMessage(text, message_finished=last)))

    def binary(self, data: bytes) -> bytes:
        """Return the frame of a binary message."""
        return bytes(self._frames.send(BytesMessage(data)))


class EventCase(ApiCase):
    """A test case with the API of a healthy leader that has seen the cluster."""

    def setUp(self) -> None:
        """Open the API and let it look."""
        self.start()

    def start(
        self, engine: FakeEngine | None = None, lanes: Lanes | None = None, **section: Any
    ) -> ApiInMemory:
        """Go on with another API that has seen the cluster; see :meth:`use`."""
        api = self.use(engine, lanes, **section)
        api.open()
        api.looks.look_now()
        self.turns()
        self.stream, self.site = api.api.stream, api.api.site
        self.subscribers = api.api.subscribers
        return api

    def turns(self, count: int = 4) -> None:
        """Let the reactor have turns."""
        self.api.clock.pump([0] * count)

    def publish(self, type: str = "node", *, count: int = 1, **data: Any) -> Event:  # noqa: A002
        """Have something happen; return the last event."""
        for _ in range(count):
            event = self.stream.publish(type, data or {"name": "alpha"})
        self.turns()
        return event

    def place(self, event: Event | None = None) -> str:
        """Return the position after an event, by default after all of them."""
        number = self.stream.newest if event is None else event.number
        return f"{number}.{self.stream.name}"

    def sse(
        self, query: str = "", headers: Mapping[str, str] | None = None, **options: Any
    ) -> SseClient:
        """Follow the events by Server-Sent Events."""
        options = {"version": "1.1", **options}
        target = f"/events{query}"
        return SseClient(self.api.begin("GET", target, SSE | dict(headers or {}), **options))

    def socket(
        self, query: str = "", headers: Mapping[str, str] | None = None, **options: Any
    ) -> SocketClient:
        """Follow the events by a WebSocket."""
        target = f"/events{query}"
        head = SOCKET | dict(headers or {})
        return SocketClient(self.api.begin("GET", target, head, version="1.1", **options))

    def poll(self, query: str = "", **options: Any) -> Client:
        """Ask by long polling."""
        return self.api.begin("GET", f"/events{query}", **{"version": "1.1", **options})

    def beats(self, count: float = 1, socket: SocketClient | None = None) -> None:
        """Let time pass, in heartbeats.

        :param count: how many.
        :param socket: a client that answers each ping.
        """
        for _ in range(round(count * HEARTBEAT * 2)):
            self.api.clock.advance(0.5)
            self.turns(2)
            if socket is not None and not socket.connection.closed:
                socket.pong()

    def metric(self, name: str, **labels: str) -> float:
        """Return one number of the metrics."""
        found = [
            sample.value
            for metric in self.api.api.metrics.collect()
            for sample in metric.samples
            if sample.name == name and sample.labels == labels
        ]
        self.assertEqual(len(found), 1, name)
        return found[0]

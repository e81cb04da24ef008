"""Subscribers for tests: they keep what they were told, and come back when they are cut."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.web.websocket import WebSocketClientEndpoint

if TYPE_CHECKING:
    from typing import ClassVar

    from twisted.python.failure import Failure
    from twisted.web.websocket import WebSocketTransport

_PAUSE = 0.05


class Subscriber:
    """Somebody who wants to know all events of a node, whatever happens to his connection.

    :param reactor: the reactor.
    :param host: the node's address.
    :param port: the node's port.
    :ivar events: the documents of all that he was told, in order.
    :ivar cuts: how often he was cut.
    :ivar gaps: how often he was told that something is lost.
    """

    def __init__(self, reactor: Any, host: str, port: int) -> None:
        self.reactor, self.host, self.port = reactor, host, port
        self.events: list[dict[str, Any]] = []
        self.snapshots: list[dict[str, Any]] = []
        self.cuts = self.gaps = 0
        self.position: str | None = None
        self._stream = ""
        self._following: Deferred[None] | None = None

    # One connection, by one of the ways.

    async def once(self) -> None:
        """Follow until the connection ends."""
        raise NotImplementedError

    def abort(self) -> None:
        """End the connection, as a network that fails does."""
        raise NotImplementedError

    # What they have in common.

    def start(self) -> None:
        """Follow until :meth:`stop`, and come back each time."""
        self._following = Deferred.fromCoroutine(self._follow())

    async def _follow(self) -> None:
        while True:
            try:
                await self.once()
            except CancelledError:
                raise
            except Exception:  # a node that is not there, or says 503
                pass
            await deferLater(self.reactor, _PAUSE)

    def cut(self) -> None:
        """Cut the connection."""
        self.cuts += 1
        self.abort()

    async def stop(self) -> None:
        """Go, wherever this is just now, and do not come back."""
        following, self._following = self._following, None
        if following is not None:
            following.cancel()
            with suppress(CancelledError):
                await following
        self.abort()

    def told(self, document: dict[str, Any]) -> None:
        """Take note of one message.

        :param document: the message.
        """
        match document["type"]:
            case "snapshot":
                self._stream = document["data"]["stream"]
                self.snapshots.append(document)
            case "gap":
                self.gaps += 1
            case "end":
                return
            case _:
                self.events.append(document)
        self.position = f"{document['number']}.{self._stream}"

    @property
    def target(self) -> str:
        """What to ask for."""
        return "/events" if self.position is None else f"/events?after={self.position}"


class _Raw(Protocol):
    """A connection that hands over what it receives."""

    def __init__(self, request: bytes, received: Any) -> None:
        self.request, self.received = request, received
        self.ended: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(self.request)

    def dataReceived(self, data: bytes) -> None:
        self.received(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended.callback(None)


class SseSubscriber(Subscriber):
    """By Server-Sent Events, parsed as little as possible."""

    way: ClassVar[str] = "sse"
    _connection: _Raw | None = None

    async def once(self) -> None:
        """Follow until the connection ends."""
        lines = ["GET /events HTTP/1.0", "Host: node", "Accept: text/event-stream"]
        if self.position is not None:
            lines.append(f"Last-Event-ID: {self.position}")
        self._buffer = b""
        raw = _Raw("\r\n".join([*lines, "", ""]).encode(), self._received)
        endpoint = HostnameEndpoint(self.reactor, self.host, self.port, timeout=5)
        self._connection = await connectProtocol(endpoint, raw)
        await raw.ended

    def _received(self, data: bytes) -> None:
        *blocks, self._buffer = (self._buffer + data).split(b"\n\n")
        for block in blocks:
            for line in block.split(b"\n"):
                if line.startswith(b"data:"):
                    self.told(json.loads(line[5:]))

    def abort(self) -> None:
        """End the connection, as a network that fails does."""
        if self._connection is not None and self._connection.transport is not None:
            self._connection.transport.abortConnection()  # type: ignore[attr-defined]


class LongPollSubscriber(SseSubscriber):
    """By one request after the other."""

    way = "long_poll"

    async def once(self) -> None:
        """Ask once."""
        joint = "&" if "?" in self.target else "?"
        self._buffer = b""
        request = f"GET {self.target}{joint}timeout=5 HTTP/1.0\r\nHost: node\r\n\r\n"
        raw = _Raw(request.encode(), self._collect)
        endpoint = HostnameEndpoint(self.reactor, self.host, self.port, timeout=5)
        self._connection = await connectProtocol(endpoint, raw)
        await raw.ended
        head, _, body = self._buffer.partition(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head)
        if length is None or int(length[1]) != len(body) or b" 200 " not in head[:20]:
            return
        answer = json.loads(body)
        self.gaps += "gap" in answer
        if answer.get("snapshot"):
            self.snapshots.append(answer["snapshot"])
        self.events += answer["events"]
        self.position = answer["next"]

    def _collect(self, data: bytes) -> None:
        self._buffer += data


class WebSocketSubscriber(Subscriber):
    """By WebSocket, with Twisted's client."""

    way = "websocket"
    _transport: Any = None

    async def once(self) -> None:
        """Follow until the connection ends."""
        closed: Deferred[None] = Deferred()
        self._closed = closed
        url = f"ws://{self.host}:{self.port}{self.target}"
        endpoint = WebSocketClientEndpoint.new(self.reactor, url, connectTimeout=5)
        # Not awaited: Twisted tells nobody if the connection ends before the node has agreed.
        connecting = Deferred.fromCoroutine(endpoint.connect(self))
        connecting.addErrback(lambda failure: None if closed.called else closed.errback(failure))
        try:
            await closed
        finally:
            connecting.cancel()
            self.abort()

    def abort(self) -> None:
        """End the connection, as a network that fails does."""
        if self._transport is not None:
            self._transport.transport.abortConnection()

    def buildProtocol(self, url: str) -> WebSocketSubscriber:
        """Be the protocol, too."""
        return self

    def negotiationStarted(self, transport: WebSocketTransport) -> None:
        """Keep the transport."""
        self._transport = transport

    def negotiationFinished(self) -> None:
        """Wait."""

    def textMessageReceived(self, message: str) -> None:
        """Take note of a message."""
        self.told(json.loads(message))

    def bytesMessageReceived(self, data: bytes | bytearray) -> None:
        """Fail: nothing is told so."""
        raise AssertionError(data)

    def pongReceived(self, payload: bytes) -> None:
        """Do nothing."""

    def connectionLost(self, reason: Failure) -> None:
        """Come back."""
        self._transport = None
        if not self._closed.called:
            self._closed.callback(None)

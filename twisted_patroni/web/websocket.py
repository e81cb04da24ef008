"""Events through a WebSocket: Twisted's, with manners that its clients cannot change."""

from __future__ import annotations

import binascii
from base64 import b64decode
from typing import TYPE_CHECKING, Any, ClassVar

from attrs import define, field
from twisted.web.http_headers import Headers as TwistedHeaders
from twisted.web.websocket import WebSocketResource
from wsproto.connection import ConnectionState
from wsproto.utilities import ProtocolError

from twisted_patroni.web.answers import Answer, problem
from twisted_patroni.web.phases import Phase
from twisted_patroni.web.reader import Goodbye, Reader
from twisted_patroni.web.subscribers import HEARTBEAT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.web.server import Request

    from twisted_patroni.events import Event
    from twisted_patroni.web.request import ApiRequest

#: Seconds without anything from the client after which it counts as dead.
SILENCE = 2.5 * HEARTBEAT
_VERSION = b"13"
_KEY_BYTES = 16

SILENT = Goodbye(1008, f"nothing was heard for {SILENCE:.1f} seconds, no pong either", "silent")
NOTHING_EXPECTED = Goodbye(1003, "no messages are expected here", "input")
BROKEN = Goodbye(1002, "not a WebSocket frame that was expected", "protocol")


def refusal(request: ApiRequest) -> Answer | None:
    """Return the answer to a request that cannot become a WebSocket, ``None`` if it can.

    :param request: it asks for ``Upgrade: websocket``.
    """
    headers = request.requestHeaders
    if headers.getRawHeaders(b"Sec-WebSocket-Version", []) != [_VERSION]:
        sentence = "only version 13 of the WebSocket protocol is spoken here"
        return problem(426, sentence, (("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")))
    keys = headers.getRawHeaders(b"Sec-WebSocket-Key", [])
    if len(keys) != 1 or not _is_key(keys[0]):
        return problem(400, "Sec-WebSocket-Key: expected one key, of 16 bytes in base64")
    return None


def _is_key(key: bytes) -> bool:
    try:
        return len(b64decode(key, validate=True)) == _KEY_BYTES
    except binascii.Error:
        return False


def _essence(key: bytes) -> TwistedHeaders:
    """Return all that the handshake needs; nothing else that a client sends can disturb it."""
    return TwistedHeaders(
        {
            b"Host": [b"node"],
            b"Upgrade": [b"websocket"],
            b"Connection": [b"Upgrade"],
            b"Sec-WebSocket-Version": [_VERSION],
            b"Sec-WebSocket-Key": [key],
        }
    )


@define(eq=False)
class WebSocketReader(Reader):
    """One who reads events from a WebSocket, as ``twisted.web.websocket`` wants its protocols."""

    # Twisted's transport: its protocol for typing lacks the reason of a close.
    _socket: Any = field(default=None, init=False)
    _heard: float = field(default=0.0, init=False)
    _unanswered: int = field(default=0, init=False)
    _spoken_to: bool = field(default=False, init=False)

    way: ClassVar[str] = "websocket"
    phase: ClassVar[Phase] = Phase.UPGRADED
    code: ClassVar[int] = 101

    def buildProtocol(self, request: Request) -> WebSocketReader:
        """Return the protocol of the one WebSocket that this is the factory of.

        :param request: the request.
        """
        return self

    def greet(self, request: ApiRequest) -> None:
        """Make the connection a WebSocket.

        :param request: what the client has sent; :func:`refusal` has found nothing.
        """
        keys = request.requestHeaders.getRawHeaders(b"Sec-WebSocket-Key", [])
        request.requestHeaders = _essence(keys[0])
        request.path = b"/events"
        WebSocketResource(self).render_GET(request)
        self._heard = self.subscribers.clock.seconds()

    def send(self, events: Sequence[Event]) -> None:
        """Write each event as a message.

        :param events: one or more.
        """
        for event in events:
            self._socket.sendTextMessage(event.text)

    def beat(self) -> None:
        """Write a ping, which the client has to answer."""
        self._unanswered += 1
        self._socket.ping()

    def say(self, goodbye: Goodbye) -> None:
        """Close with code and reason.

        :param goodbye: why.
        """
        try:
            self._socket.loseConnection(goodbye.code, goodbye.reason)
        except ProtocolError:  # too late for reasons
            self._channel.loseConnection()

    def look_after(self, now: float) -> None:
        """Drop a client that is not there any more, too.

        :param now: the time.
        """
        # A clock that is put forward is not the client's silence.
        silent = now - self._heard > SILENCE and self._unanswered >= SILENCE // HEARTBEAT
        if silent and self._paused is None:
            self.end(SILENT)
        else:
            super().look_after(now)

    def hear(self, data: bytes) -> None:
        """Understand pongs and the end; whatever else comes is the end, too.

        :param data: what the client has sent.
        """
        self._heard = self.subscribers.clock.seconds()
        self._unanswered = 0
        try:
            self._socket.dataReceived(data)
        except ProtocolError:
            self.end(BROKEN)
            return
        if self._channel.phase is Phase.CLOSE:  # Twisted has answered the end, or an error, by it
            if self._socket._wsconn.state is not ConnectionState.CLOSED:
                self.subscribers.dropped[BROKEN.counted] += 1
            self._leave()
        elif self._spoken_to or self._socket._textBuffer.data or self._socket._bytesBuffer.data:
            # Parts of a message are enough: nobody waits for the end of an endless one.
            self.end(NOTHING_EXPECTED)

    # What Twisted's protocol tells.

    def negotiationStarted(self, transport: Any) -> None:
        """Know where to write to."""
        self._socket = transport

    def negotiationFinished(self) -> None:
        """Do nothing: the snapshot follows in any case."""

    def pongReceived(self, payload: bytes) -> None:
        """Do nothing: whatever is heard is a sign of life."""

    def textMessageReceived(self, message: str) -> None:
        """Take note of an offence."""
        self._spoken_to = True

    def bytesMessageReceived(self, data: bytes | bytearray) -> None:
        """Take note of an offence."""
        self._spoken_to = True

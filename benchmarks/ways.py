"""The three ways to follow a node's events, without any socket: bytes in, events out."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from attrs import define, field

if TYPE_CHECKING:
    from collections.abc import Iterator

PATH = "/events"
_HEAD_END = b"\r\n\r\n"
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10
#: Any key will do, since nobody here looks at what the server makes of it.
_WEBSOCKET = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)
_POLL_SECONDS = 30


@lru_cache(maxsize=256)
def _parsed(text: bytes) -> Any:
    """Read JSON; all followers are sent the same."""
    return json.loads(text)


def _request(path: str, *headers: str) -> bytes:
    return "\r\n".join((f"GET {path} HTTP/1.1", "Host: follower", *headers, "", "")).encode()


@define(eq=False)
class Answer:
    """An HTTP answer that comes piece by piece.

    :ivar code: its status, 0 until it is known.
    :ivar done: whether all of it is there; one that goes on until the connection ends never is.
    """

    code: int = field(default=0, init=False)
    done: bool = field(default=False, init=False)
    _buffer: bytes = field(default=b"", init=False)
    _chunked: bool = field(default=False, init=False)
    _left: int | None = field(default=None, init=False)

    def feed(self, data: bytes) -> bytes:
        """Return what of the body has come.

        :param data: what has been received.
        """
        self._buffer += data
        if not self.code:
            head, end, rest = self._buffer.partition(_HEAD_END)
            if not end:
                return b""
            self._read_head(head.decode("latin-1"))
            self._buffer = rest
        return b"".join(self._chunks()) if self._chunked else self._plain()

    def _read_head(self, head: str) -> None:
        status, *lines = head.split("\r\n")
        self.code = int(status.split()[1])
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        self._chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        if "content-length" in headers:
            self._left = int(headers["content-length"])

    def _plain(self) -> bytes:
        body, self._buffer = self._buffer, b""
        if self._left is not None:
            self._left -= len(body)
            self.done = self._left <= 0
        return body

    def _chunks(self) -> Iterator[bytes]:
        while not self.done:
            size, end, rest = self._buffer.partition(b"\r\n")
            length = int(size, 16) if end else 0
            if not end or len(rest) < length + 2:
                return
            yield rest[:length]
            self._buffer = rest[length + 2 :]
            self.done = length == 0


class Way(Protocol):
    """One subscriber, who remembers how far he has read.

    :ivar code: the status of the answer, 0 until it is there.
    :ivar number: the number of the last event read.
    """

    code: int
    number: int

    def begin(self) -> bytes:
        """Return what to send on a new connection, to go on where he is."""

    def feed(self, data: bytes) -> tuple[list[dict[str, Any]], bytes]:
        """Return the events that have come, with snapshots and gaps, and what to send.

        :param data: what has been received.
        """


@define(eq=False)
class EventSource:
    """Server-sent events."""

    code: int = field(default=0, init=False)
    number: int = field(default=0, init=False)
    _position: str = field(default="", init=False)
    _answer: Answer = field(factory=Answer, init=False)
    _rest: bytes = field(default=b"", init=False)

    def begin(self) -> bytes:
        """See :class:`Way`."""
        self._answer, self._rest, self.code = Answer(), b"", 0
        last = (f"Last-Event-ID: {self._position}",) if self._position else ()
        return _request(PATH, "Accept: text/event-stream", *last)

    def feed(self, data: bytes) -> tuple[list[dict[str, Any]], bytes]:
        """See :class:`Way`."""
        *messages, self._rest = (self._rest + self._answer.feed(data)).split(b"\n\n")
        self.code = self._answer.code
        return list(self._documents(messages)) if self.code == 200 else [], b""

    def _documents(self, messages: list[bytes]) -> Iterator[dict[str, Any]]:
        for message in messages:
            lines = [line.partition(b": ") for line in message.split(b"\n")]
            fields = {name: value for name, _, value in lines}
            if b"id" in fields:
                self._position = fields[b"id"].decode()
            if b"data" in fields and "number" in (document := _parsed(fields[b"data"])):
                yield document


@define(eq=False)
class WebSocket:
    """A WebSocket, without extensions."""

    code: int = field(default=0, init=False)
    number: int = field(default=0, init=False)
    _stream: str = field(default="", init=False)
    _answer: Answer = field(factory=Answer, init=False)
    _rest: bytes = field(default=b"", init=False)

    def begin(self) -> bytes:
        """See :class:`Way`."""
        self._answer, self._rest, self.code = Answer(), b"", 0
        after = f"?after={self.number}.{self._stream}" if self._stream else ""
        return _request(PATH + after, *_WEBSOCKET)

    def feed(self, data: bytes) -> tuple[list[dict[str, Any]], bytes]:
        """See :class:`Way`."""
        self._rest += self._answer.feed(data)
        self.code = self._answer.code
        found: list[dict[str, Any]] = []
        reply = b""
        for opcode, payload in self._frames() if self.code == 101 else ():
            if opcode == _TEXT:
                found.append(document := _parsed(payload))
                if document["type"] == "snapshot":
                    self._stream = document["data"]["stream"]
            elif opcode in (_PING, _CLOSE):
                # The mask is zero, so that nothing has to be masked.
                answer = _PONG if opcode == _PING else _CLOSE
                reply += bytes((0x80 | answer, 0x80 | len(payload), 0, 0, 0, 0)) + payload
        return found, reply

    def _frames(self) -> Iterator[tuple[int, bytes]]:
        while len(self._rest) >= 2:
            size, start = self._rest[1] & 0x7F, 2
            if size >= 126:
                start = 4 if size == 126 else 10
                size = int.from_bytes(self._rest[2:start], "big")
            if len(self._rest) < start + size:
                return
            frame, self._rest = self._rest[: start + size], self._rest[start + size :]
            yield frame[0] & 0x0F, frame[start:]


@define(eq=False)
class LongPoll:
    """One request after the other, each of which waits for events."""

    code: int = field(default=0, init=False)
    number: int = field(default=0, init=False)
    _position: str = field(default="", init=False)
    _answer: Answer = field(factory=Answer, init=False)
    _body: bytes = field(default=b"", init=False)

    def begin(self) -> bytes:
        """See :class:`Way`."""
        self.code = 0
        return self._next()

    def _next(self) -> bytes:
        self._answer, self._body = Answer(), b""
        after = f"?after={self._position}&timeout={_POLL_SECONDS}" if self._position else ""
        return _request(PATH + after, "Accept: application/json")

    def feed(self, data: bytes) -> tuple[list[dict[str, Any]], bytes]:
        """See :class:`Way`."""
        self._body += self._answer.feed(data)
        if not self._answer.done:
            return [], b""
        self.code = self._answer.code
        if self.code != 200:
            return [], b""
        document = _parsed(self._body)
        self._position = document["next"]
        found = []
        if document.get("gap"):
            found.append({"type": "gap", "number": self.number})
        if document.get("snapshot"):
            # It shows how everything was after the last event, or before the first of these.
            number = int(self._position.partition(".")[0]) - len(document["events"])
            found.append({"type": "snapshot", "number": number})
        return found + document["events"], self._next()


WAYS: dict[str, type[EventSource | WebSocket | LongPoll]] = {
    "SSE": EventSource,
    "WebSocket": WebSocket,
    "long poll": LongPoll,
}


@define(eq=False)
class Tally:
    """What many followers have seen together.

    :ivar lost: events between two that somebody was sent, and not sent himself.
    :ivar twice: events that somebody was sent though he had them.
    :ivar gaps: how often somebody was told that events are lost.
    :ivar arrivals: of each event, when it was published and when each follower had it.
    """

    lost: int = field(default=0, init=False)
    twice: int = field(default=0, init=False)
    gaps: int = field(default=0, init=False)
    arrivals: dict[int, tuple[str, list[float]]] = field(factory=dict, init=False)

    def heard(self, way: Way, document: dict[str, Any], moment: float) -> bool:
        """Take note of what a follower was sent, and tell whether it was an event.

        :param way: the follower, who learns how far he has read.
        :param document: what he was sent.
        :param moment: when he had it.
        """
        number = document["number"]
        if document["type"] == "gap":
            self.gaps += 1
            return False
        if document["type"] == "snapshot":
            way.number = number
            return False
        if number <= way.number:
            self.twice += 1
            return False
        self.lost += number - way.number - 1
        way.number = number
        self.arrivals.setdefault(number, (document["time"], []))[1].append(moment)
        return True

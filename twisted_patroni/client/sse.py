"""Server-Sent Events, as the HTML standard has them: bytes in, events out, in bounded memory."""

from __future__ import annotations

import re

from attrs import define, field, frozen

MAX_LINE = 1024 * 1024
MAX_EVENT = 4 * 1024 * 1024

_ENDS = re.compile(rb"\r\n|\n|\r")
_MARK = b"\xef\xbb\xbf"
_DIGITS = frozenset("0123456789")


class TooLong(ValueError):
    """A line or an event is longer than is accepted; what follows cannot be understood."""


@frozen
class Message:
    """One event.

    :param type: its type; ``message`` where the server names none.
    :param data: its lines, joined.
    :param last_id: the last id that the server has given, with this event or before it.
    """

    type: str
    data: str
    last_id: str


@define(eq=False)
class SseParser:
    """Parses one stream, in whatever pieces it comes.

    :param max_line: bytes that a line may have.
    :param max_event: bytes that the data of an event may have.
    :ivar last_id: the last id, of events that were complete.
    :ivar retry: milliseconds that the server asks to wait before the next connection.
    """

    max_line: int = MAX_LINE
    max_event: int = MAX_EVENT
    last_id: str = field(default="", init=False)
    retry: int | None = field(default=None, init=False)
    _id: str = field(default="", init=False)
    _type: str = field(default="", init=False)
    _data: list[str] = field(factory=list, init=False)
    _size: int = field(default=0, init=False)
    _parts: list[bytes] = field(factory=list, init=False)
    _partial: int = field(default=0, init=False)
    _began: bool = field(default=False, init=False)
    _after_return: bool = field(default=False, init=False)

    def feed(self, data: bytes) -> list[Message]:
        """Take what has arrived and return the events that are complete with it.

        :param data: the next bytes of the stream.
        :raise TooLong: at a line or an event without a reasonable end.
        """
        if not data:
            return []
        # A line ends at its CR at once: the LF that may follow can be long in coming.
        if self._after_return and data.startswith(b"\n"):
            data = data[1:]
        self._after_return = data.endswith(b"\r")
        *lines, rest = _ENDS.split(data)
        messages = []
        for line in lines:
            self._keep(line)
            whole = b"".join(self._parts)
            self._parts, self._partial = [], 0
            message = self._line(whole)
            if message is not None:
                messages.append(message)
        self._keep(rest)
        return messages

    def _keep(self, part: bytes) -> None:
        self._partial += len(part)
        if self._partial > self.max_line:
            raise TooLong(f"a line has more than {self.max_line} bytes")
        if part:
            self._parts.append(part)

    def _line(self, raw: bytes) -> Message | None:
        if not self._began:
            self._began = True
            raw = raw.removeprefix(_MARK)
        if not raw:
            return self._dispatch()
        # A line's end is never part of another character, so that lines can be decoded alone.
        name, _, value = raw.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._size += len(raw)
            if self._size > self.max_event:
                raise TooLong(f"an event has more than {self.max_event} bytes")
            self._data.append(value)
        elif name == "event":
            self._type = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value and _DIGITS.issuperset(value):
            self.retry = int(value[:9])
        return None

    def _dispatch(self) -> Message | None:
        self.last_id = self._id
        kind, data = self._type, self._data
        self._type, self._data, self._size = "", [], 0
        # One line of data is an event even if it is empty; an event without any is none.
        return Message(kind or "message", "\n".join(data), self.last_id) if data else None

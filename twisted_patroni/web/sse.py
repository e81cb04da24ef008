"""Events as Server-Sent Events: an answer without end that browsers and ``curl -N`` can read."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from attrs import define, field

from twisted_patroni.events.model import encoded
from twisted_patroni.events.stream import KEPT
from twisted_patroni.web.phases import Phase
from twisted_patroni.web.reader import Goodbye, Reader
from twisted_patroni.web.wire import HTTP_1_1, header_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted_patroni.events import Event
    from twisted_patroni.web.answers import Headers
    from twisted_patroni.web.request import ApiRequest

EVENT_STREAM = "text/event-stream"
_HEADERS: Headers = (
    ("Content-Type", EVENT_STREAM),
    ("Cache-Control", "no-store"),
    ("X-Accel-Buffering", "no"),  # or nginx keeps the events until they fill a page
)
_COMMENT = b": \n\n"


@define(eq=False)
class Blocks:
    """Events as they are sent, encoded once for all who read them.

    :param stream: the name of the stream that they are of.
    """

    stream: str
    _known: dict[int, bytes] = field(factory=dict, init=False)

    def of(self, event: Event) -> bytes:
        """Return an event, snapshot or gap as a block of lines.

        :param event: what to send.
        """
        if event.type == "gap":
            # Without an id: who is cut off before the snapshot must be told of the gap again.
            return b"event: gap\ndata: %s\n\n" % event.text.encode("ascii")
        if event.type == "snapshot":
            return self._block(event)
        block = self._known.get(event.number)
        if block is None:
            if len(self._known) >= KEPT:
                del self._known[next(iter(self._known))]
            block = self._known[event.number] = self._block(event)
        return block

    def id(self, number: int) -> bytes:
        """Return the line that says how far the reader is.

        :param number: of the last event that he need not be told again.
        """
        return b"id: %d.%s\n" % (number, self.stream.encode("ascii"))

    def _block(self, event: Event) -> bytes:
        kind, text = event.type.encode("ascii"), event.text.encode("ascii")
        return b"event: %s\n%sdata: %s\n\n" % (kind, self.id(event.number), text)


@define(eq=False)
class SseReader(Reader):
    """One who reads Server-Sent Events.

    :param blocks: the events as they are sent.
    :param headers: further headers of the answer.
    """

    blocks: Blocks
    headers: Headers = ()
    _chunked: bool = field(default=False, init=False)
    _known: int = field(default=0, init=False)

    way: ClassVar[str] = "sse"
    phase: ClassVar[Phase] = Phase.STREAM
    code: ClassVar[int] = 200

    def take(self, request: ApiRequest) -> None:
        """Answer a request by events without end; HEAD by what comes before them.

        :param request: the request.
        """
        if request.method == b"HEAD":
            request.channel.persistent = False
            self.greet(request)
            request.startedWriting, request.code = 1, self.code
            request.finish()
        else:
            super().take(request)

    def greet(self, request: ApiRequest) -> None:
        """Write the head of the answer, whose end closes the connection.

        :param request: what the client has sent.
        """
        self._chunked = request.clientproto == HTTP_1_1
        request.channel.write(
            b"".join(
                (
                    request.clientproto,
                    b" 200 OK\r\n",
                    request.site.standard_headers(),
                    header_lines((*_HEADERS, *self.headers)),
                    b"Transfer-Encoding: chunked\r\n" if self._chunked else b"",
                    b"Connection: close\r\n",
                    request.channel.door.extra_lines,
                    b"\r\n",
                )
            )
        )

    def send(self, events: Sequence[Event]) -> None:
        """Write events, all of them at once.

        :param events: one or more.
        """
        self._known = events[-1].number
        self._write(b"".join(map(self.blocks.of, events)))

    def beat(self) -> None:
        """Write a comment; after events that were not wanted, also how far that is."""
        if self._number > self._known:
            # Who comes back with this is not told of a gap when only those are lost.
            self._known = self._number
            self._write(_COMMENT[:-1] + self.blocks.id(self._number) + b"\n")
        else:
            self._write(_COMMENT)

    def say(self, goodbye: Goodbye) -> None:
        """Write a last event that says why, and close.

        :param goodbye: why.
        """
        data = encoded({"reason": goodbye.reason}).encode("ascii")
        self._write(b"event: end\ndata: %s\n\n" % data)
        if self._chunked:
            self._channel.write(b"0\r\n\r\n")
        self._channel.loseConnection()

    def _write(self, data: bytes) -> None:
        self._channel.write(b"%x\r\n%s\r\n" % (len(data), data) if self._chunked else data)

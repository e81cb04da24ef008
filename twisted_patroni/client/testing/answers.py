"""Answers in memory, as :class:`twisted.web.iweb.IAgent` gives them: complete ones, and streams."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse
from zope.interface import implementer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twisted.internet.interfaces import IProtocol

JSON, TEXT = "application/json", "text/html"


@frozen
class Answer:
    """What a node answers.

    :param status: the HTTP status.
    :param body: the body.
    :param headers: the headers.
    """

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(factory=dict)

    @classmethod
    def document(cls, status: int, content: object, **headers: str) -> Answer:
        """Return an answer in JSON.

        :param status: the status.
        :param content: the document.
        :param headers: further headers, underscores standing for hyphens.
        """
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        return cls(status, json.dumps(content).encode(), {"Content-Type": JSON, **more})

    @classmethod
    def sentence(cls, status: int, text: str) -> Answer:
        """Return an answer in words, labelled as upstream labels them.

        :param status: the status.
        :param text: the words.
        """
        return cls(status, text.encode(), {"Content-Type": TEXT})

    @classmethod
    def page(cls, status: int, text: str) -> Answer:
        """Return an error page, of HTML.

        :param status: the status.
        :param text: what is the matter.
        """
        content = f"<!DOCTYPE HTML>\n<p>Error code: {status}</p>\n<p>Message: {text}.</p>\n"
        return cls(status, content.encode(), {"Content-Type": "text/html;charset=utf-8"})

    def response(self, *, is_head: bool = False) -> MemoryResponse:
        """Return it as an agent does.

        :param is_head: without the body.
        """
        response = MemoryResponse(self.status, self.headers)
        response.send(b"" if is_head else self.body)
        response.end(ResponseDone())
        return response


@frozen
class Later:
    """An answer that waits for a change, up to a time.

    :param seconds: how long at most.
    :param answer: the answer, if there has been none by then.
    """

    seconds: float
    answer: Answer


@define(eq=False)
class _Wire:
    """The transport that who reads a body is given.

    :param closed: called when that end is closed.
    :param paused: called when nothing is to be passed on for now, or is again.
    """

    closed: Callable[[], None]
    paused: Callable[[bool], None]

    def loseConnection(self) -> None:
        """Close it."""
        self.closed()

    abortConnection = stopProducing = loseConnection

    def pauseProducing(self) -> None:
        """Keep what comes from now on."""
        self.paused(True)

    def resumeProducing(self) -> None:
        """Pass on what was kept, and then what comes."""
        self.paused(False)


@implementer(IResponse)
@define(eq=False)
class MemoryResponse:
    """An answer whose body is passed on as soon as it is there.

    :param code: the status.
    :param given: the headers.
    :param left: called when the client does not want more.
    """

    code: int
    given: Mapping[str, str] = field(factory=dict)
    left: Callable[[], None] = lambda: None
    version: tuple[bytes, int, int] = field(default=(b"HTTP", 1, 1), init=False)
    headers: Headers = field(init=False)
    length: Any = field(default=0, init=False)
    request: Any = field(default=None, init=False)
    previousResponse: IResponse | None = field(default=None, init=False)
    _unread: list[bytes] = field(factory=list, init=False)
    _reader: Any = field(default=None, init=False)
    _end: Exception | None = field(default=None, init=False)
    _paused: bool = field(default=False, init=False)
    _gone: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.headers = Headers({name: [value] for name, value in self.given.items()})

    @property
    def phrase(self) -> bytes:
        """The phrase that goes with the status."""
        try:
            return HTTPStatus(self.code).phrase.encode("ascii")
        except ValueError:
            return b"Unknown"

    def setPreviousResponse(self, response: IResponse) -> None:
        """Keep the answer that has led to this one.

        :param response: the answer.
        """
        self.previousResponse = response

    def deliverBody(self, protocol: IProtocol) -> None:
        """Pass the body on: what is there now, and later what comes.

        :param protocol: who reads it.
        """
        self._reader = protocol
        protocol.makeConnection(_Wire(self._close, self._pause))  # type: ignore[arg-type]
        self._flush()

    def send(self, data: bytes) -> None:
        """Send a piece of the body.

        :param data: the piece.
        """
        self.length += len(data)
        self._unread.append(data)
        self._flush()

    def end(self, reason: Exception) -> None:
        """End the body.

        :param reason: why: :class:`twisted.web.client.ResponseDone` if it is complete.
        """
        self._end = reason
        self._flush()

    def _pause(self, paused: bool) -> None:
        self._paused = paused
        self._flush()

    @property
    def _flows(self) -> bool:
        return self._reader is not None and not self._paused and not self._gone

    def _flush(self) -> None:
        while self._flows and self._unread:
            data = self._unread.pop(0)
            if data:
                self._reader.dataReceived(data)
        if self._flows and self._end is not None:
            self._gone = True
            self._reader.connectionLost(Failure(self._end))

    def _close(self) -> None:
        if not self._gone:
            self._gone = True
            self.left()
            if self._reader is not None:
                self._reader.connectionLost(Failure(ConnectionDone()))


@define(eq=False)
class Collected:
    """Collects a request's body."""

    parts: list[bytes] = field(factory=list)

    def write(self, data: bytes) -> None:
        """Take a piece."""
        self.parts.append(data)

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """Do nothing: all is taken at once."""

    def unregisterProducer(self) -> None:
        """Do nothing: all is taken at once."""

"""One request: what was asked, and the one answer to it."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any, Protocol

from attrs import frozen
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Request

from twisted_patroni.web.answers import error_page
from twisted_patroni.web.wire import encode_answer, parse_target

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twisted.web.resource import IResource

    from twisted_patroni.web.answers import Answer
    from twisted_patroni.web.channel import ApiChannel
    from twisted_patroni.web.routing import Endpoint
    from twisted_patroni.web.site import ApiSite


@frozen
class BodyRefused(Exception):
    """A body is not read to its end.

    :param code: the status that says why.
    """

    code: int


class Takeover(Protocol):
    """What a handler returns instead of an answer: it writes by itself, for as long as it likes."""

    def take(self, request: ApiRequest) -> None:
        """Begin to answer.

        :param request: what asked for it; its client is still there.
        """


# Each part costs as much time as kilobytes in one piece would.
_FREE_PARTS = 1024
_BYTES_PER_PART = 64


class ApiRequest(Request):
    """A request whose target is read as Patroni reads it and whose answer is one value.

    The facts about it are there from the end of its head on, before any of its body is read.
    Streams may still be written the usual way (``setHeader``, ``write``, ``finish``).

    :ivar target_path: the path asked for, see :class:`~twisted_patroni.web.wire.Target`.
    :ivar query: the parameters of the query.
    :ivar path_parameters: those parts of the path that the resource tree gives a name.
    :ivar client_host: the client's address, empty for a Unix socket.
    :ivar endpoint: the endpoint found there, once somebody has looked for it.
    :ivar body_limit: how many bytes of body are accepted; whoever admits requests may change it.
    :ivar refusal: the answer that was decided at the end of the head, if any.
    :ivar user: who the client has proved to be by a password, once that was asked for.
    :ivar abandon: called when the client leaves before it is answered.
    :ivar started: when the request was complete, on the site's clock.
    """

    _log = Logger()

    target_path: str = ""
    query: Mapping[str, str]
    path_parameters: dict[str, str]
    endpoint: Endpoint | None = None
    content: Any
    client_host: str = ""
    body_limit: int = 0
    refusal: Answer | None = None
    user: str | None = None  # type: ignore[assignment]  # Twisted's is what was claimed
    abandon: Callable[[], None] | None = None
    started: float = 0.0
    channel: ApiChannel
    site: ApiSite
    _resource: IResource | None = None
    _parts = 0

    def head_received(self, method: bytes, target: bytes, version: bytes) -> None:
        """Take note of what is asked, at the end of the head.

        :param method: the method.
        :param target: the target as sent.
        :param version: the version of HTTP.
        :raises ValueError: if the target cannot be read.
        """
        site = self.site = self.channel.site
        self.method, self.uri, self.clientproto = method, target, version
        self.client_host = self.channel.client_host
        self.body_limit = site.limits.body_bytes
        self.started = site.reactor.seconds()
        self.args: dict[bytes, list[bytes]] = {}
        self.query = {}
        self.path_parameters = {}
        self.prepath, self.postpath = [], []
        parsed = parse_target(target)
        self.target_path, self.query = parsed.path, parsed.query
        self.path = parsed.path.encode("latin-1")
        self.postpath = list(parsed.components)

    @property
    def resource(self) -> IResource:
        """The resource at the target, looked for once."""
        if self._resource is None:
            self._resource = self.site.getResourceFor(self)
        return self._resource

    def gotLength(self, length: int | None) -> None:
        """Keep the body in memory: it is small, and a file would block the reactor."""
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        """Store a part of the body.

        :raises BodyRefused: if the body is larger than it may be, or in tiny chunks without end.
        """
        length = self.content.tell()
        if length + len(data) > self.body_limit:
            raise BodyRefused(413)
        self._parts += 1
        if self._parts > _FREE_PARTS + length // _BYTES_PER_PART:
            raise BodyRefused(400)
        self.content.write(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Go on with the complete request; its head is known since :meth:`head_received`."""
        self.started = self.site.reactor.seconds()
        self.content.seek(0)
        self.process()

    def process(self) -> None:
        """Let the resource at the target answer, unless the answer is known already."""
        if self.refusal is not None:
            self.answer(self.refusal)
            return
        try:
            self.render(self.resource)
        except Exception:
            self.processingFailed(Failure())

    def processingFailed(self, reason: Failure) -> Failure:
        """Log a failure that no resource handled, and answer with status 500 if still possible.

        :param reason: the failure.
        """
        self._log.failure("{method} {uri} failed", reason, method=self.method, uri=self.uri)
        if not (self._disconnected or self.finished):
            if self.startedWriting:
                self.channel.abort()
            else:
                self.answer(error_page(500, close=True))
        return reason

    def connectionLost(self, reason: Failure) -> None:
        """Give up what is done for a client that has left."""
        if self.started and not self.startedWriting:
            self.site.abandoned(self)
        super().connectionLost(reason)
        if self.abandon is not None:
            self.abandon()

    def answer(self, answer: Answer) -> None:
        """Send the answer in one write and finish; without effect once the client has left.

        :param answer: the answer.
        :raises RuntimeError: if something was written already.
        """
        if self._disconnected:
            return
        if self.startedWriting:
            raise RuntimeError(f"{self!r} is answered twice")
        channel = self.channel
        if answer.close:
            channel.persistent = False
        self.startedWriting = 1
        self.abandon = None
        self.code = answer.code
        self.sentLength = len(answer.body)
        channel.write(
            encode_answer(
                answer,
                version=self.clientproto,
                method=self.method,
                close=not channel.persistent,
                standard=self.site.standard_headers(),
                extra=channel.door.extra_lines,
            )
        )
        self.finish()

    def give_to(self, takeover: Takeover) -> None:
        """Let somebody answer by himself; without effect once the client has left.

        :param takeover: who does.
        """
        if self._disconnected:
            return
        self.abandon = None
        try:
            takeover.take(self)
        except Exception:
            self.processingFailed(Failure())

    def write(self, data: bytes) -> None:
        """Write a part of a streamed answer; the headers of every answer go before the first."""
        if not (self.startedWriting or self._disconnected):
            headers = self.responseHeaders
            headers.setRawHeaders(b"Server", [self.site.server_token])
            headers.setRawHeaders(b"Date", [self.site.date()])
            for name, value in self.channel.door.extra_headers:
                headers.addRawHeader(name, value)
            if not self.channel.persistent:
                headers.setRawHeaders(b"Connection", [b"close"])
        super().write(data)

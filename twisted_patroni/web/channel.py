"""One connection: absolute deadlines, bounded input and output, fair turns.

``twisted.web``'s channel parses HTTP well, but lets a client hold on: each byte restarts its only
timer, pipelined requests are answered without end though nobody reads the answers, and a protocol
error is answered by closing so abruptly that the client may never see why. This channel keeps the
parser and replaces the manners.

Some of the hooks are private names of ``twisted.web.http.HTTPChannel``; each has its test.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import (
    IHalfCloseableDescriptor,
    IHalfCloseableProtocol,
    IHandshakeListener,
)
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from zope.interface import implementer

from twisted_patroni.tls import handshake_failure
from twisted_patroni.web.answers import error_page
from twisted_patroni.web.hosting import HostingChannel
from twisted_patroni.web.phases import ENDLESS, Phase
from twisted_patroni.web.request import BodyRefused
from twisted_patroni.web.wire import HTTP_1_0, HTTP_1_1, bad_line_status, encode_answer, is_field

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from twisted_patroni.web.answers import Answer
    from twisted_patroni.web.request import ApiRequest


_BETWEEN_REQUESTS = {Phase.HANDSHAKE, Phase.FIRST_BYTE, Phase.IDLE}
_ANSWERING = {Phase.ANSWER, Phase.STREAM}
_UNANSWERABLE = _BETWEEN_REQUESTS | {Phase.HEAD, Phase.BODY}
_DISPENSABLE = _UNANSWERABLE | {Phase.LINGER, Phase.CLOSE}
_LENGTH_DIGITS = 18
_TLS_RECORD = b"\x16"
# Members and patronictl do not repeat a request: one that met a kept connection as it went away
# would count against this node in a leader race. Upstream closes after each answer.
_MEMBER = b"Patroni/"


@implementer(IHandshakeListener, IHalfCloseableProtocol)
class ApiChannel(HostingChannel):
    """A connection that no client can keep longer, or make larger, than the limits say.

    :ivar resting: others come first: the client is not heard after the next answer until
        :meth:`wake`.
    """

    _log = Logger()

    requests: list[ApiRequest]
    _networkProducer: Any
    resting = False
    _handshaking = False
    _in_flight = False
    _request_line = b""
    _discarded = 0

    # Phases and deadlines.

    def overdue(self) -> None:
        """End the phase whose deadline has passed."""
        phase = self.phase
        self.site.timeouts[phase.value] += 1
        if self._handshaking:
            self._handshaking = False
            self.site.handshake_failures["timeout"] += 1
        if phase in ENDLESS:
            self.part()
        elif phase in (Phase.CLOSE, Phase.ANSWER) or (phase is Phase.LINGER and self.isSecure()):
            self.abort()
        elif phase in (Phase.HEAD, Phase.BODY) and not self._waitingForTransport:
            self._refuse(error_page(408, close=True))
        else:
            self.loseConnection()

    @property
    def dispensable(self) -> bool:
        """Whether it is the client that is waited for."""
        # One that was aborted is on its way already.
        return self.phase in _DISPENSABLE and self.deadline != math.inf

    def retire(self) -> None:
        """Close at once, or after the answer that is being made; a stream says goodbye first."""
        if self.farewell is not None:
            self.part()
        elif self.phase is Phase.ANSWER:
            self.persistent = False
        elif self.phase in _UNANSWERABLE:
            # A clean end of TLS would need the client's consent.
            if self.isSecure():
                self.abort()
            else:
                self.loseConnection()

    def connectionMade(self) -> None:
        """Start the clock at the accept."""
        self.MAX_LENGTH = self.site.limits.line_bytes
        self.maxHeaders = self.site.limits.headers
        self.totalHeadersSize = self.site.limits.head_bytes
        self._handshaking = self.isSecure()
        self.enter(Phase.HANDSHAKE if self._handshaking else Phase.FIRST_BYTE)
        self.site.joined(self)
        super().connectionMade()

    def handshakeCompleted(self) -> None:
        """Wait for the first byte of HTTP, now that TLS is up."""
        self._handshaking = False
        self.site.handshakes += 1
        self.enter(Phase.FIRST_BYTE)

    def readConnectionLost(self) -> None:
        """Expect no more of a client that has closed its direction, as ``nc -N`` does.

        One that has left altogether looks the same, so only a short answer is still made.
        """
        if self.farewell is not None:
            self.part()
        elif self.phase is Phase.ANSWER:
            self.persistent = False
            self.deadline = self.site.reactor.seconds() + self.site.limits.half_closed
        else:
            self.loseConnection()

    def writeConnectionLost(self) -> None:
        """Do nothing: it was us who closed our direction."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget the connection and tell the request in flight."""
        if self._handshaking:
            self.site.handshake_failures[handshake_failure(reason)] += 1
        self.phase = Phase.CLOSE
        self._answered()
        self.site.turns.leave(self)
        self.site.left(self)
        super().connectionLost(reason)

    def abort(self) -> None:
        """End the connection at once, whatever was still to be sent."""
        self.phase = Phase.CLOSE
        self.deadline = math.inf
        self.transport.abortConnection()

    def loseConnection(self) -> None:
        """Close when what was written has been sent, but do not wait for that for ever."""
        self.enter(Phase.CLOSE)
        super().loseConnection()

    # Input.

    def dataReceived(self, data: bytes) -> None:
        """Parse what arrives, while it is still of interest."""
        if self.phase is Phase.FIRST_BYTE and data.startswith(_TLS_RECORD):
            self._refuse(error_page(400, close=True))  # or both would wait for the other
            return
        if self.phase in _BETWEEN_REQUESTS:
            self.enter(Phase.HEAD)
        elif self.phase is Phase.LINGER:
            self._discard(data)
            return
        elif self.phase is Phase.CLOSE:
            return
        elif self.guest is not None:
            self.guest.dataReceived(data)
            return
        super().dataReceived(data)

    def lineReceived(self, line: bytes) -> None:
        """Parse a line of the head; none continues the one before it (RFC 9112 section 5.2)."""
        if not self.requests:
            self._request_line = line
        elif line.startswith((b" ", b"\t")):
            self._respondToBadRequestAndDisconnect()
            return
        super().lineReceived(line)

    def lineLengthExceeded(self, line: bytes) -> None:
        """Refuse a line that is too long."""
        self._refuse(error_page(431 if self.requests else 414, close=True))

    def rawDataReceived(self, data: bytes) -> None:
        """Take a part of a body, or what arrives while a request is being answered."""
        if self.phase is Phase.LINGER:
            self._discard(data)
        elif self.guest is not None:
            self.dataReceived(data)  # came with the request
        else:
            try:
                super().rawDataReceived(data)
            except BodyRefused as refused:
                self._refuse(error_page(refused.code, close=True))

    def _maybeChooseTransferDecoder(self, header: bytes, data: bytes) -> bool:
        # The parser would hand thousands of digits to int(), which raises, and ignores `identity`.
        if (header == b"Content-Length" and len(data) > _LENGTH_DIGITS) or (
            header == b"Transfer-Encoding" and data.lower() != b"chunked"
        ):
            return bool(self._failChooseTransferDecoder())
        return bool(super()._maybeChooseTransferDecoder(header, data))

    def _finishRequestBody(self, data: bytes) -> None:
        # Who takes something else for the end of a line would see another end of the body.
        if all(map(is_field, getattr(self._transferDecoder, "_trailerHeaders", ()))):
            super()._finishRequestBody(data)
        else:
            self._respondToBadRequestAndDisconnect()

    def checkPersistence(self, request: ApiRequest, version: bytes) -> bool:
        """Tell whether the connection may serve another request after this one."""
        if version != HTTP_1_1:
            return False
        headers = request.requestHeaders
        if headers.getRawHeaders(b"User-Agent", [b""])[0].startswith(_MEMBER):
            return False
        values = headers.getRawHeaders(b"Connection", [])
        tokens = b",".join(values).lower().split(b",")
        return b"close" not in [token.strip() for token in tokens]

    def allHeadersReceived(self) -> None:
        """Decide about the request before any of its body is read."""
        request = self.requests[-1]
        self.persistent = self.checkPersistence(request, self._version)
        request.gotLength(self.length)
        refusal = self._judge(request)
        if self.length == 0:
            request.refusal = refusal
        elif refusal is not None:
            self.persistent = False
            request.answer(refusal)
        else:
            self.enter(Phase.BODY)
            expectation = request.requestHeaders.getRawHeaders(b"Expect", [b""])[0]
            if expectation.lower() == b"100-continue" and self._version == HTTP_1_1:
                self._send100Continue()

    def _judge(self, request: ApiRequest) -> Answer | None:
        try:
            request.head_received(self._command, self._path, self._version)
        except ValueError:
            return error_page(400, close=True)
        # None will do, whatever RFC 9112 says: HAProxy's checks in HTTP/1.1 come without one.
        if len(request.requestHeaders.getRawHeaders(b"Host", ())) > 1:
            return error_page(400, close=True)
        refusal = self.site.judge(request)
        if refusal is None and self.length is not None and self.length > request.body_limit:
            return error_page(413, close=True)
        return refusal

    def allContentReceived(self) -> None:
        """Hand the complete request over."""
        self.enter(Phase.ANSWER)
        self._request_line = b""
        self._in_flight = True
        self.site.in_flight += 1
        super().allContentReceived()

    def _answered(self) -> None:
        if self._in_flight:
            self._in_flight = False
            self.site.in_flight -= 1

    # Refusals.

    def _respondToBadRequestAndDisconnect(self) -> None:
        if (
            self._receivedHeaderSize > self.totalHeadersSize
            or self._receivedHeaderCount > self.maxHeaders
        ):
            code = 431
        else:
            code = bad_line_status(self._request_line)
        self._refuse(error_page(code, close=True))

    def _refuse(self, answer: Answer) -> None:
        """Answer a request that will not be read to its end."""
        self.persistent = False
        if self.phase is Phase.BODY:
            self.requests[-1].answer(answer)
            return
        self.site.protocol_errors[answer.code] += 1
        line = self._request_line
        self.transport.write(
            encode_answer(
                answer,
                version=HTTP_1_0 if line.endswith(HTTP_1_0) else HTTP_1_1,
                method=line.partition(b" ")[0],
                close=True,
                standard=self.site.standard_headers(),
                extra=self.door.extra_lines,
            )
        )
        self._linger()

    def _linger(self) -> None:
        """Read and drop for a moment: closing on unread bytes would destroy the answer."""
        self.enter(Phase.LINGER)
        self.setRawMode()
        self.paused = False
        self._networkProducer.unregisterProducer()
        self._networkProducer.resumeProducing()
        # Let the client see the end at once; TLS goes on reading until the client agrees.
        if self.isSecure():
            self.transport.loseConnection()
        elif IHalfCloseableDescriptor.providedBy(self.transport):
            self.transport.loseWriteConnection()  # type: ignore[attr-defined]

    def _discard(self, data: bytes) -> None:
        self._discarded += len(data)
        if self._discarded > self.site.limits.linger_bytes:
            self.loseConnection()

    # Output, and whose turn it is.

    def requestDone(self, request: Any) -> None:
        """Go on to the next request, now or when others have had their turn."""
        if self.phase not in _ANSWERING:  # answered before its body was read
            self.requests.remove(request)
            self._linger()
            return
        self._answered()
        self.farewell = None
        pending = bool(self._buffer) or any(self._dataBuffer)
        if self.persistent:
            # Answers that nobody reads are not followed by more of them, nor are those of a client
            # that has not waited for them before the others' were given.
            self.paused = self._waitingForTransport or pending or self.resting
            self.enter(Phase.IDLE)
        super().requestDone(request)
        if self.paused:
            self._await_turn()

    def resumeProducing(self) -> None:
        """Go on: the client has read what was written."""
        super().resumeProducing()
        if self.paused:
            self._await_turn()

    def _await_turn(self) -> None:
        self._networkProducer.pauseProducing()
        if not self._waitingForTransport and not self.resting:
            self.site.turns.wait(self)

    def wake(self) -> None:
        """Hear the client again."""
        self.resting = False
        if self.phase is Phase.IDLE and any(self._dataBuffer):
            self._await_turn()
        else:
            self.take_turn()

    def take_turn(self) -> None:
        """Go on with what the client has sent ahead."""
        if self._waitingForTransport or self.phase not in (Phase.IDLE, Phase.HEAD):
            return
        self.paused = False
        if self._buffer:
            self.enter(Phase.HEAD)
        self._networkProducer.resumeProducing()
        super().dataReceived(b"")

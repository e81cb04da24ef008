"""Requests to one node: what is sent along, how long an answer may take, how long it may be."""

from __future__ import annotations

import json
from base64 import b64encode
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ConnectError, ConnectionClosed, DNSLookupError
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.protocol import Protocol, connectionDone
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers

from twisted_patroni.client.tls import tls_reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twisted.internet.interfaces import IReactorTime
    from twisted.python.failure import Failure
    from twisted.web.iweb import IAgent, IResponse

#: Seconds until a node must have begun to answer, and again until it must have ended.
PATIENCE = 5.0
#: Bytes of an answer that is read as a whole.
MAX_BODY = 4 * 1024 * 1024
#: Objects and lists that may be within each other.
MAX_DEPTH = 32

_T = TypeVar("_T")


class AddressError(ValueError):
    """Not the URL of a node; one line that says why.

    >>> Node.at(reactor, "ftp://a")
    Traceback (most recent call last):
    twisted_patroni.client.asking.AddressError: 'ftp://a' is not a URL like http://HOST:PORT
    """


class NoAnswer(Exception):
    """A node gives no answer that is of use; the text says why, in half a sentence."""


@frozen
class Login:
    """Who asks.

    :param user: the user.
    :param password: the password.

    >>> ClientSettings(login=Login("joe", "s3cret")).login
    Login(user='joe')
    """

    user: str
    password: str = field(repr=False)

    @property
    def header(self) -> str:
        """The value of the header ``Authorization``.

        >>> Login("joe", "s3cret").header
        'Basic am9lOnMzY3JldA=='
        """
        return "Basic " + b64encode(f"{self.user}:{self.password}".encode()).decode("ascii")


@define(eq=False)
class Asker:
    """Asks nodes.

    :param clock: limits how long it takes.
    :param agent: does the requests.
    :param login: who asks.
    """

    clock: IReactorTime
    agent: IAgent
    login: Login | None = None

    async def ask(self, url: str, **headers: str) -> IResponse:
        """Send a GET request and return the answer, as soon as its head is there.

        :param url: the URL.
        :param headers: what to send along, underscores standing for hyphens.
        :raise NoAnswer: if there is none.
        """
        sent = Headers({"User-Agent": ["twisted-patroni"]})
        if self.login is not None:
            sent.addRawHeader("Authorization", self.login.header)
        for name, value in headers.items():
            sent.addRawHeader(name.replace("_", "-"), value)
        asked = self.agent.request(b"GET", url.encode("ascii"), sent)
        return await self._within(PATIENCE, asked)

    async def read(self, response: IResponse) -> bytes:
        """Return the body of an answer.

        :param response: the answer.
        :raise NoAnswer: if it is too long, or does not end.
        """
        body = Body()
        response.deliverBody(body)
        return await self._within(PATIENCE, body.complete)

    async def document(self, url: str) -> Mapping[str, Any]:
        """Return the JSON object that is at a URL.

        :param url: the URL.
        :raise NoAnswer: if there is none.
        """
        response = await self.ask(url)
        body = await self.read(response)
        if response.code != HTTPStatus.OK:
            raise NoAnswer(refusal(response.code, body))
        return parse_object(body)

    async def _within(self, seconds: float, asked: Deferred[_T]) -> _T:
        try:
            return await bounded(asked, seconds, self.clock)
        except DeferredTimeout:
            raise NoAnswer("does not answer") from None
        except (CancelledError, NoAnswer):
            raise
        except Exception as error:
            raise NoAnswer(reason_of(error)) from error


async def bounded(asked: Deferred[_T], seconds: float, clock: IReactorTime) -> _T:
    """Wait for a request, but not for ever, and tell apart what has ended the wait.

    A cancelled request may fail with anything, which would hide from who waits that it was
    cancelled, or too late. So the wait has a Deferred of its own.

    :param asked: the request, which is cancelled if that does not end it.
    :param seconds: how long at most.
    :param clock: that time.
    :raise CancelledError: if the wait was cancelled.
    :raise TimeoutError: of :mod:`twisted.internet.defer`, if it took too long.
    """
    answer: Deferred[_T] = Deferred()

    def arrived(value: _T) -> None:
        if not answer.called:
            answer.callback(value)

    def failed(failure: Failure) -> None:
        if not answer.called:
            answer.errback(failure)

    asked.addCallbacks(arrived, failed)
    try:
        return await answer.addTimeout(seconds, clock)
    finally:
        asked.cancel()


def base_url(url: str) -> str:
    """Return what the paths of a node's API are appended to.

    :param url: a node's URL, as a user writes it or as members announce it: the path ``/patroni``
        is left out.
    :raise AddressError: if it is none.
    """
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError as error:
        raise AddressError(f"{url!r} is not a URL: {error}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise AddressError(f"{url!r} is not a URL like http://HOST:PORT")
    if parts.username is not None or parts.password is not None:
        raise AddressError("a URL with a user or a password in it is not accepted")
    if parts.query or parts.fragment or port == 0 or not (host + parts.path).isascii():
        raise AddressError(f"{url!r} is not a URL like http://HOST:PORT")
    if any(not "!" <= letter <= "~" for letter in url):
        raise AddressError(f"{url!r} is not a URL: it holds a space or a control character")
    path = parts.path.rstrip("/").removesuffix("/patroni")
    return f"{parts.scheme}://{parts.netloc}{path}"


def parse_object(text: str | bytes) -> dict[str, Any]:
    """Read a JSON object.

    :param text: the text.
    :raise NoAnswer: if it is none.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise NoAnswer("answers with what is not JSON") from None
    if not isinstance(value, dict):
        raise NoAnswer("answers with JSON that is no object")
    if not _is_flat(value, MAX_DEPTH):
        raise NoAnswer("answers with JSON that is nested too deeply")
    return value


def _is_flat(value: object, depth: int) -> bool:
    """Tell whether a value can be written again, compared and shown without many calls."""
    if not isinstance(value, dict | list):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return depth > 0 and all(_is_flat(each, depth - 1) for each in inner)


def refusal(code: int, body: bytes = b"") -> str:
    """Say in half a sentence how a node has refused.

    :param code: the status.
    :param body: what it says of it, perhaps.
    """
    try:
        phrase = f"answers {code} ({HTTPStatus(code).phrase})"
    except ValueError:
        phrase = f"answers {code}"
    try:
        said = json.loads(body)["error"]
    except (ValueError, RecursionError, LookupError, TypeError):
        return phrase
    return f"{phrase}: {said[:200]}" if isinstance(said, str) else phrase


def root_of(error: BaseException | None) -> BaseException | None:
    """Return what was the matter at first, with a request or an answer that was cut short.

    :param error: what it failed with.
    """
    reasons = getattr(error, "reasons", None)
    return root_of(reasons[0].value) if reasons else error


def reason_of(error: BaseException | None) -> str:
    """Say in half a sentence why a request has failed.

    :param error: what it failed with.
    """
    error = root_of(error)
    if isinstance(error, Refused):
        return "refuses connections"
    if isinstance(error, DNSLookupError):
        return "has a name that cannot be resolved"
    if isinstance(error, ConnectTimeout):
        return "does not answer"
    told = tls_reason(error)
    if told is not None:
        return told
    if isinstance(error, ConnectionClosed | ResponseDone | PotentialDataLoss):
        return "closed the connection"
    if isinstance(error, ConnectError):
        return f"cannot be reached: {error.osError or error}"
    return f"cannot be asked: {type(error).__name__}"


class Body(Protocol):
    """Collects a body; one without a length, as upstream sends them, ends with its connection.

    :ivar complete: the body; cancelling it closes the connection.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self.complete: Deferred[bytes] = Deferred(lambda _: self._abandon())

    def _abandon(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        """Keep a piece, if it is not too much by now."""
        self._size += len(data)
        if self._size <= MAX_BODY:
            self._parts.append(data)
        elif not self.complete.called:
            self.complete.errback(NoAnswer(f"answers with more than {MAX_BODY} bytes"))
            self._abandon()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Know that there are no more, and whether that is all."""
        if self.complete.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.complete.callback(b"".join(self._parts))
        else:
            self.complete.errback(reason)

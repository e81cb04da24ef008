"""Requests to one node: who asks, what is sent along, how long it may take."""

from __future__ import annotations

import json
from base64 import b64encode
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.web.http_headers import Headers

from twisted_patroni.client.body import Body
from twisted_patroni.client.reasons import NoAnswer, reason_of, refusal
from twisted_patroni.client.shapes import is_flat

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twisted.internet.interfaces import IReactorTime
    from twisted.python.failure import Failure
    from twisted.web.iweb import IAgent, IResponse

#: Seconds until a node must have begun to answer, and again until it must have ended.
PATIENCE = 5.0

_T = TypeVar("_T")


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


def headers_of(login: Login | None, more: Mapping[str, str]) -> Headers:
    """Return the headers of a request.

    :param login: who asks.
    :param more: what to send along; it goes before what is usual.
    """
    sent = Headers({"User-Agent": ["twisted-patroni"]})
    if login is not None:
        sent.setRawHeaders("Authorization", [login.header])
    for name, value in more.items():
        sent.setRawHeaders(name, [value])
    return sent


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

    async def ask(self, url: str, headers: Mapping[str, str]) -> IResponse:
        """Send a GET request and return the answer, as soon as its head is there.

        :param url: the URL.
        :param headers: what to send along.
        :raise NoAnswer: if there is none.
        """
        sent = headers_of(self.login, headers)
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
        response = await self.ask(url, {})
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
    if not is_flat(value):
        raise NoAnswer("answers with JSON that is nested too deeply")
    return value

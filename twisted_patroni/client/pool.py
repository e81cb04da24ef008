"""Persistent connections to one node, shared by all who ask it, and never more than a few."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    ConnectionClosed,
    DNSLookupError,
)
from twisted.web.client import URI, Agent, HTTPConnectionPool
from twisted.web.http_headers import Headers

from twisted_patroni.client.asking import Body, NoAnswer, base_url, bounded, reason_of, root_of
from twisted_patroni.client.body import Bytes
from twisted_patroni.client.errors import (
    BrokenAnswer,
    ClientError,
    OutcomeUnknown,
    TimedOut,
    TlsFailure,
    Unreachable,
)
from twisted_patroni.client.reaching import Reach, speaks_tls
from twisted_patroni.client.response import Response
from twisted_patroni.client.settings import ClientSettings
from twisted_patroni.client.tls import is_unread

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from twisted.web.iweb import IAgent, IResponse

#: Methods after which all is as it was before (RFC 9110 section 9.2.1).
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_T = TypeVar("_T")
_USER_AGENT = "twisted-patroni"
_REDIRECTS = range(300, 400)
#: Seconds within which a server that speaks TLS has said something in it.
_LOOK = 0.5
_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PATH = re.compile(r"/[!-\"$-~]*")
_NOT_CONNECTED = (ConnectError, DNSLookupError, ConnectingCancelledError)


class PoolClosed(ClientError):
    """The pool was closed, and asks nobody any more.

    >>> await node.close()
    >>> await node.status()
    Traceback (most recent call last):
    twisted_patroni.client.pool.PoolClosed: http://a:8008: the pool is closed
    """


@define(eq=False)
class Pool:
    """Persistent connections to one node.

    :param reactor: the reactor.
    :param url: the node's.
    :param settings: how to connect, who asks, and the bounds.
    :param agent: makes the requests; by default one that connects as the settings say.
    :ivar in_use: how many requests are on their way.

    >>> pool = Pool(reactor, memory.url("a"), agent=memory)
    >>> response = await pool.request("GET", "/patroni")
    >>> response.status, response.json()["patroni"]["name"]
    (200, 'a')
    """

    reactor: Any
    url: str = field(converter=base_url)
    settings: ClientSettings = field(factory=ClientSettings)
    agent: IAgent | None = None
    in_use: int = field(default=0, init=False)
    _kept: HTTPConnectionPool = field(init=False)
    _once: HTTPConnectionPool = field(init=False)
    _answered: bool = field(default=False, init=False)
    _places: DeferredSemaphore = field(init=False)
    _asking: set[Deferred[Any]] = field(factory=set, init=False)
    _ending: list[Callable[[], None]] = field(factory=list, init=False)
    _closed: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        settings = self.settings
        self._kept = HTTPConnectionPool(self.reactor)
        self._kept.maxPersistentPerHost = settings.connections
        self._kept.cachedConnectionTimeout = settings.idle  # type: ignore[assignment]
        self._places = DeferredSemaphore(settings.connections)
        # A kept connection may be at its end just when it is used, and what changes something
        # must not be sent again by itself.
        self._once = HTTPConnectionPool(self.reactor, persistent=False)
        if self.agent is None:
            _ = settings.policy  # files that cannot be used are told of now

    @property
    def closed(self) -> bool:
        """Whether it was closed, and asks nobody any more.

        >>> Pool(reactor, memory.url("a"), agent=memory).closed
        False
        """
        return self._closed

    @property
    def idle(self) -> int:
        """How many connections are open and not in use.

        >>> Pool(reactor, memory.url("a"), agent=memory).idle
        0
        """
        return sum(map(len, self._kept._connections.values()))

    @property
    def waiting(self) -> int:
        """How many requests wait for a connection.

        >>> Pool(reactor, memory.url("a"), agent=memory).waiting
        0
        """
        return len(self._places.waiting)

    def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Deferred[Response]:
        """Send a request and return the answer, whatever its status.

        :param method: the method.
        :param path: the path and what follows it.
        :param body: what to send.
        :param headers: what to send along.
        :param timeout: seconds until the answer must be complete, the wait for a connection
            included; by default those of the settings.
        :return: cancelling it closes the request's connection. Fails with :class:`Unreachable`,
            :class:`OutcomeUnknown`, :class:`BrokenAnswer` or :class:`PoolClosed`.

        >>> pool = Pool(reactor, memory.url("a"), agent=memory)
        >>> body = b'{"leader": "a", "candidate": "b"}'
        >>> (await pool.request("POST", "/switchover", body=body)).text
        'Successfully switched over to "b"'
        """
        attempt = self._attempt(method, path, timeout)
        return Deferred.fromCoroutine(self._known(attempt, attempt.run(body, headers or {})))

    def stream(
        self, path: str, *, headers: Mapping[str, str] | None = None, timeout: float | None = None
    ) -> Deferred[IResponse]:
        """Send a GET request, and return the answer when its head is there; the rest may last.

        It has a connection of its own, which is none of those that are counted here.

        :param path: the path and what follows it.
        :param headers: what to send along.
        :param timeout: seconds until the head must be there; by default those of the settings.
        :return: an answer whose body is to be taken, or aborted. Fails as :meth:`request` does.

        >>> pool = Pool(reactor, memory.url("a"), agent=memory)
        >>> head = await pool.stream("/metrics")
        >>> head.code
        200
        """
        attempt = self._attempt("GET", path, timeout)
        return Deferred.fromCoroutine(self._known(attempt, attempt.begin(headers or {})))

    def _attempt(self, method: str, path: str, timeout: float | None) -> _Attempt:
        seconds = self.settings.timeout if timeout is None else timeout
        return _Attempt(self, method, path, seconds)

    async def _known(self, attempt: _Attempt, going: Coroutine[Any, Any, _T]) -> _T:
        try:
            if self._closed:
                raise PoolClosed(f"{self.url}: the pool is closed")
            attempt.check()
        except Exception:
            going.close()
            raise
        asking = Deferred.fromCoroutine(going)
        self._asking.add(asking)
        try:
            return await asking
        except CancelledError:
            if self._closed:
                raise PoolClosed(f"{self.url}: the pool is closed") from None
            raise
        finally:
            self._asking.discard(asking)

    def at_end(self, call: Callable[[], None]) -> Callable[[], None]:
        """Have something called when this is closed, once.

        :param call: is called without arguments.
        :return: to be called to have it not called any more.

        >>> pool = Pool(reactor, memory.url("a"), agent=memory)
        >>> forget = pool.at_end(lambda: print("closed"))
        >>> await pool.close()
        closed
        """
        self._ending.append(call)

        def forget() -> None:
            if call in self._ending:
                self._ending.remove(call)

        return forget

    def close(self) -> Deferred[None]:
        """Give up what is on its way, and close all connections.

        :return: fires when they are closed.

        >>> pool = Pool(reactor, memory.url("a"), agent=memory)
        >>> await pool.close()
        >>> pool.closed
        True
        """
        self._closed = True
        while self._ending:
            self._ending.pop()()
        for each in list(self._asking):
            each.cancel()
        closing: Deferred[None] = self._kept.closeCachedConnections()
        return closing.addCallback(lambda _: None)


@define(eq=False)
class _Attempt:
    """One request, from the wait for a connection to the last byte of the answer.

    :param pool: whose it is.
    :param method: the method.
    :param path: the path and what follows it.
    :param seconds: how long it may take.
    """

    pool: Pool
    method: str
    path: str
    seconds: float
    _head: IResponse | None = field(default=None, init=False)
    _reach: Reach = field(init=False)

    def __attrs_post_init__(self) -> None:
        pool, settings = self.pool, self.pool.settings
        policy = settings.policy if pool.agent is None else None
        self._reach = Reach(pool.reactor, policy, min(settings.connect_timeout, self.seconds))

    @property
    def url(self) -> str:
        """What is asked."""
        return f"{self.pool.url}{self.path}"

    def check(self) -> None:
        """See to it that it can be sent as it is, and to nobody else.

        :raise ValueError: if it cannot.
        """
        if not _METHOD.fullmatch(self.method):
            raise ValueError(f"method: {self.method!r} is none")
        # What does not begin with a slash would become a part of the host.
        if not _PATH.fullmatch(self.path):
            raise ValueError(f"path: {self.path!r} is not one like /patroni")

    async def run(self, body: bytes | None, headers: Mapping[str, str]) -> Response:
        """Make it."""
        pool, clock = self.pool, self.pool.reactor
        began = clock.seconds()
        try:
            await pool._places.acquire().addTimeout(self.seconds, clock)
        except DeferredTimeout:
            reason = f"had no free connection within {self.seconds:g} seconds"
            raise Unreachable(self.url, reason) from None
        pool.in_use += 1
        try:
            left = self.seconds - (clock.seconds() - began)
            return await self._exchange(body, headers, max(0.001, left))
        finally:
            pool.in_use -= 1
            pool._places.release()

    async def begin(self, headers: Mapping[str, str]) -> IResponse:
        """Make it, on a connection of its own, and return the answer's head."""
        return await self._within(self.seconds, self._head_of(False, headers))

    async def _within(self, seconds: float, talk: Coroutine[Any, Any, _T]) -> _T:
        clock = self.pool.reactor
        end = clock.seconds() + seconds
        try:
            return await bounded(Deferred.fromCoroutine(talk), seconds, clock)
        except DeferredTimeout:
            reason = f"has not answered within {self.seconds:g} seconds"
            if self._reach.connecting:
                raise Unreachable(self.url, reason) from None
            raise TimedOut(self.url, reason) from None
        except (CancelledError, ClientError):
            raise
        except Exception as error:
            if await self._is_for_tls(error, end - clock.seconds()):
                raise TlsFailure(self.url, "speaks TLS at this port, and no plain HTTP") from error
            raise self._told(error) from error

    async def _is_for_tls(self, error: Exception, left: float) -> bool:
        """Tell whether a request was in vain because the port is one for TLS."""
        pool = self.pool
        unsure = self.url.startswith("http:") and not pool._answered and pool.agent is None
        cut = isinstance(root_of(error), ConnectionClosed) and not self._reach.connecting
        if not unsure or not cut or left <= 0:
            return False
        uri = URI.fromBytes(f"https{self.url.removeprefix('http')}".encode("ascii"))
        return await speaks_tls(pool.reactor, uri, min(left, _LOOK))

    async def _exchange(
        self, body: bytes | None, headers: Mapping[str, str], left: float
    ) -> Response:
        clock = self.pool.reactor
        began = clock.seconds()
        head, content = await self._within(left, self._talk(body, headers))
        response = Response(
            self.url,
            head.code,
            head.phrase.decode("latin-1"),
            head.headers,
            content,
            clock.seconds() - began,
        )
        if head.code in _REDIRECTS:
            place = response.header("Location")
            raise BrokenAnswer(self.url, f"sends elsewhere, to {place}", response)
        return response

    async def _talk(
        self, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[IResponse, bytes]:
        head = self._head = await self._head_of(self.method in SAFE, headers, body)
        collected = Body()
        head.deliverBody(collected)
        return head, await collected.complete

    async def _head_of(
        self, may_be_kept: bool, headers: Mapping[str, str], body: bytes | None = None
    ) -> IResponse:
        pool = self.pool
        login = pool.settings.login
        kept = pool._kept if may_be_kept else pool._once
        agent = pool.agent or Agent.usingEndpointFactory(pool.reactor, self._reach, kept)
        sent = Headers({"User-Agent": [_USER_AGENT]})
        if login is not None:
            sent.addRawHeader("Authorization", login.header)
        if body is not None:
            sent.addRawHeader("Content-Type", "application/json")
        for name, value in headers.items():
            sent.setRawHeaders(name, [value])
        producer = None if body is None else Bytes(body)
        method, url = self.method.encode("ascii"), self.url.encode("ascii")
        head = await agent.request(method, url, sent, producer)
        pool._answered = True
        return head

    def _told(self, error: Exception) -> ClientError:
        """Return what an error means for who has asked."""
        if self._head is not None:
            return BrokenAnswer(self.url, f"{_reason(error)} before the answer was complete")
        inner = root_of(error)
        if is_unread(inner):
            return TlsFailure(self.url, _reason(error))
        if self._reach.connecting or isinstance(inner, _NOT_CONNECTED):
            return Unreachable(self.url, _reason(error))
        return OutcomeUnknown(self.url, _reason(error))


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, NoAnswer) else reason_of(error)

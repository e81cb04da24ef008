"""Persistent connections to one node, shared by all who ask it, and never more than a few."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore, fail
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    ConnectionClosed,
    DNSLookupError,
)
from twisted.web.client import URI, Agent, HTTPConnectionPool

from twisted_patroni.client.asking import headers_of
from twisted_patroni.client.body import Body, Bytes
from twisted_patroni.client.errors import (
    BrokenAnswer,
    ClientError,
    OutcomeUnknown,
    TimedOut,
    TlsFailure,
    Unreachable,
)
from twisted_patroni.client.reaching import Reach, speaks_tls
from twisted_patroni.client.reasons import NoAnswer, is_no_http, reason_of, root_of
from twisted_patroni.client.response import Response
from twisted_patroni.client.settings import ClientSettings
from twisted_patroni.client.tls import is_unread
from twisted_patroni.client.urls import base_url

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from twisted.internet.interfaces import IDelayedCall
    from twisted.web.iweb import IAgent, IResponse

#: Methods after which all is as it was before (RFC 9110 section 9.2.1).
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_T = TypeVar("_T")
_REDIRECTS = range(300, 400)
#: Seconds within which a server that speaks TLS has said something in it.
_LOOK = 0.5
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
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
    _asking: set[_Attempt] = field(factory=set, init=False)
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

    def __repr__(self) -> str:
        return f"Pool(url={self.url!r})"

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
        attempt = _Attempt(self, method.upper(), path, headers or {}, timeout)
        return attempt.start(attempt.run, body)

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
        attempt = _Attempt(self, "GET", path, headers or {}, timeout)
        return attempt.start(attempt.begin)

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
            each.end(PoolClosed(f"{self.url}: the pool is closed"))
        closing: Deferred[None] = self._kept.closeCachedConnections()
        return closing.addCallback(lambda _: None)


@define(eq=False)
class _Attempt:
    """One request, from the wait for a connection to the last byte of the answer.

    :param pool: whose it is.
    :param method: the method.
    :param path: the path and what follows it.
    :param headers: what to send along.
    :param timeout: how many seconds it may take; ``None`` for as many as usual.
    """

    pool: Pool
    method: str
    path: str
    headers: Mapping[str, str]
    timeout: float | None
    _url: str = field(default="", init=False)
    _seconds: float = field(default=0.0, init=False)
    _has_place: bool = field(default=False, init=False)
    _head: IResponse | None = field(default=None, init=False)
    _reach: Reach = field(init=False)
    _result: Deferred[Any] = field(init=False)
    _going: Deferred[Any] | None = field(default=None, init=False)
    _over: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        pool, settings = self.pool, self.pool.settings
        self._url = f"{pool.url}{self.path}"
        self._seconds = settings.timeout if self.timeout is None else max(0.0, self.timeout)
        policy = settings.policy if pool.agent is None else None
        self._reach = Reach(pool.reactor, policy, min(settings.connect_timeout, self._seconds))

    def start(self, run: Callable[..., Coroutine[Any, Any, _T]], *arguments: Any) -> Deferred[_T]:
        """Begin, and see to it that it ends in time.

        :param run: what to do.
        :param arguments: with what.
        :return: what comes of it; whatever that does when it is given up, who cancels this or
            has waited for too long learns just that.
        """
        try:
            self._check()
        except Exception:
            return fail()
        self._result = Deferred(lambda _: self._stop())
        self._result.addBoth(self._forget)
        self.pool._asking.add(self)
        timer = self.pool.reactor.callLater(self._seconds, self._expire)
        going = self._going = Deferred.fromCoroutine(run(*arguments))
        going.addBoth(self._settle, timer)
        return self._result

    def _check(self) -> None:
        """See to it that it can be sent as it is, and to nobody else."""
        if self.pool.closed:
            raise PoolClosed(f"{self.pool.url}: the pool is closed")
        if not _TOKEN.fullmatch(self.method):
            raise ValueError(f"method: {self.method!r} is none")
        # What does not begin with a slash would become a part of the host.
        if not _PATH.fullmatch(self.path):
            raise ValueError(f"path: {self.path!r} is not one like /patroni")
        for name, value in self.headers.items():
            if not _TOKEN.fullmatch(name) or not f"{value}".isprintable():
                raise ValueError(f"headers: {name!r} cannot be sent with what it says")

    def _forget(self, result: Any) -> Any:
        self.pool._asking.discard(self)
        return result

    def _settle(self, result: Any, timer: IDelayedCall) -> None:
        if timer.active():
            timer.cancel()
        if not self._over and not self._result.called:
            self._result.callback(result)

    def _stop(self) -> None:
        self._over = True
        if self._going is not None:
            self._going.cancel()

    def end(self, error: ClientError) -> None:
        """Give up.

        :param error: what who waits is told.
        """
        self._stop()
        if not self._result.called:
            self._result.errback(error)

    def _expire(self) -> None:
        url, seconds = self._url, f"within {self._seconds:g} seconds"
        if not self._has_place:
            self.end(Unreachable(url, f"had no free connection {seconds}"))
        elif self._reach.connecting:
            self.end(Unreachable(url, f"has not answered {seconds}"))
        else:
            self.end(TimedOut(url, f"has not answered {seconds}", self.method in SAFE))

    async def run(self, body: bytes | None) -> Response:
        """Make it, on one of the connections."""
        pool, clock = self.pool, self.pool.reactor
        await pool._places.acquire()
        self._has_place = True
        pool.in_use += 1
        try:
            began = clock.seconds()
            head, content = await self._talk(body)
        except (CancelledError, ClientError):
            raise
        except Exception as error:
            raise await self._told(error) from error
        finally:
            pool.in_use -= 1
            pool._places.release()
        phrase, taken = head.phrase.decode("latin-1"), clock.seconds() - began
        response = Response(self._url, head.code, phrase, head.headers, content, taken)
        if head.code in _REDIRECTS:
            place = response.header("Location")
            raise BrokenAnswer(self._url, f"sends elsewhere, to {place}", response)
        return response

    async def begin(self) -> IResponse:
        """Make it, on a connection of its own, and return the answer's head."""
        self._has_place = True
        try:
            return await self._head_of(False)
        except (CancelledError, ClientError):
            raise
        except Exception as error:
            raise await self._told(error) from error

    async def _is_for_tls(self, error: Exception) -> bool:
        """Tell whether a request was in vain because the port is one for TLS."""
        pool = self.pool
        unsure = self._url.startswith("http:") and not pool._answered and pool.agent is None
        cut = isinstance(root_of(error), ConnectionClosed) and not self._reach.connecting
        if not unsure or not cut or self._over:
            return False
        uri = URI.fromBytes(f"https{self._url.removeprefix('http')}".encode("ascii"))
        return await speaks_tls(pool.reactor, uri, _LOOK)

    async def _talk(self, body: bytes | None) -> tuple[IResponse, bytes]:
        head = self._head = await self._head_of(self.method in SAFE, body)
        collected = Body()
        head.deliverBody(collected)
        return head, await collected.complete

    async def _head_of(self, may_be_kept: bool, body: bytes | None = None) -> IResponse:
        pool = self.pool
        kept = pool._kept if may_be_kept else pool._once
        agent = pool.agent or Agent.usingEndpointFactory(pool.reactor, self._reach, kept)
        kind = {} if body is None else {"Content-Type": "application/json"}
        sent = headers_of(pool.settings.login, {**kind, **self.headers})
        producer = None if body is None else Bytes(body)
        method, url = self.method.encode("ascii"), self._url.encode("ascii")
        head = await agent.request(method, url, sent, producer)
        pool._answered = True
        return head

    async def _told(self, error: Exception) -> ClientError:
        """Return what an error means for who has asked."""
        if await self._is_for_tls(error):
            return TlsFailure(self._url, "speaks TLS at this port, and no plain HTTP")
        if is_no_http(error):
            return BrokenAnswer(self._url, _reason(error))
        if self._head is not None:
            return BrokenAnswer(self._url, f"{_reason(error)} before the answer was complete")
        inner = root_of(error)
        if is_unread(inner):
            return TlsFailure(self._url, _reason(error))
        if self._reach.connecting or isinstance(inner, _NOT_CONNECTED):
            return Unreachable(self._url, _reason(error))
        return OutcomeUnknown(self._url, _reason(error), self.method in SAFE)


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, NoAnswer) else reason_of(error)

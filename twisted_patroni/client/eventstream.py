"""The events of one node, one after the other, for as long as somebody takes them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred

from twisted_patroni.client.asking import parse_object
from twisted_patroni.client.body import Body
from twisted_patroni.client.errors import Disconnected, NotSupported, refused
from twisted_patroni.client.eventless import has_no_events
from twisted_patroni.client.events import Event, event_of
from twisted_patroni.client.pool import PoolClosed
from twisted_patroni.client.reasons import NoAnswer
from twisted_patroni.client.response import Response
from twisted_patroni.client.stream import Stream, farewell, is_position, is_stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from typing import Self

    from twisted.python.failure import Failure
    from twisted.web.iweb import IResponse

    from twisted_patroni.client.pool import Pool
    from twisted_patroni.client.sse import Message

#: Events that wait to be taken; while there are as many, nothing more is read.
WAITING = 100


@define(eq=False)
class EventStream:
    """What a node tells, as an asynchronous iterator.

    It can be iterated over once. Leaving the loop ends the request; ``async with`` makes sure of
    it on every implementation of Python.

    :param pool: asks the node.
    :param path: what to ask for.
    :param headers: what to send along.

    >>> async with node.follow() as events:
    ...     async for event in events:
    ...         print(event.type)
    ...         break
    snapshot
    """

    pool: Pool
    path: str
    headers: Mapping[str, str]
    _stream: Stream | None = field(default=None, init=False)
    _events: deque[Event] = field(factory=deque, init=False)
    _wanted: Deferred[None] | None = field(default=None, init=False)
    _failure: Exception | None = field(default=None, init=False)
    _forget: Callable[[], None] | None = field(default=None, init=False)

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(self, *reason: object) -> None:
        self.close()

    async def __aiter__(self) -> AsyncIterator[Event]:
        try:
            await self._open()
            while True:
                yield await self._next()
        finally:
            self.close()

    def close(self) -> None:
        """End the request, if it has not ended; who waits for an event is told that.

        >>> events = node.follow()
        >>> events.close()
        """
        self._end(Disconnected(self.url, "is not followed any more"))

    @property
    def url(self) -> str:
        """What is followed.

        >>> node.follow(types=["leader"]).url
        'http://a:8008/events?types=leader'
        """
        return f"{self.pool.url}{self.path}"

    async def _open(self) -> None:
        if self._stream is not None or self._failure is not None:
            return
        head = await self.pool.stream(self.path, headers=self.headers)
        if not is_stream(head):
            raise await self._refusal(head)
        stream = self._stream = Stream(self.pool.reactor, self._take)
        stream.ended.addErrback(self._lost)
        self._forget = self.pool.at_end(self._abandon)
        head.deliverBody(stream)

    async def _refusal(self, head: IResponse) -> Exception:
        body = Body()
        head.deliverBody(body)
        patience = self.pool.settings.timeout
        try:
            content = await body.complete.addTimeout(patience, self.pool.reactor)
        except CancelledError:
            raise
        except Exception:  # its status says enough
            content = b""
        if has_no_events(head.code, content):
            return NotSupported(self.url)
        phrase = head.phrase.decode("latin-1")
        return refused(Response(self.url, head.code, phrase, head.headers, content))

    def _take(self, message: Message) -> None:
        document = parse_object(message.data)
        if message.type == "end":
            raise farewell(document)
        position = message.last_id if is_position(message.last_id) else None
        self._events.append(event_of(document, position))
        self._wake()
        if self._stream is not None and len(self._events) == WAITING:
            self._stream.pause()

    async def _next(self) -> Event:
        while not self._events:
            if self._failure is not None:
                raise self._failure
            self._wanted = Deferred()
            await self._wanted
        event = self._events.popleft()
        if self._stream is not None and len(self._events) == WAITING // 2:
            self._stream.resume()
        return event

    def _wake(self) -> None:
        wanted, self._wanted = self._wanted, None
        if wanted is not None and not wanted.called:
            wanted.callback(None)

    def _lost(self, failure: Failure) -> None:
        if failure.check(NoAnswer):
            self._end(Disconnected(self.url, failure.getErrorMessage()))
        else:
            assert isinstance(failure.value, Exception)
            self._end(failure.value)

    def _abandon(self) -> None:
        self._end(PoolClosed(f"{self.pool.url}: the pool is closed"))

    def _end(self, reason: Exception) -> None:
        if self._failure is not None:
            return
        self._failure = reason
        if self._forget is not None:
            self._forget()
        if self._stream is not None:
            self._stream.stop()
            self._stream.ended.cancel()
        self._wake()

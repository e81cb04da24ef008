"""Many requests, a few at a time, and their results in the order in which they come."""

from __future__ import annotations

from collections import deque
from operator import length_hint
from typing import TYPE_CHECKING, Generic, TypeVar

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator

T = TypeVar("T")


@frozen
class Result(Generic[T]):
    """What has come of one request.

    :param index: the how manieth of the requests it was, from 0.
    :param response: its result; ``None`` if it failed.
    :param error: what it failed with; ``None`` if it did not.

    >>> Result(0, "pong").get()
    'pong'
    """

    index: int
    response: T | None = None
    error: BaseException | None = None

    @property
    def ok(self) -> bool:
        """Whether it has a result.

        >>> Result(0, "pong").ok, Result(1, error=NoLeader("the cluster has no leader")).ok
        (True, False)
        """
        return self.error is None

    def get(self) -> T:
        """Return the result, or raise what the request failed with.

        >>> Result(0, error=NoLeader("the cluster has no leader")).get()
        Traceback (most recent call last):
        twisted_patroni.client.errors.NoLeader: the cluster has no leader
        """
        if self.error is not None:
            raise self.error
        return self.response  # type: ignore[return-value]  # None only if that is the result


@define(eq=False)
class Gathering(Generic[T]):
    """Results that are still to come: read them with ``async for``, once.

    The first requests are made when that begins. Whoever leaves the loop, or is cancelled in it,
    cancels what is on its way. So does the end of ``async with``, which is for those who stop
    reading without leaving.

    :param requests: called one after the other; each call is a request.
    :param limit: requests on their way, or ended and not read yet, at the same time.
    :ivar begun: requests that have been made.

    >>> async with gather_responses(memory.node(name).status for name in "abc") as gathering:
    ...     async for result in gathering:
    ...         print(result.index, result.get().role, gathering.pending)
    0 primary 0
    1 replica 0
    2 replica 0
    """

    requests: Iterable[Callable[[], Awaitable[T]]] = field(repr=False)
    limit: int = field(default=16)
    begun: int = field(default=0, init=False)
    _left: Iterator[Callable[[], Awaitable[T]]] = field(init=False, repr=False)
    _running: dict[Deferred[T], None] = field(factory=dict, init=False, repr=False)
    _ready: deque[Result[T]] = field(factory=deque, init=False, repr=False)
    _news: Deferred[None] | None = field(default=None, init=False, repr=False)
    _read: bool = field(default=False, init=False)
    _cancelled: bool = field(default=False, init=False)

    @limit.validator
    def _at_least_one(self, _: object, value: int) -> None:
        if value < 1:
            raise ValueError(f"limit is {value}, and must be 1 or more")

    def __attrs_post_init__(self) -> None:
        self._left = iter(self.requests)

    @property
    def pending(self) -> int:
        """How many requests have no result yet.

        Those that are still to be made count if what they come from knows how many they are, as a
        list does and a generator does not.

        >>> gather_responses([memory.node(name).status for name in "abc"]).pending
        3
        """
        return len(self._running) + length_hint(self._left)

    def cancel(self) -> None:
        """Make no more requests and cancel those on their way; who reads the results is done.

        >>> gathering = gather_responses(memory.node(name).status for name in "abc")
        >>> gathering.cancel()
        >>> [result async for result in gathering]
        []
        """
        self._cancelled = True
        self._left = iter(())
        self._ready.clear()
        running, self._running = self._running, {}
        for each in running:
            each.cancel()
        self._wake()

    async def __aenter__(self) -> Gathering[T]:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cancel()

    def __aiter__(self) -> AsyncGenerator[Result[T]]:
        if self._read:
            raise RuntimeError("the results of a gathering can be read once")
        self._read = True
        # A generator, for it is told when the loop is left; this object outlives that.
        return self._results()

    async def _results(self) -> AsyncGenerator[Result[T]]:
        try:
            self._fill()
            while self._running or self._ready:
                if not self._ready:
                    await self._wait()
                    continue
                result = self._ready.popleft()
                self._fill()  # the others go on while this one is looked at
                yield result
        finally:
            self.cancel()

    def _fill(self) -> None:
        """Make requests as long as there are some and there is room."""
        while len(self._running) + len(self._ready) < self.limit:
            request = next(self._left, None)
            if request is None:
                return
            index, self.begun = self.begun, self.begun + 1
            asking = Deferred.fromCoroutine(_ask(request))
            self._running[asking] = None
            asking.addBoth(self._ended, asking, index)
            if self._cancelled:  # by the request itself, or by what gives the requests
                asking.cancel()

    def _ended(self, outcome: T | Failure, asking: Deferred[T], index: int) -> None:
        self._running.pop(asking, None)
        if self._cancelled:
            return
        if isinstance(outcome, Failure):
            self._ready.append(Result(index, None, outcome.value))
        else:
            self._ready.append(Result(index, outcome))
        self._wake()

    async def _wait(self) -> None:
        self._news = Deferred()
        try:
            await self._news
        finally:
            self._news = None

    def _wake(self) -> None:
        if self._news is not None and not self._news.called:
            self._news.callback(None)


async def _ask(request: Callable[[], Awaitable[T]]) -> T:
    return await request()


def gather_responses(
    requests: Iterable[Callable[[], Awaitable[T]]], *, limit: int = 16
) -> Gathering[T]:
    """Make many requests, a few at a time, and give their results in the order of completion.

    :param requests: each is called to make one request, as a method of a node; they are taken one
        by one, when there is room. What makes them may go on for ever.
    :param limit: requests on their way at the same time.

    >>> memory.kill("b")
    >>> async for result in gather_responses([memory.node(name).status for name in "abc"]):
    ...     print(result.index, result.response.role if result.ok else type(result.error).__name__)
    0 primary
    1 Unreachable
    2 replica
    """
    return Gathering(requests, limit)

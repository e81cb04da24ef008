"""Ask all known nodes of a cluster what they are, as often as somebody needs to know it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from attrs import define, evolve, field
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_patroni.client.errors import ClientError
from twisted_patroni.client.node import Node
from twisted_patroni.client.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twisted.internet.interfaces import IDelayedCall
    from twisted.web.iweb import IAgent

    from twisted_patroni.client.settings import ClientSettings
    from twisted_patroni.client.values import NodeStatus

#: Seconds between two looks at least, however many ask for them.
PAUSE = 0.25
#: Seconds that a node may take to say what it is.
PATIENCE = 3.0
#: Nodes that are asked at the same time.
WIDTH = 16


class Onlooker(Protocol):
    """Wants to know what the nodes are."""

    def urls(self) -> Iterable[str]:
        """Return the nodes that are known."""

    def heard(self, url: str, result: NodeStatus | ClientError) -> None:
        """Take what a node says of itself.

        :param url: the node.
        :param result: what it says, or why it does not.
        """

    def looked(self) -> None:
        """Know that all who were asked have answered, or will not."""


@define(eq=False)
class Looks:
    """Asks the nodes, never more than a few at a time, and each of them once at a time.

    :param reactor: the reactor.
    :param agent: does the requests.
    :param settings: who asks, and how long an answer may take.
    :param onlooker: is told the answers.
    """

    reactor: Any
    agent: IAgent
    settings: ClientSettings
    onlooker: Onlooker
    _places: DeferredSemaphore = field(factory=partial(DeferredSemaphore, WIDTH), init=False)
    _asking: dict[str, Deferred[None]] = field(factory=dict, init=False)
    _epoch: int = field(default=0, init=False)
    _last: float | None = field(default=None, init=False)
    _next: IDelayedCall | None = field(default=None, init=False)
    _beginning: bool = field(default=False, init=False)
    _closed: bool = field(default=False, init=False)
    _log = Logger()

    def __attrs_post_init__(self) -> None:
        patience = min(PATIENCE, self.settings.timeout)
        self.settings = evolve(self.settings, timeout=patience)

    def within(self, seconds: float) -> None:
        """Have all nodes asked, by then at the latest.

        Those that have been asked and have not answered yet are not asked again.

        :param seconds: how long it has time; it may take longer if the last look was just now.
        """
        if self._closed:
            return
        now = self.reactor.seconds()
        due = now + seconds
        if self._last is not None:
            due = max(due, self._last + PAUSE)
        if self._next is not None and self._next.active():
            if self._next.getTime() <= due:
                return
            self._next.cancel()
        if due <= now:
            self._look()
        else:
            self._next = self.reactor.callLater(due - now, self._look)

    def forget(self) -> None:
        """Ask anew who has been asked and has not answered: answers under way may be outdated."""
        self._epoch += 1

    def close(self) -> list[Deferred[None]]:
        """Ask nobody any more.

        :return: what was on its way; each fires when it has ended.
        """
        self._closed = True
        if self._next is not None and self._next.active():
            self._next.cancel()
        asking = list(self._asking.values())
        for each in asking:
            each.cancel()
        return asking

    def _look(self) -> None:
        self._last = self.reactor.seconds()
        self._beginning = True
        for url in tuple(self.onlooker.urls()):
            if url not in self._asking and not self._closed:
                self._begin(url)
        self._beginning = False
        self._over()

    def _begin(self, url: str) -> None:
        asking = self._places.run(lambda: Deferred.fromCoroutine(self._ask(url)))
        self._asking[url] = asking
        asking.addBoth(self._end, url)

    def _end(self, result: object, url: str) -> None:
        del self._asking[url]
        if isinstance(result, Failure) and not self._closed:
            self._log.failure("What a node has said could not be taken", result)
        self._over()

    def _over(self) -> None:
        if not self._asking and not self._beginning and not self._closed:
            self.onlooker.looked()

    async def _ask(self, url: str) -> None:
        epoch = self._epoch
        result: NodeStatus | ClientError
        try:
            result = await Node(Pool(self.reactor, url, self.settings, self.agent)).status()
        except ClientError as error:
            result = error
        if epoch != self._epoch:
            self.within(0)
        elif not self._closed:
            self.onlooker.heard(url, result)

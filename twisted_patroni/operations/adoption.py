"""Changes of leader that others have asked for, found by their failover key in the DCS."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

from attrs import define, field
from twisted.logger import Logger

from twisted_patroni.operations.book import BookFull
from twisted_patroni.operations.judges import EndingJudge, ScheduleJudge
from twisted_patroni.operations.model import Origin
from twisted_patroni.operations.validation import FailoverRequest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from twisted_patroni.engine.interface import ClusterView, FailoverView, Look
    from twisted_patroni.operations.book import OperationBook
    from twisted_patroni.operations.leadership import Leadership
    from twisted_patroni.operations.model import Operation
    from twisted_patroni.operations.validation import Action, Outcome

_log = Logger()

#: Seconds for which a key that is gone is not taken for a new one: a look may come from a cache.
_GHOSTS = 2.0


@define(eq=False)
class Adoption:
    """Makes an operation of each failover key that belongs to none.

    :param book: where operations are.
    :param leadership: follows them.
    :param carry_out: begins the work of an operation.
    """

    book: OperationBook
    leadership: Leadership
    carry_out: Callable[[Operation, Callable[[Operation], Awaitable[Outcome | None]]], None]
    _number: int = field(default=0, init=False)
    _key: FailoverView | None = field(default=None, init=False)
    _last: FailoverView | None = field(default=None, init=False)
    _gone_at: float = field(default=0.0, init=False)

    def looked(self, look: Look) -> None:
        """Take note of a look at the DCS.

        :param look: what it showed; one that began before the last one noted is out of date.
        """
        if look.number <= self._number:
            return
        self._number = look.number
        key, seconds = look.cluster.failover, self.leadership.clock.seconds()
        if key == self._key:
            return
        if key is None:
            self._last, self._gone_at = self._key, seconds
        elif key == self._last and seconds - self._gone_at < _GHOSTS:
            return
        self._key = key
        if key is not None and all(each.failover != key for each in self.book.on_their_way()):
            self._adopt(key, look)

    def _adopt(self, key: FailoverView, look: Look) -> None:
        action: Action = "switchover" if key.leader else "failover"
        wanted = {
            "leader": key.leader,
            "candidate": key.candidate,
            "scheduled_at": key.scheduled_at and key.scheduled_at.isoformat(),
        }
        try:
            operation = self.book.enter(action, wanted, Origin(dcs=True))
        except BookFull:
            _log.warn("a {action} found in the DCS finds no room in the book", action=action)
            return
        operation.failover = key
        leadership = self.leadership
        if key.scheduled_at is None and look.cluster.leader == leadership.engine.node().name:
            # No DCS wakes the HA loop for it, which would come to it with its next cycle only.
            leadership.engine.wake()
        at = key.scheduled_at
        if at is not None and at.tzinfo is None:  # whoever wrote that, it must not stop us
            at = at.replace(tzinfo=UTC)
        request = FailoverRequest(action, key.leader, key.candidate, at)
        self.carry_out(operation, lambda it: self._follow(it, request, look))

    async def _follow(
        self, operation: Operation, request: FailoverRequest, look: Look
    ) -> Outcome | None:
        leadership, begun = self.leadership, look.number - 1
        leader = _former(request, look.cluster)
        found = "failover key found in the DCS"
        if request.scheduled_at is not None:
            operation.schedule(request.scheduled_at, found)
            schedule = ScheduleJudge(operation, request, leader, begun, leadership.now, True)
            await leadership.follow_schedule(operation, schedule)
            return None
        operation.run(found)
        clock = leadership.clock
        judge = EndingJudge(request, leader, begun, clock.seconds(), clock, True)
        return await leadership.follow(operation, judge)


def _former(request: FailoverRequest, cluster: ClusterView) -> str | None:
    """Return who is to step down: for a schedule who leads now, even if it names another."""
    if request.leader and request.scheduled_at is None:
        return request.leader
    return cluster.leader

"""Judges of looks at the DCS: has a change of leader ended, and how; and what to tell meanwhile."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from attrs import define, field, frozen

from twisted_patroni.operations.validation import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from twisted.internet.interfaces import IReactorTime

    from twisted_patroni.engine.interface import ClusterView, Look
    from twisted_patroni.operations.model import End, Operation
    from twisted_patroni.operations.validation import FailoverRequest

_PAST = {"switchover": "Switched", "failover": "Failed"}
#: Seconds after writing the failover key before its absence means anything: the engine's next
#: looks may still come from a cache that the write has not reached.
KEY_GRACE = 1.0
#: How far the clocks of two nodes may be apart before a schedule that ends on time seems to have
#: ended early.
_SKEW = timedelta(seconds=2)


#: Seconds for which an operation whose client was told that its outcome is not known, or whose
#: scheduled time has come, is followed further. Only the engine's own looks are minded then.
FOLLOWED = 600.0


def status_unknown(action: str, seconds: int) -> Outcome:
    """Return what a client is told whose waiting ends before the operation.

    :param action: what it has asked for.
    :param seconds: for how long it has waited.
    """
    return Outcome(
        503,
        f"{action.title()} status unknown: no outcome was seen within {seconds}"
        " seconds, and the operation may still be going on",
    )


def succession(request: FailoverRequest, leader: str) -> Outcome:
    """Return what a client is told of a new leader.

    :param request: what was asked for.
    :param leader: who leads now.
    """
    past = _PAST[request.action]
    if request.candidate in (None, leader):
        return Outcome(200, f'Successfully {past.lower()} over to "{leader}"')
    return Outcome(200, f'{past} over to "{leader}" instead of "{request.candidate}"')


@define(eq=False)
class EndingJudge:
    """Judges looks at the DCS: has the requested change of leader ended?

    :param request: what was requested.
    :param old_leader: who led before.
    :param begun: looks begun when the failover key was written; older ones tell nothing.
    :param written_at: when it was written, on the clock.
    :param clock: that clock.
    """

    request: FailoverRequest
    old_leader: str | None
    begun: int
    written_at: float
    clock: IReactorTime
    key_seen: bool = False

    def __call__(self, look: Look) -> Outcome | None:
        """Return how it ended, or ``None`` if this look does not show it.

        :param look: what the DCS showed.
        """
        if look.number <= self.begun:
            return None
        cluster, action = look.cluster, self.request.action
        leader = cluster.leader
        if not cluster.unlocked and leader is not None and leader != self.old_leader:
            return succession(self.request, leader)
        if cluster.failover is not None:
            self.key_seen = True
            return None
        if self.key_seen or self.clock.seconds() - self.written_at >= KEY_GRACE:
            return Outcome(503, f"{action.title()} failed")
        return None


@frozen
class Ending:
    """How a scheduled change of leader has ended.

    :param state: the operation's.
    :param outcome: what a client is told.
    """

    state: End
    outcome: Outcome


@define(eq=False)
class ScheduleJudge:
    """Judges looks at the DCS: has a scheduled switchover ended?

    :param operation: the operation, which begins to run when its time has come.
    :param request: what was requested.
    :param leader: who led when it was.
    :param begun: looks begun when the failover key was written; older ones tell nothing.
    :param now: the present time, aware of its zone.
    """

    operation: Operation
    request: FailoverRequest
    leader: str | None
    begun: int
    now: Callable[[], datetime]
    key_seen: bool = False
    written_at: datetime = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.written_at = self.now()

    def __call__(self, look: Look) -> Ending | None:
        """Return how it ended, or ``None`` if this look does not show it.

        :param look: what the DCS showed.
        """
        if look.number <= self.begun:
            return None
        cluster, now = look.cluster, self.now()
        assert self.request.scheduled_at is not None
        due = now >= self.request.scheduled_at - _SKEW
        leader = None if cluster.unlocked else cluster.leader
        changed = leader is not None and leader != self.leader
        if due and changed and leader is not None:
            return Ending("succeeded", succession(self.request, leader))
        if cluster.failover is None:
            return self._without_key(now, due=due, changed=changed)
        if cluster.failover != self.operation.failover:
            sentence = "Another request has taken the place of the scheduled switchover"
            return Ending("failed", Outcome(503, sentence)) if self._counts(now) else None
        self.key_seen = True
        if now - self.request.scheduled_at >= timedelta(seconds=FOLLOWED):
            return Ending("unknown", status_unknown(self.request.action, int(FOLLOWED)))
        if changed:
            self.leader = leader
        elif due and self.operation.cancellable and now >= self.request.scheduled_at:
            self.operation.run("the scheduled time has come")
        return None

    def _counts(self, now: datetime) -> bool:
        return self.key_seen or now - self.written_at >= timedelta(seconds=KEY_GRACE)

    def _without_key(self, now: datetime, *, due: bool, changed: bool) -> Ending | None:
        if not self._counts(now):
            return None
        if changed:
            sentence = "The leader has changed before the scheduled time, which ended the schedule"
            return Ending("failed", Outcome(503, sentence))
        if self.operation.cancelling or not due:
            return Ending("cancelled", Outcome(409, "The scheduled switchover was deleted"))
        return Ending("failed", Outcome(503, "Switchover failed"))


@define(eq=False)
class Story:
    """Tells an operation's reader what looks at the DCS show of a change of leader.

    :param operation: the operation.
    :param leader: who led before.
    """

    operation: Operation
    leader: str | None
    _unlocked: bool = field(default=False, init=False)
    _states: dict[str, str] = field(factory=dict, init=False)

    def tell(self, cluster: ClusterView) -> None:
        """Tell what is new.

        :param cluster: what a look showed.
        """
        for member in cluster.members:
            if member.name in (self.leader, self.operation.request.get("candidate")):
                before = self._states.setdefault(member.name, member.state)
                if before != member.state:
                    self._states[member.name] = member.state
                    self.operation.step(f"{member.name} is {member.state}")
        if cluster.unlocked and not self._unlocked and self.leader is not None:
            self.operation.step(f"{self.leader} has released the leader key")
        self._unlocked = cluster.unlocked
        new = None if cluster.unlocked else cluster.leader
        if new is not None and new != self.leader:
            self.operation.step(f"{new} has taken the leader key")
            self.leader = new

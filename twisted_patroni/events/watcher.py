"""Watches the engine: makes a picture of what it tells, and events of what has changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError
from twisted.internet.defer import TimeoutError as DeferredTimeout

from twisted_patroni.engine.interface import Stir
from twisted_patroni.events.compare import changes, lag_class
from twisted_patroni.events.model import MemberState, NodeState, View
from twisted_patroni.looks import RACE_TIME

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from twisted.internet.interfaces import IReactorTime

    from twisted_patroni.engine.interface import ClusterView, Engine, Look, MemberView, NodeView
    from twisted_patroni.events.stream import EventStream
    from twisted_patroni.looks import Looks

    _Seen = tuple[tuple[MemberState, ...], Mapping[str, Any] | None, Sequence[Any]]

#: Seconds for which what this node has done to the leader key counts for more than looks that do
#: not show it yet: they may come from a cache that the write has not reached.
CLAIM_TIME = 1.0
_LEADERS = ("leader", "standby_leader")


@frozen
class _Claim:
    """What this node has just done to the leader key.

    :param leader: who holds it now.
    :param before: who was known to hold it.
    :param number: of the last look that had begun by then; those up to it may be older.
    :param until: when later looks are right in any case, on the clock.
    """

    leader: str | None
    before: str | None
    number: int
    until: float


@define(eq=False)
class Watcher:
    """Keeps a stream's view up to date and publishes what changes.

    :param engine: what is watched.
    :param looks: tells of the looks at the DCS, and takes some when the engine was woken.
    :param stream: where the events go.
    :param clock: the time.
    :param drain: returns why the node is drained, ``None`` if it is not.
    """

    engine: Engine
    looks: Looks
    stream: EventStream
    clock: IReactorTime
    drain: Callable[[], Mapping[str, Any] | None]
    _number: int = field(default=0, init=False)
    _cluster: ClusterView | None = field(default=None, init=False)
    _pictured: ClusterView | None = field(default=None, init=False)
    _seen: _Seen = field(default=((), None, ()), init=False)
    _claim: _Claim | None = field(default=None, init=False)
    _raced: bool = field(default=False, init=False)
    _last_timeline: int | None = field(default=None, init=False)

    def looked(self, look: Look) -> None:
        """Take note of a look at the DCS.

        :param look: what it showed; one that began before the last one noted is out of date.
        """
        if look.number > self._number:
            self._number, self._cluster = look.number, look.cluster
            self.refresh()

    def stirred(self, stir: Stir) -> None:
        """Take note of what has happened between looks.

        :param stir: what it was.
        """
        if stir is Stir.NODE:
            self.refresh()
            return
        if stir is not Stir.DCS:
            self._claimed(stir)
        self.looks.look_now()

    def _claimed(self, stir: Stir) -> None:
        me, view = self.engine.node().name, self.stream.view
        before = None if view is None else view.leader
        if stir is Stir.RELEASED and before != me:
            return  # some DCS call it a success to give up what somebody else holds
        leader = me if stir is Stir.ACQUIRED else None
        until = self.clock.seconds() + CLAIM_TIME
        self._claim = _Claim(leader, before, self.engine.looks_begun(), until)
        self.refresh()

    def refresh(self) -> None:
        """Look at the engine's memory, and publish what has changed since the last time."""
        if self._cluster is None:
            return
        old, new = self.stream.view, self._picture(self.engine.node(), self._cluster)
        self.stream.view = new
        for change in () if old is None else changes(old, new):
            self.stream.publish(change.type, change.data)
        self._race(new)

    def _race(self, view: View) -> None:
        """Have looks taken while nobody leads, once for each time that nobody does.

        Not every DCS tells when a leader is found.
        """
        if view.leader is not None:
            self._raced = False
        elif not self._raced:
            self._raced = True
            waiting = self.looks.wait(lambda look: self._led or None)
            waiting.addTimeout(RACE_TIME, self.clock)
            waiting.addErrback(lambda failure: failure.trap(CancelledError, DeferredTimeout))

    @property
    def _led(self) -> bool:
        view = self.stream.view
        return view is not None and view.leader is not None

    def _picture(self, node: NodeView, cluster: ClusterView) -> View:
        old = self.stream.view
        leader = self._leader(cluster)
        if old is None or cluster is not self._pictured:
            self._pictured = cluster
            self._seen = _seen(cluster, old)
        members, config, history = self._seen
        return View(
            scope=node.scope,
            node=NodeState(
                node.name, node.state, node.role, tuple(sorted(node.pending_restart)), self.drain()
            ),
            leader=leader,
            last_leader=leader or (None if old is None else old.last_leader),
            timeline=self._timeline(cluster, leader),
            members=members,
            paused=cluster.mode.paused,
            failsafe=node.failsafe_active,
            dcs=node.dcs_answers,
            switchover=_switchover(cluster),
            sync=tuple(
                sorted(each.name for each in members if each.name.lower() in cluster.sync_members)
            )
            if cluster.mode.synchronous
            else (),
            config=config,
            history=history,
        )

    def _leader(self, cluster: ClusterView) -> str | None:
        seen = None if cluster.unlocked else cluster.leader
        claim = self._claim
        if claim is None:
            return seen
        stale = seen in (None, claim.before) and seen != claim.leader
        if stale and (self._number <= claim.number or self.clock.seconds() < claim.until):
            return claim.leader
        self._claim = None
        return seen

    def _timeline(self, cluster: ClusterView, leader: str | None) -> int | None:
        """Return the leader's timeline once it has published it as leader; see :class:`View`."""
        old = self.stream.view
        published = cluster.leader_timeline if leader == cluster.leader else None
        # It may take the leader a cycle to say so, but nobody else has a timeline that is newer.
        newer = published and self._last_timeline and published > self._last_timeline
        if published and (newer or cluster.leader_confirmed):
            self._last_timeline = published
            return published
        return old.timeline if old is not None and old.leader == leader else None


def _seen(cluster: ClusterView, old: View | None) -> _Seen:
    """Return members by name, configuration and history of a look.

    What has not changed is the same object as before: the events keep their views.
    """
    former = {} if old is None else {each.name: each for each in old.members}
    maximum = cluster.mode.maximum_lag_on_failover
    members = [_member(each, maximum, former.get(each.name)) for each in cluster.members]
    config, history = cluster.config, cluster.history
    if old is not None:
        config = old.config if old.config == config else config
        history = old.history if old.history == history else history
    return tuple(sorted(members, key=lambda member: member.name)), config, history


def _member(member: MemberView, maximum_lag: int, former: MemberState | None) -> MemberState:
    leads = member.role in _LEADERS
    before = None if former is None else former.lag_class
    state = MemberState(
        **{name: getattr(member, name) for name in MemberState.ATTRIBUTES if name != "lag_class"},
        name=member.name,
        lag_class=None if leads else lag_class(member.lag, maximum_lag, before),
        lag=member.lag,
    )
    return former if former is not None and former == state and former.lag == state.lag else state


def _switchover(cluster: ClusterView) -> dict[str, Any] | None:
    failover = cluster.failover
    if failover is None or failover.scheduled_at is None:
        return None
    at = failover.scheduled_at.isoformat()
    return {"from": failover.leader, "to": failover.candidate, "at": at}

"""Which member is asked, where several could be: rules, without any waiting or asking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from attrs import define, field

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from twisted_patroni.client.pool import Pool
    from twisted_patroni.client.values import Member

    Target = Literal["leader", "replica", "any"]

#: What may be asked for, and what is meant by it.
TARGETS: Mapping[str, Target] = {
    "leader": "leader",
    "primary": "leader",
    "replica": "replica",
    "any": "any",
}
#: Seconds for which a member that has failed is asked only if all others have, too.
SHUNNED = 5.0
#: How much a new answer counts in the latency.
NEWEST = 0.2
#: Seconds below which latencies do not differ.
LEAST_LATENCY = 0.001
#: The least that a slow member is asked, in relation to the fastest one, so that it is noticed
#: when it is fast again.
LEAST_SHARE = 0.02

_REPLICAS = frozenset({"replica", "sync_standby", "quorum_standby"})
_READABLE = frozenset({"running", "streaming", "in archive recovery"})


@define(eq=False)
class Candidate:
    """A member that may be asked.

    :param member: the member.
    :param pool: the connections to it.
    :param latency: the seconds until an answer is complete, later answers counting more; ``None``
        before the first one.
    :param failed_at: when it has failed, if it has not answered since.
    """

    member: Member
    pool: Pool
    latency: float | None = field(default=None)
    failed_at: float | None = field(default=None)

    def answered(self, seconds: float) -> None:
        """Take note of an answer.

        :param seconds: how long it took.
        """
        old = seconds if self.latency is None else self.latency
        self.latency = old + NEWEST * (seconds - old)
        self.failed_at = None

    def failed(self, now: float) -> None:
        """Take note that there was none.

        :param now: the present time.
        """
        self.failed_at = now


def choose(candidates: Sequence[Candidate], random: Callable[[], float], now: float) -> Candidate:
    """Return one of several members, at random: rather one that is fast and has little to do.

    Where a request would have to wait it is sent only if it would have to everywhere. Those that
    have failed lately are left out, unless all have: then it is the one whose failure is the
    longest ago.

    :param candidates: the members, one at least.
    :param random: a number from 0 to 1, a new one for each call.
    :param now: the present time, on the clock of :meth:`Candidate.failed`.
    """
    well = [each for each in candidates if not _shunned(each, now)]
    if not well:
        return min(candidates, key=lambda each: each.failed_at or 0.0)
    free = [each for each in well if _free(each.pool)] or well
    if len(free) == 1:
        return free[0]
    weights = _weights(free)
    left = random() * sum(weights)
    for each, weight in zip(free, weights, strict=True):
        left -= weight
        if left < 0:
            return each
    return free[-1]


def _shunned(candidate: Candidate, now: float) -> bool:
    return candidate.failed_at is not None and now - candidate.failed_at < SHUNNED


def _weights(candidates: Sequence[Candidate]) -> list[float]:
    latencies = [
        max(LEAST_LATENCY, each.latency) for each in candidates if each.latency is not None
    ]
    best = min(latencies, default=LEAST_LATENCY)
    return [_freedom(each.pool) * _speed(each, best) for each in candidates]


def _speed(candidate: Candidate, best: float) -> float:
    """Return how fast a member is in relation to the best; one not asked yet is worth a try."""
    if candidate.latency is None:
        return 1.0
    return max(LEAST_SHARE, best / max(LEAST_LATENCY, candidate.latency))


def _free(pool: Pool) -> int:
    """Return how many requests a pool can take at once."""
    return max(0, pool.settings.connections - pool.in_use - pool.waiting)


def _freedom(pool: Pool) -> float:
    """Return how much rather a pool is taken; a connection that is open already counts twice."""
    free = _free(pool)
    return free + min(free, pool.idle) if free else 1 / (1 + pool.waiting)


def target_of(name: str) -> Target:
    """Return who is meant by what a caller asks for.

    :param name: ``leader``, which is ``primary``, ``replica`` or ``any``.
    :raise ValueError: if there is no such target.
    """
    if name not in TARGETS:
        raise ValueError(f"target: {name!r} is none of {', '.join(TARGETS)}")
    return TARGETS[name]


def fitting(members: Sequence[Member], target: str, lag: int | None) -> list[Member]:
    """Return the members that are what is asked for.

    A replica fits if its PostgreSQL runs and no tag says that it is not for reading
    (``noloadbalance``). The leader is never behind.

    :param members: the members.
    :param target: ``leader``, which is ``primary``, ``replica`` or ``any``.
    :param lag: bytes that a replica may be behind; one of which that is not known does not fit
        then. ``None`` for any number.
    :raise ValueError: if there is no such target.
    """
    meant = target_of(target)
    return [
        each
        for each in members
        if (meant != "replica" and each.leads) or (meant != "leader" and _readable(each, lag))
    ]


def _readable(member: Member, lag: int | None) -> bool:
    return (
        member.role in _REPLICAS
        and member.state in _READABLE
        and not member.tags.get("noloadbalance")
        and (lag is None or (member.lag is not None and member.lag <= lag))
    )

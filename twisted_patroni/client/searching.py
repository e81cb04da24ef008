"""Find members of a cluster to ask: one after the other, and again later, until the time is up."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from attrs import define, field

from twisted_patroni.client.balance import choose, fitting
from twisted_patroni.client.errors import ClientError, NoLeader, NoMember, Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from twisted_patroni.client.balance import Candidate, Target
    from twisted_patroni.client.crew import Crew
    from twisted_patroni.client.values import Member

#: Seconds between two attempts when nobody could be asked: at first, and at most.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 1.0
#: Seconds that are not worth an attempt.
MOMENT = 0.001


@define(eq=False)
class Search:
    """Finds one member after the other that will do.

    :param crew: the members.
    :param target: ``leader``, ``replica`` or ``any``.
    :param lag: bytes that a replica may be behind.
    :param fallback: the leader will do where there is no replica.
    :param retry: the lack of anybody to ask is waited out.
    :param deadline: when it must have come to an end.
    :ivar tried: the URLs of those who were found, and did not do.
    :ivar failure: why the last of them did not.
    """

    crew: Crew
    target: Target
    lag: int | None
    fallback: bool
    retry: bool
    deadline: float
    tried: set[str] = field(factory=set, init=False)
    failure: ClientError | None = field(default=None, init=False)
    _pause: float = field(default=FIRST_PAUSE, init=False)

    @property
    def patient(self) -> bool:
        """Whether it is worth to wait when nobody is left to be asked."""
        return self.retry

    @property
    def left(self) -> float:
        """How many seconds are left."""
        seconds: float = self.deadline - self.crew.reactor.seconds()
        return seconds

    def _members(self) -> Iterator[list[Member]]:
        """Give those who will do, and after them those who will do for want of better."""
        leader = self.crew.topology.leader
        if self.target != "leader":
            yield fitting(self.crew.topology.members, self.target, self.lag)
        if self.target == "leader" or self.fallback:
            yield [] if leader is None else [leader]

    def _untried(self) -> Iterator[list[Candidate]]:
        for members in self._members():
            found = self.crew.candidates(members)
            yield [each for each in found if each.pool.url not in self.tried]

    async def next(self) -> Candidate | None:
        """Return a member that has not been tried, ``None`` if there is none, or no time."""
        while self.left > MOMENT:
            if self.lag is not None:  # no event tells of it
                await self.crew.refresh(self.left)
            for found in self._untried():
                if found:
                    return choose(found, self.crew.random, self.crew.reactor.seconds())
            if not self.patient:
                break
            await self._later()
        return None

    def others(self, url: str) -> bool:
        """Tell whether somebody else can be asked.

        :param url: who is asked now.
        """
        return any(each.pool.url != url for found in self._untried() for each in found)

    def failed(self, candidate: Candidate, error: ClientError) -> None:
        """Know that a member did not do, and have it looked at.

        :param candidate: the member.
        :param error: why.
        """
        self.failure = error
        self.crew.topology.doubt()

    async def _later(self) -> None:
        """Wait until it may be worth to ask again."""
        seconds = self._pause * (0.5 + self.crew.random() / 2)
        news = await self.crew.news(self._view, min(self.left, seconds))
        self._pause = FIRST_PAUSE if news else min(LONGEST_PAUSE, 2 * self._pause)
        self.tried.clear()

    def _view(self) -> list[Any]:
        """Return what must change for an attempt to be worth it before its time."""
        return [
            (each.name, each.api_url, each.role, each.state, each.timeline)
            for members in self._members()
            for each in members
        ]

    def in_vain(self) -> ClientError:
        """Return why it has come to nothing."""
        if self.failure is not None and any(self._members()):
            return self.failure
        for each in chain.from_iterable(self._untried()):
            return Unreachable(each.pool.url, "was not asked, for the time was up")
        error: ClientError
        if self.target == "leader":
            error = NoLeader("the cluster has no leader that can be asked")
        else:
            kind = "member" if self.target == "any" else "replica"
            bound = "" if self.lag is None else f" within {self.lag} bytes of the leader"
            error = NoMember(f"the cluster has no {kind}{bound} that can be asked")
        error.__cause__ = self.failure
        return error

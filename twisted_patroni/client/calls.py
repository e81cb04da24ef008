"""One call to a cluster: whom it asks, when it asks somebody else, and when it gives up."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, FirstError, gatherResults

from twisted_patroni.client.balance import choose, fitting
from twisted_patroni.client.errors import (
    BrokenAnswer,
    ClientError,
    NoLeader,
    NoMember,
    OutcomeUnknown,
    Unreachable,
)
from twisted_patroni.client.pool import SAFE
from twisted_patroni.client.response import Response

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from twisted.internet.interfaces import IDelayedCall

    from twisted_patroni.client.balance import Candidate, Target
    from twisted_patroni.client.crew import Crew
    from twisted_patroni.client.values import Member

#: Seconds that a member which leads no more has to answer what must not be asked twice: one that
#: was asked for a switchover answers after it.
GRACE = 5.0
#: Seconds without an answer after which a member is looked at.
SLOW = 1.0
#: Seconds between two attempts when nobody could be asked: at first, and at most.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 1.0
#: Seconds that are not worth an attempt.
MOMENT = 0.001


class Moved(Exception):
    """Whoever was asked is not the one to ask any more, and it does no harm to ask another."""


@define(eq=False)
class Call:
    """A request, to whichever members it takes.

    :param crew: the members.
    :param method: the method.
    :param path: the path and what follows it.
    :param body: what to send.
    :param headers: what to send along.
    :param target: ``leader``, ``replica`` or ``any``.
    :param lag: bytes that a replica may be behind.
    :param fallback: the leader will do where there is no replica.
    :param retry: a refusal for now, and the lack of anybody to ask, are waited out.
    :param deadline: when it must have been answered.
    """

    crew: Crew
    method: str
    path: str
    body: bytes | None
    headers: Mapping[str, str] | None
    target: Target
    lag: int | None
    fallback: bool
    retry: bool
    deadline: float
    _tried: set[str] = field(factory=set, init=False)
    _broken: set[str] = field(factory=set, init=False)
    _pause: float = field(default=FIRST_PAUSE, init=False)
    _last: Response | ClientError | None = field(default=None, init=False)

    @property
    def safe(self) -> bool:
        """Whether it can be sent twice."""
        return self.method in SAFE

    def left(self) -> float:
        """Return the seconds until it must have been answered."""
        seconds: float = self.deadline - self.crew.reactor.seconds()
        return seconds

    async def run(self) -> Response:
        """Make it.

        :raise ClientError: if nobody has answered.
        """
        while True:
            candidate = self._choice()
            if candidate is not None and self.left() > MOMENT:
                response = await self._ask(candidate)
                if response is not None:
                    return response
            elif not await self._later():
                return self._end()

    # Whom to ask

    def _members(self) -> Iterator[list[Member]]:
        """Give those who will do, and after them those who will do for want of better."""
        leader = self.crew.topology.leader
        led = [] if leader is None else [leader]
        if self.target != "leader":
            yield fitting(self.crew.topology.members, self.target, self.lag)
        if self.target == "leader" or self.fallback:
            yield led

    def _choice(self) -> Candidate | None:
        for members in self._members():
            found = [
                each for each in self.crew.candidates(members) if each.pool.url not in self._tried
            ]
            if found:
                return choose(found, self.crew.random, self.crew.reactor.seconds())
        return None

    def others(self, url: str) -> bool:
        """Tell whether somebody else can be asked.

        :param url: who is asked now.
        """
        return any(
            each.pool.url not in (url, *self._tried)
            for members in self._members()
            for each in self.crew.candidates(members)
        )

    # What comes of it

    async def _ask(self, candidate: Candidate) -> Response | None:
        """Ask a member; return its answer, or nothing if another one is to be asked."""
        url, crew = candidate.pool.url, self.crew
        try:
            response = await Flight(self, candidate).run()
        except Moved:
            self._broken.add(url)
        except Unreachable as error:
            self._last = error
            candidate.failed(crew.reactor.seconds())
            crew.topology.doubt(url)
        except (OutcomeUnknown, BrokenAnswer) as error:
            self._last = error
            candidate.failed(crew.reactor.seconds())
            crew.topology.doubt(url)
            if not self.safe or (url in self._broken and not self.retry):
                raise
            self._broken.add(url)
        else:
            if response.status != HTTPStatus.SERVICE_UNAVAILABLE or not self.retry:
                return response
            self._last = response
            crew.topology.doubt(url)
        self._tried.add(url)
        return None

    async def _later(self) -> bool:
        """Wait until it may be worth to ask again, and tell whether there is time to.

        One that was cut off while it was asked has a failover to wait for, whatever was said of
        refusals.
        """
        left = self.left()
        if left <= MOMENT or not (self.retry or self._broken):
            return False
        seconds = self._pause * (0.5 + self.crew.random() / 2)
        news = await self.crew.news(self._view, min(left, seconds))
        self._pause = FIRST_PAUSE if news else min(LONGEST_PAUSE, 2 * self._pause)
        self._tried.clear()
        return self.left() > MOMENT

    def _view(self) -> list[Any]:
        """Return what must change for an attempt to be worth it before its time."""
        return [
            (each.name, each.api_url, each.role, each.state, each.timeline)
            for members in self._members()
            for each in members
        ]

    def _end(self) -> Response:
        """Return or raise what has come of it."""
        if isinstance(self._last, Response):
            return self._last
        if self._last is not None and any(self._members()):
            raise self._last
        if self.target == "leader":
            raise NoLeader("the cluster has no leader") from self._last
        if self.target == "any":
            raise NoMember("the cluster has no member that can be asked") from self._last
        bound = "" if self.lag is None else f" within {self.lag} bytes of the leader"
        raise NoMember(f"the cluster has no replica{bound} that can be asked") from self._last


@define(eq=False)
class Flight:
    """A request on its way to one member.

    :param call: what it is made for.
    :param candidate: the member.
    """

    call: Call
    candidate: Candidate
    _asked: Deferred[Response] | None = field(default=None, init=False)
    _stopped: Exception | None = field(default=None, init=False)
    _grace: IDelayedCall | None = field(default=None, init=False)
    _looks: IDelayedCall | None = field(default=None, init=False)
    _count: int = field(default=0, init=False)
    _seen: ClientError | None = field(default=None, init=False)
    _led: bool = field(default=False, init=False)

    async def run(self) -> Response:
        """Make it.

        :raise Moved: if somebody else is to be asked.
        """
        call, pool, crew = self.call, self.candidate.pool, self.call.crew
        leader = crew.topology.leader
        self._led = leader is not None and leader.name == self.candidate.member.name
        self._seen = crew.topology.failures.get(pool.url)
        self._looks = crew.reactor.callLater(SLOW, self._look)
        crew.flights.add(self)
        try:
            asked = self._asked = pool.request(
                call.method, call.path, body=call.body, headers=call.headers, timeout=call.left()
            )
            response = await asked
        except CancelledError:
            if self._stopped is not None:
                raise self._stopped from None
            raise
        finally:
            crew.flights.discard(self)
            for each in (self._grace, self._looks):
                if each is not None and each.active():
                    each.cancel()
        # How long it takes to change something says nothing of how long reading does.
        if call.safe and "wait=" not in call.path:
            self.candidate.answered(response.time)
        return response

    def _stop(self, error: Exception) -> None:
        self._stopped = error
        if self._asked is not None:
            self._asked.cancel()

    def led_by(self, leader: Member | None) -> None:
        """Go elsewhere, or wait a while for the answer, if the member that is asked leads no more.

        :param leader: who leads now; while nobody does, there is nowhere to go.
        """
        if leader is None or not self._led:
            return
        if leader.name == self.candidate.member.name:
            if self._grace is not None and self._grace.active():
                self._grace.cancel()
        elif self.call.safe:
            self._stop(Moved())
        elif self._grace is None or not self._grace.active():
            self._grace = self.call.crew.reactor.callLater(GRACE, self._give_up, leader.name)

    def _give_up(self, leader: str) -> None:
        reason = f"has not answered within {GRACE:g} seconds since {leader} leads"
        self._stop(OutcomeUnknown(f"{self.candidate.pool.url}{self.call.path}", reason))

    def _look(self) -> None:
        """Find out whether a member that does not answer would answer anybody."""
        url, topology = self.candidate.pool.url, self.call.crew.topology
        self._count += 1
        self._looks = self.call.crew.reactor.callLater(SLOW, self._look)
        failure = topology.failures.get(url)
        if failure is None or failure is self._seen:
            if self._count & (self._count - 1) == 0:  # 1, 2, 4 ...: a long wait is no reason
                topology.doubt(url)
        elif self.call.safe and self.call.others(url):
            self.candidate.failed(self.call.crew.reactor.seconds())
            self._stop(Moved())


async def everybody(
    crew: Crew,
    method: str,
    path: str,
    body: bytes | None,
    headers: Mapping[str, str] | None,
    seconds: float,
) -> dict[str, Response | ClientError]:
    """Ask all members at once, and return what has come of it, by their names.

    :param crew: the members.
    :param method: the method.
    :param path: the path and what follows it.
    :param body: what to send.
    :param headers: what to send along.
    :param seconds: how long each may take.
    """

    async def ask(member: Member) -> Response | ClientError:
        candidate = crew.candidate(member)
        if candidate is None:
            return NoMember(f"{member.name} tells no URL of its API that can be used")
        try:
            pool = candidate.pool
            return await pool.request(method, path, body=body, headers=headers, timeout=seconds)
        except ClientError as error:
            return error

    members = crew.topology.members
    asking = [Deferred.fromCoroutine(ask(each)) for each in members]
    try:
        answers = await gatherResults(asking, consumeErrors=True)
    except FirstError as error:
        for each in asking:
            each.cancel()
        error.subFailure.raiseException()
    return {member.name: each for member, each in zip(members, answers, strict=True)}

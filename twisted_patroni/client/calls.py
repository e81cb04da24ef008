"""One call to a cluster: whom it asks, when it asks somebody else, and when it gives up."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, FirstError, gatherResults

from twisted_patroni.client.errors import (
    BrokenAnswer,
    ClientError,
    NoMember,
    OutcomeUnknown,
    Unreachable,
)
from twisted_patroni.client.pool import SAFE
from twisted_patroni.client.searching import Search

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twisted.internet.interfaces import IDelayedCall

    from twisted_patroni.client.balance import Candidate
    from twisted_patroni.client.crew import Crew
    from twisted_patroni.client.response import Response
    from twisted_patroni.client.values import Member

#: Seconds that a member which leads no more has to answer what must not be asked twice: one that
#: was asked for a switchover answers after it.
GRACE = 5.0
#: Seconds without an answer after which a member is looked at.
SLOW = 1.0


class Moved(Exception):
    """Whoever was asked is not the one to ask any more, and it does no harm to ask another."""


@define(eq=False, kw_only=True)
class Call(Search):
    """A request, to whichever members it takes.

    With ``retry`` a refusal for now is waited out, too.

    :param method: the method.
    :param path: the path and what follows it.
    :param body: what to send.
    :param headers: what to send along.
    """

    method: str
    path: str
    body: bytes | None
    headers: Mapping[str, str] | None
    _broken: set[str] = field(factory=set, init=False)

    @property
    def safe(self) -> bool:
        """Whether it can be sent twice."""
        return self.method in SAFE

    @property
    def patient(self) -> bool:
        """Whether it is worth to wait when nobody is left to be asked.

        What was cut off while it was asked has a failover to wait for.
        """
        return self.retry or bool(self._broken)

    async def run(self) -> Response:
        """Make it.

        :raise ClientError: if nobody has answered.
        """
        refusal = None
        while (candidate := await self.next()) is not None:
            response = await self._ask(candidate)
            if response is not None:
                if response.status != HTTPStatus.SERVICE_UNAVAILABLE or not self.retry:
                    return response
                self.crew.topology.doubt()
            refusal = response
            self.tried.add(candidate.pool.url)
        if refusal is not None:
            return refusal
        raise self.in_vain()

    async def _ask(self, candidate: Candidate) -> Response | None:
        """Ask a member; return its answer, or nothing if another one is to be asked."""
        url = candidate.pool.url
        try:
            return await Flight(self, candidate).run()
        except Moved:
            self._broken.add(url)
        except Unreachable as error:
            self.failed(candidate, error)
        except (OutcomeUnknown, BrokenAnswer) as error:
            self.failed(candidate, error)
            if not self.safe or (url in self._broken and not self.retry):
                raise
            self._broken.add(url)
        return None

    def failed(self, candidate: Candidate, error: ClientError) -> None:
        """Know that a member did not do, and rather ask others for a while.

        :param candidate: the member.
        :param error: why.
        """
        candidate.failed(self.crew.reactor.seconds())
        super().failed(candidate, error)


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
                call.method, call.path, body=call.body, headers=call.headers, timeout=call.left
            )
            if self._stopped is not None:  # while it was sent
                asked.cancel()
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
                topology.doubt()
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

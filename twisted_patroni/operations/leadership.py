"""Changes of leader: from the request to the failover key, and from there to how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import define, evolve
from twisted.internet.defer import CancelledError
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.logger import Logger

from twisted_patroni.engine.interface import Candidate, EngineError, FailoverView
from twisted_patroni.operations.candidates import assessed, candidates, worth_asking
from twisted_patroni.operations.judges import (
    FOLLOWED,
    EndingJudge,
    ScheduleJudge,
    Story,
    status_unknown,
)
from twisted_patroni.operations.validation import (
    FailoverRequest,
    Outcome,
    Refusal,
    parse_failover,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IReactorTime

    from twisted_patroni.engine.interface import ClusterView, Engine, Look
    from twisted_patroni.looks import Looks
    from twisted_patroni.operations.judges import Ending
    from twisted_patroni.operations.model import Operation
    from twisted_patroni.operations.validation import Action

_log = Logger()


def answer_time(loop_wait: int) -> int:
    """Return for how many seconds a client waits for the outcome: twice ten, or two cycles.

    :param loop_wait: seconds between two HA cycles.
    """
    return 2 * max(10, loop_wait)


@define(eq=False)
class Leadership:
    """Carries changes of leader out.

    :param engine: what carries them out.
    :param looks: tells what the DCS shows meanwhile.
    :param clock: for the deadlines.
    :param now: the present time, aware of its zone.
    :param closing: tells whether the API is being shut.
    """

    engine: Engine
    looks: Looks
    clock: IReactorTime
    now: Callable[[], datetime]
    closing: Callable[[], bool]

    async def change(
        self, operation: Operation, body: Mapping[str, Any], action: Action
    ) -> Outcome | None:
        """Switch or fail over, or schedule a switchover, and follow it to its end.

        Once the failover key is written the engine carries the request out, whether or not
        anybody waits for the outcome.

        :param operation: the operation that it is.
        :param body: the JSON object of the request.
        :param action: which of the two the client asked for.
        :return: how it ended; ``None`` if the operation has ended already.
        """
        cluster = (await self.engine.look()).cluster
        _log.info(
            "received {action} request with leader={leader} candidate={candidate}"
            " scheduled_at={scheduled_at}",
            action=action,
            leader=body.get("leader"),
            candidate=body.get("candidate") or body.get("member"),
            scheduled_at=body.get("scheduled_at"),
        )
        request = parse_failover(body, action, cluster.mode.paused, self.now())
        if isinstance(request, Outcome):
            return request
        if request.scheduled_at is None:
            impossible = await self._impossible(cluster, request, operation.step)
            if impossible is not None:
                return Outcome(412, impossible, Refusal(cluster, request))
        return await self._write(operation, request, cluster.leader)

    async def _impossible(
        self, cluster: ClusterView, request: FailoverRequest, tell: Callable[[str], None]
    ) -> str | None:
        names = candidates(cluster, request)
        if isinstance(names, str):
            return names
        tell(f"candidates asked: {', '.join(names)}")
        answers = await self.engine.probe(names)
        for answer in answers:
            if answer.limitation is None:
                return None
        for answer in answers:
            tell(f"{answer.name} cannot take over: {answer.limitation}")
        return f"{request.action} is not possible: no good candidates have been found"

    async def _write(
        self, operation: Operation, request: FailoverRequest, leader: str | None
    ) -> Outcome | None:
        wanted = request.leader, request.candidate, request.scheduled_at
        operation.failover = FailoverView(*wanted)
        operation.attempted = True
        step, certain = "failover key written", True
        try:
            if not await self.engine.write_failover(*wanted):
                return Outcome(503, "failed to write failover key into DCS")
        except CancelledError:
            if self.closing():
                raise
            step, certain = "the client has left while the failover key was being written", False
        begun = self.engine.looks_begun()
        if request.scheduled_at is not None:
            operation.schedule(request.scheduled_at, step)
            operation.answer(Outcome(202, f"{request.action.title()} scheduled"))
            judge = ScheduleJudge(operation, request, leader, begun, self.now)
            await self.follow_schedule(operation, judge)
            return None
        operation.run(step)
        self._show(leader)
        ending = EndingJudge(request, leader, begun, self.clock.seconds(), self.clock)
        outcome = await self.follow(operation, ending)
        if certain or ending.key_seen or outcome is None or outcome.code < 400:
            return outcome
        left = Outcome(503, "The client has left before the failover key was written")
        operation.end("cancelled", left)
        return None

    def _show(self, leader: str | None) -> None:
        """Have the leader look at the DCS, where it finds the failover key and wakes its HA loop.

        Otherwise it would come to that with its next cycle; for one that runs upstream's API it
        stays so.
        """
        if leader is not None and leader != self.engine.node().name:
            self.engine.ask_member(leader, "/cluster").addErrback(
                lambda failure: _log.debug("{name}: {error}", name=leader, error=failure.value)
            )

    async def follow(self, operation: Operation, judge: EndingJudge) -> Outcome | None:
        """Wait until the DCS shows how a change of leader ended.

        :param operation: the operation; its clients are told when that takes too long for them.
        :param judge: judges the looks at the DCS.
        :return: how; ``None`` if the operation has ended already.
        """
        told = self._telling(operation, judge, judge.old_leader)
        seconds = answer_time(self.engine.node().loop_wait)
        unknown = status_unknown(judge.request.action, seconds)
        # Only for those who wait is the DCS asked beyond what the engine asks it.
        poll: Deferred[object] = self.looks.wait(lambda look: None)
        poll.addErrback(lambda failure: failure.trap(CancelledError))
        operation.on_alone.append(poll.cancel)
        if operation.by.dcs or operation.alone:
            poll.cancel()
        try:
            return await self.looks.wait(told, poll=False).addTimeout(seconds, self.clock)
        except DeferredTimeout:
            operation.step(f"no outcome was seen within {seconds} seconds: waiting further")
            operation.answered.tell(unknown)
        finally:
            poll.cancel()
        try:
            return await self.looks.wait(told, poll=False).addTimeout(FOLLOWED, self.clock)
        except DeferredTimeout:
            operation.end("unknown", status_unknown(judge.request.action, int(seconds + FOLLOWED)))
            return None

    def _telling(
        self, operation: Operation, judge: EndingJudge, leader: str | None
    ) -> Callable[[Look], Outcome | None]:
        story = Story(operation, leader)

        def told(look: Look) -> Outcome | None:
            if look.number > judge.begun:
                story.tell(look.cluster)
            return judge(look)

        return told

    async def follow_schedule(self, operation: Operation, judge: ScheduleJudge) -> None:
        """Wait until the DCS shows how a scheduled switchover ended; nobody asks it for that.

        :param operation: the operation, which this ends.
        :param judge: judges the looks at the DCS.
        """
        story = Story(operation, judge.leader)

        def told(look: Look) -> Ending | None:
            if look.number > judge.begun:
                story.tell(look.cluster)
            return judge(look)

        ending = await self.looks.wait(told, poll=False)
        operation.end(ending.state, ending.outcome)

    async def explain(self, refusal: Refusal) -> dict[str, Any]:
        """Tell what is the matter with each candidate of a request that was refused.

        :param refusal: what was refused.
        """
        cluster, request = refusal.cluster, refusal.request
        answers = await self._asked(worth_asking(cluster))
        return {"action": request.action, "candidates": assessed(cluster, request, answers)}

    async def _asked(self, names: Sequence[str]) -> list[Candidate]:
        try:
            return await self.engine.probe(names)
        except EngineError as error:
            return [Candidate(name, f"could not be asked: {error}") for name in names]

    async def foresee(self, body: Mapping[str, Any], action: Action) -> dict[str, Any] | Outcome:
        """Tell what a request would lead to, without any effect.

        :param body: the JSON object of the request.
        :param action: which of the two the client asks for.
        :return: the document, or what is wrong with the request.
        """
        cluster = (await self.engine.look()).cluster
        request = parse_failover(body, action, cluster.mode.paused, self.now())
        if isinstance(request, Outcome):
            return request
        # What is scheduled is accepted in any case; whether it will be possible is seen then.
        at = request.scheduled_at
        reason = await self._impossible(cluster, evolve(request, scheduled_at=None), _silent)
        return {
            "possible": reason is None or at is not None,
            "action": request.action,
            "leader": cluster.leader,
            "candidate": request.candidate,
            **await self.explain(Refusal(cluster, request)),
            "reason": reason,
            "scheduled_at": at and at.isoformat(),
        }


def _silent(text: str) -> None:
    """Tell nobody."""

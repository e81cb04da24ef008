"""Restart, switchover and failover: what is valid, what is possible, and how they ended.

The order of the checks and the sentences are upstream's; scripts and `patronictl` show them to
people, and some parse them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import dateutil.parser
from attrs import define, evolve, frozen
from twisted.internet.defer import CancelledError
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.logger import Logger

from twisted_patroni.engine.interface import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from twisted.internet.interfaces import IReactorTime

    from twisted_patroni.engine.interface import ClusterView, Engine, Look
    from twisted_patroni.looks import Looks

_log = Logger()

Action = Literal["switchover", "failover"]
_PAST = {"switchover": "Switched", "failover": "Failed"}
_RESTART_ROLES = ("primary", "standby_leader", "replica")
#: Seconds after writing the failover key before its absence means anything: the engine's next
#: looks may still come from a cache that the write has not reached.
KEY_GRACE = 1.0


@frozen
class Outcome:
    """How an operation ended, as the client is told.

    :param code: the HTTP status.
    :param sentence: the body of the reply.
    """

    code: int
    sentence: str


def parse_schedule(value: object, action: str, now: datetime) -> datetime | Outcome:
    """Parse the time an operation is scheduled for.

    :param value: as the client sent it.
    :param action: the operation's name for the sentences.
    :param now: the present time, aware of its zone.
    :return: the time, or why it cannot be.
    """
    try:
        if not isinstance(value, str):
            raise TypeError(value)
        when = dateutil.parser.parse(value)
        if when.tzinfo is None:
            return Outcome(400, f"Timezone information is mandatory for the scheduled {action}")
        past = when < now
    except (ValueError, TypeError, OverflowError):
        return Outcome(
            422,
            "Unable to parse scheduled timestamp. It should be in an unambiguous format,"
            " e.g. ISO 8601",
        )
    return Outcome(422, f"Cannot schedule {action} in the past") if past else when


def parse_restart(
    body: Mapping[str, Any], engine: Engine, now: datetime
) -> dict[str, Any] | Outcome:
    """Validate the body of ``POST /restart``, key by key in the order sent.

    :param body: the JSON object.
    :param engine: parses durations and versions.
    :param now: the present time, aware of its zone.
    :return: the request for the engine, or the first thing that is wrong.
    """
    request: dict[str, Any] = {}
    for key, value in body.items():
        parsed = _restart_filter(key, value, engine, now)
        if isinstance(parsed, Outcome):
            return parsed
        request[key] = parsed
    return request


def _restart_filter(key: str, value: Any, engine: Engine, now: datetime) -> Any | Outcome:
    match key:
        case "schedule":
            return parse_schedule(value, "restart", now)
        case "role":
            if value in _RESTART_ROLES:
                return value
            return Outcome(
                400, "PostgreSQL role should be either primary, standby_leader, or replica"
            )
        case "postgres_version":
            try:
                if not isinstance(value, str):
                    raise ValueError(f"Invalid PostgreSQL version: {value!r} is not a text")
                engine.parse_version(value)
            except ValueError as error:
                return Outcome(400, str(error))
            return value
        case "timeout":
            seconds = engine.parse_seconds(value)
            if seconds is None or seconds <= 0:
                return Outcome(400, "Timeout should be a positive number of seconds")
            return seconds
        case "restart_pending":
            return value
    return Outcome(400, f"Unknown filter for the scheduled restart: {key}")


@frozen
class FailoverRequest:
    """A valid switchover or failover request.

    :param action: what it is called towards the client.
    :param leader: who is to step down.
    :param candidate: who is to take over.
    :param scheduled_at: when, or ``None`` for now.
    """

    action: Action
    leader: str | None
    candidate: str | None
    scheduled_at: datetime | None = None


def parse_failover(
    body: Mapping[str, Any], action: Action, paused: bool, now: datetime
) -> FailoverRequest | Outcome:
    """Validate the body of ``POST /switchover`` or ``POST /failover``.

    :param body: the JSON object.
    :param action: which of the two.
    :param paused: automatic failover is off.
    :param now: the present time, aware of its zone.
    :return: the request, or the first thing that is wrong.
    """
    leader, candidate = body.get("leader"), body.get("candidate") or body.get("member")
    for key, name in (("leader", leader), ("candidate", candidate)):
        if name is not None and not isinstance(name, str):
            return Outcome(400, f"The {key} should be the name of a member, but got {name!r}")
    request = FailoverRequest(action, leader or None, candidate or None)
    if action == "failover" and not candidate:
        return Outcome(400, "Failover could be performed only to a specific candidate")
    if action == "switchover" and not leader:
        return Outcome(400, "Switchover could be performed only from a specific leader")
    if body.get("scheduled_at"):
        when = _schedule_of(body["scheduled_at"], action, paused, now)
        if isinstance(when, Outcome):
            return when
        request = evolve(request, scheduled_at=when)
    if paused and not candidate:
        return Outcome(400, "Switchover is possible only to a specific candidate in a paused state")
    if action == "failover" and leader:
        _log.warn("received failover request with leader specified: performing switchover instead")
        request = evolve(request, action="switchover")
    if leader == candidate:
        return Outcome(400, "Switchover target and source are the same")
    return request


def _schedule_of(value: Any, action: Action, paused: bool, now: datetime) -> datetime | Outcome:
    if action == "failover":
        return Outcome(400, "Failover can't be scheduled")
    if paused:
        return Outcome(400, "Can't schedule switchover in the paused state")
    return parse_schedule(value, action, now)


def candidates(cluster: ClusterView, request: FailoverRequest) -> tuple[str, ...] | str:
    """Name the members worth asking whether they could take over.

    :param cluster: as the DCS has it.
    :param request: what is asked for.
    :return: their names, or the sentence that says why there can be none.
    """
    action, mode = request.action, cluster.mode
    by_sync_key = mode.synchronous and not mode.quorum
    if request.leader and cluster.leader != request.leader:
        return "leader name does not match"
    if request.candidate:
        listed = request.candidate.lower() in cluster.sync_members
        if action == "switchover" and by_sync_key and not listed:
            return "candidate name does not match with sync_standby"
        if all(member.name != request.candidate for member in cluster.members):
            return "candidate does not exists"
        return (request.candidate,)
    if by_sync_key:
        names = [m.name for m in cluster.members if m.name.lower() in cluster.sync_members]
        return tuple(names) or f"{action} is not possible: can not find sync_standby"
    names = [
        member.name
        for member in cluster.members
        if cluster.leader is None or (member.name != cluster.leader and member.api_url)
    ]
    return tuple(names) or (
        f"{action} is not possible: cluster does not have members except leader"
    )


@define(eq=False)
class Operations:
    """Carries operations out on the engine.

    :param engine: what carries them out.
    :param looks: tells what the DCS shows meanwhile.
    :param clock: for the deadline of waiting.
    :param now: the present time, aware of its zone.
    """

    engine: Engine
    looks: Looks
    clock: IReactorTime
    now: Callable[[], datetime]

    async def restart(self, body: Mapping[str, Any]) -> Outcome:
        """Restart PostgreSQL, or schedule that.

        :param body: the JSON object of the request.
        """
        if "schedule" in body and (await self.engine.look()).cluster.mode.paused:
            return Outcome(500, "Can't schedule restart in the paused state")
        request = parse_restart(body, self.engine, self.now())
        if isinstance(request, Outcome):
            return request
        if "schedule" in request:
            if await self.engine.schedule_restart(request):
                return Outcome(202, "Restart scheduled")
            return Outcome(409, "Another restart is already scheduled")
        try:
            done, sentence = await self.engine.restart(request)
        except (CancelledError, EngineError):
            raise
        except Exception:
            # Upstream's answer, odd as it is: clients tell a failed restart by it.
            _log.failure("The restart failed")
            return Outcome(400, "restart failed")
        return Outcome(200 if done else 503, sentence)

    async def change_leader(self, body: Mapping[str, Any], action: Action) -> Outcome:
        """Switch or fail over, or schedule a switchover, and tell how it ended.

        Once the failover key is written the engine carries the request out, whether or not
        anybody waits for the outcome.

        :param body: the JSON object of the request.
        :param action: which of the two the client asked for.
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
            impossible = await self._impossible(cluster, request)
            if impossible is not None:
                return Outcome(412, impossible)
        written = await self.engine.write_failover(
            request.leader, request.candidate, request.scheduled_at
        )
        if not written:
            return Outcome(503, "failed to write failover key into DCS")
        if request.scheduled_at is not None:
            return Outcome(202, f"{request.action.title()} scheduled")
        return await self._ending(request, cluster.leader)

    async def _impossible(self, cluster: ClusterView, request: FailoverRequest) -> str | None:
        names = candidates(cluster, request)
        if isinstance(names, str):
            return names
        for answer in await self.engine.probe(names):
            if answer.limitation is None:
                return None
        return f"{request.action} is not possible: no good candidates have been found"

    async def _ending(self, request: FailoverRequest, old_leader: str | None) -> Outcome:
        """Wait until the DCS shows how it ended, at most twice ten seconds or two cycles."""
        judge = EndingJudge(
            request, old_leader, self.engine.looks_begun(), self.clock.seconds(), self.clock
        )
        seconds = 2 * max(10, self.engine.node().loop_wait)
        try:
            return await self.looks.wait(judge).addTimeout(seconds, self.clock)
        except DeferredTimeout:
            return Outcome(
                503,
                f"{request.action.title()} status unknown: no outcome was seen within {seconds}"
                " seconds, and the operation may still be going on",
            )


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
        leader, candidate = cluster.leader, self.request.candidate
        if not cluster.unlocked and leader is not None and leader != self.old_leader:
            past = _PAST[action]
            if candidate in (None, leader):
                return Outcome(200, f'Successfully {past.lower()} over to "{leader}"')
            return Outcome(200, f'{past} over to "{leader}" instead of "{candidate}"')
        if cluster.failover is not None:
            self.key_seen = True
            return None
        if self.key_seen or self.clock.seconds() - self.written_at >= KEY_GRACE:
            return Outcome(503, f"{action.title()} failed")
        return None

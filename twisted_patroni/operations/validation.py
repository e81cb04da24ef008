"""What a restart, switchover or failover may ask for: the rules, and the sentences about them.

The order of the checks and the sentences are upstream's; scripts and `patronictl` show them to
people, and some parse them. All of it pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import dateutil.parser
from attrs import evolve, field, frozen
from twisted.logger import Logger

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from twisted_patroni.engine.interface import ClusterView, Engine

_log = Logger()

Action = Literal["switchover", "failover"]
_RESTART_ROLES = ("primary", "standby_leader", "replica")


@frozen
class Outcome:
    """How an operation ended, as the client is told.

    :param code: the HTTP status.
    :param sentence: the body of the reply.
    :param refusal: what was not possible, if it was refused for that.
    :param document: what to answer with instead of the sentence, if anything.
    """

    code: int
    sentence: str
    refusal: Refusal | None = field(default=None, eq=False, repr=False)
    document: Any = field(default=None, eq=False, repr=False)


@frozen
class Refusal:
    """A change of leader that is not possible.

    :param cluster: as the DCS had it.
    :param request: what was asked for.
    """

    cluster: ClusterView
    request: FailoverRequest


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

"""Restarts, reinitialisations and reloads of this node, and how they ended."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from attrs import define, field
from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from twisted_patroni.engine.interface import RUNNING, EngineError
from twisted_patroni.events import Position
from twisted_patroni.operations.validation import Outcome, parse_restart

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from twisted.internet.defer import Deferred

    from twisted_patroni.engine.interface import Engine
    from twisted_patroni.events import EventStream
    from twisted_patroni.operations.cycles import Cycles
    from twisted_patroni.operations.model import Operation

_log = Logger()

#: HA cycles within which a restart that has begun shows.
_PATIENCE = 3
#: For how long a restart, a reload and a rebuilt replica are waited for.
RESTART_TIME = timedelta(minutes=30)
RELOAD_TIME = timedelta(minutes=5)
COPY_TIME = timedelta(days=1)
_PAUSED = "Can't schedule restart in the paused state"


@define(eq=False)
class _States:
    """Has an operation tell PostgreSQL's states.

    :param operation: the operation.
    :param stream: tells of them.
    :ivar left: whether there was another one than ``running``.
    """

    operation: Operation
    stream: EventStream
    left: bool = field(default=False, init=False)
    leave: Callable[[], None] = field(init=False)
    _read: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._read = self.stream.newest
        self.leave = self.stream.follow(self._tell)

    def _tell(self) -> None:
        backlog = self.stream.since(Position(self._read, self.stream.name))
        self._read = self.stream.newest
        for event in backlog.events:
            if event.type == "node" and "state" in event.data["changed"]:
                self.left = self.left or event.data["state"] != RUNNING
                self.operation.step(f"PostgreSQL's state is: {event.data['state']}")


@define(eq=False)
class Restarts:
    """Carries out what concerns this node's PostgreSQL and configuration.

    :param engine: what carries it out.
    :param cycles: tells of HA cycles.
    :param stream: tells of PostgreSQL's states.
    :param start_time: asks when the postmaster was started, ``None`` if that is not known.
    :param now: the present time, aware of its zone.
    :param closing: tells whether the API is being shut.
    :param failed_reloads: returns how often the ``restapi`` section could not be reloaded.
    """

    engine: Engine
    cycles: Cycles
    stream: EventStream
    start_time: Callable[[], Deferred[datetime | None]]
    now: Callable[[], datetime]
    closing: Callable[[], bool]
    failed_reloads: Callable[[], int]

    async def restart(self, operation: Operation, body: Mapping[str, Any]) -> Outcome | None:
        """Restart PostgreSQL, or schedule that and follow it to its end.

        :param operation: the operation that it is.
        :param body: the JSON object of the request.
        :return: how it ended; ``None`` if the operation has ended already.
        """
        if "schedule" in body and (await self.engine.look()).cluster.mode.paused:
            return Outcome(500, _PAUSED)
        request = parse_restart(body, self.engine, self.now())
        if isinstance(request, Outcome):
            return request
        if "schedule" in request:
            return await self._schedule(operation, request)
        since, states = self.now(), _States(operation, self.stream)
        operation.attempted = True
        try:
            return await self._restart(operation, request)
        except CancelledError:
            if self.closing():
                raise
            # What had no worker yet is dropped with its client, what had one goes on.
            operation.run("the client has left")
            return await self._restarted(operation, since, "cancelled", "was not begun")
        finally:
            states.leave()

    async def _restart(self, operation: Operation, request: Mapping[str, Any]) -> Outcome:
        waiting = self.engine.restart(request)
        if not waiting.called:
            operation.begin()
            operation.step("PostgreSQL is to be restarted")
        try:
            done, sentence = await waiting
        except (CancelledError, EngineError):
            raise
        except Exception:
            # Upstream's answer, odd as it is: clients tell a failed restart by it.
            _log.failure("The restart failed")
            return Outcome(400, "restart failed")
        return Outcome(200 if done else 503, sentence)

    async def _schedule(self, operation: Operation, request: dict[str, Any]) -> Outcome | None:
        when = request["schedule"]
        operation.attempted = True
        try:
            if not await self.engine.schedule_restart(request):
                return Outcome(409, "Another restart is already scheduled")
        except CancelledError:
            if self.closing():
                raise
            await self.cycles.wait()  # by then it is scheduled if it was begun
        operation.schedule(when, "restart scheduled")
        operation.answer(Outcome(202, "Restart scheduled"))
        states = _States(operation, self.stream)
        try:
            while self.engine.node().scheduled_restart is not None:
                await self.cycles.wait()
            if operation.finished:
                return None
            if operation.cancelling or self.now() < when - timedelta(seconds=1):
                sentence = "The schedule is gone: deleted, or PostgreSQL was restarted before"
                operation.end("cancelled", Outcome(409, sentence))
                return None
            operation.run("the scheduled time has come")
            return await self._restarted(
                operation, when, "failed", "was not begun: its conditions were not satisfied"
            )
        finally:
            states.leave()

    async def _restarted(
        self, operation: Operation, since: datetime, otherwise: Any, why: str
    ) -> Outcome | None:
        """Wait until PostgreSQL is up with a postmaster started since some time."""
        idle, began = 0, self.now()
        while self.now() - began < RESTART_TIME:
            await self.cycles.wait()
            if self.engine.state() != RUNNING:
                idle = 0
                continue
            started = await self.start_time()
            if started is not None and started >= since - timedelta(seconds=1):
                return Outcome(200, "restarted successfully")
            idle += 1
            if idle >= _PATIENCE:
                known = started is not None
                sentence = f"The restart {why}" if known else "PostgreSQL's start time is unknown"
                operation.end(otherwise if known else "unknown", Outcome(503, sentence))
                return None
        operation.end("unknown", Outcome(503, "postgres is still starting"))
        return None

    async def foresee_restart(self, body: Mapping[str, Any]) -> dict[str, Any] | Outcome:
        """Tell what a restart would lead to, without any effect.

        :param body: the JSON object of the request.
        :return: the document, or what is wrong with the request.
        """
        node = self.engine.node()
        paused = node.mode.paused
        if "schedule" in body:
            paused = (await self.engine.look()).cluster.mode.paused
        request = parse_restart(body, self.engine, self.now())
        if isinstance(request, Outcome):
            return request
        at = request.get("schedule")
        match = await self.engine.restart_matches(request)
        reason = None
        if at is not None and paused:
            reason = _PAUSED
        elif at is not None and node.scheduled_restart is not None:
            reason = "Another restart is already scheduled"
        elif not match:
            reason = "restart conditions are not satisfied"
        return {
            # The conditions of a scheduled restart count when its time has come.
            "possible": reason is None or (at is not None and reason.startswith("restart")),
            "action": "restart",
            "node": node.name,
            "state": node.state,
            "conditions_match": match,
            "paused": paused,
            "scheduled_restart": node.scheduled_restart,
            "pending_restart": sorted(node.pending_restart),
            "reason": reason,
            "scheduled_at": at and at.isoformat(),
        }

    async def reinitialize(self, operation: Operation, body: Mapping[str, Any]) -> Outcome | None:
        """Rebuild this replica, and follow that to its end.

        :param operation: the operation that it is.
        :param body: the JSON object of the request.
        :return: how it ended; ``None`` if the operation has ended already.
        """
        force, from_leader = (
            bool(self.engine.parse_bool(body.get(key))) for key in ("force", "from_leader")
        )
        states = _States(operation, self.stream)
        operation.attempted = True
        step = "reinitialize started"
        try:
            try:
                refused = await self.engine.reinitialize(force, from_leader)
            except CancelledError:
                if self.closing():
                    raise
                refused = None  # if it was dropped, no other state will be seen
                step = "the client has left"
            if refused is not None:
                return Outcome(503, refused)
            operation.run(step)
            operation.answer(Outcome(200, "reinitialize started"))
            return await self._rebuilt(operation, states)
        finally:
            states.leave()

    async def _rebuilt(self, operation: Operation, states: _States) -> Outcome | None:
        idle, began = 0, self.now()
        while self.now() - began < COPY_TIME:
            if self.engine.state() != RUNNING:
                states.left = True
            elif states.left:
                return Outcome(200, "reinitialize finished")
            else:
                idle += 1
                if idle > _PATIENCE:
                    sentence = "PostgreSQL has not been seen to leave the state running"
                    operation.end("unknown", Outcome(503, sentence))
                    return None
            await self.cycles.wait()
        operation.end("unknown", Outcome(503, "The replica is still being rebuilt"))
        return None

    async def foresee_reinitialize(self) -> dict[str, Any]:
        """Tell what a reinitialisation would lead to, without any effect."""
        cluster, node = (await self.engine.look()).cluster, self.engine.node()
        leads = cluster.leader == node.name and not cluster.unlocked
        reason = None
        if cluster.unlocked:
            reason = "Cluster has no leader, can not reinitialize"
        elif leads:
            reason = "I am the leader, can not reinitialize"
        return {
            "possible": reason is None,
            "action": "reinitialize",
            "node": node.name,
            "state": node.state,
            "leader": None if cluster.unlocked else cluster.leader,
            "is_leader": leads,
            "reason": reason,
            "scheduled_at": None,
        }

    async def reload(self, operation: Operation) -> Outcome | None:
        """Have the configuration reloaded, and wait until the HA loop has done it.

        :param operation: the operation that it is.
        :return: how it ended; ``None`` if the operation has ended already.
        """
        failed = self.failed_reloads()
        self.engine.reload()
        operation.run("reload scheduled")
        operation.answer(Outcome(202, "reload scheduled"))
        began = self.now()
        while self.now() - began < RELOAD_TIME:
            await self.cycles.wait()
            if not self.engine.reload_pending():
                if self.failed_reloads() > failed:
                    return Outcome(500, "The restapi section is not reloaded: the log tells why")
                return Outcome(200, "The node has reloaded its configuration")
        operation.end("unknown", Outcome(503, "The reload has not been done yet"))
        return None

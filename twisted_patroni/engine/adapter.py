"""Upstream's objects as views and calls: what the API sees of a running `Patroni` object."""

from __future__ import annotations

import json
from contextlib import closing
from copy import deepcopy
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from patroni import global_config
from patroni.dcs import Member
from patroni.exceptions import DCSError
from patroni.utils import cluster_as_json, deep_compare, patch_config
from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.python.failure import Failure

from twisted_patroni.engine.interface import (
    Candidate,
    ConfigConflict,
    DcsUnavailable,
    EngineError,
    FailoverView,
    Look,
    NodeView,
    StatusQuery,
    StatusRow,
    config_digest,
)
from twisted_patroni.engine.parsing import Parsing
from twisted_patroni.engine.sight import Sight
from twisted_patroni.engine.statement import status_sql
from twisted_patroni.engine.views import mode_view
from twisted_patroni.sharing import Patience, SharedNext

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from patroni.dcs import Cluster
    from twisted.internet.interfaces import IReactorTime

    from twisted_patroni.engine.host import Patroni
    from twisted_patroni.engine.lanes import Lanes

_NEVER_SCHEDULED = ("", "")
#: Seconds that a caller waits for a look at the DCS at most.
LOOK_PATIENCE = 10.0
_ASK_PATIENCE = 2.0
#: Bytes of a member's answer that are read at most.
_LONGEST_ANSWER = 2**20
_TIMES = ("ttl", "loop_wait", "retry_timeout")


class EngineAdapter(Parsing):
    """The :class:`~twisted_patroni.engine.interface.Engine` around upstream's daemon object.

    :param patroni: upstream's daemon, fully constructed.
    :param lanes: where its blocking calls run.
    :param looked: told, in the thread that looked, of each look at the DCS.
    :param clock: bounds how long callers wait for a look; they wait for ever without it.
    """

    def __init__(
        self,
        patroni: Patroni,
        lanes: Lanes,
        looked: Callable[[Look], None],
        clock: IReactorTime | None = None,
    ) -> None:
        self._patroni = patroni
        self._lanes = lanes
        self._sight = Sight(patroni.dcs, looked)
        self._probes: dict[str, SharedNext[Candidate]] = {}
        self._shared_look: SharedNext[tuple[Look, Cluster]] = SharedNext(
            lambda: lanes.read.call(self._sight.look),
            None if clock is None else Patience(clock, LOOK_PATIENCE, _dcs_silent),
        )

    def observe_looks(self) -> None:
        """Have every look the engine itself takes reported, too."""
        self._sight.observe()

    # Memory only.

    @property
    def version(self) -> str:
        """The engine's version."""
        return str(self._patroni.version)

    def state(self) -> str:
        """Return PostgreSQL's state text; cheaper than a whole :meth:`node`."""
        return str(self._patroni.postgresql.state)

    def node(self) -> NodeView:
        """Return this node's view of itself at this moment."""
        patroni = self._patroni
        ha, dcs, postgresql = patroni.ha, patroni.dcs, patroni.postgresql
        seen = dcs.cluster
        cluster = None if seen is None else self._sight.view(seen)
        waiting = patroni.logger.queue_size
        crowded = waiting > patroni.logger.NORMAL_LOG_QUEUE_SIZE
        failsafe = dcs.failsafe
        return NodeView(
            name=postgresql.name,
            scope=postgresql.scope,
            version=patroni.version,
            state=str(postgresql.state),
            role=str(postgresql.role),
            leader=ha.is_leader(),
            cluster=cluster,
            dcs_answers=self._sight.answers and not patroni.dcs_lost,
            mode=mode_view(None) if cluster is None else cluster.mode,
            global_quorum=global_config.is_quorum_commit_mode,
            failsafe_active=ha.failsafe_is_active(),
            failsafe_mode=ha.is_failsafe_mode(),
            failsafe_members=failsafe if isinstance(failsafe, dict) else None,
            dcs_last_seen=dcs.last_seen,
            next_run=patroni.next_run,
            ttl=dcs.ttl,
            loop_wait=dcs.loop_wait,
            tags=patroni.tags,
            effective_tags=ha.get_effective_tags(),
            failover_priority=patroni.failover_priority,
            system_identifier=postgresql._sysid or None,
            pending_restart=postgresql.pending_restart_reason,
            scheduled_restart=self._scheduled_restart(),
            watchdog_healthy=ha.watchdog.is_healthy,
            log_queue_size=waiting if crowded else 0,
            log_records_lost=patroni.logger.records_lost if crowded else 0,
        )

    def _scheduled_restart(self) -> dict[str, Any] | None:
        scheduled = dict(self._patroni.scheduled_restart)
        if not scheduled:
            return None
        scheduled.pop("postmaster_start_time", None)
        schedule = scheduled.get("schedule")
        if isinstance(schedule, datetime):
            scheduled["schedule"] = schedule.isoformat()
        return scheduled

    def applied_config(self) -> str | None:
        """Return the digest of the dynamic configuration that the node works by, if it has one."""
        config, seen = self._patroni.config, self._sight.config
        applied = config.dynamic_configuration
        if seen is not None and seen[0] == config._modify_version:
            # The engine corrects times that do not fit together in its copy, and keeps the one it
            # has if the values are the same as texts.
            wanted = {key: each for key, each in seen[1].items() if key not in _TIMES}
            if deep_compare({key: applied[key] for key in applied if key not in _TIMES}, wanted):
                return config_digest(seen[1])
        return config_digest(applied) if applied else None

    def wake(self) -> None:
        """Have the next HA cycle begin now, if none runs."""
        self._patroni.ha.wakeup()

    def reload_pending(self) -> bool:
        """Tell whether a reload was asked for and is still to be done."""
        return self._patroni.reload_pending

    def looks_begun(self) -> int:
        """Return how many looks at the DCS this process has begun."""
        return self._sight.begun

    def conninfo(self) -> Mapping[str, Any]:
        """Return libpq parameters for the local PostgreSQL, from the engine's configuration."""
        pool = self._patroni.postgresql.connection_pool
        return {**pool.conn_kwargs, "application_name": "Patroni restapi"}

    def status_query(self) -> StatusQuery | None:
        """Return the status statement for the server's version, or ``None`` before it is known."""
        version = self._patroni.postgresql.major_version
        return StatusQuery(status_sql(version)) if version else None

    def replication_state(self, row: StatusRow) -> str | None:
        """Return ``streaming`` or ``in archive recovery`` for a standby's row, else ``None``."""
        state: str | None = self._patroni.postgresql.replication_state_from_parameters(
            row.timeline > 0, row.receiver_status, row.restore_command
        )
        return state

    def known_replica_timeline(self, leader_timeline: int | None) -> int | None:
        """Return the replica's timeline if no connection is needed to tell it."""
        known: int | None = self._patroni.postgresql._cached_replica_timeline
        return known if known and known == leader_timeline else None

    def reload(self) -> None:
        """Ask the HA loop to reload the configuration, as SIGHUP does."""
        self._patroni.sighup_handler()

    def update_failsafe(self, request: Mapping[str, Any]) -> int | str | None:
        """Take the leader's failsafe message; see the interface."""
        answer: int | str | None = self._patroni.ha.update_failsafe(dict(request))
        return answer

    # Blocking, each in its lane.

    def postmaster_alive(self) -> Deferred[bool]:
        """Tell whether the postmaster runs, from its pid file and the process table."""
        return self._lanes.local.call(lambda: bool(self._patroni.postgresql.is_running()))

    def replica_timeline(self, leader_timeline: int | None) -> Deferred[int | None]:
        """Read a replica's timeline, over a replication connection unless it is known already."""
        return self._lanes.local.call(
            self._patroni.postgresql.replica_cached_timeline, leader_timeline
        )

    def look(self) -> Deferred[Look]:
        """Look at the DCS; callers that arrive while a look runs share the next one."""
        return self._shared_look.get().addCallbacks(lambda seen: seen[0], _unavailable)

    def cluster_document(self) -> Deferred[dict[str, Any]]:
        """Look at the DCS as :meth:`look` does and return the document of ``GET /cluster``."""
        scope = self._patroni.postgresql.scope
        return self._shared_look.get().addCallbacks(
            lambda seen: {**cluster_as_json(seen[1]), "scope": scope}, _unavailable
        )

    def patch_config(self, patch: Mapping[str, Any]) -> Deferred[dict[str, Any] | None]:
        """Merge a patch into the dynamic configuration; see the interface."""

        def merge() -> dict[str, Any] | None:
            config = self._sight.look()[1].config
            if config is None or not config.modify_version:
                return None
            # Upstream merges into a shallow copy, which edits the cached configuration in place.
            data = deepcopy(config.data)
            if patch_config(data, deepcopy(dict(patch))):
                text = json.dumps(data, separators=(",", ":"))
                if not self._patroni.dcs.set_config_value(text, config.version):
                    raise ConfigConflict
            self._patroni.ha.wakeup()
            return data

        return self._lanes.write.call(merge).addErrback(_unavailable)

    def replace_config(self, config: Mapping[str, Any]) -> Deferred[bool]:
        """Replace the dynamic configuration; the result tells whether the write succeeded."""

        def replace() -> bool:
            current = self._sight.look()[1].config
            if current is not None and deep_compare(dict(config), current.data):
                return True
            text = json.dumps(config, separators=(",", ":"))
            return bool(self._patroni.dcs.set_config_value(text))

        return self._lanes.write.call(replace).addErrback(_unavailable)

    def write_failover(
        self, leader: str | None, candidate: str | None, scheduled_at: datetime | None
    ) -> Deferred[bool]:
        """Write the failover key; the result tells whether the write succeeded."""

        def write() -> bool:
            dcs = self._patroni.dcs
            written = bool(dcs.manual_failover(leader, candidate, scheduled_at=scheduled_at))
            if written:  # here, so that a client that has left meanwhile delays nothing
                self._patroni.ha.wakeup()
            return written

        return self._lanes.write.call(write).addErrback(_unavailable)

    def delete_failover(self, failover: FailoverView) -> Deferred[bool]:
        """Remove the failover key unless it changed since it was read."""

        def delete() -> bool:
            dcs = self._patroni.dcs
            return bool(dcs.manual_failover(*_NEVER_SCHEDULED, version=failover.version))

        return self._lanes.write.call(delete).addErrback(_unavailable)

    def probe(self, names: Sequence[str]) -> Deferred[list[Candidate]]:
        """Ask members over HTTP whether they could take over, each for at most two seconds."""
        for name in names:
            if name not in self._probes:
                self._probes[name] = SharedNext(partial(self._lanes.probe.call, self._ask, name))
        return gatherResults(
            [self._probes[name].get() for name in names], consumeErrors=True
        ).addErrback(_first_error)

    def _ask(self, name: str) -> Candidate:
        """Ask one member, in our own lane: the engine's pool must stay free for a leader race."""
        cluster = self._sight.cluster
        member = cluster.get_member(name, False) if cluster else None
        if not isinstance(member, Member):
            return Candidate(name, "not a member")
        status = self._patroni.ha.fetch_node_status(member)
        return Candidate(name, status.failover_limitation())

    def ask_member(self, name: str, path: str) -> Deferred[tuple[int, bytes]]:
        """Ask a member's REST API with the node's own credentials; see the interface."""

        def ask() -> tuple[int, bytes]:
            cluster = self._sight.cluster
            member = cluster.get_member(name, False) if cluster else None
            if not isinstance(member, Member):
                raise EngineError(f"{name} is not a member")
            try:
                response = self._patroni.request(
                    member,
                    "GET",
                    path.lstrip("/"),
                    timeout=_ASK_PATIENCE,
                    retries=0,
                    preload_content=False,
                )
                with closing(response):
                    body = bytes(response.read(_LONGEST_ANSWER + 1))
            except Exception as error:  # urllib3 has many
                raise EngineError(f"{name} does not answer: {error}") from error
            if len(body) > _LONGEST_ANSWER:
                raise EngineError(f"{name} answers with more than {_LONGEST_ANSWER} bytes")
            return response.status, body

        return self._lanes.probe.call(ask)

    def restart_matches(self, request: Mapping[str, Any]) -> Deferred[bool]:
        """Tell whether the node is now what the conditions of a restart ask for."""
        return self._lanes.local.call(
            self._patroni.ha.restart_matches,
            request.get("role"),
            request.get("postgres_version"),
            "restart_pending" in request,  # whatever its value, as upstream has it
        )

    def restart(self, request: Mapping[str, Any]) -> Deferred[tuple[bool, str]]:
        """Restart PostgreSQL now; takes as long as that takes."""

        def restart() -> tuple[bool, str]:
            done, sentence = self._patroni.ha.restart(dict(request))
            return done, str(sentence)

        return self._lanes.long.call(restart)

    def schedule_restart(self, request: Mapping[str, Any]) -> Deferred[bool]:
        """Schedule a restart; the result is false when one is scheduled already."""
        return self._lanes.long.call(self._patroni.ha.schedule_future_restart, dict(request))

    def delete_restart(self) -> Deferred[bool]:
        """Forget the scheduled restart; the result is false when there is none."""
        return self._lanes.long.call(self._patroni.ha.delete_future_restart)

    def reinitialize(self, force: bool, from_leader: bool) -> Deferred[str | None]:
        """Start rebuilding this replica; the result is the reason if that was refused."""
        return self._lanes.long.call(self._patroni.ha.reinitialize, force, from_leader).addErrback(
            _unavailable
        )

    def handle_mpp_event(self, event: Mapping[str, Any]) -> Deferred[None]:
        """Hand an event of an MPP worker to the coordinator, if this node is its leader."""

        def handle() -> None:
            handler = self._patroni.postgresql.mpp_handler
            if handler.is_coordinator() and self._patroni.ha.is_leader():
                handler.handle_event(self._sight.look()[1], dict(event))

        return self._lanes.long.call(handle).addErrback(_unavailable)


def _first_error(failure: Failure) -> NoReturn:
    """Let the failure of one of several calls stand for all."""
    failure.trap(FirstError)
    failure.value.subFailure.raiseException()  # type: ignore[union-attr]
    raise AssertionError("unreachable")


def _dcs_silent() -> Failure:
    return Failure(DcsUnavailable(f"no answer within {LOOK_PATIENCE:g} seconds"))


def _unavailable(failure: Any) -> Any:
    """Turn upstream's DCS errors into ours and let every other failure pass."""
    if failure.check(DCSError):
        raise DcsUnavailable(str(failure.value)) from failure.value
    return failure

"""Stand-ins of upstream's daemon: its real values, and objects in memory around them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from patroni.dcs import (
    Cluster,
    ClusterConfig,
    Leader,
    Member,
    Status,
    SyncState,
)
from twisted.trial.unittest import SynchronousTestCase

from tests.memory_api import inline_lanes
from twisted_patroni.engine.adapter import EngineAdapter

if TYPE_CHECKING:
    from twisted_patroni.engine.interface import (
        Look,
    )

LATER = datetime(2026, 7, 2, 12, 0, tzinfo=UTC)


def member(name: str, **data: Any) -> Member:
    """Return a member as the DCS has it."""
    return Member(0, name, None, {"api_url": f"http://{name}:8008/patroni", **data})


def make_upstream(**changes: Any) -> Cluster:
    """Return upstream's cluster: alpha leads, beta follows."""
    members = [member("alpha", checkpoint_after_promote=True, timeline=3), member("beta")]
    config = {"ttl": 30, "postgresql": {"parameters": {"max_connections": 100}}}
    attributes: dict[str, Any] = {
        "initialize": "1",
        "config": ClusterConfig(7, config, 7),
        "leader": Leader(1, None, members[0]),
        "status": Status(5000, None, []),
        "members": members,
        "failover": None,
        "sync": SyncState.empty(),
        "history": None,
        "failsafe": None,
        "workers": {},
    }
    return Cluster(**attributes | changes)


class Dcs:
    """Upstream's DCS object, in memory."""

    ttl, loop_wait, last_seen = 30, 10, 1782907198
    failsafe: Any = None

    def __init__(self) -> None:
        self.cluster: Cluster | None = make_upstream()
        self.now = make_upstream()
        self.error: Exception | None = None
        self.accepts = True
        self.written: list[tuple[Any, ...]] = []

    def get_cluster(self) -> Cluster:
        """Look."""
        if self.error is not None:
            raise self.error
        return self.now

    def set_config_value(self, value: str, version: Any = None) -> bool:
        """Write the configuration."""
        self.written.append(("config", json.loads(value), version, " " in value))
        return self.accepts

    def manual_failover(self, *args: Any, **kwargs: Any) -> bool:
        """Write the failover key."""
        self.written.append(("failover", args, kwargs))
        return self.accepts


class Ha:
    """Upstream's HA object, in memory."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.watchdog = SimpleNamespace(is_healthy=True)
        self.leader = True
        self.limitations: dict[str, str | None] = {}

    def is_leader(self) -> bool:
        """Tell whether the lock is held."""
        return self.leader

    def failsafe_is_active(self) -> bool:
        """Tell whether failsafe mode acts."""
        return False

    def is_failsafe_mode(self) -> bool:
        """Tell whether it is configured."""
        return True

    def get_effective_tags(self) -> dict[str, Any]:
        """Return the tags that count."""
        return {"dc": "east", "nosync": True}

    def wakeup(self) -> None:
        """Wake the loop."""
        self.calls.append(("wakeup",))

    def update_failsafe(self, data: Any) -> Any:
        """Take the leader's message."""
        self.calls.append(("update_failsafe", data))
        return 4900

    def fetch_node_status(self, asked: Member) -> Any:
        """Ask a member."""
        self.calls.append(("fetch", asked.name))
        limitation = self.limitations.get(asked.name)
        return SimpleNamespace(failover_limitation=lambda: limitation)

    def restart(self, request: dict[str, Any]) -> tuple[bool, str]:
        """Restart."""
        self.calls.append(("restart", request))
        return True, "restarted successfully"

    def restart_matches(self, role: Any, version: Any, pending: bool) -> bool:
        """Compare conditions."""
        self.calls.append(("restart_matches", role, version, pending))
        return role in (None, "primary")

    def schedule_future_restart(self, request: dict[str, Any]) -> bool:
        """Schedule."""
        self.calls.append(("schedule", request))
        return True

    def delete_future_restart(self) -> bool:
        """Forget."""
        return False

    def reinitialize(self, force: bool, from_leader: bool) -> str | None:
        """Rebuild."""
        self.calls.append(("reinitialize", force, from_leader))
        return "I am the leader, can not reinitialize"


class Response:
    """A member's answer, as urllib3 gives it."""

    def __init__(self, status: int, data: bytes) -> None:
        self.status, self.data, self.closed = status, data, False

    def read(self, amount: int) -> bytes:
        """Return the beginning of the body."""
        return self.data[:amount]

    def close(self) -> None:
        """Close the connection."""
        self.closed = True


class AdapterCase(SynchronousTestCase):
    """An adapter over stand-ins."""

    def setUp(self) -> None:
        """Put the stand-ins together."""
        self.dcs, self.ha = Dcs(), Ha()
        self.events: list[Any] = []
        self.coordinator = True
        handler = SimpleNamespace(
            is_coordinator=lambda: self.coordinator,
            handle_event=lambda cluster, event: self.events.append((cluster, event)),
        )
        self.postgresql = SimpleNamespace(
            name="alpha",
            scope="demo",
            state="running",
            role="primary",
            _sysid="739",
            major_version=180000,
            _cached_replica_timeline=3,
            replica_cached_timeline=lambda leaders: leaders,
            is_running=lambda: object(),
            pending_restart_reason={},
            connection_pool=SimpleNamespace(conn_kwargs={"host": "/run", "user": "postgres"}),
            replication_state_from_parameters=lambda *parameters: parameters,
            mpp_handler=handler,
        )
        self.patroni = SimpleNamespace(
            version="4.1.5",
            dcs=self.dcs,
            ha=self.ha,
            postgresql=self.postgresql,
            tags={"dc": "east"},
            failover_priority=1,
            next_run=1782907205.0,
            scheduled_restart={},
            dcs_lost=False,
            reload_pending=False,
            config=SimpleNamespace(dynamic_configuration={}, _modify_version=None),
            logger=SimpleNamespace(queue_size=0, records_lost=0, NORMAL_LOG_QUEUE_SIZE=2),
            sighup_handler=lambda: self.ha.calls.append(("sighup",)),
            request=self.answer,
        )
        self.asked: list[tuple[Any, ...]] = []
        self.response: Response | Exception = Response(200, b"{}")
        self.looks: list[Look] = []
        self.lanes = inline_lanes()
        self.engine = EngineAdapter(self.patroni, self.lanes, self.looks.append)  # type: ignore[arg-type]

    def answer(self, asked: Member, *arguments: Any, **options: Any) -> Response:
        """Be a member that is asked."""
        self.asked.append((asked.name, *arguments, options["timeout"]))
        if isinstance(self.response, Exception):
            raise self.response
        return self.response

"""In-memory twins of what the API stands on: the engine, its views, and PostgreSQL."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from attrs import define, evolve, field
from twisted.internet.defer import Deferred, fail, succeed

from twisted_patroni.engine.interface import (
    Candidate,
    ClusterView,
    FailoverView,
    Look,
    MemberView,
    ModeView,
    NodeView,
    StatusQuery,
    StatusRow,
)
from twisted_patroni.postgres import PostgresError, Rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

#: The present time wherever a double has a clock.
NOW = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
VERSION = "4.1.5"
SERVER_VERSION = 180000
STARTED = datetime(2026, 7, 1, 6, 30, tzinfo=UTC)
MEMBERS = tuple(
    MemberView(name, f"http://10.0.0.{number}:8008/patroni")
    for number, name in enumerate(("alpha", "beta", "gamma"), 1)
)

_CLUSTER = ClusterView(
    leader="alpha",
    unlocked=False,
    leader_timeline=3,
    last_lsn=0,
    members=MEMBERS,
    sync_members=frozenset(),
    failover=None,
    history=[],
    config={"ttl": 30},
    config_version=1,
    mode=ModeView(),
)


def make_cluster(**changes: Any) -> ClusterView:
    """Return a cluster of alpha, beta and gamma, led by alpha, with something changed.

    A cluster without a leader is unlocked unless told otherwise.

    :param changes: attributes of the view by name.
    """
    if "leader" in changes:
        changes.setdefault("unlocked", changes["leader"] is None)
    return evolve(_CLUSTER, **changes)


def make_node(**changes: Any) -> NodeView:
    """Return the leader alpha, with something changed; its mode is its cluster's.

    :param changes: attributes of the view by name.
    """
    cluster = changes.setdefault("cluster", make_cluster())
    if cluster is not None:
        changes.setdefault("mode", cluster.mode)
    attributes: dict[str, Any] = {
        "name": "alpha",
        "scope": "demo",
        "version": VERSION,
        "state": "running",
        "role": "primary",
        "leader": True,
        "dcs_last_seen": int(NOW.timestamp()) - 2,
        "next_run": NOW.timestamp() + 5,
        "system_identifier": "7391038501848",
    }
    return NodeView(**attributes | changes)


def make_replica(**changes: Any) -> NodeView:
    """Return the replica beta, with something changed.

    :param changes: attributes of the view by name.
    """
    return make_node(**{"name": "beta", "role": "replica", "leader": False} | changes)


def primary_row(**changes: Any) -> StatusRow:
    """Return what a primary's PostgreSQL says, with something changed.

    :param changes: columns by name.
    """
    row = StatusRow(STARTED, 3, 5000, None, 0, False, None, None, None, "", None, None)
    return evolve(row, **changes)


def replica_row(**changes: Any) -> StatusRow:
    """Return what a streaming replica's PostgreSQL says, with something changed.

    :param changes: columns by name.
    """
    row = StatusRow(STARTED, 0, 0, 4800, 4900, False, NOW, 4950, "streaming", "", 4910, None)
    return evolve(row, **changes)


@define(eq=False)
class FakeLink:
    """A connection to PostgreSQL that answers at once, badly, or when the test says so.

    :ivar row: what the server says.
    :ivar error: what a query fails with, if that is set.
    :ivar held: whether queries wait in :attr:`waiting` until :meth:`release`.
    :ivar statements: what was asked.
    """

    row: StatusRow = field(factory=primary_row)
    server_version: int = SERVER_VERSION
    error: PostgresError | None = None
    held: bool = False
    closed: bool = False
    statements: list[str] = field(factory=list)
    waiting: list[Deferred[Rows]] = field(factory=list)

    def query(self, sql: str) -> Deferred[Rows]:
        """Run one statement."""
        self.statements.append(sql)
        if self.held:
            self.waiting.append(Deferred())
            return self.waiting[-1]
        return fail(self.error) if self.error is not None else succeed(self.rows())

    def rows(self) -> Rows:
        """Return the present answer."""
        names = StatusRow.__attrs_attrs__
        return Rows([tuple(getattr(self.row, each.name) for each in names)], self.server_version)

    def release(self) -> None:
        """Answer the queries that wait now."""
        waiting, self.waiting = self.waiting, []
        for each in waiting:
            each.callback(self.rows())

    def close(self) -> None:
        """Drop the connection for good."""
        self.closed = True


@define(eq=False)
class FakeEngine:
    """An engine in memory: the test sets what it knows, and reads what it was asked.

    :ivar view: what the node knows of itself.
    :ivar dcs: what the next look at the DCS shows.
    :ivar on_look: told of each look.
    :ivar outcomes: what a method, by its name, returns: a result, an error to fail with, or a
        Deferred.
    :ivar calls: the name and arguments of each call that has an effect or may block.
    """

    view: NodeView = field(factory=make_node)
    dcs: ClusterView = field(factory=make_cluster)
    on_look: Callable[[Look], object] = field(default=lambda look: None)
    outcomes: dict[str, Any] = field(factory=dict)
    calls: list[tuple[Any, ...]] = field(factory=list)
    begun: int = 0
    known_timeline: int | None = None
    major_version: int | None = SERVER_VERSION

    def called(self, name: str) -> list[tuple[Any, ...]]:
        """Return the arguments of each call of a method.

        :param name: the method's name.
        """
        return [arguments for each, *arguments in self.calls if each == name]  # type: ignore[misc]

    def _block(self, name: str, usual: Any, *arguments: Any) -> Deferred[Any]:
        self.calls.append((name, *arguments))
        outcome = self.outcomes.get(name, usual)
        if isinstance(outcome, Deferred):
            return outcome
        return fail(outcome) if isinstance(outcome, Exception) else succeed(outcome)

    @property
    def version(self) -> str:
        """The engine's version."""
        return self.view.version

    def state(self) -> str:
        """Return PostgreSQL's state text; cheaper than a whole :meth:`node`."""
        return self.view.state

    def node(self) -> NodeView:
        """Return this node's view of itself at this moment."""
        return self.view

    def applied_config(self) -> str | None:
        """Return the digest of the dynamic configuration that the node works by, if it has one."""
        digest: str | None = self.outcomes.get("applied_config")
        return digest

    def wake(self) -> None:
        """Have the next HA cycle begin now, if none runs."""
        self.calls.append(("wake",))

    def reload_pending(self) -> bool:
        """Tell whether a reload was asked for and is still to be done."""
        return bool(self.outcomes.get("reload_pending", False))

    def restart_matches(self, request: Mapping[str, Any]) -> Deferred[bool]:
        """Tell whether the node is now what the conditions of a restart ask for."""
        return self._block("restart_matches", True, dict(request))

    def looks_begun(self) -> int:
        """Return how many looks at the DCS this process has begun."""
        return self.begun

    def conninfo(self) -> Mapping[str, Any]:
        """Return libpq parameters for the local PostgreSQL, from the engine's configuration."""
        return {"host": "127.0.0.1", "port": 5432}

    def status_query(self) -> StatusQuery | None:
        """Return the status statement for the server's version, or ``None`` before it is known."""
        return None if self.major_version is None else StatusQuery("SELECT status")

    def replication_state(self, row: StatusRow) -> str | None:
        """Return ``streaming`` or ``in archive recovery`` for a standby's row, else ``None``."""
        if row.timeline:
            return None
        if row.receiver_status == "streaming":
            return "streaming"
        return "in archive recovery" if row.restore_command else None

    def reload(self) -> None:
        """Ask the HA loop to reload the configuration, as SIGHUP does."""
        self.calls.append(("reload",))

    def update_failsafe(self, request: Mapping[str, Any]) -> int | str | None:
        """Take the leader's failsafe message."""
        self.calls.append(("update_failsafe", dict(request)))
        answer: int | str | None = self.outcomes.get("update_failsafe", 4900)
        return answer

    def postmaster_alive(self) -> Deferred[bool]:
        """Tell whether the postmaster runs, from its pid file and the process table."""
        return self._block("postmaster_alive", True)

    def replica_timeline(self, leader_timeline: int | None) -> Deferred[int | None]:
        """Read a replica's timeline, over a replication connection unless it is known already."""
        return self._block("replica_timeline", 3, leader_timeline)

    def known_replica_timeline(self, leader_timeline: int | None) -> int | None:
        """Return the replica's timeline if no connection is needed to tell it."""
        return self.known_timeline if self.known_timeline == leader_timeline else None

    def look(self) -> Deferred[Look]:
        """Look at the DCS; callers that arrive while a look runs share the next one."""
        self.begun += 1
        look = Look(self.begun, self.dcs)
        if "look" not in self.outcomes:
            self.on_look(look)
        return self._block("look", look)

    def cluster_document(self) -> Deferred[dict[str, Any]]:
        """Look at the DCS as :meth:`look` does and return the document of ``GET /cluster``."""
        names = [{"name": member.name} for member in self.dcs.members]
        return self._block("cluster_document", {"members": names, "scope": self.view.scope})

    def patch_config(self, patch: Mapping[str, Any]) -> Deferred[dict[str, Any] | None]:
        """Merge a patch into the dynamic configuration."""
        config = self.dcs.config
        result = None if config is None else {**config, **patch}
        return self._block("patch_config", result, dict(patch))

    def replace_config(self, config: Mapping[str, Any]) -> Deferred[bool]:
        """Replace the dynamic configuration; the result tells whether the write succeeded."""
        return self._block("replace_config", True, dict(config))

    def write_failover(
        self, leader: str | None, candidate: str | None, scheduled_at: datetime | None
    ) -> Deferred[bool]:
        """Write the failover key and wake the HA loop; the result tells whether that succeeded."""
        return self._block("write_failover", True, leader, candidate, scheduled_at)

    def delete_failover(self, failover: FailoverView) -> Deferred[bool]:
        """Remove the failover key unless it changed since it was read."""
        return self._block("delete_failover", True, failover)

    def probe(self, names: Sequence[str]) -> Deferred[list[Candidate]]:
        """Ask members over HTTP whether they could take over, each for at most two seconds."""
        able = [Candidate(name, None) for name in names]
        return self._block("probe", able, tuple(names))

    def ask_member(self, name: str, path: str) -> Deferred[tuple[int, bytes]]:
        """Ask a member's REST API with the node's own credentials, for two seconds at most."""
        return self._block("ask_member", (200, b"{}"), name, path)

    def restart(self, request: Mapping[str, Any]) -> Deferred[tuple[bool, str]]:
        """Restart PostgreSQL now; takes as long as that takes."""
        return self._block("restart", (True, "restarted successfully"), dict(request))

    def schedule_restart(self, request: Mapping[str, Any]) -> Deferred[bool]:
        """Schedule a restart; the result is false when one is scheduled already."""
        return self._block("schedule_restart", True, dict(request))

    def delete_restart(self) -> Deferred[bool]:
        """Forget the scheduled restart; the result is false when there is none."""
        return self._block("delete_restart", True)

    def reinitialize(self, force: bool, from_leader: bool) -> Deferred[str | None]:
        """Start rebuilding this replica; the result is the reason if that was refused."""
        return self._block("reinitialize", None, force, from_leader)

    def handle_mpp_event(self, event: Mapping[str, Any]) -> Deferred[None]:
        """Hand an event of an MPP worker to the coordinator, if this node is its leader."""
        return self._block("handle_mpp_event", None, dict(event))

    def parse_size(self, text: str) -> int | None:
        """Parse an amount with an optional unit into bytes as PostgreSQL's settings do."""
        return _amount(text, {"B": 1, "kB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40})

    def parse_seconds(self, value: Any) -> int | None:
        """Parse a duration with an optional unit into seconds as PostgreSQL's settings do."""
        return _amount(value, {"ms": 0.001, "s": 1, "min": 60, "h": 3600, "d": 86400})

    def parse_version(self, text: str) -> int:
        """Parse a PostgreSQL version."""
        numbers = text.split(".")
        if len(numbers) not in (2, 3) or not all(number.isdigit() for number in numbers):
            raise ValueError(f"Invalid PostgreSQL version format: {text}")
        middle = numbers[1] if len(numbers) == 3 else 0
        return int(numbers[0]) * 10000 + int(middle) * 100 + int(numbers[-1])

    def parse_bool(self, value: Any) -> bool | None:
        """Parse a truth value as the engine does, ``None`` if it is none."""
        word = str(value).lower()
        if word in ("true", "on", "yes", "1"):
            return True
        return False if word in ("false", "off", "no", "0") else None


def _amount(value: Any, units: Mapping[str, float]) -> int | None:
    found = re.fullmatch(r"\s*(0x[0-9a-fA-F]+|[-+]?[0-9.]+(?:e[0-9]+)?)\s*(\w*)\s*", str(value))
    if found is None or (found[2] and found[2] not in units):
        return None
    number = int(found[1], 16) if found[1].startswith("0x") else float(found[1])
    amount = number * units.get(found[2], 1)
    return None if amount == float("inf") else round(amount)

"""What the API may ask of an engine: one protocol, its errors, and the views it speaks in.

Everything above this module is written against these names, so it can be driven by a double in
memory and never sees an object of the `patroni` package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from attrs import frozen

from twisted_patroni.engine.state import (
    QUERYABLE_STATES,
    RUNNING,
    STATES,
    UNKNOWN_STATE,
    Candidate,
    ClusterView,
    Cycle,
    FailoverView,
    Look,
    MemberView,
    ModeView,
    NodeView,
    StatusQuery,
    StatusRow,
    Stir,
    config_digest,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from twisted.internet.defer import Deferred

__all__ = [
    "QUERYABLE_STATES",
    "RUNNING",
    "STATES",
    "UNKNOWN_STATE",
    "Candidate",
    "ClusterView",
    "ConfigConflict",
    "Cycle",
    "DcsUnavailable",
    "Engine",
    "EngineError",
    "FailoverView",
    "LaneFull",
    "Look",
    "MemberView",
    "ModeView",
    "NodeView",
    "StatusQuery",
    "StatusRow",
    "Stir",
    "config_digest",
]


class EngineError(Exception):
    """The engine could not do what was asked."""


@frozen
class DcsUnavailable(EngineError):
    """The distributed configuration store did not answer.

    :param reason: what the DCS client reported.
    """

    reason: str

    def __str__(self) -> str:
        return self.reason


@frozen
class LaneFull(EngineError):
    """A lane has no room for another blocking call.

    :param lane: the lane's name.
    :param retry_after: seconds after which trying again makes sense.
    """

    lane: str
    retry_after: int

    def __str__(self) -> str:
        return f"the {self.lane} lane is full"


@frozen
class ConfigConflict(EngineError):
    """The cluster's configuration was changed by someone else between reading and writing."""

    def __str__(self) -> str:
        return "the configuration in the DCS has changed meanwhile"


class Engine(Protocol):
    """The HA engine as the API sees it.

    The properties and plain methods only read memory; each method that returns a Deferred runs
    in a bounded lane and fails with :class:`LaneFull` when that lane has no room, or with
    :class:`DcsUnavailable` when the DCS does not answer.
    """

    @property
    def version(self) -> str:
        """The engine's version."""

    def state(self) -> str:
        """Return PostgreSQL's state text; cheaper than a whole :meth:`node`."""

    def node(self) -> NodeView:
        """Return this node's view of itself at this moment."""

    def applied_config(self) -> str | None:
        """Return the digest of the dynamic configuration that the node works by, if it has one."""

    def wake(self) -> None:
        """Have the next HA cycle begin now, if none runs."""

    def reload_pending(self) -> bool:
        """Tell whether a reload was asked for and is still to be done."""

    def looks_begun(self) -> int:
        """Return how many looks at the DCS this process has begun."""

    def conninfo(self) -> Mapping[str, Any]:
        """Return libpq parameters for the local PostgreSQL, from the engine's configuration."""

    def status_query(self) -> StatusQuery | None:
        """Return the status statement for the server's version, or ``None`` before it is known."""

    def replication_state(self, row: StatusRow) -> str | None:
        """Return ``streaming`` or ``in archive recovery`` for a standby's row, else ``None``."""

    def reload(self) -> None:
        """Ask the HA loop to reload the configuration, as SIGHUP does."""

    def update_failsafe(self, request: Mapping[str, Any]) -> int | str | None:
        """Take the leader's failsafe message.

        :param request: with ``name``, ``conn_url``, ``api_url`` and optionally ``slots``.
        :return: the node's WAL position, or the reason why the sender must not go on as primary.
        """

    def postmaster_alive(self) -> Deferred[bool]:
        """Tell whether the postmaster runs, from its pid file and the process table."""

    def replica_timeline(self, leader_timeline: int | None) -> Deferred[int | None]:
        """Read a replica's timeline, over a replication connection unless it is known already."""

    def known_replica_timeline(self, leader_timeline: int | None) -> int | None:
        """Return the replica's timeline if no connection is needed to tell it."""

    def look(self) -> Deferred[Look]:
        """Look at the DCS; callers that arrive while a look runs share the next one."""

    def cluster_document(self) -> Deferred[dict[str, Any]]:
        """Look at the DCS as :meth:`look` does and return the document of ``GET /cluster``."""

    def patch_config(self, patch: Mapping[str, Any]) -> Deferred[dict[str, Any] | None]:
        """Merge a patch into the dynamic configuration.

        :return: the resulting configuration, or ``None`` if there is none to patch. Fails with
            :class:`ConfigConflict` if someone else wrote first.
        """

    def replace_config(self, config: Mapping[str, Any]) -> Deferred[bool]:
        """Replace the dynamic configuration; the result tells whether the write succeeded."""

    def write_failover(
        self, leader: str | None, candidate: str | None, scheduled_at: datetime | None
    ) -> Deferred[bool]:
        """Write the failover key and wake the HA loop; the result tells whether that succeeded."""

    def delete_failover(self, failover: FailoverView) -> Deferred[bool]:
        """Remove the failover key unless it changed since it was read."""

    def probe(self, names: Sequence[str]) -> Deferred[list[Candidate]]:
        """Ask members over HTTP whether they could take over, each for at most two seconds."""

    def ask_member(self, name: str, path: str) -> Deferred[tuple[int, bytes]]:
        """Ask a member's REST API with the node's own credentials.

        :param name: the member.
        :param path: what to GET, with its query.
        :return: status and body; fails with :class:`EngineError` if the member is silent for two
            seconds, or says more than a megabyte.
        """

    def restart_matches(self, request: Mapping[str, Any]) -> Deferred[bool]:
        """Tell whether the node is now what the conditions of a restart ask for.

        :param request: as for :meth:`restart`.
        """

    def restart(self, request: Mapping[str, Any]) -> Deferred[tuple[bool, str]]:
        """Restart PostgreSQL now; takes as long as that takes."""

    def schedule_restart(self, request: Mapping[str, Any]) -> Deferred[bool]:
        """Schedule a restart; the result is false when one is scheduled already."""

    def delete_restart(self) -> Deferred[bool]:
        """Forget the scheduled restart; the result is false when there is none."""

    def reinitialize(self, force: bool, from_leader: bool) -> Deferred[str | None]:
        """Start rebuilding this replica; the result is the reason if that was refused."""

    def handle_mpp_event(self, event: Mapping[str, Any]) -> Deferred[None]:
        """Hand an event of an MPP worker to the coordinator, if this node is its leader."""

    def parse_size(self, text: str) -> int | None:
        """Parse an amount with an optional unit into bytes as PostgreSQL's settings do."""

    def parse_seconds(self, value: Any) -> int | None:
        """Parse a duration with an optional unit into seconds as PostgreSQL's settings do."""

    def parse_version(self, text: str) -> int:
        """Parse a PostgreSQL version.

        :raise ValueError: with the engine's sentence if it is not one.
        """

    def parse_bool(self, value: Any) -> bool | None:
        """Parse a truth value as the engine does, ``None`` if it is none."""

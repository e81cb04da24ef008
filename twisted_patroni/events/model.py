"""Events, and the picture of node and cluster that they are made from. All of it immutable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cached_property
from math import isfinite
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The types of events, in the order in which changes seen together are told.
TYPES = ("leader", "cluster", "member", "node", "config", "history", "operation")


def moment(seconds: float) -> str:
    """Return a time as it is shown to clients: ISO 8601, with its zone.

    :param seconds: Unix time.
    """
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def encoded(value: object) -> str:
    """Return JSON on one line; what JSON lacks becomes text.

    :param value: the value.
    """
    try:
        return json.dumps(value, default=str, allow_nan=False, separators=(",", ":"))
    except ValueError:  # infinite, or no number
        return json.dumps(_finite(value), default=str, separators=(",", ":"))


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value


@frozen
class MemberState:
    """A member of the cluster as events tell of it.

    :param name: its name.
    :param role: as in ``GET /cluster``.
    :param state: as in ``GET /cluster``.
    :param api_url: where its REST API is.
    :param host: where its PostgreSQL is.
    :param port: where its PostgreSQL is.
    :param timeline: as it published it.
    :param lag_class: ``low`` while it is no further behind than a candidate may be
        (``maximum_lag_on_failover``), else ``high``; ``unknown``; ``None`` for the leader.
    :param tags: its tags.
    :param pending_restart: parameters wait for a restart there.
    :param scheduled_restart: the restart scheduled there.
    :param lag: bytes behind the leader; it changes all the time and is no event by itself.
    """

    name: str
    role: str
    state: str
    api_url: str | None
    host: str | None
    port: int | None
    timeline: int | None
    lag_class: str | None
    tags: Mapping[str, Any]
    pending_restart: bool
    scheduled_restart: Mapping[str, Any] | None
    lag: int | None = field(default=None, eq=False)

    #: What is told of when it changes.
    ATTRIBUTES = (
        "role",
        "state",
        "api_url",
        "host",
        "port",
        "timeline",
        "lag_class",
        "tags",
        "pending_restart",
        "scheduled_restart",
    )

    @property
    def document(self) -> dict[str, Any]:
        """The member as clients see it."""
        shown = {name: getattr(self, name) for name in ("name", *self.ATTRIBUTES)}
        return {**shown, "lag": self.lag}


@frozen
class NodeState:
    """This node as events tell of it.

    :param name: the member's name.
    :param state: PostgreSQL's state.
    :param role: PostgreSQL's role.
    :param pending_restart: parameters that wait for a restart.
    :param drain: why the node is drained, ``None`` if it is not.
    """

    name: str
    state: str
    role: str
    pending_restart: tuple[str, ...] = ()
    drain: Mapping[str, Any] | None = None

    #: What is told of when it changes.
    ATTRIBUTES = ("state", "role", "pending_restart", "drain")

    @property
    def document(self) -> dict[str, Any]:
        """The node as clients see it."""
        return {name: getattr(self, name) for name in ("name", *self.ATTRIBUTES)}


@frozen
class View:
    """Node and cluster at one moment.

    :param scope: the cluster's name.
    :param node: this node.
    :param leader: who holds the leader key, ``None`` if nobody does.
    :param last_leader: who does, or who last did.
    :param timeline: the leader's, ``None`` until it has published it as leader: who has just taken
        the key begins a new timeline only when it is promoted, and until then it would be the last
        leader's. So the event of a new leader has a timeline only if that leads already, and an
        event of the cluster tells of it later.
    :param members: the members, by name.
    :param paused: automatic failover is off.
    :param failsafe: the leader stays up only because all members agree.
    :param dcs: this node reaches the DCS.
    :param switchover: the scheduled switchover, if any.
    :param sync: the synchronous standbys.
    :param config: the dynamic configuration.
    :param history: the lines of the history key.
    """

    scope: str
    node: NodeState
    leader: str | None = None
    last_leader: str | None = None
    timeline: int | None = None
    members: tuple[MemberState, ...] = ()
    paused: bool = False
    failsafe: bool = False
    dcs: bool = True
    switchover: Mapping[str, Any] | None = None
    sync: tuple[str, ...] = ()
    config: Mapping[str, Any] | None = None
    history: Sequence[Sequence[Any]] = ()

    #: What is told of the cluster when it changes.
    ATTRIBUTES = ("locked", "timeline", "paused", "failsafe", "dcs", "switchover", "sync")
    #: Lines of the history that a newcomer is shown.
    PAST = 10

    @property
    def locked(self) -> bool:
        """Whether somebody holds the leader key."""
        return self.leader is not None

    @property
    def cluster_document(self) -> dict[str, Any]:
        """The cluster as events of that type show it."""
        return {name: getattr(self, name) for name in ("leader", *self.ATTRIBUTES)}

    @property
    def document(self) -> dict[str, Any]:
        """What a newcomer needs to know."""
        return {
            "scope": self.scope,
            **self.cluster_document,
            "members": [member.document for member in self.members],
            "node": self.node.document,
            "history": [
                history_document(line) for line in history_lines(self.history)[-self.PAST :]
            ],
        }


def history_lines(history: Sequence[Any]) -> list[Sequence[Any]]:
    """Return what is a line in a history key: others than members may write there, too.

    :param history: what the key holds.
    """
    return [
        line
        for line in history
        if isinstance(line, list | tuple) and line and isinstance(line[0], int)
    ]


def history_document(line: Sequence[Any]) -> dict[str, Any]:
    """Return a line of the history key with names; old lines are shorter.

    :param line: timeline, position, reason, time and new leader.
    """
    names = ("timeline", "lsn", "reason", "time", "leader")
    return dict(zip(names, [*line, *[None] * len(names)], strict=False))


@frozen(slots=False)
class Event:
    """One change.

    :param number: greater than that of any earlier one of this node.
    :param time: when it was seen, in Unix seconds.
    :param type: one of :data:`TYPES`.
    :param data: what has changed.
    :param view: node and cluster after it; ``None`` before they are known.
    """

    number: int
    time: float
    type: str
    data: Mapping[str, Any]
    view: View | None = field(default=None, eq=False, repr=False)

    @cached_property
    def document(self) -> dict[str, Any]:
        """The event as clients see it."""
        return {
            "number": self.number,
            "time": moment(self.time),
            "type": self.type,
            "data": self.data,
        }

    @cached_property
    def text(self) -> str:
        """That as JSON on one line, made once for all who read it."""
        return encoded(self.document)

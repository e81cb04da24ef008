"""What a node tells, as frozen values. What is missing or strange in a document is ``None``."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

if TYPE_CHECKING:
    from collections.abc import Mapping


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _documents(value: object) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _time(value: object) -> datetime | None:
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None


@frozen
class Member:
    """One member of a cluster, as ``GET /cluster`` shows it.

    :param name: its name.
    :param role: ``leader``, ``standby_leader``, ``sync_standby``, ``quorum_standby``, ``replica``.
    :param state: PostgreSQL's state, as ``running`` or ``streaming``.
    :param api_url: where its REST API is.
    :param host: where its PostgreSQL is.
    :param port: where its PostgreSQL is.
    :param timeline: its timeline.
    :param lag: bytes behind the leader.
    :param tags: its tags.
    :param pending_restart: parameters wait for a restart.
    :param document: all that was told.
    """

    name: str
    role: str | None = None
    state: str | None = None
    api_url: str | None = None
    host: str | None = None
    port: int | None = None
    timeline: int | None = None
    lag: int | None = None
    tags: Mapping[str, Any] = field(factory=dict)
    pending_restart: bool = False
    document: Mapping[str, Any] = field(factory=dict, eq=False, repr=False)

    @property
    def leads(self) -> bool:
        """Whether it is the leader, of the cluster or of a standby cluster."""
        return self.role in ("leader", "standby_leader")

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Member:
        """Read a member's document.

        :param document: the document.
        """
        return cls(
            name=_text(document.get("name")) or "",
            role=_text(document.get("role")),
            state=_text(document.get("state")),
            api_url=_text(document.get("api_url")),
            host=_text(document.get("host")),
            port=_number(document.get("port")),
            timeline=_number(document.get("timeline")),
            lag=_number(document.get("lag")),
            tags=_mapping(document.get("tags")),
            pending_restart=document.get("pending_restart") is True,
            document=document,
        )


@frozen
class Cluster:
    """A cluster, as ``GET /cluster`` shows it.

    :param scope: its name.
    :param members: its members.
    :param paused: automatic failover is off.
    :param document: all that was told.
    """

    scope: str | None
    members: tuple[Member, ...]
    paused: bool = False
    document: Mapping[str, Any] = field(factory=dict, eq=False, repr=False)

    @property
    def leader(self) -> Member | None:
        """The leader, ``None`` while there is none."""
        return next((member for member in self.members if member.leads), None)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Cluster:
        """Read the document of ``GET /cluster``.

        :param document: the document.
        """
        members = tuple(map(Member.of, _documents(document.get("members"))))
        scope = _text(document.get("scope"))
        return cls(scope, members, document.get("pause") is True, document)


@frozen
class NodeStatus:
    """What a node says of itself, as ``GET /patroni`` shows it.

    :param name: its name.
    :param scope: the cluster's name.
    :param state: PostgreSQL's state.
    :param role: ``primary``, ``replica``, ``standby_leader`` ...
    :param server_version: PostgreSQL's, as a number.
    :param timeline: its timeline.
    :param patroni_version: the engine's.
    :param pending_restart: parameters wait for a restart.
    :param drained: load balancers are told to leave it.
    :param document: all that was told.
    """

    name: str | None
    scope: str | None
    state: str | None
    role: str | None
    server_version: int | None = None
    timeline: int | None = None
    patroni_version: str | None = None
    pending_restart: bool = False
    drained: bool = False
    document: Mapping[str, Any] = field(factory=dict, eq=False, repr=False)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> NodeStatus:
        """Read the document of ``GET /patroni``.

        :param document: the document.
        """
        patroni = _mapping(document.get("patroni"))
        return cls(
            name=_text(patroni.get("name")),
            scope=_text(patroni.get("scope")),
            state=_text(document.get("state")),
            role=_text(document.get("role")),
            server_version=_number(document.get("server_version")),
            timeline=_number(document.get("timeline")),
            patroni_version=_text(patroni.get("version")),
            pending_restart=document.get("pending_restart") is True,
            drained=isinstance(document.get("drain"), dict),
            document=document,
        )


@frozen
class HistoryEntry:
    """The end of a timeline.

    :param timeline: which one.
    :param lsn: where it ended.
    :param reason: why.
    :param time: when the next one began.
    :param leader: who led then.
    """

    timeline: int
    lsn: int | None = None
    reason: str | None = None
    time: datetime | None = None
    leader: str | None = None

    @classmethod
    def of(cls, line: list[Any]) -> HistoryEntry:
        """Read a line of ``GET /history``; old ones are shorter.

        :param line: the line.
        """
        timeline, lsn, reason, time, leader = [*line, *[None] * 5][:5]
        return cls(_number(timeline) or 0, _number(lsn), _text(reason), _time(time), _text(leader))


@frozen
class Operation:
    """Something that was asked for, as ``GET /operations/<id>`` shows it.

    :param id: its name.
    :param kind: what is done.
    :param state: ``accepted``, ``running``, ``succeeded``, ``failed``, ``cancelled``, ``unknown``.
    :param steps: what has happened so far.
    :param status: the HTTP status that a waiting client gets; ``None`` before the end.
    :param text: what it is told.
    :param cancellable: it can be called off.
    :param document: all that was told.
    """

    id: str
    kind: str | None
    state: str | None
    steps: tuple[str, ...] = ()
    status: int | None = None
    text: str | None = None
    cancellable: bool = False
    document: Mapping[str, Any] = field(factory=dict, eq=False, repr=False)

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state in ("succeeded", "failed", "cancelled", "unknown")

    @property
    def succeeded(self) -> bool:
        """Whether it was done."""
        return self.state == "succeeded"

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Operation:
        """Read an operation's document.

        :param document: the document.
        """
        result = _mapping(document.get("result"))
        steps = (_text(step.get("text")) for step in _documents(document.get("steps")))
        return cls(
            id=_text(document.get("id")) or "",
            kind=_text(document.get("kind")),
            state=_text(document.get("state")),
            steps=tuple(step for step in steps if step is not None),
            status=_number(result.get("status")),
            text=_text(result.get("text")),
            cancellable=document.get("cancellable") is True,
            document=document,
        )


@frozen
class Outcome:
    """How something that was asked for has ended.

    :param status: the HTTP status: 200, or 202 for what is scheduled.
    :param text: the sentence that the node says of it.
    """

    status: int
    text: str

    @property
    def scheduled(self) -> bool:
        """Whether it is still to come."""
        return self.status == 202

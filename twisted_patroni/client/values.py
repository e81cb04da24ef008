"""What a node tells, as frozen values. What is missing or strange in a document is ``None``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from twisted_patroni.client.shapes import documents, mapping, moment, number, text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


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

    >>> member = (await node.cluster()).members[1]
    >>> member.name, member.role, member.lag, member.leads
    ('b', 'replica', 0, False)
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
        """Whether it is the leader, of the cluster or of a standby cluster.

        >>> [member.leads for member in (await node.cluster()).members]
        [True, False, False]
        """
        return self.role in ("leader", "standby_leader")

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Member:
        """Read a member's document.

        :param document: the document.

        >>> Member.of({"name": "b", "role": "replica", "lag": 16}).lag
        16
        """
        return cls(
            name=text(document.get("name")) or "",
            role=text(document.get("role")),
            state=text(document.get("state")),
            api_url=text(document.get("api_url")),
            host=text(document.get("host")),
            port=number(document.get("port")),
            timeline=number(document.get("timeline")),
            lag=number(document.get("lag")),
            tags=mapping(document.get("tags")),
            pending_restart=document.get("pending_restart") is True,
            document=document,
        )


@frozen
class Schedule:
    """A switchover that is still to come.

    :param at: when.
    :param leader: who leads until then.
    :param candidate: who is to lead then; ``None`` for the best.

    >>> from datetime import datetime, timezone
    >>> _ = await node.switchover("a", "b", at=datetime(2100, 1, 1, tzinfo=timezone.utc))
    >>> schedule = (await node.cluster()).switchover
    >>> schedule.at.year, schedule.leader, schedule.candidate
    (2100, 'a', 'b')
    """

    at: datetime | None
    leader: str | None = None
    candidate: str | None = None

    @classmethod
    def of(cls, document: object) -> Schedule | None:
        """Read a scheduled switchover's document, which may not be there.

        :param document: the document.

        >>> Schedule.of({"at": "2100-01-01T00:00:00+00:00", "from": "a", "to": "b"}).candidate
        'b'
        """
        if not isinstance(document, dict) or not document:
            return None
        leader, candidate = text(document.get("from")), text(document.get("to"))
        return cls(moment(document.get("at")), leader, candidate)


@frozen
class Cluster:
    """A cluster, as ``GET /cluster`` shows it.

    :param scope: its name.
    :param members: its members.
    :param paused: automatic failover is off.
    :param switchover: the one that is scheduled.
    :param document: all that was told.

    >>> cluster = await node.cluster()
    >>> cluster.scope, cluster.leader.name, len(cluster.members), cluster.paused
    ('demo', 'a', 3, False)
    """

    scope: str | None
    members: tuple[Member, ...]
    paused: bool = False
    switchover: Schedule | None = None
    document: Mapping[str, Any] = field(factory=dict, eq=False, repr=False)

    @property
    def leader(self) -> Member | None:
        """The leader, ``None`` while there is none.

        >>> (await node.cluster()).leader.name
        'a'
        """
        return next((member for member in self.members if member.leads), None)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Cluster:
        """Read the document of ``GET /cluster``.

        :param document: the document.

        >>> Cluster.of({"scope": "demo", "members": [{"name": "a", "role": "leader"}]}).leader.name
        'a'
        """
        members = tuple(map(Member.of, documents(document.get("members"))))
        scope, switchover = text(document.get("scope")), document.get("scheduled_switchover")
        paused = document.get("pause") is True
        return cls(scope, members, paused, Schedule.of(switchover), document)


@frozen
class Drain:
    """A node that load balancers are told to leave.

    :param since: when that was asked for.
    :param owner: by whom.
    :param reason: what for.
    :param expires: when it ends by itself; ``None`` for never.
    :param primary: checks that look for a primary are told so, too.

    >>> drain = await node.drain("new kernel", owner="joe")
    >>> drain.owner, drain.primary, drain.expires
    ('joe', False, None)
    """

    since: datetime | None = None
    owner: str | None = None
    reason: str | None = None
    expires: datetime | None = None
    primary: bool = False

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Drain:
        """Read the document of ``GET /drain``.

        :param document: the document.

        >>> Drain.of({"reason": "new kernel", "primary": False}).reason
        'new kernel'
        """
        return cls(
            since=moment(document.get("since")),
            owner=text(document.get("owner")),
            reason=text(document.get("reason")),
            expires=moment(document.get("expires")),
            primary=document.get("primary") is True,
        )


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
    :param replication_state: a replica's: ``streaming`` or ``in archive recovery``.
    :param paused: automatic failover is off.
    :param tags: its tags.
    :param drain: load balancers are told to leave it.
    :param document: all that was told.

    >>> status = await node.status()
    >>> status.role, status.state, status.timeline, status.drained
    ('primary', 'running', 3, False)
    >>> status.document["xlog"]
    {'location': 83886176}
    """

    name: str | None
    scope: str | None
    state: str | None
    role: str | None
    server_version: int | None = None
    timeline: int | None = None
    patroni_version: str | None = None
    pending_restart: bool = False
    replication_state: str | None = None
    paused: bool = False
    tags: Mapping[str, Any] = field(factory=dict)
    drain: Drain | None = None
    document: Mapping[str, Any] = field(factory=dict, eq=False, repr=False)

    @property
    def drained(self) -> bool:
        """Whether load balancers are told to leave it.

        >>> _ = await node.drain()
        >>> (await node.status()).drained
        True
        """
        return self.drain is not None

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> NodeStatus:
        """Read the document of ``GET /patroni``.

        :param document: the document.

        >>> NodeStatus.of({"state": "running", "role": "primary", "patroni": {"name": "a"}}).name
        'a'
        """
        patroni, drain = mapping(document.get("patroni")), document.get("drain")
        return cls(
            name=text(patroni.get("name")),
            scope=text(patroni.get("scope")),
            state=text(document.get("state")),
            role=text(document.get("role")),
            server_version=number(document.get("server_version")),
            timeline=number(document.get("timeline")),
            patroni_version=text(patroni.get("version")),
            pending_restart=document.get("pending_restart") is True,
            replication_state=text(document.get("replication_state")),
            paused=document.get("pause") is True,
            tags=mapping(document.get("tags")),
            drain=Drain.of(drain) if isinstance(drain, dict) else None,
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

    >>> _ = await node.switchover("a", "b")
    >>> entry = (await node.history())[-1]
    >>> entry.timeline, entry.leader, entry.reason
    (3, 'b', 'no recovery target specified')
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

        >>> HistoryEntry.of([3, 83886176, "no recovery target specified"]).timeline
        3
        """
        timeline, lsn, reason, time, leader = [*line, *[None] * 5][:5]
        return cls(number(timeline) or 0, number(lsn), text(reason), moment(time), text(leader))


@frozen
class Operation:
    """Something that was asked for, as ``GET /operations/<id>`` shows it.

    :param id: its name.
    :param kind: what is done.
    :param state: ``accepted``, ``running``, ``succeeded``, ``failed``, ``cancelled``, ``unknown``.
    :param node: where it was asked for.
    :param created: when it was asked for.
    :param scheduled_at: when it is to begin, if that is not at once.
    :param steps: what has happened so far.
    :param status: the HTTP status that a waiting client gets; ``None`` before the end.
    :param text: what it is told.
    :param cancellable: it can be called off.
    :param document: all that was told.

    >>> operation = await node.wait(await node.begin.restart())
    >>> operation.kind, operation.succeeded, operation.text
    ('restart', True, 'restarted successfully')
    """

    id: str
    kind: str | None
    state: str | None
    node: str | None = None
    created: datetime | None = None
    scheduled_at: datetime | None = None
    steps: tuple[str, ...] = ()
    status: int | None = None
    text: str | None = None
    cancellable: bool = False
    document: Mapping[str, Any] = field(factory=dict, eq=False, repr=False)

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it.

        >>> Operation("op-1", "restart", "running").ended
        False
        """
        return self.state in ("succeeded", "failed", "cancelled", "unknown")

    @property
    def succeeded(self) -> bool:
        """Whether it was done.

        >>> Operation("op-1", "restart", "failed").succeeded
        False
        """
        return self.state == "succeeded"

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Operation:
        """Read an operation's document.

        :param document: the document.

        >>> Operation.of({"id": "op-1", "kind": "restart", "state": "failed"}).ended
        True
        """
        result = mapping(document.get("result"))
        steps = (text(step.get("text")) for step in documents(document.get("steps")))
        return cls(
            id=text(document.get("id")) or "",
            kind=text(document.get("kind")),
            state=text(document.get("state")),
            node=text(document.get("node")),
            created=moment(document.get("created")),
            scheduled_at=moment(document.get("scheduled_at")),
            steps=tuple(step for step in steps if step is not None),
            status=number(result.get("status")),
            text=text(result.get("text")),
            cancellable=document.get("cancellable") is True,
            document=document,
        )

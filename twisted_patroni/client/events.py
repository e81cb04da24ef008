"""What a node tells of when it happens, as frozen values, one class for each type of event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from twisted_patroni.client.shapes import documents, mapping, moment, number, text, texts
from twisted_patroni.client.values import HistoryEntry, Member, Operation, Schedule

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from typing import Self


@frozen(kw_only=True)
class Event:
    """Something that has happened; of a type that has no class here it is this one.

    :param type: what kind of thing.
    :param number: grows with each event of a node.
    :param time: when the node saw it.
    :param position: where to go on after it: see the parameter ``after`` of
        :meth:`~twisted_patroni.client.node.Node.follow`.
    :param document: all that was told, as :meth:`~twisted_patroni.client.picture.Picture.after`
        takes it.

    >>> event_of({"type": "leader", "number": 7, "data": {"old": "a", "new": "b"}}).new
    'b'
    """

    type: str
    number: int | None = None
    time: datetime | None = None
    position: str | None = None
    document: Mapping[str, Any] = field(factory=dict, eq=False, repr=False)

    @property
    def data(self) -> Mapping[str, Any]:
        """What was told of it, as the node told it.

        >>> event = Event.of({"type": "leader", "data": {"new": "b"}})
        >>> event.data["new"]
        'b'
        """
        return mapping(self.document.get("data"))

    @classmethod
    def of(cls, document: Mapping[str, Any], position: str | None = None) -> Self:
        """Read an event's document.

        :param document: the document.
        :param position: where to go on after it.

        >>> LeaderEvent.of({"type": "leader", "data": {"new": "b"}}, "7.6fa3c001").position
        '7.6fa3c001'
        """
        return cls(
            type=text(document.get("type")) or "",
            number=number(document.get("number")),
            time=moment(document.get("time")),
            position=position,
            document=document,
            **cls._fields(mapping(document.get("data"))),
        )

    @classmethod
    def _fields(cls, data: Mapping[str, Any]) -> dict[str, Any]:
        return {}


@frozen(kw_only=True)
class Snapshot(Event):
    """All that is now: comes first, and wherever events were lost.

    :param scope: the cluster's name.
    :param leader: who leads.
    :param timeline: the leader's.
    :param members: the members.
    :param paused: automatic failover is off.
    :param operations: those that have not ended.

    >>> async for event in node.follow():
    ...     print(event.leader, [member.name for member in event.members])
    ...     break
    a ['a', 'b', 'c']
    """

    scope: str | None = None
    leader: str | None = None
    timeline: int | None = None
    members: tuple[Member, ...] = ()
    paused: bool = False
    operations: tuple[Operation, ...] = ()

    @classmethod
    def _fields(cls, data: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "scope": text(data.get("scope")),
            "leader": text(data.get("leader")),
            "timeline": number(data.get("timeline")),
            "members": tuple(map(Member.of, documents(data.get("members")))),
            "paused": data.get("paused") is True,
            "operations": tuple(map(Operation.of, documents(data.get("operations")))),
        }


@frozen(kw_only=True)
class Gap(Event):
    """Events are lost: the node does not keep those after the position. A snapshot comes next.

    :param after: the position that was asked for.

    >>> async for event in node.follow(after="7"):
    ...     print(event.type, event.after)
    ...     break
    gap 7
    """

    after: str | None = None

    @classmethod
    def _fields(cls, data: Mapping[str, Any]) -> dict[str, Any]:
        after = data.get("after")
        return {"after": None if after is None else str(after)}


@frozen(kw_only=True)
class LeaderEvent(Event):
    """Another member has taken the leader key.

    :param old: who led before.
    :param new: who leads now.

    >>> data = {"old": "a", "new": "b", "timeline": None}
    >>> event = event_of({"type": "leader", "data": data})
    >>> event.old, event.new
    ('a', 'b')
    """

    old: str | None = None
    new: str | None = None

    @classmethod
    def _fields(cls, data: Mapping[str, Any]) -> dict[str, Any]:
        return {"old": text(data.get("old")), "new": text(data.get("new"))}


@frozen(kw_only=True)
class MemberEvent(Event):
    """A member has joined, left or changed.

    :param name: who.
    :param change: ``joined``, ``left`` or ``changed``.
    :param member: as it is now; ``None`` if it has left.
    :param changed: what is different, if it has changed.

    >>> event_of({"type": "member", "data": {"name": "b", "change": "left"}}).member is None
    True
    """

    name: str | None = None
    change: str | None = None
    member: Member | None = None
    changed: tuple[str, ...] = ()

    @classmethod
    def _fields(cls, data: Mapping[str, Any]) -> dict[str, Any]:
        member = data.get("member")
        return {
            "name": text(data.get("name")),
            "change": text(data.get("change")),
            "member": Member.of(member) if isinstance(member, dict) else None,
            "changed": texts(data.get("changed")),
        }


@frozen(kw_only=True)
class ClusterEvent(Event):
    """Something that concerns the cluster as a whole has changed.

    :param leader: who leads.
    :param timeline: the leader's, when it is known.
    :param locked: there is a leader.
    :param paused: automatic failover is off.
    :param switchover: the one that is scheduled.
    :param changed: what is different.

    >>> data = {"leader": "a", "locked": True, "paused": True, "changed": ["paused"]}
    >>> event_of({"type": "cluster", "data": data}).paused
    True
    """

    leader: str | None = None
    timeline: int | None = None
    locked: bool = True
    paused: bool = False
    switchover: Schedule | None = None
    changed: tuple[str, ...] = ()

    @classmethod
    def _fields(cls, data: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "leader": text(data.get("leader")),
            "timeline": number(data.get("timeline")),
            "locked": data.get("locked") is not False,
            "paused": data.get("paused") is True,
            "switchover": Schedule.of(data.get("switchover")),
            "changed": texts(data.get("changed")),
        }


@frozen(kw_only=True)
class NodeEvent(Event):
    """The node itself has changed.

    :param name: its name.
    :param state: PostgreSQL's state.
    :param role: its role.
    :param changed: what is different.

    >>> event_of({"type": "node", "data": {"state": "stopping"}}).state
    'stopping'
    """

    name: str | None = None
    state: str | None = None
    role: str | None = None
    changed: tuple[str, ...] = ()

    @classmethod
    def _fields(cls, data: Mapping[str, Any]) -> dict[str, Any]:
        known = {key: text(data.get(key)) for key in ("name", "state", "role")}
        return {**known, "changed": texts(data.get("changed"))}


@frozen(kw_only=True)
class ConfigEvent(Event):
    """The dynamic configuration has changed.

    :param changed: for each key, with dots between its parts, what it was and what it is.

    >>> data = {"changed": {"ttl": {"old": 30, "new": 20}}}
    >>> event_of({"type": "config", "data": data}).changed
    {'ttl': (30, 20)}
    """

    changed: Mapping[str, tuple[Any, Any]] = field(factory=dict)

    @classmethod
    def _fields(cls, data: Mapping[str, Any]) -> dict[str, Any]:
        changed = mapping(data.get("changed")).items()
        values = ((key, mapping(each)) for key, each in changed)
        return {"changed": {key: (each.get("old"), each.get("new")) for key, each in values}}


@frozen(kw_only=True)
class HistoryEvent(Event):
    """The history has a new line.

    :param entry: the line.

    >>> event_of({"type": "history", "data": {"timeline": 7, "leader": "b"}}).entry.leader
    'b'
    """

    entry: HistoryEntry = field(factory=lambda: HistoryEntry(0))

    @classmethod
    def _fields(cls, data: Mapping[str, Any]) -> dict[str, Any]:
        keys = ("timeline", "lsn", "reason", "time", "leader")
        return {"entry": HistoryEntry.of([data.get(key) for key in keys])}


@frozen(kw_only=True)
class OperationEvent(Event):
    """An operation of the node goes on.

    :param operation: as it is now.

    >>> data = {"id": "op-1", "kind": "restart", "state": "running"}
    >>> event_of({"type": "operation", "data": data}).operation.state
    'running'
    """

    operation: Operation = field(factory=lambda: Operation("", None, None))

    @classmethod
    def _fields(cls, data: Mapping[str, Any]) -> dict[str, Any]:
        return {"operation": Operation.of(data)}


_TYPES: Mapping[str, type[Event]] = {
    "snapshot": Snapshot,
    "gap": Gap,
    "leader": LeaderEvent,
    "member": MemberEvent,
    "cluster": ClusterEvent,
    "node": NodeEvent,
    "config": ConfigEvent,
    "history": HistoryEvent,
    "operation": OperationEvent,
}


def event_of(document: Mapping[str, Any], position: str | None = None) -> Event:
    """Return the event that a document tells of, of the class for its type.

    :param document: the document, as a node sends it.
    :param position: where to go on after it.

    >>> type(event_of({"type": "leader", "data": {"new": "b"}})).__name__
    'LeaderEvent'
    """
    return _TYPES.get(text(document.get("type")) or "", Event).of(document, position)

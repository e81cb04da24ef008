"""What a cluster looks like: a snapshot, and each event that came after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import evolve, field, frozen

from twisted_patroni.client.shapes import documents, mapping, number, text, texts
from twisted_patroni.client.values import Member, Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

#: Of each kind, how many are remembered.
MAX_MEMBERS, MAX_OPERATIONS = 500, 100


@frozen
class Picture:
    """The cluster as it is known.

    :param scope: the cluster's name.
    :param leader: who holds the leader lock.
    :param timeline: the leader's timeline.
    :param locked: somebody holds it.
    :param paused: nobody is to do anything by itself.
    :param failsafe: the failsafe mode is active.
    :param dcs: the node that tells reaches the DCS.
    :param switchover: the scheduled switchover's ``from``, ``to`` and ``at``.
    :param sync: the synchronous standbys.
    :param members: the members by name.
    :param node: what the node that tells says of itself.
    :param operations: the unfinished operations by id.
    :param known: there has been a snapshot.
    """

    scope: str = ""
    leader: str | None = None
    timeline: int | None = None
    locked: bool = True
    paused: bool = False
    failsafe: bool = False
    dcs: bool = True
    switchover: Mapping[str, Any] = field(factory=dict)
    sync: tuple[str, ...] = ()
    members: Mapping[str, Member] = field(factory=dict)
    node: Mapping[str, Any] = field(factory=dict)
    operations: Mapping[str, Mapping[str, Any]] = field(factory=dict)
    known: bool = False

    def after(self, event: Mapping[str, Any]) -> Picture:
        """Return what it looks like after an event.

        :param event: the event's object, or a snapshot's.
        """
        data = event.get("data")
        change = _CHANGES.get(text(event.get("type")) or "")
        return change(self, data) if change is not None and isinstance(data, dict) else self

    def with_lags(self, documents: Sequence[Mapping[str, Any]]) -> Picture:
        """Return what it looks like now that it is known how far the members are behind.

        :param documents: the members' documents.
        """
        members = dict(self.members)
        for new in map(Member.of, documents):
            if new.name in members:
                document = {**members[new.name].document, "lag": new.lag}
                members[new.name] = evolve(members[new.name], lag=new.lag, document=document)
        return evolve(self, members=members)


def _snapshot(picture: Picture, data: Mapping[str, Any]) -> Picture:
    members = [Member.of(each) for each in documents(data.get("members"))[:MAX_MEMBERS]]
    operations = documents(data.get("operations"))[:MAX_OPERATIONS]
    return Picture(
        scope=text(data.get("scope")) or "",
        leader=text(data.get("leader")),
        timeline=number(data.get("timeline")),
        locked=data.get("locked") is not False,
        paused=data.get("paused") is True,
        failsafe=data.get("failsafe") is True,
        dcs=data.get("dcs") is not False,
        switchover=mapping(data.get("switchover")),
        sync=texts(data.get("sync")),
        members={each.name: each for each in members if each.name},
        node=mapping(data.get("node")),
        operations={str(each.get("id")): each for each in operations},
        known=True,
    )


def _leader(picture: Picture, data: Mapping[str, Any]) -> Picture:
    new = text(data.get("new"))
    timeline = number(data.get("timeline"))
    return evolve(
        picture,
        leader=new,
        timeline=picture.timeline if timeline is None else timeline,
        locked=picture.locked or new is not None,
    )


def _member(picture: Picture, data: Mapping[str, Any]) -> Picture:
    members = dict(picture.members)
    document = mapping(data.get("member"))
    name = text(data.get("name")) or text(document.get("name"))
    if name is None:
        return picture
    if data.get("change") == "left":
        members.pop(name, None)
        return evolve(picture, members=members)
    if document and (name in members or len(members) < MAX_MEMBERS):
        members[name] = Member.of({**document, "name": name})
    timeline = picture.timeline
    if name == picture.leader and name in members:
        timeline = members[name].timeline or timeline
    return evolve(picture, members=members, timeline=timeline)


def _node(picture: Picture, data: Mapping[str, Any]) -> Picture:
    known = ("name", "state", "role", "pending_restart", "drain")
    return evolve(
        picture, node={**picture.node, **{key: data[key] for key in known if key in data}}
    )


def _cluster(picture: Picture, data: Mapping[str, Any]) -> Picture:
    return evolve(
        picture,
        # Without a leader the screen goes on to show the last one, as unlocked.
        leader=text(data.get("leader")) or picture.leader,
        timeline=number(data.get("timeline")) or picture.timeline,
        locked=data.get("locked", picture.locked) is not False,
        paused=data.get("paused", picture.paused) is True,
        failsafe=data.get("failsafe", picture.failsafe) is True,
        dcs=data.get("dcs", picture.dcs) is not False,
        switchover=mapping(data.get("switchover", picture.switchover)),
        sync=texts(data["sync"]) if "sync" in data else picture.sync,
    )


def _operation(picture: Picture, data: Mapping[str, Any]) -> Picture:
    operations = dict(picture.operations)
    key = str(data.get("id"))
    if Operation.of(data).ended:
        operations.pop(key, None)
    elif key in operations or len(operations) < MAX_OPERATIONS:
        operations[key] = data
    return evolve(picture, operations=operations)


_CHANGES: Mapping[str, Callable[[Picture, Mapping[str, Any]], Picture]] = {
    "snapshot": _snapshot,
    "leader": _leader,
    "member": _member,
    "node": _node,
    "cluster": _cluster,
    "operation": _operation,
}

"""Events in the words of people: one or more short sentences for each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from twisted_patroni.client.picture import Picture
from twisted_patroni.client.shapes import listed, mapping, number, text
from twisted_patroni.watch.text import at, clean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from twisted_patroni.client.values import Member

#: Of a list, how many are named.
MOST = 20


def sentences(event: Mapping[str, Any], before: Picture) -> list[str]:
    """Say what an event tells; an empty list if that is nothing new.

    The texts are fit for a terminal.

    :param event: the event's object, or that of a snapshot or a gap.
    :param before: the picture before it.
    """
    kind = text(event.get("type")) or ""
    data = mapping(event.get("data"))
    if kind == "snapshot":
        return list(_snapshot(before, before.after(event)))
    teller = _TELLERS.get(kind)
    if teller is None:
        return [clean(f"{kind}: {_short(data)}")]
    return [clean(each) for each in teller(data)]


def _short(value: object) -> str:
    """Write a value as one knows it from configuration files."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def _or(value: object, otherwise: str = "nobody") -> str:
    return value if isinstance(value, str) and value else otherwise


def _leader(data: Mapping[str, Any]) -> Iterator[str]:
    timeline = data.get("timeline")
    where = "" if timeline is None else f" (timeline {_short(timeline)})"
    new = _or(data.get("new"))
    old = text(data.get("old"))
    yield f"leader: {new}{where}" if old is None else f"leader: {old} -> {new}{where}"


def _member(data: Mapping[str, Any]) -> Iterator[str]:
    name, change = _or(data.get("name"), "?"), data.get("change")
    member, old = mapping(data.get("member")), mapping(data.get("old"))
    if change == "joined":
        yield (
            f"{name}: joined the cluster ({_or(member.get('role'), '?')},"
            f" {_or(member.get('state'), '?')})"
        )
    elif change == "left":
        yield f"{name}: left the cluster"
    else:
        names = [each for each in listed(data.get("changed"))[:MOST] if isinstance(each, str)]
        # A leader is not behind: that it was before, or is now, the role says.
        lags = [each.get("lag_class") for each in (old, member)]
        told = [each for each in names if each != "lag_class" or None not in lags]
        if told:
            yield f"{name}: {', '.join(_change(each, old, member) for each in told)}"


def _change(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    label = name.replace("_", " ").replace("lag class", "lag")
    if name == "pending_restart" and isinstance(new.get(name), bool):
        return "waits for a restart" if new[name] else "waits for no restart any more"
    if name == "pending_restart":
        names = ", ".join(_short(each) for each in listed(new.get(name))[:MOST])
        return f"waits for a restart ({names})" if names else "waits for no restart any more"
    before, after = (_value(name, each.get(name)) for each in (old, new))
    return f"{label} {before} -> {after}"


def _value(name: str, value: object) -> str:
    if name == "timeline" and value is None:
        return "unknown"
    if name == "scheduled_restart":
        return scheduled(value) or "none"
    return _plain(value)


def scheduled(restart: object) -> str:
    """Say when a member is to restart by itself; nothing if it is not.

    :param restart: the document, or the time alone.
    """
    when = mapping(restart).get("schedule") if isinstance(restart, dict) else restart
    return at(when) if when else ""


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key}={_short(each)}" for key, each in value.items()) or "none"
    if value is None or value in ("", []):
        return "none"
    return _short(value)


def _node(data: Mapping[str, Any]) -> Iterator[str]:
    name, old = _or(data.get("name"), "?"), mapping(data.get("old"))
    for each in listed(data.get("changed"))[:MOST]:
        if each == "drain":
            drain = data.get("drain")
            yield f"{name}: " + ("is drained no more" if drain is None else drained(drain))
        elif isinstance(each, str):
            # The cluster has its own, later, view of the same, which a member's events tell.
            yield f"{name} itself: {_change(each, old, data)}"


def drained(drain: object) -> str:
    """Say that a node is drained, and what is known of it.

    :param drain: the document.
    """
    document = mapping(drain)
    owner, reason, expires = (document.get(key) for key in ("owner", "reason", "expires"))
    details = [
        *([_short(reason)] if reason else []),
        *([f"by {_short(owner)}"] if owner else []),
        *([f"until {at(expires)}"] if expires else []),
        *(["as a primary, too"] if document.get("primary") is True else []),
    ]
    return "is drained" + (f" ({', '.join(details)})" if details else "")


def planned(switchover: Mapping[str, Any]) -> str:
    """Say which switchover is scheduled.

    :param switchover: its ``from``, ``to`` and ``at``.
    """
    when = switchover.get("at")
    begins = "" if when is None else f" at {at(when)}"
    return (
        f"{_or(switchover.get('from'), 'the leader')} ->"
        f" {_or(switchover.get('to'), 'any member')}{begins}"
    )


_FLAGS = {
    "paused": ("paused", "resumed"),
    "locked": ("somebody holds the leader lock", "nobody holds the leader lock"),
    "failsafe": ("the failsafe mode is active", "the failsafe mode is over"),
    "dcs": ("the DCS can be reached", "the DCS cannot be reached"),
}


def _cluster(data: Mapping[str, Any]) -> Iterator[str]:
    for each in listed(data.get("changed"))[:MOST]:
        if each == "switchover":
            plan = mapping(data.get(each))
            yield f"switchover scheduled: {planned(plan)}" if plan else "no switchover scheduled"
        elif each == "sync":
            names = ", ".join(map(_short, listed(data.get(each))[:MOST]))
            yield f"cluster: synchronous standbys: {names or 'none'}"
        elif each == "timeline":
            if data.get(each) is not None:  # nobody leads, or he has yet to publish his own
                yield f"cluster: timeline {_plain(data[each])}"
        elif each in _FLAGS:
            yield f"cluster: {_FLAGS[each][0 if data.get(each) else 1]}"


def _config(data: Mapping[str, Any]) -> Iterator[str]:
    changes = mapping(data.get("changed"))
    for key, change in list(changes.items())[:MOST]:
        values = mapping(change)
        yield f"config: {key} {_plain(values.get('old'))} -> {_plain(values.get('new'))}"
    if len(changes) > MOST:
        yield f"config: and {len(changes) - MOST} more"


def operation(data: Mapping[str, Any], since: str = "") -> str:
    """Say how an operation is.

    :param data: its document.
    :param since: for how long it has been running.
    """
    steps = listed(data.get("steps"))
    result = mapping(data.get("result"))
    said = result.get("text") or (mapping(steps[-1]).get("text") if steps else None)
    told = f": {_short(said)}" if said else ""
    where = f" on {data['node']}" if text(data.get("node")) else ""
    return f"{_or(data.get('kind'), 'operation')}{where} {_or(data.get('state'), '?')}{since}{told}"


def _operation(data: Mapping[str, Any]) -> Iterator[str]:
    yield operation(data)


def _history(data: Mapping[str, Any]) -> Iterator[str]:
    leader = text(data.get("leader"))
    then = f", then {leader} led" if leader else ""
    yield (
        f"history: timeline {_short(data.get('timeline'))} ended at {_position(data.get('lsn'))}:"
        f" {_short(data.get('reason'))}{then}"
    )


def _position(value: object) -> str:
    """Write a position in the WAL as PostgreSQL does."""
    found = number(value)
    return _short(value) if found is None else f"{found >> 32:X}/{found & 0xFFFFFFFF:X}"


def _gap(data: Mapping[str, Any]) -> Iterator[str]:
    yield "some events were missed; what follows is how it is now"


_TELLERS: Mapping[str, Callable[[Mapping[str, Any]], Iterator[str]]] = {
    "leader": _leader,
    "member": _member,
    "node": _node,
    "cluster": _cluster,
    "config": _config,
    "operation": _operation,
    "history": _history,
    "gap": _gap,
}


def _snapshot(before: Picture, after: Picture) -> Iterator[str]:
    """Say how all is, or, to whom has known it before, what is different."""
    if not before.known or before.scope != after.scope:
        members = ", ".join(_introduced(each) for each in list(after.members.values())[:MOST])
        timeline = "" if after.timeline is None else f", timeline {after.timeline}"
        yield clean(f"cluster {after.scope}: leader {_or(after.leader)}{timeline}")
        yield clean(f"members: {members or 'none'}", 2000)
        before = Picture(members=after.members, leader=after.leader)
    if before.leader != after.leader:
        yield clean(
            next(_leader({"old": before.leader, "new": after.leader, "timeline": after.timeline}))
        )
    for name in after.members.keys() - before.members.keys():
        yield clean(f"{_introduced(after.members[name])} joined the cluster")
    for name in before.members.keys() - after.members.keys():
        yield clean(f"{name}: left the cluster")
    for name in sorted(after.members.keys() & before.members.keys()):
        yield from _compared(before.members[name], after.members[name])
    flags = [name for name in _FLAGS if getattr(before, name) != getattr(after, name)]
    plan = ["switchover"] if before.switchover != after.switchover else []
    data = {name: getattr(after, name) for name in (*flags, *plan)}
    yield from map(clean, _cluster({"changed": [*flags, *plan], **data}))


def _introduced(member: Member) -> str:
    return f"{member.name} ({member.role or '?'}, {member.state or '?'})"


def _compared(old: Member, new: Member) -> Iterator[str]:
    names = ("role", "state", "pending_restart")
    changed = [name for name in names if getattr(old, name) != getattr(new, name)]
    if changed:
        values = [{name: getattr(each, name) for name in names} for each in (old, new)]
        changes = ", ".join(_change(name, *values) for name in changed)
        yield clean(f"{new.name}: {changes}")

"""What has changed between two views, as the data of events. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from attrs import frozen

from twisted_patroni.events.model import (
    MemberState,
    NodeState,
    View,
    history_document,
    history_lines,
)

if TYPE_CHECKING:
    from collections.abc import Iterable


@frozen
class Change:
    """What an event is made of.

    :param type: the event's type.
    :param data: the event's data.
    """

    type: str
    data: Mapping[str, Any]


def changes(old: View, new: View) -> list[Change]:
    """Return what has changed from one view to the next, the leader first.

    :param old: the earlier view.
    :param new: the later one.
    """
    return [
        *_leader(old, new),
        *_cluster(old, new),
        *_members(old, new),
        *_node(old.node, new.node),
        *_config(old.config, new.config),
        *_history(old, new),
    ]


def lag_class(lag: int | None, maximum: int, before: str | None) -> str:
    """Return whether a member is far behind; it is close again only at half of the bound.

    :param lag: bytes behind the leader, ``None`` if unknown.
    :param maximum: how far behind a candidate may be, in bytes.
    :param before: what this function has returned for the member before.
    """
    if lag is None:
        return "unknown"
    return "high" if lag > (maximum // 2 if before == "high" else maximum) else "low"


def _different(old: object, new: object, names: Iterable[str]) -> list[str]:
    return [name for name in names if getattr(old, name) != getattr(new, name)]


def _before(old: object, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(old, name) for name in names}


def _leader(old: View, new: View) -> Iterator[Change]:
    if new.leader is not None and new.leader != old.last_leader:
        told = {"old": old.last_leader, "new": new.leader, "timeline": new.timeline}
        yield Change("leader", told)


def _cluster(old: View, new: View) -> Iterator[Change]:
    changed = _different(old, new, View.ATTRIBUTES)
    if "timeline" in changed and any(_leader(old, new)):
        changed.remove("timeline")  # that event has it
    if changed:
        told = {"changed": changed, **new.cluster_document, "old": _before(old, changed)}
        yield Change("cluster", told)


def _members(old: View, new: View) -> Iterator[Change]:
    if old.members is new.members:
        return
    before = {member.name: member for member in old.members}
    after = {member.name: member for member in new.members}
    for name in sorted({*before, *after}):
        yield from _member(name, before.get(name), after.get(name))


def _member(name: str, old: MemberState | None, new: MemberState | None) -> Iterator[Change]:
    changed = [] if old is None or new is None else _different(old, new, MemberState.ATTRIBUTES)
    if old is None or new is None or changed:
        yield Change(
            "member",
            {
                "name": name,
                "change": "joined" if old is None else "left" if new is None else "changed",
                "changed": changed,
                "member": None if new is None else new.document,
                "old": {} if old is None else _before(old, changed),
            },
        )


def _node(old: NodeState, new: NodeState) -> Iterator[Change]:
    changed = _different(old, new, NodeState.ATTRIBUTES)
    if changed:
        yield Change("node", {**new.document, "changed": changed, "old": _before(old, changed)})


def _config(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> Iterator[Change]:
    if old is not None and new is not None and old != new:
        changed = dict(_differences(old, new, ""))
        if changed:
            yield Change("config", {"changed": changed})


def _differences(
    old: Mapping[str, Any], new: Mapping[str, Any], prefix: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    for key in sorted({*old, *new}, key=str):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from _differences(before, after, f"{prefix}{key}.")
        elif before != after and not (before != before and after != after):  # both no numbers
            yield f"{prefix}{key}", {"old": before, "new": after}


def _history(old: View, new: View) -> Iterator[Change]:
    if old.history is new.history:
        return
    last = max((line[0] for line in history_lines(old.history)), default=None)
    for line in history_lines(new.history):
        if last is None or line[0] > last:
            yield Change("history", history_document(line))

"""Events of a cluster in memory: how they are found, and how they are told as a stream."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from attrs import define, field
from twisted.web.client import ResponseDone

from twisted_patroni.client.testing.answers import MemoryResponse

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from twisted.internet.interfaces import IDelayedCall
    from twisted.internet.task import Clock

    from twisted_patroni.client.testing.nodes import MemoryNode, Shared

#: Seconds between two signs of life.
HEARTBEAT = 15.0
_HEADERS = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-store"}


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Return type and data of each event between two pictures, the leader first.

    :param old: the first.
    :param new: the second.
    """
    before, after = old["cluster"], new["cluster"]
    timeline = after["timeline"]
    has_new_leader = after["leader"] is not None and after["leader"] != old["last_leader"]
    if has_new_leader:
        told = {"old": old["last_leader"], "new": after["leader"], "timeline": timeline}
        yield "leader", told
    untold = ("leader", "timeline") if has_new_leader else ("leader",)
    if changed := _different(before, after, untold):
        yield "cluster", {"changed": changed, **after, "old": _old(before, changed)}
    for name in sorted({**old["members"], **new["members"]}):
        yield from _member(name, old["members"].get(name), new["members"].get(name))
    if changed := _different(old["node"], new["node"]):
        yield "node", {**new["node"], "changed": changed, "old": _old(old["node"], changed)}
    if changes := dict(_differences(old["config"], new["config"], "")):
        yield "config", {"changed": changes}
    for line in new["history"][len(old["history"]) :]:
        yield "history", line


def _member(name: str, old: Any, new: Any) -> Iterator[tuple[str, Any]]:
    is_both = old is not None and new is not None
    changed = _different(old, new, ("lag",)) if is_both else []
    if changed or not is_both:
        change = "joined" if old is None else "left" if new is None else "changed"
        before = {} if old is None else _old(old, changed)
        told = {"name": name, "change": change, "changed": changed, "member": new, "old": before}
        yield "member", told


def _different(
    old: Mapping[str, Any], new: Mapping[str, Any], untold: tuple[str, ...] = ()
) -> list[str]:
    return [key for key in new if key not in untold and old[key] != new[key]]


def _old(old: Mapping[str, Any], changed: list[str]) -> dict[str, Any]:
    return {key: old[key] for key in changed}


def _differences(
    old: Mapping[str, Any], new: Mapping[str, Any], prefix: str
) -> Iterator[tuple[str, Any]]:
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _differences(before, after, f"{prefix}{key}.")
        elif before != after:
            yield f"{prefix}{key}", {"old": before, "new": after}


@define(eq=False)
class Subscriber:
    """One client that follows a node.

    :param node: the node.
    :param shared: the cluster.
    :param types: the types of events that it wants; none for all.
    :ivar response: the answer.
    """

    node: MemoryNode
    shared: Shared
    types: frozenset[str]
    response: MemoryResponse = field(init=False)
    _sent: int = field(default=0, init=False)
    _beat: IDelayedCall | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.response = MemoryResponse(200, _HEADERS, self.leave)

    @property
    def _clock(self) -> Clock:
        return self.shared.clock

    def greet(self, position: str) -> None:
        """Begin: after a position, or with a snapshot.

        :param position: what the client came with; empty for nothing.
        """
        node = self.node
        self.response.send(b": \n\n")
        number, _, stream = position.partition(".")
        oldest = node.log[0]["number"] if node.log else node.newest + 1
        after = int(number) if number.isdigit() else 0
        if position and stream in ("", node.stream) and oldest - 1 <= after <= node.newest:
            self._sent = after
        else:
            if position:
                self._send("gap", {"after": after, "oldest": oldest}, None)
            self._send("snapshot", self.shared.snapshot(node), node.newest)
            self._sent = node.newest
        node.subscribers.append(self)
        self._beat = self._clock.callLater(HEARTBEAT, self._heart)
        self.flush()

    def flush(self) -> None:
        """Tell what has not been told yet."""
        for event in list(self.node.log):
            if event["number"] > self._sent and not self.node.silent:
                self._sent = event["number"]
                if not self.types or event["type"] in self.types:
                    self._write(event, self._sent)

    def _send(self, kind: str, data: Any, number: int | None) -> None:
        self._write(self.node.event(kind, data, self._clock.seconds()), number)

    def _write(self, event: Mapping[str, Any], number: int | None) -> None:
        name = "" if number is None else f"id: {number}.{self.node.stream}\n"
        text = json.dumps(event, separators=(",", ":"))
        self.response.send(f"event: {event['type']}\n{name}data: {text}\n\n".encode())

    def _heart(self) -> None:
        self._beat = self._clock.callLater(HEARTBEAT, self._heart)
        if not self.node.silent:
            self.response.send(b": \n\n")

    def leave(self) -> None:
        """Tell nothing more."""
        if self in self.node.subscribers:
            self.node.subscribers.remove(self)
        if self._beat is not None and self._beat.active():
            self._beat.cancel()

    def dismiss(self, reason: str) -> None:
        """End it, as a node does that shuts down.

        :param reason: why.
        """
        self.leave()
        self.response.send(b"event: end\ndata: %s\n\n" % json.dumps({"reason": reason}).encode())
        self.response.end(ResponseDone())

    def cut(self, reason: Exception) -> None:
        """End it without a word.

        :param reason: why.
        """
        self.leave()
        self.response.end(reason)

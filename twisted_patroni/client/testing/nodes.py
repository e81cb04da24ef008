"""What the members of a cluster in memory are, and the documents that they show."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from attrs import define, field

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twisted.internet.task import Clock

    from twisted_patroni.client.testing.answers import Answer
    from twisted_patroni.client.testing.events import Subscriber

#: Where the leader is in the WAL.
LSN = 0x5000060
#: Bytes behind the leader from which a lag is a high one.
HIGH_LAG = 1024 * 1024
#: Events that a node keeps.
KEPT = 1000
VERSION = "4.1.5"


def moment(seconds: float) -> str:
    """Return a time as the API shows it.

    :param seconds: Unix time.
    """
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _lsn(position: int) -> str:
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


@define(eq=False)
class MemoryNode:
    """One member.

    :param name: its name.
    :param url: where its API is.
    :param number: which of the members it is.
    :ivar alive: its process runs.
    :ivar listed: it is in the DCS.
    :ivar hung: the paths that it takes requests for without answering; ``None`` among them stands
        for all.
    :ivar refusal: with what connections to it fail.
    :ivar lag: bytes behind the leader; ``None`` if that is not known.
    :ivar claimed: the timeline of which it believes that it leads it, against all others.
    :ivar canned: answers by the path.
    :ivar delay: seconds until it answers.
    :ivar operations: the documents of what it was asked to do, oldest first.
    :ivar keys: by its key what was asked, and the answer.
    :ivar runs: how often its daemon has begun.
    :ivar log: the events that it keeps.
    :ivar told: what it has told by them, all in all; ``None`` if it has just begun.
    """

    name: str
    url: str
    number: int
    alive: bool = True
    listed: bool = True
    hung: set[str | None] = field(factory=set)
    refusal: Exception | None = None
    lag: int | None = 0
    state: str | None = None
    tags: dict[str, Any] = field(factory=dict)
    sync: bool = False
    claimed: int | None = None
    drain: dict[str, Any] | None = None
    restart: dict[str, Any] | None = None
    delay: float = 0.0
    canned: dict[str, Answer] = field(factory=dict)
    operations: list[dict[str, Any]] = field(factory=list)
    keys: dict[str, tuple[Any, Answer]] = field(factory=dict)
    runs: int = 1
    log: list[dict[str, Any]] = field(factory=list)
    newest: int = field(init=False)
    subscribers: list[Subscriber] = field(factory=list)
    told: Mapping[str, Any] | None = None

    def __attrs_post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Begin a new run of its daemon, which remembers neither events nor operations."""
        self.told = None
        self.log.clear()
        self.operations.clear()
        self.keys.clear()
        self.newest = 1_790_000_000_000 + 1_000_000 * self.runs + 10_000 * self.number

    @property
    def stream(self) -> str:
        """The name of its stream of events."""
        return f"{self.number:04x}{self.runs:04x}"

    @property
    def silent(self) -> bool:
        """Whether it answers nobody."""
        return None in self.hung

    def note(self, kind: str, data: Any, now: float) -> None:
        """Keep an event.

        :param kind: its type.
        :param data: what it tells.
        :param now: the present time.
        """
        self.newest += 1
        self.log = [*self.log, json.loads(json.dumps(self.event(kind, data, now)))][-KEPT:]

    def event(self, kind: str, data: Any, now: float) -> dict[str, Any]:
        """Return an event's object, with the newest number.

        :param kind: its type.
        :param data: what it tells.
        :param now: the present time.
        """
        return {"number": self.newest, "time": moment(now), "type": kind, "data": data}


@define(eq=False)
class Shared:
    """What all members agree upon, as the DCS has it.

    :param clock: the clock.
    :param scope: the cluster's name.
    :param members: the members by name.
    :param leader: who leads; ``None`` if nobody does.
    :ivar promoting: the leader has the key, and is still to be promoted.
    """

    clock: Clock
    scope: str
    members: dict[str, MemoryNode]
    leader: str | None
    timeline: int = 3
    paused: bool = False
    config: dict[str, Any] = field(factory=lambda: {"ttl": 30, "loop_wait": 10})
    promoting: bool = False
    history: list[list[Any]] = field(factory=list)
    switchover: dict[str, Any] | None = None

    def leads(self, node: MemoryNode) -> bool:
        """Tell whether a member leads, or believes so.

        :param node: the member.
        """
        return node.claimed is not None or node.name == self.leader

    def timeline_of(self, node: MemoryNode) -> int:
        """Return a member's timeline.

        :param node: the member.
        """
        return self.timeline if node.claimed is None else node.claimed

    def _role(self, node: MemoryNode, seen_by: MemoryNode) -> str:
        if seen_by.claimed is not None:
            return "leader" if node is seen_by else "replica"
        if node.name == self.leader:
            return "leader"
        return "sync_standby" if node.sync else "replica"

    def member(self, node: MemoryNode, seen_by: MemoryNode) -> dict[str, Any]:
        """Return a member's document, as ``GET /cluster`` has it.

        :param node: the member.
        :param seen_by: who shows it: one that believes that it leads itself shows that.
        """
        role = self._role(node, seen_by)
        state = node.state or ("running" if role == "leader" else "streaming")
        timeline = self.timeline_of(seen_by)
        document: dict[str, Any] = {
            "name": node.name,
            "role": role,
            "state": state,
            "api_url": f"{node.url}/patroni",
            "host": f"10.0.0.{node.number}",
            "port": 5432,
            "timeline": timeline,
        }
        if node.restart is not None:
            document["scheduled_restart"] = node.restart
        if node.tags:
            document["tags"] = dict(node.tags)
        if role == "leader":
            return document
        for kind in ("receive_", "replay_", ""):
            unknown = node.lag is None
            document[f"{kind}lag"] = "unknown" if unknown else node.lag
            document[f"{kind}lsn"] = "unknown" if node.lag is None else _lsn(LSN - node.lag)
        return document

    def cluster(self, seen_by: MemoryNode) -> dict[str, Any]:
        """Return the document of ``GET /cluster``.

        :param seen_by: who is asked.
        """
        listed = [each for each in self.members.values() if each.listed]
        document: dict[str, Any] = {"members": [self.member(each, seen_by) for each in listed]}
        if self.paused:
            document["pause"] = True
        if self.switchover is not None:
            document["scheduled_switchover"] = self.switchover
        return {**document, "scope": self.scope}

    def status(self, node: MemoryNode) -> dict[str, Any]:
        """Return the document of ``GET /patroni``.

        :param node: who is asked.
        """
        now, leads = self.clock.seconds(), self.leads(node)
        position = LSN - (node.lag or 0)
        document: dict[str, Any] = {
            "state": node.state or "running",
            "postmaster_start_time": moment(now - 3600).replace("T", " "),
            "role": "primary" if leads else "replica",
            "server_version": 180000,
            "xlog": {"location": LSN}
            if leads
            else {
                "received_location": position,
                "replayed_location": position,
                "replayed_timestamp": moment(now).replace("T", " "),
                "paused": False,
            },
            "timeline": self.timeline_of(node),
        }
        if not leads:
            document["replication_state"] = "streaming"
        if self.leader is None and node.claimed is None:
            document["cluster_unlocked"] = True
        if self.paused:
            document["pause"] = True
        if node.tags:
            document["tags"] = dict(node.tags)
        if node.sync and not leads:
            document["sync_standby"] = True
        if node.drain is not None:
            document["drain"] = node.drain
        return {
            **document,
            "dcs_last_seen": int(now),
            "database_system_identifier": "7391038501848",
            "patroni": {"version": VERSION, "scope": self.scope, "name": node.name},
        }

    def told(self, node: MemoryNode, seen_by: MemoryNode) -> dict[str, Any]:
        """Return a member's document as events have it.

        :param node: the member.
        :param seen_by: who tells.
        """
        shown = self.member(node, seen_by)
        leads = shown["role"] == "leader"
        if leads:
            lag_class = None
        elif node.lag is None:
            lag_class = "unknown"
        else:
            lag_class = "low" if node.lag <= HIGH_LAG else "high"
        names = ("name", "role", "state", "api_url", "host", "port", "timeline")
        return {
            **{name: shown[name] for name in names},
            "lag": None if leads else node.lag,
            "lag_class": lag_class,
            "tags": dict(node.tags),
            "pending_restart": False,
            "scheduled_restart": node.restart,
        }

    def summary(self, seen_by: MemoryNode) -> dict[str, Any]:
        """Return what events tell of the cluster as a whole.

        :param seen_by: who tells.
        """
        claims = seen_by.claimed is not None
        leader = seen_by.name if claims else self.leader
        is_known = claims or (leader is not None and not self.promoting)
        return {
            "leader": leader,
            "locked": leader is not None,
            "timeline": self.timeline_of(seen_by) if is_known else None,
            "paused": self.paused,
            "failsafe": False,
            "dcs": True,
            "switchover": self.switchover,
            "sync": [each.name for each in self.members.values() if each.sync],
        }

    def snapshot(self, node: MemoryNode) -> dict[str, Any]:
        """Return what newcomers are told.

        :param node: who tells.
        """
        listed = [each for each in self.members.values() if each.listed]
        return {
            "scope": self.scope,
            "stream": node.stream,
            **self.summary(node),
            "members": [self.told(each, node) for each in listed],
            "node": {**self.about(node), "config": "0"},
            "operations": [each for each in node.operations if each["ended"] is None],
            "history": [self.history_entry(line) for line in self.history[-10:]],
        }

    def about(self, node: MemoryNode) -> dict[str, Any]:
        """Return what events tell of a member that tells of itself.

        :param node: the member.
        """
        return {
            "name": node.name,
            "state": node.state or "running",
            "role": "primary" if self.leads(node) else "replica",
            "pending_restart": [],
            "drain": node.drain,
        }

    def history_entry(self, line: list[Any]) -> dict[str, Any]:
        """Return a line of the history as events have it.

        :param line: as ``GET /history`` has it.
        """
        names = ("timeline", "lsn", "reason", "time", "leader")
        return dict(zip(names, line, strict=True))

    def picture(self, node: MemoryNode) -> Mapping[str, Any]:
        """Return what a member sees; its events are the differences to what it saw before.

        :param node: the member.
        """
        listed = [each for each in self.members.values() if each.listed]
        cluster = self.summary(node)
        before = None if node.told is None else node.told["last_leader"]
        return json.loads(  # type: ignore[no-any-return]
            json.dumps(
                {
                    "cluster": cluster,
                    "last_leader": cluster["leader"] or before,
                    "members": {each.name: self.told(each, node) for each in listed},
                    "node": self.about(node),
                    "config": self.config,
                    "history": [self.history_entry(line) for line in self.history],
                }
            )
        )

"""What changes in the cluster, as numbered events that are kept for a while."""

from twisted_patroni.events.compare import Change, changes
from twisted_patroni.events.model import TYPES, Event, MemberState, NodeState, View
from twisted_patroni.events.stream import Backlog, EventStream, Position
from twisted_patroni.events.watcher import Watcher

__all__ = [
    "TYPES",
    "Backlog",
    "Change",
    "Event",
    "EventStream",
    "MemberState",
    "NodeState",
    "Position",
    "View",
    "Watcher",
    "changes",
]

"""An asynchronous client: one node, a whole cluster that fails over, and many clusters.

Nothing here needs the server's rooms. :mod:`twisted_patroni.client.testing` has a cluster in
memory to test with.
"""

from twisted_patroni.client.asking import Login
from twisted_patroni.client.configuration import ConfigurationError
from twisted_patroni.client.errors import (
    BrokenAnswer,
    ClientError,
    ClusterUnknown,
    Conflict,
    Disconnected,
    Forbidden,
    NoLeader,
    NoMember,
    NotFound,
    NotSupported,
    OutcomeUnknown,
    PreconditionFailed,
    Refused,
    TimedOut,
    TlsFailure,
    Unauthorized,
    Unavailable,
    Unreachable,
)
from twisted_patroni.client.events import (
    ClusterEvent,
    ConfigEvent,
    Event,
    Gap,
    HistoryEvent,
    LeaderEvent,
    MemberEvent,
    NodeEvent,
    OperationEvent,
    Snapshot,
    event_of,
)
from twisted_patroni.client.eventstream import EventStream
from twisted_patroni.client.gathering import Gathering, Result, gather_responses
from twisted_patroni.client.node import Node
from twisted_patroni.client.outcomes import Eligibility, Forecast, Outcome
from twisted_patroni.client.pool import Pool, PoolClosed
from twisted_patroni.client.postgres import CannotConnect
from twisted_patroni.client.replicas import Replicas
from twisted_patroni.client.response import Response
from twisted_patroni.client.settings import ClientSettings
from twisted_patroni.client.shards import Gathered, NoOwner, Shards
from twisted_patroni.client.tls import TlsError, TlsFiles
from twisted_patroni.client.urls import AddressError
from twisted_patroni.client.values import (
    Cluster,
    Drain,
    HistoryEntry,
    Member,
    NodeStatus,
    Operation,
    Schedule,
)

__all__ = [
    "AddressError",
    "BrokenAnswer",
    "CannotConnect",
    "ClientError",
    "ClientSettings",
    "Cluster",
    "ClusterEvent",
    "ClusterUnknown",
    "ConfigEvent",
    "ConfigurationError",
    "Conflict",
    "Disconnected",
    "Drain",
    "Eligibility",
    "Event",
    "EventStream",
    "Forbidden",
    "Forecast",
    "Gap",
    "Gathered",
    "Gathering",
    "HistoryEntry",
    "HistoryEvent",
    "LeaderEvent",
    "Login",
    "Member",
    "MemberEvent",
    "NoLeader",
    "NoMember",
    "NoOwner",
    "Node",
    "NodeEvent",
    "NodeStatus",
    "NotFound",
    "NotSupported",
    "Operation",
    "OperationEvent",
    "Outcome",
    "OutcomeUnknown",
    "Pool",
    "PoolClosed",
    "PreconditionFailed",
    "Refused",
    "Replicas",
    "Response",
    "Result",
    "Schedule",
    "Shards",
    "Snapshot",
    "TimedOut",
    "TlsError",
    "TlsFailure",
    "TlsFiles",
    "Unauthorized",
    "Unavailable",
    "Unreachable",
    "event_of",
    "gather_responses",
]

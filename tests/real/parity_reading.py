"""The parity test's requests that change nothing: health checks, probes and documents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.real.parity_requests import Request, Scene, req

if TYPE_CHECKING:
    from collections.abc import Iterable

MEGABYTE = 1024 * 1024
FAR = 1 << 40

_PATHS = (
    "/", "/primary", "/master", "/leader", "/read-write", "/replica", "/read-only",
    "/read-only-sync", "/read-only-synchronous", "/read-only-quorum", "/sync", "/synchronous",
    "/quorum", "/async", "/asynchronous", "/standby-leader", "/standby_leader", "/health",
)  # fmt: skip
_ODD_PATHS = (
    "/healthz", "/nope", "/sync/", "/xprimaryx", "/foo-leader-bar", "/async-replica", "/PRIMARY",
    "/%70rimary", "//leader", "///replica", "/primary/x", "/primary;x=1", "/?lag=1",
    "/my-standby-leader", "/read-only-async", "/read-only-sync/", "/metrics-foo",
    "/CLUSTER", "/cluster.json",
)  # fmt: skip
_DOCUMENTS = (
    "/liveness", "/readiness", "/patroni", "/cluster", "/history", "/config", "/failsafe",
    "/metrics",
)  # fmt: skip


def _gets(*targets: str) -> tuple[Request, ...]:
    return tuple(req(f"GET {target}") for target in targets)


def _all(method: str, targets: Iterable[str], differs: str = "") -> tuple[Request, ...]:
    return tuple(req(f"{method} {target}", differs=differs) for target in targets)


_METRICS = req("GET /metrics", differs="metrics-help metrics-more")
_SUMMARY = (*_gets("/", "/replica", "/read-only", "/health", "/patroni"), _METRICS)

_LEADER = Scene(
    "leader",
    (),
    (
        *_gets(*_PATHS, *_ODD_PATHS),
        *_all("HEAD", [*_PATHS, "/nope"]),
        *_all("OPTIONS", [*_PATHS, "/nope", *_DOCUMENTS]),
        *_gets(*(path for path in _DOCUMENTS if path != "/metrics")),
        _METRICS,
        *_all("HEAD", _DOCUMENTS, "head-like-get"),
        *_gets("/cluster/x/y", "/patroni/", "/config/abc", "/liveness/", "/liveness/x?y=z"),
        *_gets("//cluster", "//patroni//", "/history?x=1", "/readiness;x"),
        *(req(f"GET {target}#x", differs="strict-lines") for target in ("/primary", "/config")),
        *_gets("http://node/leader", "http://node/cluster", "http://node", "http://node/"),
        *_gets("https://user@node:1/history?x", "*", "leader", "cluster", "?lag=1"),
        req("OPTIONS *"),
        req("OPTIONS http://node/leader"),
        req("HEAD http://node"),
        *_gets("/leader?tag_x=y", "/health?tag_x=y", "/primary?lag=1&tag_nofailover=false"),
    ),
)

_NEW_VERSION = Scene(
    "HTTP/1.1",
    (),
    (
        *(
            req(f"GET {target}", version="HTTP/1.1", differs="keep-alive")
            for target in ("/", "/replica", "/nope", "/patroni", "/cluster", "/config")
        ),
        req("GET /failsafe", version="HTTP/1.1", differs="keep-alive"),
        req("GET /metrics", version="HTTP/1.1", differs="keep-alive metrics-help metrics-more"),
        *(
            req(line, version="HTTP/1.1", differs="keep-alive bare-answers")
            for line in ("HEAD /", "OPTIONS /replica", "GET /liveness", "GET /readiness")
        ),
        req("HEAD /patroni", version="HTTP/1.1", differs="keep-alive bare-answers head-like-get"),
        req(
            "GET /leader",
            version="HTTP/1.1",
            headers=(("Connection", "close"),),
            differs="keep-alive",
        ),
        req("GET /leader", headers=(("Connection", "keep-alive"),)),
        req("GET /leader", body={"ignored": 1}, name="GET /leader with a body"),
    ),
)

_LAGS = (
    "0", "1", "1048576", "1MB", "1.5MB", "10MB", "1kB", "1GB", "1TB", "0x100", "1e3", "1B", "10mb",
    "1KB", "1MiB", "5s", "text", "-1", "-1MB", "+1", "%201MB", "1%20MB", "1099511627776", "1024GB",
    "99999999999999999999", "1,5",
)  # fmt: skip

_REPLICA = Scene(
    "replica",
    (("replica",),),
    (
        *_gets(*_PATHS, *_ODD_PATHS, *(path for path in _DOCUMENTS if path != "/metrics")),
        _METRICS,
        *_all("HEAD", ["/", "/replica", "/async", "/sync", "/nope"]),
        *_all("OPTIONS", ["/", "/replica", "/async", "/sync", "/nope"]),
        req("HEAD /patroni", differs="head-like-get"),
        *_gets("/replica?tag_x=y", "/replica?lag=", "/replica?lag=1&lag=2", "/replica?LAG=-1"),
        *_gets("/replica?lag=-1", "/readiness?lag=-1", "/readiness?lag=0&mode=write"),
        *_gets("/replica?replication_state=streaming", "/replica?replication_state="),
        req("GET /replica?replication_state=in+archive+recovery", differs="replication-state"),
        req("GET /read-only?replication_state=nonsense", differs="replication-state"),
    ),
)

_LAGGING = Scene(
    "replica, 1 TB behind",
    (("replica",), ("published", FAR)),
    (
        *_gets(*(f"/replica?lag={lag}" for lag in _LAGS)),
        *_gets("/replica", "/async?lag=1MB", "/read-only?lag=1MB", "/sync?lag=1", "/health?lag=1"),
        *_gets("/readiness", "/readiness?lag=2TB", "/readiness?lag=2TB&mode=write"),
        *_gets(
            "/readiness?lag=1MB&mode=write", "/readiness?lag=nonsense", "/readiness?lag=2TB&mode=x"
        ),
        *_all("OPTIONS", ["/replica?lag=1MB", "/replica?lag=2TB", "/read-only?lag=1MB"]),
    ),
)

_TAG_QUERIES = (
    "tag_dc=north", "tag_dc=south", "tag_dc=NORTH", "tag_DC=north", "tag_rank=7", "tag_rank=07",
    "tag_hot=true", "tag_hot=True", "tag_hot=1", "tag_none=none", "tag_ratio=1.5", "tag_missing=x",
    "tag_dc=north&tag_rank=7", "tag_dc=north&tag_rank=8", "tag_dc=", "tag_=x", "tag_dc",
    "tag_nofailover=false", "tag_nosync=true", "dc=south", "tag_dc=no%72th", "tag_list=[1]",
    "tag_dc=south&tag_dc=north",
)  # fmt: skip

_TAGS = Scene(
    "replica with tags",
    (
        ("replica",),
        (
            "tags",
            {"dc": "north", "rank": 7, "hot": True, "none": None, "ratio": 1.5, "list": [1],
             "nofailover": False, "nosync": True},
        ),
    ),
    (
        *_gets(*(f"/replica?{query}" for query in _TAG_QUERIES)),
        *_gets("/health?tag_dc=south", "/async?tag_dc=south", "/leader?tag_dc=south"),
        *_gets("/read-only?tag_dc=north&lag=1MB", "/patroni", "/cluster"),
        *_all("OPTIONS", ["/replica?tag_dc=north", "/replica?tag_dc=south"]),
    ),
)  # fmt: skip

_STATES = (
    "initializing new cluster", "initdb failed", "running custom bootstrap script",
    "custom bootstrap failed", "creating replica", "starting", "starting after custom bootstrap",
    "start failed", "restarting", "restart failed", "stopping", "stopped", "stop failed", "crashed",
)  # fmt: skip
_STATE_SCENES = tuple(
    Scene(f"PostgreSQL is {state}", (("state", state),), (*_SUMMARY, *_gets("/readiness")))
    for state in _STATES
)
_ROLES = ("demoted", "uninitialized", "promoted", "standby_leader", "replica", "master")
_ROLE_SCENES = tuple(
    Scene(
        f"stopped, role {role}",
        (("state", "stopped"), ("role", role), ("lock", False)),
        (*_gets("/", "/leader", "/patroni"), _METRICS),
    )
    for role in _ROLES
)

_SYNC = (("replica",), ("config", {"synchronous_mode": True}))
_QUORUM = (("replica",), ("config", {"synchronous_mode": "quorum"}))
_STANDBY = ("config", {"standby_cluster": {"host": "127.0.0.1", "port": 1}})

_CLUSTER_SCENES = (
    Scene(
        "synchronous standby",
        (*_SYNC, ("sync", "other", "node1")),
        (*_gets(*_PATHS, "/patroni", "/cluster", "/sync?lag=-1", "/sync?tag_x=y"), _METRICS),
    ),
    Scene(
        "synchronous standby in other case", (*_SYNC, ("sync", "other", "x,NODE1")), _SUMMARY
    ),
    Scene("asynchronous in a synchronous cluster", (*_SYNC, ("sync", "other", "x")),
          _gets(*_PATHS)),
    Scene("named as the leader in the sync key", (*_SYNC, ("sync", "node1", "other")),
          _gets("/sync", "/async", "/patroni")),
    Scene("sync key without synchronous mode", (("replica",), ("sync", "other", "node1")),
          _gets("/sync", "/async", "/patroni", "/cluster")),
    Scene(
        "quorum standby",
        (*_QUORUM, ("sync", "other", "node1")),
        (*_gets(*_PATHS, "/patroni", "/cluster"), _METRICS),
    ),
    Scene(
        "standby leader",
        (("replica",), ("lock", True), ("role", "standby_leader"), _STANDBY),
        (*_gets(*_PATHS, "/patroni", "/readiness", "/cluster"), _METRICS),
    ),
    Scene("replica in a standby cluster", (("replica",), _STANDBY), _gets(*_PATHS, "/patroni")),
    Scene("primary in a standby cluster", (_STANDBY,), _gets(*_PATHS, "/patroni")),
    Scene("waiting for an archive", (("replica",), ("cut_off",)),
          (*_SUMMARY, *_gets("/readiness", "/replica?lag=1"))),
    Scene("replay paused", (("replica",), ("replay_paused",)), _SUMMARY),
    Scene("noloadbalance", (("replica",), ("tags", {"noloadbalance": True, "clonefrom": True})),
          _gets(*_PATHS, "/patroni", "/readiness")),
    Scene("noloadbalance on the leader", (("tags", {"noloadbalance": True}),),
          _gets("/", "/read-only", "/health")),
    Scene("unlocked", (("leader", None), ("lock", False)),
          (*_gets(*_PATHS, "/cluster", "/patroni"), _METRICS)),
    Scene("unlocked replica", (("replica",), ("leader", None)),
          (*_gets("/replica", "/leader", "/cluster", "/patroni", "/readiness"), _METRICS)),
    Scene("primary without the lock", (("lock", False),), (*_SUMMARY, *_gets("/readiness"))),
    Scene(
        "several members",
        (
            ("members", {
                "b": {"xlog_location": 100, "receive_lsn": "0/1", "replay_lsn": "0/1"},
                "a": {"state": "creating replica", "tags": {"nofailover": True}},
                "quiet": {"conn_url": None, "api_url": None, "state": None, "timeline": None},
                "arch": {"replication_state": "in archive recovery", "pending_restart": True,
                         "pending_restart_reason": {"x": {"old_value": 1, "new_value": 2}}},
                "later": {"scheduled_restart": {"schedule": "2099-01-01T00:00:00+00:00",
                                                "postmaster_start_time": "x"}},
            }),
            ("published", FAR),
            ("history", [[1, 5, "no recovery target specified", "2024-01-01T00:00:00", "a"]]),
            ("failover", {"leader": "node1", "member": "b", "scheduled_at": "2099-01-01T00:00Z"}),
        ),
        _gets("/cluster", "/history", "/patroni"),
    ),
)  # fmt: skip

_TROUBLE = (
    Scene("paused", (("config", {"pause": True}),), (*_SUMMARY, *_gets("/cluster", "/liveness"))),
    Scene(
        "paused, DCS lost",
        (("config", {"pause": True}), ("dcs_lost",)),
        (*_gets(*_PATHS, "/patroni", "/liveness"), _METRICS),
    ),
    Scene(
        "paused standby leader, DCS lost",
        (("replica",), _STANDBY, ("role", "standby_leader"), ("config", {"pause": True}),
         ("dcs_lost",)),
        _gets(*_PATHS, "/patroni", "/readiness"),
    ),
    Scene("paused replica, DCS lost", (("replica",), ("config", {"pause": True}), ("dcs_lost",)),
          _gets(*_PATHS, "/patroni")),
    Scene(
        "DCS lost",
        (("dcs_lost",),),
        (
            *_gets(*_PATHS, "/patroni", "/failsafe", "/liveness", "/readiness"),
            _METRICS,
            *_all("GET", ("/cluster", "/history", "/config"), "dcs-errors"),
        ),
    ),
    Scene("replica, DCS lost", (("replica",), ("dcs_lost",)),
          (*_gets(*_PATHS, "/patroni", "/readiness"), _METRICS)),
    Scene("DCS lost, waiting for an archive", (("replica",), ("cut_off",), ("dcs_lost",)),
          _gets("/readiness", "/replica", "/sync")),
    Scene("failsafe mode", (("config", {"failsafe_mode": True}),
                            ("failsafe_members", {"node1": "http://node1/patroni"})),
          (*_gets("/failsafe", "/patroni", "/failsafe/x"), _METRICS)),
    Scene("failsafe mode active", (("config", {"failsafe_mode": True}), ("dcs_lost",),
                                   ("failsafe_active",)), _SUMMARY),
    Scene("failsafe mode active on a replica, DCS lost",
          (("replica",), ("dcs_lost",), ("failsafe_active",)),
          _gets("/readiness", "/patroni", "/replica")),
    Scene("no configuration", (("no_config",),), _gets("/config", "/history", "/cluster", "/")),
    Scene("PostgreSQL does not answer", (("unreachable",),),
          (*_gets(*_PATHS, "/patroni"), _METRICS)),
    Scene("replica does not answer", (("unreachable",), ("lock", False), ("role", "replica")),
          _gets("/replica", "/readiness", "/health", "/read-only")),
    Scene("PostgreSQL takes no new connections", (("full",),),
          (*_all("GET", ("/", "/leader", "/replica", "/patroni", "/health"), "one-connection"),
           *_gets("/liveness", "/readiness"))),
    Scene("restarting and not answering", (("unreachable",), ("state", "restarting")),
          _gets("/patroni", "/health")),
    Scene("much to tell", (("pending_restart",), ("unwatched",), ("sync_disabled",),
                           ("crowded_log", 7, 2)), _SUMMARY),
    Scene("cluster with an odd name", (("scope", 'a"b\\c'),),
          (*_gets("/patroni", "/cluster"),
           req("GET /metrics", differs="metrics-labels metrics-help metrics-more"))),
    Scene("system identifier not known", (("no_system_identifier",),),
          (req("GET /patroni", differs="system-identifier"), req("GET /liveness")), anew=True),
    Scene("roles of old", (("restapi", {"legacy_roles": True}),),
          (*_all("GET", ("/patroni", "/", "/nope"), "legacy-roles"),
           *_gets("/cluster", "/liveness"), _METRICS)),
    Scene("log queue without losses", (("crowded_log", 3, 0),), _gets("/patroni")),
    Scene("log queue of normal length", (("crowded_log", 2, 5),), _gets("/patroni")),
    Scene("late primary", (("late", 450),), _gets("/liveness", "/readiness")),
    Scene("late primary without postmaster", (("late", 450), ("dead_postmaster",)),
          _gets("/liveness")),
    Scene("late replica", (("late", 450), ("role", "replica")), _gets("/liveness")),
    Scene("very late replica", (("late", 700), ("role", "replica")), _gets("/liveness")),
    Scene("very late in a pause", (("late", 7000), ("config", {"pause": True})),
          _gets("/liveness")),
)  # fmt: skip

_LOG = Scene(
    "access log",
    (("logged",),),
    (
        *_gets("/", "/nope?x=%22y%22", "//leader?lag=1", "/liveness", "/config", "http://node/x"),
        *_gets('/a"b', "/a\\b"),
        req("GET /failsafe", differs="access-log"),
        *_all("HEAD", ("/", "/nope")),
        *_all("OPTIONS", ("/", "*")),
        *_all("POST", ("/nope", "/failover"), "access-log"),
        req("POST /reload"),
        req("DELETE /restart"),
        req("GET /", version="HTTP/1.1", differs="keep-alive"),
        req("GET http://[/", differs="no-empty-replies access-log"),
        req("GET / ", name="two blanks", differs="strict-lines access-log"),
    ),
)

SCENES: tuple[Scene, ...] = (
    _LOG, _LEADER, _NEW_VERSION, _REPLICA, _LAGGING, _TAGS,
    *_CLUSTER_SCENES, *_TROUBLE, *_STATE_SCENES, *_ROLE_SCENES,
)  # fmt: skip

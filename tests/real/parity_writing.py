"""The parity test's requests that change something, or are refused before they do."""

from __future__ import annotations

import base64
from typing import Any

from attrs import evolve

from tests.real.parity_requests import Request, Scene, SetUp, Story, req

FUTURE = "2099-01-01T00:00:00+00:00"
_CHECKED = (
    "PATCH /config", "PUT /config", "POST /reload", "POST /sigterm", "POST /restart",
    "DELETE /restart", "POST /switchover", "DELETE /switchover", "POST /failover",
    "POST /reinitialize", "POST /citus", "POST /failsafe",
)  # fmt: skip
_OK: SetUp = (
    "recorded",
    {
        "restart": [True, "restarted successfully"],
        "schedule_restart": True,
        "delete_restart": True,
        "set_config": True,
        "manual_failover": True,
        "update_failsafe": 83886080,
    },
)


def _basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


def _with(line: str, authorization: str, body: Any = None, differs: str = "") -> Request:
    return req(line, body, headers=(("Authorization", authorization),), differs=differs)


def _from_others(*requests: Request) -> tuple[Request, ...]:
    """Return requests that come from an address each: what was wrong before does not count."""
    return tuple(
        evolve(each, source=f"127.0.1.{number}") for number, each in enumerate(requests, 1)
    )


def _posts(line: str, *bodies: Any, differs: str = "") -> tuple[Request, ...]:
    return tuple(req(line, body, differs=differs) for body in bodies)


# Access.

_AUTH: SetUp = ("restapi", {"auth": "parity:secret"})
_GOOD = _basic("parity:secret")
_EXTRA: SetUp = (
    "restapi",
    {
        "auth": "parity:secret",
        "http_extra_headers": {"X-Frame-Options": "SAMEORIGIN", "Server": "more", "x-number": 7},
        "https_extra_headers": {"Strict-Transport-Security": "max-age=1"},
    },
)
_ACCESS = (
    Scene(
        "authentication",
        (_AUTH, _OK),
        _from_others(
            *(req(line, {"x": 1} if line.startswith("P") else None) for line in _CHECKED),
            *(_with(line, _basic("parity:wrong"), {"x": 1}) for line in _CHECKED),
            *(
                _with("POST /reload", authorization)
                for authorization in (
                    _GOOD, _GOOD.lower(), _GOOD.replace("Basic", "basic"), _GOOD + "=",
                    _GOOD.rstrip("="), _GOOD.replace("Basic ", "Basic  "), _GOOD + " x",
                    "Basic", "Basic ", "", "Bearer x", "Digest username=parity", "Basic !!!",
                    "Basic ÿþ", _basic("parity:secret\n"), _basic("secret:parity"),
                )
            ),
            req("POST /reload", headers=(("authorization", _GOOD),)),
            req("POST /reload", headers=(("Authorization", "x"), ("Authorization", _GOOD))),
            req("POST /reload", headers=(("Authorization", _GOOD), ("Authorization", "x"))),
            *(_with(line, _GOOD, {"leader": "x"}) for line in ("POST /citus", "POST /switchover")),
            req("GET /config"),
            req("OPTIONS /config"),
            req("POST /nope"),
            req("POST /mpp", {"x": 1}, differs="mpp-checked"),
            _with("POST /mpp", _GOOD, {"x": 1}),
            req("PATCH /config", "not json", name="PATCH /config without password or sense"),
            req("POST /reload", version="HTTP/1.1", differs="keep-alive"),
        ),
    ),
    Scene(
        "guessed passwords",
        (_AUTH, _OK),
        tuple(
            evolve(each, source="127.0.2.1")  # not where the requests of other scenes come from
            for each in (
                *(_with("POST /reload", _basic(f"parity:{number}")) for number in range(5)),
                _with("POST /reload", _basic("parity:5"), differs="wrong-passwords"),
                _with("POST /reload", _GOOD, differs="wrong-passwords"),
                req("POST /reload"),
            )
        ),
    ),
    Scene("empty password settings", (("restapi", {"auth": ""}), _OK), (req("POST /reload"),)),
    Scene("password of punctuation", (("restapi", {"auth": ":"}), _OK),
          (req("POST /reload"), _with("POST /reload", _basic(":")))),
    Scene(
        "extra headers",
        (_EXTRA, _OK),
        (
            req("GET /patroni"),
            req("GET /nope"),
            req("GET /metrics", differs="metrics-help metrics-more"),
            req("OPTIONS /"),
            req("GET /liveness"),
            req("POST /reload"),
            _with("POST /reload", _GOOD),
            _with("PATCH /config", _GOOD, {"x": 1}),
            _with("PATCH /config", _GOOD, "{", differs="error-pages reasons-on-pages"),
            _with("PATCH /config", _GOOD, differs="error-pages"),
            req("GET /failsafe", differs="error-pages"),
            req("POST /nope", differs="error-pages"),
            req("HEAD /", version="HTTP/1.1", differs="keep-alive bare-answers"),
            req("GET /", version="HTTP/1.1", differs="keep-alive"),
        ),
    ),
    Scene("allowlist that has us", (("restapi", {"allowlist": ["10.0.0.0/8", "127.0.0.1"]}), _OK),
          (req("POST /reload"), req("POST /failsafe", {"x": 1}), req("POST /citus", {"x": 1}))),
    Scene("allowlist with host bits", (("restapi", {"allowlist": ["127.0.0.77/24", "::1"]}), _OK),
          (req("POST /reload"),)),
    Scene(
        "allowlist that has not",
        (("restapi", {"allowlist": ["10.0.0.0/8"], "auth": "parity:secret"}), _OK),
        (
            *(req(line, {"x": 1}) for line in _CHECKED),
            _with("POST /reload", _GOOD),
            req("POST /mpp", {"x": 1}, differs="mpp-checked"),
            req("GET /patroni"),
        ),
    ),
    Scene("allowlist and members",
          (("restapi", {"allowlist": ["10.0.0.0/8"], "allowlist_include_members": True}), _OK),
          (req("POST /reload"), req("POST /failsafe", {"x": 1}))),
    Scene("members only", (("restapi", {"allowlist_include_members": True}), _OK),
          (req("POST /reload"), req("POST /failsafe", {"x": 1}))),
    Scene("members only, DCS lost",
          (("restapi", {"allowlist_include_members": True}), _OK, ("dcs_lost",)),
          (req("POST /reload"), req("POST /failsafe", {"x": 1}), req("GET /leader"))),
    Scene("allowlist reloaded with a mistake",
          (("restapi", {"allowlist": ["10.0.0.0/8"]}), ("restapi", {"allowlist": ["10.0.0.0/99"]}),
           _OK),
          (req("POST /reload", differs="wrong-settings"), req("GET /leader"))),
    Scene("empty allowlist", (("restapi", {"allowlist": []}), _OK), (req("POST /reload"),)),
    *(
        Scene(f"server_tokens {token}", (("restapi", {"server_tokens": token}),),
              (req("GET /patroni"), req("POST /nope"), req("OPTIONS /")))
        for token in ("ProductOnly", "minimal")
    ),
    *(
        Scene(f"server_tokens {token}", (("restapi", {"server_tokens": token}),),
              (req("GET /patroni", differs="server-token"),
               req("POST /nope", differs="server-token"), req("OPTIONS /")))
        for token in ("Original", "nonsense")
    ),
)  # fmt: skip

# Configuration, reload, failsafe and MPP.

_PATCHES: tuple[dict[str, Any], ...] = (
    {"loop_wait": 11}, {"loop_wait": "10"}, {"loop_wait": 10}, {"ttl": None}, {"unknown": None},
    {"postgresql": {"parameters": {"work_mem": "8MB"}}}, {"postgresql": None}, {"postgresql": 1},
    {"a": {"b": None}}, {"a": {"b": {}}}, {"é": "\u2028"}, {"x": [1, {"y": None}], "z": 1.0},
    {"": ""}, {"ttl": True}, {"ttl": {"x": 1}}, {"x": "\ud800"}, {"x": 1 << 70},
)  # fmt: skip
_CONFIGURATION = (
    Scene(
        "configuration",
        (_OK,),
        (
            *_posts("PATCH /config", *_PATCHES),
            *_posts("PUT /config", *_PATCHES),
            req("PUT /config", {"ttl": 300, "loop_wait": 10, "retry_timeout": 3}),
            req("PATCH /config/x?y=z", {"ttl": 30}),
            req("PUT //config/", {"ttl": 30}),
            req("PATCH /config", {"ttl": 30}, version="HTTP/1.1", differs="keep-alive"),
            *_posts("PATCH /config", '{"x": NaN}', '{"x": -Infinity}', differs="json-constants"),
            req("PUT /config", '{"x": Infinity}', differs="json-constants"),
            req("PUT /config", '{"x": 1e999}'),
            req("PATCH /config", '{"x": 1, "x": 2}'),
            req("POST /reload"),
            req("POST /reload/x", {"y": 1}),
            req("POST /sigterm"),
            req("DELETE /config"),
            req("POST /config", {"ttl": 30}),
        ),
    ),
    Scene("configuration changes meanwhile", (("recorded", {"set_config": False}),),
          (req("PATCH /config", {"ttl": 30}, differs="reasons-on-pages"),
           req("PATCH /config", {"ttl": 300}), req("PUT /config", {"ttl": 30}))),
    Scene("no configuration to change", (("no_config",), _OK),
          (req("PATCH /config", {"ttl": 30}), req("PUT /config", {"ttl": 30}))),
)  # fmt: skip

_MESSAGE = {"name": "other", "conn_url": "postgres://x/y", "api_url": "http://x/patroni"}
_FAILSAFE_ON: SetUp = ("config", {"failsafe_mode": True})
_FAILSAFE = (
    Scene("failsafe mode off", (), (req("POST /failsafe", _MESSAGE), req("POST /failsafe"),
                                    req("GET /failsafe"))),
    Scene("failsafe mode on the leader", (_FAILSAFE_ON,),
          (req("POST /failsafe", _MESSAGE), *_posts("POST /failsafe/x", _MESSAGE))),
    Scene(
        "failsafe mode on a replica",
        (_FAILSAFE_ON, ("replica",)),
        (
            *_posts("POST /failsafe", _MESSAGE, {**_MESSAGE, "slots": {"a": 1}},
                    {**_MESSAGE, "slots": None}, {**_MESSAGE, "more": 1}),
            *(
                req("POST /failsafe", {k: v for k, v in _MESSAGE.items() if k != key},
                    differs="failsafe-message")
                for key in _MESSAGE
            ),
            req("POST /failsafe", {**_MESSAGE, "name": 1}, differs="failsafe-message"),
            req("POST /failsafe", {**_MESSAGE, "slots": [1]}, differs="failsafe-message"),
            req("POST /failsafe", {}, differs="reasons-on-pages"),
            req("POST /failsafe"),
            req("POST /failsafe", "[]", differs="reasons-on-pages"),
            req("POST /failsafe", _MESSAGE, version="HTTP/1.1", differs="keep-alive"),
        ),
    ),
    *(
        Scene(f"failsafe mode, the engine says {answer!r}",
              (_FAILSAFE_ON, ("recorded", {"update_failsafe": answer})),
              (req("POST /failsafe", _MESSAGE),))
        for answer in (None, 0, 83886080, "Accepted", "Running as a leader", "text")
    ),
)  # fmt: skip

_EVENT = {"type": "after_promote", "group": 1, "leader": "x", "timeout": 30, "cooldown": 10}
_MPP = (
    Scene("no MPP", (_OK,), (*_posts("POST /mpp", _EVENT, {"x": 1}), req("POST /citus", _EVENT),
                             req("POST /mpp"), req("GET /mpp"), req("POST /mpp/x", _EVENT))),
    Scene("MPP coordinator", (("coordinator",), _OK),
          (req("POST /mpp", _EVENT), req("POST /citus", _EVENT))),
    Scene("MPP coordinator without the lock", (("coordinator",), ("lock", False), _OK),
          (req("POST /citus", _EVENT),)),
)  # fmt: skip

# Restart and reinitialisation.

_SCHEDULES: tuple[Any, ...] = (
    FUTURE, "2099-01-01T00:00Z", "Jan 1 2099 12:00 UTC", "2001-01-01T00:00:00+00:00",
    "2099-01-01T00:00:00", "tomorrow", "", None, 4102444800, [], {}, True, "2099-13-01T00:00Z", "0",
    "2099-01-01T00:00:00+99:00",
)  # fmt: skip
_VERSIONS = ("15", "15.2", "9.6", "9.6.1", "x", "", "9", "15.2.1", "99.99.99", " 15")
_TIMEOUTS: tuple[Any, ...] = (
    10, "10s", "1min", "1d", "10", 1.6, 0.4, 0, -1, "0", "", None, "abc", True, "10ms", "1h 5min",
)  # fmt: skip
_ROLES = ("primary", "standby_leader", "replica", "master", "Primary", "", None, 1, True, "demoted")
_RESTART = (
    Scene(
        "restart",
        (_OK,),
        (
            req("POST /restart"),
            req("POST /restart/x?y=z", {}),
            *_posts("POST /restart", *({"schedule": each} for each in _SCHEDULES)),
            *_posts("POST /restart", *({"role": each} for each in _ROLES)),
            *_posts("POST /restart", *({"postgres_version": each} for each in _VERSIONS)),
            *_posts("POST /restart", *({"timeout": each} for each in _TIMEOUTS)),
            *_posts("POST /restart", *({"restart_pending": e} for e in (True, False, None, 0))),
            *_posts("POST /restart", {"what": 1}, {"role": "x", "what": 1},
                    {"what": 1, "role": "x"}, {"schedule": "x", "role": "x"},
                    {"timeout": 5, "role": "replica"},
                    {"role": "replica", "schedule": FUTURE, "timeout": "1min",
                     "postgres_version": "16", "restart_pending": True}),
            req("POST /restart", {"schedule": "99999999999999999"}, differs="no-empty-replies"),
            req("POST /restart", {"postgres_version": 15}, differs="postgres-version"),
            req("POST /restart", {"postgres_version": None}, differs="postgres-version"),
            req("POST /restart", {"role": ["replica"]}),
            req("POST /restart", {"role": {}}),
            req("POST /restart", {"timeout": []}),
            req("POST /restart", {"timeout": {}}),
            req("POST /restart", version="HTTP/1.1", differs="keep-alive"),
            req("DELETE /restart"),
            req("DELETE /restart/x", {"ignored": True}),
            req("PUT /restart", {}),
            req("GET /restart"),
        ),
    ),
    *(
        Scene(f"restart, the engine says {answer}", (("recorded", {"restart": answer}),),
              (req("POST /restart"),))
        for answer in ([False, "restart conditions are not satisfied"], [False, "restart failed"],
                       [False, "reinitialize already in progress"],
                       [False, "postgres is still starting"])
    ),
    Scene("restart fails with an error", (("recorded", {"restart": "!broken"}),),
          (req("POST /restart"),)),
    Scene("restart is scheduled already", (("recorded", {}),),
          (req("POST /restart", {"schedule": FUTURE}), req("DELETE /restart"))),
    Scene("restart in a pause", (("config", {"pause": True}), _OK),
          (req("POST /restart"), *_posts("POST /restart", {"schedule": FUTURE}, {"schedule": ""},
                                         {"role": "x", "schedule": FUTURE}))),
)  # fmt: skip

_TRUTHS: tuple[Any, ...] = (
    True, False, "true", "on", "yes", "1", 1, 0, "no", "x", None, "TRUE", 2, [], "",
)  # fmt: skip
_REINITIALIZE = (
    Scene(
        "reinitialize",
        (_OK,),
        (
            req("POST /reinitialize"),
            *_posts("POST /reinitialize", {}, *({"force": each} for each in _TRUTHS)),
            *_posts("POST /reinitialize", *({"from_leader": each} for each in _TRUTHS)),
            req("POST /reinitialize", {"force": True, "from_leader": "on", "from-leader": 1}),
            req("POST /reinitialize/x", {"unknown": 1}),
            req("POST /reinitialize", "{", differs="reinitialize-stops reasons-on-pages"),
            req("POST /reinitialize", "[]", differs="reinitialize-stops reasons-on-pages"),
        ),
    ),
    Scene("reinitialize is refused", (("recorded", {"reinitialize": "x already in progress"}),),
          (req("POST /reinitialize", {"force": False}),)),
    Scene("reinitialize the leader", (), (req("POST /reinitialize", {}),)),
    Scene("reinitialize without a leader", (("leader", None),), (req("POST /reinitialize"),)),
    Scene("reinitialize fails", (("recorded", {"reinitialize": "!broken"}),),
          (req("POST /reinitialize", differs="no-empty-replies"),)),
)  # fmt: skip

# What really happens, and is undone.

_REAL: tuple[Request | Story, ...] = (
    (
        req("PATCH /config", {"pause": True}),
        req("GET /config"),
        req("PATCH /config", {"pause": True}),
        req("POST /restart", {"schedule": FUTURE}),
        req("PATCH /config", {"pause": None}),
        req("GET /config"),
    ),
    (
        req("PUT /config", {"ttl": 300, "loop_wait": 10, "retry_timeout": 3, "new": {"a": [1]}}),
        req("PATCH /config", {"new": {"a": None, "b": 1}}),
        req("PUT /config", {"ttl": 300, "loop_wait": 10, "retry_timeout": 3}),
        req("GET /config"),
    ),
    (
        req("POST /restart", {"schedule": FUTURE, "role": "primary", "timeout": "5min"}),
        req("POST /restart", {"schedule": FUTURE}),
        req("GET /patroni"),
        req("GET /cluster"),
        req("DELETE /restart"),
        req("DELETE /restart"),
    ),
    (
        req("POST /switchover", {"leader": "node1", "candidate": "x", "scheduled_at": FUTURE}),
        req("GET /cluster"),
        req("DELETE /switchover"),
        req("DELETE /switchover"),
        req("GET /cluster"),
    ),
    req("POST /switchover", {"leader": "node1"}),
    req("POST /switchover", {"leader": "node1", "candidate": "x"}),
    req("POST /failover", {"candidate": "x"}),
    req("POST /reload"),
    req("POST /restart", {"role": "replica"}),
    req("POST /restart", {"restart_pending": True}),
    req("POST /restart", {"postgres_version": "9.6"}),
    req("POST /restart", {"role": "primary", "timeout": 60}),
)

SCENES: tuple[Scene, ...] = (
    *_ACCESS, *_CONFIGURATION, *_FAILSAFE, *_MPP, *_RESTART, *_REINITIALIZE,
    Scene("real changes", (), _REAL),
)  # fmt: skip

"""The parity test's switchovers and failovers: what is possible, what is not, how they end."""

from __future__ import annotations

from typing import Any

from tests.real.parity_requests import Request, Scene, SetUp, req

FUTURE = "2099-01-01T00:00:00+00:00"
_DONE: SetUp = ("recorded", {"manual_failover": True})
_FAILED: SetUp = ("recorded", {"manual_failover": False})
#: ``@self`` is the URL of our own API, which makes a member that can be asked.
_B: SetUp = ("members", {"b": {"api_url": "@self"}})
_PAUSED: SetUp = ("config", {"pause": True})
_SYNC: SetUp = ("config", {"synchronous_mode": True})


def _posts(line: str, *bodies: Any, differs: str = "") -> tuple[Request, ...]:
    return tuple(req(line, body, differs=differs) for body in bodies)


def _switch(**body: Any) -> Request:
    return req("POST /switchover", {"leader": "node1", **body})


_INVALID: tuple[Any, ...] = (
    {"x": 1},
    {"leader": ""},
    {"leader": None, "candidate": None},
    {"candidate": "b"},
    {"leader": "nobody"},
    {"leader": "nobody", "candidate": "b"},
    {"leader": "node1", "candidate": "node1"},
    {"leader": "node1", "member": "node1"},
    {"leader": "node1", "candidate": "nobody"},
    {"leader": "node1", "candidate": "", "member": "nobody"},
    {"leader": "NODE1", "candidate": "b"},
    {"leader": "nobody", "candidate": "nobody"},
)
_SCHEDULES: tuple[Any, ...] = (
    FUTURE, "2001-01-01T00:00:00+00:00", "2099-01-01T00:00:00", "tomorrow", "", None, 0, False,
    4102444800, [1], True, "2099-13-01T00:00Z",
)  # fmt: skip

_REQUESTS = Scene(
    "switchover and failover",
    (_B, _FAILED),
    (
        *_posts("POST /switchover", *_INVALID),
        *_posts("POST /failover", *_INVALID),
        *(_switch(scheduled_at=each) for each in _SCHEDULES),
        *(_switch(scheduled_at=each, candidate="b") for each in (FUTURE, "tomorrow", None)),
        *_posts("POST /failover", *({"candidate": "b", "scheduled_at": e} for e in _SCHEDULES[:6])),
        _switch(),
        _switch(candidate="b"),
        _switch(member="b"),
        _switch(candidate="b", member="nobody"),
        _switch(candidate="b", unknown=[1]),
        *_posts("POST /failover", {"member": "b"}, {"leader": "node1", "candidate": "b"},
                {"leader": "b", "candidate": "b"}),
        req("POST /switchover/x?y=z", {"leader": "node1"}),
        req("POST /switchover"),
        req("POST /failover"),
        req("POST /switchover", {}, differs="reasons-on-pages"),
        req("POST /failover", "[]", differs="reasons-on-pages"),
        req("POST /switchover", {"leader": 1}, differs="names-are-texts"),
        req("POST /switchover", {"leader": ["node1"]}, differs="names-are-texts"),
        req("POST /failover", {"candidate": 5}, differs="names-are-texts"),
        req("POST /switchover", {"leader": "node1", "candidate": "node1", "scheduled_at": FUTURE},
            differs="same-target"),
        req("POST /switchover", {"leader": "node1", "scheduled_at": "99999999999999999"},
            differs="no-empty-replies"),
        req("POST /switchover", {"leader": "node1"}, version="HTTP/1.1", differs="keep-alive"),
        req("DELETE /switchover"),
        req("DELETE /failover"),
        req("GET /switchover"),
        req("PUT /failover", {"candidate": "b"}),
    ),
)  # fmt: skip

_SCHEDULED: SetUp = ("failover", {"leader": "node1", "member": "b", "scheduled_at": FUTURE})
_STATES = (
    Scene("a scheduled switchover can be written", (_B, _DONE),
          (_switch(scheduled_at=FUTURE), _switch(scheduled_at=FUTURE, candidate="nobody"),
           req("POST /switchover", {"leader": "nobody", "scheduled_at": "2099-01-01 12:00 UTC"}),
           req("POST /failover", {"candidate": "b", "scheduled_at": FUTURE}))),
    Scene("a switchover is scheduled", (_B, _SCHEDULED, _DONE),
          (req("DELETE /switchover"), req("DELETE /switchover/x", {"y": 1}), req("GET /cluster"))),
    Scene("a scheduled switchover changes meanwhile", (_B, _SCHEDULED, _FAILED),
          (req("DELETE /switchover"),)),
    Scene("an immediate switchover is under way",
          (_B, ("failover", {"leader": "node1", "member": "b"}), _DONE),
          (req("DELETE /switchover"),)),
    Scene(
        "switchover in a pause",
        (_B, _PAUSED, _FAILED),
        (
            _switch(), _switch(candidate="b"), _switch(scheduled_at=FUTURE),
            _switch(candidate="b", scheduled_at=FUTURE), _switch(scheduled_at="x"),
            *_posts("POST /failover", {"candidate": "b"}, {"leader": "node1"}, {"x": 1},
                    {"candidate": "b", "scheduled_at": FUTURE},
                    {"leader": "node1", "candidate": "b"}),
        ),
    ),
    Scene(
        "synchronous cluster",
        (_B, _SYNC, ("sync", "node1", "B"), _FAILED),
        (_switch(), _switch(candidate="b"), _switch(candidate="nobody"),
         *_posts("POST /failover", {"candidate": "b"}, {"candidate": "nobody"},
                 {"leader": "node1", "candidate": "b"})),
    ),
    Scene("synchronous cluster without synchronous standby",
          (_B, _SYNC, ("sync", "node1", ""), _FAILED),
          (_switch(), _switch(candidate="b"), req("POST /failover", {"candidate": "b"}),
           req("POST /failover", {"leader": "node1", "candidate": "b"}))),
    Scene("synchronous cluster whose leader the sync key names as a standby",
          (_B, _SYNC, ("sync", "b", "node1"), _FAILED), (_switch(), _switch(candidate="b"))),
    Scene("quorum cluster", (_B, ("config", {"synchronous_mode": "quorum"}),
                             ("sync", "node1", "x"), _FAILED),
          (_switch(), _switch(candidate="b"))),
    Scene("no leader", (_B, ("leader", None), ("lock", False), _FAILED),
          (_switch(), _switch(candidate="b"), req("POST /failover", {"candidate": "b"}),
           req("POST /failover", {"candidate": "node1"}))),
    Scene("a leader alone", (_FAILED,), (_switch(), _switch(candidate="b"))),
    Scene(
        "members that cannot take over",
        (("members", {"gone": {}, "mute": {"api_url": None}, "bad": {"api_url": "nonsense"},
                      "never": {"api_url": "@self", "tags": {"nofailover": True}}}), _FAILED),
        (_switch(), *(_switch(candidate=name) for name in ("gone", "bad", "never")),
         req("POST /failover", {"candidate": "gone"})),
    ),
    Scene("a member without an API", (("members", {"mute": {"api_url": None}}), _FAILED),
          (_switch(),)),
)  # fmt: skip

_AND_NO_MORE = req(
    "POST /switchover",
    {"leader": "node1", "member": "b"},
    name="switchover by a client that will send no more",
    half_close=True,
)
_ENDS = tuple(
    Scene(
        f"{winner} leads and {'a' if stays else 'no'} key is there after {request.name}",
        (_B, ("members", {"c": {"api_url": "@self"}}), ("ending", winner, stays)),
        (request,),
        anew=True,
    )
    for winner, stays, request in (
        ("b", False, _switch(candidate="b")),
        ("b", True, _switch()),
        ("c", False, _switch(candidate="b")),
        ("b", False, req("POST /failover", {"candidate": "b"})),
        ("c", False, req("POST /failover", {"candidate": "b"})),
        ("b", False, req("POST /failover", {"leader": "node1", "candidate": "b"})),
        ("b", False, _AND_NO_MORE),
        ("node1", False, _switch(candidate="b")),
        ("node1", False, req("POST /failover", {"candidate": "b"})),
    )
)

_LOST = Scene(
    "changes while the DCS is lost",
    (("dcs_lost",), ("recorded", {"restart": [True, "restarted successfully"]})),
    (
        *(
            req(line, {"leader": "node1", "candidate": "b"}, differs="dcs-errors")
            for line in ("PATCH /config", "PUT /config", "POST /switchover", "POST /failover")
        ),
        req("DELETE /switchover", differs="dcs-errors"),
        req("POST /restart", differs="restart-without-dcs"),
        req("POST /restart", {"schedule": FUTURE}, differs="dcs-errors"),
        req("POST /restart", {"role": "x"}, differs="restart-without-dcs"),
        req("DELETE /restart"),
        req("POST /reload"),
        req("POST /mpp", {"type": "x"}),
    ),
)
_LOST_REINITIALIZE = Scene(
    "reinitialize while the DCS is lost", (("dcs_lost",),),
    (req("POST /reinitialize", differs="dcs-errors"),),
)  # fmt: skip

SCENES: tuple[Scene, ...] = (_REQUESTS, *_STATES, *_ENDS, _LOST, _LOST_REINITIALIZE)

"""Nodes that have no events: how they are told apart, and what their ``GET /cluster`` says."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from twisted_patroni.client.asking import parse_object
from twisted_patroni.client.reasons import NoAnswer

if TYPE_CHECKING:
    from collections.abc import Mapping

_UNKNOWN = (HTTPStatus.OK, HTTPStatus.NOT_FOUND, HTTPStatus.NOT_IMPLEMENTED)
_LEADERS = ("leader", "standby_leader")
_SYNC = ("sync_standby", "quorum_standby")
_KEPT = (
    "name",
    "role",
    "state",
    "api_url",
    "host",
    "port",
    "timeline",
    "scheduled_restart",
)


def has_no_events(code: int, body: bytes) -> bool:
    """Tell whether an answer to ``GET /events`` is that of a node that does not know the path.

    :param code: the status; the answer is no event stream.
    :param body: the body.
    """
    if code in _UNKNOWN:
        return True
    if code != HTTPStatus.SERVICE_UNAVAILABLE:
        return False
    try:
        # Upstream takes an unknown path for a health check that fails.
        return "patroni" in parse_object(body)
    except NoAnswer:
        return False


def snapshot_of(document: Mapping[str, Any], now: float) -> dict[str, Any]:
    """Make a snapshot, as a node with events sends it, of the document of ``GET /cluster``.

    What such a node cannot know is ``None``, or as it is when all is well.

    :param document: the document.
    :param now: the present time, in seconds since 1970.
    """
    found = document.get("members")
    listed = found if isinstance(found, list) else []
    members = [_member(each) for each in listed if isinstance(each, dict)]
    leader = next((each for each in members if each["role"] in _LEADERS), None)
    return {
        "number": 0,
        "time": datetime.fromtimestamp(now, UTC).isoformat(),
        "type": "snapshot",
        "data": {
            "scope": document.get("scope"),
            "stream": None,
            "leader": leader and leader["name"],
            "timeline": leader and leader["timeline"],
            "locked": leader is not None,
            "paused": document.get("pause") is True,
            "failsafe": False,
            "dcs": True,
            "switchover": document.get("scheduled_switchover"),
            "sync": [each["name"] for each in members if each["role"] in _SYNC],
            "members": members,
            "node": None,
            "operations": [],
            "history": [],
        },
    }


def _member(document: Mapping[str, Any]) -> dict[str, Any]:
    lag = document.get("lag")
    return {
        **{name: document.get(name) for name in _KEPT},
        "lag": lag if isinstance(lag, int) else None,
        "lag_class": "unknown" if lag == "unknown" else None,
        "tags": document.get("tags") or {},
        "pending_restart": bool(document.get("pending_restart")),
    }

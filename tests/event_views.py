"""Views for tests of events, and a subscriber who knows only what he is told."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from attrs import define, evolve

from twisted_patroni.events import MemberState, NodeState, View
from twisted_patroni.events.model import encoded

if TYPE_CHECKING:
    from collections.abc import Mapping

_MEMBER = MemberState(
    name="alpha",
    role="replica",
    state="streaming",
    api_url="http://10.0.0.1:8008/patroni",
    host="10.0.0.1",
    port=5432,
    timeline=3,
    lag_class="low",
    tags={},
    pending_restart=False,
    scheduled_restart=None,
    lag=0,
)


def member(name: str = "alpha", **changes: Any) -> MemberState:
    """Return a streaming replica, with something changed.

    :param name: its name.
    :param changes: attributes by name.
    """
    return evolve(_MEMBER, name=name, **changes)


def leading(name: str = "alpha", **changes: Any) -> MemberState:
    """Return a leader, with something changed.

    :param name: its name.
    :param changes: attributes by name.
    """
    usual = {"role": "leader", "state": "running", "lag_class": None, "lag": None}
    return member(name, **usual | changes)


def view(**changes: Any) -> View:
    """Return the view of alpha, who leads beta, with something changed.

    :param changes: attributes by name.
    """
    usual: dict[str, Any] = {
        "scope": "demo",
        "node": NodeState("alpha", "running", "primary"),
        "leader": "alpha",
        "last_leader": "alpha",
        "timeline": 3,
        "members": (leading(), member("beta")),
        "config": {"ttl": 30},
    }
    return View(**usual | changes)


@define(eq=False)
class Subscriber:
    """Keeps a picture from a snapshot and the events after it, as clients are told to.

    :param picture: the snapshot.
    """

    picture: dict[str, Any]

    @classmethod
    def of(cls, snapshot: View) -> Subscriber:
        """Begin with a snapshot.

        :param snapshot: the view.
        """
        return cls(json.loads(encoded(snapshot.document)))

    def take(self, kind: str, data: Mapping[str, Any]) -> None:
        """Take an event.

        :param kind: its type.
        :param data: its data.
        """
        data = json.loads(encoded(data))
        if kind == "leader":
            self.picture |= {"leader": data["new"], "timeline": data["timeline"], "locked": True}
        elif kind == "cluster":
            self.picture |= {
                key: each for key, each in data.items() if key not in ("changed", "old")
            }
        elif kind == "node":
            self.picture["node"] = {
                key: each for key, each in data.items() if key not in ("changed", "old")
            }
        elif kind == "member":
            self._take_member(data)
        elif kind == "history":
            self.picture["history"] = [*self.picture["history"], data][-View.PAST :]

    def _take_member(self, data: Mapping[str, Any]) -> None:
        members = {each["name"]: each for each in self.picture["members"]}
        members.pop(data["name"], None)
        if data["member"] is not None:
            members[data["name"]] = data["member"]
        self.picture["members"] = [members[name] for name in sorted(members)]


def told_document(shown: View) -> dict[str, Any]:
    """Return a view's document as far as events tell of it: how far members lag is not told.

    :param shown: the view.
    """
    return without_lag(json.loads(encoded(shown.document)))


def without_lag(picture: dict[str, Any]) -> dict[str, Any]:
    """Return a picture without the members' lag.

    :param picture: the picture.
    """
    picture = deepcopy(picture)
    for each in picture["members"]:
        del each["lag"]
    return picture

"""Which node of a cluster tells others of a change that all of its nodes see. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twisted_patroni.events.model import Event, View

#: States of a member that can be relied on when nobody leads.
_HEALTHY = ("running", "streaming", "in archive recovery")
#: What each node finds out about the DCS for itself: failsafe mode comes with not reaching it.
_OWN = {"dcs", "failsafe"}


def is_firsthand(event: Event, me: str) -> bool:
    """Tell whether a node is the one that tells of an event to those who want it once.

    :param event: the event as this node saw it.
    :param me: this node's name.
    """
    data = event.data
    match event.type:
        case "leader":
            return bool(data["new"] == me)
        case "node":
            return True
        case "operation":
            by = data.get("by")
            adopted = isinstance(by, dict) and bool(by.get("dcs"))
            return not adopted or speaks(event.view, me)
        case "member" if data["change"] != "left":
            return bool(data["name"] == me)
        case "cluster" if "dcs" in data["changed"] and _OWN.issuperset(data["changed"]):
            return True
        case _:
            return speaks(event.view, me)


def speaks(view: View | None, me: str) -> bool:
    """Tell whether a node speaks for the cluster.

    :param view: the cluster as the node sees it.
    :param me: the node's name.
    """
    return view is not None and speaker(view) == me


def speaker(view: View) -> str | None:
    """Return who speaks for the cluster: the leader or, while there is none, a deputy.

    The deputy is the first by name of the healthy members; of all members, if none is healthy.
    The last leader is the very last choice, for it may be what has failed. Nodes that see the same
    name the same one.

    :param view: the cluster.
    :return: a member's name, ``None`` if there are no members.
    """
    names = {member.name for member in view.members}
    if view.leader in names:
        return view.leader
    ranked = [
        (member.name == view.last_leader, member.state not in _HEALTHY, member.name)
        for member in view.members
    ]
    return min(ranked)[2] if ranked else None

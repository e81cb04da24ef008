"""Tests of twisted_patroni.events.compare: which changes of the view are told of, and how."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.event_views import Subscriber, leading, member, told_document, view, without_lag
from twisted_patroni.events import Change, MemberState, NodeState, View, changes
from twisted_patroni.events.compare import lag_class

PLAN = {"from": "alpha", "to": "beta", "at": "2026-07-02T12:00:00+00:00"}
#: Another value for each attribute of the cluster that can change alone.
CLUSTER: dict[str, Any] = {
    "timeline": 4,
    "paused": True,
    "failsafe": True,
    "dcs": False,
    "switchover": PLAN,
    "sync": ("beta",),
}
NODE: dict[str, Any] = {
    "state": "stopping",
    "role": "demoted",
    "pending_restart": ("max_connections",),
    "drain": {"reason": "repair"},
}
MEMBER: dict[str, Any] = {
    "role": "sync_standby",
    "state": "stopped",
    "api_url": None,
    "host": "10.0.0.9",
    "port": 5433,
    "timeline": None,
    "lag_class": "high",
    "tags": {"nofailover": True},
    "pending_restart": True,
    "scheduled_restart": {"schedule": "2026-07-02T12:00:00+00:00"},
}


class AttributeTests(SynchronousTestCase):
    """Each attribute, changed alone."""

    def only(self, old: View, new: View) -> Change:
        """Return the only change."""
        (change,) = changes(old, new)
        return change

    def test_nothing(self) -> None:
        """Nothing is told when nothing has changed, nor of what nobody follows."""
        self.assertEqual(changes(view(), view()), [])
        behind = view(members=(leading(), member("beta", lag=999)))
        self.assertEqual(changes(view(), behind), [])

    def test_cluster(self) -> None:
        """The cluster's, with what it was and all that it is."""
        self.assertEqual({*CLUSTER, "locked"}, set(View.ATTRIBUTES))
        for name, value in CLUSTER.items():
            old, new = view(), view(**{name: value})
            change = self.only(old, new)
            self.assertEqual((change.type, change.data["changed"]), ("cluster", [name]))
            self.assertEqual(change.data["old"], {name: getattr(old, name)})
            self.assertEqual(change.data[name], value)
            for other in ("leader", *View.ATTRIBUTES):
                self.assertEqual(change.data[other], getattr(new, other))

    def test_node(self) -> None:
        """The node's."""
        self.assertEqual(set(NODE), set(NodeState.ATTRIBUTES))
        for name, value in NODE.items():
            old = view()
            change = self.only(old, view(node=evolve(old.node, **{name: value})))
            self.assertEqual((change.type, change.data["changed"]), ("node", [name]))
            self.assertEqual(change.data["old"], {name: getattr(old.node, name)})
            self.assertEqual((change.data["name"], change.data[name]), ("alpha", value))

    def test_member(self) -> None:
        """A member's."""
        self.assertEqual(set(MEMBER), set(MemberState.ATTRIBUTES))
        for name, value in MEMBER.items():
            new = member("beta", **{name: value})
            change = self.only(view(), view(members=(leading(), new)))
            self.assertEqual((change.type, change.data["change"]), ("member", "changed"))
            self.assertEqual((change.data["name"], change.data["changed"]), ("beta", [name]))
            self.assertEqual(change.data["old"], {name: getattr(member("beta"), name)})
            self.assertEqual(change.data["member"], new.document)

    def test_coming_and_going(self) -> None:
        """Members join and leave."""
        small, large = view(), view(members=(leading(), member("beta"), member("gamma")))
        expected = {"name": "gamma", "changed": [], "old": {}}
        joined = self.only(small, large)
        self.assertEqual(
            joined.data, {**expected, "change": "joined", "member": member("gamma").document}
        )
        left = self.only(large, small)
        self.assertEqual(left.data, {**expected, "change": "left", "member": None})


class LeaderTests(SynchronousTestCase):
    """Who leads."""

    def test_switchover(self) -> None:
        """One event with both names; the timeline of one who is not promoted yet is not known."""
        (change,) = changes(view(), view(leader="beta", last_leader="beta", timeline=None))
        self.assertEqual(
            change, Change("leader", {"old": "alpha", "new": "beta", "timeline": None})
        )

    def test_promoted(self) -> None:
        """The new timeline is told once it is known, as the cluster's."""
        old = view(leader="beta", last_leader="beta", timeline=None)
        (change,) = changes(old, evolve(old, timeline=4))
        self.assertEqual((change.type, change.data["changed"]), ("cluster", ["timeline"]))
        self.assertEqual((change.data["leader"], change.data["timeline"]), ("beta", 4))

    def test_nobody(self) -> None:
        """That nobody leads is told of the cluster; a leader is an event when another one leads."""
        nobody = view(leader=None, timeline=None)
        (gone,) = changes(view(), nobody)
        self.assertEqual((gone.type, gone.data["changed"]), ("cluster", ["locked", "timeline"]))
        self.assertEqual((gone.data["leader"], gone.data["locked"]), (None, False))
        (back,) = changes(nobody, view())
        self.assertEqual((back.type, back.data["leader"]), ("cluster", "alpha"))
        other = view(leader="beta", last_leader="beta", timeline=None)
        self.assertEqual([each.type for each in changes(nobody, other)], ["leader", "cluster"])

    def test_first(self) -> None:
        """The first leader of a cluster has none before it."""
        young = view(leader=None, last_leader=None, timeline=None)
        leader, _ = changes(young, view())
        self.assertEqual(leader.data, {"old": None, "new": "alpha", "timeline": 3})


class OtherTests(SynchronousTestCase):
    """Configuration, history, lag and order."""

    def test_config(self) -> None:
        """Keys that were changed, added or removed, nested ones by their path."""
        old = {"ttl": 30, "postgresql": {"parameters": {"a": 1, "b": 2}, "use_slots": True}}
        new = {
            "ttl": 20,
            "postgresql": {"parameters": {"a": 1, "c": 3}, "use_slots": True},
            "x": {},
        }
        (change,) = changes(view(config=old), view(config=new))
        self.assertEqual(change.type, "config")
        self.assertEqual(
            change.data["changed"],
            {
                "ttl": {"old": 30, "new": 20},
                "postgresql.parameters.b": {"old": 2, "new": None},
                "postgresql.parameters.c": {"old": None, "new": 3},
                "x": {"old": None, "new": {}},
            },
        )

    def test_config_that_is_not_known(self) -> None:
        """A configuration that appears or is lost is no change to one; nor is no number."""
        for old, new in (
            (None, {"ttl": 30}),
            ({"ttl": 30}, None),
            ({"x": float("nan")}, {"x": float("nan")}),
        ):
            self.assertEqual(changes(view(config=old), view(config=new)), [])

    def test_history(self) -> None:
        """Each new line is told once, also the first ever; what is no line is passed over."""
        first, second = [1, 10, "x", "t", "alpha"], [2, 20, "y", "u", "beta"]
        told = changes(view(), view(history=[first, second]))
        self.assertEqual([each.data["timeline"] for each in told], [1, 2])
        (change,) = changes(view(history=[first]), view(history=["junk", first, second, ["z"]]))
        self.assertEqual((change.type, change.data["leader"]), ("history", "beta"))
        self.assertEqual(changes(view(history=[first, second]), view(history=[second])), [])

    def test_order(self) -> None:
        """What is seen together is told in an order: who leads comes first."""
        new = view(
            leader="beta",
            last_leader="beta",
            paused=True,
            members=(member("alpha"), leading("beta")),
            node=NodeState("alpha", "running", "replica"),
            config={"ttl": 20},
            history=[[3, 1, "x"]],
        )
        self.assertEqual(
            [each.type for each in changes(view(), new)],
            ["leader", "cluster", "member", "member", "node", "config", "history"],
        )

    def test_lag(self) -> None:
        """Far behind is more than the bound; close again is half of it: nothing flutters."""
        for lag, before, expected in (
            (None, "low", "unknown"),
            (0, None, "low"),
            (100, "low", "low"),
            (101, "low", "high"),
            (101, "unknown", "high"),
            (100, "high", "high"),
            (51, "high", "high"),
            (50, "high", "low"),
        ):
            self.assertEqual(lag_class(lag, 100, before), expected, (lag, before))


NAMES = st.sampled_from(["alpha", "beta", "gamma"])
MEMBERS = st.builds(
    member,
    NAMES,
    role=st.sampled_from(["leader", "replica"]),
    state=st.sampled_from(["running", "stopped"]),
    timeline=st.sampled_from([None, 1, 2]),
    lag=st.integers(0, 9),
    tags=st.dictionaries(st.sampled_from("ab"), st.booleans()),
)
VIEWS = st.builds(
    view,
    node=st.builds(
        NodeState, st.just("alpha"), st.sampled_from(["running", "stopped"]), st.just("replica")
    ),
    leader=st.none() | NAMES,
    timeline=st.sampled_from([None, 1, 2]),
    members=st.lists(MEMBERS, max_size=3, unique_by=lambda each: each.name).map(
        lambda each: tuple(sorted(each, key=lambda one: one.name))
    ),
    paused=st.booleans(),
    dcs=st.booleans(),
    switchover=st.none() | st.just(PLAN),
    sync=st.sampled_from([(), ("beta",)]),
)


class PictureTests(SynchronousTestCase):
    """What a subscriber makes of it."""

    @given(st.lists(VIEWS, min_size=1, max_size=6))
    def test_subscribers_picture(self, views: list[View]) -> None:
        """A snapshot and the changes after it always give the newest view."""
        history: list[list[Any]] = []
        last: str | None = None
        old: View | None = None
        subscriber: Subscriber | None = None
        for number, each in enumerate(views):
            last = each.leader or last
            history = [*history, [number + 1, 1, "x"]] if number % 2 else history
            new = evolve(each, last_leader=last, history=history)
            if old is None or subscriber is None:
                subscriber = Subscriber.of(new)
            else:
                told = changes(old, new)
                self.assertEqual(bool(told), told_document(old) != told_document(new))
                for change in told:
                    subscriber.take(change.type, change.data)
            self.assertEqual(without_lag(subscriber.picture), told_document(new))
            self.assertEqual(changes(new, new), [])
            old = new

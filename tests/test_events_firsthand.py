"""Tests of twisted_patroni.events.firsthand: of three nodes that see a change, one tells of it."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_patroni.events import Event, MemberState, NodeState, View, changes
from twisted_patroni.events.firsthand import is_firsthand, speaker

if TYPE_CHECKING:
    from collections.abc import Iterable

NAMES = ("a", "b", "c")


def member(name: str, state: str = "streaming", **changed: Any) -> MemberState:
    """Return a replica with something changed."""
    usual: dict[str, Any] = {
        "role": "replica",
        "api_url": None,
        "host": None,
        "port": None,
        "timeline": 1,
        "lag_class": "low",
        "tags": {},
        "pending_restart": False,
        "scheduled_restart": None,
    }
    return MemberState(name=name, state=state, **usual | changed)


def view(leader: str | None = "a", last: str | None = "a", **changed: Any) -> View:
    """Return a cluster of three with something changed, as nobody in particular sees it."""
    usual: dict[str, Any] = {"members": tuple(member(name) for name in NAMES)}
    node = NodeState("", "running", "replica")
    return View("demo", node, leader=leader, last_leader=leader or last, **usual | changed)


def seen_by(me: str, picture: View) -> View:
    """Return a view as one of the nodes has it."""
    return evolve(picture, node=NodeState(me, "running", "replica"))


def tellers(event_type: str, data: Any, picture: View) -> list[str]:
    """Return the nodes that tell of an event that all three see."""
    event = Event(1, 0.0, event_type, data, picture)
    return [
        name for name in NAMES if is_firsthand(evolve(event, view=seen_by(name, picture)), name)
    ]


class TableTests(SynchronousTestCase):
    """Who tells, change by change."""

    def test_leader(self) -> None:
        """Of a new leader tells that leader."""
        data = {"old": "a", "new": "b", "timeline": 2}
        self.assertEqual(tellers("leader", data, view("b")), ["b"])

    def test_member(self) -> None:
        """A member tells of itself; of one that has left, who speaks for the cluster."""
        for change in ("joined", "changed"):
            self.assertEqual(tellers("member", {"name": "c", "change": change}, view()), ["c"])
        gone = {"name": "c", "change": "left"}
        rest = tuple(member(name) for name in "ab")
        self.assertEqual(tellers("member", gone, view("b", members=rest)), ["b"])
        gone = {"name": "a", "change": "left"}
        rest = tuple(member(name) for name in "bc")
        self.assertEqual(tellers("member", gone, view(None, "a", members=rest)), ["b"])

    def test_node(self) -> None:
        """Each node tells of itself."""
        self.assertEqual(tellers("node", {"name": "?", "changed": ["state"]}, view()), [*NAMES])

    def test_cluster(self) -> None:
        """The leader speaks for the cluster, and while there is none, a deputy."""
        for event_type, data in (
            ("cluster", {"changed": ["paused"]}),
            ("cluster", {"changed": ["locked", "timeline"]}),
            ("cluster", {"changed": ["failsafe"]}),
            ("cluster", {"changed": ["locked", "dcs"]}),
            ("config", {"changed": {"ttl": {"old": 30, "new": 20}}}),
            ("history", {"timeline": 1}),
        ):
            for leader in NAMES:
                self.assertEqual(tellers(event_type, data, view(leader)), [leader])
            self.assertEqual(tellers(event_type, data, view(None, "a")), ["b"])
            self.assertEqual(tellers(event_type, data, view(None, "b")), ["a"])
            self.assertEqual(tellers(event_type, data, view(None, None)), ["a"])

    def test_dcs(self) -> None:
        """Whether it reaches the DCS is what each node knows of itself alone."""
        for changed in (["dcs"], ["failsafe", "dcs"]):
            self.assertEqual(tellers("cluster", {"changed": changed}, view()), [*NAMES])

    def test_operation(self) -> None:
        """An operation is its node's own; one found in the DCS is the speaker's."""
        for by in ({"user": "alice"}, {"dcs": False}, None):
            data = {"id": "op-1", "by": by}
            self.assertEqual(tellers("operation", data, view()), [*NAMES])
        data = {"id": "op-1", "by": {"dcs": True}}
        self.assertEqual(tellers("operation", data, view("b")), ["b"])
        self.assertEqual(tellers("operation", data, view(None, "a")), ["b"])

    def test_unknown(self) -> None:
        """Before a node knows its cluster, it tells of what is its own only."""
        for event_type, data, expected in (
            ("operation", {"by": {}}, True),
            ("operation", {"by": {"dcs": True}}, False),
            ("cluster", {"changed": ["paused"]}, False),
        ):
            self.assertIs(is_firsthand(Event(1, 0.0, event_type, data), "a"), expected)


class SpeakerTests(SynchronousTestCase):
    """Who speaks for the cluster."""

    def assert_speaks(self, expected: str | None, picture: View) -> None:
        """Fail unless this member speaks."""
        self.assertEqual(speaker(picture), expected)

    def test_deputy(self) -> None:
        """The healthy come first, then the others, and last the one that has just led."""
        for states, last, expected in (
            (("starting", "streaming", "streaming"), None, "b"),
            (("running", "stopped", "in archive recovery"), "a", "c"),
            (("running", "stopped", "stopped"), "a", "b"),
            (("stopped", "start failed", "stopped"), None, "a"),
        ):
            members = tuple(map(member, NAMES, states))
            self.assert_speaks(expected, view(None, last, members=members))

    def test_alone(self) -> None:
        """A node that is alone speaks, whether it leads or has led; without members nobody does."""
        alone = (member("a", "stopped"),)
        self.assert_speaks("a", view("a", members=alone))
        self.assert_speaks("a", view(None, "a", members=alone))
        self.assert_speaks(None, view(None, "a", members=()))

    def test_ghost(self) -> None:
        """A leader that is no member does not speak: nothing of it is left but its lock."""
        self.assert_speaks("b", view("a", members=(member("b"), member("c"))))


STATES = st.sampled_from(("running", "streaming", "stopped", "starting", "in archive recovery"))


@st.composite
def pictures(draw: st.DrawFn) -> View:
    """Draw a cluster of some of three nodes."""
    names = draw(st.sets(st.sampled_from(NAMES), min_size=1))
    members = tuple(
        member(
            name,
            draw(STATES),
            timeline=draw(st.integers(1, 3)),
            pending_restart=draw(st.booleans()),
        )
        for name in sorted(names)
    )
    return view(
        draw(st.sampled_from((None, *NAMES))),
        draw(st.sampled_from((None, *NAMES))),
        members=members,
        timeline=draw(st.integers(1, 3)),
        paused=draw(st.booleans()),
        failsafe=draw(st.booleans()),
        sync=tuple(draw(st.sets(st.sampled_from(NAMES)))),
        config={"ttl": draw(st.integers(20, 22))},
        history=[[number, 0, "", None] for number in range(draw(st.integers(0, 3)))],
    )


def all_changes(history: list[View]) -> Iterable[tuple[str, Any, View]]:
    """Name each change of a history, with the picture after it."""
    for old, new in pairwise(history):
        for change in changes(old, new):
            yield change.type, change.data, new


class HistoryTests(SynchronousTestCase):
    """Whatever happens to a cluster."""

    @settings(max_examples=300, deadline=None)
    @given(st.lists(pictures(), min_size=2, max_size=4))
    def test_one(self, history: list[View]) -> None:
        """Of each change tells exactly one node, and one that is there."""
        for event_type, data, picture in all_changes(history):
            telling = tellers(event_type, data, picture)
            self.assertEqual(len(telling), 1, (event_type, data))
            if event_type != "leader":
                names = {each.name for each in picture.members}
                self.assertIn(telling[0], names, (event_type, data))

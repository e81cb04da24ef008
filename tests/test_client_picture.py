"""A picture is the snapshot and what has changed since."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.event_nodes import event, member, view
from twisted_patroni.client.picture import MAX_MEMBERS, MAX_OPERATIONS, Picture
from twisted_patroni.watch.screen import Link, Told, ansi, draw
from twisted_patroni.watch.sentences import sentences
from twisted_patroni.watch.text import clean

KINDS = ("snapshot", "leader", "member", "node", "cluster", "config", "operation", "history", "gap")
KEYS = (
    *("scope", "leader", "timeline", "locked", "paused", "failsafe", "dcs", "switchover", "sync"),
    *("members", "node", "operations", "name", "role", "state", "lag", "lag_class", "tags"),
    *("pending_restart", "scheduled_restart", "change", "changed", "member", "old", "new", "from"),
    *("to", "at", "id", "kind", "steps", "text", "result", "drain", "reason", "created"),
)

_words = st.sampled_from(["a", "b", "leader", "left", "running", "succeeded", "role", "switchover"])
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | _words | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6)
    ),
    max_leaves=12,
)


def picture(**changes: Any) -> Picture:
    """Return the picture that a snapshot makes."""
    return Picture().after(event("snapshot", view(**changes)))


class PictureTests(SynchronousTestCase):
    """Events."""

    def test_snapshot(self) -> None:
        """A snapshot is all that is known, whatever was before."""
        first = picture(paused=True, sync=["b"])
        self.assertEqual((first.scope, first.leader, first.timeline), ("demo", "a", 3))
        self.assertEqual(
            (first.paused, first.sync, list(first.members)), (True, ("b",), ["a", "b"])
        )
        second = first.after(event("snapshot", view(member("c"), leader=None, locked=False)))
        self.assertEqual((second.leader, second.locked, second.paused), (None, False, False))
        self.assertEqual(list(second.members), ["c"])

    def test_leader(self) -> None:
        """Another leader, with its timeline if that is known."""
        changed = picture().after(event("leader", {"old": "a", "new": "b", "timeline": None}))
        self.assertEqual((changed.leader, changed.timeline), ("b", 3))
        changed = changed.after(event("leader", {"old": "b", "new": "a", "timeline": 5}))
        self.assertEqual((changed.leader, changed.timeline), ("a", 5))

    def test_member(self) -> None:
        """Members join, change and leave; the leader's timeline is the cluster's."""
        changed = picture().after(
            event(
                "member",
                {
                    "name": "a",
                    "change": "changed",
                    "changed": ["timeline"],
                    "member": member("a", "leader", timeline=4),
                },
            )
        )
        self.assertEqual((changed.members["a"].timeline, changed.timeline), (4, 4))
        changed = changed.after(
            event("member", {"name": "c", "change": "joined", "member": member("c", lag=7)})
        )
        self.assertEqual(changed.members["c"].lag, 7)
        changed = changed.after(event("member", {"name": "b", "change": "left", "member": None}))
        self.assertEqual(list(changed.members), ["a", "c"])

    def test_lags(self) -> None:
        """How far members are behind is known anew; others do not come in by that."""
        changed = picture().with_lags([member("b", lag=70), member("z")])
        self.assertEqual((changed.members["b"].lag, list(changed.members)), (70, ["a", "b"]))

    def test_strange_numbers(self) -> None:
        """Numbers beyond what PostgreSQL knows, and what is no number, are unknown."""
        for value in (10**400, True, 1.5, "7"):
            changed = picture().with_lags([member("b", lag=value)])
            self.assertIsNone(changed.members["b"].lag)

    def test_flags(self) -> None:
        """What is told of the cluster changes that and nothing else."""
        plan = {"from": "a", "to": "b", "at": "2026-11-21T20:00:00+00:00"}
        changed = picture(paused=True).after(event("cluster", {"changed": ["dcs"], "dcs": False}))
        self.assertEqual((changed.dcs, changed.paused, changed.locked), (False, True, True))
        changed = changed.after(event("cluster", {"changed": ["switchover"], "switchover": plan}))
        self.assertEqual(changed.switchover, plan)
        changed = changed.after(event("cluster", {"changed": ["switchover"], "switchover": None}))
        self.assertEqual(changed.switchover, {})

    def test_timeline(self) -> None:
        """A new timeline is told when the new leader has published it."""
        changed = picture(leader="b", timeline=6).after(
            event("cluster", {"changed": ["timeline"], "leader": "b", "timeline": 7})
        )
        self.assertEqual((changed.leader, changed.timeline), ("b", 7))
        changed = changed.after(
            event("cluster", {"changed": ["locked"], "locked": False, "leader": None})
        )
        self.assertEqual((changed.leader, changed.timeline, changed.locked), ("b", 7, False))

    def test_node(self) -> None:
        """The node that tells is drained, and is not any more."""
        changed = picture().after(event("node", {"changed": ["drain"], "drain": {"reason": "x"}}))
        self.assertEqual(changed.node["drain"], {"reason": "x"})
        changed = changed.after(event("node", {"changed": ["drain"], "drain": None}))
        self.assertIsNone(changed.node["drain"])

    def test_operations(self) -> None:
        """Operations are there until they have ended."""
        running = {"id": "op-1", "kind": "restart", "state": "running"}
        changed = picture().after(event("operation", running))
        self.assertEqual(changed.operations, {"op-1": running})
        changed = changed.after(event("operation", {**running, "state": "failed"}))
        self.assertEqual(changed.operations, {})

    def test_bounded(self) -> None:
        """However many members and operations are told of, a bound of them is remembered."""
        changed = picture(operations=[{"id": str(n)} for n in range(1000)])
        self.assertEqual(len(changed.operations), MAX_OPERATIONS)
        for number in range(MAX_MEMBERS + 10):
            data = {"name": str(number), "change": "joined", "member": member(str(number))}
            changed = changed.after(event("member", data))
        changed = changed.after(event("operation", {"id": "one more", "state": "running"}))
        self.assertEqual(
            (len(changed.members), len(changed.operations)), (MAX_MEMBERS, MAX_OPERATIONS)
        )

    @settings(max_examples=300, derandomize=True, database=None, deadline=None)
    @given(st.lists(st.tuples(st.sampled_from(KINDS) | st.text(max_size=3), _values), max_size=4))
    def test_nonsense(self, told: list[tuple[str, Any]]) -> None:
        """Whatever is told, it can be said in sentences and drawn, and steers no terminal."""
        current = picture()
        said: list[Told] = []
        for kind, data in told:
            one = event(kind, data)
            said += [Told("00:00:00", each) for each in sentences(one, current)]
            current = current.after(one)
        lines = draw(current, Link("http://a", since=0.0), said, 100.0, 60, 20)
        self.assertLessEqual(len(lines), 20)
        text = "".join(ansi(line, colour=False) for line in lines)
        self.assertEqual(text, clean(text, len(text)))
        for each in said:
            self.assertEqual(each.text, clean(each.text, 5000))

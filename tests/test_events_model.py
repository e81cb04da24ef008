"""Tests of twisted_patroni.events.model: what events and views are as documents."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from tests.event_views import member, view
from twisted_patroni.events import TYPES, Event, NodeState
from twisted_patroni.events.model import encoded, history_document, moment

LINE = [6, 83886080, "no recovery target specified", "2026-07-01T10:00:00+00:00", "beta"]


class EventTests(SynchronousTestCase):
    """One event."""

    def test_document(self) -> None:
        """Number, time with its zone, type and data, and nothing else."""
        event = Event(1790000000123, 1782907200.25, "leader", {"new": "beta"}, view())
        expected = {
            "number": 1790000000123,
            "time": "2026-07-01T12:00:00.250000+00:00",
            "type": "leader",
            "data": {"new": "beta"},
        }
        self.assertEqual(event.document, expected)
        self.assertEqual(json.loads(event.text), expected)

    def test_encoded_once(self) -> None:
        """However many read it, the text is made once; it has no line end."""
        event = Event(1, 0.0, "node", {"state": "a\nb"})
        self.assertIs(event.text, event.text)
        self.assertNotIn("\n", event.text)

    def test_time(self) -> None:
        """Whole seconds have a zone, too."""
        self.assertEqual(moment(0), "1970-01-01T00:00:00+00:00")

    def test_types(self) -> None:
        """There are no two of a name."""
        self.assertEqual(len(TYPES), len(set(TYPES)))

    def test_what_json_lacks(self) -> None:
        """What JSON has no word for becomes text, wherever it is; the rest stays as it is."""
        nested = {"a": float("nan"), "b": [1.5, float("inf")], "c": (True, None), "d": {1}}
        expected = {"a": "nan", "b": [1.5, "inf"], "c": [True, None], "d": "{1}"}
        self.assertEqual(json.loads(encoded(nested)), expected)


class ViewTests(SynchronousTestCase):
    """The picture for a newcomer."""

    def test_document(self) -> None:
        """Everything a newcomer needs is there, by the names that events use."""
        document = view(members=(member("beta", tags={"dc": "east"}),)).document
        self.assertEqual(
            set(document),
            {"scope", "leader", "timeline", "locked", "paused", "failsafe", "dcs", "switchover"}
            | {"sync", "members", "node", "history"},
        )
        self.assertEqual((document["leader"], document["timeline"]), ("alpha", 3))
        (shown,) = document["members"]
        self.assertEqual((shown["name"], shown["tags"], shown["lag"]), ("beta", {"dc": "east"}, 0))
        self.assertEqual(document["node"]["name"], "alpha")
        self.assertEqual(json.loads(encoded(document))["sync"], [])

    def test_locked(self) -> None:
        """Locked is the cluster that somebody leads."""
        self.assertTrue(view().locked)
        document = view(leader=None).document
        self.assertEqual((document["locked"], document["leader"]), (False, None))

    def test_history(self) -> None:
        """The last ten lines, with names; short ones, and nothing that is no line."""
        lines = [[number, 1, "x"] for number in range(1, 15)]
        history = view(history=[*lines, "junk", [], ["a", 1, "x"], None]).document["history"]
        self.assertEqual([each["timeline"] for each in history], [*range(5, 15)])
        self.assertEqual(history[0]["leader"], None)
        self.assertEqual(
            history_document(LINE),
            dict(zip(("timeline", "lsn", "reason", "time", "leader"), LINE, strict=True)),
        )

    def test_lag_is_no_difference(self) -> None:
        """Members that differ in their lag only are the same to events."""
        self.assertEqual(member(lag=1), member(lag=2))
        self.assertNotEqual(member(lag_class="high"), member(lag_class="low"))

    def test_node(self) -> None:
        """The node's document has all that its events have."""
        node = NodeState("alpha", "running", "primary", ("max_connections",), {"reason": "x"})
        self.assertEqual(
            node.document,
            {
                "name": "alpha",
                "state": "running",
                "role": "primary",
                "pending_restart": ("max_connections",),
                "drain": {"reason": "x"},
            },
        )

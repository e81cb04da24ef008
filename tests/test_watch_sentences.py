"""Events are said in words that an operator would use."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.event_nodes import event, member, view
from twisted_patroni.client.picture import Picture
from twisted_patroni.watch.sentences import sentences

OPERATION = {
    "id": "op-1",
    "kind": "switchover",
    "node": "a",
    "state": "running",
    "steps": [{"time": "", "text": "asked the candidates"}],
    "result": None,
}


def said(kind: str, data: Any, before: Picture | None = None) -> list[str]:
    """Return the sentences for an event."""
    return sentences(event(kind, data), before or Picture())


class SentenceTests(SynchronousTestCase):
    """Each type of event."""

    def test_events(self) -> None:
        """Each event is one sentence for each thing that changed."""
        joined = {"name": "b", "change": "joined", "member": member("b")}
        changed = {
            "name": "b",
            "change": "changed",
            "changed": ["role", "lag_class", "pending_restart"],
            "member": member("b", "leader", pending_restart=True, lag_class=None),
            "old": {"role": "replica", "lag_class": "low", "pending_restart": False},
        }
        tags = {
            "name": "b",
            "change": "changed",
            "changed": ["tags"],
            "old": {"tags": {}},
            "member": member("b", tags={"nofailover": True, "site": "attic"}),
        }
        node = {
            "name": "a",
            "changed": ["state", "pending_restart"],
            "state": "stopped",
            "pending_restart": ["max_connections"],
            "old": {"state": "running"},
        }
        drain = {"reason": "kernel", "owner": "joe", "expires": "soon", "primary": True}
        behind = {
            "name": "b",
            "change": "changed",
            "changed": ["lag_class", "timeline"],
            "member": member("b", lag_class="high", timeline=None),
            "old": {"lag_class": "low", "timeline": 3},
        }
        leads = {**behind, "changed": ["lag_class"], "member": member("b", "leader")}
        restart = {
            "name": "b",
            "change": "changed",
            "changed": ["scheduled_restart"],
            "member": member("b", scheduled_restart={"schedule": "tonight", "role": "replica"}),
            "old": {"scheduled_restart": None},
        }
        flags = ["paused", "locked", "failsafe", "dcs"]
        history = {"timeline": 6, "lsn": 50331648, "reason": "no recovery target", "leader": "b"}
        result = {"status": 200, "text": "Successfully switched over"}
        for kind, data, *expected in (
            ("leader", {"old": "a", "new": "b", "timeline": 7}, "leader: a -> b (timeline 7)"),
            ("leader", {"old": None, "new": "b", "timeline": None}, "leader: b"),
            ("member", joined, "b: joined the cluster (replica, streaming)"),
            ("member", {"name": "b", "change": "left", "member": None}, "b: left the cluster"),
            ("member", changed, "b: role replica -> leader, waits for a restart"),
            ("member", behind, "b: lag low -> high, timeline 3 -> unknown"),
            ("member", leads),
            ("member", restart, "b: scheduled restart none -> tonight"),
            ("member", tags, "b: tags none -> nofailover=true site=attic"),
            (
                "node",
                node,
                "a itself: state running -> stopped",
                "a itself: waits for a restart (max_connections)",
            ),
            (
                "node",
                {"name": "a", "changed": ["pending_restart"], "pending_restart": []},
                "a itself: waits for no restart any more",
            ),
            (
                "node",
                {"name": "a", "changed": ["drain"], "drain": drain},
                "a: is drained (kernel, by joe, until soon, as a primary, too)",
            ),
            ("node", {"name": "a", "changed": ["drain"], "drain": None}, "a: is drained no more"),
            (
                "cluster",
                {"changed": flags, "paused": True, "locked": False, "failsafe": True, "dcs": False},
                "cluster: paused",
                "cluster: nobody holds the leader lock",
                "cluster: the failsafe mode is active",
                "cluster: the DCS cannot be reached",
            ),
            ("cluster", {"changed": ["timeline"], "timeline": 7}, "cluster: timeline 7"),
            ("cluster", {"changed": ["timeline"], "timeline": None}),
            (
                "cluster",
                {"changed": ["sync"], "sync": ["b", "c"]},
                "cluster: synchronous standbys: b, c",
            ),
            (
                "cluster",
                {"changed": ["switchover"], "switchover": {"from": "a", "to": None}},
                "switchover scheduled: a -> any member",
            ),
            ("cluster", {"changed": ["switchover"], "switchover": None}, "no switchover scheduled"),
            (
                "config",
                {"changed": {"ttl": {"old": 30, "new": 20}, "x.y": {"old": None, "new": {}}}},
                "config: ttl 30 -> 20",
                "config: x.y none -> none",
            ),
            ("operation", OPERATION, "switchover on a running: asked the candidates"),
            (
                "operation",
                {**OPERATION, "state": "succeeded", "result": result},
                "switchover on a succeeded: Successfully switched over",
            ),
            (
                "history",
                history,
                "history: timeline 6 ended at 0/3000000: no recovery target, then b led",
            ),
            (
                "gap",
                {"after": 1, "oldest": 7},
                "some events were missed; what follows is how it is now",
            ),
            ("news", {"x": 1}, 'news: {"x": 1}'),
        ):
            self.assertEqual(said(kind, data), expected)

    def test_many_changes(self) -> None:
        """Of very many changes the first ones are told, and how many there are."""
        lines = said("config", {"changed": {str(n): {} for n in range(25)}})
        self.assertEqual((len(lines), lines[-1]), (21, "config: and 5 more"))

    def test_clean(self) -> None:
        """Nothing from the network can steer the terminal."""
        self.assertEqual(
            said("member", {"name": "\x1b]0;x\x07", "change": "left"}), ["?]0;x?: left the cluster"]
        )


class SnapshotTests(SynchronousTestCase):
    """Snapshots."""

    def test_first(self) -> None:
        """The first one is introduced."""
        self.assertEqual(
            said("snapshot", view(paused=True)),
            [
                "cluster demo: leader a, timeline 3",
                "members: a (leader, running), b (replica, streaming)",
                "cluster: paused",
            ],
        )

    def test_later(self) -> None:
        """Of a later one what is different is told; nothing if it is the same."""
        before = Picture().after(event("snapshot", view()))
        self.assertEqual(said("snapshot", view(), before), [])
        changes = view(member("b", "leader"), member("c"), leader="b", timeline=4, dcs=False)
        self.assertEqual(
            said("snapshot", changes, before),
            [
                "leader: a -> b (timeline 4)",
                "c (replica, streaming) joined the cluster",
                "a: left the cluster",
                "b: role replica -> leader, state streaming -> running",
                "cluster: the DCS cannot be reached",
            ],
        )

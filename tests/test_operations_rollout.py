"""Tests of twisted_patroni.operations.rollout: a configuration on its way to each member."""

from __future__ import annotations

import json
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from tests.doubles import MEMBERS, FakeEngine, make_cluster
from tests.operationcase import OperationCase
from twisted_patroni.engine.interface import EngineError, config_digest
from twisted_patroni.operations.rollout import told_digest

CONFIG = {"ttl": 20}
DIGEST = config_digest(CONFIG)
OLD = config_digest({"ttl": 30})


def snapshot(digest: str) -> tuple[int, bytes]:
    """Return what a member of this kind answers."""
    return 200, json.dumps({"snapshot": {"node": {"config": digest}}}).encode()


@define(eq=False)
class Cluster(FakeEngine):
    """An engine whose members answer, each in its way.

    :ivar members: the answer of each, or an error.
    """

    members: dict[str, Any] = field(factory=dict)

    def ask_member(self, name: str, path: str) -> Deferred[tuple[int, bytes]]:
        """Answer for a member."""
        self.calls.append(("ask_member", name, path))
        answer = self.members[name]
        return fail(answer) if isinstance(answer, Exception) else succeed(answer)


class RolloutTests(OperationCase):
    """``PATCH /config`` followed on all members."""

    def setUp(self) -> None:
        """Use a cluster whose members answer."""
        super().setUp()
        self.cluster = Cluster()
        self.use(self.cluster).open()
        self.look(make_cluster())
        self.cluster.members = {"beta": snapshot(OLD), "gamma": snapshot(OLD)}
        self.cluster.outcomes["applied_config"] = OLD

    def patch_config(self) -> str:
        """Change the configuration and return where the operation is."""
        path = self.order("PATCH", "/config", CONFIG)
        self.engine.dcs = make_cluster(config=CONFIG)
        return path

    def test_all(self) -> None:
        """It has ended when all members work by it."""
        path = self.patch_config()
        self.api.wait(3)
        self.cluster.outcomes["applied_config"] = DIGEST
        self.cluster.members["beta"] = snapshot(DIGEST)
        self.api.wait(1)
        document = self.document(path)
        self.assertEqual(document["state"], "running")
        steps = ["configuration written", "alpha has applied it", "beta has applied it"]
        self.assertEqual(self.steps(document), steps)
        self.cluster.members["gamma"] = snapshot(DIGEST)
        self.api.wait(1)
        document = self.document(path)
        self.assertEqual(document["state"], "succeeded")
        self.assertEqual(
            document["result"],
            {
                "status": 200,
                "text": "Applied by alpha, beta, gamma",
                "members": dict.fromkeys(("alpha", "beta", "gamma"), "applied"),
            },
        )
        asked = self.cluster.called("ask_member")
        self.assertEqual(sum(name == "beta" for name, _ in asked), 5)
        self.api.wait(10)
        self.assertEqual(len(self.cluster.called("ask_member")), len(asked))

    def test_upstream(self) -> None:
        """A member that does not know of this cannot tell, after two cycles."""
        self.cluster.outcomes["applied_config"] = DIGEST
        self.cluster.members = {
            "beta": snapshot(DIGEST),
            "gamma": (503, b'{"state": "running"}'),
        }
        path = self.patch_config()
        self.api.wait(19)
        self.assertEqual(self.document(path)["state"], "running")
        self.api.wait(1)
        result = self.document(path)["result"]
        self.assertEqual(result["text"], "Applied by alpha, beta; gamma cannot tell")
        self.assertEqual(result["members"]["gamma"], "cannot tell")

    def test_silent(self) -> None:
        """One that does not answer is asked for five minutes."""
        self.cluster.outcomes["applied_config"] = DIGEST
        self.cluster.members = {"beta": EngineError("beta does not answer: x"),
                                "gamma": snapshot(DIGEST)}  # fmt: skip
        path = self.patch_config()
        self.api.clock.pump([1.0] * 299)
        self.assertEqual(self.document(path)["state"], "running")
        self.api.clock.advance(1.0)
        document = self.document(path)
        self.assertEqual(document["state"], "unknown")
        self.assertEqual(document["result"]["members"]["beta"], "beta does not answer: x")
        self.assertLessEqual(len(self.cluster.called("ask_member")), 303)

    def test_leaves(self) -> None:
        """One that has left the cluster is not waited for."""
        self.cluster.outcomes["applied_config"] = DIGEST
        self.cluster.members["beta"] = snapshot(DIGEST)
        path = self.patch_config()
        self.look(make_cluster(members=MEMBERS[:2], config=CONFIG))
        self.api.wait(1)
        self.assertEqual(self.document(path)["result"]["text"], "Applied by alpha, beta")

    def test_replaced(self) -> None:
        """If the configuration changes again, nobody can tell any more."""
        path = self.patch_config()
        self.look(make_cluster(config={"ttl": 25}))
        self.api.wait(1)
        self.assertEqual(self.document(path)["state"], "running")
        self.api.wait(2)
        document = self.document(path)
        self.assertEqual((document["state"], document["result"]["status"]), ("unknown", 409))

    def test_same_in_other_words(self) -> None:
        """What the engine takes for no change is followed as what it is there."""
        path = self.order("PUT", "/config", {"ttl": "20"})
        self.look(make_cluster(config=CONFIG))
        self.cluster.outcomes["applied_config"] = DIGEST
        self.cluster.members = dict.fromkeys(("beta", "gamma"), snapshot(DIGEST))
        self.api.wait(4)
        self.assertEqual(self.document(path)["state"], "succeeded")

    def test_synchronous(self) -> None:
        """Who waits as ever has the configuration for an answer, and nobody is asked."""
        reply = self.request("PATCH", "/config", body=CONFIG)
        self.assertEqual((reply.code, reply.json()), (200, CONFIG))
        self.assertEqual(self.newest()["state"], "succeeded")
        self.assertEqual(self.cluster.called("ask_member"), [])

    def test_client_leaves(self) -> None:
        """Nobody knows what became of a write whose client has left."""
        self.cluster.outcomes["patch_config"] = Deferred(lambda _: None)
        self.api.begin("PATCH", "/config", body=CONFIG).vanish()
        self.assertEqual(self.newest()["state"], "unknown")


class AnswerTests(SynchronousTestCase):
    """What members answer."""

    def test_table(self) -> None:
        """Only a snapshot tells the digest."""
        rows: list[tuple[int, bytes, str | None]] = [
            (*snapshot(DIGEST), DIGEST),
            (503, snapshot(DIGEST)[1], None),
            (200, b"", None),
            (200, b"\xff", None),
            (200, b"[]", None),
            (200, b'{"snapshot": null}', None),
            (200, b'{"snapshot": {"node": {}}}', None),
            (200, b'{"snapshot": {"node": {"config": null}}}', None),
            (200, b"[" * 100000, None),
        ]
        for code, body, expected in rows:
            self.assertEqual(told_digest(code, body), expected, body[:40])

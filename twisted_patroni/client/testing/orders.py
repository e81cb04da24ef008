"""What members of a cluster in memory can be asked to do, and the operations that this makes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import define, evolve, frozen

from twisted_patroni.client.testing.answers import Answer
from twisted_patroni.client.testing.nodes import moment

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted_patroni.client.testing.nodes import MemoryNode, Shared
    from twisted_patroni.client.testing.question import Question

_PAST = {"switchover": "switched", "failover": "failed"}


@frozen
class Verdict:
    """What becomes of a request.

    :param kind: what was asked for.
    :param status: the HTTP status of the answer.
    :param text: its sentence.
    :param act: does it; ``None`` if it is refused, and nothing is done.
    :param at: when it is to begin; ``None`` for now.
    """

    kind: str
    status: int
    text: str
    act: Callable[[], None] | None = None
    at: str | None = None


@define(eq=False)
class Orders:
    """Judges requests, carries them out, and keeps them as operations.

    :param shared: the cluster.
    :param has_operations: the members know those.
    :param lead: has a member lead, for some reason.
    :param changed: called when something has changed.
    """

    shared: Shared
    has_operations: bool
    lead: Callable[[str, str], None]
    changed: Callable[[], None]

    def place(self, node: MemoryNode, asked: Question, kind: str) -> Answer:
        """Answer a request to do something.

        :param node: who is asked.
        :param asked: the request.
        :param kind: what is asked for.
        """
        told = (asked.method, asked.path, asked.body)
        if self.has_operations and asked.key is not None and asked.key in node.keys:
            known, answer = node.keys[asked.key]
            if known == told:
                return answer
            text = "Idempotency-Key: it belongs to another request"
            return Answer.document(422, {"error": text})
        verdict: Verdict = getattr(self, f"_{kind}")(node, asked.document)
        if self.has_operations and asked.is_dry:
            return self._foreseen(node, asked, verdict)
        answer = self._carry_out(node, asked, verdict)
        if asked.key is not None and verdict.status < 500:
            node.keys[asked.key] = (told, answer)
        return answer

    def cancel(self, node: MemoryNode, document: dict[str, Any]) -> Answer:
        """Answer a request to call an operation off.

        :param node: who is asked.
        :param document: the operation's document.
        """
        if not document["cancellable"]:
            text = f"the operation has ended: {document['state']}"
            return Answer.document(409, {"error": text})
        is_restart = document["kind"] == "restart"
        if is_restart:
            node.restart = None
        else:
            self.shared.switchover = None
        what = "restart" if is_restart else "switchover"
        self.end(node, document, "cancelled", 200, f"scheduled {what} deleted")
        self.changed()
        return Answer.document(200, document)

    def forget(self, node: MemoryNode, kind: str) -> None:
        """Cancel the operations that stand for what is not scheduled any more.

        :param node: who was asked.
        :param kind: what was scheduled.
        """
        for each in node.operations:
            if each["kind"] == kind and each["cancellable"]:
                self.end(node, each, "cancelled", 200, f"scheduled {kind} deleted")

    def led_by(self, leader: str) -> None:
        """Let the switchovers end that were scheduled.

        :param leader: who leads now.
        """
        for node in self.shared.members.values():
            for each in node.operations:
                if each["kind"] == "switchover" and each["cancellable"]:
                    if each["request"].get("candidate") in (None, leader):
                        text = f'Successfully switched over to "{leader}"'
                        self.end(node, each, "succeeded", 200, text)
                    else:
                        self.end(node, each, "failed", 503, "Switchover failed")

    def end(
        self, node: MemoryNode, document: dict[str, Any], state: str, status: int, text: str
    ) -> None:
        """Let an operation end.

        :param node: whose it is.
        :param document: its document.
        :param state: how it ends.
        :param status: the status that a waiting client gets.
        :param text: the sentence.
        """
        now = self.shared.clock.seconds()
        document.update(
            state=state,
            ended=moment(now),
            result={"status": status, "text": text},
            cancellable=False,
        )
        node.note("operation", document, now)

    # What becomes of each

    def _reload(self, _node: MemoryNode, _body: dict[str, Any]) -> Verdict:
        return Verdict("reload", 202, "reload scheduled", lambda: None)

    def _restart(self, node: MemoryNode, body: dict[str, Any]) -> Verdict:
        role = "primary" if self.shared.leads(node) else "replica"
        at = body.get("schedule")
        if at is not None and node.restart is not None:
            return Verdict("restart", 409, "Another restart is already scheduled")
        if at is not None:
            return Verdict("restart", 202, "Restart scheduled", self._restart_at(node, body), at)
        if body.get("role", role) != role or body.get("restart_pending"):
            return Verdict("restart", 503, "restart conditions are not satisfied")
        return Verdict("restart", 200, "restarted successfully", lambda: None)

    def _restart_at(self, node: MemoryNode, body: dict[str, Any]) -> Callable[[], None]:
        def schedule() -> None:
            node.restart = body

        return schedule

    def _reinitialize(self, node: MemoryNode, _body: dict[str, Any]) -> Verdict:
        if self.shared.leader is None:
            text = "Cluster has no leader, can not reinitialize"
            return Verdict("reinitialize", 503, text)
        if self.shared.leads(node):
            return Verdict("reinitialize", 503, "I am the leader, can not reinitialize")
        return Verdict("reinitialize", 200, "reinitialize started", lambda: None)

    def _switchover(self, _node: MemoryNode, body: dict[str, Any]) -> Verdict:
        leader, wanted, at = body.get("leader"), body.get("candidate"), body.get("scheduled_at")
        if not leader:
            text = "Switchover could be performed only from a specific leader"
            return Verdict("switchover", 400, text)
        if leader == wanted:
            return Verdict("switchover", 400, "Switchover target and source are the same")
        verdict = self._change("switchover", leader, wanted)
        if at is None:
            return verdict
        scheduled = {"at": at, "from": leader, **({} if wanted is None else {"to": wanted})}

        def schedule() -> None:
            self.shared.switchover = scheduled

        # As things are it may be impossible; its time will tell.
        return Verdict("switchover", 202, "Switchover scheduled", schedule, at)

    def _failover(self, _node: MemoryNode, body: dict[str, Any]) -> Verdict:
        if not body.get("candidate"):
            text = "Failover could be performed only to a specific candidate"
            return Verdict("failover", 400, text)
        if body.get("scheduled_at"):
            return Verdict("failover", 400, "Failover can't be scheduled")
        if body.get("leader"):
            return evolve(self._switchover(_node, body), kind="switchover")
        return self._change("failover", None, body["candidate"])

    def _change(self, kind: str, leader: str | None, wanted: str | None) -> Verdict:
        shared = self.shared
        if leader is not None and leader != shared.leader:
            return Verdict(kind, 412, "leader name does not match")
        if wanted is not None and wanted not in shared.members:
            return Verdict(kind, 412, "candidate does not exists")
        able = [each["name"] for each in self._candidates() if each["eligible"]]
        if not able or wanted not in (None, *able):
            text = f"{kind} is not possible: no good candidates have been found"
            return Verdict(kind, 412, text)
        chosen = wanted or able[0]
        text = f'Successfully {_PAST[kind]} over to "{chosen}"'
        return Verdict(kind, 200, text, lambda: self.lead(chosen, "no recovery target specified"))

    def _candidates(self) -> list[dict[str, Any]]:
        found = []
        for node in self.shared.members.values():
            reason = None
            if node.name == self.shared.leader or not node.listed:
                continue
            if not node.alive or node.refusal is not None or node.silent:
                reason = "not reachable"
            elif node.tags.get("nofailover"):
                reason = "not allowed to promote"
            found.append({"name": node.name, "eligible": reason is None, "reason": reason})
        return found

    # How it is told

    def _foreseen(self, node: MemoryNode, asked: Question, verdict: Verdict) -> Answer:
        if verdict.status == 400:
            return Answer.sentence(400, verdict.text)
        reason = None if verdict.act is not None else verdict.text
        document = {
            "possible": reason is None,
            "action": verdict.kind,
            "reason": reason,
            "scheduled_at": verdict.at,
        }
        body = asked.document
        if verdict.kind in _PAST:
            more = {"leader": self.shared.leader, "candidate": body.get("candidate")}
            return Answer.document(200, {**document, **more, "candidates": self._candidates()})
        more = {"node": node.name, "state": node.state or "running"}
        if verdict.kind == "reinitialize":
            leads = self.shared.leads(node)
            more |= {"leader": self.shared.leader, "is_leader": leads}
        else:
            more |= {
                "conditions_match": verdict.status != 503,
                "paused": self.shared.paused,
                "scheduled_restart": node.restart,
                "pending_restart": [],
            }
        return Answer.document(200, {**document, **more})

    def _carry_out(self, node: MemoryNode, asked: Question, verdict: Verdict) -> Answer:
        if verdict.act is not None:
            verdict.act()
        document = None
        if self.has_operations:
            document = self.keep(node, asked, verdict)
        self.changed()
        if document is not None and asked.is_patient and verdict.act is not None:
            return begun(document)
        explained = self.has_operations and asked.wants_json and verdict.status == 412
        if explained:
            more = {"action": verdict.kind, "candidates": self._candidates()}
            return Answer.document(412, {"error": verdict.text, **more})
        return Answer.sentence(verdict.status, verdict.text)

    def keep(self, node: MemoryNode, asked: Question, verdict: Verdict) -> dict[str, Any]:
        """Keep an operation, and return its document.

        :param node: who was asked.
        :param asked: the request.
        :param verdict: what becomes of it.
        """
        now = self.shared.clock.seconds()
        is_change = verdict.kind in _PAST and verdict.act is not None
        steps = ["failover key written"] if is_change else []
        document: dict[str, Any] = {
            "id": f"op-{node.number:04x}{len(node.operations) + 1:012x}",
            "kind": verdict.kind,
            "node": node.name,
            "request": asked.document,
            "by": {"user": None, "certificate": None, "address": "127.0.0.1"},
            "state": "accepted",
            "created": moment(now),
            "scheduled_at": verdict.at,
            "ended": None,
            "steps": [{"time": moment(now), "text": each} for each in steps],
            "result": None,
            "cancellable": verdict.at is not None and verdict.act is not None,
        }
        node.operations.append(document)
        if document["cancellable"]:
            node.note("operation", document, now)
        else:
            state = "failed" if verdict.act is None else "succeeded"
            self.end(node, document, state, verdict.status, verdict.text)
        return document


def begun(document: dict[str, Any]) -> Answer:
    """Answer who does not wait for the end: he is told of it as it was before.

    :param document: the operation's document.
    """
    place = f"/operations/{document['id']}"
    if document["ended"] is not None:
        document = {**document, "state": "running", "ended": None, "result": None}
    return Answer.document(202, document, Location=place, Preference_Applied="respond-async")


def configured(orders: Orders, node: MemoryNode, asked: Question) -> Answer:
    """Answer a request that has changed the configuration.

    :param orders: keep it as an operation.
    :param node: who was asked.
    :param asked: the request.
    """
    if orders.has_operations:
        verdict = Verdict("config", 200, "OK", lambda: None)
        document = orders.keep(node, asked, verdict)
        orders.changed()
        if asked.is_patient:
            return begun(document)
    return Answer.document(200, orders.shared.config)

"""What a node of a cluster in memory answers to each request."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from attrs import define, frozen

from twisted_patroni.client.testing.answers import Answer
from twisted_patroni.client.testing.events import Subscriber
from twisted_patroni.client.testing.nodes import moment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twisted_patroni.client.testing.answers import MemoryResponse
    from twisted_patroni.client.testing.nodes import MemoryNode, Shared

_UNITS = {"": 1, "B": 1, "kB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}
_SIZE = re.compile(r"\s*(\d{1,15})\s*(\w*)\s*", re.ASCII)
_EVENTS = ("events", "operations", "drain")
_PRIMARY = ("", "primary", "master", "leader", "read-write")


@frozen
class Question:
    """A request.

    :param method: the method.
    :param path: the path's parts.
    :param query: the parameters.
    :param headers: the headers, by their names in lower case.
    :param body: the body.
    """

    method: str
    path: tuple[str, ...]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @classmethod
    def of(
        cls, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes
    ) -> Question:
        """Read a request."""
        parts = tuple(path.strip("/").split("/"))
        given = {name: values[0] for name, values in parse_qs(query).items()}
        return cls(method, parts, given, headers, body)

    @property
    def document(self) -> dict[str, Any]:
        """The object in the body; an empty one without a body.

        :raise ValueError: if there is something else.
        """
        found = json.loads(self.body or b"{}")
        if not isinstance(found, dict):
            raise ValueError("no object")
        return found


@define(eq=False)
class Pages:
    """The API of all members.

    :param shared: the cluster.
    :param has_events: they know the paths that upstream's daemon does not.
    :param lead: has a member lead.
    :param changed: called when something has changed.
    """

    shared: Shared
    has_events: bool
    lead: Callable[[str, str], None]
    changed: Callable[[], None]

    def answer(self, node: MemoryNode, asked: Question) -> Answer | MemoryResponse:
        """Answer a request.

        :param node: who is asked.
        :param asked: the request.
        """
        name = asked.path[0]
        if name in _EVENTS and not self.has_events:
            return self._check(node, asked)
        page = getattr(self, f"_{asked.method.lower()}_{name}", None)
        try:
            if page is not None:
                answer: Answer | MemoryResponse = page(node, asked)
                return answer
        except ValueError:
            return Answer.document(400, {"error": "the body is not a JSON object"})
        if asked.method in ("GET", "HEAD", "OPTIONS"):
            return self._check(node, asked)
        return Answer.sentence(501, f"Unsupported method ({asked.method!r})")

    # What is told

    def _get_patroni(self, node: MemoryNode, _: Question) -> Answer:
        return Answer.document(200, self.shared.status(node))

    def _get_cluster(self, node: MemoryNode, _: Question) -> Answer:
        return Answer.document(200, self.shared.cluster(node))

    def _get_history(self, _node: MemoryNode, _: Question) -> Answer:
        return Answer.document(200, self.shared.history)

    def _get_config(self, _node: MemoryNode, _: Question) -> Answer:
        return Answer.document(200, self.shared.config)

    def _get_metrics(self, node: MemoryNode, _: Question) -> Answer:
        labels = f'{{scope="{self.shared.scope}",name="{node.name}"}}'
        leads = int(self.shared.leads(node))
        lines = [
            "# HELP patroni_primary Whether PostgreSQL is a primary.",
            "# TYPE patroni_primary gauge",
            f"patroni_primary{labels} {leads}",
            "# HELP patroni_replica Whether this is a replica.",
            "# TYPE patroni_replica gauge",
            f"patroni_replica{labels} {1 - leads}",
        ]
        body = "\n".join([*lines, ""]).encode()
        return Answer(200, body, {"Content-Type": "text/plain"})

    def _get_events(self, node: MemoryNode, asked: Question) -> Answer | MemoryResponse:
        after = asked.query.get("after", "")
        types = frozenset(filter(None, asked.query.get("types", "").split(",")))
        if "text/event-stream" in asked.headers.get("accept", ""):
            subscriber = Subscriber(node, self.shared, types)
            subscriber.greet(asked.headers.get("last-event-id", after))
            return subscriber.response
        number, _, stream = after.partition(".")
        position = f"{node.newest}.{node.stream}"
        if not number.isdigit() or stream not in ("", node.stream):
            snapshot = self.shared.snapshot(node)
            return Answer.document(200, {"events": [], "next": position, "snapshot": snapshot})
        events = [each for each in node.log if each["number"] > int(number)]
        wanted = [each for each in events if not types or each["type"] in types]
        return Answer.document(200, {"events": wanted, "next": position})

    def _get_operations(self, node: MemoryNode, asked: Question) -> Answer:
        if len(asked.path) == 1:
            listed = node.operations[::-1]
            history = [self.shared.history_entry(line) for line in self.shared.history]
            return Answer.document(200, {"operations": listed, "history": history})
        for each in node.operations:
            if each["id"] == asked.path[1]:
                return Answer.document(200, each)
        return Answer.document(404, {"error": "there is no such operation, or no more"})

    # Health checks

    def _check(self, node: MemoryNode, asked: Question) -> Answer:
        status = 200 if self._holds(node, asked.path[0], asked.query) else 503
        return Answer.document(status, self.shared.status(node))

    def _holds(self, node: MemoryNode, name: str, query: Mapping[str, str]) -> bool:
        leads = self.shared.leads(node)
        runs = node.state in (None, "running", "streaming")
        if name in ("health", "liveness"):
            return runs or name == "liveness"
        if name in _PRIMARY:
            spared = node.drain is not None and node.drain["primary"]
            return leads and runs and not spared and self._tagged(node, query)
        if name == "read-only" and leads:
            return runs
        if name == "readiness":
            return runs and (leads or node.lag is not None)
        serves = runs and not leads and node.drain is None and not node.tags.get("noloadbalance")
        fits = serves and self._tagged(node, query) and self._within(node, query.get("lag"))
        if name in ("sync", "synchronous", "read-only-sync"):
            return fits and node.sync
        if name in ("async", "asynchronous", "read-only-async"):
            return fits and not node.sync
        return fits and name in ("replica", "read-only")

    def _tagged(self, node: MemoryNode, query: Mapping[str, str]) -> bool:
        wanted = {name[4:]: value for name, value in query.items() if name.startswith("tag_")}
        return all(
            str(node.tags.get(name)).lower() == text.lower() for name, text in wanted.items()
        )

    def _within(self, node: MemoryNode, bound: str | None) -> bool:
        if bound is None:
            return True
        found = _SIZE.fullmatch(bound)
        if found is None or found[2] not in _UNITS or node.lag is None:
            return False
        return node.lag <= int(found[1]) * _UNITS[found[2]]

    # What can be changed

    def _patch_config(self, _node: MemoryNode, asked: Question) -> Answer:
        merged = _merged(self.shared.config, asked.document)
        return self._configure(merged)

    def _put_config(self, _node: MemoryNode, asked: Question) -> Answer:
        return self._configure(asked.document)

    def _configure(self, config: dict[str, Any]) -> Answer:
        self.shared.config = config
        self.shared.paused = config.get("pause") is True
        self.changed()
        return Answer.document(200, config)

    def _post_reload(self, node: MemoryNode, asked: Question) -> Answer:
        return self._done(node, "reload", asked, 202, "reload scheduled")

    def _post_restart(self, node: MemoryNode, asked: Question) -> Answer:
        body = asked.document
        if "schedule" not in body:
            return self._done(node, "restart", asked, 200, "restarted successfully")
        if node.restart is not None:
            text = "Another restart is already scheduled"
            return self._done(node, "restart", asked, 409, text)
        node.restart = body
        self.changed()
        return self._done(node, "restart", asked, 202, "Restart scheduled")

    def _delete_restart(self, node: MemoryNode, _: Question) -> Answer:
        if node.restart is None:
            return Answer.sentence(404, "no restarts are scheduled")
        node.restart = None
        self.changed()
        return Answer.sentence(200, "scheduled restart deleted")

    def _post_reinitialize(self, node: MemoryNode, asked: Question) -> Answer:
        if self.shared.leads(node):
            text = "I am the leader, can not reinitialize"
            return self._done(node, "reinitialize", asked, 503, text)
        return self._done(node, "reinitialize", asked, 200, "reinitialize started")

    def _post_switchover(self, node: MemoryNode, asked: Question) -> Answer:
        body, shared = asked.document, self.shared
        leader, wanted = body.get("leader"), body.get("candidate")
        if leader is None:
            text = "Switchover could be performed only from a specific leader"
            return self._done(node, "switchover", asked, 400, text)
        if leader == wanted:
            text = "Switchover target and source are the same"
            return self._done(node, "switchover", asked, 400, text)
        if leader != shared.leader:
            return self._refused(node, "switchover", asked, "leader name does not match")
        if wanted is not None and wanted not in shared.members:
            return self._refused(node, "switchover", asked, "candidate does not exists")
        if "scheduled_at" in body:
            shared.switchover = {"at": body["scheduled_at"], "from": leader, "to": wanted}
            self.changed()
            return self._done(node, "switchover", asked, 202, "Switchover scheduled")
        return self._change(node, "switchover", asked, wanted)

    def _delete_switchover(self, _node: MemoryNode, _: Question) -> Answer:
        if self.shared.switchover is None:
            return Answer.sentence(404, "no switchover is scheduled")
        self.shared.switchover = None
        self.changed()
        return Answer.sentence(200, "scheduled switchover deleted")

    def _post_failover(self, node: MemoryNode, asked: Question) -> Answer:
        wanted = asked.document.get("candidate")
        if wanted is None:
            text = "Failover could be performed only to a specific candidate"
            return self._done(node, "failover", asked, 400, text)
        if wanted not in self.shared.members:
            return self._refused(node, "failover", asked, "candidate does not exists")
        return self._change(node, "failover", asked, wanted)

    def _change(self, node: MemoryNode, action: str, asked: Question, wanted: str | None) -> Answer:
        able = [each["name"] for each in self._candidates() if each["eligible"]]
        chosen = wanted or (able[0] if able else None)
        if chosen not in able:
            text = f"{action} is not possible: no good candidates have been found"
            return self._refused(node, action, asked, text)
        self.lead(str(chosen), f"{action} asked for")
        past = {"switchover": "switched", "failover": "failed"}[action]
        return self._done(node, action, asked, 200, f'Successfully {past} over to "{chosen}"')

    def _candidates(self) -> list[dict[str, Any]]:
        found = []
        for node in self.shared.members.values():
            reason = None
            if node.name == self.shared.leader:
                reason = "is the leader"
            elif not node.alive or node.refusal is not None or node.silent:
                reason = "not reachable"
            elif node.tags.get("nofailover"):
                reason = "not allowed to promote"
            found.append({"name": node.name, "eligible": reason is None, "reason": reason})
        return found

    def _refused(self, node: MemoryNode, action: str, asked: Question, text: str) -> Answer:
        answer = self._done(node, action, asked, 412, text)
        if not self.has_events or "application/json" not in asked.headers.get("accept", ""):
            return answer
        candidates = self._candidates()
        return Answer.document(412, {"error": text, "action": action, "candidates": candidates})

    def _done(self, node: MemoryNode, kind: str, asked: Question, status: int, text: str) -> Answer:
        """Keep an operation, and answer who has asked for it."""
        now = moment(self.shared.clock.seconds())
        body = asked.document
        scheduled = body.get("scheduled_at") or body.get("schedule")
        is_ended = scheduled is None or status != 202
        state = "accepted"
        if is_ended:
            state = "succeeded" if status < 300 else "failed"
        document: dict[str, Any] = {
            "id": f"op-{node.number:04x}{len(node.operations) + 1:012x}",
            "kind": kind,
            "node": node.name,
            "request": body,
            "by": {"user": None, "certificate": None, "address": "127.0.0.1"},
            "state": state,
            "created": now,
            "scheduled_at": scheduled,
            "ended": now if is_ended else None,
            "steps": [],
            "result": {"status": status, "text": text} if is_ended else None,
            "cancellable": not is_ended,
        }
        if not self.has_events:
            return Answer.sentence(status, text)
        node.operations.append(document)
        node.note("operation", document, self.shared.clock.seconds())
        self.changed()
        if "respond-async" in asked.headers.get("prefer", "") and status < 300:
            place = f"/operations/{document['id']}"
            return Answer.document(
                202, document, Location=place, Preference_Applied="respond-async"
            )
        return Answer.sentence(status, text)

    # What load balancers are told

    def _get_drain(self, node: MemoryNode, _: Question) -> Answer:
        if node.drain is None:
            return Answer.document(404, {"error": "this node is not drained"})
        return Answer.document(200, node.drain)

    def _post_drain(self, node: MemoryNode, asked: Question) -> Answer:
        body = asked.document
        given = {name: body.get(name) for name in ("owner", "reason", "expires")}
        since = moment(self.shared.clock.seconds())
        node.drain = {"since": since, **given, "primary": body.get("primary") is True}
        return self._drained(node, node.drain)

    def _delete_drain(self, node: MemoryNode, asked: Question) -> Answer:
        if node.drain is None:
            return self._get_drain(node, asked)
        was, node.drain = node.drain, None
        return self._drained(node, was)

    def _drained(self, node: MemoryNode, document: dict[str, Any]) -> Answer:
        shown = self.shared.snapshot(node)["node"]
        shown.pop("config")
        node.note("node", {**shown, "changed": ["drain"]}, self.shared.clock.seconds())
        self.changed()
        return Answer.document(200, document)


def _merged(config: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with a patch in it; what is ``None`` there is removed."""
    merged = dict(config)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _merged(merged[key], value)
        else:
            merged[key] = value
    return merged

"""What a member of a cluster in memory answers to each request."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

from attrs import define, evolve

from twisted_patroni.client.testing.answers import Answer, Later
from twisted_patroni.client.testing.checking import holds
from twisted_patroni.client.testing.events import Subscriber
from twisted_patroni.client.testing.nodes import moment
from twisted_patroni.client.testing.orders import configured

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twisted_patroni.client.testing.answers import MemoryResponse
    from twisted_patroni.client.testing.nodes import MemoryNode, Shared
    from twisted_patroni.client.testing.orders import Orders
    from twisted_patroni.client.testing.question import Question

#: What upstream's daemon does not know.
_OURS = ("events", "operations", "drain")
_ORDERS = ("reload", "restart", "reinitialize", "switchover", "failover")
_DURATION = re.compile(r"(\d{1,9})\s*(s|min|h|d)?", re.ASCII)
_SECONDS = {None: 1, "s": 1, "min": 60, "h": 3600, "d": 86400}


@define(eq=False)
class Pages:
    """The API of all members.

    :param shared: the cluster.
    :param orders: takes what they can be asked to do.
    """

    shared: Shared
    orders: Orders

    def answer(self, node: MemoryNode, asked: Question) -> Answer | Later | MemoryResponse:
        """Answer a request.

        :param node: who is asked.
        :param asked: the request.
        """
        name, method = asked.path[0], asked.method
        known = self.orders.has_operations or name not in _OURS
        page = getattr(self, f"_{method.lower()}_{name}", None) if known else None
        try:
            if page is not None:
                answer: Answer | Later | MemoryResponse = page(node, asked)
                return answer
            if method == "POST" and name in _ORDERS:
                return self.orders.place(node, asked, name)
        except ValueError:
            return Answer.document(400, {"error": "the body is not a JSON object"})
        if method not in ("GET", "HEAD", "OPTIONS"):
            return Answer.page(501, f"Unsupported method ({method!r})")
        if method == "HEAD" and name in ("patroni", "cluster", "history", "config", "metrics"):
            return self.answer(node, evolve(asked, method="GET"))
        return self._check(node, asked)

    # What is told

    def _check(self, node: MemoryNode, asked: Question) -> Answer:
        status = 200 if holds(self.shared, node, asked.path[0], asked.query) else 503
        return Answer.document(status, self.shared.status(node))

    def _get_patroni(self, node: MemoryNode, _: Question) -> Answer:
        return Answer.document(200, self.shared.status(node))

    def _get_cluster(self, node: MemoryNode, _: Question) -> Answer:
        return Answer.document(200, self.shared.cluster(node))

    def _get_history(self, _node: MemoryNode, _: Question) -> Answer:
        return Answer.document(200, self.shared.history)

    def _get_config(self, _node: MemoryNode, _: Question) -> Answer:
        return Answer.document(200, self.shared.config)

    def _get_failsafe(self, _node: MemoryNode, _: Question) -> Answer:
        if not self.shared.config.get("failsafe_mode"):
            return Answer.page(502, "Bad Gateway")
        members = [each for each in self.shared.members.values() if each.listed]
        return Answer.document(200, {each.name: f"{each.url}/patroni" for each in members})

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

    def _get_events(self, node: MemoryNode, asked: Question) -> Answer | Later | MemoryResponse:
        after = asked.query.get("after", "")
        types = frozenset(filter(None, asked.query.get("types", "").split(",")))
        if "text/event-stream" in asked.headers.get("accept", ""):
            subscriber = Subscriber(node, self.shared, types)
            subscriber.greet(asked.headers.get("last-event-id", after))
            return subscriber.response
        number, _, stream = after.partition(".")
        position = f"{node.newest}.{node.stream}"
        if not number.isdigit() or stream not in ("", node.stream):
            snapshot = node.event("snapshot", self.shared.snapshot(node), self.now)
            return Answer.document(200, {"events": [], "next": position, "snapshot": snapshot})
        events = [each for each in node.log if each["number"] > int(number)]
        wanted = [each for each in events if not types or each["type"] in types]
        answer = Answer.document(200, {"events": wanted, "next": position})
        return answer if wanted else Later(float(asked.query.get("timeout", 30)), answer)

    @property
    def now(self) -> float:
        """The present time."""
        return self.shared.clock.seconds()

    # Operations

    def _get_operations(self, node: MemoryNode, asked: Question) -> Answer | Later:
        if len(asked.path) == 1:
            listed = node.operations[::-1]
            history = [self.shared.history_entry(line) for line in self.shared.history]
            return Answer.document(200, {"operations": listed, "history": history})
        found = _operation(node, asked)
        if found is None:
            return _no_operation()
        answer, wait = Answer.document(200, found), float(asked.query.get("wait", 0))
        return Later(wait, answer) if wait > 0 and found["ended"] is None else answer

    def _delete_operations(self, node: MemoryNode, asked: Question) -> Answer:
        found = _operation(node, asked)
        return _no_operation() if found is None else self.orders.cancel(node, found)

    def _delete_restart(self, node: MemoryNode, _: Question) -> Answer:
        if node.restart is None:
            return Answer.sentence(404, "no restarts are scheduled")
        node.restart = None
        return self._forgotten("restart", "scheduled restart deleted")

    def _delete_switchover(self, _node: MemoryNode, _: Question) -> Answer:
        if self.shared.switchover is None:
            return Answer.sentence(404, "no switchover is scheduled")
        self.shared.switchover = None
        return self._forgotten("switchover", "scheduled switchover deleted")

    def _forgotten(self, kind: str, text: str) -> Answer:
        for each in self.shared.members.values():
            if kind == "switchover" or each.restart is None:
                self.orders.forget(each, kind)
        self.orders.changed()
        return Answer.sentence(200, text)

    # The configuration

    def _patch_config(self, node: MemoryNode, asked: Question) -> Answer:
        return self._configure(node, asked, _merged(self.shared.config, asked.document))

    def _put_config(self, node: MemoryNode, asked: Question) -> Answer:
        return self._configure(node, asked, asked.document)

    def _configure(self, node: MemoryNode, asked: Question, config: dict[str, Any]) -> Answer:
        self.shared.config = config
        self.shared.paused = config.get("pause") is True
        self.orders.changed()
        return configured(self.orders, node, asked)

    # What load balancers are told

    def _get_drain(self, node: MemoryNode, _: Question) -> Answer:
        if node.drain is None:
            return Answer.document(404, {"error": "this node is not drained"})
        return Answer.document(200, node.drain)

    def _post_drain(self, node: MemoryNode, asked: Question) -> Answer:
        body = asked.document
        given = {name: body.get(name) for name in ("owner", "reason")}
        expires = None if body.get("expires") is None else self._end(body["expires"])
        more = {"expires": expires, "primary": body.get("primary") is True}
        node.drain = {"since": moment(self.now), **given, **more}
        self.orders.changed()
        return Answer.document(200, node.drain)

    def _delete_drain(self, node: MemoryNode, asked: Question) -> Answer:
        if node.drain is None:
            return self._get_drain(node, asked)
        was, node.drain = node.drain, None
        self.orders.changed()
        return Answer.document(200, was)

    def _end(self, expires: Any) -> str:
        found = _DURATION.fullmatch(str(expires).removesuffix(".0"))
        if found is not None:
            return moment(self.now + int(found[1]) * _SECONDS[found[2]])
        return datetime.fromisoformat(str(expires)).isoformat()


def _operation(node: MemoryNode, asked: Question) -> dict[str, Any] | None:
    wanted = asked.path[1] if len(asked.path) > 1 else ""
    return next((each for each in node.operations if each["id"] == wanted), None)


def _no_operation() -> Answer:
    return Answer.document(404, {"error": "there is no such operation, or no more"})


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

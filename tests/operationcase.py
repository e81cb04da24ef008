"""What the tests of operations over HTTP share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.doubles import NOW, make_cluster
from tests.memory_api import ApiCase, Reply
from twisted_patroni.engine.interface import ClusterView, Cycle, FailoverView

if TYPE_CHECKING:
    from tests.wire_client import Client

ASYNC = {"Prefer": "respond-async"}
SWITCH = {"leader": "alpha", "candidate": "beta"}
KEY = FailoverView("alpha", "beta", None)
WAITING = make_cluster(failover=KEY)
SWITCHED = make_cluster(leader="beta")


class OperationCase(ApiCase):
    """Operations of an API that is open."""

    def setUp(self) -> None:
        """Open the API."""
        super().setUp()
        self.api.open()

    def document(self, path: str) -> dict[str, Any]:
        """Return an operation as it is now.

        :param path: where it is.
        """
        reply = self.request("GET", path)
        self.assertEqual(reply.code, 200, reply.body)
        document: dict[str, Any] = reply.json()
        return document

    def newest(self) -> dict[str, Any]:
        """Return the newest operation."""
        first: dict[str, Any] = self.request("GET", "/operations").json()["operations"][0]
        return first

    def steps(self, document: dict[str, Any]) -> list[str]:
        """Return what an operation tells of its steps."""
        return [step["text"] for step in document["steps"]]

    def order(self, method: str, target: str, body: Any = None, **headers: str) -> str:
        """Ask for an operation without waiting for its end, and return where it is."""
        reply = self.request(method, target, {**ASYNC, **headers}, body)
        self.assertEqual(reply.code, 202, reply.body)
        self.assertEqual(reply.header("Preference-Applied"), "respond-async")
        self.assertEqual(reply.header("Content-Type"), "application/json")
        location = reply.header("Location")
        assert location is not None
        self.assertEqual(location, f"/operations/{reply.json()['id']}")
        return location

    def look(self, cluster: ClusterView) -> None:
        """Have the engine look at the DCS.

        :param cluster: what it shows.
        """
        self.engine.dcs = cluster
        self.engine.look()

    def cycle(self, number: int = 1) -> None:
        """Let HA cycles end, a second each."""
        for _ in range(number):
            self.api.clock.advance(1.0)
            self.api.api.cycled(Cycle(0.0, 0.0))
            self.api.clock.advance(0)

    def answer(self, connection: Client) -> Reply:
        """Return the reply on a connection."""
        return Reply.parse(connection.received())

    def published(self) -> list[dict[str, Any]]:
        """Return the documents in events of the type ``operation``, oldest first."""
        events = self.api.api.stream._events
        return [dict(event.data) for event in events if event.type == "operation"]


__all__ = ["ASYNC", "KEY", "NOW", "SWITCH", "SWITCHED", "WAITING", "OperationCase"]

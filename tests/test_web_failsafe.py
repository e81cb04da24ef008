"""Tests of twisted_patroni.web.failsafe: members that agree on the leader without a DCS."""

from __future__ import annotations

from typing import Any

from tests.doubles import FakeEngine, make_node, make_replica
from tests.memory_api import ApiCase

MESSAGE = {
    "name": "alpha",
    "conn_url": "postgres://10.0.0.1:5432/postgres",
    "api_url": "http://10.0.0.1:8008/patroni",
}


class MembersTests(ApiCase):
    """GET /failsafe."""

    def test_members(self) -> None:
        """Names and URLs, an empty mapping too."""
        for members in ({"alpha": "http://a", "beta": "http://b"}, {}):
            self.engine.view = make_node(failsafe_members=members)
            for target in ("/failsafe", "/failsafe/x"):
                reply = self.request("GET", target)
                self.assertEqual((reply.code, reply.json()), (200, members))
                self.assertEqual(reply.header("Content-Type"), "application/json")

    def test_unknown(self) -> None:
        """While no members are known that is 502."""
        self.assertErrorPage(self.request("GET", "/failsafe"), 502)


class AgreeTests(ApiCase):
    """POST /failsafe."""

    def setUp(self) -> None:
        """Be a replica in failsafe mode."""
        self.use(FakeEngine(make_replica(failsafe_mode=True)))

    def test_accepted(self) -> None:
        """The leader gets exactly the word it compares with, and our position if known."""
        for answer, lsn in ((4900, "4900"), (0, "0"), (None, None), ("Accepted", None)):
            self.engine.outcomes["update_failsafe"] = answer
            reply = self.request("POST", "/failsafe", body=MESSAGE)
            self.assertReply(reply, 200, "Accepted")
            self.assertEqual(reply.header("lsn"), lsn, repr(answer))

    def test_message(self) -> None:
        """The engine gets the message as it was sent, slots and all."""
        bodies: list[dict[str, Any]] = [
            MESSAGE,
            {**MESSAGE, "slots": {"s": 5}},
            {**MESSAGE, "slots": None},
            {**MESSAGE, "later": [1]},
        ]
        for body in bodies:
            self.assertEqual(self.request("POST", "/failsafe", body=body).code, 200)
        self.assertEqual(self.engine.called("update_failsafe"), [[body] for body in bodies])

    def test_refused(self) -> None:
        """A node that leads itself says so."""
        self.engine.outcomes["update_failsafe"] = "Running as a leader"
        reply = self.request("POST", "/failsafe", body=MESSAGE)
        self.assertReply(reply, 500, "Running as a leader")

    def test_off(self) -> None:
        """With failsafe mode off it is 502, whatever the body."""
        self.engine.view = make_replica()
        for body in (MESSAGE, b"{", None):
            self.assertErrorPage(self.request("POST", "/failsafe", body=body), 502)
        self.assertEqual(self.engine.calls, [])

    def test_incomplete(self) -> None:
        """A message that is not complete is a bad request, not an empty reply."""
        bodies: list[Any] = [{**MESSAGE, key: value} for key in MESSAGE for value in (None, 1)]
        bodies += [{key: MESSAGE[key] for key in MESSAGE if key != left} for left in MESSAGE]
        wrong: tuple[Any, ...] = ([], "x", {"s": "5"}, {"s": None})
        bodies += [{**MESSAGE, "slots": slots} for slots in wrong]
        for body in bodies:
            self.assertErrorPage(self.request("POST", "/failsafe", body=body), 400)
        self.assertErrorPage(self.request("POST", "/failsafe"), 411)
        self.assertEqual(self.engine.calls, [])

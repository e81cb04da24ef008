"""Tests of subscribers who were let in by rules that count no more."""

from __future__ import annotations

from tests.doubles import VERSION
from tests.eventcase import EventCase
from tests.memory_api import Reply
from twisted_patroni.settings import Settings

LISTEN = {"listen": "127.0.0.1:8008"}


class DismissalTests(EventCase):
    """Reloads, as those see them who follow the events."""

    def reload(self, **section: object) -> None:
        """Let another section count."""
        self.api.apply(Settings.of({**LISTEN, **section}, VERSION))
        self.turns()

    def test_other_rules(self) -> None:
        """All are let go, told to come back, and judged by the new rules when they do."""
        sse, socket, poll = self.sse(), self.socket(), self.poll(f"?after={self.place()}")
        for client in (sse, socket):
            client.messages()
        password = {"username": "admin", "password": "secret"}
        self.reload(authentication=password, protect_reads=True)
        reason = "the rules of access have changed: come back"
        self.assertEqual(sse.messages(), [("end", sse.parser.last_id, {"reason": reason})])
        socket.messages()
        self.assertEqual(socket.close, (1012, reason))
        self.assertEqual(Reply.parse(poll.received()).json()["events"], [])
        self.assertEqual(len(self.subscribers), 0)
        self.assertEqual(self.sse().reply.code, 401)

    def test_same_rules(self) -> None:
        """A reload that changes nothing of that lets everybody stay."""
        sse = self.sse()
        sse.messages()
        self.reload()
        self.reload(http_extra_headers={"X-Node": "alpha"}, limits={"idle": 30})
        self.assertEqual(sse.messages(), [])
        self.assertEqual(len(self.subscribers), 1)

    def test_many(self) -> None:
        """They go a few in each turn of the reactor, so that nobody else waits for it."""
        for _ in range(120):
            self.sse(client="127.0.0.1")
        password = {"username": "admin", "password": "secret"}
        self.api.apply(Settings.of({**LISTEN, "authentication": password}, VERSION))
        self.assertEqual(len(self.subscribers), 70)
        self.turns()
        self.assertEqual(len(self.subscribers), 0)

"""Tests of twisted_patroni.engine.interface: the values that everything is written against."""

from __future__ import annotations

from patroni.postgresql.misc import PostgresqlState
from twisted.trial.unittest import SynchronousTestCase

from tests.doubles import make_node
from twisted_patroni.engine.interface import (
    QUERYABLE_STATES,
    RUNNING,
    STATES,
    UNKNOWN_STATE,
    ConfigConflict,
    DcsUnavailable,
    EngineError,
    LaneFull,
)


class StateTests(SynchronousTestCase):
    """The states of PostgreSQL."""

    def test_are_the_engines(self) -> None:
        """Texts, names and numbers are those of the engine installed."""
        self.assertEqual(
            [(state.index, state.name.lower(), state.value) for state in PostgresqlState],
            [(number, name, text) for number, (name, text) in enumerate(STATES)],
        )

    def test_special_ones(self) -> None:
        """The states with a meaning of their own are among them, and unknown is not."""
        texts = {text for _, text in STATES}
        self.assertLessEqual(QUERYABLE_STATES | {RUNNING}, texts)
        self.assertNotIn(UNKNOWN_STATE, texts)


class ErrorTests(SynchronousTestCase):
    """Errors of the engine."""

    def test_carry_their_evidence(self) -> None:
        """Each is an EngineError, and says in one sentence what happened."""
        rows = (
            (DcsUnavailable("etcd is away"), "etcd is away"),
            (LaneFull("read", 7), "the read lane is full"),
            (ConfigConflict(), "the configuration in the DCS has changed meanwhile"),
        )
        for error, text in rows:
            self.assertIsInstance(error, EngineError)
            self.assertEqual(str(error), text)


class NodeViewTests(SynchronousTestCase):
    """Views of the node."""

    def test_noloadbalance(self) -> None:
        """The tag counts when it is true."""
        for tags, expected in (({}, False), ({"noloadbalance": True}, True)):
            self.assertIs(make_node(tags=tags).noloadbalance, expected)

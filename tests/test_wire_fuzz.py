"""Whatever bytes come in whatever pieces, the answers are HTTP, few, and the same each time.

``WIRE_EXAMPLES=20000 trial tests.test_wire_fuzz`` looks longer, and elsewhere each time.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.attacks import GET, SMUGGLED
from tests.wire_grammar import (
    CUTS,
    Sent,
    broken_pipelines,
    doubtful_requests,
    good_requests,
)
from tests.wirecase import WireCase, codes, cut

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.strict_answers import WireAnswer
    from tests.wirecase import Attacker

_BY_HAND = int(os.environ.get("WIRE_EXAMPLES", "0"))


def _bounded(examples: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return settings(
        max_examples=_BY_HAND or examples,
        derandomize=not _BY_HAND,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow],
    )


class FuzzTests(WireCase):
    """Invariants of the wire."""

    def attack(self, data: bytes, places: list[int]) -> tuple[tuple[int, ...], Attacker]:
        """Send bytes at once and in pieces; check what always holds, and return the statuses."""
        name = repr(data)
        at_once, answers, attacker = self.assert_attack(name, data, [data])
        cut_at_once, cut_answers, other = self.assert_attack(name, data, cut(data, places))
        self.assertEqual(_undated(at_once), _undated(cut_at_once), name)
        self.assertEqual(_undated(answers), _undated(cut_answers), name)
        self.assertEqual(attacker.api.engine.calls, other.api.engine.calls, name)
        final = tuple(code for code in codes(answers) if code >= 200)
        # Each request needs its version; what breaks the connection needs none, and is the last.
        self.assertLessEqual(len(final), data.count(b"HTTP/1.") + 1, name)
        self.assertLessEqual(set(final), {200, 400, 408, 411, 413, 414, 431, 501, 503, 505}, name)
        self.assertLessEqual(attacker.changes, min(final.count(200), data.count(b"PATCH")), name)
        return final, attacker

    @_bounded(200)
    @given(st.lists(good_requests(), min_size=1, max_size=5), CUTS)
    def test_good(self, sent: list[Sent], places: list[int]) -> None:
        """Each good request has its answer and its effect, however its bytes arrive."""
        final, attacker = self.attack(b"".join(each.data for each in sent), places)
        self.assertEqual(final, tuple(each.code for each in sent))
        self.assertEqual(attacker.changes, sum(each.changes for each in sent))

    @_bounded(300)
    @given(st.lists(good_requests(), max_size=2), doubtful_requests(), CUTS)
    def test_doubtful(self, before: list[Sent], data: bytes, places: list[int]) -> None:
        """Where a request says twice what its end is, it is refused and nothing follows."""
        start = b"".join(each.data for each in before)
        final, attacker = self.attack(start + data + GET, places)
        self.assertEqual(final, (200,) * len(before) + (400,))
        self.assertEqual(attacker.changes, sum(each.changes for each in before))

    @_bounded(600)
    @given(broken_pipelines(), CUTS)
    def test_broken(self, data: bytes, places: list[int]) -> None:
        """Requests with anything wrong in them: what cannot be read ends the connection."""
        self.attack(data, places)

    @_bounded(200)
    @given(st.binary(max_size=300), CUTS)
    def test_nonsense(self, data: bytes, places: list[int]) -> None:
        """Bytes without sense change nothing, and nothing behind them is answered."""
        final, attacker = self.attack(data + b"\r\n" + SMUGGLED, places)
        if data:
            self.assertLessEqual(len(final), 1)
            self.assertEqual(attacker.changes, 0)


def _undated(answers: list[WireAnswer]) -> list[tuple[object, ...]]:
    return [
        (
            answer.version,
            answer.code,
            {name: value for name, value in answer.headers.items() if name != "date"},
            answer.body,
        )
        for answer in answers
    ]

"""Tests of twisted_patroni.memory."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_patroni.memory import give_back


class MemoryTests(SynchronousTestCase):
    """Memory is given back without harm."""

    def test_again_and_again(self) -> None:
        """It can be done at any time; what is in use stays as it is."""
        kept = [bytes([number % 256]) * 1000 for number in range(1000)]
        for _ in range(3):
            self.assertIsInstance(give_back(), bool)
        self.assertEqual([each[0] for each in kept], [number % 256 for number in range(1000)])

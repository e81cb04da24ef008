"""Tests of the benchmarks' arithmetic: what is read from tools and logs, and the tables."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.abuse import COLUMNS, ROWS
from benchmarks.load import Load
from benchmarks.report import phases, plain_table, table
from benchmarks.visitor import KEPT, NEW, Visit, percentile, within
from benchmarks.watch import HaLog, punctuality
from tests.scratch import scratch_directory

CYCLE = "2026-01-31 10:00:{:02d},000 INFO: no action. I am (pg1), the leader with the lock"


class LoadTests(SynchronousTestCase):
    """Tests of Load."""

    def test_rate(self) -> None:
        """Only good answers count."""
        self.assertEqual(Load("wrk", 1000, 2.0, 100, 0.001, 0.01).rate, 450)
        self.assertEqual(Load("wrk", 10, 2.0, 20, 0.001, 0.01).rate, 0)


class CycleTests(SynchronousTestCase):
    """Tests of the punctuality of HA cycles."""

    def test_deviation(self) -> None:
        """Cycles that come too early count as those that are late."""
        mean, worst = punctuality([0.0, 2.0, 4.5, 6.25], 7.0, 2.0)
        self.assertAlmostEqual(mean, 0.25)
        self.assertAlmostEqual(worst, 0.5)

    def test_cycle_that_never_comes(self) -> None:
        """A loop that stands still is late until the end."""
        self.assertEqual(punctuality([0.0], 12.0, 2.0), (10.0, 10.0))

    def test_log(self) -> None:
        """Only what is logged from the beginning on counts, besides the cycle before it."""
        path = scratch_directory(self) / "log"
        log = HaLog(path, 2.0)
        path.write_text(f"demoting self\n{CYCLE.format(1)}\n{CYCLE.format(2)}\n")
        log.begin()
        with path.open("a") as file:
            file.write(f"{CYCLE.format(4)}\nWARNING: Demoting self (immediate-nolock)\n")
        self.assertEqual(log.cycles().alarms, 1)


class TableTests(SynchronousTestCase):
    """Tests of the table."""

    def test_ratios(self) -> None:
        """A ratio above one says that ours is better, and is made of two numbers of one round."""
        text = table(
            {
                "theirs": [
                    {"new.rate": 100.0, "new.p99": 10.0},
                    {"new.rate": 50.0, "new.p99": 30.0},
                ],
                "ours": [{"new.rate": 400.0, "new.p99": 5.0}, {"new.rate": 250.0, "new.p99": 10.0}],
            },
            "theirs",
        )
        self.assertIn("| new connections | 75.0 /s | 325 /s | 4.50 (4.00 to 5.00) |", text)
        self.assertIn("| new connections: p99 | 20.0 ms | 7.50 ms | 2.50 (2.00 to 3.00) |", text)

    def test_no_answer(self) -> None:
        """A server that does not answer is said to; rows without numbers are left out."""
        text = table(
            {"theirs": [{"idle5.new.rate": None}], "ours": [{"idle5.new.rate": 9.0}]}, "theirs"
        )
        self.assertIn("| no answer within 5 s | 9.00 /s |  |", text)
        self.assertEqual(len(text.splitlines()), 3)


class VisitTests(SynchronousTestCase):
    """Tests of what the well-behaved client writes down."""

    def test_written(self) -> None:
        """A visit is read as it was written, also one without an answer."""
        for visit in (Visit(KEPT, 12.5, 0.001), Visit(NEW, 1e6, float("inf"))):
            self.assertEqual(Visit.parse(f"{visit}\n"), visit)

    def test_percentile(self) -> None:
        """A share of visits counts by when they began; without an answer there is no time."""
        visits = [Visit(NEW, number, number / 10) for number in range(100)]
        self.assertEqual(percentile(within(visits, NEW, 0, 50), 99), 4.9)
        self.assertEqual(percentile(within(visits, NEW, 50, 100), 50), 7.5)
        self.assertIsNone(percentile(within(visits, KEPT, 0, 100), 50))
        waiting = [*visits, *(Visit(NEW, 100, float("inf")) for _ in range(2))]
        self.assertEqual(percentile(within(waiting, NEW, 0, 101), 50), 5.1)
        self.assertIsNone(percentile(within(waiting, NEW, 0, 101), 99))


class AbuseTests(SynchronousTestCase):
    """Tests of the table of an attack."""

    def test_columns(self) -> None:
        """Each phase has its column."""
        values = {"before.new.p99": 2.0, "during.new.p99": None, "during.idle": 5000.0}
        text = plain_table(phases(values, COLUMNS), "ours", ROWS)
        self.assertEqual(
            text.splitlines(),
            [
                "| ours | before | while they arrive | under attack | afterwards |",
                "| --- | ---: | ---: | ---: | ---: |",
                "| new connections: p99 | 2.00 ms |  | no answer within 5 s |  |",
                "| at any time idle |  |  | 5000 |  |",
            ],
        )

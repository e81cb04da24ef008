"""The attack of ``benchmarks/abuse.py``, with some tens of hostile clients for some seconds."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from benchmarks.abuse import QUICK
from tests.real.harness import free_ports, scratch_directory
from twisted_patroni.demo.layout import POSTGRES_OFFSET, RAFT_OFFSET

ROOT = Path(__file__).parents[2]
#: Milliseconds by which an HA cycle may be late, on the slowest machine.
CYCLE = 5000


class AbuseTests(TestCase):
    """Tests of a server under attack."""

    timeout = 240

    async def test_quick(self) -> None:
        """Everybody who behaves is answered, and the leader keeps its key."""
        directory = scratch_directory()
        self.addCleanup(directory.rmdir)
        file = directory / "numbers"
        self.addCleanup(file.unlink, missing_ok=True)
        port = free_ports(1, POSTGRES_OFFSET, RAFT_OFFSET)
        words = ("--quick", "--ours-only", f"--json={file}", f"--base-port={port}")
        out, err, code = await getProcessOutputAndValue(
            sys.executable, ("-m", "benchmarks.abuse", *words), os.environ, str(ROOT)
        )
        self.assertEqual(code, 0, err.decode())
        self.assertIn("| under attack |", out.decode())
        ((title, values),) = json.loads(file.read_text()).items()
        self.assertIn(f"{sum(QUICK.values())} hostile clients", title)
        for kind, size in QUICK.items():
            self.assertGreaterEqual(values[f"during.{kind}"], 0.8 * size, kind)
        for phase in ("before", "arriving", "during", "after"):
            for kind in ("new", "kept"):
                self.assertGreater(values[f"{phase}.{kind}.visits"], 5)
                self.assertEqual(values[f"{phase}.{kind}.failures"], 0)
            self.assertEqual(values[f"{phase}.alarms"], 0)
        self.assertLess(values["after.sockets"], values["before.sockets"] + 3)
        self.assertLess(values["during.cycle_worst"], CYCLE)

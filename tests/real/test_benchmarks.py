"""The benchmark of those who follow events, in short: storms of them on a real node."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from tests.real.harness import free_ports, scratch_directory
from twisted_patroni.demo.layout import POSTGRES_OFFSET, RAFT_OFFSET

ROOT = Path(__file__).parents[2]
#: Seconds within which subscribers have what they wait for, on the slowest machine.
SLOWEST = 20


class BenchmarkTests(TestCase):
    """Tests of what is measured, not of how fast it is."""

    timeout = 300

    async def measured(self, module: str, nodes: int, *words: str) -> dict[str, Any]:
        """Run a benchmark, and return its numbers.

        :param module: its name.
        :param nodes: how many nodes it starts.
        :param words: its arguments.
        """
        directory = scratch_directory()
        self.addCleanup(shutil.rmtree, directory)
        file = directory / "numbers"
        port = free_ports(nodes, POSTGRES_OFFSET, RAFT_OFFSET)
        options = ("--quick", f"--json={file}", f"--base-port={port}", *words)
        command = ("-m", f"benchmarks.{module}", *options)
        out, err, code = await getProcessOutputAndValue(
            sys.executable, command, os.environ, str(ROOT)
        )
        self.assertEqual(code, 0, err.decode())
        self.assertIn(b"| --- |", out)
        found: dict[str, Any] = json.loads(file.read_text())
        return found

    async def test_subscribers(self) -> None:
        """All are told each event once, also when all come again at once."""
        found = await self.measured("subscribers", 1, "--way=WebSocket")
        self.assertEqual(list(found), ["WebSocket"])
        for way, (values,) in found.items():
            self.assertGreaterEqual(values["event.count"], 10, way)
            for key in ("lost", "twice", "gaps", "ended"):
                self.assertEqual(values[key], 0, f"{way}: {key}")
            self.assertLess(values["event.last_worst"], 1000 * SLOWEST, way)
            self.assertLess(values["storm.back_worst"], SLOWEST, way)
            for phase in ("before", "idle", "events", "storm", "after"):
                self.assertEqual(values[f"{phase}.kept.failures"], 0, way)
                self.assertEqual(values[f"{phase}.alarms"], 0, way)
            self.assertGreaterEqual(values["idle.sockets"], values["before.sockets"] + 50, way)
            self.assertLess(values["after.sockets"], values["before.sockets"] + 3, way)

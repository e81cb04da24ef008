"""Tests of twisted_patroni.tap and of the plugin that names it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from twisted.application.service import IServiceMaker
from twisted.plugin import IPlugin, getPlugins
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from twisted_patroni.tap import Options, makeService


class OptionsTests(SynchronousTestCase):
    """The command line."""

    def test_config(self) -> None:
        """The configuration is an option or the only argument, or left to the environment."""
        rows: tuple[tuple[list[str], str], ...] = (
            ([], ""),
            (["--config", "a.yml"], "a.yml"),
            (["-c", "a.yml"], "a.yml"),
            (["a.yml"], "a.yml"),
        )
        for arguments, expected in rows:
            options = Options()
            options.parseOptions(arguments)
            self.assertEqual(options["config"], expected, str(arguments))

    def test_too_much(self) -> None:
        """A second argument is refused."""
        self.assertRaises(UsageError, Options().parseOptions, ["a.yml", "b.yml"])

    def test_process_number_one(self) -> None:
        """As process 1 it refuses, with a hint: nobody would reap PostgreSQL's orphans."""
        self.patch(os, "getpid", lambda: 1)
        error = self.assertRaises(UsageError, Options().parseOptions, [])
        self.assertIn("init", str(error))


class PluginTests(SynchronousTestCase):
    """The plugin."""

    def test_found(self) -> None:
        """``twistd`` finds one plugin named patroni, which leads to this module."""
        found: list[Any] = [
            each for each in getPlugins(IServiceMaker) if getattr(each, "tapname", "") == "patroni"
        ]
        self.assertEqual(len(found), 1)
        (maker,) = found
        verifyObject(IPlugin, maker)
        verifyObject(IServiceMaker, maker)
        self.assertIs(maker.options, Options)
        self.assertIs(maker.makeService, makeService)

    def test_imports_nothing(self) -> None:
        """Listing the commands imports neither this package nor a reactor."""
        program = (
            "import sys, twisted.plugins.twisted_patroni_plugin\n"
            "unwanted = {'twisted_patroni', 'twisted.internet.reactor', 'patroni'}\n"
            "print(sorted(unwanted & set(sys.modules)))"
        )
        ended = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
        )
        self.assertEqual((ended.stdout, ended.stderr), ("[]\n", ""))

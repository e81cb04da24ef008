"""The guide to the client: its programs run, and print what it says; its tables are complete."""

from __future__ import annotations

import ast
import re
import unittest
from contextlib import redirect_stdout
from inspect import signature
from io import StringIO
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import yaml
from attrs import define
from twisted.internet import task
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import Agent

import twisted_patroni.client as client
from tests.test_client_examples import modules, result
from tests.test_docs import ROOT, blocks, text_of
from twisted_patroni.__main__ import build_parser
from twisted_patroni.client import ClientSettings, Node, endpoint
from twisted_patroni.client.postgres import Connector
from twisted_patroni.client.testing import MemoryCluster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import psycopg
    from twisted.web.iweb import IAgent

PAGE = ROOT / "docs" / "client.md"
_BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```$(?:\n+(?:prints\n+)?```text\n(?P<shown>.*?)^```$)?",
    re.DOTALL | re.MULTILINE,
)


def programs() -> list[tuple[str, str | None]]:
    """Return the blocks of Python, each with what it prints, if that is said."""
    return [(found["code"], found["shown"]) for found in _BLOCK.finditer(text_of(PAGE))]


def table(heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading, without its own head."""
    part = re.split(rf"^## {re.escape(heading)}$", text_of(PAGE), flags=re.MULTILINE)[1]
    lines = part[part.index("\n|") + 1 :].partition("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def names(text: str) -> Iterator[str]:
    """Return what is in code style in a text, without arguments."""
    for found in re.findall(r"`([^`]+)`", text):
        yield found.partition("(")[0]


@define
class Agents:
    """Stands for the class of agents.

    :param present: returns the one that there is.
    """

    present: Callable[[], IAgent]

    def __call__(self, *_: object) -> IAgent:
        """Return the agent."""
        return self.present()

    def usingEndpointFactory(self, *_: object) -> IAgent:
        """Return the agent."""
        return self.present()


class Connection:
    """A connection to a PostgreSQL that agrees to everything.

    :ivar said: what it was told.
    """

    def __init__(self) -> None:
        self.said: list[str] = []

    def execute(self, statement: str) -> None:
        """Agree."""
        self.said.append(statement)

    def commit(self) -> None:
        """Agree."""
        self.said.append("COMMIT")

    def close(self) -> None:
        """Agree."""


class ProgramTests(SynchronousTestCase):
    """The programs."""

    def setUp(self) -> None:
        """Have everybody ask a cluster in memory, whatever else they would ask."""
        self.begin()
        for module in modules():
            if vars(module).get("Agent") is Agent:
                self.patch(module, "Agent", Agents(lambda: self.memory))
            if vars(module).get("Connector") is Connector:
                self.patch(module, "Connector", self.connector)
        # The files that the page names are not there.
        self.patch(ClientSettings, "policy", None)
        self.patch(task, "react", lambda main: result(self.memory.clock, main(self.memory.clock)))

    def begin(self) -> None:
        """Begin with a new cluster."""
        self.memory = MemoryCluster(("pg1", "pg2", "pg3"), "pg1")
        self.connection = Connection()

    def connector(self, reactor: Any) -> Connector:
        """Return what opens connections without threads and without a server."""
        opened = cast("psycopg.Connection[Any]", self.connection)
        threadless = SimpleNamespace(
            callLater=reactor.callLater,
            seconds=reactor.seconds,
            callFromThread=lambda function, *arguments: function(*arguments),
        )
        return Connector(threadless, run=lambda work: work(), open=lambda _: opened)

    def run_program(self, code: str) -> tuple[str, dict[str, Any]]:
        """Run one; return what it has printed, and the names that it has left."""
        names: dict[str, Any] = {name: getattr(client, name) for name in client.__all__}
        names |= {"__name__": "program", "reactor": self.memory.clock, "memory": self.memory}
        (configuration,) = blocks(PAGE, "yaml")
        code = code.replace("10.0.0.11", "pg1").replace(
            '"/etc/patroni.yml"', repr(yaml.safe_load(configuration))
        )
        output = StringIO()
        with redirect_stdout(output):
            program = compile(code, PAGE.name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            running = eval(program, names)
            if running is not None:
                result(self.memory.clock, running)
        return output.getvalue(), names

    def test_programs(self) -> None:
        """Each program runs, and prints what the page says."""
        self.assertGreater(len(programs()), 10)
        self.assertEqual(len(programs()), len(blocks(PAGE, "python")))
        for code, shown in programs():
            self.begin()
            printed, _ = self.run_program(code)
            printed = printed.replace("10.0.0.3", "10.0.0.2")  # one replica is as good as another
            self.assertEqual(printed, shown or "", code)

    def test_readme(self) -> None:
        """So does the one in the README."""
        (code,) = blocks(ROOT / "README.md", "python")
        printed, _ = self.run_program(f"{code}\nawait main(reactor)\n")
        self.assertEqual(printed, "pg1\n")

    def test_writes(self) -> None:
        """The one that writes a row commits it."""
        (code,) = (code for code, _ in programs() if "replicas.connect(" in code)
        self.run_program(code)
        self.assertEqual(self.connection.said, ["INSERT INTO log VALUES ('hello')", "COMMIT"])

    def test_tests(self) -> None:
        """The tests pass that the page shows."""
        (code,) = (code for code, _ in programs() if "TestCase" in code)
        _, names = self.run_program(code)
        suite = unittest.TestLoader().loadTestsFromTestCase(names["BackupTests"])
        outcome = unittest.TestResult()
        suite.run(outcome)
        self.assertEqual((outcome.testsRun, outcome.errors, outcome.failures), (2, [], []))


class TableTests(SynchronousTestCase):
    """The tables."""

    def test_errors(self) -> None:
        """Each error that is exported has a row, or is named below them, and nothing else."""
        errors = {
            name
            for name in client.__all__
            if isinstance(found := getattr(client, name), type) and issubclass(found, Exception)
        }
        part = re.split("^## Errors$", text_of(PAGE), flags=re.MULTILINE)[1].partition("```")[0]
        listed = {name for row in table("Errors") for name in names(row[0])}
        mentioned = {name for name in names(part) if name in errors}
        self.assertEqual(errors, mentioned)
        self.assertLess(listed, errors)

    def test_methods(self) -> None:
        """The methods in the tables are there, and have the parameters that are named."""
        for heading, cls in (("One node", Node), ("Test your own program", MemoryCluster)):
            rows = table(heading)
            self.assertGreater(len(rows), 4)
            for text in re.findall(r"`([^`]+)`", " ".join(row[0] for row in rows)):
                name, _, arguments = text.rstrip(")").partition("(")
                known = signature(getattr(cls, name)).parameters
                for argument in filter(None, re.split(r"[,\s]+", arguments)):
                    if argument != "...":
                        self.assertIn(argument.rstrip("=").lstrip("*"), known, text)

    def test_double(self) -> None:
        """Whatever can happen to a cluster in memory is in its table."""
        listed = {name for row in table("Test your own program") for name in names(row[0])}
        asking = {"node", "replicas", "url", "close", "request"}
        public = {name for name in dir(MemoryCluster) if not name.startswith("_")}
        self.assertEqual(listed, public - asking - {"open", "urls", "leader"})

    def test_endpoint(self) -> None:
        """The arguments of an endpoint string are those that it takes; so are the options."""
        listed = {name for row in table("Without writing a client") for name in names(row[0])}
        self.assertEqual(listed, endpoint._ARGUMENTS - {"hosts"})
        output = StringIO()
        with redirect_stdout(output), self.assertRaises(SystemExit):
            build_parser().parse_args(["endpoint", "--help"])
        for option in re.findall(r"(?<![\w-])(--[a-z]+|-c)\b", text_of(PAGE)):
            self.assertIn(option, output.getvalue())

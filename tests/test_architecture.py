"""The rules of the house, read from the source: who may import whom, and what nobody may."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

from twisted.trial.unittest import SynchronousTestCase

import twisted_patroni

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = "twisted_patroni"
ROOT = Path(twisted_patroni.__file__).parent

#: The rooms from the ground up. What is in one may import what is in its own and in those below,
#: except where :data:`APART` says otherwise. A name stands for the module and all below it.
ROOMS = (
    (
        "client",
        "engine.interface",
        "engine.state",
        "settings",
        "sharing",
        "postgres",
        "_pqlink",
        "_pqsocket",
        "_privileges",
    ),
    (
        "access",
        "addresses",
        "audit",
        "checks",
        "drain",
        "events",
        "looks",
        "fitness",
        "listening",
        "memory",
        "metrics",
        "operations",
        "passwords",
        "pem",
        "slowing",
        "status",
        "tls",
        "webhooks",
    ),
    ("web",),
    ("engine.lanes", "doors", "figures", "renewal", "restapi", "seat"),
    ("engine", "service"),
    ("tap",),
    ("demo", "discovery", "watch", "__main__"),
)
#: Rooms that see less than what is below them.
APART = {
    "engine": ("engine", "sharing"),
    "engine.lanes": ("engine.interface",),
    "engine.interface": ("engine.state",),
    "engine.state": (),
    "demo": ("demo", "_privileges"),
    "client": ("client",),
    "watch": ("watch", "client"),
    "discovery": ("discovery", "watch", "client"),
    "__main__": ("demo", "discovery", "passwords", "watch"),
}
#: Who may name the parts of the engine that know upstream.
HOSTS = ("engine", "service", "tap")


@cache
def sources() -> dict[str, ast.Module]:
    """Return each module of the package, parsed, by its name without the package's."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return found


def is_type_checking(node: ast.AST) -> bool:
    """Tell whether a statement is only for the type checker."""
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def is_function(node: ast.AST) -> bool:
    """Tell whether a statement only runs when it is called."""
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def imported(tree: ast.AST, *, typing: bool = True, lazy: bool = True) -> Iterator[str]:
    """Name what a module imports, ``a.b`` for both ``import a.b`` and ``from a import b``.

    :param tree: the module.
    :param typing: count what is imported for the type checker only.
    :param lazy: count what is imported within functions.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{each.name}" for each in node.names)
        elif (typing or not is_type_checking(node)) and (lazy or not is_function(node)):
            yield from imported(node, typing=typing, lazy=lazy)


def ours(tree: ast.Module, *, typing: bool = True, lazy: bool = True) -> set[str]:
    """Name the modules of the package that a module imports."""
    found = set()
    for name in imported(tree, typing=typing, lazy=lazy):
        if name.startswith(f"{PACKAGE}."):
            name = name.removeprefix(f"{PACKAGE}.")
            found.add(name if name in sources() else name.rpartition(".")[0])
    return found - {""}


def within(name: str, rooms: tuple[str, ...]) -> bool:
    """Tell whether a module is in one of these rooms."""
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


def room_of(name: str) -> tuple[int, str]:
    """Return the level of a module, and the most exact of the names that stand for it."""
    rooms = [
        (level, room)
        for level, names in enumerate(ROOMS)
        for room in names
        if within(name, (room,))
    ]
    if not rooms:
        raise AssertionError(f"{name} is in none of the rooms of {__name__}.ROOMS")
    return max(rooms, key=lambda found: len(found[1]))


class ImportTests(SynchronousTestCase):
    """Imports."""

    def test_downward(self) -> None:
        """Imports run downward only, those for the type checker too."""
        for name, tree in sources().items():
            if not name:
                continue
            level, room = room_of(name)
            for other in ours(tree):
                if room in APART:
                    allowed = within(other, APART[room]) or room_of(other)[1] == "engine.interface"
                else:
                    allowed = room_of(other)[0] <= level
                self.assertTrue(allowed, f"{name} imports {other}")

    def test_no_cycles(self) -> None:
        """No module needs, while it is imported, one that needs it."""
        graph = {
            name: ours(tree, typing=False, lazy=False) - {name} for name, tree in sources().items()
        }
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            self.fail(" -> ".join(error.args[1]))

    def test_upstream(self) -> None:
        """Only the engine's room imports upstream's package."""
        for name, tree in sources().items():
            if not within(name, ("engine",)):
                wrong = [each for each in imported(tree) if within(each, ("patroni",))]
                self.assertEqual(wrong, [], name)

    def test_interface_knows_no_upstream(self) -> None:
        """What is written against the interface needs no upstream, nor does the interface."""
        for name in ("engine.interface", "engine.lanes", "engine.statement"):
            wrong = [each for each in imported(sources()[name]) if within(each, ("patroni",))]
            self.assertEqual(wrong, [], name)

    def test_hosts(self) -> None:
        """The adapter and the host of the engine are named by those who put a node together."""
        for name, tree in sources().items():
            if not within(name, HOSTS):
                self.assertEqual(ours(tree) & {"engine.host", "engine.adapter"}, set(), name)

    def test_pure(self) -> None:
        """The rules of health checks and access need no Twisted, even through what they import."""
        for name in ("checks", "access"):
            wrong = [
                each
                for each in imported(sources()[name])
                if within(each, ("twisted", "zope", "time", "socket"))
            ]
            self.assertEqual(wrong, [], name)
        program = (
            f"import sys, {PACKAGE}.checks, {PACKAGE}.access\n"
            "print(sorted({'twisted', 'patroni', 'psycopg'} & set(sys.modules)))"
        )
        ended = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
        )
        self.assertEqual((ended.stdout, ended.stderr), ("[]\n", ""))

    def test_reactor(self) -> None:
        """The global reactor is imported by what twistd runs and nowhere else."""
        users = [
            name
            for name, tree in sources().items()
            if any(within(each, ("twisted.internet.reactor",)) for each in imported(tree))
        ]
        self.assertEqual(users, ["tap"])

    def test_clock(self) -> None:
        """Nobody looks at a clock that was not passed in, and nobody sleeps."""
        for name, tree in sources().items():
            if not within(name, ("demo",)):
                wrong = [each for each in imported(tree) if within(each, ("time",))]
                self.assertEqual(wrong, [], name)


class SourceTests(SynchronousTestCase):
    """Files."""

    def test_docstrings(self) -> None:
        """Each module says what it is for."""
        for name, tree in sources().items():
            self.assertTrue(ast.get_docstring(tree), name)

    def test_annotations(self) -> None:
        """Annotations cost nothing at run time, in any module that has some."""
        for name, tree in sources().items():
            if any(is_function(node) or isinstance(node, ast.ClassDef) for node in tree.body):
                self.assertIn("__future__.annotations", imported(tree), name)

    def test_length(self) -> None:
        """No file is longer than can be read in one sitting."""
        for path in ROOT.rglob("*.py"):
            lines = path.read_text(encoding="utf-8").count("\n")
            self.assertLessEqual(lines, 400, path.name)

    def test_namespace(self) -> None:
        """The plugin's directories are Twisted's: an __init__.py there would break twistd."""
        beside = ROOT.parent / "twisted"
        if beside.exists():
            self.assertEqual(list(beside.rglob("__init__.py")), [])

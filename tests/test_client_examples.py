"""The client's docstrings: everything public has an example, and the examples are true.

An example runs against a fresh cluster in memory, and may ``await``. It finds there everything
that :mod:`twisted_patroni.client` exports, and ``memory`` (the cluster), ``reactor`` (its clock),
``node`` (its leader), ``replicas`` and ``settings``.
"""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import pkgutil
import sys
from contextlib import redirect_stdout
from functools import cached_property
from inspect import CO_COROUTINE
from io import StringIO
from traceback import format_exception_only
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

import twisted_patroni.client as client
from twisted_patroni.client import ClientSettings
from twisted_patroni.client.orders import Begin, Foresee
from twisted_patroni.client.testing import MemoryCluster

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping

    from twisted.internet.task import Clock

#: Seconds of the clock that an example may take.
PATIENCE = 120


def modules() -> list[Any]:
    """Return the modules of the client."""
    found = pkgutil.walk_packages(client.__path__, f"{client.__name__}.")
    return [client, *(importlib.import_module(each.name) for each in found)]


def docstrings() -> dict[str, doctest.DocTest]:
    """Return the docstrings with examples, by the full names of what they are about."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    tests = [test for module in modules() for test in finder.find(module)]
    return {test.name: test for test in tests if test.examples}


def shown(value: object) -> None:
    """Print what an expression has come to, as the interpreter does, without keeping it."""
    if value is not None:
        print(repr(value))


def result(clock: Clock, running: Coroutine[Any, Any, Any]) -> Any:
    """Return what a coroutine returns, while time passes as long as it has to."""
    found: list[Any] = []
    Deferred.fromCoroutine(running).addBoth(found.append)
    for _ in range(PATIENCE * 4):
        if found:
            break
        clock.advance(0.25)
    if not found:
        raise AssertionError(f"not done after {PATIENCE} seconds")
    if isinstance(found[0], Failure):
        found[0].raiseException()
    return found[0]


class Session:
    """The examples of one docstring, one after the other.

    :param found: what the docstring's module holds, which examples of inner parts may use.
    :ivar memory: the cluster.
    :ivar names: what the examples find, and what they have left.
    """

    def __init__(self, found: Mapping[str, Any]) -> None:
        self.memory = MemoryCluster()
        exported = {name: getattr(client, name) for name in client.__all__}
        self.names: dict[str, Any] = {
            **found,
            **exported,
            "memory": self.memory,
            "reactor": self.memory.clock,
            "node": self.memory.node("a"),
            "replicas": self.memory.replicas(),
            "settings": ClientSettings(),
        }

    def run(self, example: doctest.Example, place: str) -> str:
        """Run one example, and return what it has printed, or the last line of its traceback."""
        code = compile(example.source, place, "single", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        output, hook = StringIO(), sys.displayhook
        sys.displayhook = shown
        try:
            with redirect_stdout(output):
                running = eval(code, self.names)
                if code.co_flags & CO_COROUTINE:
                    result(self.memory.clock, running)
        except Exception as error:
            return format_exception_only(error)[-1]
        finally:
            sys.displayhook = hook
        return output.getvalue()

    def close(self) -> None:
        """Close the clients that the cluster has made."""
        result(self.memory.clock, self.memory.close())


class ExampleTests(SynchronousTestCase):
    """Each docstring by itself."""

    def check(self, test: doctest.DocTest) -> None:
        """Fail unless the examples show what they say, and leave nothing behind."""
        checker, session = doctest.OutputChecker(), Session(test.globs)
        for example in test.examples:
            wanted = example.exc_msg or example.want
            got = session.run(example, f"<{test.name}>")
            fits = checker.check_output(wanted, got, doctest.ELLIPSIS)
            line = (test.lineno or 0) + example.lineno + 1
            place = f"{test.filename}:{line}"
            self.assertTrue(fits, f"{place}\n{example.source}wanted: {wanted}\ngot: {got}")
        session.close()
        self.assertEqual(session.memory.open, 0, "requests are still on their way")
        self.assertEqual(session.memory.clock.getDelayedCalls(), [])


def _add_tests() -> None:
    def test_of(docstring: doctest.DocTest) -> Callable[[ExampleTests], None]:
        def test(self: ExampleTests) -> None:
            self.check(docstring)

        test.__doc__ = f"The examples of {docstring.name} are true."
        return test

    for name, docstring in docstrings().items():
        plain = name.removeprefix(f"{client.__name__}.").replace(".", "_")
        setattr(ExampleTests, f"test_{plain}", test_of(docstring))


_add_tests()


def has_example(thing: object) -> bool:
    """Tell whether the docstring of something has an example."""
    return ">>> " in (getattr(thing, "__doc__", None) or "")


def parts(cls: type) -> Iterator[tuple[str, object]]:
    """Return the public methods and properties of a class, those of its own base classes, too."""
    for name in dir(cls):
        found = inspect.getattr_static(cls, name)
        is_ours = isinstance(found, classmethod | staticmethod | property | cached_property)
        if not name.startswith("_") and (is_ours or inspect.isfunction(found)):
            yield f"{cls.__name__}.{name}", getattr(found, "__func__", found)


class CoverageTests(SynchronousTestCase):
    """Who has examples."""

    def test_exported(self) -> None:
        """Everything that is exported has an example."""
        lacking = [name for name in client.__all__ if not has_example(getattr(client, name))]
        self.assertEqual(lacking, [])

    def test_sorted(self) -> None:
        """What is exported is exported once, in order."""
        self.assertEqual(list(client.__all__), sorted(set(client.__all__)))

    def test_parts(self) -> None:
        """So has each public method and property of each class, and of the double."""
        exported = [getattr(client, name) for name in client.__all__]
        classes = [each for each in exported if isinstance(each, type)]
        every = [pair for cls in (*classes, Begin, Foresee, MemoryCluster) for pair in parts(cls)]
        self.assertGreater(len(every), 100)
        self.assertEqual([name for name, part in every if not has_example(part)], [])

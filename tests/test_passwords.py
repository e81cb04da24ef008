"""Tests of twisted_patroni.passwords, with cheap hashes and a lane that the test works off."""

from __future__ import annotations

import io
import re
import sys
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.sections import HASH, settings
from twisted_patroni.__main__ import main
from twisted_patroni.engine.interface import LaneFull
from twisted_patroni.passwords import (
    MEMORY,
    REMEMBERED,
    PasswordBook,
    PasswordError,
    hash_password,
    is_password,
    read_password,
)

if TYPE_CHECKING:
    from collections.abc import Callable


class HashTests(SynchronousTestCase):
    """Hashes."""

    def test_round_trip(self) -> None:
        """A hash is one that the settings take, is of its password only, and never the same."""
        for password in ("secret", "zoë:ü", " "):
            one, two = hash_password(password), hash_password(password)
            self.assertNotEqual(one, two)
            self.assertTrue(one.startswith("$argon2id$v=19$m=19456,t=2,p=1$"), one)
            self.assertEqual(settings(users={"alice": one}).users, {"alice": one})
            self.assertTrue(is_password(password.encode(), one))
            self.assertFalse(is_password(password.encode() + b" ", one))


class PasswordBookTests(SynchronousTestCase):
    """The book, with a lane in which nothing happens until the test says so."""

    def setUp(self) -> None:
        """Make a book of alice, whose password is "secret"."""
        self.clock = Clock()
        self.lane: list[tuple[Callable[[], bool], Deferred[bool]]] = []
        self.book = PasswordBook(self.clock, self.in_lane)
        self.book.apply({"alice": HASH})

    def in_lane(self, function: Callable[[], bool]) -> Deferred[bool]:
        """Keep a call until :meth:`work`."""
        self.lane.append((function, Deferred()))
        return self.lane[-1][1]

    def work(self) -> int:
        """Make the calls that wait and return their number."""
        calls, self.lane = self.lane, []
        for function, result in calls:
            result.callback(function())
        return len(calls)

    def test_verify(self) -> None:
        """A user's password is verified in the lane; who is not known costs the same."""
        for user, password, expected in (
            ("alice", "secret", True),
            ("alice", "Secret", False),
            ("alice", "", False),
            ("bob", "secret", False),
            ("", "secret", False),
        ):
            answer = self.book.verify(user, password)
            self.assertNoResult(answer)
            self.assertEqual(self.work(), 1)
            self.assertIs(self.successResultOf(answer), expected, f"{user} {password}")

    def test_no_users(self) -> None:
        """Without users nobody has a password."""
        self.book.apply({})
        self.assertIs(self.successResultOf(self.book.verify("alice", "secret")), False)
        self.assertEqual(self.lane, [])

    def test_remembered(self) -> None:
        """A right password is not verified again for five minutes, a wrong one each time."""
        self.book.verify("alice", "secret")
        self.book.verify("alice", "wrong")
        self.assertEqual(self.work(), 2)
        self.clock.advance(MEMORY - 1)
        self.assertTrue(self.book.remembers("alice", "secret"))
        self.assertIs(self.successResultOf(self.book.verify("alice", "secret")), True)
        for user, password in (("alice", "wrong"), ("bob", "secret"), ("alice", "secre")):
            self.assertFalse(self.book.remembers(user, password))
        self.clock.advance(1)
        self.assertFalse(self.book.remembers("alice", "secret"))
        self.assertNoResult(self.book.verify("alice", "secret"))

    def test_bounded(self) -> None:
        """Of too many right passwords the oldest is verified again."""
        names = [f"user{number}" for number in range(REMEMBERED + 1)]
        self.book.apply(dict.fromkeys(names, HASH))
        for name in names:
            self.book.verify(name, "secret")
        self.work()
        remembered = [self.book.remembers(name, "secret") for name in names]
        self.assertEqual(remembered, [False] + [True] * REMEMBERED)

    def test_shared(self) -> None:
        """Those who ask the same together share one verification."""
        answers = [self.book.verify("alice", "secret") for _ in range(3)]
        other = self.book.verify("alice", "wrong")
        self.assertEqual(self.work(), 2)
        self.assertEqual([self.successResultOf(answer) for answer in answers], [True] * 3)
        self.assertIs(self.successResultOf(other), False)

    def test_leaving(self) -> None:
        """Who leaves disturbs nobody, and one who comes after all have left gets the answer."""
        gone, stays = self.book.verify("alice", "secret"), self.book.verify("alice", "secret")
        gone.cancel()
        self.failureResultOf(gone, CancelledError)
        stays.cancel()
        self.failureResultOf(stays, CancelledError)
        late = self.book.verify("alice", "secret")
        self.assertEqual(self.work(), 1)
        self.assertIs(self.successResultOf(late), True)

    def test_full_lane(self) -> None:
        """A full lane is everybody's failure, and nothing is remembered of it."""
        answers = [self.book.verify("alice", "secret") for _ in range(2)]
        self.lane.pop()[1].errback(LaneFull("passwords", 1))
        for answer in answers:
            self.failureResultOf(answer, LaneFull)
        again = self.book.verify("alice", "secret")
        self.work()
        self.assertIs(self.successResultOf(again), True)

    def test_changed_users(self) -> None:
        """When the users change, no earlier answer counts; when they do not, it does."""
        self.book.verify("alice", "secret")
        self.work()
        self.book.apply({"alice": HASH})
        self.assertTrue(self.book.remembers("alice", "secret"))
        self.book.apply({"alice": HASH, "bob": HASH})
        self.assertFalse(self.book.remembers("alice", "secret"))

    def test_changed_users_meanwhile(self) -> None:
        """What is verified while the users change is neither remembered nor shared."""
        before = self.book.verify("alice", "secret")
        self.book.apply({"bob": HASH})
        after = self.book.verify("alice", "secret")
        self.assertEqual(self.work(), 2)
        self.assertIs(self.successResultOf(before), True)
        self.assertIs(self.successResultOf(after), False)
        self.assertFalse(self.book.remembers("alice", "secret"))

    def test_no_secrets_shown(self) -> None:
        """Neither hashes nor keys are in the book's text."""
        self.assertNotIn("argon2", repr(self.book))
        self.assertNotIn("_key", repr(self.book))


class Terminal(io.StringIO):
    """A standard input that is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


class CommandTests(SynchronousTestCase):
    """``twisted-patroni password``."""

    def test_terminal(self) -> None:
        """On a terminal the password is typed twice, and the two must be the same."""
        rows: list[tuple[list[str], str | None]] = [
            (["secret", "secret"], "secret"),
            ([" secret ", " secret "], " secret "),
            (["secret", "Secret"], None),
            ([""], None),
        ]
        for typed, expected in rows:
            prompts: list[str] = []

            def ask(prompt: str, typed: list[str] = typed, prompts: list[str] = prompts) -> str:
                prompts.append(prompt)
                return typed[len(prompts) - 1]

            if expected is None:
                self.assertRaises(PasswordError, read_password, Terminal(), ask)
            else:
                self.assertEqual(read_password(Terminal(), ask), expected)
            self.assertEqual(prompts, ["Password: ", "Again: "][: len(typed)])

    def test_pipe(self) -> None:
        """Without a terminal it is one line."""
        for text, expected in (("a b\n", "a b"), ("a\r\nb\n", "a"), (" a", " a")):
            self.assertEqual(read_password(io.StringIO(text)), expected)
        for text in ("", "\n", "\nsecret\n"):
            self.assertRaises(PasswordError, read_password, io.StringIO(text))

    def run_with(self, text: str) -> str:
        """Run the command with a standard input and return its output."""
        output = io.StringIO()
        self.patch(sys, "stdin", io.StringIO(text))
        self.patch(sys, "stdout", output)
        main(["password"])
        return output.getvalue()

    def test_command(self) -> None:
        """The command prints the hash, on one line, and nothing else."""
        printed = self.run_with("secret\n")
        self.assertTrue(re.fullmatch(r"\$argon2id\$[^\s]+\n", printed), printed)
        self.assertTrue(is_password(b"secret", printed.strip()))

    def test_errors(self) -> None:
        """What cannot be hashed ends the command with one line that does not show it."""
        for text, words in (("\n", "cannot be empty"), ("sec\udcffret\n", "not UTF-8")):
            error = self.assertRaises(SystemExit, self.run_with, text)
            self.assertIn(words, str(error.code))
            self.assertNotIn("ret", str(error.code))

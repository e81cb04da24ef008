"""A test case that sends bytes to the API in memory and watches all that comes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.trial.unittest import SynchronousTestCase

from tests.attacks import LIMITS
from tests.memory_api import ApiInMemory
from tests.strict_answers import read_answers
from tests.wire_client import Client

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.strict_answers import WireAnswer

#: More than all deadlines of a connection together.
_LONG = 120


class Attacker:
    """One client of an API of its own.

    :ivar api: the API.
    :ivar client: its connection.
    :ivar received: all that has arrived.
    """

    def __init__(self) -> None:
        self.api = ApiInMemory(limits=LIMITS)
        self.client = Client(self.api.api.site, self.api.clock, door=self.api.api.doors.main)
        self.received = b""

    def send(self, *pieces: bytes) -> bytes:
        """Send bytes, each piece for itself while there is a connection; return all answers."""
        for piece in pieces:
            if piece and not self.client.closed:
                self.client.send(piece)
            self.settle()
        return self.received

    def settle(self) -> bytes:
        """Let the reactor have its turns; return all answers."""
        self.api.clock.pump([0] * 4)
        self.received += self.client.received()
        return self.received

    def outlast(self) -> bytes:
        """Let time pass until the connection is gone; return all answers.

        :raise AssertionError: if it is still there after all deadlines, or somebody remembers it.
        """
        for _ in range(_LONG):
            if self.client.closed:
                break
            self.api.clock.advance(1)
        assert self.client.closed, self.received
        assert len(self.api.api.site.connections) == 0
        assert self.api.api.site.in_flight == 0
        return self.settle()

    @property
    def changes(self) -> int:
        """How often the configuration was changed."""
        return len(self.api.engine.called("patch_config"))


def cut(data: bytes, places: Iterable[int]) -> Iterator[bytes]:
    """Cut bytes into pieces.

    :param data: the bytes.
    :param places: where, in any order; what lies outside does not count.
    """
    start = 0
    for place in sorted({place for place in places if 0 < place < len(data)}):
        yield data[start:place]
        start = place
    yield data[start:]


def codes(answers: Iterable[WireAnswer]) -> tuple[int, ...]:
    """Return the statuses of answers."""
    return tuple(answer.code for answer in answers)


class WireCase(SynchronousTestCase):
    """A test case with attackers; each leaves no error in the log."""

    def assert_attack(
        self, name: str, data: bytes, pieces: Iterable[bytes]
    ) -> tuple[list[WireAnswer], list[WireAnswer], Attacker]:
        """Send bytes and wait for the end of the connection.

        :param name: what is odd about them.
        :param data: all bytes.
        :param pieces: the same bytes as they are sent.
        :return: the answers that came at once, all answers, and who got them.
        """
        attacker = Attacker()
        after_head = data.startswith(b"HEAD ")
        try:
            at_once = read_answers(attacker.send(*pieces), after_head=after_head)
            answers = read_answers(attacker.outlast(), after_head=after_head)
        except AssertionError as error:
            raise self.failureException(f"{name}: {error}") from error
        self.assertEqual(self.flushLoggedErrors(), [], name)
        return at_once, answers, attacker

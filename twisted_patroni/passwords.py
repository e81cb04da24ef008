"""Hashed passwords: making them, and verifying them away from the reactor's thread."""

from __future__ import annotations

import hmac
import os
from collections import OrderedDict
from getpass import getpass
from typing import TYPE_CHECKING

from attrs import define, field
from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from twisted.internet.defer import Deferred, succeed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TextIO

    from twisted.internet.interfaces import IReactorTime
    from twisted.python.failure import Failure

#: Seconds for which a right password is not verified again.
MEMORY = 300.0
#: Right passwords that are remembered.
REMEMBERED = 1024
#: KiB of memory and passes over it that a hash takes, as OWASP's cheat sheet has them.
_MEMORY_COST = 19 * 1024
_PASSES = 2


class PasswordError(Exception):
    """No password to be hashed could be read."""


def hash_password(password: str) -> str:
    """Return the Argon2id hash of a password, in PHC's format; takes some time on purpose.

    :param password: the password.
    """
    argon2 = Argon2id(
        salt=os.urandom(16), length=32, iterations=_PASSES, lanes=1, memory_cost=_MEMORY_COST
    )
    return argon2.derive_phc_encoded(password.encode())


def is_password(password: bytes, hashed: str) -> bool:
    """Tell whether a hash is one of a password; blocks.

    :param password: the password.
    :param hashed: its hash in PHC's format.
    """
    try:
        Argon2id.verify_phc_encoded(password, hashed)
    except InvalidKey:
        return False
    return True


@define(eq=False)
class PasswordBook:
    """Knows who has which password, by hashes alone.

    :param clock: for forgetting.
    :param in_lane: runs a blocking function elsewhere; fails with
        :class:`~twisted_patroni.engine.interface.LaneFull` if there is no room.
    """

    clock: IReactorTime
    in_lane: Callable[[Callable[[], bool]], Deferred[bool]]
    _users: Mapping[str, str] = field(factory=dict, init=False, repr=False)
    _key: bytes = field(factory=lambda: os.urandom(32), init=False, repr=False)
    _right: OrderedDict[bytes, float] = field(factory=OrderedDict, init=False, repr=False)
    _asking: dict[bytes, list[Deferred[bool]]] = field(factory=dict, init=False, repr=False)

    def apply(self, users: Mapping[str, str]) -> None:
        """Know these users from now on; forget which passwords were right if they are others.

        :param users: hashes by user.
        """
        if users != self._users:
            self._users = dict(users)
            self._right = OrderedDict()
            self._asking = {}  # what is being verified is for those who asked before

    def remembers(self, user: str, password: str) -> bool:
        """Tell whether this was the right password a short while ago.

        :param user: the user.
        :param password: the password.
        """
        until = self._right.get(self._digest(user, password))
        return until is not None and self.clock.seconds() < until

    def verify(self, user: str, password: str) -> Deferred[bool]:
        """Find out whether this is the right password, once for all who ask that together.

        :param user: the user; one who is not known costs the same time.
        :param password: the password.
        """
        if not self._users:
            return succeed(False)
        if self.remembers(user, password):
            return succeed(True)
        digest = self._digest(user, password)
        under_way = digest in self._asking
        callers = self._asking.setdefault(digest, [])
        caller: Deferred[bool] = Deferred(callers.remove)
        callers.append(caller)
        if not under_way:
            known = user in self._users
            hashed = self._users[user] if known else next(iter(self._users.values()))
            self.in_lane(lambda: is_password(password.encode(), hashed) and known).addBoth(
                self._verified, digest, callers
            )
        return caller

    def _verified(
        self, outcome: bool | Failure, digest: bytes, callers: list[Deferred[bool]]
    ) -> None:
        if self._asking.get(digest) is callers:  # else the users have changed meanwhile
            del self._asking[digest]
            if outcome is True:
                self._right.pop(digest, None)
                self._right[digest] = self.clock.seconds() + MEMORY
                if len(self._right) > REMEMBERED:
                    self._right.popitem(last=False)
        while callers:  # a callback may cancel other callers
            callers.pop(0).callback(outcome)

    def _digest(self, user: str, password: str) -> bytes:
        return hmac.digest(self._key, f"{user}:{password}".encode(), "sha256")


def read_password(source: TextIO, ask: Callable[[str], str] = getpass) -> str:
    """Read a password: typed twice on a terminal, or else one line.

    :param source: the standard input.
    :param ask: shows a prompt and returns what is typed, without showing it.
    :raise PasswordError: if there is none.
    """
    if source.isatty():
        password = ask("Password: ")
        if password and ask("Again: ") != password:
            raise PasswordError("the two passwords differ")
    else:
        password = source.readline().rstrip("\r\n")
    if not password:
        raise PasswordError("a password cannot be empty")
    return password

"""Start programs without root's rights, since PostgreSQL refuses to run as root."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

ACCOUNTS = ("postgres", "nobody")
"""Accounts to become, the most fitting first. ``initdb`` insists that the account has a name."""


# The shell is there since setpriv itself may still execute what the account may not.
_IMPORTS = 'exec "$0" -c "import twisted_patroni"'


class NoUnprivilegedAccount(Exception):
    """Root can neither make a user namespace nor become an account that reaches the files."""


@frozen
class Account:
    """How to start a program that must not be root, and who must own its files.

    :param prefix: the words to put before the command; empty for a user who is not root. They end
        by executing the command, so that its process id is the one of the process started.
    :param owner: user and group to give files to, or ``None`` where they are right already.
    """

    prefix: tuple[str, ...] = ()
    owner: tuple[int, int] | None = None

    def give(self, path: Path) -> None:
        """Hand a file or directory to the account.

        :param path: what to hand over; nothing below it changes.
        """
        if self.owner is not None:
            os.chown(path, *self.owner)


def _works(command: Sequence[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=20).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _known_accounts() -> Iterator[tuple[int, int]]:
    for name in ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        yield entry.pw_uid, entry.pw_gid


def unprivileged_account(
    directory: Path,
    *,
    works: Callable[[Sequence[str]], bool] = _works,
    user_id: int | None = None,
) -> Account:
    """Find out how to run PostgreSQL here without root's rights.

    A user namespace is preferred: its processes keep root's access to files, so an installation
    or a directory below ``/root`` needs no change of permissions.

    :param directory: an existing directory that the programs must be able to enter.
    :param works: says whether a command succeeds.
    :param user_id: the effective user; by default that of this process.
    :return: what to put before each command, and whom its files must belong to.
    :raise NoUnprivilegedAccount: if there is no way; the text says what to do.
    """
    if (os.geteuid() if user_id is None else user_id) != 0:
        return Account()
    for uid, gid in _known_accounts():
        mapped = ("unshare", "--user", f"--map-user={uid}", f"--map-group={gid}")
        if works((*mapped, "true")):
            return Account(mapped)
    for uid, gid in _known_accounts():
        changed = ("setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups")
        enters = works((*changed, "test", "-x", str(directory)))
        if enters and works((*changed, "sh", "-c", _IMPORTS, sys.executable)):
            return Account(changed, (uid, gid))
    raise NoUnprivilegedAccount(
        "PostgreSQL refuses to run as root, and no other account can reach both "
        f"{sys.executable} and {directory}: run this command as an ordinary user"
    )

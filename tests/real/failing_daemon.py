"""Runs twistd with an engine that fails: `failing_daemon.py HOW CYCLE TWISTD-WORDS...`."""

from __future__ import annotations

import sys
from itertools import count


def fail(how: str) -> None:
    """Raise what the first word of the command asks for.

    :param how: an exit code for ``SystemExit``, anything else for the text of a ``RuntimeError``.
    """
    if how.isdigit():
        raise SystemExit(int(how))
    raise RuntimeError(how)


def main() -> None:
    """Have one cycle of the engine fail, and run twistd."""
    import patroni.__main__
    from twisted.scripts.twistd import run

    how, cycle = sys.argv[1], int(sys.argv[2])
    sys.argv[1:] = sys.argv[3:]
    cycles = count(1)
    run_cycle = patroni.__main__.Patroni._run_cycle

    def failing(daemon: patroni.__main__.Patroni) -> None:
        if next(cycles) == cycle:
            fail(how)
        run_cycle(daemon)

    patroni.__main__.Patroni._run_cycle = failing  # type: ignore[assignment,method-assign]
    run()


if __name__ == "__main__":  # PostgreSQL is started by a process that imports this file again
    main()

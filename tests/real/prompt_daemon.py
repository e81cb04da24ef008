"""Runs twistd with a node whose raft looks for its partners twice a second, not every five.

Who comes first finds nobody listening, and else would wait so long for the next try, at each start.
"""

from __future__ import annotations

from typing import Any

#: Seconds between two attempts to connect.
RETRY = 0.5


def main() -> None:
    """Have raft try again soon, and run twistd."""
    from pysyncobj import SyncObjConf  # type: ignore[import-untyped]
    from twisted.scripts.twistd import run

    init = SyncObjConf.__init__

    def prompt(self: SyncObjConf, **words: Any) -> None:
        init(self, connectionRetryTime=RETRY, **words)

    SyncObjConf.__init__ = prompt
    run()


if __name__ == "__main__":  # PostgreSQL is started by a process that imports this file again
    main()

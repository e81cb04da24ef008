"""Runs twistd with a node that writes down when its copy of raft has another leader key.

Nobody else can tell: the embedded raft is in the nodes. They write into the file `keys` of their
working directory.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from runpy import run_path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from patroni.dcs.raft import Raft


def main() -> None:
    """Have changes of the leader key written down, and run twistd."""
    import patroni.dcs.raft

    file = Path("keys").open("a", buffering=1, encoding="utf-8")  # noqa: SIM115
    on_set = patroni.dcs.raft.Raft._on_set

    def applied(self: Raft, key: str, value: Mapping[str, Any]) -> None:
        if key == self.leader_path and value["created"] == value["updated"]:
            file.write(f"{json.dumps({'at': time.time(), 'leader': value['value']})}\n")
        on_set(self, key, value)  # type: ignore[arg-type]

    patroni.dcs.raft.Raft._on_set = applied  # type: ignore[method-assign]
    run_path(str(Path(__file__).with_name("prompt_daemon.py")), run_name="__main__")


if __name__ == "__main__":  # PostgreSQL is started by a process that imports this file again
    main()

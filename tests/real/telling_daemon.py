"""Runs twistd with a node that writes its events to the file `events` of its working directory.

With the embedded raft it also writes when the leader key has changed there.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from patroni.dcs.raft import Raft

    from twisted_patroni.events import Event, EventStream


def main() -> None:
    """Have events and changes of raft's leader key written down, and run twistd."""
    import patroni.dcs.raft
    from twisted.scripts.twistd import run

    import twisted_patroni.events

    file = Path("events").open("a", buffering=1, encoding="utf-8")  # noqa: SIM115
    stream, raft = twisted_patroni.events.EventStream, patroni.dcs.raft.Raft
    publish: Callable[..., Event] = stream.publish
    on_set = raft._on_set

    def published(self: EventStream, *arguments: Any) -> Event:
        event = publish(self, *arguments)
        file.write(f"{json.dumps({'at': event.time, **event.document}, default=str)}\n")
        return event

    def applied(self: Raft, key: str, value: Mapping[str, Any]) -> None:
        if key == self.leader_path and value["created"] == value["updated"]:
            told = {"type": "key", "at": time.time(), "data": {"new": value["value"]}}
            file.write(f"{json.dumps(told)}\n")
        on_set(self, key, value)  # type: ignore[arg-type]

    stream.publish = published  # type: ignore[method-assign,assignment]
    raft._on_set = applied  # type: ignore[method-assign]
    run()


if __name__ == "__main__":  # PostgreSQL is started by a process that imports this file again
    main()

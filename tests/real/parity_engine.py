"""What the parity test's node can be made to show: the engine's state, PostgreSQL, and calls."""

from __future__ import annotations

import json
import logging
import re
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch
from urllib.request import urlopen

from patroni.collections import CaseInsensitiveDict
from patroni.postgresql.misc import PostgresqlRole, PostgresqlState

from tests.real.parity_setups import SETUPS, failover, leader, members, our_url, setup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.real.parity_node import Node

__all__ = ["SETUPS"]

_LIMIT = 20.0


@setup
def lock(node: Node, held: bool) -> Iterator[None]:
    """Hold the leader lock, or do not."""
    with patch.object(node.daemon.ha, "_leader_expiry", time.time() + 1000 if held else 0):
        yield


@setup
def role(node: Node, text: str) -> Iterator[None]:
    """Have the engine believe in a role."""
    with patch.object(node.daemon.postgresql, "_role", PostgresqlRole(text)):
        yield


@setup
def state(node: Node, text: str) -> Iterator[None]:
    """Have the engine believe in a state of PostgreSQL."""
    known = {str(each): each for each in PostgresqlState}
    with patch.object(node.daemon.postgresql, "_state", known[text]):
        yield


def _our_status(node: Node) -> dict[str, Any]:
    with urlopen(our_url(node), timeout=_LIMIT) as reply:
        answer: dict[str, Any] = json.load(reply)
    return answer


@contextmanager
def _connected(
    node: Node,
    conninfo: dict[str, Any],
    seen: Callable[[dict[str, Any]], bool],
    kept: str = "",
) -> Iterator[None]:
    pool = node.daemon.postgresql.connection_pool
    original = pool.conn_kwargs

    def move(target: dict[str, Any], arrived: Callable[[dict[str, Any]], bool]) -> None:
        for name in ("restapi", "heartbeat"):
            # Ours goes by upstream's name, and has to be cut from the other end.
            try:
                pool.get(name).query(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'Patroni restapi' AND pid <> pg_backend_pid()"
                )
                break
            except Exception:
                continue
        for name in {"restapi", "heartbeat"} - {kept}:
            pool.get(name).close()
        pool.conn_kwargs = target
        deadline = time.monotonic() + _LIMIT
        while not arrived(_our_status(node)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"our API does not see the PostgreSQL at {target}")
            time.sleep(0.02)

    move(conninfo, seen)
    try:
        yield
    finally:
        move(original, lambda status: "location" in status.get("xlog", {}))


@setup
def replica(node: Node) -> Iterator[None]:
    """Be a streaming replica of a member called ``other``."""
    with ExitStack() as stack:
        stack.enter_context(members(node, {"other": {"role": "primary", "xlog_location": 0}}))
        stack.enter_context(leader(node, "other"))
        stack.enter_context(lock(node, False))
        stack.enter_context(role(node, "replica"))
        stack.enter_context(
            _connected(
                node,
                node.standby.conninfo,
                lambda status: "replayed_location" in status.get("xlog", {}),
            )
        )
        yield


@setup
def cut_off(node: Node) -> Iterator[None]:
    """Have the replica wait for an archive."""
    with node.standby.cut_off():
        yield


@setup
def replay_paused(node: Node) -> Iterator[None]:
    """Have the replica's replay paused."""
    with node.standby.replay_paused():
        yield


@setup
def unreachable(node: Node) -> Iterator[None]:
    """Have PostgreSQL run, as the engine believes, but answer nobody."""
    nowhere = {**node.standby.conninfo, "port": 1}
    with _connected(node, nowhere, lambda status: "xlog" not in status):
        yield


@setup
def full(node: Node) -> Iterator[None]:
    """Have PostgreSQL take no new connections, while the HA loop's own stays."""
    nowhere = {**node.standby.conninfo, "port": 1}
    with _connected(node, nowhere, lambda status: "xlog" not in status, kept="heartbeat"):
        yield


@setup
def tags(node: Node, values: dict[str, Any]) -> Iterator[None]:
    """Have these tags configured."""
    filtered = node.daemon._filter_tags(values)
    with patch.object(node.daemon, "_tags", filtered):
        yield


@setup
def scope(node: Node, text: str) -> Iterator[None]:
    """Have a cluster of this name."""
    with patch.object(node.daemon.postgresql, "scope", text):
        yield


@setup
def no_system_identifier(node: Node) -> Iterator[None]:
    """Not know the system identifier yet."""
    with patch.object(node.daemon.postgresql, "_sysid", ""):
        yield


@setup
def sync_disabled(node: Node) -> Iterator[None]:
    """Have the engine keep this node from being a synchronous standby for now."""
    with patch.object(node.daemon.ha, "_disable_sync", 1):
        yield


@setup
def failsafe_active(node: Node) -> Iterator[None]:
    """Be up only because the members agree."""
    with patch.object(node.daemon.ha._failsafe, "_last_update", time.time() + 1000):
        yield


@setup
def pending_restart(node: Node) -> Iterator[None]:
    """Have a parameter that waits for a restart."""
    reason = CaseInsensitiveDict({"max_connections": {"old_value": "50", "new_value": "60"}})
    with patch.object(node.daemon.postgresql, "_pending_restart_reason", reason):
        yield


@setup
def unwatched(node: Node) -> Iterator[None]:
    """Have a watchdog that is required and does not work."""
    with patch.object(node.daemon.watchdog.config, "mode", "required"):
        yield


@setup
def crowded_log(node: Node, waiting: int, lost: int) -> Iterator[None]:
    """Have log records waiting and lost."""
    handler = node.daemon.logger._queue_handler
    with (
        patch.object(handler.queue, "qsize", lambda: waiting),
        patch.object(handler, "_records_lost", lost),
    ):
        yield


@setup
def late(node: Node, seconds: float) -> Iterator[None]:
    """Have an HA loop that should have run some seconds ago."""
    with patch.object(node.daemon, "next_run", time.time() - seconds):
        yield


@setup
def dead_postmaster(node: Node) -> Iterator[None]:
    """Have no postmaster."""
    with patch.object(node.daemon.postgresql, "is_running", lambda: None):
        yield


# What the APIs ask of the engine.

_ASKED = {
    "restart": "ha.restart",
    "schedule_restart": "ha.schedule_future_restart",
    "delete_restart": "ha.delete_future_restart",
    "reinitialize": "ha.reinitialize",
    "update_failsafe": "ha.update_failsafe",
    "wakeup": "ha.wakeup",
    "reload": "sighup_handler",
    "sigterm": "api_sigterm",
    "set_config": "dcs.set_config_value",
    "manual_failover": "dcs.manual_failover",
    "mpp_event": "postgresql.mpp_handler.handle_event",
}


@setup
def recorded(node: Node, results: dict[str, Any]) -> Iterator[None]:
    """Record what is asked of the engine, and answer with these results; ``"!text"`` raises."""

    def stand_in(name: str) -> Callable[..., Any]:
        def called(*arguments: Any, **named: Any) -> Any:
            if name == "mpp_event":
                arguments = arguments[1:]  # the cluster
            # An empty value means the same to the engine as none.
            options = {key: value or None for key, value in named.items()}
            node.calls.append(f"{name}{arguments!r}{sorted(options.items())!r}")
            result = results.get(name)
            if isinstance(result, str) and result.startswith("!"):
                raise RuntimeError(result)
            return result

        return called

    with ExitStack() as stack:
        for name, path in _ASKED.items():
            *owners, attribute = path.split(".")
            owner: Any = node.daemon
            for each in owners:
                owner = getattr(owner, each)
            stack.enter_context(patch.object(owner, attribute, stand_in(name)))
        yield


class _AccessLog(logging.Handler):
    """Keeps the lines about requests, without their latency."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        if line.startswith("API thread: "):
            self._lines.append(re.sub(r"[\d.]+ ms$", "ms", line))


@setup
def logged(node: Node) -> Iterator[None]:
    """Record the lines that both APIs write to the log about each request."""
    logger = logging.getLogger("patroni.api")
    handler = _AccessLog(node.calls)
    logger.addHandler(handler)
    with patch.object(logger, "level", logging.DEBUG), patch.object(logger, "_cache", {}):
        yield
    logger.removeHandler(handler)


@setup
def coordinator(node: Node) -> Iterator[None]:
    """Be the coordinator of an MPP cluster."""
    with patch.object(node.daemon.postgresql.mpp_handler, "is_coordinator", lambda: True):
        yield


@setup
def ending(node: Node, winner: str, key_stays: bool) -> Iterator[None]:
    """Have a manual failover end at once, with this leader and with or without its key."""
    changed = ExitStack()

    def manual_failover(*arguments: Any, **named: Any) -> bool:
        node.calls.append(f"manual_failover{arguments!r}")
        changed.enter_context(leader(node, winner))
        if key_stays:
            changed.enter_context(failover(node, {"leader": "x", "member": "y"}))
        return True

    with changed, patch.object(node.daemon.dcs, "manual_failover", manual_failover):
        yield

"""Tells what happens in upstream's daemon between its cycles, as it happens.

Upstream has no hooks for this, so methods of its objects are wrapped. Each wrapper does what the
method did, and nothing that goes wrong in telling of it reaches the HA loop.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from twisted_patroni.engine.interface import Stir

if TYPE_CHECKING:
    from collections.abc import Callable

    from patroni.dcs import AbstractDCS

    from twisted_patroni.engine.host import Patroni

_log = Logger()

#: Methods after which PostgreSQL is no longer what it was.
_NODE = ("set_state", "set_role", "set_pending_restart_reason")
#: Methods that take the leader key, and tell whether they did.
_ACQUIRE = ("attempt_to_acquire_leader", "take_leader")
_RELEASE = ("delete_leader",)
#: What upstream's raft calls after each change of a key, and its HA loop when the DCS is away.
_ON_SET = "_KVStoreTTL__on_set"
_ON_ERROR = "_handle_dcs_error"


def observe_stirs(patroni: Patroni, stirred: Callable[[Stir], None]) -> None:
    """Have told, in the thread where it happens, what happens between looks and cycles.

    :param patroni: upstream's daemon.
    :param stirred: must not block.
    """
    for name in _NODE:
        _after(patroni.postgresql, name, Stir.NODE, stirred)
    for name in _ACQUIRE:
        _after(patroni.dcs, name, Stir.ACQUIRED, stirred, only_if_done=True)
    for name in _RELEASE:
        _after(patroni.dcs, name, Stir.RELEASED, stirred, only_if_done=True)
    # Whatever wakes the HA loop early sets this: the watchers of etcd 3, Kubernetes and ZooKeeper
    # do when the leader key has changed, and so do requests to this node. The HA loop may be busy
    # for seconds meanwhile, as it is on a leader that has just stepped down. Those of etcd 2 and
    # Consul wake nobody: a loop that is not busy waits for their answer instead.
    _after(patroni.dcs.event, "set", Stir.DCS, stirred)
    _observe_raft(patroni.dcs, stirred)
    _observe_errors(patroni, stirred)


def _observe_raft(dcs: AbstractDCS, stirred: Callable[[Stir], None]) -> None:
    """Tell of another leader in the embedded raft, for which upstream does not wake the HA loop."""
    store = getattr(dcs, "_sync_obj", None)
    on_set = getattr(store, _ON_SET, None)
    if on_set is None:
        return
    leader: list[Any] = [None]

    def told(key: str, value: Any) -> None:
        on_set(key, value)
        try:
            created = value["created"] == value["updated"]
            # Not each time that the leader prolongs it.
            if key == dcs.leader_path and (created or value["value"] != leader[0]):
                leader[0] = value["value"]
                stirred(Stir.DCS)
        except Exception:  # raft must go on, as the HA loop must
            _log.failure("A change of the leader key could not be reported")

    setattr(store, _ON_SET, told)


def _observe_errors(patroni: Patroni, stirred: Callable[[Stir], None]) -> None:
    """Tell that the HA loop begins to do without the DCS; stopping PostgreSQL may take it long."""
    handle = getattr(patroni.ha, _ON_ERROR, None)
    if handle is None:
        return

    def told(*args: Any, **kwargs: Any) -> Any:
        try:
            patroni.dcs_failed()
            stirred(Stir.NODE)
        except Exception:
            _log.failure("An error of the DCS could not be reported")
        return handle(*args, **kwargs)

    setattr(patroni.ha, _ON_ERROR, told)


def _after(
    owner: Any,
    name: str,
    stir: Stir,
    stirred: Callable[[Stir], None],
    *,
    only_if_done: bool = False,
) -> None:
    """Wrap a method of one object so that each call is followed by a report."""
    method = getattr(owner, name)

    @wraps(method)
    def told(*args: Any, **kwargs: Any) -> Any:
        result = method(*args, **kwargs)
        if result or not only_if_done:
            try:
                stirred(stir)
            except Exception:  # the HA loop must go on, whatever is wrong with our view of it
                _log.failure("What happened in the engine could not be reported")
        return result

    setattr(owner, name, told)

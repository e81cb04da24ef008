"""A node with two APIs on one engine, ours and upstream's: the child process of the parity test.

Runs where PostgreSQL may run. It is told by lines of JSON on its standard input which state to
show, and answers each with a line on its standard output; the end of the input ends it.
"""

from __future__ import annotations

import copy
import json
import os
import signal
import sys
import threading
import traceback
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TextIO

import patroni.api
from attrs import define, field
from patroni import global_config
from patroni.exceptions import DCSError

from tests.real.parity_engine import SETUPS
from tests.real.parity_standby import Standby
from twisted_patroni.engine.host import load
from twisted_patroni.events import Watcher
from twisted_patroni.looks import Looks
from twisted_patroni.operations.adoption import Adoption
from twisted_patroni.service import PatroniService, leave_process

if TYPE_CHECKING:
    from collections.abc import Callable

    from patroni.dcs import Cluster

_CYCLE_LIMIT = 30.0
_START_LIMIT = 60.0


@define(eq=False)
class Pace:
    """Lets the HA loop run one cycle at a time, so that it cannot repair a state that is shown.

    It is held before a cycle, not after one: what follows a cycle sets the time of the next.

    :param ha: upstream's HA loop, which has not begun a cycle yet or may finish the one it is in.
    """

    ha: Any
    _turns: threading.Semaphore = field(factory=lambda: threading.Semaphore(0), init=False)
    _free: bool = field(default=False, init=False)
    _held: threading.Event = field(factory=threading.Event, init=False)
    _cycle: Callable[[], str] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._cycle = self.ha.run_cycle
        self.ha.run_cycle = self._run_cycle

    def _run_cycle(self) -> str:
        if not self._free:
            self._held.set()
            self._turns.acquire()
        return self._cycle()

    def step(self) -> None:
        """Have one cycle run from its beginning to its end."""
        self._wait()
        self._held.clear()
        self._turns.release()
        self._wait()

    def _wait(self) -> None:
        for _ in range(int(_CYCLE_LIMIT / 0.05)):
            if self._held.wait(0.05):
                return
            self.ha.wakeup()  # it may be between two cycles
        raise TimeoutError("the HA loop ran no cycle")

    def release(self) -> None:
        """Let the loop run freely again."""
        self._free = True
        self._turns.release(1000)


@define(eq=False)
class Node:
    """The engine, both APIs, and what is shown instead of the truth.

    :param daemon: upstream's daemon.
    :param upstream: its own API server.
    :param section: the ``restapi`` section of our API.
    :param upstream_listen: where upstream's API listens.
    :ivar lost: the DCS is out of reach.
    :ivar alterations: make of the cluster in the DCS the one that is shown.
    :ivar calls: what the APIs asked of the engine, while that is recorded.
    """

    daemon: Any
    upstream: Any
    section: dict[str, Any]
    upstream_listen: str
    standby: Standby
    pace: Pace
    lost: bool = field(default=False, init=False)
    alterations: list[Callable[[Cluster], Cluster]] = field(factory=list, init=False)
    calls: list[str] = field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        load_cluster = self.daemon.dcs._load_cluster

        def shown(path: str, loader: Any) -> Any:
            if self.lost:
                raise DCSError("the DCS is out of reach")
            cluster = load_cluster(path, loader)
            for alter in self.alterations:
                cluster = alter(cluster)
            return cluster

        self.daemon.dcs._load_cluster = shown

    def look(self) -> None:
        """Let the engine see what is shown, as one of its cycles would."""
        try:
            cluster = self.daemon.dcs.get_cluster()
        except DCSError:
            return
        global_config.update(cluster)

    def configure(self, changes: dict[str, Any]) -> None:
        """Reload both APIs with a changed ``restapi`` section.

        :param changes: what is different from the file.
        """
        section = {**copy.deepcopy(self.section), **copy.deepcopy(changes)}
        self.daemon.api.reload_config(section)
        self.upstream.reload_config(
            {**copy.deepcopy(section), "listen": self.upstream_listen},
        )

    def perform(self, command: dict[str, Any], shown: ExitStack) -> Any:
        """Obey one command.

        :param command: ``show`` with a list of set-ups, each a name and its arguments, or
            ``calls``.
        :param shown: what has to be undone before something else is shown.
        """
        if "calls" in command:
            calls = self.calls.copy()
            self.calls.clear()
            return calls
        shown.close()
        if command.get("cycle"):
            self.pace.step()
        for name, *arguments in command["show"]:
            shown.enter_context(SETUPS[name](self, *arguments))
        self.calls.clear()
        return None


def _when_leading(service: PatroniService) -> Any:
    """Wait for the daemon to lead and PostgreSQL to run; the loop is halted from then on."""
    pause = threading.Event()
    for _ in range(int(_START_LIMIT / 0.1)):
        daemon = service._host._daemon
        if daemon is not None and daemon.ha.is_leader() and daemon.postgresql.state == "running":
            cluster = daemon.dcs.cluster
            member = cluster and cluster.get_member(daemon.postgresql.name, False)
            if cluster and cluster.config and member and cluster.leader and member.data.get("role"):
                return daemon
        pause.wait(0.1)
    raise TimeoutError("the node did not become the leader")


def _make_node(
    service: PatroniService, reactor: Any, upstream_port: int, standby_port: int
) -> Node:
    daemon = _when_leading(service)
    pace = Pace(daemon.ha)
    reactor.callFromThread(reactor.addSystemEventTrigger, "before", "shutdown", pace.release)
    pace.step()
    # How many log records happen to wait must not show.
    daemon.logger._queue_handler.queue.qsize = lambda: 0
    section = copy.deepcopy(dict(daemon.config["restapi"]))
    listen = f"127.0.0.1:{upstream_port}"
    upstream = patroni.api.RestApiServer(daemon, {**copy.deepcopy(section), "listen": listen})
    standby = Standby(daemon.postgresql, standby_port)
    node = Node(daemon, upstream, section, listen, standby, pace)
    standby.create()
    pace.step()
    upstream.start()
    return node


def _serve(service: PatroniService, reactor: Any, ports: tuple[int, int], told: TextIO) -> None:
    """Obey commands until there are no more; runs in a thread of its own."""
    node: Node | None = None
    try:
        node = _make_node(service, reactor, *ports)
        print(json.dumps({"ready": True}), file=told)
        with ExitStack() as shown:
            for line in sys.__stdin__:  # type: ignore[union-attr]
                try:
                    result = node.perform(json.loads(line), shown)
                    print(json.dumps({"result": result}), file=told)
                except Exception:
                    print(json.dumps({"error": traceback.format_exc()}), file=told)
    except Exception:
        print(json.dumps({"error": traceback.format_exc()}), file=told)
    finally:
        if node is not None:
            node.standby.stop()
        os.kill(os.getpid(), signal.SIGTERM)


def main(configfile: str, upstream_port: str, standby_port: str) -> None:
    """Run the node until its input ends or SIGTERM arrives.

    :param configfile: of the daemon.
    :param upstream_port: where upstream's API is to listen.
    :param standby_port: where the standby is to listen.
    """
    from twisted.internet import reactor

    # What PostgreSQL's programs print is no answer.
    told = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    loaded = load(configfile)
    # What is shown must not depend on when the events' own looks come between two requests.
    Looks.look_now = lambda self: None  # type: ignore[method-assign]
    Watcher._race = lambda self, view: None  # type: ignore[method-assign]
    # Nor must the node act on a failover key that is only shown, whoever makes it look.
    Adoption.looked = lambda self, look: None  # type: ignore[method-assign]
    service = PatroniService(reactor, loaded, lambda code: leave_process(code, ""))
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    service.startService()

    serving = threading.Thread(
        target=_serve,
        args=(service, reactor, (int(upstream_port), int(standby_port)), told),
        daemon=True,
    )
    reactor.callWhenRunning(serving.start)
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Let many follow the events of one node, in each way, and print what that costs.

``python -m benchmarks.subscribers`` needs the packages of the extra ``demo``, and room for some
thousand open files per process (``ulimit -Hn``).
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from benchmarks.audience import AFTER, BEFORE, EVENTS, IDLE, STORM, Times, entertain
from benchmarks.contest import Ground, free_ports, ours
from benchmarks.measure import Plan, Values
from benchmarks.observe import Target
from benchmarks.report import Row, phases, plain_table
from benchmarks.running import (
    add_options,
    allow_files,
    run,
    say,
    scratch,
    stopped_after,
    write_down,
)
from benchmarks.watch import HaLog
from benchmarks.ways import WAYS

if TYPE_CHECKING:
    from collections.abc import Sequence

_BASE_PORT = 20008
_SETTLING = 3.0
_SIZE, _QUICK_SIZE = 1000, 50
_QUICK_TIMES = Times(quiet=2.0, events=10, settling=1.0, warm_up=100)
_COLUMNS = {
    BEFORE: "before",
    IDLE: "at rest",
    EVENTS: "during events",
    STORM: "while all come again",
    AFTER: "afterwards",
}
_ALL_ROWS = (
    Row("event.median", "from the event to the median subscriber", "ms"),
    Row("event.median_worst", "the same, worst event", "ms"),
    Row("event.last", "from the event to the last subscriber", "ms"),
    Row("event.last_worst", "the same, worst event", "ms"),
    Row("event.cpu", "CPU time of the daemon per event and subscriber", "µs"),
    Row("mib", "memory per 1000 subscribers", "MiB"),
    Row("storm.back", "all cut at once, until the last is back: median", "s"),
    Row("storm.back_worst", "all cut at once, until the last is back: worst", "s"),
    Row("storm.events", "events while they come again", ""),
    Row("lost", "events lost", ""),
    Row("twice", "events sent twice", ""),
    Row("gaps", "told that events are lost", "times"),
    Row("ended", "turned away or dropped", "times"),
)
_PHASE_ROWS = (
    Row("kept.p50", "GET /primary, kept alive: p50", "ms"),
    Row("kept.p99", "GET /primary, kept alive: p99", "ms"),
    Row("kept.failures", "GET /primary, kept alive: not answered", ""),
    Row("new.p50", "GET /primary, new connections: p50", "ms"),
    Row("new.p99", "GET /primary, new connections: p99", "ms"),
    Row("new.failures", "GET /primary, new connections: not answered", ""),
    Row("cycle_mean", "HA cycle off its period: mean", "ms"),
    Row("cycle_worst", "HA cycle off its period: worst", "ms"),
    Row("alarms", "leader key lost", "times"),
    Row("cpu", "CPU of the daemon", "%"),
    Row("resident_most", "resident memory, at most", "MiB"),
    Row("resident", "resident memory, at the end", "MiB"),
    Row("sockets", "open sockets, at the end", ""),
)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.subscribers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="some tens of subscribers for seconds")
    parser.add_argument("--subscribers", type=int, help=f"default: {_SIZE}, quick: {_QUICK_SIZE}")
    parser.add_argument("--way", choices=WAYS, action="append", help="only in this way; repeatable")
    add_options(parser, _BASE_PORT)
    return parser.parse_args(arguments)


async def _run(reactor: Any, ground: Ground, way: str, size: int, times: Times) -> Values:
    """Run one node, and have it followed."""
    async with stopped_after(reactor, ground.cluster.stop):
        await ground.start()
        await deferLater(reactor, _SETTLING)
        (node,) = ground.cluster.nodes
        assert node.pid is not None
        log = HaLog(node.place.log_file, ground.plan.loop_wait)
        target = Target(node.pid, node.place.rest_port, log)
        values: Values = await deferToThread(entertain, target, ground.login(), way, size, times)
    return values


async def _main(reactor: Any, options: argparse.Namespace) -> None:
    ports = free_ports(options.base_port, nodes=1)
    size = options.subscribers or (_QUICK_SIZE if options.quick else _SIZE)
    times = _QUICK_TIMES if options.quick else Times()
    allow_files(size)
    results: dict[str, list[Values]] = {}
    with scratch("subscribers") as directory:
        for way in options.way or WAYS:
            say(f"{size} subscribers, {way}: {times}")
            base_port = next(ports)
            ground = Ground.prepare(reactor, ours(), directory / str(base_port), base_port, Plan())
            results[way] = [await _run(reactor, ground, way, size, times)]
    print(plain_table(results, f"{size} subscribers of one node", _ALL_ROWS))
    for way, (values,) in results.items():
        print(f"\n{plain_table(phases(values, _COLUMNS), f'{size} by {way}', _PHASE_ROWS)}")
    write_down(results, options.json)


def main(arguments: Sequence[str]) -> None:
    """Have a node followed in each way and print the table.

    :param arguments: the command line.
    """
    run(_main, _options(arguments))


if __name__ == "__main__":
    main(sys.argv[1:])

"""Attack upstream's daemon and ours over TLS, and print how a client that behaves well fares.

``python -m benchmarks.abuse`` needs the packages of the extra ``demo``, and room for some ten
thousand open files per process (``ulimit -Hn``).
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from benchmarks.contest import OURS, UPSTREAM, Ground, contestants, free_ports
from benchmarks.hostile import Attack
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
from benchmarks.siege import AFTER, ARRIVING, BEFORE, DURING, Times, besiege
from benchmarks.watch import HaLog
from twisted_patroni.demo.layout import AUTHORITY, CLIENT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_BASE_PORT = 19008
_SETTLING = 3.0
#: How many hostile clients there are of each kind.
FULL = {"idle": 5000, "half_open": 500, "slow_heads": 200, "slow_bodies": 200, "deaf": 50}
QUICK = {"idle": 40, "half_open": 20, "slow_heads": 10, "slow_bodies": 10, "deaf": 4}
#: More of each kind than upstream has threads.
FEW = dict.fromkeys(FULL, 5)
_FEW_TIMES = Times(quiet=10.0, arriving=2.0, siege=20.0, settling=5.0, patience=1.0, warm_up=1000)
_QUICK_TIMES = Times(quiet=2.0, arriving=1.0, siege=3.0, settling=1.0, patience=5.0, warm_up=100)


#: The columns of the table.
COLUMNS = {
    BEFORE: "before",
    ARRIVING: "while they arrive",
    DURING: "under attack",
    AFTER: "afterwards",
}
ROWS = (
    Row("new.p50", "new connections: p50", "ms"),
    Row("new.p99", "new connections: p99", "ms"),
    Row("new.p99.times", "new connections: p99 ÷ before", ""),
    Row("new.failures", "new connections: not answered", ""),
    Row("kept.p50", "kept alive: p50", "ms"),
    Row("kept.p99", "kept alive: p99", "ms"),
    Row("kept.p99.times", "kept alive: p99 ÷ before", ""),
    Row("kept.failures", "kept alive: not answered", ""),
    Row("recovery", "first answer after the attack", "s"),
    Row("idle", "at any time idle", ""),
    Row("half_open", "at any time in half a handshake", ""),
    Row("slow_heads", "at any time sending a byte of a header each second", ""),
    Row("slow_bodies", "at any time sending a byte of a body each second", ""),
    Row("deaf", "at any time sending requests and never reading", ""),
    Row("cycle_mean", "HA cycle off its period: mean", "ms"),
    Row("cycle_worst", "HA cycle off its period: worst", "ms"),
    Row("alarms", "leader key lost", "times"),
    Row("cpu", "CPU of the daemon", "%"),
    Row("fresh", "resident memory, before the first attack of all", "MiB"),
    Row("resident_most", "resident memory, at most", "MiB"),
    Row("resident", "resident memory, at the end", "MiB"),
    Row("resident.times", "resident memory, at the end ÷ before", ""),
    Row("sockets", "open sockets, at the end", ""),
)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.abuse", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="some tens of attackers for seconds")
    parser.add_argument("--ours-only", action="store_true", help="leave upstream in peace")
    add_options(parser, _BASE_PORT)
    return parser.parse_args(arguments)


def _attack(ground: Ground, sizes: dict[str, int], times: Times) -> tuple[Target, Attack]:
    (node,) = ground.cluster.nodes
    keys = ground.cluster.keys
    assert node.pid is not None
    target = Target(
        pid=node.pid,
        port=node.place.rest_port,
        log=HaLog(node.place.log_file, ground.plan.loop_wait),
        authority=str(keys.certificate(AUTHORITY)),
    )
    attack = Attack(
        port=node.place.rest_port,
        certificate=str(keys.certificate(CLIENT)),
        key=str(keys.key(CLIENT)),
        login=ground.login(),
        arriving=times.arriving,
        asks_once=ground.contestant.keeps_alive,
        **sizes,
    )
    return target, attack


async def _run(reactor: Any, ground: Ground, sizes: dict[str, int], times: Times) -> Values:
    """Run one contestant's cluster, and attack it."""
    async with stopped_after(reactor, ground.cluster.stop):
        await ground.start()
        await deferLater(reactor, _SETTLING)
        values: Values = await deferToThread(besiege, *_attack(ground, sizes, times), times)
    return values


def _sides(options: argparse.Namespace) -> Iterator[tuple[str, dict[str, int], Times]]:
    if not options.ours_only:
        yield UPSTREAM, FEW, _QUICK_TIMES if options.quick else _FEW_TIMES
    yield (OURS, QUICK, _QUICK_TIMES) if options.quick else (OURS, FULL, Times())


async def _main(reactor: Any, options: argparse.Namespace) -> None:
    known = {contestant.name: contestant for contestant in contestants(None)}
    ports = free_ports(options.base_port, nodes=1)
    results: dict[str, Values] = {}
    with scratch("abuse") as directory:
        for contestant, sizes, times in _sides(options):
            count = sum(sizes.values())
            allow_files(count)
            base_port = next(ports)
            say(f"{contestant}: {count} hostile clients, {times}")
            ground = Ground.prepare(
                reactor,
                known[contestant],
                directory / str(base_port),
                base_port,
                Plan(),
                tls=True,
            )
            title = f"{contestant}, {count} hostile clients: GET /primary over TLS"
            results[title] = await _run(reactor, ground, sizes, times)
    for title, values in results.items():
        print(f"{plain_table(phases(values, COLUMNS), title, ROWS)}\n")
    write_down(results, options.json)


def main(arguments: Sequence[str]) -> None:
    """Run the attacks and print the table.

    :param arguments: the command line.
    """
    run(_main, _options(arguments))


if __name__ == "__main__":
    main(sys.argv[1:])

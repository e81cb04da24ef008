"""Switch clusters of upstream's daemon and of ours over, in turn, and print how long it takes.

``python -m benchmarks.switchover`` needs the packages of the extra ``demo``, and the program
``etcd``. Each contestant has three nodes; all of them share the etcd.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from typing import TYPE_CHECKING, Any

import psycopg
from attrs import define, field
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from benchmarks.contest import OURS, UPSTREAM, Contestant, Ground, contestants, free_ports
from benchmarks.measure import Plan, Switchover, Values
from benchmarks.report import Row, plain_table, table
from benchmarks.running import add_options, run, say, scratch, stopped_after, write_down
from benchmarks.stopwatch import PACE, TABLE, Course, Moments, timed
from benchmarks.watch import HaLog
from tests.real.faults import Etcd, leader_key
from twisted_patroni.demo import CannotStart

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from twisted_patroni.demo import Node

_BASE_PORT = 19508
_ROUNDS, _QUICK_ROUNDS = 5, 2
_NODES = 3
#: What upstream has where nothing is configured.
_PRODUCTION = Plan(loop_wait=10, ttl=30, retry_timeout=10)
_QUICK = Plan(loop_wait=1, ttl=20, retry_timeout=3)
_LEADER, _REPLICA = ASKED = ("leader", "replica")
_STREAMING = 120.0
_LOOK = 0.01
_EVENTS = ("event_new", "event_old", "event_other")


def _rows() -> Iterator[Row]:
    for asked in ASKED:
        for key, title, ratio in (
            ("answer", "from request to answer", True),
            ("key", "from request to the new leader key", True),
            ("told", "from the new leader key to the answer", True),
            ("write", "from request to the first write", True),
            ("truth", "from request to 200 of the new leader's /primary", True),
            ("event_new", "from the new leader key to the event at the new leader", False),
            ("event_old", "from the new leader key to the event at the old leader", False),
            ("event_other", "from the new leader key to the event at the other replica", False),
        ):
            yield Row(f"{asked}.{key}", f"{asked} asked: {title}", "ms", ratio=ratio, worst=True)


ROWS = tuple(_rows())


def values_of(moments: Moments) -> Values:
    """Return what a switchover took, in milliseconds.

    :param moments: when what was seen.
    """
    values = {key: moments.after(key) for key in ("answer", "key", "write", "truth")}
    values["told"] = moments.after("answer", "key")
    for key in _EVENTS:
        values[key] = moments.after(key, "key")
    return {key: value for key, value in values.items() if value is not None}


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.switchover", description=__doc__)
    parser.add_argument(
        "--rounds", type=int, help=f"rounds (default: {_ROUNDS}, quick: {_QUICK_ROUNDS})"
    )
    parser.add_argument("--quick", action="store_true", help="with a loop_wait of 1 second")
    alone = parser.add_mutually_exclusive_group()
    alone.add_argument("--ours-only", action="store_true", help="without upstream")
    alone.add_argument("--upstream-only", action="store_true", help="without ours")
    add_options(parser, _BASE_PORT)
    return parser.parse_args(arguments)


@define(eq=False)
class Contest:
    """The contest: starts the clusters, switches them over in turn, keeps the results.

    :param reactor: the reactor.
    :param etcd: the DCS.
    :ivar grounds: the contestants' clusters.
    :ivar results: the rounds of each contestant, by its name.
    """

    reactor: Any
    etcd: Etcd
    grounds: Sequence[Ground] = field(default=(), init=False)
    results: dict[str, list[Values]] = field(factory=dict, init=False)

    async def stop(self) -> None:
        """Stop the clusters and the DCS."""
        stops = [Deferred.fromCoroutine(ground.cluster.stop()) for ground in self.grounds]
        await gatherResults(stops)
        self.etcd.stop()

    async def run(self, grounds: Sequence[Ground], rounds: int) -> None:
        """Run everything.

        :param grounds: the contestants' clusters.
        :param rounds: how many rounds.
        """
        say("starting")
        self.grounds = grounds
        self.results = {ground.contestant.name: [] for ground in grounds}
        await gatherResults([Deferred.fromCoroutine(each.start()) for each in self.grounds])
        for ground in self.grounds:
            leader = await ground.cluster.leader()
            assert leader is not None
            with psycopg.connect(leader.conninfo, autocommit=True) as connection:
                connection.execute(TABLE)
        for number in range(rounds):
            # Who comes second finds a machine that is warm; so it is another one each time.
            for ground in self.grounds[:: -1 if number % 2 else 1]:
                name = ground.contestant.name
                values: Values = {}
                for asked in ASKED:
                    say(f"round {number + 1} of {rounds}: {name}, {asked} asked")
                    found = await self._switch_over(ground, asked, number, rounds)
                    values |= {f"{asked}.{key}": value for key, value in found.items()}
                self.results[name].append(values)

    async def _switch_over(self, ground: Ground, asked: str, number: int, rounds: int) -> Values:
        for each in self.grounds:  # what one does after a switchover must not disturb the next
            await each.cluster.ready(_STREAMING)
        leader = await ground.cluster.leader()
        assert leader is not None
        replicas = [node for node in ground.cluster.nodes if node is not leader]
        candidate, other = replicas[:: -1 if number % 2 else 1]
        course = self._course(ground, leader, candidate, other, asked)
        await self._phase(ground, leader, (number + 0.5) / rounds)
        moments: Moments = await deferToThread(timed, course)
        if moments.code == 200 and candidate.name in moments.text:
            return values_of(moments)
        say(f"no switchover: {moments.code} {moments.text}")
        return {}

    async def _phase(self, ground: Ground, leader: Node, share: float) -> None:
        """Wait until a share of the time between two cycles of the leader has passed."""
        log = HaLog(leader.place.log_file, ground.plan.loop_wait)
        log.begin()
        while not log.cycled():
            await deferLater(self.reactor, _LOOK)
        await deferLater(self.reactor, share * ground.plan.loop_wait)

    def _course(
        self, ground: Ground, leader: Node, candidate: Node, other: Node, asked: str
    ) -> Course:
        switchover = Switchover(leader.name, candidate.name, ground.login())
        nodes = dict(zip(_EVENTS, (candidate, leader, other), strict=True))
        ours = ground.contestant.name == OURS
        return Course(
            request=switchover.request(),
            asked=(leader if asked == _LEADER else other).place.rest_port,
            candidate=candidate.name,
            port=candidate.place.rest_port,
            conninfo=candidate.conninfo,
            etcd=self.etcd.port,
            key=leader_key(candidate),
            followed={key: node.place.rest_port for key, node in nodes.items()} if ours else {},
        )


def _taking_part(options: argparse.Namespace) -> Iterator[Contestant]:
    for contestant in contestants(None):
        others_only = options.ours_only, options.upstream_only
        if not others_only[contestant.name == OURS]:
            yield contestant


def _grounds(
    reactor: Any, options: argparse.Namespace, directory: Path, dcs: Mapping[str, Any]
) -> Iterator[Ground]:
    ports = free_ports(options.base_port, _NODES)
    plan = _QUICK if options.quick else _PRODUCTION
    for contestant in _taking_part(options):
        base_port = next(ports)
        home = directory / str(base_port)
        yield Ground.prepare(reactor, contestant, home, base_port, plan, _NODES, dcs=dcs)


def _count(rounds: Sequence[Values], *keys: str) -> str:
    """Tell how many of some numbers there are, and how many there should be."""
    wanted = [f"{asked}.{key}" for asked in ASKED for key in keys]
    found = sum(key in values for values in rounds for key in wanted)
    return f"{found} of {len(rounds) * len(wanted)}"


def report(results: Mapping[str, Sequence[Values]], plan: Plan) -> str:
    """Return the table, and how much of what it should show was seen at all.

    :param results: the rounds of each contestant, by its name.
    :param plan: how they ran.
    """
    title = f"POST /switchover, loop_wait {plan.loop_wait}, ttl {plan.ttl}"
    lines = [
        f"Medians. Writes and /primary are tried each {1000 * PACE:.0f} ms; the leader key and"
        " events tell themselves."
    ]
    for name, rounds in results.items():
        lines.append(f"Switchovers of {name} that succeeded: {_count(rounds, 'answer')}.")
        if name == OURS:
            lines.append(f"Events of theirs that came: {_count(rounds, *_EVENTS)}.")
    if UPSTREAM in results:
        text = table(results, UPSTREAM, title, ROWS)
    else:
        text = plain_table(results, title, ROWS)
    return "\n".join((*lines, "", text))


async def _main(reactor: Any, options: argparse.Namespace) -> None:
    if shutil.which("etcd") is None:
        raise CannotStart("no etcd on the PATH")
    rounds = options.rounds or (_QUICK_ROUNDS if options.quick else _ROUNDS)
    with scratch("switchover") as directory:
        contest = Contest(reactor, await deferToThread(Etcd))
        async with stopped_after(reactor, contest.stop):
            grounds = tuple(_grounds(reactor, options, directory, contest.etcd.dcs))
            await contest.run(grounds, rounds)
    print(report(contest.results, grounds[0].plan))
    write_down(contest.results, options.json)


def main(arguments: Sequence[str]) -> None:
    """Run the contest and print the table.

    :param arguments: the command line.
    """
    run(_main, _options(arguments))


if __name__ == "__main__":
    main(sys.argv[1:])

"""Run upstream's daemon and ours on like clusters, in turn, and print how they compare.

``python -m benchmarks.compare`` needs the packages of the extra ``demo`` and, for its full speed,
the programs ``wrk`` and ``ab``.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from typing import TYPE_CHECKING, Any

from attrs import define, field
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from benchmarks.contest import UPSTREAM, Contestant, Ground, contestants, free_ports
from benchmarks.measure import Plan, Switchover, Values, among_switchovers, cycles, one_round
from benchmarks.report import table
from benchmarks.running import (
    add_options,
    allow_files,
    run,
    say,
    scratch,
    stopped_after,
    write_down,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

ROUNDS = 4
_BASE_PORT = 18008
_SETTLING = 3.0
#: Time limit of the whole run: further rounds are left out once it is passed.
_LONGEST = 8 * 60.0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("--rounds", type=int, help=f"rounds (default: {ROUNDS}, quick: 1)")
    parser.add_argument("--quick", action="store_true", help="one short round, within 3 minutes")
    add_options(parser, _BASE_PORT)
    parser.add_argument(
        "--switch-interval",
        type=float,
        metavar="SECONDS",
        help="let our daemon take part a second time, with this sys.setswitchinterval()",
    )
    return parser.parse_args(arguments)


@define(eq=False)
class Contest:
    """The contest: prepares the ground, runs the rounds, keeps the results.

    :param reactor: the reactor.
    :param directory: where the clusters are kept.
    :param plan: how much is measured.
    :param taking_part: the contestants.
    :param ports: base ports that are free.
    :ivar results: the rounds of each contestant, by its name.
    """

    reactor: Any
    directory: Path
    plan: Plan
    taking_part: tuple[Contestant, ...]
    ports: Iterator[int]
    results: dict[str, list[Values]] = field(init=False)
    _grounds: list[Ground] = field(factory=list, init=False)
    _begun: float = field(factory=time.monotonic, init=False)

    def __attrs_post_init__(self) -> None:
        self.results = {contestant.name: [] for contestant in self.taking_part}

    async def run(self, rounds: int) -> None:
        """Run everything.

        :param rounds: how many rounds.
        """
        await self._start(self.taking_part, nodes=1)
        await self._rest()
        for number in range(1, rounds + 1):
            if time.monotonic() - self._begun > _LONGEST:
                say(f"no time left for round {number}")
                break
            for ground in self._grounds:
                say(f"round {number} of {rounds}: {ground.contestant.name}")
                subject = ground.subject(ground.cluster.nodes[0])
                self._keep(ground, await deferToThread(one_round, subject))
        await self.stop()
        for contestant in self.taking_part:
            say(f"waiting switchovers: {contestant.name}")
            await self._start([contestant], nodes=2)
            await self._switchovers(*self._grounds)
            await self.stop()

    async def _start(self, who: Iterable[Contestant], nodes: int) -> None:
        for contestant in who:
            base_port = next(self.ports)
            directory = self.directory / str(base_port)
            self._grounds.append(
                Ground.prepare(self.reactor, contestant, directory, base_port, self.plan, nodes)
            )
        await gatherResults([Deferred.fromCoroutine(each.start()) for each in self._grounds])

    async def stop(self) -> None:
        """Stop the clusters that there are."""
        grounds, self._grounds = self._grounds, []
        await gatherResults([Deferred.fromCoroutine(each.cluster.stop()) for each in grounds])

    def _keep(self, ground: Ground, values: Values) -> None:
        self.results[ground.contestant.name].append(values)

    async def _rest(self) -> None:
        """See how punctual the HA loops are while nobody asks anything."""
        say("at rest")
        await deferLater(self.reactor, _SETTLING)
        subjects = [ground.subject(ground.cluster.nodes[0]) for ground in self._grounds]
        for subject in subjects:
            subject.log.begin()
        await deferLater(self.reactor, self.plan.cycles * self.plan.loop_wait + 1)
        for ground, subject in zip(self._grounds, subjects, strict=True):
            self._keep(ground, cycles(subject, "quiet"))

    async def _switchovers(self, ground: Ground) -> None:
        leader = await ground.cluster.leader()
        assert leader is not None
        (other,) = (node for node in ground.cluster.nodes if node is not leader)
        switchover = Switchover(leader.name, other.name, ground.login())
        subject = ground.subject(leader)
        self._keep(ground, await deferToThread(among_switchovers, subject, switchover, ground.hold))


def _report(results: dict[str, list[Values]], file: Path | None, rounds: int) -> None:
    tools = {name: shutil.which(name) is not None for name in ("wrk", "ab")}
    kept, new = ("wrk" if tools["wrk"] else "python"), ("ab" if tools["ab"] else "python")
    print(f"Load generators: {new} for new connections, {kept} for kept ones. Rounds: {rounds}.\n")
    print(table(results, UPSTREAM))
    write_down(results, file)


async def _main(reactor: Any, options: argparse.Namespace) -> None:
    allow_files()
    plan = Plan(seconds=1.0, cycles=5, loop_wait=1) if options.quick else Plan()
    rounds = options.rounds or (1 if options.quick else ROUNDS)
    with scratch("compare") as directory:
        contest = Contest(
            reactor,
            directory,
            plan,
            contestants(options.switch_interval),
            free_ports(options.base_port, nodes=2),
        )
        async with stopped_after(reactor, contest.stop):
            await contest.run(rounds)
    _report(contest.results, options.json, rounds)


def main(arguments: Sequence[str]) -> None:
    """Run the contest and print the table.

    :param arguments: the command line.
    """
    run(_main, _options(arguments))


if __name__ == "__main__":
    main(sys.argv[1:])

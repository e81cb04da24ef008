"""What is measured of one daemon: each function returns named numbers, ``None`` for no answer."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from typing import TYPE_CHECKING

from attrs import define, frozen

from benchmarks import load
from benchmarks.clients import HOST, Crowd, answers, idle, wait_until
from benchmarks.watch import HaLog, cpu_seconds, resident_bytes, transactions

if TYPE_CHECKING:
    from pathlib import Path

Values = dict[str, float | None]

PATH = "/primary"
FEW, MANY, WAITING = 5, 2000, 100
_RECOVERY = 30.0
_SWITCHOVER_PAUSE = 0.03


@frozen
class Plan:
    """How much is measured.

    :param seconds: how long each load lasts.
    :param clients: clients at a time.
    :param loop_wait: the HA loop's period.
    :param cycles: how many periods the flood lasts.
    :param flooders: clients of the flood.
    :param ttl: how long the leader key lives.
    :param retry_timeout: for how long an operation of the HA loop is tried.
    """

    seconds: float = 3.0
    clients: int = 16
    loop_wait: int = 2
    cycles: int = 6
    flooders: int = 64
    ttl: int = 20
    retry_timeout: int = 5


@define(eq=False)
class Subject:
    """A running daemon to be measured.

    :param name: what it is called in the report.
    :param keeps_alive: its API keeps connections alive.
    :param pid: the daemon's process.
    :param port: of its API.
    :param conninfo: how to connect to its PostgreSQL.
    :param log: its log.
    :param plan: how much is measured.
    """

    name: str
    keeps_alive: bool
    pid: int
    port: int
    conninfo: str
    log: HaLog
    plan: Plan

    def load(self, *, keep_alive: bool, clients: int = 0, seconds: float = 0.0) -> load.Load:
        """Put load on the health check.

        :param keep_alive: use connections as long as the server does.
        :param clients: how many; the plan's number by default.
        :param seconds: how long; as planned by default.
        """
        return load.run(
            f"http://{HOST}:{self.port}{PATH}",
            clients=clients or self.plan.clients,
            seconds=seconds or self.plan.seconds,
            keep_alive=keep_alive,
        )

    def recovered(self) -> None:
        """Wait until the API answers again."""
        wait_until(lambda: answers(self.port), _RECOVERY, f"{self.name} to answer again")


@frozen
class Switchover:
    """A switchover to ask for.

    :param leader: from whom.
    :param candidate: to whom.
    :param login: user and password of the API.
    """

    leader: str
    candidate: str
    login: tuple[str, str]

    def request(self) -> bytes:
        """Return the request."""
        body = json.dumps({"leader": self.leader, "candidate": self.candidate})
        authorization = base64.b64encode(":".join(self.login).encode()).decode()
        head = (
            "POST /switchover HTTP/1.1",
            "Host: switchover",
            f"Authorization: Basic {authorization}",
            f"Content-Length: {len(body)}",
        )
        return "\r\n".join((*head, "", body)).encode()


def one_round(subject: Subject) -> Values:
    """Measure everything that a cluster of one node shows.

    :param subject: the daemon.
    """
    subject.recovered()
    values = {"resident": resident_bytes(subject.pid) / 2**20}
    return {
        **values,
        **alone(subject),
        **among_idle(subject, FEW),
        **among_idle(subject, MANY),
        **flood(subject),
    }


def alone(subject: Subject) -> Values:
    """Measure rate, latency and cost with nobody else there.

    :param subject: the daemon.
    """
    new = _costs(subject, keep_alive=False)
    kept = _costs(subject, keep_alive=True) if subject.keeps_alive else new
    return _named("new", new) | _named("kept", kept)


def among_idle(subject: Subject, size: int) -> Values:
    """Measure rate and latency among idle connections.

    :param subject: the daemon.
    :param size: how many there are.
    """
    name = f"idle{size}"
    with idle(subject.port, size, kept_alive=subject.keeps_alive) as crowd:
        if subject.keeps_alive:
            crowd.greet()
        values = _both_ways(subject, name)
        values[f"{name}.resident"] = resident_bytes(subject.pid) / 2**20
        values[f"{name}.open"] = crowd.waiting()
    subject.recovered()
    return values


def flood(subject: Subject) -> Values:
    """Measure the HA loop while clients ask as fast as they can.

    :param subject: the daemon.
    """
    plan = subject.plan
    subject.log.begin()
    found = _speed(
        subject,
        keep_alive=subject.keeps_alive,
        clients=plan.flooders,
        seconds=plan.cycles * plan.loop_wait + 1,
    )
    return _named("flood", found) | cycles(subject, "flood")


def cycles(subject: Subject, name: str) -> Values:
    """Tell how punctual the HA loop has been since its log's beginning was set.

    :param subject: the daemon.
    :param name: what to call the numbers.
    """
    seen = subject.log.cycles()
    return {
        f"{name}.cycle_mean": 1000 * seen.mean,
        f"{name}.cycle_worst": 1000 * seen.worst,
        f"{name}.alarms": seen.alarms,
    }


def among_switchovers(subject: Subject, switchover: Switchover, hold: Path) -> Values:
    """Measure rate and latency while switchovers wait for their outcome.

    :param subject: the leader, whose PostgreSQL does not begin to stop while a file exists.
    :param switchover: from it to another node.
    :param hold: that file.
    """
    name = f"switchover{WAITING}"
    subject.recovered()
    hold.touch()
    try:
        with Crowd(subject.port, switchover.request(), WAITING, _SWITCHOVER_PAUSE) as crowd:
            values = _both_ways(subject, name)
            values[f"{name}.open"] = crowd.waiting()
            hold.unlink()
            with suppress(TimeoutError):
                wait_until(lambda: crowd.waiting() < WAITING, _RECOVERY, "the switchover")
    finally:
        hold.unlink(missing_ok=True)
    return values


def _both_ways(subject: Subject, name: str) -> Values:
    """Measure new connections and kept ones, if there is an answer at all."""
    if not answers(subject.port):
        nothing: Values = {"rate": None, "p50": None, "p99": None}
        return _named(f"{name}.new", nothing) | _named(f"{name}.kept", nothing)
    new = _speed(subject, keep_alive=False)
    kept = _speed(subject, keep_alive=True) if subject.keeps_alive else new
    return _named(f"{name}.new", new) | _named(f"{name}.kept", kept)


def _costs(subject: Subject, *, keep_alive: bool) -> Values:
    """Measure the speed, and what a request costs."""
    committed = transactions(subject.conninfo)
    answers(subject.port)  # has the API connect to PostgreSQL again
    used = cpu_seconds(subject.pid)
    found = subject.load(keep_alive=keep_alive)
    used = cpu_seconds(subject.pid) - used
    committed = transactions(subject.conninfo) - committed
    costs: Values = {"cpu": 1e6 * used / found.requests, "sql": committed / found.requests}
    return _numbers(found) | costs


def _speed(subject: Subject, *, keep_alive: bool, clients: int = 0, seconds: float = 0.0) -> Values:
    try:
        return _numbers(subject.load(keep_alive=keep_alive, clients=clients, seconds=seconds))
    except load.NoLoad:
        return {"rate": None, "p50": None, "p99": None}


def _numbers(found: load.Load) -> Values:
    return {
        "rate": found.rate,
        "p50": 1000 * found.p50,
        "p99": 1000 * found.p99,
        "failures": found.failures,
    }


def _named(name: str, values: Values) -> Values:
    return {f"{name}.{key}": value for key, value in values.items()}

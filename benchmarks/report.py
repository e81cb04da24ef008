"""The table of the README: medians, ratios and their spread."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from attrs import frozen

from benchmarks.clients import NO_ANSWER_AFTER
from benchmarks.measure import FEW, MANY, WAITING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.measure import Values

#: All rounds of all contestants, by contestant.
Results = "Mapping[str, Sequence[Values]]"


@frozen
class Row:
    """One line of the table.

    :param key: the number's name.
    :param title: what it is.
    :param unit: its unit.
    :param more: whether more of it is better.
    :param ratio: whether a ratio says something.
    :param worst: whether to tell the worst besides the median.
    """

    key: str
    title: str
    unit: str
    more: bool = False
    ratio: bool = True
    worst: bool = False


def _speed_rows(name: str, where: str) -> tuple[Row, ...]:
    rows: list[Row] = []
    for kind, connection in (("new", "new connections"), ("kept", "kept alive")):
        key, title = f"{name}{kind}", f"{connection}{where}"
        rows.append(Row(f"{key}.rate", title, "/s", more=True))
        if not where:
            rows.append(Row(f"{key}.p50", f"{title}: p50", "ms"))
        rows.append(Row(f"{key}.p99", f"{title}: p99", "ms"))
    return tuple(rows)


ROWS = (
    *_speed_rows("", ""),
    *_speed_rows(f"idle{FEW}.", f", {FEW} idle connections"),
    *_speed_rows(f"idle{MANY}.", f", {MANY} idle connections"),
    *_speed_rows(f"switchover{WAITING}.", f", {WAITING} waiting switchovers"),
    Row("new.cpu", "CPU time of the daemon per request, new connections", "µs"),
    Row("kept.cpu", "CPU time of the daemon per request, kept alive", "µs"),
    Row("new.sql", "SQL statements per request, new connections", ""),
    Row("kept.sql", "SQL statements per request, kept alive", ""),
    Row("resident", "resident memory at rest", "MiB"),
    Row(f"idle{MANY}.resident", f"resident memory, {MANY} idle connections", "MiB"),
    Row("quiet.cycle_mean", "HA cycle off its period, at rest: mean", "ms", ratio=False),
    Row("quiet.cycle_worst", "HA cycle off its period, at rest: worst", "ms", ratio=False),
    Row("flood.rate", "answers under flood", "/s", more=True),
    Row("flood.cycle_mean", "HA cycle off its period, under flood: mean", "ms", ratio=False),
    Row("flood.cycle_worst", "HA cycle off its period, under flood: worst", "ms", ratio=False),
    Row("flood.alarms", "leader key lost or demoted under flood", "times", ratio=False),
)


def phases(values: Values, columns: Mapping[str, str]) -> dict[str, list[Values]]:
    """Return the numbers of one contestant as the columns of a table.

    :param values: all its numbers; the first word of a name is the phase.
    :param columns: the titles of the phases, by that word.
    """
    return {
        title: [
            {
                key.removeprefix(f"{name}."): value
                for key, value in values.items()
                if key.startswith(f"{name}.")
            }
        ]
        for name, title in columns.items()
    }


def plain_table(results: Mapping[str, Sequence[Values]], title: str, rows: Sequence[Row]) -> str:
    """Return a table in Markdown: a column for each contestant.

    :param results: the rounds of each contestant, by its name.
    :param title: what stands above the rows' titles.
    :param rows: the rows.
    """
    lines = _head(title, *results)
    for row in rows:
        cells = [_cell(_series(rounds, row.key), row) for rounds in results.values()]
        if any(cells):
            lines.append(_line([row.title, *cells]))
    return "\n".join(lines)


def table(
    results: Mapping[str, Sequence[Values]],
    upstream: str,
    title: str = "GET /primary",
    rows: Sequence[Row] = ROWS,
) -> str:
    """Return the table in Markdown: a column for each contestant, and ratios to upstream's.

    Ratios are made within each round, so that what disturbs the machine disturbs both sides.

    :param results: the rounds of each contestant, by its name.
    :param upstream: the name of the one that the others are compared with.
    :param title: what stands above the rows' titles.
    :param rows: the rows.
    """
    others = [name for name in results if name != upstream]
    heads = [upstream]
    for name in others:
        heads += [name, "ratio (median, range)"]
    lines = _head(title, *heads)
    for row in rows:
        theirs = _series(results[upstream], row.key)
        cells = [row.title, _cell(theirs, row)]
        for name in others:
            ours = _series(results[name], row.key)
            cells += [_cell(ours, row), _ratio(theirs, ours, row)]
        if any(cell for cell in cells[1:]):
            lines.append(_line(cells))
    return "\n".join(lines)


def _head(*cells: str) -> list[str]:
    return [_line(cells), _line(["---", *["---:"] * (len(cells) - 1)])]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _series(rounds: Sequence[Values], key: str) -> list[float | None]:
    return [values[key] for values in rounds if key in values]


def _known(series: Sequence[float | None]) -> list[float]:
    return [value for value in series if value is not None]


def _cell(series: Sequence[float | None], row: Row) -> str:
    if not series:
        return ""
    known = _known(series)
    if not known:
        return f"no answer within {NO_ANSWER_AFTER:.0f} s"
    # What is rare and bad does not show in a median.
    value = max(known) if row.key.endswith(("worst", "alarms")) else median(known)
    text = f"{_figure(value)} {row.unit}".strip()
    if row.worst and len(known) > 1:
        text += f", worst {_figure(min(known) if row.more else max(known))}"
    return text


def _ratio(theirs: Sequence[float | None], ours: Sequence[float | None], row: Row) -> str:
    if not row.ratio:
        return ""
    ratios = [
        our / their if row.more else their / our
        for their, our in zip(theirs, ours, strict=False)
        if their and our and their > 0 and our > 0
    ]
    if not ratios:
        return ""
    middle, low, high = (_figure(each) for each in (median(ratios), min(ratios), max(ratios)))
    return f"{middle} ({low} to {high})" if len(ratios) > 1 else middle


def _figure(value: float) -> str:
    """Return a number with three significant digits, but whole ones from 100 on."""
    if value == 0 or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"

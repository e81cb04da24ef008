"""The picture of a cluster as the lines of a terminal of a certain size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import frozen

from twisted_patroni.client.shapes import mapping, text
from twisted_patroni.watch.sentences import drained, operation, planned, scheduled
from twisted_patroni.watch.text import clean, cut, fit, moment, size, span, width

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from twisted_patroni.client.picture import Picture
    from twisted_patroni.client.values import Member

BOLD, DIM, RED, GREEN, YELLOW = "1", "2", "1;31", "32", "33"

#: Lines that the last events keep, however many members there are.
EVENT_LINES = 6
#: The widest that a column may be.
WIDEST = 32

_TITLES = ("member", "role", "state", "TL", "lag", "restart", "tags")
_RIGHT = frozenset({"TL", "lag"})
_ORDER = ("leader", "standby_leader", "sync_standby", "quorum_standby", "replica")
_WELL = ("running", "streaming", "in archive recovery")


@frozen
class Link:
    """How the cluster is followed at present.

    :param url: the node that tells; ``None`` while there is none.
    :param polling: the node has no events, and is asked again and again.
    :param since: since when it is so, in seconds since 1970.
    :param trouble: why there is none, or why the last attempt failed.
    """

    url: str | None = None
    polling: bool = False
    since: float = 0.0
    trouble: str = ""


@frozen
class Told:
    """Something that has happened.

    :param when: the time of day.
    :param text: what it was, fit for a terminal.
    """

    when: str
    text: str


@frozen
class Span:
    """A part of a line in one style.

    :param text: the text.
    :param style: parameters of the escape sequence, none for plain text.
    """

    text: str
    style: str = ""


Line = tuple[Span, ...]


def draw(
    picture: Picture,
    link: Link,
    events: Sequence[Told],
    now: float,
    columns: int,
    rows: int,
) -> list[Line]:
    """Return the lines of the screen, no more and no wider than there is room for.

    :param picture: the cluster.
    :param link: how it is followed.
    :param events: what has happened, the newest last.
    :param now: the present time, in seconds since 1970.
    :param columns: the terminal's width.
    :param rows: its height.
    """
    head = [_header(picture), _connection(picture, link, now), ()]
    body: list[Line] = []
    if picture.known:
        body = [*_table(picture, columns), *_plans(picture, now)]
    room = rows - len(head)
    kept = min(len(events) + 2, EVENT_LINES) if events else 0
    if len(body) > room - kept:
        shown = max(0, room - kept - 1)
        body = [*body[:shown], (Span(f"... {len(body) - shown} more lines", DIM),)]
    lines = [*head, *body]
    left = rows - len(lines) - 2
    if events and left > 0:
        lines += [(), (Span("last events", BOLD),)]
        for each in list(events)[-left:][::-1]:
            lines.append((Span(f"{each.when}  ", DIM), Span(each.text)))
    return [_clipped(line, columns) for line in lines[:rows]]


def ansi(line: Line, colour: bool = True) -> str:
    """Return a line with the escape sequences of its styles.

    :param line: the line.
    :param colour: with styles.
    """
    return "".join(
        f"\x1b[{each.style}m{each.text}\x1b[0m" if each.style and colour else each.text
        for each in line
    )


def plain(line: Line) -> str:
    """Return the text of a line.

    :param line: the line.
    """
    return "".join(each.text for each in line)


def _clipped(line: Line, columns: int) -> Line:
    spans: list[Span] = []
    left = columns
    for each in line:
        shown = cut(each.text, left)
        spans.append(Span(shown, each.style))
        left -= width(shown)
        if shown != each.text or left <= 0:
            break
    return tuple(spans)


def _header(picture: Picture) -> Line:
    if not picture.known:
        return (Span("twisted-patroni watch", BOLD),)
    spans = [Span(clean(picture.scope) or "cluster", BOLD), Span("   leader ")]
    leader = picture.leader
    spans.append(Span("none", RED) if leader is None else Span(clean(leader), BOLD))
    if picture.timeline is not None:
        spans.append(Span(f"   timeline {picture.timeline}"))
    flags = (
        (picture.paused, "PAUSED", YELLOW),
        (not picture.locked, "UNLOCKED", RED),
        (picture.failsafe, "FAILSAFE", YELLOW),
        (not picture.dcs, "DCS LOST", RED),
    )
    for is_so, name, style in flags:
        if is_so:
            spans += [Span("   "), Span(name, style)]
    return tuple(spans)


def _connection(picture: Picture, link: Link, now: float) -> Line:
    age = span(now - link.since)
    if link.url is None:
        trouble = f": {clean(link.trouble)}" if link.trouble else ""
        if not picture.known:
            return (Span(f"connecting for {age}{trouble}", YELLOW),)
        return (Span(f"reconnecting for {age}{trouble}", YELLOW),)
    if link.polling:
        return (Span(f"asking {clean(link.url)}, which has no events, for {age}", DIM),)
    name = text(picture.node.get("name"))
    who = f" ({clean(name)})" if name else ""
    return (Span(f"connected to {clean(link.url)}{who} for {age}", DIM),)


def _table(picture: Picture, columns: int) -> Iterator[Line]:
    members = sorted(picture.members.values(), key=_rank)
    rows = [_cells(each) for each in members]
    texts = [tuple(cell.text for cell in row) for row in rows]
    widths = [
        min(WIDEST, max(width(each[number]) for each in (_TITLES, *texts)))
        for number in range(len(_TITLES))
    ]
    widths[-1] = max(4, columns - sum(widths[:-1]) - 2 * (len(widths) - 1))
    yield _row([Span(title, BOLD) for title in _TITLES], widths)
    for row in rows:
        yield _row(row, widths)


def _row(cells: Sequence[Span], widths: Sequence[int]) -> Line:
    spans: list[Span] = []
    for title, cell, columns in zip(_TITLES, cells, widths, strict=True):
        spans += [Span(fit(cell.text, columns, right=title in _RIGHT), cell.style), Span("  ")]
    return tuple(spans[:-1])


def _rank(member: Member) -> tuple[int, str]:
    return (_ORDER.index(member.role) if member.role in _ORDER else len(_ORDER), member.name)


def _cells(member: Member) -> list[Span]:
    role, state = member.role or "", member.state or ""
    lag_class = text(member.document.get("lag_class"))
    lag = lag_class or "unknown"
    if member.lag is not None:
        lag = size(member.lag)
    return [
        Span(clean(member.name), BOLD if member.leads else ""),
        Span(clean(role).replace("_", " "), GREEN if member.leads else ""),
        Span(clean(state), "" if state in _WELL else YELLOW),
        Span("" if member.timeline is None else str(member.timeline)),
        Span("" if member.leads else lag, RED if lag_class == "high" else ""),
        _restart(member),
        Span(clean(" ".join(_tags(member.tags)))),
    ]


def _restart(member: Member) -> Span:
    words = ["pending"] if member.pending_restart else []
    when = scheduled(member.document.get("scheduled_restart"))
    words += [when] if when else []
    return Span(", ".join(words), YELLOW)


def _tags(tags: Iterable[Any]) -> Iterator[str]:
    for key, value in mapping(tags).items():
        if value is True:
            yield str(key)
        elif value is not False:
            yield f"{key}={value}"


def _plans(picture: Picture, now: float) -> Iterator[Line]:
    lines: list[Line] = []
    if picture.sync:
        lines.append((Span("synchronous: " + clean(", ".join(picture.sync))),))
    if picture.switchover:
        lines.append((Span(f"switchover scheduled: {clean(planned(picture.switchover))}", YELLOW),))
    drain = picture.node.get("drain")
    if drain is not None:
        name = text(picture.node.get("name")) or "the node"
        lines.append((Span(clean(f"{name} {drained(drain)}"), YELLOW),))
    for each in picture.operations.values():
        created = moment(each.get("created"))
        since = "" if created is None else f" for {span(now - created.timestamp())}"
        lines.append((Span(clean(operation(each, since)), YELLOW),))
    if lines:
        yield ()
        yield from lines

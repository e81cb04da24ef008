"""Upstream's own API and ours, on one engine: the same bytes, the same replies.

Where replies differ, ``docs/differences.md`` declares it. The file is documentation and data alike:
a difference that is not declared fails here, and so does a declaration without a difference.
"""

from __future__ import annotations

from collections import Counter
from functools import cache

from twisted.trial.unittest import SynchronousTestCase

from tests.real.parity_differences import FILE, BadEntry, Difference, declared_differences
from tests.real.parity_run import Exchange, exchanges
from tests.real.parity_table import SCENES

LEAST = 1000


@cache
def _outcome() -> list[Exchange] | Exception:
    try:
        return exchanges(SCENES)
    except Exception as error:  # the same for every test: the node is started once
        return error


def _exchanges() -> list[Exchange]:
    outcome = _outcome()
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


@cache
def _declared() -> dict[str, Difference]:
    return declared_differences(FILE.read_text())


def _undeclared(exchange: Exchange) -> frozenset[str]:
    """Return in which respects replies differ that no entry accounts for."""
    left = exchange.respects
    for slug, difference in _declared().items():
        if difference.everywhere or slug in exchange.request.differs:
            left -= difference.accounts_for(left)
    return left


def _not_shown(exchange: Exchange) -> list[str]:
    """Return the slugs that a request names and its replies do not show."""
    declared = _declared()
    return [
        slug
        for slug in exchange.request.differs
        if slug not in declared or not declared[slug].accounts_for(exchange.respects)
    ]


def _report(exchanges: list[Exchange]) -> str:
    shown = "\n".join(str(each) for each in exchanges[:20])
    return f"{len(exchanges)} of {len(_exchanges())} requests:\n{shown}"


class ParityTests(SynchronousTestCase):
    """The replies of both APIs, compared."""

    def test_undeclared(self) -> None:
        """Two replies differ in nothing but what the entries named by the request declare."""
        wrong = [each for each in _exchanges() if _undeclared(each)]
        self.assertEqual(wrong, [], _report(wrong))

    def test_not_shown(self) -> None:
        """Each entry that a request names is an entry, and shows in its replies."""
        wrong = [each for each in _exchanges() if _not_shown(each)]
        self.assertEqual(wrong, [], _report(wrong))

    def test_unused(self) -> None:
        """Each entry that this test is said to show is shown by some request."""
        used = {slug for each in _exchanges() for slug in each.request.differs}
        used |= {
            slug
            for slug, difference in _declared().items()
            if difference.everywhere
            and any(difference.accounts_for(each.respects) for each in _exchanges())
        }
        by_parity = {slug for slug, difference in _declared().items() if difference.by_parity}
        self.assertEqual(used, by_parity)

    def test_table(self) -> None:
        """There are many requests, and no scene tells the same story twice."""
        self.assertGreater(len(_exchanges()), LEAST)
        for scene in SCENES:
            stories = [tuple((each.raw, each.half_close) for each in s) for s in scene.stories]
            self.assertEqual(len(stories), len(set(stories)), scene.name)
        self.assertEqual(len(SCENES), len({scene.name for scene in SCENES}))

    def test_replies(self) -> None:
        """Upstream answers nearly all, in all its ways."""
        codes = Counter(each.theirs.status for each in _exchanges())
        self.assertGreater(1 - codes[0] / codes.total(), 0.95)
        wanted = {200, 202, 400, 401, 403, 404, 409, 411, 412, 414, 422, 431, 500, 501, 502, 503}
        self.assertEqual(wanted - set(codes), set())


class FileTests(SynchronousTestCase):
    """The file of differences, read."""

    ENTRY = (
        "### slug\n- Upstream: u\n- Here: h\n  h\n- Why: w\n- Shown by: parity\n- Seen in: body\n"
    )

    def test_entry(self) -> None:
        """An entry has a slug, what shows it, and the parts of a reply that it accounts for."""
        found = declared_differences(f"# Title\n\n## Part\n\n{self.ENTRY}\n")
        self.assertEqual(found, {"slug": Difference("slug", "parity", ("body",))})

    def test_pattern(self) -> None:
        """A star stands for the rest of a name."""
        difference = Difference("slug", "parity", ("header *",))
        self.assertEqual(
            difference.accounts_for(frozenset({"header Date", "body"})), frozenset({"header Date"})
        )

    def test_wrong(self) -> None:
        """An entry that is incomplete, named twice or shown by nothing is refused."""
        for text in (
            self.ENTRY + "\n" + self.ENTRY,
            self.ENTRY.replace("- Why: w\n", ""),
            self.ENTRY.replace("- Seen in: body\n", ""),
            self.ENTRY.replace("parity", "unit test `tests/test_nothing.py`"),
            self.ENTRY.replace("### slug", "### two words"),
        ):
            self.assertRaises(BadEntry, declared_differences, text)

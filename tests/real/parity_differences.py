"""Reads ``docs/differences.md``: the declared differences, which the parity test checks."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path

from attrs import frozen

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docs" / "differences.md"
_TEXTS = ("Upstream", "Here", "Why", "Shown by")
_ENTRY = re.compile(r"^### (\S+)\n((?:- .+\n(?:  .+\n)*)+)$", re.MULTILINE)
_ITEM = re.compile(r"^- ([A-Z][a-z ]+): (.+(?:\n  .+)*)$", re.MULTILINE)
_TEST = re.compile(r"(?:unit|real) test `(tests/[\w/]+\.py)`")


class BadEntry(ValueError):
    """An entry is not complete; the text says which."""


@frozen
class Difference:
    """One declared difference.

    :param slug: its name.
    :param shown_by: what shows it.
    :param respects: the parts of a reply it accounts for; ``*`` stands for anything.
    """

    slug: str
    shown_by: str
    respects: tuple[str, ...]

    @property
    def by_parity(self) -> bool:
        """Whether this test shows it."""
        return self.shown_by.startswith("parity")

    @property
    def everywhere(self) -> bool:
        """Whether it is so common that requests need not name it."""
        return self.shown_by == "parity, in every answer"

    @property
    def test_file(self) -> Path | None:
        """The file of the test that shows it, if it is another one."""
        match = _TEST.fullmatch(self.shown_by)
        return ROOT / match[1] if match else None

    def accounts_for(self, respects: frozenset[str]) -> frozenset[str]:
        """Return those respects that this difference explains.

        :param respects: in which two replies differ.
        """
        return frozenset(
            each for each in respects if any(fnmatchcase(each, known) for known in self.respects)
        )


def _difference(slug: str, items: str) -> Difference:
    texts = {name: " ".join(text.split()) for name, text in _ITEM.findall(items)}
    missing = [name for name in _TEXTS if not texts.get(name)]
    if missing:
        raise BadEntry(f"{slug}: {', '.join(missing)} missing")
    seen = texts.get("Seen in", "")
    found = Difference(slug, texts["Shown by"], tuple(each.strip() for each in seen.split(",")))
    if found.by_parity != bool(seen):
        raise BadEntry(f"{slug}: 'Seen in' goes with 'Shown by: parity'")
    if not found.by_parity and (found.test_file is None or not found.test_file.exists()):
        raise BadEntry(f"{slug}: nothing is shown by {found.shown_by!r}")
    return found


def declared_differences(text: str) -> dict[str, Difference]:
    """Return the declared differences by slug.

    :param text: the file.
    :raise BadEntry: if an entry is incomplete, named twice, or not to be understood.
    """
    found: dict[str, Difference] = {}
    for slug, items in _ENTRY.findall(text):
        if slug in found:
            raise BadEntry(f"{slug}: declared twice")
        found[slug] = _difference(slug, items)
    headings = re.findall(r"^### (.+)$", text, re.MULTILINE)
    if list(found) != headings:
        raise BadEntry(f"not to be understood: {sorted(set(headings) - set(found))}")
    return found

"""The documentation, checked against the code: its YAML, its tables and what it quotes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from attrs import define, evolve, field
from patroni.validator import schema
from twisted.internet import reactor
from twisted.internet.endpoints import _SystemdParser
from twisted.python.systemd import ListenFDs
from twisted.trial.unittest import SynchronousTestCase

from tests.handshakes import TlsCase
from tests.sections import error_of, settings
from twisted_patroni.doors import parse_endpoint
from twisted_patroni.fitness import CtlFacts, misfits
from twisted_patroni.settings import Limits, Right, Serves, Settings, VerifyClient
from twisted_patroni.settings.restapi import KEYS

ROOT = Path(__file__).parents[1]
CONFIGURATION = ROOT / "docs" / "configuration.md"
PAGES = (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md")))
#: What a recipe need not say again.
LISTEN = {"listen": "10.0.0.11:8008"}


def text_of(page: Path) -> str:
    """Return a page."""
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    """Return the blocks of a page that are fenced as of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text_of(page), re.DOTALL | re.MULTILINE)


def recipes() -> list[dict[str, Any]]:
    """Return the ``restapi`` sections of all pages."""
    documents = [yaml.safe_load(block) for page in PAGES for block in blocks(page, "yaml")]
    return [document["restapi"] for document in documents if "restapi" in document]


def table(heading: str) -> dict[str, dict[str, str]]:
    """Return the first table below a heading: by the key in its first column, cells by title."""
    part = re.split(rf"^#+ `?{heading}`?$", text_of(CONFIGURATION), flags=re.MULTILINE)[1]
    lines = part[part.index("\n| Key") + 1 :].partition("\n\n")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    titles, _, *others = rows
    return {row[0].strip("`"): dict(zip(titles, row, strict=True)) for row in others}


@define(eq=False)
class Asked(Mapping[str, Any]):
    """A mapping that remembers which keys it was asked for.

    :param content: what it holds.
    """

    content: dict[str, Any]
    asked: set[str] = field(factory=set)

    def __getitem__(self, key: str) -> Any:
        self.asked.add(key)
        return self.content[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.content)

    def __len__(self) -> int:
        return len(self.content)


class KeyTests(SynchronousTestCase):
    """The tables of keys."""

    def known_below(self, **section: Any) -> set[str]:
        """Return the keys that the error about a key nobody knows names."""
        _, found, names = error_of(**section).partition("unknown key 'nonsense'; the keys are ")
        self.assertTrue(found)
        return set(names.split(", "))

    def test_section(self) -> None:
        """The table has the keys that are asked for, and those that upstream has, and no others."""
        plain, over_tls = Asked(dict(LISTEN)), Asked(LISTEN | {"certfile": "node.pem"})
        for section in (plain, over_tls):
            Settings.of(section)
        assert isinstance(schema.validator, dict)
        upstream = {getattr(key, "name", key) for key in schema.validator["restapi"]}
        known = plain.asked | over_tls.asked | upstream
        self.assertEqual(set(table("Keys")), known)
        self.assertEqual(set(KEYS), known)

    def test_endpoints(self) -> None:
        """So has that of further listeners."""
        known = self.known_below(endpoints=[{"nonsense": 1}])
        self.assertEqual(set(table("endpoints")), known)

    def test_access(self) -> None:
        """So has that of rules."""
        known = self.known_below(access=[{"nonsense": 1}])
        self.assertEqual(set(table("access")), known)

    def test_limits(self) -> None:
        """So has that of limits, with the defaults and with what is accepted."""
        rows = table("limits")
        self.assertEqual(set(rows), self.known_below(limits={"nonsense": 1}))
        for key, row in rows.items():
            default = float(row["Default"].partition(",")[0])
            self.assertEqual(default, getattr(Limits(), key), key)
            error = error_of(limits={key: 10**12})
            self.assertIn(f"restapi.limits.{key}: expected {row['Accepted']}", error)

    def test_words(self) -> None:
        """Each word that a key accepts is in its row."""
        for row, words in (
            (table("Keys")["verify_client"], VerifyClient),
            (table("endpoints")["serves"], Serves),
            (table("access")["may"], Right),
        ):
            for word in words.__members__:
                self.assertIn(f"`{word.lower()}`", row["Meaning"])


class RecipeTests(SynchronousTestCase):
    """The blocks of YAML."""

    def test_accepted(self) -> None:
        """Each recipe is what the daemon accepts, with nothing to warn of."""
        self.assertGreater(len(recipes()), 10)
        for section in recipes():
            self.assertEqual(Settings.of(LISTEN | section).warnings, (), section)

    def test_endpoints(self) -> None:
        """Twisted understands each endpoint; systemd passes what its unit says."""
        (unit,) = blocks(CONFIGURATION, "ini")
        names = re.findall(r"^FileDescriptorName=(\S+)$", unit, re.MULTILINE)
        passed = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": names[0]}
        self.patch(_SystemdParser, "_sddaemon", ListenFDs.fromEnvironment(passed))
        doors = [door for section in recipes() for door in Settings.of(LISTEN | section).doors]
        kinds = {door.endpoint.partition(":")[0] for door in doors}
        self.assertEqual(kinds, {"tcp", "unix", "haproxy", "systemd"})
        for door in doors:
            parse_endpoint(reactor, door)
        (mentioned,) = re.findall(r"`(tcp6:\S+)`", text_of(CONFIGURATION))
        parse_endpoint(reactor, evolve(doors[0], endpoint=mentioned))


class QuoteTests(TlsCase):
    """What the page says that the log says."""

    def test_misfits(self) -> None:
        """The lines about a missing ``ctl.certfile`` are those of the log."""
        page = text_of(CONFIGURATION)
        plain = settings("localhost:8008", certfile="node.pem")
        for verify in (VerifyClient.OPTIONAL, VerifyClient.REQUIRED):
            with_mode = evolve(plain, verify_client=verify)
            (line,) = misfits(with_mode, self.material(verify=verify), CtlFacts.read({}))
            self.assertIn(f"      WARNING: {line}\n", page)

    def test_rule_without_certificates(self) -> None:
        """So is the one about a rule that never holds."""
        (line,) = settings(access=[{"may": "read", "subject": "*"}]).warnings
        self.assertIn(f"`{line}`", text_of(CONFIGURATION))

    def test_wrong(self) -> None:
        """So is the one about a value that is wrong."""
        self.assertIn(f"`patroni: {error_of(limits={'head': 0})}`", text_of(CONFIGURATION))


class LinkTests(SynchronousTestCase):
    """Links from page to page."""

    def test_targets(self) -> None:
        """Each link leads to a file, and to a heading in it."""
        for page in PAGES:
            for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text_of(page)):
                name, _, anchor = target.partition("#")
                other = page.parent / name if name else page
                self.assertTrue(other.is_file(), f"{page.name}: {target}")
                if anchor:
                    self.assertIn(anchor, self.anchors(other), f"{page.name}: {target}")

    def anchors(self, page: Path) -> set[str]:
        """Return the anchors of a page's headings, as its readers' programs make them."""
        headings = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
        return {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}

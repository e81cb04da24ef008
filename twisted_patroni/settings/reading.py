"""Typed values out of a section of the configuration; every error names its key."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Collection, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, TypeVar

from attrs import field, frozen

Network = IPv4Network | IPv6Network

_Member = TypeVar("_Member", bound=enum.Enum)
_Number = TypeVar("_Number", int, float)

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TRUE = frozenset({"true", "on", "yes", "1"})
_FALSE = frozenset({"false", "off", "no", "0"})
_NETWORKS = "networks or addresses (one or a list)"


class SettingsError(ValueError):
    """A setting is missing or wrong; the text is one line that names the key."""


@frozen
class Section:
    """A mapping in the configuration, and where it is.

    What is ``null`` there counts as absent. Numbers and truth values may be texts, as environment
    variables are.

    :param name: the path of its key, as ``restapi.endpoints[1]``.
    :param values: what is in it.
    :param warnings: what the operator should know; shared with the sections below it.
    """

    name: str
    values: Mapping[Any, Any] = field(repr=False)
    warnings: list[str] = field(factory=list, repr=False)

    def has(self, key: str) -> bool:
        """Tell whether there is something under a key that is neither ``null`` nor empty text.

        :param key: the key.
        """
        return self.values.get(key) not in (None, "")

    def wrong(self, key: str, expected: str) -> SettingsError:
        """Return the error for a key whose value is not what is expected.

        :param key: the key.
        :param expected: what would be right.
        """
        value = self.values.get(key)
        got = "it is missing" if value is None else f"got {value!r}"
        return SettingsError(f"{self.name}.{key}: expected {expected}, but {got}")

    def warn(self, key: str, text: str) -> None:
        """Have the operator told of something about a key.

        :param key: the key.
        :param text: half a sentence.
        """
        self.warnings.append(f"{self.name}.{key}: {text}")

    def refuse_unknown(self, known: Collection[str]) -> None:
        """Accept no other keys than these.

        :param known: the keys.
        """
        for key in self.values:
            if key not in known:
                names = ", ".join(known)
                raise SettingsError(f"{self.name}: unknown key {key!r}; the keys are {names}")

    def boolean(self, key: str, default: bool = False) -> bool:
        """Return a truth value, in any of YAML's spellings.

        :param key: the key.
        :param default: the value if there is none.
        """
        value = self.values.get(key)
        if value is None:
            return default
        word = str(value).lower()
        if word in _TRUE | _FALSE:
            return word in _TRUE
        raise self.wrong(key, "true or false")

    def integer(self, key: str, low: int, high: int) -> int | None:
        """Return a whole number, or ``None`` if there is none.

        :param key: the key.
        :param low: the least that is accepted.
        :param high: the most.
        """
        return self._number(key, int, "a whole number", low, high, f"{low} to {high}")

    def seconds(self, key: str, low: float, high: float) -> float | None:
        """Return a duration, or ``None`` if there is none.

        :param key: the key.
        :param low: the least that is accepted.
        :param high: the most.
        """
        expected = f"{low:g} to {high:g} seconds"
        return self._number(key, float, expected, low, high, expected)

    def _number(
        self,
        key: str,
        kind: Callable[[str], _Number],
        wanted: str,
        low: _Number,
        high: _Number,
        span: str,
    ) -> _Number | None:
        value = self.values.get(key)
        if value is None:
            return None
        try:
            number = kind(str(value))
        except ValueError as error:
            raise self.wrong(key, wanted) from error
        if not low <= number <= high:  # so is what is no number ("nan")
            raise self.wrong(key, span)
        return number

    def text(self, key: str, expected: str, secret: bool = False) -> str | None:
        """Return a text, or ``None`` if there is none; an empty one counts as none.

        :param key: the key.
        :param expected: what the text should be.
        :param secret: leave the value out of the error.
        """
        if not self.has(key):
            return None
        value = self.values[key]
        if isinstance(value, str) and "\0" not in value:
            return value
        if secret:
            raise SettingsError(f"{self.name}.{key}: expected {expected}, but got something else")
        raise self.wrong(key, expected)

    def condition(self, key: str, expected: str) -> str | None:
        """Return a text, or ``None`` if its key is absent; empty or ``null`` is an error.

        It is for what narrows something: without its value it would count for more than meant.

        :param key: the key.
        :param expected: what the text should be.
        """
        if key not in self.values:
            return None
        text = self.text(key, expected)
        if text is None:
            raise self.wrong(key, expected)
        return text

    def choice(self, key: str, members: type[_Member], default: _Member | None = None) -> _Member:
        """Return the member of an enumeration with this name, in any case.

        :param key: the key.
        :param members: the enumeration.
        :param default: the member if there is no name; without it, there must be one.
        """
        if default is not None and not self.has(key):
            return default
        words = {name.lower(): member for name, member in members.__members__.items()}
        value = self.values.get(key)
        if isinstance(value, str) and value.lower() in words:
            return words[value.lower()]
        *others, last = words
        raise self.wrong(key, f"{', '.join(others)} or {last}")

    def networks(self, key: str) -> tuple[Network, ...]:
        """Return one or several networks or addresses; nothing if the key is absent.

        :param key: the key.
        """
        if key not in self.values:
            return ()
        value = self.values[key]
        entries = value if isinstance(value, list) else [value]
        if not entries or not all(isinstance(entry, str) for entry in entries):
            raise self.wrong(key, _NETWORKS)
        try:
            return tuple(network(entry) for entry in entries)
        except ValueError as error:
            raise self.wrong(key, _NETWORKS) from error

    def headers(self, key: str) -> tuple[tuple[str, str], ...]:
        """Return header names and values.

        :param key: the key.
        """
        value = self.values.get(key)
        if not value:
            return ()
        if not isinstance(value, Mapping):
            raise SettingsError(f"{self.name}.{key}: expected a mapping of header names to values")
        headers = []
        for name, content in value.items():
            text = str(content)
            if not _TOKEN.fullmatch(str(name)):
                raise SettingsError(f"{self.name}.{key}: {name!r} is not a header name")
            # A line break here would let a configuration value add headers, or a whole reply.
            if any(character in text for character in "\r\n\0"):
                raise SettingsError(
                    f"{self.name}.{key}.{name}: a header value cannot hold a line break"
                )
            headers.append((str(name), text))
        return tuple(headers)

    def section(self, key: str) -> Section:
        """Return the mapping under a key; an empty one if there is none.

        :param key: the key.
        """
        value = self.values.get(key)
        if value is None:
            value = {}
        return self._below(f"{self.name}.{key}", value)

    def sections(self, key: str) -> list[Section] | None:
        """Return the mappings in a list; ``None`` if there is no list.

        :param key: the key.
        """
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, list):
            raise self.wrong(key, "a list of mappings")
        return [self._below(f"{self.name}.{key}[{n}]", entry) for n, entry in enumerate(value)]

    def _below(self, name: str, value: object) -> Section:
        if not isinstance(value, Mapping):
            # The value is not shown: what should hold the users' hashes is read here, too.
            raise SettingsError(f"{name}: expected a mapping, but got a {type(value).__name__}")
        return Section(name, value, self.warnings)


def network(text: str) -> Network:
    """Return a network, or an address as a network of one.

    An IPv4 network in IPv6's spelling is the IPv4 network, as clients' addresses are compared.

    :param text: the network, maybe with host bits.
    :raise ValueError: if it is none.
    """
    found = ip_network(text.strip(), strict=False)
    mapped = found.network_address.ipv4_mapped if isinstance(found, IPv6Network) else None
    if mapped is None or found.prefixlen < 96:
        return found
    return ip_network((mapped, found.prefixlen - 96))

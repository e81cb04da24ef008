"""Patroni's own configuration, as far as a client needs it: read as patronictl reads it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from attrs import frozen

from twisted_patroni.client.asking import Login
from twisted_patroni.client.tls import TlsFiles

if TYPE_CHECKING:
    from os import PathLike

#: Where a node is that does not say where it is.
DEFAULT_URL = "http://127.0.0.1:8008"

_TRUE = frozenset({"true", "on", "yes", "1"})
_FALSE = frozenset({"false", "off", "no", "0", "none"})
_EVERYWHERE = ("", "*", "0.0.0.0", "::")


class ConfigurationError(ValueError):
    """Patroni's configuration cannot be right; one line that names the file and the key.

    >>> ClientSettings.from_patroni("missing.yml")
    Traceback (most recent call last):
    twisted_patroni.client.configuration.ConfigurationError: cannot read missing.yml: ...
    """


@frozen
class Configuration:
    """Patroni's configuration: the section ``ctl``, and ``restapi`` where that says nothing.

    :param name: what it is called in errors: where it is.
    :param document: its content.
    :param environ: the environment, whose variables go before.
    """

    name: str
    document: Mapping[str, Any]
    environ: Mapping[str, str]

    @classmethod
    def found(cls, given: str | None, environ: Mapping[str, str], home: Path) -> Configuration:
        """Read the file that was named, or the one that patronictl would read; blocks.

        :param given: the name, ``None`` for patronictl's own, which need not exist.
        :param environ: the environment.
        :param home: the user's home directory.
        :raise ConfigurationError: if it cannot be read.
        """
        named = given or environ.get("PATRONICTL_CONFIG_FILE")
        if named:
            return cls.of(named, environ)
        directory = environ.get("XDG_CONFIG_HOME") or str(home / ".config")
        path = Path(directory, "patroni", "patronictl.yaml")
        return cls.of(path, environ) if path.exists() else cls(str(path), {}, environ)

    @classmethod
    def of(
        cls, source: str | PathLike[str] | Mapping[str, Any], environ: Mapping[str, str]
    ) -> Configuration:
        """Read a file, which blocks, or take what was read already.

        :param source: the path of the file, or its content.
        :param environ: the environment.
        :raise ConfigurationError: if it cannot be read.
        """
        if isinstance(source, Mapping):
            return cls("Patroni's configuration", source, environ)
        try:
            content = Path(source).read_bytes()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigurationError(f"cannot read {source}: {reason}") from error
        return cls(str(source), _parsed(str(source), content), environ)

    @classmethod
    def loaded(
        cls,
        source: Configuration | str | PathLike[str] | Mapping[str, Any] | None,
        environ: Mapping[str, str] | None = None,
    ) -> Configuration:
        """Read what a program names, or what patronictl would read for it; may block.

        :param source: the file, or its content; ``None`` for patronictl's own.
        :param environ: the environment, by default that of this process.
        :raise ConfigurationError: if it cannot be read.
        """
        if isinstance(source, Configuration):
            return source
        variables = os.environ if environ is None else environ
        if source is None:
            return cls.found(None, variables, Path.home())
        return cls.of(source, variables)

    def section(self, name: str) -> Mapping[str, Any]:
        """Return a section, empty if it is not there.

        :param name: its name.
        """
        found = self.document.get(name)
        if found is not None and not isinstance(found, Mapping):
            raise self._wrong(name, "is not a section with keys")
        return found or {}

    def text(self, section: str, key: str) -> str | None:
        """Return a text, of the environment or the file.

        :param section: the section.
        :param key: the key.
        """
        name = f"PATRONI_{section}_{key}".upper()
        value = self.environ.get(name) or self.section(section).get(key)
        if value is None or value == "":
            return None
        if isinstance(value, Mapping | list):
            raise self._wrong(f"{section}.{key}", "is not a text")
        return str(value)

    def insecure(self) -> bool:
        """Tell whether certificates are not to be verified."""
        word = (self.text("ctl", "insecure") or "false").lower()
        if word not in _TRUE | _FALSE:
            raise self._wrong("ctl.insecure", "is neither true nor false")
        return word in _TRUE

    def tls(self) -> TlsFiles:
        """Return whom to trust, and what to show."""
        certfile = self.text("ctl", "certfile")
        return TlsFiles(
            cafile=self.text("ctl", "cacert") or self.text("restapi", "cafile"),
            certfile=certfile,
            # Without a certificate patronictl leaves the key alone, too.
            keyfile=None if certfile is None else self.text("ctl", "keyfile"),
            keyfile_password=self.text("ctl", "keyfile_password"),
            insecure=self.insecure(),
        )

    def login(self) -> Login | None:
        """Return who asks: by the section ``ctl``, or by ``restapi``."""
        for section in ("ctl", "restapi"):
            user, password = (self._proof(section, key) for key in ("username", "password"))
            if user is not None and password is not None:
                return Login(user, password)
            user, colon, password = (self.text(section, "auth") or "").partition(":")
            if colon:
                return Login(user, password)
        return None

    def _proof(self, section: str, key: str) -> str | None:
        values = self.section(section).get("authentication") or {}
        if not isinstance(values, Mapping):
            raise self._wrong(f"{section}.authentication", "has no keys")
        value = self.environ.get(f"PATRONI_{section}_{key}".upper()) or values.get(key)
        if isinstance(value, Mapping | list):
            raise self._wrong(f"{section}.authentication.{key}", "is not a text")
        if value is None and values:
            raise self._wrong(f"{section}.authentication.{key}", "is missing")
        return None if value is None else str(value)

    def url(self) -> str:
        """Return where the API of this machine's node is."""
        for key in ("connect_address", "listen"):
            address = self.text("restapi", key)
            if address is not None:
                break
        else:
            return DEFAULT_URL
        hosts, _, port = address.rpartition(":")
        if not port.isdecimal():
            raise self._wrong(f"restapi.{key}", "is not HOST:PORT")
        host = hosts.split(",")[0].strip().strip("[]")
        host = "127.0.0.1" if host in _EVERYWHERE else host
        scheme = "https" if self.text("restapi", "certfile") else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"

    def _wrong(self, key: str, reason: str) -> ConfigurationError:
        return ConfigurationError(f"{self.name}: {key} {reason}")


def _parsed(name: str, content: bytes) -> Mapping[str, Any]:
    try:
        document = yaml.safe_load(content)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # The first words are enough, and what follows may show a part of the file.
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f", line {mark.line + 1}"
        raise ConfigurationError(f"{name}{where}: this is not YAML") from None
    if document is not None and not isinstance(document, dict):
        raise ConfigurationError(f"{name}: this is not a configuration of Patroni")
    return document or {}

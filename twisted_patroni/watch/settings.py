"""What the command is to do: from its options, the environment and Patroni's configuration."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from attrs import frozen

from twisted_patroni.client.asking import AddressError, Login, base_url
from twisted_patroni.client.tls import TlsFiles

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

DEFAULT_URL = "http://127.0.0.1:8008"
TYPES = ("leader", "member", "node", "cluster", "config", "operation", "history")
#: Seconds until the command gives up where nobody looks on.
TIMEOUT = 30.0

_POSITION = re.compile(r"[0-9]{1,18}(\.[0-9A-Za-z_-]{1,64})?")
_TRUE = frozenset({"true", "on", "yes", "1"})
_FALSE = frozenset({"false", "off", "no", "0", "none"})


class CannotWatch(Exception):
    """The options cannot be right, or nothing can be watched; the text is one line."""


@frozen
class Wanted:
    """What is to be watched, and how.

    :param urls: where to begin.
    :param tls: how to speak TLS.
    :param login: who asks.
    :param types: the types of events; none for all.
    :param after: the position to begin after.
    :param timeout: seconds until the first attempts are given up; ``None`` for never.
    :param shape: ``screen``, ``lines`` or ``json``.
    """

    urls: tuple[str, ...]
    tls: TlsFiles
    login: Login | None
    types: frozenset[str]
    after: str | None
    timeout: float | None
    shape: str


@frozen
class Surroundings:
    """What the command finds around it.

    :param environ: the environment.
    :param home: the user's home directory.
    :param is_terminal: the output is shown on a terminal.
    :param ask: asks for a password with this prompt; ``None`` if nobody is there to be asked.
    """

    environ: Mapping[str, str]
    home: Path
    is_terminal: bool
    ask: Callable[[str], str] | None = None


def wanted(options: argparse.Namespace, around: Surroundings) -> Wanted:
    """Find out what to do; blocks.

    :param options: the parsed options.
    :param around: what else counts.
    :raise CannotWatch: if something cannot be right.
    """
    config = _Config.found(options.config_file, around)
    shape = "json" if options.json else "lines"
    if around.is_terminal and not options.json and not options.lines:
        shape = "screen"
    if options.after is not None and shape == "screen":
        raise CannotWatch("--after is for --lines and --json: a screen begins with what is now")
    if options.after is not None and not _POSITION.fullmatch(options.after):
        raise CannotWatch(f"--after: {options.after!r} is not NUMBER or NUMBER.STREAM")
    try:
        urls = tuple(dict.fromkeys(map(base_url, options.urls or [config.url()])))
    except AddressError as error:
        raise CannotWatch(str(error)) from None
    return Wanted(
        urls=urls,
        tls=TlsFiles(
            cafile=options.cacert or config.ctl("cacert") or config.text("restapi", "cafile"),
            certfile=options.cert or config.ctl("certfile"),
            keyfile=options.key or (None if options.cert else config.ctl("keyfile")),
            keyfile_password=config.ctl("keyfile_password"),
            insecure=options.insecure or config.insecure(),
        ),
        login=_login(options.user, config, around),
        types=_types(options.types),
        after=options.after,
        timeout=_timeout(options.timeout, None if shape == "screen" else TIMEOUT),
        shape=shape,
    )


def _types(given: str | None) -> frozenset[str]:
    names = [] if given is None else [each.strip() for each in given.split(",")]
    for name in names:
        if name not in TYPES:
            raise CannotWatch(f"--types: {name!r} is none of {', '.join(TYPES)}")
    return frozenset(names)


def _timeout(given: str | None, default: float | None) -> float | None:
    if given is None:
        return default
    try:
        seconds = float(given)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= 1e6:
        raise CannotWatch(f"--timeout: {given!r} is not a number of seconds above 0")
    return seconds


def _login(user: str | None, config: _Config, around: Surroundings) -> Login | None:
    configured = config.login()
    if user is None:
        return configured
    if ":" in user or not user.isprintable() or not user:
        raise CannotWatch(
            "--user takes the name alone, which has no colon; the password is asked"
            " for, or is in PATRONI_RESTAPI_PASSWORD"
        )
    password = around.environ.get("PATRONI_RESTAPI_PASSWORD")
    if password is None and configured is not None and configured.user == user:
        return configured
    if password is None and around.ask is not None:
        try:
            password = around.ask(f"Password of {user}: ")
        except (EOFError, OSError, UnicodeError):
            password = None
    if password is None:
        raise CannotWatch(f"--user: there is no password for {user}: set PATRONI_RESTAPI_PASSWORD")
    return Login(user, password)


@frozen
class _Config:
    """Patroni's configuration, as far as a client needs it.

    :param path: where it is, for errors.
    :param document: its content.
    :param environ: the environment, whose variables go before.
    """

    path: str
    document: Mapping[str, Any]
    environ: Mapping[str, str]

    @classmethod
    def found(cls, given: str | None, around: Surroundings) -> _Config:
        """Read the file that was named, or the one that patronictl would read."""
        named = given or around.environ.get("PATRONICTL_CONFIG_FILE")
        directory = around.environ.get("XDG_CONFIG_HOME") or str(around.home / ".config")
        path = Path(named) if named else Path(directory, "patroni", "patronictl.yaml")
        try:
            content = path.read_bytes()
        except (OSError, ValueError) as error:
            if not named:
                return cls(str(path), {}, around.environ)
            reason = getattr(error, "strerror", None) or error
            raise CannotWatch(f"cannot read {path}: {reason}") from error
        try:
            document = yaml.safe_load(content)
        except (yaml.YAMLError, UnicodeError, RecursionError) as error:
            # The first words are enough, and what follows may show a part of the file.
            mark = getattr(error, "problem_mark", None)
            where = "" if mark is None else f", line {mark.line + 1}"
            raise CannotWatch(f"{path}{where}: this is not YAML") from None
        if document is not None and not isinstance(document, dict):
            raise CannotWatch(f"{path}: this is not a configuration of Patroni")
        return cls(str(path), document or {}, around.environ)

    def section(self, name: str) -> Mapping[str, Any]:
        """Return a section."""
        found = self.document.get(name)
        if found is not None and not isinstance(found, dict):
            raise CannotWatch(f"{self.path}: {name} is not a section with keys")
        return found or {}

    def text(self, section: str, key: str) -> str | None:
        """Return a text, of the environment or the file."""
        value = self.environ.get(f"PATRONI_{section}_{key}".upper()) or self.section(section).get(
            key
        )
        if value is None or value == "":
            return None
        if isinstance(value, dict | list):
            raise CannotWatch(f"{self.path}: {section}.{key} is not a text")
        return str(value)

    def ctl(self, key: str) -> str | None:
        """Return a text of the section ``ctl``."""
        return self.text("ctl", key)

    def insecure(self) -> bool:
        """Tell whether certificates are not to be verified."""
        word = (self.ctl("insecure") or "false").lower()
        if word not in _TRUE | _FALSE:
            raise CannotWatch(f"{self.path}: ctl.insecure is neither true nor false")
        return word in _TRUE

    def login(self) -> Login | None:
        """Return who asks: by the section ``ctl``, or by ``restapi``."""
        for section in ("ctl", "restapi"):
            values = self.section(section).get("authentication") or {}
            if not isinstance(values, dict):
                raise CannotWatch(f"{self.path}: {section}.authentication has no keys")
            prefix = f"PATRONI_{section}_".upper()
            user, password = (
                self.environ.get(prefix + key.upper()) or values.get(key)
                for key in ("username", "password")
            )
            if user is not None and password is not None:
                return Login(str(user), str(password))
        return None

    def url(self) -> str:
        """Return where the API of this machine's node is."""
        address = self.text("restapi", "connect_address") or self.text("restapi", "listen")
        if address is None:
            return DEFAULT_URL
        hosts, _, port = address.rpartition(":")
        host = hosts.split(",")[0].strip()
        if host in ("", "*", "0.0.0.0", "[::]", "::"):
            host = "127.0.0.1"
        scheme = "https" if self.text("restapi", "certfile") else "http"
        return f"{scheme}://{host}:{port}"

"""Who is told of events over HTTP: ``restapi.webhooks``, a list of receivers."""

from __future__ import annotations

import base64
import binascii
import re
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from attrs import field, frozen

from twisted_patroni.settings.reading import SettingsError

if TYPE_CHECKING:
    from twisted_patroni.settings.reading import Section

#: What can be told of.
EVENTS = ("leader", "cluster", "member", "node", "config", "history", "operation")
#: What is told of unless something else is said: operations name users and addresses.
DEFAULT_EVENTS = frozenset(EVENTS) - {"operation"}
#: All keys of a webhook.
KEYS = (
    "url",
    "name",
    "events",
    "secret",
    "timeout",
    "retries",
    "queue",
    "cafile",
    "certfile",
    "keyfile",
    "keyfile_password",
)
#: How many receivers there may be.
MOST = 20

_PRINTABLE = re.compile(r"[!-~]+")
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
_PORTS = {"http": 80, "https": 443}
_LEAST_SECRET = 16
_PREFIX = "whsec_"
_TLS = ("cafile", "certfile", "keyfile", "keyfile_password")


@frozen
class WebhookSettings:
    """A receiver of events.

    :param key: where the configuration has it, as ``restapi.webhooks[0]``; of no consequence for
        whether it is the same.
    :param url: where events are sent; its path and query may hold what nobody else should know.
    :param name: what log and metrics call it.
    :param host: the host in the URL, an IPv6 address without brackets.
    :param port: the port in the URL, or the scheme's.
    :param events: the types of events that are sent.
    :param secret: signs what is sent.
    :param timeout: seconds that one attempt may take.
    :param retries: attempts after the first one.
    :param queue: events that may wait.
    :param cafile: PEM file with the authorities of the receiver; ``None`` for the system's.
    :param certfile: PEM file with the certificate to show to it, and what leads to its authority.
    :param keyfile: PEM file with its key; ``None`` if it is in ``certfile``.
    :param keyfile_password: decrypts the key.
    """

    key: str = field(eq=False)
    url: str = field(repr=False)
    name: str
    host: str
    port: int
    events: frozenset[str] = DEFAULT_EVENTS
    secret: bytes | None = field(default=None, repr=False)
    timeout: float = 5.0
    retries: int = 8
    queue: int = 1000
    cafile: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    keyfile_password: str | None = field(default=None, repr=False)

    @property
    def tls(self) -> bool:
        """Whether the receiver speaks TLS."""
        return self.url.startswith("https:")


def read_webhooks(section: Section) -> tuple[WebhookSettings, ...]:
    """Read who is told of events.

    :param section: the ``restapi`` section.
    """
    hooks: dict[str, WebhookSettings] = {}
    value = section.values.get("webhooks")
    if not isinstance(value, list | None):  # a URL would not be shown, either
        kind = type(value).__name__
        raise SettingsError(f"{section.name}.webhooks: expected a list of mappings, not a {kind}")
    entries = section.sections("webhooks") or ()
    if len(entries) > MOST:
        raise SettingsError(f"{section.name}.webhooks: expected no more than {MOST}")
    for entry in entries:
        hook = _read_webhook(entry)
        if hook.name in hooks:
            raise SettingsError(
                f"{entry.name}.name: {hook.name!r} is there twice; give each webhook a name of its"
                " own"
            )
        hooks[hook.name] = hook
    return tuple(hooks.values())


def _read_webhook(section: Section) -> WebhookSettings:
    section.refuse_unknown(KEYS)
    url, parts, port = _read_url(section)
    given = [key for key in _TLS if section.has(key)]
    if given and parts.scheme != "https":
        raise SettingsError(f"{section.name}.{given[0]}: has no effect, for the url is not https")
    certfile = section.text("certfile", "a path")
    if certfile is None and {"keyfile", "keyfile_password"} & set(given):
        raise SettingsError(f"{section.name}.certfile: expected a path, but it is missing")
    timeout = section.seconds("timeout", 0.5, 60.0)
    retries = section.integer("retries", 0, 20)
    queue = section.integer("queue", 1, 100_000)
    return WebhookSettings(
        key=section.name,
        url=url,
        name=_read_name(section) or f"{_bracketed(parts)}:{port}{parts.path or '/'}",
        host=parts.hostname or "",
        port=port,
        events=_read_events(section),
        secret=_read_secret(section),
        timeout=5.0 if timeout is None else timeout,
        retries=8 if retries is None else retries,
        queue=1000 if queue is None else queue,
        cafile=section.text("cafile", "a path"),
        certfile=certfile,
        keyfile=section.text("keyfile", "a path"),
        keyfile_password=section.text("keyfile_password", "text (in quotes)", secret=True),
    )


def _read_url(section: Section) -> tuple[str, SplitResult, int]:
    """Return the URL, its parts, and its port; no error shows it, for it may hold a token."""
    key = f"{section.name}.url"
    if not section.has("url"):
        raise SettingsError(f"{key}: expected an http or https URL, but it is missing")
    url = section.text("url", "an http or https URL", secret=True) or ""
    if not _PRINTABLE.fullmatch(url):
        raise SettingsError(
            f"{key}: expected an http or https URL in ASCII without spaces; names have their"
            " xn-- form, other characters are percent-encoded"
        )
    try:
        parts = urlsplit(url)
        port = parts.port
        host = parts.hostname or ""
    except ValueError as error:
        raise SettingsError(
            f"{key}: expected an http or https URL, but host or port is none"
        ) from error
    if parts.scheme not in _PORTS:
        raise SettingsError(f"{key}: expected a URL that begins with http:// or https://")
    if "@" in parts.netloc:
        raise SettingsError(
            f"{key}: no user and password can be in the URL; with secret what is sent is signed,"
            " with certfile the receiver knows who sends it"
        )
    if not _is_host(host) or port == 0 or ("[" in parts.netloc) != (":" in host):
        raise SettingsError(f"{key}: expected an http or https URL with a host name or an address")
    if "#" in url:
        raise SettingsError(f"{key}: expected a URL without a fragment (#)")
    return parts.geturl(), parts, port or _PORTS[parts.scheme]


def _is_host(host: str) -> bool:
    if ":" not in host:
        return len(host) <= 253 and _HOST.fullmatch(host) is not None
    try:
        return isinstance(ip_address(host), IPv6Address) and "%" not in host
    except ValueError:
        return False


def _bracketed(parts: SplitResult) -> str:
    host = parts.hostname or ""
    return f"[{host}]" if ":" in host else host


def _read_name(section: Section) -> str | None:
    expected = "1 to 100 printable characters"
    name = section.condition("name", expected)
    if name is not None and not (len(name) <= 100 and name.isprintable()):
        raise section.wrong("name", expected)
    return name


def _read_events(section: Section) -> frozenset[str]:
    if "events" not in section.values:
        return DEFAULT_EVENTS
    value = section.values["events"]
    entries = value if isinstance(value, list) else [value]
    if not entries or not all(isinstance(entry, str) and entry in EVENTS for entry in entries):
        raise section.wrong("events", f"{', '.join(EVENTS)} or a list of these")
    return frozenset(entries)


def _read_secret(section: Section) -> bytes | None:
    """Return the key that a secret stands for, as libraries for webhooks understand secrets."""
    expected = (
        f"{_PREFIX} and the base64 of {_LEAST_SECRET} bytes or more, or a text of at least"
        f" {_LEAST_SECRET} characters"
    )
    wrong = SettingsError(f"{section.name}.secret: expected {expected}, but got something else")
    if "secret" not in section.values:
        return None
    text = section.text("secret", expected, secret=True)
    if text is None:  # who meant to sign must not send without a signature
        raise wrong
    try:
        key = text.encode()
        if text.startswith(_PREFIX):
            key = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise wrong from error
    if len(key if text.startswith(_PREFIX) else text) < _LEAST_SECRET:
        raise wrong
    return key

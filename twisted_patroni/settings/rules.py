"""Who may do what: ``restapi.access``, ``restapi.users`` and ``restapi.protect_reads``."""

from __future__ import annotations

import enum
import re
from typing import TYPE_CHECKING, Any

from attrs import frozen

from twisted_patroni.settings.reading import SettingsError

if TYPE_CHECKING:
    from collections.abc import Collection

    from twisted_patroni.settings.reading import Network, Section

#: Base64 without padding, whose length is never one more than a multiple of four; at least the
#: salt and the hash that RFC 9106 and libraries ask for (8 and 16 bytes).
_HASH = re.compile(
    r"\$argon2id\$v=19\$m=(?P<m>[1-9]\d{0,6}),t=(?P<t>[1-9]\d?),p=(?P<p>[1-9]\d?)"
    r"\$(?P<salt>[A-Za-z0-9+/]{11,86})\$(?P<hash>[A-Za-z0-9+/]{22,86})",
    re.ASCII,
)
#: What one attempt to log in may cost: KiB of memory, passes over it, and lanes.
_MOST = {"m": 262144, "t": 10, "p": 16}


class Right(enum.Enum):
    """What a rule can allow; ``all`` in the configuration stands for each of them."""

    #: Look at the cluster, where ``restapi.protect_reads`` asks for a right to do so.
    READ = "read"
    #: Switchover, failover, restart, reinitialize.
    OPERATE = "operate"
    #: Change the dynamic configuration, and reload this node's.
    CONFIGURE = "configure"


@frozen
class Rule:
    """Some clients and what they may do. All conditions that are given must hold.

    Patterns are shell patterns (``*``, ``?``, ``[...]``) and mind upper and lower case.

    :param may: what it allows.
    :param subject: pattern of the client certificate's subject (RFC 4514, as ``CN=backup,O=dba``).
    :param san: pattern of one of its alternative names, as ``DNS:*.ops.example.com``,
        ``IP:10.0.0.7``, ``email:a@example.com``, ``URI:spiffe://x/y``.
    :param user: the user of basic authentication.
    :param networks: the client's address is in one of these.
    """

    may: frozenset[Right]
    subject: str | None = None
    san: str | None = None
    user: str | None = None
    networks: tuple[Network, ...] = ()


def read_users(section: Section, taken: str | None) -> dict[str, str]:
    """Read the hashes of passwords by user; they are checked in form, and never shown.

    :param section: ``restapi.users``.
    :param taken: the user of ``restapi.authentication``.
    """
    users: dict[str, str] = {}
    for name, hashed in section.values.items():
        if not isinstance(name, str) or not name or ":" in name or not name.isprintable():
            raise SettingsError(
                f"{section.name}: expected names without colons and control characters,"
                f" but got {name!r}"
            )
        if name == taken:
            raise SettingsError(
                f"{section.name}.{name}: restapi.authentication has a user of this name"
            )
        if not isinstance(hashed, str) or not _is_hash(hashed):
            most = ", ".join(f"{key} <= {value}" for key, value in _MOST.items())
            raise SettingsError(
                f"{section.name}.{name}: expected an Argon2id hash in PHC's format, as"
                f" $argon2id$v=19$m=19456,t=2,p=1$SALT$HASH ({most}), but got something else"
            )
        users[name] = hashed
    return users


def _is_hash(text: str) -> bool:
    match = _HASH.fullmatch(text)
    return (
        match is not None
        and all(int(match[key]) <= most for key, most in _MOST.items())
        and int(match["m"]) >= 8 * int(match["p"])
        and all(len(match[key]) % 4 != 1 for key in ("salt", "hash"))
    )


def read_rules(section: Section, users: Collection[str]) -> tuple[Rule, ...] | None:
    """Read who may do what; ``None`` if there are no rules, which is not the same as an empty list.

    :param section: the ``restapi`` section.
    :param users: everybody who has a password.
    """
    entries = section.sections("access")
    return None if entries is None else tuple(_read_rule(entry, users) for entry in entries)


def _read_rule(section: Section, users: Collection[str]) -> Rule:
    section.refuse_unknown(("may", "subject", "san", "user", "network"))
    rule = Rule(
        may=_read_rights(section),
        subject=section.condition("subject", "a pattern of a certificate's subject"),
        san=section.condition("san", "a pattern of a certificate's alternative name"),
        user=section.condition("user", "the name of a user"),
        networks=section.networks("network"),
    )
    if not (rule.subject or rule.san or rule.user or rule.networks):
        raise SettingsError(
            f"{section.name}: expected one or more of subject, san, user and network"
        )
    if rule.user is not None and rule.user not in users:
        raise SettingsError(
            f"{section.name}.user: {rule.user!r} is neither in restapi.users nor the one of"
            " restapi.authentication"
        )
    return rule


def _read_rights(section: Section) -> frozenset[Right]:
    words = {right.value: frozenset({right}) for right in Right}
    words["all"] = frozenset(Right)
    value = section.values.get("may")
    given: list[Any] = value if isinstance(value, list) else [value]
    try:
        rights: frozenset[Right] = frozenset().union(*(words[word] for word in given))
    except (KeyError, TypeError):
        rights = frozenset()
    if not rights:
        raise section.wrong("may", f"{', '.join(words)} or a list of these")
    return rights

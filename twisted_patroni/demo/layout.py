"""Where everything of a demonstration cluster is, and what its nodes are told: pure values."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attrs import Factory, frozen

if TYPE_CHECKING:
    from pathlib import Path

POSTGRES_OFFSET = -2576
"""From a node's REST port to its PostgreSQL port: 8008 goes with 5432."""

RAFT_OFFSET = 1000
MAX_NODES = 9
MIN_BASE_PORT = 1024 - POSTGRES_OFFSET
MAX_BASE_PORT = 65535 - RAFT_OFFSET - MAX_NODES + 1
SOCKET_PATH_LIMIT = 107
"""Bytes that the address of a Unix socket may have on Linux."""

HOST = "127.0.0.1"
SUPERUSER = "postgres"
REPLICATOR = "replicator"
REST_USER = "demo"
AUTHORITY = "ca"
CLIENT = "client"
"""Whose certificate ``patronictl``, the nodes among themselves and the cluster class show."""


class CannotStart(Exception):
    """The cluster cannot start, or did not; the text is one line that says why."""


@frozen
class Keys:
    """The files, in PEM, for TLS: those of the authority, of each node and of the client.

    :param directory: where they are.
    """

    directory: Path

    def certificate(self, name: str) -> Path:
        """Return where a certificate is.

        :param name: whose: the authority's, the client's or a node's name.
        """
        return self.directory / f"{name}.pem"

    def key(self, name: str) -> Path:
        """Return where the key of a certificate is.

        :param name: whose.
        """
        return self.directory / f"{name}.key"


@frozen
class Place:
    """The addresses and files of one node.

    :param number: the node's number, from 1.
    :param directory: the cluster's directory, absolute.
    :param base_port: the REST port of node 1.
    :param tls: whether the REST API speaks TLS.
    """

    number: int
    directory: Path
    base_port: int
    tls: bool = False

    @property
    def name(self) -> str:
        """The node's name in the cluster."""
        return f"pg{self.number}"

    @property
    def home(self) -> Path:
        """The node's own directory."""
        return self.directory / self.name

    @property
    def data(self) -> Path:
        """PostgreSQL's data directory."""
        return self.home / "data"

    @property
    def config_file(self) -> Path:
        """The node's configuration, which ``patronictl`` takes too."""
        return self.home / "patroni.yml"

    @property
    def log_file(self) -> Path:
        """Where the daemon and PostgreSQL write their logs."""
        return self.home / "patroni.log"

    @property
    def passfile(self) -> Path:
        """The file from which libpq takes the superuser's password."""
        return self.directory / "pgpass"

    @property
    def keys(self) -> Keys:
        """The cluster's files for TLS; without TLS there are none."""
        return Keys(self.directory / "tls")

    @property
    def rest_port(self) -> int:
        """The port of the REST API."""
        return self.base_port + self.number - 1

    @property
    def postgres_port(self) -> int:
        """PostgreSQL's port."""
        return self.rest_port + POSTGRES_OFFSET

    @property
    def raft_port(self) -> int:
        """The port of the embedded raft."""
        return self.rest_port + RAFT_OFFSET

    @property
    def rest_url(self) -> str:
        """The REST API's address, without a slash at the end."""
        return f"{'https' if self.tls else 'http'}://{HOST}:{self.rest_port}"

    @property
    def conninfo(self) -> str:
        """What ``psql`` and psycopg take to connect to this node as superuser."""
        return (
            f"host={HOST} port={self.postgres_port} dbname=postgres user={SUPERUSER}"
            f" passfile={_conninfo_value(self.passfile)}"
        )

    @property
    def socket_directory(self) -> Path | None:
        """Where PostgreSQL puts its Unix socket, or ``None`` if the path would be too long."""
        path = self.home / f".s.PGSQL.{self.postgres_port}"
        return self.home if len(bytes(path)) <= SOCKET_PATH_LIMIT else None


def _conninfo_value(path: Path) -> str:
    text = str(path)
    if any(character in text for character in " '\\"):
        text = text.replace("\\", "\\\\").replace("'", "\\'")
        return f"'{text}'"
    return text


def places(directory: Path, nodes: int, base_port: int, *, tls: bool = False) -> tuple[Place, ...]:
    """Lay the nodes out.

    :param directory: the cluster's directory.
    :param nodes: how many nodes.
    :param base_port: the REST port of node 1.
    :param tls: whether the REST APIs speak TLS.
    """
    return tuple(Place(number, directory, base_port, tls) for number in range(1, nodes + 1))


def any_primary(nodes: tuple[Place, ...]) -> str:
    """Return what ``psql`` takes to reach the primary, whichever node that is.

    :param nodes: all nodes.
    """
    hosts = ",".join(HOST for _ in nodes)
    ports = ",".join(str(place.postgres_port) for place in nodes)
    return (
        f"host={hosts} port={ports} dbname=postgres user={SUPERUSER}"
        f" passfile={_conninfo_value(nodes[0].passfile)} target_session_attrs=read-write"
    )


def _password() -> str:
    return secrets.token_urlsafe(18)


@frozen
class Secrets:
    """What is made up once for a directory: passwords, and a name no other cluster has.

    :param superuser: password of PostgreSQL's superuser.
    :param replicator: password of the replication user.
    :param rest: password of the REST API's unsafe endpoints.
    :param raft: password between the raft members.
    :param namespace: the path of the cluster in the DCS, which directories may share.
    """

    superuser: str = Factory(_password)
    replicator: str = Factory(_password)
    rest: str = Factory(_password)
    raft: str = Factory(_password)
    namespace: str = Factory(lambda: f"/demo-{secrets.token_hex(4)}/")


def raft_section(place: Place, nodes: tuple[Place, ...], password: str) -> dict[str, Any]:
    """Return the DCS section for upstream's embedded raft.

    :param place: the node it is for.
    :param nodes: all nodes.
    :param password: the members' common password.
    """
    own = f"{HOST}:{place.raft_port}"
    partners = [f"{HOST}:{other.raft_port}" for other in nodes if other != place]
    return {
        "raft": {
            "data_dir": str(place.home / "raft"),
            "self_addr": own,
            "bind_addr": own,  # without it raft listens on all interfaces
            "partner_addrs": partners,
            "password": password,
        }
    }


def node_config(
    place: Place, bin_dir: Path, known: Secrets, dcs: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the configuration of one node, ready to be written as YAML.

    :param place: the node.
    :param bin_dir: where PostgreSQL's programs are.
    :param known: the directory's secrets.
    :param dcs: the DCS section, as ``{"etcd3": {...}}``.
    """
    rest_login = {"username": REST_USER, "password": known.rest}
    address = f"{HOST}:{place.rest_port}"
    config = {
        "scope": "demo",
        "namespace": known.namespace,
        "name": place.name,
        "log": {"level": "INFO"},
        "restapi": {
            "listen": address,
            "connect_address": address,
            "authentication": dict(rest_login),
        },
        "ctl": {"authentication": dict(rest_login)},
        **dcs,
        "bootstrap": _bootstrap_section(),
        "postgresql": _postgresql_section(place, bin_dir, known),
        "watchdog": {"mode": "off"},
        "tags": {"nofailover": False, "noloadbalance": False, "clonefrom": False, "nosync": False},
    }
    return merged(config, _tls_sections(place)) if place.tls else config


def _tls_sections(place: Place) -> dict[str, Any]:
    keys = place.keys
    authority = str(keys.certificate(AUTHORITY))
    return {
        "restapi": {
            "certfile": str(keys.certificate(place.name)),
            "keyfile": str(keys.key(place.name)),
            "cafile": authority,
            "verify_client": "optional",
        },
        "ctl": {
            "cacert": authority,
            "certfile": str(keys.certificate(CLIENT)),
            "keyfile": str(keys.key(CLIENT)),
        },
    }


def _bootstrap_section() -> dict[str, Any]:
    return {
        "dcs": {
            # The shortest lease that upstream accepts, so that one can watch a failover happen;
            # loop_wait + 2 * retry_timeout stays below it, as upstream demands.
            "ttl": 20,
            "loop_wait": 5,
            "retry_timeout": 5,
            "maximum_lag_on_failover": 1048576,
            "postgresql": {
                "use_pg_rewind": True,
                "use_slots": True,
                "parameters": {"max_connections": 50, "shared_buffers": "32MB"},
            },
        },
        "initdb": [
            "data-checksums",
            {"encoding": "UTF8"},
            {"locale": "C"},
            {"auth": "scram-sha-256"},
        ],
    }


def _postgresql_section(place: Place, bin_dir: Path, known: Secrets) -> dict[str, Any]:
    address = f"{HOST}:{place.postgres_port}"
    sockets = place.socket_directory
    return {
        "listen": address,
        "connect_address": address,
        "data_dir": str(place.data),
        "bin_dir": str(bin_dir),
        "pgpass": str(place.home / "pgpass"),
        "use_unix_socket": sockets is not None,
        "authentication": {
            "superuser": {"username": SUPERUSER, "password": known.superuser},
            "replication": {"username": REPLICATOR, "password": known.replicator},
        },
        "pg_hba": [
            "local all all scram-sha-256",
            f"host all all {HOST}/32 scram-sha-256",
            f"host replication {REPLICATOR} {HOST}/32 scram-sha-256",
        ],
        "parameters": {"unix_socket_directories": str(sockets) if sockets else ""},
    }


def merged(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with some of its values replaced, at any depth.

    :param base: the configuration.
    :param overrides: what to replace: sections are merged, all other values replace.
    """
    result = dict(base)
    for key, value in overrides.items():
        old = result.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        result[key] = merged(old, value) if both else value  # type: ignore[arg-type]
    return result

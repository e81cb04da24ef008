"""What a cluster's directory remembers between two starts, in one file with mode 0600."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import yaml
from attrs import asdict, frozen
from attrs import fields as fields_of

from twisted_patroni.demo.layout import CannotStart, Secrets

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FILE_NAME = "cluster.yml"


@frozen
class Record:
    """What must stay the same for the cluster in a directory.

    :param nodes: how many nodes it has.
    :param base_port: the REST port of node 1; raft's journals are named after ports.
    :param dcs: the name of the section of the DCS that keeps its state.
    :param known: its secrets.
    :param tls: whether its REST APIs speak TLS.
    """

    nodes: int
    base_port: int
    dcs: str
    known: Secrets
    tls: bool = False

    def __str__(self) -> str:
        tls = "with" if self.tls else "without"
        return f"{self.nodes} nodes with base port {self.base_port} and {self.dcs}, {tls} TLS"


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, from its first byte on.

    :param path: the file, replaced as a whole.
    :param text: its content.
    """
    scratch = path.with_name(f"{path.name}.new")
    scratch.unlink(missing_ok=True)
    with open(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    scratch.replace(path)


def write_yaml(path: Path, document: Mapping[str, Any]) -> None:
    """Write a YAML file that only its owner may read.

    :param path: the file.
    :param document: its content.
    """
    write_private(path, yaml.safe_dump(dict(document), sort_keys=False))


def recall(directory: Path) -> Record | None:
    """Read what a directory remembers.

    :param directory: the cluster's directory.
    :return: its record, or ``None`` if the directory is new or empty.
    :raise CannotStart: if it is no directory, cannot be read, or holds something else.
    """
    path = directory / FILE_NAME
    try:
        if not directory.exists() or not any(directory.iterdir()):
            return None
        document = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise CannotStart(
            f"{directory} is not empty and holds no cluster of this command (no {FILE_NAME}):"
            " give another --directory"
        ) from None
    except OSError as error:
        raise CannotStart(f"cannot read {error.filename}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise CannotStart(f"{path} is damaged: it is not YAML") from None
    try:
        names = [attribute.name for attribute in fields_of(Secrets)]
        known = Secrets(**{name: str(document["secrets"][name]) for name in names})
        return Record(
            int(document["nodes"]),
            int(document["base_port"]),
            str(document["dcs"]),
            known,
            bool(document.get("tls", False)),
        )
    except (KeyError, TypeError, ValueError):
        raise CannotStart(f"{path} is damaged: a value is missing or wrong") from None


def remember(directory: Path, record: Record) -> None:
    """Write a directory's record.

    :param directory: the cluster's directory, which exists.
    :param record: what to keep.
    """
    write_yaml(
        directory / FILE_NAME,
        {
            "nodes": record.nodes,
            "base_port": record.base_port,
            "dcs": record.dcs,
            "tls": record.tls,
            "secrets": asdict(record.known),
        },
    )

"""What operators type."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from twisted.internet.utils import getProcessOutputAndValue

from tests.real.faults import Finished
from twisted_patroni.demo.checks import script

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


async def patronictl(
    file: Path, *words: str, environment: Mapping[str, str] | None = None
) -> Finished:
    """Run ``patronictl`` to its end.

    :param file: its configuration.
    :param words: command and arguments.
    :param environment: further variables.
    """
    usual = {name: text for name, text in os.environ.items() if not name.startswith("PATRONI_")}
    out, err, code = await getProcessOutputAndValue(
        "timeout",
        ("60", script("patronictl"), "-c", str(file), *words),
        env={**usual, **(environment or {})},
    )
    return Finished(code, out.decode() + err.decode())

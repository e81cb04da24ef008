"""All requests of the parity test, in the scenes that they are sent in."""

from __future__ import annotations

from tests.real import parity_leadership, parity_protocol, parity_reading, parity_writing

SCENES = (
    *parity_reading.SCENES,
    *parity_protocol.SCENES,
    *parity_leadership.SCENES,
    *parity_writing.SCENES,
)

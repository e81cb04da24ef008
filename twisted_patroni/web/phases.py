"""What a connection can be waiting for."""

from __future__ import annotations

from enum import Enum


class Phase(Enum):
    """What a connection is waiting for; the value names the limit on how long it may."""

    HANDSHAKE = "handshake"
    FIRST_BYTE = "first_byte"
    HEAD = "head"
    BODY = "body"
    ANSWER = "answer"  # ours to give: without a deadline, handlers bound themselves
    STREAM = "stream"  # events: without a deadline, and no request in flight
    UPGRADED = "upgraded"  # the same as a WebSocket
    IDLE = "idle"
    LINGER = "linger"
    CLOSE = "close"

    __hash__ = object.__hash__  # an Enum's own is several times slower, and asked for often


#: They have no deadline, unless the client has closed its side.
ENDLESS = (Phase.STREAM, Phase.UPGRADED)

"""Reads what a server sent as strictly as HTTP/1 is defined, to show that it sends nothing else."""

from __future__ import annotations

import re

from attrs import frozen

_STATUS = re.compile(rb"HTTP/(1\.[01]) ([1-5]\d\d) ([ -~]*)")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~\w-]+): ([!-~](?:[ !-~]*[!-~])?)?")
_NUMBER = re.compile(r"0|[1-9]\d*")


@frozen
class WireAnswer:
    """One answer, interim ones included.

    :param version: of HTTP.
    :param code: the status.
    :param headers: by their names in small letters.
    :param body: what its length says.
    """

    version: str
    code: int
    headers: dict[str, str]
    body: bytes


def read_answers(data: bytes, *, after_head: bool = False) -> list[WireAnswer]:
    """Read all answers on a connection.

    :param data: all that the server sent.
    :param after_head: the first request was one for a head only.
    :raise AssertionError: if anything is not as RFC 9112 defines it, is cut off, or comes behind an
        answer that says it is the last one.
    """
    answers: list[WireAnswer] = []
    last = False
    while data:
        assert not last, (answers, data)
        head, end, data = data.partition(b"\r\n\r\n")
        assert end, head
        version, code, headers = _read_head(head)
        bodiless = code < 200 or (after_head and not any(each.code >= 200 for each in answers))
        if code >= 200 and not (version == "1.0" and not headers):  # upstream's bare line
            assert {"server", "date", "content-length"} <= set(headers), head
        assert "transfer-encoding" not in headers, head
        length = headers.get("content-length", "0")
        assert _NUMBER.fullmatch(length), head
        size = 0 if bodiless else int(length)
        assert len(data) >= size, (head, data)
        answers.append(WireAnswer(version, code, headers, data[:size]))
        data = data[size:]
        last = code >= 200 and (version == "1.0" or headers.get("connection") == "close")
    return answers


def _read_head(head: bytes) -> tuple[str, int, dict[str, str]]:
    first, *lines = head.split(b"\r\n")
    status = _STATUS.fullmatch(first)
    assert status, head
    headers: dict[str, str] = {}
    for line in lines:
        field = _FIELD.fullmatch(line)
        assert field, head
        name = field[1].decode().lower()
        assert name not in headers, head
        headers[name] = (field[2] or b"").decode()
    return status[1].decode(), int(status[2]), headers

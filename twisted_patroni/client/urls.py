"""Where nodes are: the URLs that users write, and those that members announce."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable


class AddressError(ValueError):
    """Not the URL of a node; one line that says why.

    >>> Node.at(reactor, "ftp://a")
    Traceback (most recent call last):
    twisted_patroni.client.urls.AddressError: 'ftp://a' is not a URL like http://HOST:PORT
    """


def base_url(url: str) -> str:
    """Return what the paths of a node's API are appended to.

    :param url: a node's URL, as a user writes it or as members announce it: the path ``/patroni``
        is left out.
    :raise AddressError: if it is none.
    """
    if not isinstance(url, str):
        raise AddressError(f"{url!r} is not a URL like http://HOST:PORT")
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError as error:
        raise AddressError(f"{url!r} is not a URL: {error}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise AddressError(f"{url!r} is not a URL like http://HOST:PORT")
    if parts.username is not None or parts.password is not None:
        raise AddressError("a URL with a user or a password in it is not accepted")
    if parts.query or parts.fragment or port == 0 or not (host + parts.path).isascii():
        raise AddressError(f"{url!r} is not a URL like http://HOST:PORT")
    if any(not "!" <= letter <= "~" for letter in url):
        raise AddressError(f"{url!r} is not a URL: it holds a space or a control character")
    path = parts.path.rstrip("/").removesuffix("/patroni")
    return f"{parts.scheme}://{parts.netloc}{path}"


def seed_urls(seeds: str | Iterable[str]) -> tuple[str, ...]:
    """Return the nodes to begin with, each once.

    :param seeds: their URLs, or the only one.
    :raise AddressError: if one is none.
    :raise ValueError: if there is none at all.
    """
    urls = tuple(dict.fromkeys(map(base_url, [seeds] if isinstance(seeds, str) else seeds)))
    if not urls:
        raise ValueError("seeds: at least one URL of a node is needed, none is given")
    return urls


def are_secure(urls: Iterable[str]) -> bool:
    """Tell whether all of these nodes are asked with TLS.

    Who has asked for it wants no password to be sent to another member without.

    :param urls: where they are, as :func:`base_url` returns it.
    """
    return all(each.startswith("https:") for each in urls)


def announced_url(told: object, secure: bool) -> str:
    """Return where a member's API is, by what is told of it.

    :param told: what it announces, which may be anything.
    :param secure: an API without TLS is none to ask.
    :raise AddressError: if it cannot be asked; half a sentence on what the member does.
    """
    try:
        url = base_url(told if isinstance(told, str) else "")
    except AddressError:
        raise AddressError("tells no address of its API") from None
    if secure and not url.startswith("https:"):
        raise AddressError("announces its API without TLS")
    return url

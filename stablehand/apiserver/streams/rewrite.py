"""What the proxy subresources change of an answer, so that its links lead back through the proxy (upstream's Transport).

Pure: paths of the server's own in `Location` and in HTML get the proxy's path in front; headers by which the server
would speak about cross-origin access to the API server's own address are left out.
"""

from __future__ import annotations

import re
import zlib
from urllib.parse import urlsplit, urlunsplit

CORS_HEADERS = frozenset(f"access-control-allow-{x}" for x in ("credentials", "headers", "methods", "origin"))
# Which attributes of which elements hold URLs.
_LINKS = {
    "href": frozenset({"a", "area", "base", "link"}),
    "src": frozenset({"audio", "embed", "frame", "iframe", "img", "input", "script", "source", "track", "video"}),
    "cite": frozenset({"blockquote", "del", "ins", "q"}),
    "action": frozenset({"form"}),
    "formaction": frozenset({"button", "input"}),
    "longdesc": frozenset({"frame", "iframe", "img"}),
    "data": frozenset({"object"}),
    "poster": frozenset({"video"}),
    "manifest": frozenset({"html"}),
    "codebase": frozenset({"applet", "object"}),
    "icon": frozenset({"command"}),
    "profile": frozenset({"head"}),
    "usemap": frozenset({"img", "input", "object"}),
    "background": frozenset({"body"}),
}
_TAG = re.compile(rb"<([A-Za-z][A-Za-z0-9]*)(\s[^<>]*)>")
_ATTRIBUTE = re.compile(rb"""(\s)([A-Za-z]+)(\s*=\s*)("[^"]*"|'[^']*'|[^\s"'>]+)""")


def rewrite_url(url: str, prefix: str, own: tuple[str, ...]) -> str:
    """The URL as the client has to ask for it. `own`: hosts (with port) that are the server itself."""
    parts = urlsplit(url)
    if (parts.netloc and parts.netloc not in own) or not parts.path.startswith("/"):
        return url
    path = parts.path if parts.path.startswith(prefix) else prefix.rstrip("/") + parts.path
    return urlunsplit(("", "", path, parts.query, parts.fragment))


def rewrite_html(body: bytes, prefix: str, own: tuple[str, ...]) -> bytes:
    """The page with all of its links rewritten; everything else stays as it is, byte for byte."""

    def attribute(tag: str, found: re.Match[bytes]) -> bytes:
        space, name, equals, value = found.groups()
        if tag not in _LINKS.get(name.decode().lower(), ()):
            return found[0]
        quote = value[:1] if value[:1] in (b'"', b"'") else b""
        try:
            text = rewrite_url(value.strip(quote).decode() if quote else value.decode(), prefix, own)
        except ValueError:  # neither UTF-8 nor a URL
            return found[0]
        return space + name + equals + quote + text.encode() + quote

    def element(found: re.Match[bytes]) -> bytes:
        tag = found[1].decode().lower()
        return b"<" + found[1] + _ATTRIBUTE.sub(lambda a: attribute(tag, a), found[2]) + b">"

    return _TAG.sub(element, body)


def decoded(body: bytes, encoding: str) -> bytes | None:
    """The body without its Content-Encoding; None where that is one we do not know."""
    try:
        match encoding.strip().lower():
            case "" | "identity":
                return body
            case "gzip" | "deflate":
                return zlib.decompress(body, wbits=47)
    except zlib.error:
        return None
    return None

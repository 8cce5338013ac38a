"""Where the page listens: a host and a port, checked before gradio tries them."""

from __future__ import annotations

import os
import socket

from gpt2.errors import UserError


def parse_port(text: str) -> int:
    """`ValueError` with a sentence for what is not a port."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= 65_535:
        raise ValueError(f"{text[:20]!r} is not a port from 1 to 65535")
    return int(text)


def parse_host(text: str) -> str:
    """A name or an address; of version 6 without its brackets."""
    return text[1:-1] if text.startswith("[") and text.endswith("]") else text


def in_address(host: str) -> str:
    """A host as it stands in an address on the Web, which is what gradio wants: "[::1]"."""
    return f"[{host}]" if ":" in host else host


def require_listening(host: str, port: int | None) -> None:
    """`UserError` unless a server can listen at `host`, on `port` if that is given. Gradio would
    try a wrong host on each of a hundred ports for five seconds."""
    where = f"{host}, port {port}" if port else host
    try:
        found = socket.getaddrinfo(host, port or 0, type=socket.SOCK_STREAM)
        refused = [error for one in found if (error := _refusal(one))]
    except (OSError, UnicodeError) as error:
        refused, found = [error], [None]
    if len(refused) == len(found):  # a name may have addresses that this machine does not use
        why = getattr(refused[0], "strerror", None) or str(refused[0])
        raise UserError(
            f"The page cannot listen at {where}: {why}. Choose another --host or --port."
        )


def _refusal(found: tuple) -> OSError | None:
    family, kind, protocol, _, address = found
    try:
        with socket.socket(family, kind, protocol) as probe:
            if os.name != "nt":  # there it would take a port from its owner
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return error
    return None

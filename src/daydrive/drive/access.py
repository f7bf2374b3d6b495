"""Who may connect: only this machine, unless `--host` names another address; then only with a token.

Pages of other sites that a browser has open are rejected: a WebSocket of theirs has another `Origin`, and a site whose
name resolves to this machine has another `Host`.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from daydrive.errors import UserError

COOKIE = "daydrive-token"
TOKEN = re.compile(r"[A-Za-z0-9_-]{12,128}")
LOCAL_NAMES = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True)
class Access:
    """token: None on this machine alone."""

    token: str | None = None

    def allows_token(self, given: str | None) -> bool:
        return self.token is None or hmac.compare_digest(self.token.encode(), (given or "").encode())

    def allows_host(self, headers: Mapping[str, str]) -> bool:
        """Whether `Host` is a name of this machine; with a token, names are not checked."""
        return self.token is not None or _name(headers.get("host", "")) in LOCAL_NAMES

    def allows_origin(self, headers: Mapping[str, str]) -> bool:
        """Whether a browser's request comes from this server's own page. Other programs send no `Origin`."""
        origin = headers.get("origin")
        return origin is None or urlsplit(origin).netloc == headers.get("host")


def make_access(host: str, token: str | None) -> Access:
    """The rules for a server at `host`. token: chosen by the user; default: a random one where one is needed.

    Raises UserError for a token that is too short or unusual in a URL.
    """
    if token is not None and not TOKEN.fullmatch(token):
        raise UserError("--token: use 12 to 128 letters, digits, - and _")
    if token is None and not is_local(host):
        token = secrets.token_urlsafe(16)
    return Access(token)


def is_local(host: str) -> bool:
    """Whether an address can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. port: 0 for any free one. Raises UserError if the address is unknown or the port is taken."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise UserError(f"--host {host}: no such address; use 127.0.0.1, or an address of this machine") from None
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        reason = error.strerror or str(error)
        raise UserError(
            f"port {port} of {host} cannot be used ({reason}); choose another with --port, or 0 for any free one"
        ) from None
    return listener


def _name(host: str) -> str:
    """The name in a `Host` header, without its port."""
    return host if host.endswith("]") else host.rpartition(":")[0] if ":" in host else host

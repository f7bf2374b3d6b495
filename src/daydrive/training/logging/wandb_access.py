"""Whether Weights & Biases can be used, checked without importing it."""

from __future__ import annotations

import configparser
import importlib.util
import netrc
import os
import socket
import threading
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from daydrive.errors import UserError

DEFAULT_URL = "https://api.wandb.ai"
TIMEOUT = 5.0
"""Seconds to wait for the server's answer."""


def check_wandb(mode: str) -> str:
    """The state of W&B, as text. mode: 'online', 'offline' or 'disabled'.

    Raises UserError where the package is missing or, online, where there is no API key or no answer from the server.
    """
    if mode == "disabled":
        return "disabled by logging.wandb_mode or the environment: nothing is logged to W&B"
    if importlib.util.find_spec("wandb") is None:
        raise UserError('logging.use_wandb needs W&B, which is not installed: pip install "daydrive[wandb]"')
    if mode == "offline":
        return "offline; 'wandb sync' uploads the run later"
    url = _server()
    host = urlsplit(url).netloc
    if not _has_key(host):
        raise UserError(
            f"logging.use_wandb is true, but there is no API key for {host}: run 'wandb login', set WANDB_API_KEY, or "
            f"train with --wandb-mode offline"
        )
    reason = _unreachable(url, TIMEOUT)
    if reason:
        raise UserError(
            f"logging.use_wandb is true, but {url} cannot be reached ({reason}); check the network, or train with "
            f"--wandb-mode offline"
        )
    return f"{host} answers"


def _server() -> str:
    """The server in WANDB_BASE_URL or W&B's settings file, else the public one."""
    folder = Path(os.environ.get("WANDB_CONFIG_DIR") or Path.home() / ".config" / "wandb")
    settings = configparser.ConfigParser()
    with suppress(configparser.Error, OSError, UnicodeDecodeError):
        settings.read(folder / "settings")
    saved = settings.get("default", "base_url", fallback=DEFAULT_URL)
    return (os.environ.get("WANDB_BASE_URL") or saved).rstrip("/")


def _has_key(host: str) -> bool:
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    named = os.environ.get("NETRC")
    for file in [Path(named).expanduser()] if named else [Path.home() / ".netrc", Path.home() / "_netrc"]:
        with suppress(OSError, netrc.NetrcParseError):
            return bool(netrc.netrc(file).authenticators(host))
    return False


def _unreachable(url: str, seconds: float) -> str:
    """Why the server cannot be reached, or an empty string; uses the proxy of the environment."""
    server = urlsplit(url)
    proxy = None if proxy_bypass(server.hostname or "") else getproxies().get(server.scheme)
    target = urlsplit(proxy if proxy is None or "://" in proxy else f"http://{proxy}") if proxy else server
    outcome = [f"no answer within {seconds:g} s"]

    def connect() -> None:
        try:
            port = target.port or (443 if target.scheme == "https" else 80)
            socket.create_connection((target.hostname or "", port), timeout=seconds).close()
            outcome[0] = ""
        except (OSError, ValueError) as error:
            if not isinstance(error, TimeoutError):
                outcome[0] = getattr(error, "strerror", None) or str(error)

    attempt = threading.Thread(target=connect, daemon=True)  # a DNS lookup can take longer than any timeout
    attempt.start()
    attempt.join(seconds)
    return outcome[0]

"""Checks before the first step that W&B accepts logs."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch

from daydrive.errors import UserError
from daydrive.training.checks import static_checks
from daydrive.training.logging import wandb_access
from helpers.training_setup import Make, Training, one_sentence

CUDA = torch.device("cuda")


@pytest.fixture
def make(tiny_config: Path, road_store: Path, tmp_path: Path) -> Make:
    return lambda *overrides: Training(tiny_config, road_store, tmp_path / "run", *overrides)


@pytest.fixture
def closed_port() -> Iterator[int]:
    with closing(socket.socket()) as held:  # bound and not listening: nobody else gets it, and nobody answers
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A home folder without W&B's key and settings."""
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_CONFIG_DIR", "WANDB_IDENTITY_TOKEN_FILE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    find_spec = wandb_access.importlib.util.find_spec
    monkeypatch.setattr(
        wandb_access.importlib.util,
        "find_spec",
        lambda name, package=None: object() if name == "wandb" else find_spec(name, package),
    )
    return monkeypatch


def test_missing_key_explains_how_to_log_in(make: Make, account: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError) as error:
        make("logging.use_wandb=true").check()
    text = one_sentence(error)
    assert "api.wandb.ai" in text and "wandb login" in text and "--wandb-mode offline" in text


def test_unreachable_server_names_the_host(make: Make, account: pytest.MonkeyPatch, closed_port: int) -> None:
    account.setenv("WANDB_API_KEY", "0" * 40)
    account.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{closed_port}")
    with pytest.raises(UserError) as error:
        make("logging.use_wandb=true").check()
    text = one_sentence(error)
    assert f"http://127.0.0.1:{closed_port} cannot be reached" in text and "--wandb-mode offline" in text


def test_key_from_netrc_and_address_from_settings(make: Make, account: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        host = f"127.0.0.1:{server.getsockname()[1]}"
        (tmp_path / ".netrc").write_text(f"machine {host}\n login user\n password {'0' * 40}\n")
        (tmp_path / ".config" / "wandb").mkdir(parents=True)
        (tmp_path / ".config" / "wandb" / "settings").write_text(f"[default]\nbase_url = http://{host}\n")
        checks = make("logging.use_wandb=true").check()
    assert static_checks.Check("wandb", "ok", f"{host} answers") in checks


def test_proxy_is_used(account: pytest.MonkeyPatch) -> None:
    account.setenv("WANDB_API_KEY", "0" * 40)
    with closing(socket.create_server(("127.0.0.1", 0))) as proxy:
        account.setenv("https_proxy", f"127.0.0.1:{proxy.getsockname()[1]}")
        assert wandb_access.check_wandb("online") == "api.wandb.ai answers"


def test_silent_server_times_out(account: pytest.MonkeyPatch) -> None:
    def silent(*_: object, **__: object) -> None:
        time.sleep(0.5)
        raise TimeoutError

    account.setattr(wandb_access.socket, "create_connection", silent)
    assert wandb_access._unreachable("https://api.wandb.ai", 0.05) == "no answer within 0.05 s"


def test_offline_mode_requires_only_the_package(account: pytest.MonkeyPatch) -> None:
    assert wandb_access.check_wandb("offline").startswith("offline")
    account.setattr(wandb_access.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install .daydrive\[wandb\]"):
        wandb_access.check_wandb("offline")

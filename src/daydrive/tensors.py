"""Named tensors on disk as safetensors: complete, or sharded over the processes of a training."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save, save_file
from torch import Tensor, nn

from daydrive.errors import UserError
from daydrive.files import atomic_replace

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

Named = Mapping[str, Tensor]


def is_dtensor(tensor: Tensor) -> TypeGuard[DTensor]:
    """Without an import of torch.distributed.tensor, which takes seconds."""
    return hasattr(tensor, "full_tensor")


def gather(tensors: Named) -> dict[str, Tensor]:
    """Contiguous full tensors on the CPU, since safetensors stores no strides. Every process has to call it."""
    gathered = {name: t.full_tensor() if is_dtensor(t) else t for name, t in tensors.items()}
    return {name: value.detach().cpu().contiguous() for name, value in gathered.items()}


def write(tensors: Named, file: Path) -> None:
    """Write a safetensors file. Raises OSError where the disk is full or unavailable."""
    try:
        save_file(dict(tensors), file)
    except SafetensorError as error:
        raise OSError(0, str(error)) from None


def read(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise UserError(f"the checkpoint {file.parent} has no {file.name}")
    try:
        tensors: dict[str, Tensor] = load_file(file)
    except (SafetensorError, OSError, ValueError, json.JSONDecodeError) as error:
        raise UserError(f"{file}: not a complete safetensors file: {error}") from None
    return tensors


def write_described(tensors: Named, file: Path, key: str, description: str) -> None:
    """Write a safetensors file atomically, with a description under `key` in its header."""
    with atomic_replace(file) as temporary:
        temporary.write_bytes(save(gather(tensors), {key: description}))


def read_described(file: Path, key: str, what: str) -> tuple[str | None, dict[str, Tensor]]:
    """The description under `key`, None if there is none, and the tensors. Raises UserError if the file is damaged.

    what: the contents, such as 'readout'.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            return (opened.metadata() or {}).get(key), {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{file} is not a complete {what} ({reason}); train it again") from None


def is_sharded(tensors: Iterable[Tensor]) -> bool:
    return any(is_dtensor(tensor) for tensor in tensors)


def write_sharded(tensors: Named, folder: Path) -> None:
    """Write DTensors, each process its shards; as safetensors, so that reading needs no pickle."""
    import torch.distributed.checkpoint as dcp

    dcp.save(dict(tensors), storage_writer=dcp.HuggingFaceStorageWriter(str(folder), save_distributed=True))


def read_sharded(folder: Path, into: dict[str, Tensor]) -> None:
    """Read into `into` from shards that any number of processes wrote."""
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        dcp.load(into, storage_reader=dcp.HuggingFaceStorageReader(str(folder)))
    except (CheckpointException, SafetensorError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise UserError(f"{folder}: incomplete, or of another model: {reason}") from None


def sharded_names(folder: Path) -> set[str]:
    names: set[str] = set()
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt") as opened:
                names.update(opened.keys())
        except (SafetensorError, OSError) as error:
            raise UserError(f"{file}: not a complete safetensors file: {error}") from None
    return names


def _renamed(name: str, current_name: Callable[[str], str]) -> str:
    """The current name of `parameter:moment`."""
    parameter, _, moment = name.partition(":")
    return f"{current_name(parameter)}:{moment}"


@torch.no_grad()
def fill(targets: Named, saved: Named, file: Path) -> None:
    """Copy the full tensors `saved` into `targets`, sharded or not.

    Raises UserError, without copying anything, where names or shapes do not match.
    """
    missing = sorted(targets.keys() - saved.keys())
    unexpected = sorted(saved.keys() - targets.keys())
    wrong = [name for name in targets.keys() & saved.keys() if targets[name].shape != saved[name].shape]
    if missing or unexpected or wrong:
        name = min(wrong) if wrong else (missing or unexpected)[0]
        difference = (
            f"'{name}' has shape {tuple(saved[name].shape)}, the config's model {tuple(targets[name].shape)}"
            if wrong
            else f"'{name}' is {'missing' if missing else 'not in the configured model'}"
        )
        raise UserError(f"{file}: weights of another model: {difference}")
    for name, target in targets.items():
        target.copy_(shard_like(target, saved[name]))


def shard_like(target: Tensor, tensor: Tensor) -> Tensor:
    """Shard a full tensor as `target` is sharded."""
    tensor = tensor.to(target.device)
    if not is_dtensor(target):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor, target.device_mesh, target.placements)


def moments(optimizers: Sequence[torch.optim.Optimizer], model: nn.Module) -> dict[str, Tensor]:
    """The state of the optimizers as `parameter:moment`."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"{names[parameter]}:{key}": value
        for optimizer in optimizers
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
        if isinstance(value, Tensor)
    }


def fill_moments(
    optimizers: Sequence[torch.optim.Optimizer],
    model: nn.Module,
    file: Path,
    sharded: Path,
    current_name: Callable[[str], str],
) -> None:
    """Restore the optimizers' state from what `moments` returned, from one file or from the shards in the folder
    `sharded`.

    current_name: old → current name of a parameter.
    """
    is_folder = sharded.is_dir()
    saved = {} if is_folder else read(file)
    saved_names = {_renamed(name, current_name): name for name in (sharded_names(sharded) if is_folder else saved)}
    names = {parameter: name for name, parameter in model.named_parameters()}
    targets: dict[str, Tensor] = {}
    for optimizer in optimizers:
        for parameter in (p for group in optimizer.param_groups for p in group["params"]):
            prefix = f"{names[parameter]}:"
            keys = sorted(key for key in saved_names if key.startswith(prefix))
            state = {
                key.removeprefix(prefix): torch.zeros(())
                if key.endswith(":step")
                else torch.zeros_like(parameter, requires_grad=False)
                for key in keys
            }
            optimizer.state[parameter] = state
            targets |= {saved_names[prefix + key]: value for key, value in state.items()}
    if is_folder:
        read_sharded(sharded, targets)
        return
    values = {name: saved[name] for name in targets}
    for name, target in targets.items():
        if target.shape != values[name].shape:
            raise UserError(f"{file}: '{name.partition(':')[0]}' has moments of another model's shape")
    fill(targets, values, file)

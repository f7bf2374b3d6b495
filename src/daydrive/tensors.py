"""Named tensors on disk, as safetensors: whole, or shared out over the processes of a training."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from daydrive.errors import UserError

Named = Mapping[str, Tensor]


def whole(tensors: Named) -> dict[str, Tensor]:
    """Contiguous copies on the CPU, in one piece each: safetensors stores no strides. All processes call it."""
    gathered = {name: t.full_tensor() if isinstance(t, DTensor) else t for name, t in tensors.items()}
    return {name: value.detach().cpu().contiguous() for name, value in gathered.items()}


def write(tensors: Named, file: Path) -> None:
    """Raises OSError where the disk is full or gone."""
    try:
        save_file(dict(tensors), file)
    except SafetensorError as error:
        raise OSError(0, str(error)) from None


def read(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise UserError(f"the checkpoint {file.parent} holds no {file.name}")
    try:
        tensors: dict[str, Tensor] = load_file(file)
    except (SafetensorError, OSError, ValueError, json.JSONDecodeError) as error:
        raise UserError(f"{file}: not a whole safetensors file: {error}") from None
    return tensors


def is_shared(tensors: Iterable[Tensor]) -> bool:
    return any(isinstance(tensor, DTensor) for tensor in tensors)


def write_shared(tensors: Named, folder: Path) -> None:
    """Every process writes its part; safetensors, so that nothing has to be unpickled to read them."""
    import torch.distributed.checkpoint as dcp

    dcp.save(dict(tensors), storage_writer=dcp.HuggingFaceStorageWriter(str(folder), save_distributed=True))


def read_shared(folder: Path, into: dict[str, Tensor]) -> None:
    """Fill `into` from parts that any number of processes wrote."""
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        dcp.load(into, storage_reader=dcp.HuggingFaceStorageReader(str(folder)))
    except (CheckpointException, SafetensorError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise UserError(f"{folder}: not whole, or of another model: {reason}") from None


def shared_names(folder: Path) -> set[str]:
    names: set[str] = set()
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt") as opened:
                names.update(opened.keys())
        except (SafetensorError, OSError) as error:
            raise UserError(f"{file}: not a whole safetensors file: {error}") from None
    return names


def _renamed(name: str, current_name: Callable[[str], str]) -> str:
    """Of `parameter:moment`."""
    parameter, _, moment = name.partition(":")
    return f"{current_name(parameter)}:{moment}"


@torch.no_grad()
def fill(targets: Named, saved: Named, file: Path) -> None:
    """Copy `saved`, whole tensors, into `targets`, shared out or not.

    Raises UserError where names or shapes are another model's; nothing is copied then.
    """
    missing = sorted(targets.keys() - saved.keys())
    foreign = sorted(saved.keys() - targets.keys())
    wrong = [name for name in targets.keys() & saved.keys() if targets[name].shape != saved[name].shape]
    if missing or foreign or wrong:
        name = min(wrong) if wrong else (missing or foreign)[0]
        told = (
            f"'{name}' has shape {tuple(saved[name].shape)}, the config's model {tuple(targets[name].shape)}"
            if wrong
            else f"'{name}' is {'missing' if missing else 'not in the configured model'}"
        )
        raise UserError(f"{file}: weights of another model: {told}")
    for name, target in targets.items():
        target.copy_(like(target, saved[name]))


def like(target: Tensor, tensor: Tensor) -> Tensor:
    """A whole tensor, shared out as `target` is."""
    tensor = tensor.to(target.device)
    return distribute_tensor(tensor, target.device_mesh, target.placements) if isinstance(target, DTensor) else tensor


def moments(optimizers: Sequence[torch.optim.Optimizer], model: nn.Module) -> dict[str, Tensor]:
    """The state of optimizers as `parameter:moment`."""
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
    shared: Path,
    current_name: Callable[[str], str],
) -> None:
    """Bring the optimizers back to what `moments` gave, from one file or from the parts in the folder `shared`.

    current_name: what a parameter is called today.
    """
    apart = shared.is_dir()
    saved = {} if apart else read(file)
    there = {_renamed(name, current_name): name for name in (shared_names(shared) if apart else saved)}
    names = {parameter: name for name, parameter in model.named_parameters()}
    targets: dict[str, Tensor] = {}
    for optimizer in optimizers:
        for parameter in (p for group in optimizer.param_groups for p in group["params"]):
            prefix = f"{names[parameter]}:"
            keys = sorted(key for key in there if key.startswith(prefix))
            state = {
                key.removeprefix(prefix): torch.zeros(())
                if key.endswith(":step")
                else torch.zeros_like(parameter, requires_grad=False)
                for key in keys
            }
            optimizer.state[parameter] = state
            targets |= {there[prefix + key]: value for key, value in state.items()}
    if apart:
        read_shared(shared, targets)
        return
    known = {name: saved[name] for name in targets}
    for name, target in targets.items():
        if target.shape != known[name].shape:
            raise UserError(f"{file}: '{name.partition(':')[0]}' has moments of another model's shape")
    fill(targets, known, file)

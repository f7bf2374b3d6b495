"""Folders to share: weights as safetensors, `config.json` and a model card, on disk or on the Hugging Face Hub."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import torch

from daydrive import checkpoint, tensors
from daydrive.config import Config, as_tree
from daydrive.errors import UserError, errors_attributed_to
from daydrive.files import check_folder, read_json, write_json, write_text
from daydrive.models import WorldModel
from daydrive.report.model_card import FILES, plain_card, training_of
from daydrive.workspace import staged_folder

PRECISIONS = {"float32": torch.float32, "float16": torch.float16}
CARD = "README.md"
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def save_pretrained(source: str | Path, folder: str | Path, precision: str = "float32") -> Path:
    """Write the model of a checkpoint as a folder to share, which `from_pretrained` and every `--checkpoint` read.

    source: a run folder (its best checkpoint), a checkpoint folder, or the name of weights in the package. precision:
    of the stored weights, float32 or float16; they are loaded as float32. `README.md` is the model card of the run's
    evaluation, or a short one without it. Local paths in the settings are left out.

    Examples:
        >>> import daydrive
        >>> daydrive.save_pretrained("runs/first", "road-model", precision="float16").name
        'road-model'
        >>> daydrive.from_pretrained("road-model").context_frames
        4

    Raises UserError if there is no checkpoint, the folder cannot be written, or a weight exceeds the precision's range.
    """
    if precision not in PRECISIONS:
        raise UserError(f"pretrained weights are stored in {' or '.join(PRECISIONS)}, not in {precision}")
    loaded, output = checkpoint.load(Path(source)), Path(folder)
    assert isinstance(loaded.model, WorldModel) and loaded.config is not None
    check_folder(output, "output folder")
    weights = tensors.gather(loaded.model.state_dict())
    stored = {name: _converted(name, value, PRECISIONS[precision]) for name, value in weights.items()}
    with staged_folder(output) as staged:
        tensors.write(stored, staged / checkpoint.WEIGHTS)
        write_json(staged / "config.json", _shared_settings(loaded.config))
        write_json(staged / "state.json", {"format": checkpoint.FORMAT, "step": loaded.step})
        write_text(staged / CARD, _model_card(loaded.path))
    return output


def from_pretrained(
    source: str | Path,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    device: torch.device | str = "cpu",
) -> WorldModel:
    """Load a model in evaluation mode, from a folder or from a repository `OWNER/NAME` of the Hugging Face Hub.

    source: also everything that `daydrive.load` takes. revision: branch, tag or commit; cache_dir, local_files_only:
    as in huggingface_hub, which downloads a repository once into its cache. Only the model's files are downloaded.

    Raises UserError where there is no such folder or repository, or it has no model of daydrive.
    """
    path = Path(source)
    if not path.exists() and _REPOSITORY.fullmatch(str(source)):
        path = _download(str(source), revision, cache_dir, local_files_only)
    model = checkpoint.load(path, device).model
    assert isinstance(model, WorldModel)
    return model


def push_to_hub(
    source: str | Path,
    repository: str,
    *,
    precision: str = "float32",
    private: bool | None = None,
    token: str | None = None,
    message: str = "Upload with daydrive",
) -> str:
    """Upload what `save_pretrained` writes to the repository `OWNER/NAME`, which is created if needed; its URL.

    private: of a new repository. token: by default that of `hf auth login`. Raises UserError where the Hub refuses.
    """
    if not _REPOSITORY.fullmatch(repository):
        raise UserError(f"a repository of the Hugging Face Hub is OWNER/NAME, not '{repository}'")
    hub = _hub()
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(source, folder, precision)
        with errors_attributed_to(f"uploading {repository} to the Hugging Face Hub"):
            api = hub.HfApi(token=token)
            url = api.create_repo(repository, private=private, exist_ok=True)
            api.upload_folder(repo_id=repository, folder_path=folder, commit_message=message)
    return str(url)


def _converted(name: str, value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    converted = value.to(dtype) if value.is_floating_point() else value
    if not converted.isfinite().all():
        raise UserError(f"the weight '{name}' has values beyond the range of {str(dtype).removeprefix('torch.')}")
    return converted


def _shared_settings(config: Config) -> dict[str, Any]:
    tree = as_tree(config)
    tree["data"]["root"] = tree["loss"]["perceptual_weights"] = None
    return tree


def _model_card(folder: Path) -> str:
    """The model card of the folder itself, of the evaluation of its run, or a short one."""
    own, evaluation = folder / CARD, folder.parent.parent / "evaluation"
    if own.is_file():
        return own.read_text(encoding="utf-8")
    model_card, result = evaluation / "MODEL_CARD.md", evaluation / "evaluation.json"
    if model_card.is_file() and result.is_file():
        evaluated = read_json(result, "evaluation").get("checkpoint")
        if evaluated is not None and Path(evaluated).name == folder.name:
            return model_card.read_text(encoding="utf-8")
    training = training_of(folder / checkpoint.WEIGHTS)
    assert training is not None, "the checkpoint has been loaded"
    return plain_card(training)


def _download(repository: str, revision: str | None, cache: str | Path | None, local_only: bool) -> Path:
    hub = _hub()
    with errors_attributed_to(f"reading {repository} from the Hugging Face Hub"):
        folder = hub.snapshot_download(
            repository, revision=revision, cache_dir=cache, local_files_only=local_only, allow_patterns=list(FILES)
        )
    return Path(folder)


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise UserError(
            "the Hugging Face Hub needs the package huggingface_hub: pip install 'daydrive[hub]'"
        ) from error
    return huggingface_hub

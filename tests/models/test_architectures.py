"""Tests of every architecture: the interface, training, resuming, and all uses of a trained model."""

from __future__ import annotations

import json
import math
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from daydrive import checkpoint
from daydrive.cli import app
from daydrive.config import LossConfig, load_config, parse_config
from daydrive.data.sampling.clips import fixed_clips, read_clips
from daydrive.data.store.store import Store
from daydrive.distributed import DistributedContext
from daydrive.errors import UserError
from daydrive.losses import structure_loss
from daydrive.models import HasLatents, HasMotion, build_world_model
from daydrive.models.diffusion import noise_levels
from daydrive.models.interface import PARTS, unroll
from daydrive.models.registry import names
from daydrive.models.rollout import rollout, rollout_uint8
from daydrive.models.rssm import balanced_divergence
from daydrive.training.engine import Engine
from helpers.architectures import ARCHITECTURES, built, clip, config_of, settings, write_config
from helpers.refusals import Refuse
from helpers.runs import CPU, logged, run_training, same, start, wait_for_step, weights

every = pytest.mark.parametrize("architecture", ARCHITECTURES)


def leaves(state: Any) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state]
    return [leaf for part in state or () for leaf in leaves(part)]


def test_all_architectures_are_tested() -> None:
    assert set(names()) == set(ARCHITECTURES)


@every
@torch.no_grad()
def test_shapes_and_ranges(architecture: str) -> None:
    model, (images, actions) = built(architecture), clip()
    output = model(images, actions)
    assert output["predicted"].shape == (3, 3, 3, 32, 48) and output["reconstructed"].shape == images.shape
    assert max(float(output[key].abs().max()) for key in ("predicted", "reconstructed")) <= 1 + 1e-5
    assert model.context_frames == 4 and model.image_size == (32, 48)
    assert model(images, actions, [5, 1])["reconstructed"].shape == (3, 2, 3, 32, 48)
    torch.testing.assert_close(model(images, actions, [5, 1])["reconstructed"], output["reconstructed"][:, [5, 1]])


@every
@torch.no_grad()
def test_steps_match_the_rollout_and_state_size_is_constant(architecture: str) -> None:
    model, (images, actions) = built(architecture), clip(frames=9)
    state, frames, sizes = model.init_state(images[:, :4], actions[:, :3]), [], []
    for t in range(3, 8):
        state, frame = model.step(state, actions[:, t])
        frames.append(frame)
        sizes.append([leaf.shape for leaf in leaves(state)])
    torch.testing.assert_close(torch.stack(frames, 1), model(images, actions)["predicted"])
    assert all(one == sizes[0] for one in sizes)


@every
def test_rollout_depends_only_on_clip_and_seed(architecture: str) -> None:
    model, (images, actions) = built(architecture, 0.05), clip(frames=9)
    context = images[:, :4]
    whole = rollout(model, context, actions, seed=3)
    assert torch.equal(whole, rollout(model, context, actions, seed=3))
    for k in range(3):
        alone = rollout(model, context[k : k + 1], actions[k : k + 1], seed=3)
        torch.testing.assert_close(alone[0], whole[k], rtol=1e-3, atol=1e-3)
    sampled = architecture != "texture"
    assert torch.equal(whole, rollout(model, context, actions, seed=4)) != sampled
    state = torch.random.get_rng_state()
    rollout(model, context, actions)
    assert torch.equal(state, torch.random.get_rng_state()), "the program's own random numbers are left as they are"


@every
def test_deterministic_without_a_generator(architecture: str) -> None:
    model, (images, actions) = built(architecture, 0.05), clip()
    with torch.no_grad():
        assert torch.equal(model(images, actions)["predicted"], model(images, actions)["predicted"])


@every
def test_frames_depend_on_context_and_actions(architecture: str) -> None:
    model, (images, actions) = built(architecture, 0.2), clip()
    predicted = rollout(model, images[:, :4], actions)
    other = actions.clone()
    other[:, -1, 0] += 1
    steered = rollout(model, images[:, :4], other)
    assert torch.equal(steered[:, :-1], predicted[:, :-1]) and not torch.equal(steered[:, -1], predicted[:, -1])
    mirrored = images.clone()
    mirrored[:, 3] *= -1
    assert not torch.equal(rollout(model, mirrored[:, :4], actions)[:, 0], predicted[:, 0])


@every
def test_gradients_reach_actions_and_every_weight(architecture: str) -> None:
    model, (images, actions) = built(architecture, 0.1).train(), clip()
    actions.requires_grad_()
    torch.manual_seed(0)
    config = LossConfig(latent_reg_weight=1.0)
    model.loss(images, actions, config, structure_loss).per_clip.sum().backward()
    assert actions.grad is not None and actions.grad.abs().sum() > 0
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent


@every
def test_losses_are_per_clip_and_weighted(architecture: str) -> None:
    model, (images, actions) = built(architecture, 0.05), clip()
    found = []
    for factor in (1.0, 3.0):
        names = ("recon", "pred", "perceptual", "latent_reg", "temporal")
        config = LossConfig(**{f"{name}_weight": factor for name in names})
        torch.manual_seed(0)
        found.append(model.loss(images, actions, config, structure_loss))
    assert all(part.shape == (3,) for part in (found[0].per_clip, *found[0].parts.values()))
    unweighed = found[0].parts.get("kl_loss", torch.zeros(3))
    torch.testing.assert_close(found[1].per_clip - unweighed, 3 * (found[0].per_clip - unweighed))


@every
def test_gradient_checkpointing_is_bit_identical(architecture: str) -> None:
    images, actions = clip()
    gradients = []
    for enabled in (False, True):
        model = built(architecture, 0.05).train()
        model.enable_gradient_checkpointing(enabled)
        torch.manual_seed(3)
        model.loss(images, actions, LossConfig(), structure_loss).per_clip.sum().backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@every
def test_param_groups_and_parallel_units(architecture: str) -> None:
    model = built(architecture)
    groups = model.param_groups()
    assert set(groups) == set(PARTS)
    held = [name for named in groups.values() for name in named]
    assert sorted(held) == sorted(name for name, _ in model.named_parameters())
    assert model.end_weights() and model.end_weights() < set(held)
    for module, methods in model.parallel_units():
        assert all(callable(getattr(module, method)) for method in methods)


@every
def test_training_reduces_the_loss(architecture: str, road_store: Path) -> None:
    store = Store.open(road_store)
    batch = read_clips(store, fixed_clips(store, "train", 6, 4))
    engine = Engine(config_of(architecture, (64, 64), use_amp=False), DistributedContext.single(CPU))
    engine.wrapped.train()
    losses = []
    for _ in range(30):
        torch.manual_seed(0)
        losses.append(sum(float(result.loss) for result in engine.accumulate(batch, last=True)))
        engine.clip_gradients()
        engine.update()
    assert losses[-1] < 0.85 * losses[0]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def finished(request: pytest.FixtureRequest, road_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without interruption, and its config."""
    folder = tmp_path_factory.mktemp(request.param)
    config = write_config(folder, request.param, ema_decay=0.9)
    assert run_training(config, road_store, folder / "run") == 0
    return folder / "run"


def architecture_of(run: Path) -> str:
    return load_config(run / "config.yaml").model.type


def config_beside(run: Path) -> Path:
    return run.parent / f"{architecture_of(run)}.yaml"


def test_documented_names_are_logged(finished: Path) -> None:
    lines = logged(finished)
    own = {"texture": "pred_loss", "rssm": "kl_loss", "diffusion": "denoising_loss"}[architecture_of(finished)]
    training = {"train/loss", f"train/{own}", "train/psnr", "train/ssim", "train/recon_psnr", "train/grad_norm", "lr"}
    validation = {"val/loss", f"val/{own}", "val/psnr", "val/ssim", "val/copy_last_psnr", "val/shuffled_actions_psnr"}
    assert training <= {key for line in lines for key in line} and validation <= lines[-1].keys()
    assert {"lr/encoder", "lr/dynamics", "lr/decoder"} <= lines[-1].keys()
    assert all(math.isfinite(value) for line in lines for value in line.values())
    assert lines[-1]["val/output_max"] <= 1 + 1e-3
    assert list(finished.glob("events.out.tfevents.*"))


def test_resuming_is_bit_identical(finished: Path, road_store: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert run_training(config_beside(finished), road_store, run, "training.max_steps=12") == 0
    assert same(weights(run), weights(finished)), "the same settings give the same weights"
    for folder in (run / "checkpoints").glob("step-*"):
        assert (folder / "model.safetensors").is_file() and (folder / "trained.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_resuming_after_a_kill_is_bit_identical(finished: Path, road_store: Path, tmp_path: Path) -> None:
    run, config = tmp_path / "run", config_beside(finished)
    process = start(config, road_store, run)
    wait_for_step(process, run, 6)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert checkpoint.read_state(checkpoint.find(run, "last"))["step"] < 12
    assert run_training(config, road_store, run, resume=True) == 0
    for name in (checkpoint.WEIGHTS, checkpoint.TRAINED, checkpoint.MOMENTS):
        assert same(weights(run, name), weights(finished, name)), name
    assert logged(run)[-1] == logged(finished)[-1]


def test_run_of_another_architecture_is_not_resumed(finished: Path, road_store: Path, tmp_path: Path) -> None:
    other = next(name for name in ARCHITECTURES if name != architecture_of(finished))
    config = write_config(tmp_path, other, ema_decay=0.9)
    with pytest.raises(UserError, match=r"model\.\w+.* was .* and is .* now"):
        run_training(config, road_store, finished, resume=True)


def test_dry_run_does_not_train(finished: Path, road_store: Path, tmp_path: Path, capsys: Any) -> None:
    arguments = ["train", "--config", str(config_beside(finished)), "--data-root", str(road_store), "--device", "cpu"]
    app([*arguments, "--run-dir", str(tmp_path / "run"), "--dry-run"], standalone_mode=False)
    assert "forward and backward pass of 2 clips" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("part", ["all", "dynamics"])
def test_learning_rate_finder(finished: Path, road_store: Path, tmp_path: Path, part: str) -> None:
    arguments = ["find-lr", "--config", str(config_beside(finished)), "--data-root", str(road_store), "--steps", "20"]
    app([*arguments, "--part", part, "--output", str(tmp_path / "lr"), "--device", "cpu"], standalone_mode=False)
    swept = json.loads((tmp_path / "lr/find_lr.json").read_text())["sweeps"][part]
    assert len(swept["rates"]) > 1 and all(math.isfinite(loss) for loss in swept["losses"])


def test_evaluation_report(finished: Path, road_store: Path, tmp_path: Path) -> None:
    arguments = ["evaluate", "--checkpoint", str(finished), "--data-root", str(road_store), "--device", "cpu"]
    arguments += ["--split", "test", "--clips", "3", "--horizon", "3"]
    found = []
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        output = tmp_path / name
        app([*arguments, "--output", str(output), "--seed", seed, "--batch-size", "1" if name == "b" else "8"],
            standalone_mode=False)  # fmt: skip
        found.append(json.loads((output / "evaluation.json").read_text())["horizons"])
    assert found[0] == found[1], "in any batch"
    assert (tmp_path / "a/report.html").is_file()


def test_rollout_views_work_for_every_model(finished: Path, road_store: Path, refuse: Refuse) -> None:
    architecture, model = architecture_of(finished), checkpoint.load(finished).model
    arguments = ["--checkpoint", str(finished), "--data-root", str(road_store), "--horizon", "2", "--device", "cpu"]
    for kind in ("rollout", "steering-sweep", "error", "sheet"):
        app(["visualize", kind, *arguments, "--output", f"{kind}.png"], standalone_mode=False)
        assert Path(f"{kind}.png").is_file()
    assert isinstance(model, HasMotion) == isinstance(model, HasLatents) == (architecture == "texture")
    for kind, message in (("motion", "has no motion to show"), ("latent", "has no grid of latents to show")):
        command = ["visualize", kind, *arguments, "--output", f"{kind}.png"]
        if architecture == "texture":
            app(command, standalone_mode=False)
            assert Path(f"{kind}.png").is_file()
        else:
            refuse(*command, message=message)


@pytest.mark.slow
def test_benchmark(finished: Path, tmp_path: Path) -> None:
    output = tmp_path / "model.json"
    app(["benchmark", "model", "--checkpoint", str(finished), "--quick", "--device", "cpu", "--output", str(output)],
        standalone_mode=False)  # fmt: skip
    row = json.loads(output.read_text())["raw"]["dreams"][0]
    assert row["kind"] == "model" and row["parameters"] > 0 and row["frame_flops"] > 0


def test_settings_of_another_architecture_are_rejected(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("model:\n  type: rssm\n  latent_dim: 8\n")
    with pytest.raises(UserError, match=r"a\.yaml:3: unknown key 'model\.latent_dim'"):
        load_config(file)
    with pytest.raises(UserError, match=r"did you mean 'model\.recurrent_dim'\?"):
        parse_config({"model": {"type": "rssm", "recurrent_dims": 8}})
    file.write_text("model:\n  image_size: [64, 64]\n  type: rsm\n")
    with pytest.raises(UserError, match=r"a\.yaml:3: .*unknown model architecture 'rsm'; did you mean 'rssm'\?"):
        load_config(file)
    with pytest.raises(UserError, match=r"'model\.type': input should be a valid string"):
        parse_config({"model": {"type": 3}})


@pytest.mark.parametrize("architecture", ["rssm", "diffusion"])
def test_too_small_images_are_rejected(architecture: str) -> None:
    with pytest.raises(UserError, match=r"model\.channels = .* both sides have to be multiples of \d+, and 36x50"):
        build_world_model(config_of(architecture, (36, 50)))


def test_noise_levels_follow_karras() -> None:
    levels = noise_levels(2)
    assert levels[0] == pytest.approx(5.0) and levels[1] == pytest.approx(((5 ** (1 / 7) + 0.002 ** (1 / 7)) / 2) ** 7)


def test_kl_divergence_moves_the_prior_to_the_posterior() -> None:
    posterior, prior = (torch.randn(2, 3, 8, 4, requires_grad=True) for _ in range(2))
    balanced_divergence(posterior.log_softmax(-1), prior.log_softmax(-1)).sum().backward()
    assert prior.grad is not None and posterior.grad is not None
    assert prior.grad.norm() > 2 * posterior.grad.norm() > 0


def test_diffusion_pads_a_short_context() -> None:
    model, (images, actions) = built("diffusion"), clip()
    state = model.init_state(images[:, :2], actions[:, :1])
    assert torch.equal(state.images[:, 0], images[:, 0]) and torch.equal(state.images[:, -1], images[:, 1])
    assert not state.actions[:, :2].any() and torch.equal(state.actions[:, 2], actions[:, 0])


def test_uint8_rollouts_match(road_store: Path) -> None:
    store = Store.open(road_store)
    batch = read_clips(store, fixed_clips(store, "test", 6, 2))
    model = build_world_model(parse_config({"model": {**settings("rssm")["model"], "image_size": [64, 64]}})).eval()
    frames = rollout_uint8(model, batch.images[:, :4], batch.actions, seed=5)
    assert frames.dtype == torch.uint8 and frames.shape == (2, 2, 3, 64, 64)
    assert torch.equal(frames, rollout_uint8(model, batch.images[:, :4], batch.actions, seed=5))


@pytest.mark.parametrize("architecture", ["rssm", "diffusion"])
def test_rollouts_have_a_seed_per_clip_or_none(architecture: str) -> None:
    model, (images, actions) = built(architecture, 0.2), clip()
    context = images[:, : model.context_frames]
    by_clip = rollout(model, context, actions, [3, 4, 3])
    for clip_number, seed in enumerate((3, 4, 3)):
        torch.testing.assert_close(by_clip[clip_number], rollout(model, context, actions, seed)[clip_number])
    likely = rollout(model, context, actions, None)
    with torch.no_grad():
        expected = torch.stack([frame for _, frame in unroll(model, context, actions)], dim=1)
    assert torch.equal(likely, expected.clamp(-1, 1))
    assert not likely.isclose(rollout(model, context, actions, 3), atol=1e-3).all()

"""Training steps: gradients that do not depend on the partition into batches, precision, moving averages."""

import math
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from daydrive import processor
from daydrive.config import load_config
from daydrive.data.sampling.clips import fixed_clips, read_clips
from daydrive.data.store.store import Store
from daydrive.training import step as step_module
from daydrive.training.distributed import DistributedContext
from daydrive.training.engine import Engine, compile_units, mixed_dtype
from daydrive.training.optim.ema import Ema
from daydrive.training.step import clips_per_pass, evaluate_batch
from daydrive.types import Batch
from helpers.runs import CPU

FULL = ["model.image_size=[64, 64]", "model.dynamics.dropout=0.0", "training.use_amp=false"]


@pytest.fixture
def batch(road_store: Path) -> Batch:
    """Six clips with different weights; the weights sum to 1."""
    store = Store.open(road_store)
    read = read_clips(store, fixed_clips(store, "train", 6, 6))
    weights = torch.tensor([1.0, 2.0, 3.0, 0.5, 1.5, 2.0])
    return replace(read, weights=weights / weights.sum())


def gradient(engine: Engine) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in engine.model.parameters() if p.grad is not None])


@pytest.mark.parametrize("cuts", [[6], [3, 3], [4, 2], [1, 1, 1, 1, 1, 1], [5, 1]])
@pytest.mark.parametrize("weighted", [True, False])
def test_accumulation_gives_the_gradient_of_the_large_batch(
    tiny_config: Path, batch: Batch, cuts: list[int], weighted: bool
) -> None:
    """Also with a smaller last group, and with weighted clips."""
    if not weighted:
        batch = replace(batch, weights=torch.full((6,), 1 / 6))
    engine = Engine(load_config(tiny_config, FULL), DistributedContext.single(CPU))
    whole = evaluate_batch(engine.objective, batch, nullcontext)
    assert batch.weights is not None
    expected_loss = sum(float(w * loss) for w, loss in zip(batch.weights, whole.parts["loss"], strict=True))
    assert float(whole.loss.detach()) == pytest.approx(expected_loss, rel=1e-5)
    whole.loss.backward()
    expected = gradient(engine)
    engine.zero_grad()
    pieces = [piece for piece in torch.arange(6).split(cuts)]
    for number, piece in enumerate(pieces):
        part = Batch(batch.images[piece], batch.actions[piece], weights=batch.weights[piece])
        engine.backward(part, last=number == len(pieces) - 1)
    assert torch.allclose(gradient(engine), expected, rtol=1e-3, atol=1e-7)


def test_micro_batches_give_the_gradient_of_the_batch(
    tiny_config: Path, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(load_config(tiny_config, FULL), DistributedContext.single(CPU))
    gradients, passes = [], []
    for pixels in (step_module.PIXELS_PER_PASS, 4 * 6 * 64 * 64):
        monkeypatch.setattr(step_module, "PIXELS_PER_PASS", pixels)
        engine.zero_grad()
        passes.append(len(list(engine.accumulate(batch, last=True))))
        gradients.append(gradient(engine))
    assert passes == [1, 2] and clips_per_pass(batch) == 4
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-3, atol=1e-7)


def test_clipping_uses_the_unscaled_global_norm(tiny_config: Path, batch: Batch) -> None:
    norms = []
    for precision in (["training.use_amp=false"], ["training.amp_dtype=float16"]):
        settings = [*FULL[:2], *precision, "training.max_grad_norm=0.01"]
        engine = Engine(load_config(tiny_config, settings), DistributedContext.single(CPU))
        engine.backward(batch)
        raw = gradient(engine)
        norms.append(engine.clip_gradients())
        assert float(gradient(engine).norm()) == pytest.approx(0.01, rel=1e-3)
    assert float(raw.norm()) > 100 * norms[1], "the float16 loss was scaled"
    assert norms[1] == pytest.approx(norms[0], rel=0.05)


def test_float16_overflow_skips_the_step_and_lowers_the_scale(tiny_config: Path, batch: Batch) -> None:
    engine = Engine(load_config(tiny_config, [*FULL[:2], "training.amp_dtype=float16"]), DistributedContext.single(CPU))
    before = {name: p.detach().clone() for name, p in engine.model.named_parameters()}
    scale = engine.precision.scaler.get_scale()
    engine.backward(batch)
    next(engine.model.parameters()).grad.fill_(float("inf"))  # type: ignore[union-attr]
    assert not math.isfinite(engine.clip_gradients())
    assert engine.precision.may_overflow
    engine.skip()
    assert engine.precision.skipped_steps == 1 and engine.precision.scaler.get_scale() == scale / 2
    assert all(torch.equal(p, before[name]) for name, p in engine.model.named_parameters())
    assert engine.precision.metrics() == {"train/skipped_steps": 1.0, "train/loss_scale": scale / 2}


def test_bfloat16_if_supported(tiny_config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = load_config(tiny_config).training
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    for features, expected in (({"avx2", "avx512f"}, None), ({"avx512f", "avx512_bf16"}, torch.bfloat16)):
        monkeypatch.setattr(processor, "processor_features", lambda features=features: frozenset(features))
        assert mixed_dtype(training, CPU) == expected
        assert mixed_dtype(training.model_copy(update={"amp_dtype": "bfloat16"}), CPU) == torch.bfloat16
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    assert mixed_dtype(training, CPU) is None, "a processor that PyTorch was not built for"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    assert mixed_dtype(training, torch.device("cuda")) == torch.float16
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert mixed_dtype(training, torch.device("cuda")) == torch.bfloat16
    assert mixed_dtype(training.model_copy(update={"use_amp": False}), CPU) is None


def test_ema_follows_and_replaces_the_weights() -> None:
    model = torch.nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.zero_()
    ema = Ema(model, 0.9)
    expected = 0.0
    for number in range(1, 101):
        with torch.no_grad():
            model.weight.fill_(float(number))
        ema.update(model)
        decay = min(0.9, (1 + number) / (10 + number))
        expected = decay * expected + (1 - decay) * number
    assert float(ema.average["weight"][0, 0]) == pytest.approx(expected, rel=1e-5)
    assert expected < 95
    with ema.applied_to(model):
        assert float(model.weight[0, 0]) == pytest.approx(expected, rel=1e-5)
    assert float(model.weight[0, 0]) == 100


@pytest.mark.parametrize("kind", ["adamw", "adam", "sgd", "muon"])
def test_every_optimizer_reduces_the_loss(tiny_config: Path, batch: Batch, kind: str) -> None:
    rate = {"sgd": "0.3", "muon": "3e-3"}.get(kind, "1e-2")
    settings = [*FULL, f"optimizer.type={kind}", f"optimizer.lr={rate}"]
    engine = Engine(load_config(tiny_config, settings), DistributedContext.single(CPU))
    losses = []
    for _ in range(12):
        losses.append(sum(float(result.loss) for result in engine.accumulate(batch, last=True)))
        engine.clip_gradients()
        engine.update()
    assert losses[-1] < 0.85 * losses[0]
    assert {type(optimizer).__name__.lower() for optimizer in engine.optimizers} == {
        "adamw", *([kind] if kind in ("adam", "sgd", "muon") else []),
    } - ({"adamw"} if kind in ("adam", "sgd") else set())  # fmt: skip


def test_gradient_checkpointing_is_bit_identical(tiny_config: Path, batch: Batch) -> None:
    gradients = []
    for checkpointed in (False, True):
        settings = ["model.image_size=[64, 64]", f"training.use_gradient_checkpointing={str(checkpointed).lower()}"]
        engine = Engine(load_config(tiny_config, settings), DistributedContext.single(CPU))
        torch.manual_seed(3)
        engine.backward(batch)
        gradients.append(gradient(engine))
    assert torch.equal(*gradients)


def test_failed_compilation_falls_back(tiny_config: Path, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(load_config(tiny_config, FULL), DistributedContext.single(CPU))
    expected = engine.evaluate(batch).loss

    def broken(function: object, **_: object) -> object:
        def call(*_: object) -> None:
            raise RuntimeError("no compiler here")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    output = compile_units(engine.model, lambda: engine.evaluate(batch))
    assert output == "torch.compile does not work here (no compiler here); training continues without it"
    assert torch.equal(engine.evaluate(batch).loss, expected)


@pytest.mark.slow
def test_compiled_model_is_equivalent(tiny_config: Path, batch: Batch) -> None:
    engine = Engine(load_config(tiny_config, FULL), DistributedContext.single(CPU))
    eager = engine.evaluate(batch).loss
    output = compile_units(engine.model, lambda: engine.evaluate(batch))
    assert output.startswith("torch.compile took")
    compiled = engine.evaluate(batch).loss
    assert float(compiled) == pytest.approx(float(eager), rel=1e-4)
    assert "encoder.in_proj.0.weight" in engine.model.state_dict()

"""Losses: values of cases computed by hand, and zero only for equal inputs."""

import pytest
import torch
from safetensors.torch import save_file

from daydrive import losses
from daydrive.errors import UserError
from daydrive.perceptual import BACKBONES, LPIPS, build_perceptual, convert_published_weights


def images(seed: int = 0, frames: int = 3) -> torch.Tensor:
    return torch.rand((2, frames, 3, 32, 32), generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_equal_images_have_zero_loss() -> None:
    x = images()
    last = images(1)[:, 0]
    for loss in (losses.reconstruction_loss, losses.prediction_loss, losses.structure_loss):
        assert loss(x, x).tolist() == [0, 0]
    assert losses.temporal_loss(x, x, last).tolist() == [0, 0]


def test_losses_are_per_clip() -> None:
    x, y, last = images(), images(2), images(1)[:, 0]
    assert losses.prediction_loss(x, y)[1] == losses.prediction_loss(x[1:], y[1:])[0]
    assert torch.allclose(losses.structure_loss(x, y)[1], losses.structure_loss(x[1:], y[1:])[0])
    assert torch.allclose(losses.temporal_loss(x, y, last)[1], losses.temporal_loss(x[1:], y[1:], last[1:])[0])
    network = LPIPS(BACKBONES["alexnet"])
    for weight in network.calibration:
        torch.nn.init.uniform_(weight)
    both, alone = network(x, y), network(x[1:], y[1:])
    assert both.shape == (2,) and torch.allclose(both[1], alone[0], rtol=1e-4)


def test_constant_offset_changes_l1_but_not_structure() -> None:
    x = images()
    assert losses.prediction_loss(x + 0.25, x).tolist() == pytest.approx([0.25] * 2, abs=1e-6)
    assert losses.structure_loss(x + 0.25, x).tolist() == pytest.approx([0] * 2, abs=1e-6)


def test_temporal_loss_counts_an_offset_once() -> None:
    x = images()
    assert losses.temporal_loss(x + 0.3, x, images(1)[:, 0]).tolist() == pytest.approx([0.1] * 2, abs=1e-6)


def test_energy_score_is_lowest_for_samples_as_spread_as_the_truth() -> None:
    random = torch.Generator().manual_seed(0)
    truth, *samples = (torch.randn((20_000, 1), generator=random) for _ in range(3))

    def score(spread: float) -> float:
        return float(losses.energy_score(losses.prediction_loss, [spread * s for s in samples], truth).mean())

    assert score(1.0) < min(score(0.0), score(0.6), score(1.6))
    assert score(0.0) == pytest.approx(float(truth.abs().mean()), rel=1e-6)  # two equal samples: the distance itself
    alone = losses.energy_score(losses.prediction_loss, samples[:1], truth)
    assert torch.equal(alone, losses.prediction_loss(samples[0], truth))


def test_structure_loss_of_an_edge() -> None:
    edge, flat = torch.zeros(1, 1, 3, 4, 4), torch.zeros(1, 1, 3, 4, 4)
    edge[..., 2:] = 1
    across = 1 / 3  # one of three differences at 4 px, the only one at 2 px
    assert losses.structure_loss(edge, flat, scales=1) == pytest.approx(across + 0.5 * across, abs=1e-6)
    assert losses.structure_loss(edge, flat, scales=2) == pytest.approx((across + 1) / 2 + 0.5 * across, abs=1e-6)


def test_structure_loss_of_an_opposite_edge() -> None:
    edge = torch.zeros(1, 1, 3, 8, 8)
    edge[..., 4:] = 1
    opposite = losses.structure_loss(-edge, edge, scales=1)
    assert opposite == pytest.approx(2 / 7, abs=1e-6)


def test_latent_regularisation_is_half_the_mean_square() -> None:
    assert losses.latent_regularisation(torch.tensor([[1.0, -3.0]])) == pytest.approx(2.5)


def test_lpips_is_zero_for_equal_images_and_grows_with_noise() -> None:
    torch.manual_seed(0)
    network = LPIPS(BACKBONES["alexnet"])
    for weight in network.calibration:
        torch.nn.init.uniform_(weight)
    x = torch.rand(1, 2, 3, 64, 64) * 2 - 1
    noise = torch.randn_like(x)
    near, far = network(x, x + 0.05 * noise), network(x, x + 0.5 * noise)
    assert network(x, x) == pytest.approx(0, abs=1e-7)
    assert 0 < near < far


@pytest.mark.parametrize(("kind", "convolutions"), [("vgg16", 13), ("alexnet", 5)])
def test_published_weights_fit(kind: str, convolutions: int) -> None:
    network = LPIPS(BACKBONES[kind])
    own = [layer[0] for layer in network.layers if isinstance(layer, torch.nn.Sequential)]
    assert len(own) == convolutions and len(network.calibration) == 5
    published = {}
    for i, layer in enumerate(own):
        published[f"features.{2 * i}.weight"] = torch.randn_like(layer.weight)
        published[f"features.{2 * i}.bias"] = torch.randn_like(layer.bias)
    calibration = {f"lin{i}.model.1.weight": torch.rand(1, len(w), 1, 1) for i, w in enumerate(network.calibration)}
    network.load_state_dict(convert_published_weights(kind, published, calibration))
    assert torch.equal(own[-1].weight, published[f"features.{2 * (convolutions - 1)}.weight"])


def test_missing_weights_name_command_and_setting(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UserError, match=r"daydrive fetch-weights vgg16.*loss\.perceptual_weights"):
        build_perceptual("vgg16", None, torch.device("cpu"))


def test_weights_come_from_a_local_file(tmp_path) -> None:
    file = tmp_path / "alexnet.safetensors"
    save_file(LPIPS(BACKBONES["alexnet"]).state_dict(), file)
    x = torch.rand(1, 1, 3, 64, 64)
    assert build_perceptual("alexnet", file, torch.device("cpu"))(x, x) == 0
    file.write_bytes(b"not weights")
    with pytest.raises(UserError, match="not the weights of alexnet"):
        build_perceptual("alexnet", file, torch.device("cpu"))

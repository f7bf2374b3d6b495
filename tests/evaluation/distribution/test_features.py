"""Feature extractors: the filters computed by hand, and the published networks with random weights."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from daydrive.errors import UserError
from daydrive.evaluation.distribution import features as found
from daydrive.evaluation.distribution import find_features
from daydrive.evaluation.distribution.features import load_published
from daydrive.evaluation.distribution.filters import COLOUR, DIMENSIONS, EDGE, change_features, image_features
from daydrive.evaluation.distribution.i3d import I3D, pad_same
from daydrive.evaluation.distribution.inception import InceptionV3, avg_pool_3x3, resize_tf1
from helpers.refusals import Refuse

CPU = torch.device("cpu")


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_filters_against_manual_values() -> None:
    ramp = (torch.arange(48) * 4).to(torch.uint8).expand(1, 3, 36, 48)
    brightness, red, blue, *edges = image_features(ramp)[0].view(-1, 3, 3)
    assert torch.allclose(brightness[:, 0], torch.tensor(7.5 * 4 / COLOUR))
    assert max(part.abs().max() for part in (red, blue)) < 1e-6
    right, down, diagonal, other = edges[:4]
    assert torch.allclose(right[:, 0], torch.tensor(4 / EDGE)) and not down.any()
    assert torch.allclose(diagonal[0, :2], torch.tensor(4 / math.sqrt(2) / EDGE)), "across by one, over √2"
    assert torch.allclose(other[0, :2], diagonal[0, :2])
    assert torch.allclose(edges[4][:, 0], torch.tensor(8 / EDGE)), "at half the size a step is twice as far"
    assert torch.allclose(edges[8][:, 0], torch.tensor(16 / EDGE))
    colour = torch.tensor([200, 100, 50], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 9, 9)
    y = 0.299 * 200 + 0.587 * 100 + 0.114 * 50
    brightness, red, blue, *edges = image_features(colour)[0].view(-1, 3, 3)
    for part, value in ((brightness, y), (red, 200 - y), (blue, 50 - y)):
        assert torch.allclose(part, torch.tensor(value / COLOUR), atol=1e-5)
    assert not any(edge.abs().max() > 1e-5 for edge in edges)


def test_changes_against_manual_values() -> None:
    frames = noise(5, 3, 16, 24)
    assert not change_features(frames[0], frames[:1].expand(4, -1, -1, -1)).any(), "nothing moves"
    brighter = (frames.int() // 2 + 40).to(torch.uint8)
    flash = change_features((frames[0].int() // 2).to(torch.uint8), brighter[:1])
    assert torch.allclose(flash[0, :9], torch.tensor(40 / COLOUR), atol=1e-5) and flash[0, 9:].abs().max() < 1e-5
    forth, back = change_features(frames[0], frames[1:2]), change_features(frames[1], frames[0:1])
    assert torch.allclose(forth, back), "sizes have no direction"
    assert torch.equal(change_features(frames[0], frames[1:])[2:3], change_features(frames[2], frames[3:4]))


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 2), (64, 64), (31, 50)])
def test_filters_accept_any_image_size_and_do_not_depend_on_the_batch(size: tuple[int, int]) -> None:
    frames = noise(4, 3, *size)
    whole = image_features(frames)
    assert whole.shape == (4, DIMENSIONS) and whole.dtype == torch.float32 and whole.isfinite().all()
    assert torch.equal(whole, torch.cat([image_features(frame[None]) for frame in frames]))
    assert change_features(frames[0], frames).shape == (4, DIMENSIONS)
    if size == (1, 1):
        assert not whole[:, 27:].any(), "one pixel has no edges"


def by_rule(image: np.ndarray, side: int) -> np.ndarray:
    """Bilinear, pixel by pixel: output pixel i samples i H / side."""
    height, width = image.shape
    result = np.empty((side, side))
    for i in range(side):
        for j in range(side):
            y, x = i * height / side, j * width / side
            top, left = int(y), int(x)
            rows = [image[min(top + k, height - 1)] for k in (0, 1)]
            upper, lower = (row[left] + (x - left) * (row[min(left + 1, width - 1)] - row[left]) for row in rows)
            result[i, j] = upper + (y - top) * (lower - upper)
    return result


def test_resizing_matches_tensorflow() -> None:
    tenths = torch.arange(1.0, 10.0).view(1, 1, 3, 3) / 10
    published = [0.1, 0.1333, 0.1666, 0.2, 0.2333, 0.2666, 0.3, 0.3, 0.3]
    assert resize_tf1(tenths, 9)[0, 0, 0].tolist() == pytest.approx(published, abs=1e-3)
    for height, width, side in ((5, 8, 13), (20, 7, 11), (1, 1, 4)):
        image = torch.rand(1, 1, height, width, generator=torch.Generator().manual_seed(0))
        expected = by_rule(image[0, 0].double().numpy(), side)
        assert resize_tf1(image, side)[0, 0].numpy() == pytest.approx(expected, abs=1e-5)


def test_average_pooling_excludes_padding() -> None:
    assert torch.equal(avg_pool_3x3(torch.full((1, 2, 4, 5), 3.0)), torch.full((1, 2, 4, 5), 3.0))
    corner = avg_pool_3x3(torch.arange(16.0).view(1, 1, 4, 4))[0, 0, 0, 0]
    assert corner.item() == (0 + 1 + 4 + 5) / 4


@pytest.mark.parametrize("length", range(1, 20))
@pytest.mark.parametrize(("side", "stride"), [(7, 2), (3, 2), (3, 1), (2, 2), (1, 2)])
def test_padding_matches_tensorflow_same(length: int, side: int, stride: int) -> None:
    x = pad_same(torch.ones(1, 1, length, 1, 1), (side, 1, 1), (stride, 1, 1)).flatten()
    assert (len(x) - side) // stride + 1 == math.ceil(length / stride) or side < stride
    before = int(x.argmax())
    assert 0 <= (len(x) - length - before) - before <= 1, "the odd one is behind"


def test_networks_have_the_published_names_and_shapes() -> None:
    inception = {name: tuple(x.shape) for name, x in InceptionV3().state_dict().items() if "tracked" not in name}
    assert len(inception) == 472
    for name, shape in {
        "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
        "Conv2d_4a_3x3.bn.running_var": (192,),
        "Mixed_5b.branch_pool.conv.weight": (32, 192, 1, 1),
        "Mixed_6a.branch3x3dbl_3.conv.weight": (96, 96, 3, 3),
        "Mixed_6c.branch7x7dbl_5.conv.weight": (192, 160, 1, 7),
        "Mixed_7a.branch7x7x3_3.conv.weight": (192, 192, 7, 1),
        "Mixed_7c.branch3x3dbl_1.conv.weight": (448, 2048, 1, 1),
        "fc.weight": (1008, 2048),
    }.items():
        assert inception[name] == shape
    learned = [name for name in inception if not name.startswith("fc.") and "running" not in name]
    assert sum(math.prod(inception[name]) for name in learned) == 21_785_568
    i3d = {name: tuple(x.shape) for name, x in I3D().state_dict().items() if "tracked" not in name}
    for name, shape in {
        "Conv3d_1a_7x7.conv3d.weight": (64, 3, 7, 7, 7),
        "Mixed_3b.b1b.conv3d.weight": (128, 96, 3, 3, 3),
        "Mixed_4f.b3b.bn.running_mean": (128,),
        "Mixed_5c.b2a.conv3d.weight": (48, 832, 1, 1, 1),
        "logits.conv3d.weight": (400, 1024, 1, 1, 1),
        "logits.conv3d.bias": (400,),
    }.items():
        assert i3d[name] == shape
    assert sum(math.prod(shape) for name, shape in i3d.items() if "running" not in name) == 12_697_264


class Small(nn.Module):
    """Replaces a network; uint8 images or clips → (N, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(3)
        self.conv = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        means = x.float().mean((-1, -2))
        return self.conv(self.bn(means if means.dim() == 2 else means.mean(1)))


def published(file: Path, seed: int = 0, **changes: Tensor | None) -> Path:
    """Saves the weights of a `Small`, with some tensors removed or replaced."""
    torch.manual_seed(seed)
    state = {name: x for name, x in Small().state_dict().items() if not name.endswith("num_batches_tracked")}
    state |= {"aux.weight": torch.zeros(2)}
    for name, tensor in changes.items():
        state[name.replace("__", ".")] = tensor
    state = {name: x for name, x in state.items() if x is not None}
    if file.suffix == ".safetensors":
        save_file(state, file)
    else:
        torch.save(state, file)
    return file


def test_torch_and_safetensors_files_are_read(tmp_path: Path) -> None:
    read = []
    for file in (tmp_path / "a.pth", tmp_path / "a.safetensors"):
        network = Small().train()
        load_published(network, published(file), "--fid-weights", "a network")
        assert not network.training and not any(p.requires_grad for p in network.parameters())
        read.append(network(noise(2, 3, 4, 4)))
    assert torch.equal(*read)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conv__weight": None}, r"not the weights of a network: 'conv.weight' is missing"),
        ({"conv__weight": torch.zeros(4, 5)}, r"'conv.weight' is 4x5, not 4x3"),
        (
            {"bn__running_var": torch.tensor([1.0, math.nan, 1.0])},
            r"'bn.running_var' contains values that are not finite",
        ),
    ],
)
def test_error_names_the_first_mismatching_tensor(
    tmp_path: Path, changes: dict[str, Tensor | None], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        load_published(Small(), published(tmp_path / "w.pth", **changes), "--fid-weights", "a network")


class Planted:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (open, ("planted", "w"))


def test_invalid_weight_files(refuse: Refuse, here: Path) -> None:
    (here / "noise.pth").write_bytes(bytes(range(256)) * 9)
    (here / "noise.safetensors").write_bytes(bytes(range(256)) * 9)
    torch.save([1, 2], here / "list.pth")
    torch.save({"fc.weight": Planted()}, here / "planted.pth")
    published(here / "other.pth")
    evaluate = ("evaluate", "--checkpoint", "run", "--data-root", "store", "--output", "out")
    refuse(*evaluate, "--fid-weights", "no.pth", message="--fid-weights no.pth: there is no such file")
    refuse(*evaluate, "--fid-weights", "noise.pth", message="--fid-weights noise.pth: cannot be read as weights")
    refuse(*evaluate, "--fvd-weights", "noise.safetensors", message="--fvd-weights noise.safetensors: cannot be read")
    refuse(*evaluate, "--fvd-weights", "list.pth", message="list.pth: must contain a state dict, not a list")
    refuse(*evaluate, "--fid-weights", "planted.pth", message="planted.pth: cannot be read as weights")
    assert not (here / "planted").exists(), "no code in a file is run"
    message = r"--fvd-weights other.pth: not the weights of FVD's I3D: 'Conv3d_1a_7x7.conv3d.weight' is missing"
    refuse(*evaluate, "--fvd-weights", "other.pth", message=message)


def test_samples_are_frames_and_segments_of_sixteen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(found.inception, "InceptionV3", Small)
    monkeypatch.setattr(found.i3d, "I3D", Small)
    monkeypatch.setattr(found.i3d, "DIMENSIONS", 4)
    file = published(tmp_path / "w.pth")
    *_, fid, fvd = find_features(file, file, CPU)
    assert [f.key for f in find_features(None, None, CPU)] == ["filters", "change_filters"]
    assert fid.key == "fid" and fid.per_frame and "w.pth, sha256 " in fid.name
    frames = noise(40, 3, 8, 8)
    network = Small()
    load_published(network, file, "--fid-weights", "a network")
    assert torch.allclose(fid.extract(frames[0], frames), network(frames), atol=1e-6)
    assert not fvd.per_frame and len(fvd.extract(frames[0], frames[:15])) == 0
    clips = torch.stack([frames[:16], frames[16:32]])
    assert torch.allclose(fvd.extract(frames[0], frames), network(clips), atol=1e-6)


def lively(network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Random weights with features of a reasonable scale: the batch norm statistics are those of the images."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            module.momentum = None
    with torch.no_grad():
        network.train()(images)
    return network.state_dict()


@pytest.mark.slow
def test_networks_with_published_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    frames = noise(16, 3, 40, 60)
    torch.save(lively(InceptionV3(), frames[:4]), tmp_path / "fid.pth")
    save_file(lively(I3D(), frames[None]), tmp_path / "fvd.safetensors")
    *_, fid, fvd = find_features(tmp_path / "fid.pth", tmp_path / "fvd.safetensors", CPU)
    of_frames, of_clip = fid.extract(frames[0], frames[:2]), fvd.extract(frames[0], frames)
    assert of_frames.shape == (2, 2048) and of_clip.shape == (1, 400)
    assert of_frames.isfinite().all() and of_clip.isfinite().all()
    assert torch.allclose(of_frames[:1], fid.extract(frames[0], frames[:1]), atol=1e-4)
    assert 0.1 < of_frames.mean() < 10 and of_frames.min() >= 0
    assert (of_frames[0] - of_frames[1]).abs().max() > 10 * fid.step
    turned = fvd.extract(frames[0], frames.flip(0))
    assert (of_clip - turned).abs().max() > 10 * fvd.step, "the order in time counts"

"""The world model: shapes and ranges for all sizes, and the effect of every setting and input."""

import pytest
import torch

from daydrive.errors import UserError
from daydrive.models import build_world_model
from daydrive.models.noise import ClipGenerators
from daydrive.models.texture import texture_memory
from daydrive.models.texture.config import DecoderConfig, DynamicsConfig, EncoderConfig, TextureConfig
from daydrive.models.texture.decoder import KNOWN_NOISE
from daydrive.models.texture.model import TextureWorldModel
from daydrive.models.texture.sizes import stage_sizes
from daydrive.models.texture.texture_memory import Motion, known_detail, render, sample, warp

TINY = TextureConfig(
    latent_dim=8,
    hidden_dim=16,
    encoder=EncoderConfig(stages=[8, 16], num_heads=2),
    dynamics=DynamicsConfig(num_layers=1, dropout=0.0),
    decoder=DecoderConfig(stages=[16, 8], init_size=16),
    image_size=(64, 64),
)


def tiny(**changes: object) -> TextureWorldModel:
    torch.manual_seed(0)
    model = build_world_model(TINY.model_copy(update=changes)).eval()
    assert isinstance(model, TextureWorldModel)
    return model


def clip(size: tuple[int, int] = (64, 64), frames: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand((2, frames, 3, *size), generator=generator) * 2 - 1
    return images, torch.rand((2, frames - 1, 4), generator=generator)


@pytest.mark.parametrize("size", [(64, 64), (128, 128), (256, 256), (64, 128), (128, 256)])
def test_shapes_and_range(size: tuple[int, int]) -> None:
    output = tiny(image_size=size)(*clip(size))
    assert output["reconstructed"].shape == (2, 6, 3, *size)
    assert output["predicted"].shape == (2, 2, 3, *size)
    assert output["latents"].shape[:3] == (2, 6, 8)
    assert output["predicted_latents"].shape == (2, 2, *output["latents"].shape[2:])
    for name in ("reconstructed", "predicted"):
        assert output[name].abs().max() <= 1 + 1e-5  # type: ignore[literal-required]


def changed(**changes: object) -> dict[str, torch.Size]:
    return {name: p.shape for name, p in tiny(**changes).named_parameters()}


@pytest.mark.parametrize(
    ("changes", "touched"),
    [
        ({"latent_dim": 12}, "dynamics.in_proj.weight"),
        ({"action_dim": 5}, "dynamics.embed.0.weight"),
        ({"hidden_dim": 24}, "dynamics.layers.0.mix.weight"),
        ({"encoder": EncoderConfig(stages=[8, 24], num_heads=2)}, "encoder.in_proj.1.weight"),
        ({"dynamics": DynamicsConfig(num_layers=2, dropout=0.0)}, "dynamics.layers.1.mix.weight"),
        ({"decoder": DecoderConfig(stages=[24, 8], init_size=16)}, "decoder.latent_proj.weight"),
        ({"decoder": DecoderConfig(stages=[16, 8], init_size=8)}, "dynamics.pos_embed"),
    ],
)
def test_each_size_setting_changes_its_part(changes: dict[str, object], touched: str) -> None:
    before, after = changed(), changed(**changes)
    assert after[touched] != before.get(touched)


def test_the_number_of_heads_changes_the_output() -> None:
    torch.manual_seed(0)
    two, four = tiny(), tiny(encoder=EncoderConfig(stages=[8, 16], num_heads=4))
    attention = two.encoder.stages[1][1]
    torch.nn.init.normal_(attention.out.weight)
    four.load_state_dict(two.state_dict())
    images, _ = clip()
    assert not torch.allclose(two.encode(images), four.encode(images), atol=1e-4)


def test_dropout_acts_in_training_only() -> None:
    model = tiny(dynamics=DynamicsConfig(num_layers=1, dropout=0.5))
    images, actions = clip()
    assert torch.equal(model(images, actions)["predicted_latents"], model(images, actions)["predicted_latents"])
    model.train()
    assert not torch.equal(model(images, actions)["predicted_latents"], model(images, actions)["predicted_latents"])


def test_init_size_is_the_shorter_side_of_the_latent_grid() -> None:
    images, _ = clip((64, 128))
    assert tiny(image_size=(64, 128)).encode(images).shape[-2:] == (16, 32)


@pytest.mark.parametrize("size", [(60, 60), (16, 16), (64, 98)])
def test_invalid_sizes_are_rejected(size: tuple[int, int]) -> None:
    with pytest.raises(UserError, match=f"init_size = 16 does not fit images of {size[0]}x{size[1]}"):
        tiny(image_size=size)


@pytest.mark.parametrize("size", [(64, 64), (256, 256), (128, 256), (64, 128)])
@pytest.mark.parametrize("stages", [1, 2, 3, 5])
def test_stages_reach_the_grid_and_return(size: tuple[int, int], stages: int) -> None:
    config = TINY.model_copy(
        update={
            "encoder": EncoderConfig(stages=[8] * stages),
            "decoder": DecoderConfig(stages=[8] * stages, init_size=16),
        }
    )
    sizes = stage_sizes(config, size)
    down, up = 1, sizes.head
    for factor in sizes.reductions:
        down *= factor
    for factor in sizes.enlargements:
        up *= factor
    assert down == up == min(size) // 16
    assert sizes.head >= 2 or down == 1


def test_reconstruction_depends_only_on_the_latent() -> None:
    model = tiny()
    images, _ = clip()
    latents = model.encode(images)
    assert torch.equal(model.decode(latents), model(images, clip()[1])["reconstructed"])
    before = model.decode(torch.zeros_like(latents))
    images.mul_(-1)
    assert torch.equal(model.decode(torch.zeros_like(latents)), before)


def test_rollout_does_not_depend_on_future_frames() -> None:
    model = tiny()
    images, actions = clip()
    other = images.clone()
    other[:, 4:] = -other[:, 4:]
    assert torch.equal(model(images, actions)["predicted"], model(other, actions)["predicted"])


def test_rollout_depends_on_context_and_actions() -> None:
    torch.manual_seed(0)
    model = tiny()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    images, actions = clip()
    predicted = model(images, actions)["predicted"]
    for t in (3, 4):
        other = actions.clone()
        other[:, t, 0] += 1
        assert not torch.equal(model(images, other)["predicted"][:, -1], predicted[:, -1]), f"action {t}"
    for t in (1, 2, 3):
        other = images.clone()
        other[:, t] *= -1
        assert not torch.equal(model(other, actions)["predicted"][:, 0], predicted[:, 0]), f"frame {t}"


def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    images, actions = clip()
    gradients = []
    for enabled in (False, True):
        model = tiny().train()
        model.enable_gradient_checkpointing(enabled)
        model(images, actions)["predicted"].square().mean().backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_every_parameter_gets_a_gradient() -> None:
    model = tiny().train()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    output = model(*clip())
    loss = output["predicted"].square().mean() + output["reconstructed"].square().mean()
    (loss + output["predicted_latents"].square().mean()).backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent


def image(frames: int = 1) -> torch.Tensor:
    return torch.rand((frames, 3, 12, 16), generator=torch.Generator().manual_seed(2)) * 2 - 1


def motion(dx: float, dy: float, mask: float = 0.0, content: float = 0.0) -> Motion:
    flow = torch.tensor([dx, dy]).view(1, 2, 1, 1).expand(1, 2, 12, 16)
    return Motion(flow, torch.full((1, 1, 12, 16), mask), torch.full((1, 3, 12, 16), content))


def test_noise_changes_rollouts_most_where_the_source_shows_nothing() -> None:
    model = tiny(noise=True)
    torch.nn.init.zeros_(model.dynamics.noise_proj.weight)
    images, actions = clip()
    generators = [torch.Generator().manual_seed(seed) for seed in (0, 0, 1)]
    first, again, other = (model(images, actions, generator=g)["predicted"] for g in generators)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(model(images, actions)["predicted"], model(images, actions)["predicted"])

    state = model.init_state(images[:, :4], actions[:, :3])
    gone = state._replace(texture=state.texture._replace(opacity=torch.zeros_like(state.texture.opacity)))
    change = []
    for start in (state, gone):
        masks = [model.step(start, actions[:, 3], torch.Generator().manual_seed(s))[0].motion.mask for s in (0, 1)]
        change.append((masks[0] - masks[1]).abs().mean())
    assert float(change[1] / change[0]) == pytest.approx(1 / KNOWN_NOISE, rel=0.4)


def test_noise_of_the_whole_image_changes_its_motion() -> None:
    model = tiny(noise=True)
    for layer in model.decoder.noise_proj:
        torch.nn.init.zeros_(layer.weight)
    for name, weight in model.named_parameters():
        if "modulation" in name:  # zero at first
            torch.nn.init.normal_(weight, std=0.1)
    images, actions = clip()
    state = model.init_state(images[:, :4], actions[:, :3])
    flows = [model.step(state, actions[:, 3], torch.Generator().manual_seed(s))[0].motion.flow for s in (0, 0, 1)]
    assert torch.equal(flows[0], flows[1]) and not torch.equal(flows[0], flows[2])


def test_noise_of_a_clip_does_not_depend_on_the_others() -> None:
    model, (images, actions) = tiny(noise=True), clip()
    together = ClipGenerators([torch.Generator().manual_seed(seed) for seed in (3, 4)])
    both = model(images, actions, generator=together)["predicted"]
    alone = model(images[1:], actions[1:], generator=torch.Generator().manual_seed(4))["predicted"]
    assert torch.allclose(both[1], alone[0], atol=1e-5)


def test_known_detail_falls_with_opacity_and_magnification() -> None:
    texture = texture_memory.init(torch.zeros(1, 3, 8, 8))
    assert torch.equal(known_detail(texture), torch.ones(1, 1, 8, 8))
    assert torch.equal(
        known_detail(texture._replace(opacity=torch.full((1, 1, 8, 8), 0.3))), torch.full((1, 1, 8, 8), 0.3)
    )
    grid = texture_memory.pixel_grid(8, 8, texture.source)
    twice = known_detail(texture._replace(displacement=-0.5 * grid))  # each source pixel fills 2x2
    assert twice[..., :-1, :-1].unique().tolist() == pytest.approx([0.25])
    half = known_detail(texture._replace(displacement=grid.clone()))
    assert half[..., :-1, :-1].unique().tolist() == [1.0]


def test_level_of_the_context_noise_is_an_input() -> None:
    model, (images, actions) = tiny(context_noise=0.5), clip()
    assert model.dynamics.embed[0].in_features == 5
    assert torch.equal(model(images, actions)["predicted"], model(images, actions)["predicted"])
    model.train()
    assert not torch.equal(model(images, actions)["predicted"], model(images, actions)["predicted"])


def test_integer_flow_shifts_the_image_exactly() -> None:
    x = image()
    moved = render(warp(texture_memory.init(x), motion(3, -1)))
    assert torch.allclose(moved[..., 1:, :-3], x[..., :-1, 3:], atol=1e-5)


def test_repeated_half_pixel_shifts_do_not_blur() -> None:
    x = image()
    texture = texture_memory.init(x)
    for _ in range(4):
        texture = warp(texture, motion(0.5, 0))
    assert torch.allclose(render(texture)[..., :-3], x[..., 2:-1], atol=1e-4)


def test_content_replaces_the_image_by_its_mask() -> None:
    texture = warp(texture_memory.init(image()), motion(0, 0, mask=1.0, content=0.25))
    assert torch.allclose(render(texture), torch.full((1, 3, 12, 16), 0.25))
    half = warp(texture_memory.init(image()), motion(0, 0, mask=0.5, content=0.25))
    assert torch.allclose(render(half), 0.5 * image() + 0.125, atol=1e-5)


def test_sampling_outside_repeats_the_border() -> None:
    x = image()
    far = sample(x, torch.full((1, 2, 12, 16), 100.0))
    assert torch.allclose(far, x[..., -1:, -1:].expand_as(x), atol=1e-5)

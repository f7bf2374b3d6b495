"""Weather: its effect on colours, visibility and lamps."""

from __future__ import annotations

from dataclasses import dataclass

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Weather:
    """Colours are RGB 0..255; `light` is a factor on all colours lit by daylight."""

    name: str
    zenith: Colour
    haze: Colour
    light: Colour
    cloud: Colour
    cover: float
    """Cloud cover, 0..1."""
    sight: float
    """Visibility: distance (m) at which the contrast falls to 1/e."""
    sun: float = 0.0
    """Strength of the glow around the sun."""
    wet: float = 0.0
    """Reflectivity of the road, 0..1."""
    lamps: float = 0.0
    """Brightness of headlamps, street lamps and windows, 0..1."""


WEATHERS: dict[str, Weather] = {
    w.name: w
    for w in (
        Weather("clear", (58, 118, 196), (206, 222, 233), (1.06, 1.03, 0.96), (250, 250, 250), 0.36, 290, sun=0.8),
        Weather("overcast", (142, 152, 164), (203, 207, 210), (0.80, 0.81, 0.82), (176, 182, 190), 0.75, 240),
        Weather("fog", (178, 184, 188), (192, 197, 200), (0.80, 0.81, 0.82), (190, 195, 198), 0.3, 75, wet=0.15),
        Weather(
            "rain", (84, 92, 102), (134, 141, 147), (0.50, 0.53, 0.56), (96, 103, 112), 0.8, 150, wet=0.75, lamps=0.5
        ),
        Weather(
            "dusk", (44, 56, 104), (226, 152, 104), (0.50, 0.41, 0.40), (148, 96, 108), 0.45, 230, sun=1.0, lamps=1.0
        ),
    )
}

PROBABILITIES = (("clear", 0.40), ("overcast", 0.22), ("fog", 0.10), ("rain", 0.14), ("dusk", 0.14))


def choose_weather(u: float) -> str:
    """Sample a weather with a uniform number u in [0, 1)."""
    for name, probability in PROBABILITIES:
        if u < probability:
            return name
        u -= probability
    return PROBABILITIES[0][0]

"""Tests of the test helpers."""

from __future__ import annotations

import simplejpeg

from helpers.drives import numbered_image


def test_images_encode_their_number() -> None:
    for number in (0, 77, 255):
        decoded = simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(numbered_image(number), 95))
        assert abs(int(decoded[0, 0, 0]) - number) <= 3

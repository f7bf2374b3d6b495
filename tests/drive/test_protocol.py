"""Messages: what is accepted, and what is answered with a sentence."""

from __future__ import annotations

import json

import pytest

from daydrive.drive.protocol import ActionMessage, pack, parse, unpack
from daydrive.errors import UserError
from helpers.driving import ACTION, INVALID


@pytest.mark.parametrize("name", INVALID)
def test_invalid_messages_are_answered_with_a_sentence(name: str) -> None:
    message, expected = INVALID[name]
    text = message if isinstance(message, str | bytes) else json.dumps(message)
    with pytest.raises(UserError, match=expected) as caught:
        parse(text)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_actions_keep_their_values() -> None:
    message = parse(json.dumps({**ACTION, "key": True}))
    assert isinstance(message, ActionMessage) and message.key
    assert message.action.tolist() == [-0.5, 0.25, 0.0, 1.0]


def test_packed_images_are_unpacked() -> None:
    header, images = unpack(pack({"type": "frame", "name": "ö"}, [b"abc", b"", b"\x00" * 300]))
    assert header == {"type": "frame", "name": "ö", "sizes": [3, 0, 300]} and images == [b"abc", b"", b"\x00" * 300]

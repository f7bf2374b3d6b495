"""Messages between page and server.

The page sends JSON texts, one of the classes below each. The server sends JSON texts with a `type` (welcome, status,
recorded, results, error), and images as binary messages: the length of a JSON header (4 bytes, little-endian), the
header with the `sizes` of the JPEGs that follow, and these.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from daydrive.drive.simulators import Action
from daydrive.errors import UserError

VERSION = 1
MAX_MESSAGE = 4096
"""Bytes of the longest message from a page."""

Seed = Annotated[int, Field(ge=0, lt=2**31)]
DrivingMode = Literal["human", "recorded", "policy"]
SessionId = Annotated[str, Field(pattern="^[a-z0-9]{1,16}$")]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


class Hello(_Message):
    """The first message. session: to watch or continue; None for a new one."""

    type: Literal["hello"]
    version: int
    session: SessionId | None = None


class ActionMessage(_Message):
    """The newest action. sequence: returned with the first frame that follows from it. key: a key was pressed or
    released, so the newest frame is predicted again instead of waiting for the next."""

    type: Literal["action"]
    sequence: int = Field(ge=0)
    steering: float = Field(ge=-1, le=1)
    throttle: float = Field(ge=0, le=1)
    brake: float = Field(ge=0, le=1)
    gear: Literal[-1, 0, 1]
    key: bool = False

    @property
    def action(self) -> Action:
        return np.array([self.steering, self.throttle, self.brake, self.gear], dtype=np.float32)


class Pause(_Message):
    type: Literal["pause"]
    on: bool


class SingleStep(_Message):
    type: Literal["step"]


class Reset(_Message):
    """Start anew. moment: by its index; None for the same one."""

    type: Literal["reset"]
    moment: int | None = Field(default=None, ge=0)


class Reseed(_Message):
    """Sample another future. seed: None for a seed not used before."""

    type: Literal["seed"]
    seed: Seed | None = None


class Rewind(_Message):
    type: Literal["rewind"]
    step: int = Field(ge=0)


class Pace(_Message):
    """factor: below 1 for slow motion."""

    type: Literal["pace"]
    factor: float = Field(ge=0.1, le=1)


class Mode(_Message):
    """Whose actions drive: those of the person, of the recorded driver, or of the policy."""

    type: Literal["mode"]
    mode: DrivingMode


class Record(_Message):
    type: Literal["record"]
    on: bool


class Preview(_Message):
    """Whether to predict where steering left and right would lead."""

    type: Literal["preview"]
    on: bool


class Reference(_Message):
    """Whether the true simulator takes the same actions beside the model."""

    type: Literal["reference"]
    on: bool


class Choose(_Message):
    """A choice in the blind comparison of two models."""

    type: Literal["choose"]
    choice: Literal["left", "right", "equal"]


class Reveal(_Message):
    """Show the results of the blind comparison so far."""

    type: Literal["reveal"]


class TakeWheel(_Message):
    """Become the one viewer of the session whose messages drive."""

    type: Literal["wheel"]


Message = (
    Hello | ActionMessage | Pause | SingleStep | Reset | Reseed | Rewind | Pace | Mode | Record | Preview | Reference
    | Choose | Reveal | TakeWheel
)  # fmt: skip
_MESSAGES: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="type")])


def parse(text: str | bytes) -> Message:
    """The message of a JSON text. Raises UserError where it is not one."""
    if isinstance(text, bytes):
        raise UserError("messages are JSON texts, not binary")
    if len(text) > MAX_MESSAGE:
        raise UserError(f"the message has {len(text)} characters; at most {MAX_MESSAGE} are accepted")
    try:
        return _MESSAGES.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"the message is not valid: {where + ': ' if where else ''}{first['msg']}") from None


def pack(header: dict[str, Any], images: Sequence[bytes]) -> bytes:
    """A binary message of JPEGs; the header gets their `sizes`."""
    text = json.dumps({**header, "sizes": [len(image) for image in images]}, separators=(",", ":")).encode()
    return b"".join([struct.pack("<I", len(text)), text, *images])


def unpack(data: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """The header and the JPEGs of a binary message."""
    (length,) = struct.unpack_from("<I", data)
    header: dict[str, Any] = json.loads(data[4 : 4 + length])
    images, start = [], 4 + length
    for size in header["sizes"]:
        images.append(data[start : start + size])
        start += size
    return header, images

"""Where a store lies: a folder of this machine, or a place on an object store, `s3://bucket/name` or `gs://bucket/name`.

`Path("s3://b/x")` would be a folder called `s3:`, so whatever names a store goes through `location`.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from daydrive.errors import UserError

Location = Path
"""A `Path`, or a `UPath` of universal_pathlib, which has the same methods but is none."""

CONNECT_SECONDS, TRIES = 5, 1
"""how long, and how often beyond the first time, an object store that does not answer is waited for"""

_FILESYSTEMS = {"s3": "s3fs", "gs": "gcsfs"}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+")
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or `gcloud auth application-default login`",
}


class UnreachableError(UserError):
    """An object store does not do what it was asked; the same may work later."""


def location(place: str | Path) -> Location:
    """UserError for a URL that is none of an object store's, and where the package for that is missing."""
    text = str(place)
    found = _SCHEME.match(text)
    if found is None:
        return Path(text) if isinstance(place, str) else place
    scheme, rest = found[1].lower(), text[found.end() :]
    if scheme == "file":
        return Path("/" + rest)
    if scheme not in _FILESYSTEMS:
        raise UserError(f"{text}: a store is a folder, or lies on s3://BUCKET/NAME or gs://BUCKET/NAME")
    if not all(rest.strip("/").partition("/")[::2]):
        raise UserError(f"{text}: a store needs a name below its bucket, {scheme}://BUCKET/NAME")
    if any(importlib.util.find_spec(package) is None for package in ("upath", _FILESYSTEMS[scheme])):
        raise UserError(f"{text}: stores on {scheme}:// need further packages, `pip install 'daydrive[{scheme}]'`")
    from upath import UPath

    there: Any = UPath(f"{scheme}://{rest.strip('/')}", **_filesystem_options(scheme))
    if scheme == "s3":
        there.fs.retries = 1  # on top of its client's, which would make minutes of it
    return cast(Path, there)


def is_remote(place: Location) -> bool:
    """Whether it lies on an object store."""
    return not isinstance(place, Path)


def exists(place: Location) -> bool:
    """Whether anything is there; UnreachableError for an object store that can't be asked and a bucket that isn't."""
    with reached(place):
        if place.exists():
            return True
        if is_remote(place):
            bucket = str(place).split("/")[2]
            if not cast(Any, place).fs.exists(bucket):
                raise UnreachableError(f"{place}: the bucket '{bucket}' does not exist")
    return False


def check_writable(place: Location) -> None:
    """UnreachableError where nothing can be written there."""
    probe = place / ".daydrive"
    with reached(place):
        probe.write_bytes(b"")
        probe.unlink()


@contextmanager
def reached(place: Location) -> Iterator[None]:
    """UnreachableError in place of what the client of an object store raises."""
    if not is_remote(place):
        yield
        return
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UnreachableError(f"{place}: {_reason(place, error)}") from error


def storage_options(place: Location) -> dict[str, str] | None:
    """What Lance has to be told to open a table there; the credentials it finds where every client of theirs does."""
    if not is_remote(place):
        return None
    options = {
        "connect_timeout": f"{CONNECT_SECONDS}s",
        "client_max_retries": str(TRIES),
        "client_retry_timeout": str(4 * CONNECT_SECONDS),
    }
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if str(place).startswith("s3:") and endpoint:
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
        options |= {"endpoint": endpoint, "region": region}
        if endpoint.startswith("http://"):
            options["allow_http"] = "true"
    return options


def _filesystem_options(scheme: str) -> dict[str, Any]:
    options: dict[str, Any] = {"use_listings_cache": False}
    if scheme == "s3":
        retries = {"max_attempts": TRIES}
        options["config_kwargs"] = {
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": 2 * CONNECT_SECONDS,
            "retries": retries,
        }
    return options


def _reason(place: Location, error: Exception) -> str:
    kind, said = type(error).__name__, " ".join(str(error).split("\n")[0].split())[:200].rstrip(".!")
    scheme = str(place).split(":")[0]
    if "Credential" in kind:
        return f"there are no credentials for it; set {_CREDENTIALS[scheme]}"
    if isinstance(error, PermissionError):
        return f"access is denied ({said}); the credentials are {_CREDENTIALS[scheme]}"
    if isinstance(error, FileNotFoundError) and "bucket" in said:
        return f"the bucket '{str(place).split('/')[2]}' does not exist"
    if "Connect" in kind or "Timeout" in kind or "error sending request" in str(error):
        return "its server does not answer; is the network up, and AWS_ENDPOINT_URL right where one is set"
    return f"the object store says: {said or kind}"

"""Locations of stores: a folder of this machine, or `s3://bucket/name` or `gs://bucket/name` on an object store.

`Path("s3://b/x")` would be a folder named `s3:`, so every path of a store is made by `location`.
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
"""A `Path`, or a `UPath` of universal_pathlib, which has the same methods but is not a subclass."""

CONNECT_SECONDS, RETRIES = 5, 1
"""Timeout, and number of retries, for an object store that does not answer."""

_FILESYSTEMS = {"s3": "s3fs", "gs": "gcsfs"}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+")
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or `gcloud auth application-default login`",
}


class UnreachableError(UserError):
    """A request to an object store failed; it may succeed later."""


def location(path: str | Path) -> Location:
    """The location of a path or URL. Raises UserError for a URL of another kind, and where the package for it is
    missing."""
    text = str(path)
    found = _SCHEME.match(text)
    if found is None:
        return Path(text) if isinstance(path, str) else path
    scheme, rest = found[1].lower(), text[found.end() :]
    if scheme == "file":
        return Path("/" + rest)
    if scheme not in _FILESYSTEMS:
        raise UserError(f"{text}: a store is a folder, s3://BUCKET/NAME or gs://BUCKET/NAME")
    if not all(rest.strip("/").partition("/")[::2]):
        raise UserError(f"{text}: a store needs a name inside its bucket, {scheme}://BUCKET/NAME")
    if any(importlib.util.find_spec(package) is None for package in ("upath", _FILESYSTEMS[scheme])):
        raise UserError(f"{text}: stores on {scheme}:// need additional packages, `pip install 'daydrive[{scheme}]'`")
    from upath import UPath

    remote: Any = UPath(f"{scheme}://{rest.strip('/')}", **_filesystem_options(scheme))
    if scheme == "s3":
        remote.fs.retries = 1  # in addition to the client's own; more would take minutes
    return cast(Path, remote)


def is_remote(path: Location) -> bool:
    """Whether the path is on an object store."""
    return not isinstance(path, Path)


def exists(path: Location) -> bool:
    """Whether the path exists. Raises UnreachableError where the object store cannot be reached or the bucket does not
    exist."""
    with object_store_errors(path):
        if path.exists():
            return True
        if is_remote(path):
            bucket = str(path).split("/")[2]
            if not cast(Any, path).fs.exists(bucket):
                raise UnreachableError(f"{path}: the bucket '{bucket}' does not exist")
    return False


def check_writable(path: Location) -> None:
    """Raise UnreachableError where nothing can be written to the folder."""
    probe = path / ".daydrive"
    with object_store_errors(path):
        probe.write_bytes(b"")
        probe.unlink()


@contextmanager
def object_store_errors(path: Location) -> Iterator[None]:
    """Turn errors of an object store's client into UnreachableError."""
    if not is_remote(path):
        yield
        return
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UnreachableError(f"{path}: {_reason(path, error)}") from error


def storage_options(path: Location) -> dict[str, str] | None:
    """Options for Lance to open a table at this path; it finds credentials as all clients of the object store do."""
    if not is_remote(path):
        return None
    options = {
        "connect_timeout": f"{CONNECT_SECONDS}s",
        "client_max_retries": str(RETRIES),
        "client_retry_timeout": str(4 * CONNECT_SECONDS),
    }
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if str(path).startswith("s3:") and endpoint:
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
        options |= {"endpoint": endpoint, "region": region}
        if endpoint.startswith("http://"):
            options["allow_http"] = "true"
    return options


def _filesystem_options(scheme: str) -> dict[str, Any]:
    options: dict[str, Any] = {"use_listings_cache": False}
    if scheme == "s3":
        retries = {"max_attempts": RETRIES}
        options["config_kwargs"] = {
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": 2 * CONNECT_SECONDS,
            "retries": retries,
        }
    return options


def _reason(path: Location, error: Exception) -> str:
    kind, message = type(error).__name__, " ".join(str(error).split("\n")[0].split())[:200].rstrip(".!")
    scheme = str(path).split(":")[0]
    if "Credential" in kind:
        return f"there are no credentials for it; set {_CREDENTIALS[scheme]}"
    if isinstance(error, PermissionError):
        return f"access is denied ({message}); the credentials are {_CREDENTIALS[scheme]}"
    if isinstance(error, FileNotFoundError) and "bucket" in message:
        return f"the bucket '{str(path).split('/')[2]}' does not exist"
    if "Connect" in kind or "Timeout" in kind or "error sending request" in str(error):
        return "its server does not answer; check the network, and AWS_ENDPOINT_URL where it is set"
    return f"the object store reports: {message or kind}"

"""Selection of rows by a condition such as `speed > 2 and abs(steering) < 0.5`."""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np

from daydrive.data.store.store import Rows, Store
from daydrive.errors import UserError, did_you_mean
from daydrive.types import ACTION_NAMES

SELECTED = "daydrive_selected"
KEYWORDS = {
    "and", "or", "not", "in", "is", "null", "like", "ilike", "between", "true", "false", "case", "when", "then",
    "else", "end", "cast", "as", "int", "bigint", "float", "double", "string", "boolean",
}  # fmt: skip

TOKEN = re.compile(r"'(?:[^']|'')*'|(?P<name>[A-Za-z_]\w*)(?P<call>\s*\()?|`(?P<quoted>[^`]*)`|(?P<bad>;|--|/\*)")


@lru_cache(maxsize=8)
def matching_intervals(store: Store, condition: str) -> Rows:
    """Return the half-open intervals of consecutive rows that satisfy `condition`, int64 (K, 2), ascending.

    The condition is a DataFusion SQL expression over the columns of the store and the names of the actions. Rows in
    which a referenced value is missing (NaN, null) do not satisfy it. Intervals may span drives. Raises UserError for
    an invalid condition.
    """
    expression, referenced = _translate(store, condition)
    found, first = [], 0
    for member in store.members:
        found.append(np.array(_edges(member, condition, expression, referenced), dtype=np.int64) + first)
        first += member.rows
    edges = np.concatenate(found)
    edges, counts = np.unique(edges, return_counts=True)  # an interval may continue in the next member
    return edges[counts == 1].reshape(-1, 2)


def _translate(store: Store, condition: str) -> tuple[str, list[str]]:
    """Rewrite the condition in terms of columns; return it with the float columns it references."""
    known = [name for name in store.schema.names if name not in ("image", "action")]
    referenced: dict[str, None] = {}

    def translate(found: re.Match[str]) -> str:
        name = found["name"] or found["quoted"]
        if found["bad"]:
            raise UserError(f"{setting_text(condition)}: {found['bad']} is not allowed in a condition")
        if name is None or found["call"] or (found["name"] and name.lower() in KEYWORDS):
            return found[0]
        if name not in (*known, *ACTION_NAMES):
            near = did_you_mean(name, [*known, *ACTION_NAMES])
            raise UserError(f"{setting_text(condition)}: the store {store.path} has no column '{name}'{near}")
        action = name not in known
        column = f"array_element(action, {ACTION_NAMES.index(name) + 1})" if action else f"`{name}`"
        if action or str(store.schema.field(name).type) in ("float", "double"):
            referenced[column] = None
        return column

    return TOKEN.sub(translate, condition), list(referenced)


def setting_text(condition: str) -> str:
    """The setting as written in a config, for messages."""
    return f'data.filter = "{condition}"'


def _edges(store: Store, condition: str, expression: str, referenced: list[str]) -> list[int]:
    """Alternating first and end rows of the matching intervals."""
    import pyarrow as pa

    required = [*referenced, "`frame`"]  # Lance reads no rows without a column
    columns = {SELECTED: expression, **{f"{SELECTED}_{k}": column for k, column in enumerate(required)}}
    edges: list[int] = []
    try:
        batches = store.dataset.scanner(columns=columns, scan_in_order=True).to_batches()
        inside, row = np.False_, 0
        for batch in batches:
            if not pa.types.is_boolean(batch.column(SELECTED).type):
                raise UserError(
                    f"{setting_text(condition)} is not a condition: it has the type {batch.column(SELECTED).type}"
                )
            matches, *values = (column.to_numpy(zero_copy_only=False) for column in batch.columns)
            matches = np.logical_and.reduce(
                [matches.astype(bool), *(np.isfinite(v.astype(np.float64)) for v in values)]
            )
            edges += (np.flatnonzero(np.diff(matches, prepend=inside)) + row).tolist()
            inside, row = np.append(inside, matches)[-1], row + len(matches)
    except (KeyboardInterrupt, SystemExit, UserError):
        raise
    except BaseException as error:  # Lance's panics are not Exceptions
        reason = re.split(r",? /\w+/|\n", str(error))[0].removeprefix("Invalid user input: ").strip().rstrip(".")[:200]
        raise UserError(
            f"{setting_text(condition)} is not a valid condition over the columns of {store.path} ({reason})"
        ) from error
    return [*edges, row] if inside else edges


def segments(store: Store, split: str, condition: str | None) -> tuple[Rows, Rows]:
    """Return starts and lengths of the segments of drives in `split` whose rows all satisfy `condition`."""
    drives = store.drives.of_split(split)
    starts, frames = store.drives.starts[drives], store.drives.frames[drives]
    if condition is None:
        return starts, frames
    matches = matching_intervals(store, condition)
    cuts = np.concatenate([starts, starts + frames])
    interval = np.searchsorted(matches[:, 0], cuts, side="right") - 1
    cuts = (
        np.unique(cuts[(interval >= 0) & (matches[interval, 0] < cuts) & (cuts < matches[interval, 1])])
        if len(matches)
        else cuts[:0]
    )
    first, ends = np.sort(np.append(matches[:, 0], cuts)), np.sort(np.append(matches[:, 1], cuts))
    drive = np.searchsorted(starts, first, side="right") - 1
    inside = (drive >= 0) & (first < (starts + frames)[drive]) if len(starts) else np.zeros(len(first), dtype=bool)
    return first[inside], (ends - first)[inside]

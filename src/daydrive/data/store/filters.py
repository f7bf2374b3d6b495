"""Which rows of a store satisfy a condition such as `speed > 2 and abs(steering) < 0.5`."""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np

from daydrive.data.store.store import Rows, Store
from daydrive.errors import UserError, did_you_mean
from daydrive.types import ACTION_NAMES

KEPT = "daydrive_kept"
WORDS = {
    "and", "or", "not", "in", "is", "null", "like", "ilike", "between", "true", "false", "case", "when", "then",
    "else", "end", "cast", "as", "int", "bigint", "float", "double", "string", "boolean",
}  # fmt: skip

TOKEN = re.compile(r"'(?:[^']|'')*'|(?P<name>[A-Za-z_]\w*)(?P<call>\s*\()?|`(?P<quoted>[^`]*)`|(?P<bad>;|--|/\*)")


@lru_cache(maxsize=8)
def runs(store: Store, condition: str) -> Rows:
    """Runs of neighbouring rows that satisfy `condition`, int64 (K, 2): from and up to but without, ascending.

    It is SQL over the store's columns and the actions' names, as DataFusion reads it. A row where a number that is
    asked for is missing (NaN, null) doesn't satisfy it. Drives don't cut runs. UserError for what is no condition.
    """
    expression, asked = _translated(store, condition)
    found, first = [], 0
    for member in store.members:
        found.append(np.array(_edges(member, condition, expression, asked), dtype=np.int64) + first)
        first += member.rows
    edges = np.concatenate(found)
    edges, often = np.unique(edges, return_counts=True)  # where a run goes on in the next table
    return edges[often == 1].reshape(-1, 2)


def _translated(store: Store, condition: str) -> tuple[str, list[str]]:
    """The condition in terms of columns, and the numbers that it asks for in these terms."""
    known = [name for name in store.schema.names if name not in ("image", "action")]
    asked: dict[str, None] = {}

    def translate(found: re.Match[str]) -> str:
        name = found["name"] or found["quoted"]
        if found["bad"]:
            raise UserError(f"{told(condition)}: {found['bad']} has no place in a condition")
        if name is None or found["call"] or (found["name"] and name.lower() in WORDS):
            return found[0]
        if name not in (*known, *ACTION_NAMES):
            near = did_you_mean(name, [*known, *ACTION_NAMES])
            raise UserError(f"{told(condition)}: the store {store.path} has no column '{name}'{near}")
        action = name not in known
        column = f"array_element(action, {ACTION_NAMES.index(name) + 1})" if action else f"`{name}`"
        if action or str(store.schema.field(name).type) in ("float", "double"):
            asked[column] = None
        return column

    return TOKEN.sub(translate, condition), list(asked)


def told(condition: str) -> str:
    return f'data.filter = "{condition}"'


def _edges(store: Store, condition: str, expression: str, asked: list[str]) -> list[int]:
    """Where what satisfies begins and where it ends, in turn."""
    import pyarrow as pa

    numbers = [*asked, "`frame`"]  # Lance reads no rows for a condition without a column
    columns = {KEPT: expression, **{f"{KEPT}_{k}": column for k, column in enumerate(numbers)}}
    edges: list[int] = []
    try:
        batches = store.dataset.scanner(columns=columns, scan_in_order=True).to_batches()
        inside, row = np.False_, 0
        for batch in batches:
            if not pa.types.is_boolean(batch.column(KEPT).type):
                raise UserError(f"{told(condition)} is no condition: it gives {batch.column(KEPT).type}")
            kept, *there = (column.to_numpy(zero_copy_only=False) for column in batch.columns)
            kept = np.logical_and.reduce([kept.astype(bool), *(np.isfinite(n.astype(np.float64)) for n in there)])
            edges += (np.flatnonzero(np.diff(kept, prepend=inside)) + row).tolist()
            inside, row = np.append(inside, kept)[-1], row + len(kept)
    except (KeyboardInterrupt, SystemExit, UserError):
        raise
    except BaseException as error:  # Lance's panics are no Exceptions
        reason = re.split(r",? /\w+/|\n", str(error))[0].removeprefix("Invalid user input: ").strip().rstrip(".")[:200]
        raise UserError(f"{told(condition)} is no condition over the columns of {store.path} ({reason})") from error
    return [*edges, row] if inside else edges


def segments(store: Store, split: str, condition: str | None) -> tuple[Rows, Rows]:
    """Runs of rows of one drive of `split` that all satisfy `condition`: where they start and how long they are."""
    places = store.drives.of_split(split)
    starts, frames = store.drives.starts[places], store.drives.frames[places]
    if condition is None:
        return starts, frames
    kept = runs(store, condition)
    cuts = np.concatenate([starts, starts + frames])
    run = np.searchsorted(kept[:, 0], cuts, side="right") - 1
    cuts = np.unique(cuts[(run >= 0) & (kept[run, 0] < cuts) & (cuts < kept[run, 1])]) if len(kept) else cuts[:0]
    begins, ends = np.sort(np.append(kept[:, 0], cuts)), np.sort(np.append(kept[:, 1], cuts))
    drive = np.searchsorted(starts, begins, side="right") - 1
    inside = (drive >= 0) & (begins < (starts + frames)[drive]) if len(starts) else np.zeros(len(begins), dtype=bool)
    return begins[inside], (ends - begins)[inside]

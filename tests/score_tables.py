"""Score tables of an imagined finder as files, for the tests of `dhs evaluate`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from darkhaloscope.core import keys

KINDS = np.array(["random", "ring", "spiral"])


def foreign(n_lenses: int = 150, n_negatives: int = 1_200, *, of: str = "test") -> pa.Table:
    """Scores with columns of the names that the command takes without being told."""
    n = n_lenses + n_negatives
    i = np.arange(n)
    is_lens = i < n_lenses
    theta_e = 0.5 + 2 * keys.uniform(i, seed=2, stream=f"{of} theta_e")
    kind = keys.choice(i, np.array([0.8, 0.1, 0.1]), seed=2, stream=f"{of} kind")
    score = keys.normal(i, seed=2, stream=f"{of} score") + np.where(is_lens, theta_e + 1, kind == 1)
    return pa.table(
        {
            "id": pa.array(np.char.add(f"{of}-", i.astype(str))),
            "score": score.round(4),
            "label": is_lens.astype(np.int8),
            "group": pa.array(np.char.add("G", i.astype(str))),
            "kind": pa.array(np.where(is_lens, "lens", KINDS[kind])),
            "region": i % 12,
            "theta_e": pa.array(theta_e.round(4), mask=~is_lens),
            "seeing": (0.9 + 0.05 * (i % 12)).round(4),
        }
    )


def saved(table: pa.Table, path: Path) -> Path:
    """As CSV or Parquet, by the ending of the name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        pacsv.write_csv(table, path)
    return path


def lines(path: Path, *rows: str) -> Path:
    """A text file, one line a row."""
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def changed(table: pa.Table, values: Mapping[str, Any]) -> pa.Table:
    """With some columns replaced or added."""
    for name, value in values.items():
        column = value if isinstance(value, pa.Array | pa.ChunkedArray) else pa.array(value)
        if name in table.column_names:
            table = table.set_column(table.column_names.index(name), name, column)
        else:
            table = table.append_column(name, column)
    return table


def renamed(table: pa.Table, names: Mapping[str, str]) -> pa.Table:
    """With some columns called otherwise."""
    return table.rename_columns([names.get(c, c) for c in table.column_names])


def without(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """Without some columns."""
    return table.drop_columns(list(names))

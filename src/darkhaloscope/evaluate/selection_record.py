"""What `selection.json` says, and the cells as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from darkhaloscope.core import schemas
from darkhaloscope.evaluate import selection_cells
from darkhaloscope.evaluate.rows import Flags
from darkhaloscope.evaluate.selection import FORMAT, KIND
from darkhaloscope.evaluate.selection_cells import Edges, Injections, Least, Usable

Record = dict[str, Any]

LEFT_OUT = (
    "Arc light is added to the catalogue's fluxes in one fixed aperture. The survey's own fit "
    "gives some of it to the host and some to sources of its own: deblending is not simulated, and "
    "the table of apertures says how much hangs on it",
    "W1 is left as catalogued: the arc's own light in W1, and its blending in a 6 arcsec PSF, are "
    "not added",
    "The catalogue's TYPE stays what it is: a bright arc can make the survey fit another profile",
    "A galaxy that is a target only because of its arc is not counted: hosts are drawn from the "
    "targets",
    "What the survey lost before its catalogue (bright stars, gaps, its own masks) is not in "
    "P(target | lens)",
    "What people drop when they inspect candidates is not in it",
)


def measured(
    injected: Injections, usable: Usable, records: Sequence[Record], edges: Edges, least: Least
) -> Record:
    """Sizes, marginals, the plane of theta_E and magnitude, and the shares of usable cutouts.

    Args:
        injected: The injected lenses.
        usable: Shares of usable cutouts.
        records: The cells, of `selection_cells.cells`.
        edges: Their edges.
        least: What one has to hold.
    """
    return {
        "edges": {axis: list(values) for axis, values in edges.items()},
        "least": asdict(least),
        "sizes": _sizes(injected, records),
        "marginals": selection_cells.marginals(injected, usable, edges, least),
        "plane": selection_cells.plane(injected, usable, edges, least),
        "usable": _table_of(usable),
    }


def stated(content: Mapping[str, Any]) -> Record:
    """The content with its format, whose lenses they are, and what a reader has to be told."""
    return {
        "format": FORMAT,
        "kind": KIND,
        "notes": _notes(content),
        "population": _population(content),
        **content,
        "left_out": list(LEFT_OUT),
    }


def by_aperture(injected: Injections, is_target: Mapping[str, Flags], used: str) -> list[Record]:
    """Share of lenses whose galaxy is a target still, by how much arc light it is given."""
    of_host = selection_cells.once_a_host(injected.host)
    weight = of_host if injected.weight is None else injected.weight
    made = []
    for name, still in is_target.items():
        share = selection_cells.share(
            still, host=injected.host, source=injected.source, once=of_host, weight=weight
        )
        made.append({"within": name, "is_used": name == used, **asdict(share)})
    return made


def table(records: Sequence[Record]) -> pa.Table:
    """The cells as a table of `schemas.selection`."""
    schema = schemas.selection(())
    flat = []
    for record in records:
        row = {k: v for k, v in record.items() if not isinstance(v, dict)}
        for axis, suffix in (("theta_e", "_arcsec"), ("psf_fwhm", "_arcsec"), ("depth", "_mag")):
            for end in ("low", "high"):
                row[f"{axis}_{end}{suffix}"] = row.pop(f"{axis}_{end}")
        for name in ("target", "usable", "score"):
            row |= {f"{name}_{k}": v for k, v in record[name].items()}
        found = record["completeness"]
        row |= {"completeness": found["value"]}
        row |= {f"completeness_{end}": found[end] for end in ("low", "high")}
        flat.append(row)
    return pa.Table.from_pylist(flat, schema=schema)


def _table_of(usable: Usable) -> Record:
    """Shares of usable cutouts as plain values; a cell without a target has that of all."""
    psf, depth = (usable.edges[axis] for axis in ("psf_fwhm", "depth"))
    cells = [[usable.at(i, j)[0] for j in range(len(depth) - 1)] for i in range(len(psf) - 1)]
    table = {k: [[getattr(c, k) for c in row] for row in cells] for k in ("value", "low", "high")}
    return {
        "overall": asdict(usable.overall),
        "table": {"psf_fwhm": list(psf), "depth": list(depth), **table},
    }


def _population(content: Mapping[str, Any]) -> str:
    is_weighted = content["marginals"]["is_weighted"]
    whose = "stand for their population" if is_weighted else "stand for no population"
    return f"Injected lenses of the test set, which {whose}, on a {content['sky']} sky"


def _sizes(injected: Injections, records: Sequence[Record]) -> Record:
    known = {axis: v[np.isfinite(v)] for axis, v in injected.at.items()}
    return {
        "n_injections": len(injected),
        "n_hosts": len(np.unique(injected.host)),
        "n_sources": len(np.unique(injected.source[injected.source >= 0])),
        "n_outside": len(injected) - sum(r["n_injections"] for r in records),
        "n_without_depth": len(injected) - len(known["depth"]),
        "n_cells": len(records),
        "n_cells_enough": sum(r["is_enough"] for r in records),
        "median_psf_fwhm": float(np.median(known["psf_fwhm"])),
        "median_depth": float(np.median(known["depth"])) if len(known["depth"]) else None,
    }


def _notes(content: Mapping[str, Any]) -> list[str]:
    """What a reader has to be told before any figure."""
    said = [content["threshold"]["note"]] if content["threshold"]["note"] else []
    least, fit = content["least"], content["fit"]
    asked = (
        f"{least['injections']} injections, {least['hosts']} hosts and {least['sources']} sources"
    )
    if content["sizes"]["n_cells_enough"] == 0:
        said.append(f"illustrative: no cell holds {asked}")
    if fit["is_fitted"] and not fit["is_enough"]:
        said.append(f"illustrative: the fit is of fewer than {asked}")
    if not content["marginals"]["is_weighted"]:
        said.append("the test set's lenses stand for no population: nothing is weighted to one")
    return said

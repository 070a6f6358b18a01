"""Manifest: decide what is made of which target.

In:  splits, one row per target; cutouts without their pixels: seeing, and which were refused.
Out: manifest, one row per stamp to make, and one `sky` row per target whose pixels can be used.

A target whose seeing leaves no resolved Einstein radius is dropped, its controls with it: kept as
controls alone, such targets would let a network tell a control by its seeing. It keeps its `sky`
row. One that is known for a look-alike (`[manifest.look_alikes]`) plays nothing else. What a galaxy
plays, and every number of its stamps, comes from its id, so a tile gives the same rows whatever the
other tiles hold (`host_matched` controls are matched within their tile).
"""

from collections.abc import Mapping

import pyarrow as pa

from darkhaloscope.core import schemas
from darkhaloscope.core.contracts import Input, Stage
from darkhaloscope.core.schemas import Bands
from darkhaloscope.core.settings.manifest import ManifestConfig
from darkhaloscope.ml import look_alikes, manifesting
from darkhaloscope.ml.sources import SourceBank


def run(
    splits: pa.Table,
    cutouts: pa.Table,
    *,
    config: ManifestConfig,
    sources: SourceBank | None = None,
    lists: Mapping[str, pa.Table] | None = None,
) -> pa.Table:
    """Draw the stamps of one tile: those of each set, then the sky."""
    known = None
    if config.look_alikes is not None:
        known = look_alikes.of_targets(splits, config.look_alikes, lists or {})
    hosts = manifesting.hosts_of(splits, cutouts, config.bands, look_alikes=known)
    drawn = [
        manifesting.draw(hosts, split=name, config=config, sources=sources)
        for name in sorted(config.sets)
    ]
    return pa.concat_tables([*drawn, manifesting.sky_rows(hosts, config.bands)])


def seeing_and_refusals(bands: Bands) -> pa.Schema:
    """What is read of `cutouts`: no pixel."""
    head = schemas.cutouts_head(bands)
    psf = [f"psf_{width}_{band}_arcsec" for width in ("nea", "fwhm") for band in bands]
    return pa.schema([head.field(name) for name in ("target_id", "refused", *psf)])


STAGE = Stage(
    name="manifest",
    version=4,
    run=run,
    inputs=(Input("splits", schemas.splits), Input("cutouts", seeing_and_refusals)),
    output=schemas.manifest,
    partition="tile",
    needs=("sources", "lists"),
)

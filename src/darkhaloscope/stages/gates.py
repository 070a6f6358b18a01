"""Gates: check the set that teaches before a network is trained on it.

In:  manifest, splits, cutouts without pixels; pixels of the galaxies that are sampled.
Out: a folder with gates.json, gates.parquet and index.html: what each gate found.

A sample of the training rows is painted as training paints them, by the same renderer, and trivial
models try to tell lenses from what must look alike: companions of equal flux, colour and radius, or
a recipe's own controls where it has none. Other gates count what the manifest and the splits hold.
The folder is written whether gates fail or not. Nothing is trained while one does, unless the run's
file waives it by name; what the gates found is no part of what a network is made from.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from darkhaloscope.core import schemas
from darkhaloscope.core.contracts import Device, Input, PixelSource, Scratch, Stage
from darkhaloscope.core.errors import DataError
from darkhaloscope.core.settings.gates import GatesConfig
from darkhaloscope.core.units import mag_from_nmgy
from darkhaloscope.evaluate import gates, gates_data, gates_page
from darkhaloscope.evaluate.gates import Row, not_judged
from darkhaloscope.evaluate.gates_apart import Classes, Judge
from darkhaloscope.evaluate.gates_trivial import Plan
from darkhaloscope.lensing.populations import source_density
from darkhaloscope.ml import gating, manifesting
from darkhaloscope.ml.gating_measures import Measured, measure
from darkhaloscope.ml.painters import Camera
from darkhaloscope.ml.sources import SourceBank
from darkhaloscope.ml.transforms import Normalisation

PAGE_FILE = "index.html"
TWIN, PLAIN = "companion", "control"  # what a lens is judged against; where there is no twin
OF_FLUX = ("core_only", "total_flux", "radial_profile", "annulus_colour")
OF_DATA = ("sky_stats", "metadata")
SKY_CHANGED = ("artefact",)  # trails and ghosts lie over the sky beside the host too
OF_DRAWS = ("resolution", "control_copies", "splits_leak")
OF_CUTOUTS = ("psf_fwhm_", "psf_nea_", "depth_", "noise_", "n_exposures_", "sky_m", "electrons_")
COUNTS_STEP_MAG = 0.05
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Sample:
    """Rows that were painted, and all that is known of each.

    Attributes:
        rows: Of the manifest.
        hosts: Of `manifesting.hosts_of`, one a row.
        cutouts: Without their pixels, one a row.
        measured: What was measured on the stamps.
    """

    rows: pa.Table
    hosts: pa.Table
    cutouts: pa.Table
    measured: Measured

    @property
    def kind(self) -> NDArray[np.str_]:
        """Of each row."""
        return _texts(self.rows, "kind")

    @property
    def metadata(self) -> Values:
        """Seeing, depth, noise, exposures, gain, position, host's magnitude, (n, feature)."""
        names = [n for n in self.cutouts.column_names if n.startswith(OF_CUTOUTS)]
        columns = [_numbers(self.cutouts, name) for name in [*names, "masked_fraction"]]
        for axis in "xy":
            at = _numbers(self.cutouts, f"host_{axis}_px")
            columns.append(at - np.round(at))
        columns += [_numbers(self.rows, n) for n in ("ra_deg", "dec_deg", "host_mag_z")]
        return np.nan_to_num(np.stack(columns, 1))


def run(
    *,
    manifest: pa.Table,
    splits: pa.Table,
    cutouts: pa.Table,
    pixels: PixelSource,
    scratch: Scratch,
    device: Device,
    config: GatesConfig,
    sources: SourceBank | None = None,
) -> Path:
    """Judge the training set, and return the folder to publish.

    Args:
        manifest: All rows.
        splits: All targets.
        cutouts: All cutouts without their pixels.
        pixels: Where the cutouts' pixels are.
        scratch: Where the folder is made.
        device: Where stamps are painted.
        config: Settings.
        sources: Pictures of galaxies, where the manifest's settings ask for any.
    """
    train = manifest.filter(pc.equal(manifest["split"], "train"))
    rows = [*_drawn(train, config), *_leaks(manifest, splits, config)]
    chosen = gating.sample(train, **_sizes(config))
    if chosen.num_rows:
        sample = _painted(chosen, splits, cutouts, pixels, device, config, sources)
        rows += [*_brightness(sample, config), *_sound(sample, config)]
        rows += _told_apart(sample, train, config)
    else:
        none = "train has no row with a label: check [splits] and [manifest.sets.train]"
        rows += [not_judged(name, none) for name in gates.GUARDS if name not in OF_DRAWS]
    waivers = {str(name): reason for name, reason in config.waive.items()}
    return _written(gates.finished(rows, waivers), chosen, scratch.path / "gates")


def verdict(folder: Path, address: str) -> str:
    """Why nothing may be trained, in one message; empty: nothing stands against it.

    Args:
        folder: The stage's outcome, at hand.
        address: Where it is published.
    """
    return gates.refusal(gates.read(folder), f"{address}/{PAGE_FILE}")


def _drawn(train: pa.Table, config: GatesConfig) -> list[Row]:
    """Gates of what the manifest asks for."""
    kind, galaxy = _texts(train, "kind"), train["target_id"].to_numpy()
    lens = train.filter(pa.array(kind == "lens"))
    is_negative = pc.fill_null(pc.equal(train["label"], 0), False).to_numpy()
    resolved = gates_data.resolution(
        _numbers(lens, "theta_e_over_fwhm_r"),
        _numbers(lens, "theta_e_over_psfsize_r"),
        galaxy[kind == "lens"],
        most_below=config.limits.unresolved_share,
        least_above=config.limits.resolved_share,
    )
    copies = gates_data.control_copies(
        kind[is_negative], galaxy[is_negative], limit=config.limits.copies
    )
    return resolved + copies


def _leaks(manifest: pa.Table, splits: pa.Table, config: GatesConfig) -> list[Row]:
    """The gate of the splits: of all galaxies, and of all that is lensed."""
    lit = manifest.filter(pc.is_valid(manifest["source_id"]))
    pictured = lit.filter(pc.is_valid(lit["src_picture"]))
    used = {"sources": (lit["source_id"].to_numpy(), _texts(lit, "split"))}
    if pictured.num_rows:
        rows_of_bank = pictured["src_picture"].to_numpy().astype(np.int64)
        used["pictures of sources"] = (rows_of_bank, _texts(pictured, "split"))
    places = gates_data.Places(
        splits["target_id"].to_numpy(),
        _texts(splits, "split"),
        splits["ra_deg"].to_numpy(),
        splits["dec_deg"].to_numpy(),
    )
    return gates_data.splits_leak(
        places,
        used,
        guard_arcsec=config.splits.guard_arcsec,
        shares=config.splits.shares.model_dump(),
        tolerance=config.splits.shares_tolerance,
    )


def _painted(
    rows: pa.Table, splits: pa.Table, cutouts: pa.Table, pixels: PixelSource, device: Device,
    config: GatesConfig, sources: SourceBank | None,
) -> _Sample:  # fmt: skip
    """Paint the sample, and measure it."""
    hosts = _of_each(rows, manifesting.hosts_of(splits, cutouts, config.bands))
    heads = _of_each(rows, cutouts)
    has_pictures = rows["src_picture"].null_count < rows.num_rows
    bank = sources.bank(device.name) if sources is not None and has_pictures else None
    batches = gating.painted(
        rows,
        cutouts,
        pixels,
        camera=_camera(config),
        seed=config.stamps.seed,
        device=device.name,
        bank=bank,
    )
    noise = np.stack([_numbers(heads, f"noise_{band}_nmgy") for band in config.bands], 1)
    models = {
        name: Normalisation(
            model.normalisation, tuple(model.softening_nmgy.get(b, 1.0) for b in config.bands)
        )
        for name, model in config.models.items()
    }
    measured = measure(
        batches,
        config.bands,
        noise_nmgy=np.median(noise, axis=0),
        models=models,
        textured=("lens", _twin(_texts(rows, "kind"))),
    )
    return _Sample(rows, hosts, heads, measured)


def _brightness(sample: _Sample, config: GatesConfig) -> list[Row]:
    is_lens = sample.kind == "lens"
    measured, r = sample.measured, config.bands.index("r")
    asked = config.manifest.physical.src_mag_r
    mags = np.arange(asked.low, asked.high, COUNTS_STEP_MAG)
    arc_mag = mag_from_nmgy(measured.light[is_lens, r])
    names = gates_data.Brightness.__dataclass_fields__
    return gates_data.brightness(
        measured.arc_snr[is_lens, config.bands.index("g")],
        mag_from_nmgy(measured.src_flux[is_lens, r]),
        (mags, source_density(mags)),
        arc_mag - _numbers(sample.cutouts, "depth_r_mag")[is_lens],
        gates_data.Brightness(**config.limits.model_dump(include=set(names))),
    )


def _sound(sample: _Sample, config: GatesConfig) -> list[Row]:
    """The gate `pixels`."""
    measured, is_lens = sample.measured, sample.kind == "lens"
    lit = np.asarray(np.isfinite(measured.src_flux).any(1))
    found = gates_data.Soundness(
        n_stamps=len(lit),
        not_finite=int((~measured.is_finite).sum()),
        without_light=int(measured.is_blank.sum()),
        added=dict(zip(config.bands, measured.added[lit].sum(0).tolist(), strict=True)),
        light=dict(zip(config.bands, measured.light[lit].sum(0).tolist(), strict=True)),
        clipped={name: _mean(share[is_lens]) for name, share in measured.clipped.items()},
    )
    hosts = {
        name: _numbers(table, name)
        for table, names in (
            (sample.cutouts, [f"psf_fwhm_{b}_arcsec" for b in config.bands]),
            (sample.cutouts, [f"depth_{b}_mag" for b in config.bands]),
            (sample.rows, ["host_mag_z"]),
        )
        for name in names
    }
    return gates_data.pixels(
        found,
        {name: values[is_lens] for name, values in hosts.items()},
        {name: values[~is_lens] for name, values in hosts.items()},
        clipped_share=config.limits.clipped_share,
        flux_closure=config.limits.flux_closure,
        mean_difference=config.limits.mean_difference,
    )


def _told_apart(sample: _Sample, train: pa.Table, config: GatesConfig) -> list[Row]:
    """Gates by trivial models."""
    rows, kind, limits = sample.rows, sample.kind, config.limits
    judge = Judge(
        rows["target_id"].to_numpy(),
        rows["region_id"].to_numpy(),
        Plan(config.folds, config.interval_draws, config.seed),
        config.least_galaxies,
        config.theta_e_over_fwhm_r_edges,
    )
    features = {**sample.measured.features, "metadata": sample.metadata}
    twin = _twin(kind)
    lens, negative = np.flatnonzero(kind == "lens"), np.flatnonzero(kind != "lens")
    pairs = gating.matched(rows, sample.hosts, twin)
    twins = Classes(pairs[0], pairs[1], twin, is_paired=True)
    every = Classes(lens, negative, "negatives of all kinds")
    left_alone = negative[~np.isin(kind[negative], SKY_CHANGED)]
    same_sky = Classes(lens, left_alone, f"negatives but {', '.join(SKY_CHANGED)}")
    sky = Classes(lens, gating.as_on_the_sky(rows, train), "negatives as mixed on the sky")
    ratio = _numbers(rows, "theta_e_over_fwhm_r")
    found: list[Row] = []
    for name in (*OF_FLUX, "texture"):
        most = getattr(limits, name)
        found += judge.rows(name, features[name], twins, limit_high=most, ratio=ratio)
    for name in OF_FLUX:
        why = "blue light is the signal here"
        found.append(judge.printed(name, features[name], sky, "against the sky's mix", why))
    why = "trees of many splits see the shape of arcs that lie within 1.3 arcsec"
    found.append(judge.printed("core_only", features["core_only"], twins, "by shape", why))
    for name in OF_DATA:
        classes = same_sky if name == "sky_stats" else every
        found += judge.rows(name, features[name], classes, limit_high=getattr(limits, name))
    found += judge.rows(
        "noise_only", features["noise_only"], twins,
        limit_low=limits.noise_only.low, limit_high=limits.noise_only.high,
    )  # fmt: skip
    return found


def _sizes(config: GatesConfig) -> dict[str, int]:
    """How many rows are sampled."""
    per_kind, per_other = config.stamps_per_kind, config.stamps_per_other_kind
    return {"per_kind": per_kind, "per_other": per_other, "seed": config.seed}


def _twin(kind: NDArray[np.str_]) -> str:
    """What must be told from a lens by more than its flux: a recipe without it has controls."""
    return TWIN if (kind == TWIN).any() else PLAIN


def _written(rows: list[Row], sample: pa.Table, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(gates.table(rows), folder / "gates.parquet")
    (folder / gates.GATES_FILE).write_text(gates.text(rows) + "\n", encoding="utf-8")
    kinds, counts = np.unique(_texts(sample, "kind"), return_counts=True)
    judged = dict(zip(kinds.tolist(), counts.tolist(), strict=True))
    (folder / PAGE_FILE).write_text(gates_page.render(rows, judged), encoding="utf-8")
    return folder


def _camera(config: GatesConfig) -> Camera:
    """How light becomes pixels: as training has it."""
    names = ("size_px", "psf_profile", "psf_beta", "electrons_per_nmgy_per_exposure", "batch_rows")
    stated = config.stamps.model_dump(include=set(names))
    return Camera(bands=config.bands, pixel_scale_arcsec=config.pixel_scale_arcsec, **stated)


def _of_each(rows: pa.Table, table: pa.Table) -> pa.Table:
    """The row of a table for each galaxy of `rows`."""
    at = pc.index_in(rows["target_id"], value_set=table["target_id"].combine_chunks())
    if at.null_count:
        raise DataError(f"{at.null_count} manifest rows have no cutout; rerun stage manifest")
    return table.take(at)


def _mean(values: Values) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _numbers(table: pa.Table, name: str) -> Values:
    """A column as float64, NaN where null."""
    return np.asarray(table[name].to_numpy(zero_copy_only=False), np.float64)


def _texts(table: pa.Table, name: str) -> NDArray[np.str_]:
    return np.asarray(table[name].to_pylist(), dtype=np.str_)


STAGE = Stage(
    name="gates",
    version=2,
    run=run,
    inputs=(
        Input("splits", schemas.splits, scope="whole"),
        Input("cutouts", schemas.cutouts_head, scope="whole"),
        Input("manifest", schemas.manifest, scope="whole"),
    ),
    output=None,
    partition="whole",
    needs=("pixels", "scratch", "device", "sources"),
    verdict=verdict,
)

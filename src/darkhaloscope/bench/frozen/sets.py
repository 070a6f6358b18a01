"""The sets of the benchmark: rows drawn from ids, pixels made a chunk at a time and forgotten.

Nothing is stored. A set is a list of galaxies, by number; which kind each plays is decided by its
id. The manifest's own functions draw what is injected, and the stamps' own functions paint it.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from darkhaloscope.bench.frozen import hosts
from darkhaloscope.bench.frozen.definition import SETS, Definition
from darkhaloscope.bench.frozen.hosts import Galaxies, Ids
from darkhaloscope.bench.records import table_of
from darkhaloscope.core import keys, schemas
from darkhaloscope.core.contracts import Device
from darkhaloscope.core.errors import DataError
from darkhaloscope.data import store
from darkhaloscope.lensing.transfer import sent
from darkhaloscope.ml import injection, manifesting, picture_bank
from darkhaloscope.ml.batches import ahead
from darkhaloscope.ml.painted_columns import columns_of
from darkhaloscope.ml.painters import Camera
from darkhaloscope.ml.pixel_table import Raw
from darkhaloscope.ml.sources import SourceBank

_PAINTED_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some stamps of a set.

    Attributes:
        rows: Columns of `schemas.scores` but the logit, and `is_unseen`: a look-alike of a family
            or a range that no network is taught.
        raw: Pixels (n, band, y, x) and sky level (n, band), on the device.
        heads: Of the cutouts: PSF and depth for networks that ask for them.
    """

    rows: pa.Table
    raw: Raw
    heads: pa.Table


@dataclass(frozen=True, slots=True)
class Drawn:
    """What some galaxies of a set are asked to play.

    Attributes:
        galaxies: Those that play anything.
        rows: Of the manifest, sky weights and all, (n,).
        host: Place of each row's galaxy among `galaxies`, (n,).
        is_unseen: As of `Chunk`, (n,).
    """

    galaxies: Galaxies
    rows: pa.Table
    host: NDArray[np.intp]
    is_unseen: NDArray[np.bool_]


def bank_of(definition: Definition, folder: Path) -> SourceBank:
    """The pictures that sources are taken from, made once in `folder`; real ones are there.

    Raises:
        DataError: a split has no real galaxy, where they are asked for.
    """
    if definition.real_sources:
        return _real_sources(definition)
    asked = definition.drawing({}).sources.bank
    made_of = (definition.stated["manifest"]["sources"]["bank"], definition.bands)
    digest = hashlib.sha256(repr((picture_bank.VERSION, made_of)).encode()).hexdigest()
    path = folder / f"sources-{digest[:12]}.parquet"
    header = store.header_of(str(path)) if path.is_file() else None
    if header is None or header.digest != digest:
        folder.mkdir(parents=True, exist_ok=True)
        store.write(
            picture_bank.clumpy_tables(asked, definition.bands),
            str(path),
            schema=picture_bank.schema_of(asked.picture_px, definition.bands),
            digest=digest,
        )
    return SourceBank(str(path), digest, definition.bands)


def _real_sources(definition: Definition) -> SourceBank:
    content = definition.stated["manifest"]["sources"]["bank"]["catalogues"][0]
    bank = SourceBank(definition.real_sources, content, definition.bands)
    heads = bank.heads()
    real = heads.filter(pc.equal(heads["src_kind"], "catalogue"))
    if lacking := sorted(set(SETS) - set(real["split"].to_pylist())):
        raise DataError(
            f"{definition.real_sources} has no real galaxy for {', '.join(lacking)}; its run has "
            "to state manifest.sources.bank.split_shares for all four, and more galaxies"
        )
    return bank


def galaxies_looked_at(definition: Definition, which: str) -> int:
    """Galaxies of val, calib or test, hosts without a lens among them."""
    return sum(definition.counts(which).values()) + definition.lens_hosts(which)


def drawn(definition: Definition, which: str, bank: SourceBank) -> Iterator[Drawn]:
    """All rows of a set, some galaxies at a time, in the order of their numbers."""
    total, step = galaxies_looked_at(definition, which), int(definition.stated["chunk"])
    roles = _roles(definition, which)
    for start in range(0, total, step):
        numbers = np.arange(start, min(start + step, total))
        yield _drawn(definition, which, numbers, roles[numbers], bank)


def chunks(
    definition: Definition, which: str, *, folder: Path, device: Device, most: int | None = None
) -> Iterator[Chunk]:
    """The stamps of a set.

    Args:
        definition: The benchmark.
        which: val, calib or test.
        folder: Where the pictures of sources are kept.
        device: Where stamps are made and stay.
        most: Rows after which it ends; None: all.
    """
    bank, made = bank_of(definition, folder), 0
    for some in drawn(definition, which, bank):
        for chunk in painted(definition, which, some, bank, device):
            yield chunk
            made += chunk.rows.num_rows
            if most is not None and made >= most:
                return


def painted(
    definition: Definition, which: str, some: Drawn, bank: SourceBank, device: Device
) -> Iterator[Chunk]:
    """The stamps of drawn rows, in their order; on a CPU each thread makes its own."""
    bank.bank(device.name)
    tasks = (
        partial(_painted, definition, which, some, slice(start, start + _PAINTED_AT_ONCE), bank,
                device)
        for start in range(0, some.rows.num_rows, _PAINTED_AT_ONCE)
    )  # fmt: skip
    threads = device.threads if device.name == "cpu" else 1
    with closing(ahead(tasks, threads=threads, depth=1)) as made:
        yield from made


def fingerprint(definition: Definition, which: str, *, folder: Path) -> str:
    """The sha256 over ids and float32 parameters of all rows of a set; no pixel is made."""
    return whole_of(fingerprints(drawn(definition, which, bank_of(definition, folder))))


def fingerprints(blocks: Iterable[Drawn]) -> dict[str, str]:
    """The sha256 of each column over all rows; how they are cut into blocks does not count."""
    content: dict[str, Any] = {}
    for some in blocks:
        rows = some.rows.append_column("is_unseen", pa.array(some.is_unseen))
        for name in rows.column_names:
            for part, values in _bytes(name, rows[name].combine_chunks()):
                content.setdefault(part, hashlib.sha256()).update(values)
    return {name: found.hexdigest() for name, found in content.items()}


def whole_of(columns: Mapping[str, str]) -> str:
    """One sha256 of those of all columns."""
    text = "\n".join(f"{name} {value}" for name, value in sorted(columns.items()))
    return hashlib.sha256(text.encode()).hexdigest()


def _bytes(name: str, column: pa.Array) -> Iterator[tuple[str, bytes]]:
    """Values of a column, little-endian, and which of them are null; of a list also its lengths."""
    yield f"{name} is null", column.is_null().to_numpy(zero_copy_only=False).tobytes()
    if pa.types.is_list(column.type):
        lengths = pc.list_value_length(column).fill_null(0)
        yield f"{name} length", _little_endian(lengths)
        column = pc.list_flatten(column)
    if pa.types.is_string(column.type):
        yield name, "".join(f"{value or ''}\x1f" for value in column.to_pylist()).encode()
    else:
        yield name, _little_endian(column)


def _little_endian(column: pa.Array) -> bytes:
    """Numbers as bytes, those in double precision in single: the last bits are the machine's."""
    single = {pa.float64(): pa.float32(), pa.bool_(): pa.int8()}
    values = column.cast(single.get(column.type, column.type)).fill_null(0)
    held = values.to_numpy(zero_copy_only=False)
    return bytes(held.astype(held.dtype.newbyteorder("<")).tobytes())


@lru_cache(maxsize=8)
def _roles(definition: Definition, which: str) -> NDArray[np.str_]:
    """What each galaxy number plays: exact counts, in an order that the ids decide."""
    counts = {**definition.counts(which), "lens": definition.lens_hosts(which)}
    roles = np.concatenate([np.full(n, kind, dtype="U12") for kind, n in counts.items()])
    ids = _ids(definition, which, np.arange(len(roles)))
    order = np.argsort(keys.bits(ids, seed=definition.stated["manifest"]["seed"], stream="role"))
    shuffled = np.empty_like(roles)
    shuffled[order] = roles
    return shuffled


def _ids(definition: Definition, which: str, numbers: Ids) -> Ids:
    return hosts.ids_of(numbers, split=which, family=int(definition.stated["family"]))


def _drawn(
    definition: Definition, which: str, numbers: Ids, roles: NDArray[np.str_], bank: SourceBank
) -> Drawn:
    """Rows of galaxies that play one kind each; galaxies without a row are left out."""
    galaxies = describe(definition, which, _ids(definition, which, numbers))
    table = manifesting.hosts_of(galaxies.splits, galaxies.heads, definition.bands)
    target = table["target_id"].to_numpy()
    is_late = _is_late(definition, which, target, roles)
    tables, unseen = [], []
    for kind in np.unique(roles).tolist():
        for late in (False, True):
            place = np.flatnonzero((roles == kind) & (is_late == late))
            if len(place):
                hosts_of_kind = table.take(pa.array(place))
                tables.append(_rows(definition, which, hosts_of_kind, kind, bank, is_late=late))
                unseen.append(np.full(tables[-1].num_rows, late))
    joined = pa.concat_tables(tables)
    order = np.argsort(joined["target_id"].to_numpy(), kind="stable")
    joined = joined.take(pa.array(order)).combine_chunks()
    playing = joined["target_id"].to_numpy()
    kept = np.flatnonzero(np.isin(target, playing))
    by_id = kept[np.argsort(target[kept], kind="stable")]
    host = np.searchsorted(target[by_id], playing)
    return Drawn(galaxies.take(by_id), joined, host, np.concatenate(unseen)[order])


def _rows(
    definition: Definition, which: str, table: pa.Table, kind: str, bank: SourceBank, *,
    is_late: bool,
) -> pa.Table:  # fmt: skip
    """Rows of galaxies that all play one kind, weighted to the sky."""
    plan = {
        "population": definition.stated["sets"][which]["population"],
        "controls": "unpaired",
        "copies": {kind: 1},
        "shares": {kind: 1.0},
    }
    config = definition.drawing({which: plan}, is_unseen=is_late)
    rows = manifesting.draw(table, split=which, config=config, sources=bank)
    if kind == "lens":
        return rows
    at = rows.schema.get_field_index("sky_weight")
    field = rows.schema.field(at)
    weight = np.full(rows.num_rows, definition.sky_weights(which)[kind], np.float32)
    return rows.set_column(at, field, pa.array(weight).cast(field.type))


def describe(definition: Definition, which: str, ids: Ids) -> Galaxies:
    """Galaxies of a set by their ids, without pixels."""
    return hosts.describe(
        ids, definition.sky(), split=which, bands=definition.bands,
        size_px=int(definition.stated["cutout_px"]),
    )  # fmt: skip


def _is_late(
    definition: Definition, which: str, target: Ids, roles: NDArray[np.str_]
) -> NDArray[np.bool_]:
    """Look-alikes that no network is taught: a family, and half of every other one, in test."""
    unseen = definition.stated["unseen"]
    if which != "test":
        return np.zeros(len(roles), bool)
    half = keys.uniform(target, seed=definition.stated["manifest"]["seed"], stream="unseen") < 0.5
    is_halved = np.isin(roles, list(unseen["upper_half"]))
    return np.asarray((roles == unseen["family"]) | (half & is_halved))


def with_sky(definition: Definition, galaxies: Galaxies, device: Device) -> tuple[pa.Table, Any]:
    """Heads with the level and spread of the sky, and the cutouts that they were measured on."""
    stated = definition.stated
    pixels = hosts.cutouts(
        galaxies, definition.sky(), size_px=int(stated["cutout_px"]), device=device.name
    )
    level, spread = hosts.sky_levels(pixels, stated["sky_inner_px"], stated["sky_outer_px"])
    heads = galaxies.heads
    for name, values in (("median", level), ("mad", spread)):
        for place, band in enumerate(definition.bands):
            at = heads.schema.get_field_index(f"sky_{name}_{band}_nmgy")
            column = pa.array(values[:, place].cpu().numpy())
            heads = heads.set_column(at, heads.schema.field(at), column)
    return heads, pixels


def _painted(
    definition: Definition, which: str, some: Drawn, part: slice, bank: SourceBank, device: Device
) -> Chunk:
    rows = some.rows.slice(part.start, part.stop - part.start)
    own, place = np.unique(some.host[part], return_inverse=True)
    heads, pixels = with_sky(definition, some.galaxies.take(own), device)
    heads = heads.take(pa.array(place))
    made = injection.paint_rows(
        rows, heads, pixels[sent(place, device.name)], camera=camera(definition),
        seed=definition.stated["stamps"]["seed"], device=device.name,
        bank=bank.bank(device.name),
    )  # fmt: skip
    columns = columns_of(rows, heads, made, definition.bands)
    nan_is_null = {
        name: pa.array(values, mask=np.isnan(values))
        for name, values in columns.items()
        if isinstance(values, np.ndarray)
    }
    columns = {**columns, **nan_is_null, "set": [which] * rows.num_rows}
    scored = table_of(schemas.scores(definition.bands), rows.num_rows, columns)
    scored = scored.drop_columns(["logit"])
    scored = scored.append_column("is_unseen", pa.array(some.is_unseen[part]))
    level = np.stack([heads[f"sky_median_{b}_nmgy"].to_numpy() for b in definition.bands], 1)
    return Chunk(scored, Raw(made.pixels, sent(level, device.name)), heads)


def camera(definition: Definition) -> Camera:
    """How light becomes pixels."""
    asked = definition.painting()
    return Camera(
        bands=asked.bands,
        pixel_scale_arcsec=asked.pixel_scale_arcsec,
        size_px=asked.size_px,
        psf_profile=asked.psf_profile,
        psf_beta=asked.psf_beta,
        electrons_per_nmgy_per_exposure=asked.electrons_per_nmgy_per_exposure,
    )

"""The schema of every table: names, types, units, meaning. Docs and `dhs schema` are printed here.

A schema is made for the run's bands: `cutouts(("g", "r", "z"))`. One value a band is one column a
band, the band before the unit. A column that may be null says so; what does not apply is null.
"""

from collections.abc import Callable, Sequence

import pyarrow as pa

from darkhaloscope.core.errors import SchemaError

I1, I2, I4, I8 = pa.int8(), pa.int16(), pa.int32(), pa.int64()
F4, F8, TEXT, FLAG = pa.float32(), pa.float64(), pa.string(), pa.bool_()
PIXELS = pa.binary()  # stands for FixedSizeBinary of any width; shape and bands are in its field

LRG_VARIANTS = (
    "v1_pure_massive",
    "v2_baseline_dr10",
    "v3_color_relaxed",
    "v4_mag_relaxed",
    "v5_very_relaxed",
)
KINDS = (
    "lens",
    "single_image",
    "control",
    "ring",
    "spiral",
    "edge_on",
    "merger",
    "agn_jet",
    "artefact",
    "companion",
    "radial_arc",
    "scrambled",
    "halo_ring",
    "sky",
)
SPLITS = ("train", "val", "calib", "test", "guard")
FILE_KINDS = ("image", "invvar", "psfsize", "nexp", "maskbits")

Bands = Sequence[str]
SchemaOf = Callable[[Bands], pa.Schema]


def column(
    name: str, kind: pa.DataType, meaning: str, *, unit: str = "", nullable: bool = False
) -> pa.Field:
    """A column with its unit and meaning, which travel with the file."""
    return pa.field(name, kind, nullable, {"unit": unit, "meaning": meaning})


def per_band(
    bands: Bands, name: str, kind: pa.DataType, meaning: str, *, unit: str, nullable: bool = False
) -> list[pa.Field]:
    """One column a band; `name` holds `{b}` where the band goes."""
    return [
        column(name.format(b=b), kind, f"{meaning}, {b} band", unit=unit, nullable=nullable)
        for b in bands
    ]


def _where() -> list[pa.Field]:
    return [
        column("target_id", I8, "galaxy: bits of release, brickid, objid as in DESI's TARGETID"),
        column("brickname", TEXT, "survey brick that holds the galaxy"),
        column("ra_deg", F8, "right ascension of the catalogue centroid, ICRS", unit="deg"),
        column("dec_deg", F8, "declination of the catalogue centroid, ICRS", unit="deg"),
    ]


def targets(bands: Bands) -> pa.Schema:
    """One row per galaxy that could be a lens."""
    fluxes = (*bands, "w1")
    return pa.schema(
        [
            *_where(),
            column("tile", TEXT, "HEALPix pixel of the brick's centre, nside-ipix, nested"),
            column("type", TEXT, "Tractor's morphological type"),
            *per_band(
                fluxes, "flux_{b}_nmgy", F4, "flux as catalogued", unit="nmgy", nullable=True
            ),
            *per_band(
                fluxes, "mw_transmission_{b}", F4, "share left by dust", unit="", nullable=True
            ),
            *per_band(
                fluxes,
                "mag_{b}",
                F4,
                "AB magnitude as the cuts used it; null where flux <= 0",
                unit="mag",
                nullable=True,
            ),
            *per_band(
                bands,
                "psf_nea_{b}_arcsec",
                F4,
                "psfsize at the galaxy",
                unit="arcsec",
                nullable=True,
            ),
            *per_band(
                bands, "depth_{b}_mag", F4, "5-sigma point-source depth", unit="mag", nullable=True
            ),
            column("shape_r_arcsec", F4, "half-light radius of Tractor's fit", unit="arcsec"),
            column("shape_e1", F4, "ellipticity component 1 of Tractor's fit"),
            column("shape_e2", F4, "ellipticity component 2 of Tractor's fit"),
            column("sersic", F4, "Sersic index, null where the type has none", nullable=True),
            *[column(f"is_{v}", FLAG, f"passes the cuts of {v}") for v in LRG_VARIANTS],
        ]
    )


def splits(bands: Bands) -> pa.Schema:
    """The targets again, with the part each may play."""
    return pa.schema(
        [
            *targets(bands),
            column("region_id", I8, "HEALPix pixel (nested) of the region"),
            column("split", TEXT, "train, val, calib, test, or guard (scored in sky only)"),
            column(
                "area_deg2",
                F8,
                "sky that the galaxy stands for; adds up to the bricks'",
                unit="deg2",
            ),
        ]
    )


def images(bands: Bands) -> pa.Schema:
    """One row per brick and band: the files, or why they are missing."""
    files = [
        field
        for kind in FILE_KINDS
        for field in (
            column(f"{kind}_path", TEXT, f"{kind} file below the survey root", nullable=True),
            column(
                f"{kind}_size_bytes", I8, f"size of the {kind} file", unit="bytes", nullable=True
            ),
            column(f"{kind}_sha256", TEXT, f"content of the {kind} file", nullable=True),
        )
    ]
    return pa.schema(
        [
            column("brickname", TEXT, "survey brick"),
            column("band", TEXT, "filter"),
            *files,
            column("missing", TEXT, "why there are no pixels; null: there are", nullable=True),
        ]
    )


def cutouts_head(bands: Bands) -> pa.Schema:
    """A cutout without its pixels."""
    return pa.schema(
        [
            *_where(),
            column(
                "host_x_px",
                F4,
                "catalogue centroid in the cutout, pixel 0's centre is 0",
                unit="px",
                nullable=True,
            ),
            column(
                "host_y_px",
                F4,
                "catalogue centroid in the cutout, pixel 0's centre is 0",
                unit="px",
                nullable=True,
            ),
            *per_band(
                bands,
                "psf_nea_{b}_arcsec",
                F4,
                "psfsize at the centre, a noise-equivalent width",
                unit="arcsec",
                nullable=True,
            ),
            *per_band(
                bands,
                "psf_fwhm_{b}_arcsec",
                F4,
                "FWHM of the Moffat with that psfsize",
                unit="arcsec",
                nullable=True,
            ),
            *per_band(
                bands,
                "sky_median_{b}_nmgy",
                F4,
                "median of the annulus",
                unit="nmgy",
                nullable=True,
            ),
            *per_band(
                bands,
                "sky_mad_{b}_nmgy",
                F4,
                "median absolute deviation of the annulus",
                unit="nmgy",
                nullable=True,
            ),
            *per_band(
                bands,
                "noise_{b}_nmgy",
                F4,
                "pixel rms expected of the sky: 0.91/sqrt(invvar), median",
                unit="nmgy",
                nullable=True,
            ),
            *per_band(
                bands,
                "depth_{b}_mag",
                F4,
                "5-sigma point-source depth from invvar and psfsize",
                unit="mag",
                nullable=True,
            ),
            *per_band(
                bands, "n_exposures_{b}", F4, "median number of exposures", unit="", nullable=True
            ),
            column(
                "masked_fraction", F4, "share of pixels with no weight or a mask bit", nullable=True
            ),
            column("refused", TEXT, "why there are no pixels; null: there are", nullable=True),
        ]
    )


def cutouts(bands: Bands) -> pa.Schema:
    """One row per target: its pixels as the survey has them, or why it is refused."""
    return cutouts_head(bands).append(
        column(
            "pixels",
            PIXELS,
            "float32 sky-subtracted coadd, (band, y, x)",
            unit="nmgy",
            nullable=True,
        )
    )


def _identity() -> list[pa.Field]:
    return [
        column("stamp_id", I8, "63-bit hash of target, kind and copy"),
        column("target_id", I8, "galaxy whose pixels are used"),
        column("source_id", I8, "injected source; null: none", nullable=True),
        column("split", TEXT, "split of the galaxy"),
        column("region_id", I8, "region of the galaxy"),
        column("kind", TEXT, "what is in the stamp, e.g. lens, control, ring"),
        column("family", TEXT, "injection, control, contaminant, counterfactual or sky"),
        column("label", I1, "1: lens; 0: not; null: as observed", nullable=True),
        column(
            "sky_weight",
            F8,
            "share of its kind on the sky over its share in the set",
            nullable=True,
        ),
        column(
            "weight_population", F8, "weight to the physical population of lenses", nullable=True
        ),
        column("area_deg2", F8, "sky that the galaxy stands for", unit="deg2"),
        column("ra_deg", F8, "right ascension", unit="deg"),
        column("dec_deg", F8, "declination", unit="deg"),
        column("host_mag_z", F4, "the host's z magnitude", unit="mag", nullable=True),
    ]


def manifest(bands: Bands) -> pa.Schema:
    """One row per stamp to make, with every number its pixels need."""
    n = {"nullable": True}
    return pa.schema(
        [
            *_identity(),
            column("population", TEXT, "training (broad priors or grid), physical, or sky"),
            column("copy", I4, "which copy of this kind on this target"),
            column(
                "pair_id", I8, "stamp of the same host that it is compared with; null: none", **n
            ),
            column("theta_e_arcsec", F4, "Einstein radius, area pi theta_E^2", unit="arcsec", **n),
            column("theta_e_over_fwhm_r", F4, "Einstein radius over the r-band PSF's FWHM", **n),
            column(
                "theta_e_over_psfsize_r",
                F4,
                "Einstein radius over psfsize_r, as the first run's table",
                **n,
            ),
            column("lens_q", F4, "axis ratio of the mass", **n),
            column(
                "lens_phi_deg", F4, "position angle of the mass, from +x to +y", unit="deg", **n
            ),
            column("lens_z", F4, "redshift of the host", **n),
            column("lens_sigma_v_kms", F4, "velocity dispersion", unit="km/s", **n),
            column("shear", F4, "external shear", **n),
            column("shear_phi_deg", F4, "direction of the shear", unit="deg", **n),
            column("src_z", F4, "redshift of the source", **n),
            column(
                "src_x_arcsec",
                F4,
                "unlensed source from the host's centroid, +x",
                unit="arcsec",
                **n,
            ),
            column(
                "src_y_arcsec",
                F4,
                "unlensed source from the host's centroid, +y",
                unit="arcsec",
                **n,
            ),
            *per_band(bands, "src_mag_{b}", F4, "unlensed source, dust-free AB", unit="mag", **n),
            column(
                "src_r_eff_arcsec",
                F4,
                "half-light radius sqrt(ab) of the source",
                unit="arcsec",
                **n,
            ),
            column("src_n", F4, "Sersic index of the source", **n),
            column("src_q", F4, "axis ratio of the source or of the painted shape", **n),
            column("src_phi_deg", F4, "position angle of the source or shape", unit="deg", **n),
            column(
                "shape_radius_arcsec",
                F4,
                "radius of a painted ring, or where arms begin",
                unit="arcsec",
                **n,
            ),
            column(
                "shape_width_arcsec",
                F4,
                "Gaussian sigma of a painted ring or arm",
                unit="arcsec",
                **n,
            ),
            column("shape_n_arms", I2, "number of spiral arms", **n),
            column(
                "shape_pitch_deg",
                F4,
                "pitch angle of spiral arms; negative winds the other way",
                unit="deg",
                **n,
            ),
            column(
                "arc_snr_target",
                F4,
                "matched-filter S/N in g that training scales the source to",
                **n,
            ),
        ]
    )


def stamps(bands: Bands) -> pa.Schema:
    """One row per stamp: its pixels and what was injected."""
    n = {"nullable": True}
    return pa.schema(
        [
            *_identity(),
            *_measured(bands),
            *per_band(
                bands, "sky_median_{b}_nmgy", F4, "the cutout's, before injection", unit="nmgy"
            ),
            *per_band(
                bands,
                "injected_flux_{b}_nmgy",
                F4,
                "injected light inside the stamp",
                unit="nmgy",
                **n,
            ),
            column(
                "injected_inside_share",
                F4,
                "share of the injected light inside the stamp, r band",
                **n,
            ),
            *per_band(
                bands, "arc_snr_mf_{b}", F4, "matched filter, sqrt(sum f^2/sigma^2)", unit="", **n
            ),
            *per_band(bands, "arc_snr_peak_{b}", F4, "largest pixel's S/N", unit="", **n),
            column("pixels", PIXELS, "float32, (band, y, x)", unit="nmgy"),
        ]
    )


def _measured(bands: Bands) -> list[pa.Field]:
    """What evaluation asks of an injection and of its host's data."""
    n = {"nullable": True}
    return [
        column("theta_e_arcsec", F4, "Einstein radius", unit="arcsec", **n),
        column("theta_e_over_fwhm_r", F4, "Einstein radius over the r-band PSF's FWHM", **n),
        column("theta_e_over_psfsize_r", F4, "Einstein radius over psfsize_r", **n),
        column("src_mag_r", F4, "unlensed source", unit="mag", **n),
        column("magnification", F4, "lensed over unlensed flux", **n),
        *per_band(
            bands,
            "arc_snr_{b}",
            F4,
            "sum f / sqrt(sum sigma^2) where the arc exceeds 1 sky sigma",
            unit="",
            **n,
        ),
        column("is_ground_visible", FLAG, "Collett 2015's criterion", **n),
        *per_band(bands, "psf_fwhm_{b}_arcsec", F4, "FWHM of the PSF", unit="arcsec"),
        *per_band(
            bands, "depth_{b}_mag", F4, "5-sigma point-source depth", unit="mag", nullable=True
        ),
    ]


def scores(bands: Bands) -> pa.Schema:
    """One row per stamp scored, with all that evaluation needs."""
    return pa.schema(
        [
            *_identity(),
            column("set", TEXT, "the collection: val, calib, test or sky"),
            *[
                f if f.name != "is_ground_visible" else f.with_name("ground_visible")
                for f in _measured(bands)
            ],
            column("logit", F4, "the network's output"),
        ]
    )


def candidates(bands: Bands) -> pa.Schema:
    """Every target of the sky set, best first."""
    return pa.schema(
        [
            column("rank", I8, "1 is the most lens-like"),
            *_where(),
            column("tile", TEXT, "tile of the run"),
            column("logit", F4, "the network's output"),
            column("split", TEXT, "train: the network has seen this galaxy's pixels"),
            column("region_id", I8, "region"),
            column("n_merged", I4, "targets merged into this row, itself included"),
            *per_band(bands, "mag_{b}", F4, "host magnitude", unit="mag", nullable=True),
            *per_band(bands, "psf_fwhm_{b}_arcsec", F4, "FWHM of the PSF", unit="arcsec"),
            column("masked_fraction", F4, "share of bad pixels in the cutout"),
            column("viewer_url", TEXT, "the galaxy in the Legacy Surveys' sky viewer"),
        ]
    )


BY_NAME: dict[str, SchemaOf] = {
    "targets": targets,
    "splits": splits,
    "images": images,
    "cutouts": cutouts,
    "manifest": manifest,
    "stamps": stamps,
    "scores": scores,
    "candidates": candidates,
}


def conform(table: pa.Table, schema: pa.Schema, *, where: str) -> pa.Table:
    """Return `table` with exactly the columns of `schema`, in its order.

    Extra columns are dropped. Values are never cast: a wrong type is the producer's bug.

    Raises:
        SchemaError: a column is missing, has another type, or has nulls it may not have. One
            message names every such column.
    """
    faults = [fault for field in schema if (fault := _fault(table, field))]
    if faults:
        raise SchemaError("\n".join([f"{where}: the table does not match its schema", *faults]))
    fields = [_kept(table.field(f.name), f) for f in schema]
    return pa.table([table[f.name] for f in schema], schema=pa.schema(fields))


def empty(schema: pa.Schema) -> pa.Table:
    """No rows of `schema`."""
    return schema.empty_table()


def _kept(found: pa.Field, asked: pa.Field) -> pa.Field:
    """Pixels keep their own field: it holds shape, bands and scale; the rest are the schema's."""
    if asked.type != PIXELS:
        return asked
    return found.with_metadata({**(asked.metadata or {}), **(found.metadata or {})}).with_nullable(
        asked.nullable
    )


def _fault(table: pa.Table, field: pa.Field) -> str | None:
    if field.name not in table.column_names:
        return f"  missing    {field.name}: {field.type}"
    found = table.field(field.name).type
    alike = pa.types.is_fixed_size_binary(found) if field.type == PIXELS else found == field.type
    if not alike:
        return f"  wrong type {field.name}: {found}, expected {field.type}"
    if not field.nullable and table[field.name].null_count:
        return f"  nulls      {field.name}: {table[field.name].null_count} of {table.num_rows} rows"
    return None

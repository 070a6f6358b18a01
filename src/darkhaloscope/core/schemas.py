"""The schema of every table: names, types, units, meaning. Docs and `dhs schema` are printed here.

A schema is made for the run's bands: `cutouts(("g", "r", "z"))`. One value a band is one column a
band, the band before the unit. A column that may be null says so; what does not apply is null.
"""

import pyarrow as pa

from darkhaloscope.core.columns import (
    F4,
    F4_LIST,
    F8,
    FLAG,
    I1,
    I2,
    I4,
    I8,
    PIXELS,
    TEXT,
    Bands,
    SchemaOf,
    column,
    conform,
    empty,
    optional,
    per_band,
)

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
MINED = "mined"  # trained on beside the kinds: a target as observed that a network took for a lens
SPLITS = ("train", "val", "calib", "test", "guard")
ARC_APERTURES_ARCSEC = {"1p0": 1.0, "1p5": 1.5, "2p0": 2.0, "3p5": 3.5}  # four of the survey's
FILE_KINDS = ("image", "invvar", "psfsize", "nexp", "maskbits", "psf", "ccds")
EXTRA_INPUTS = ("psf_fwhm_{b}_arcsec", "psf_nea_{b}_arcsec", "depth_{b}_mag")  # of a network


def extra_inputs(bands: Bands) -> tuple[str, ...]:
    """Columns of `cutouts` that a network may be told beside the pixels."""
    return tuple(name.format(b=band) for name in EXTRA_INPUTS for band in bands)


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
            optional("shape_r_arcsec", F4, "half-light radius of Tractor's fit", unit="arcsec"),
            optional("shape_e1", F4, "ellipticity component 1 of Tractor's fit"),
            optional("shape_e2", F4, "ellipticity component 2 of Tractor's fit"),
            optional("sersic", F4, "Sersic index, null where the type has none"),
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
            optional(f"{kind}_path", TEXT, f"{kind} file below the survey root"),
            optional(f"{kind}_size_bytes", I8, f"size of the {kind} file", unit="bytes"),
            optional(f"{kind}_sha256", TEXT, f"content of the {kind} file"),
        )
    ]
    return pa.schema(
        [
            column("brickname", TEXT, "survey brick"),
            column("band", TEXT, "filter"),
            *files,
            optional("missing", TEXT, "why there are no pixels; null: there are"),
        ]
    )


def cutouts_head(bands: Bands) -> pa.Schema:
    """A cutout without its pixels."""
    return pa.schema(
        [
            *_where(),
            optional(
                "host_x_px",
                F4,
                "catalogue centroid in the cutout, pixel 0's centre is 0",
                unit="px",
            ),
            optional(
                "host_y_px",
                F4,
                "catalogue centroid in the cutout, pixel 0's centre is 0",
                unit="px",
            ),
            *per_band(
                bands,
                "psf_nea_{b}_arcsec",
                F4,
                "psfsize at the centre, a noise-equivalent width; the PSF image's own if any",
                unit="arcsec",
                nullable=True,
            ),
            *per_band(
                bands,
                "psf_fwhm_{b}_arcsec",
                F4,
                "FWHM of the Moffat with that psfsize, or of the PSF image",
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
            *per_band(
                bands,
                "electrons_per_nmgy_{b}",
                F4,
                "electrons in all exposures together, from invvar and the table of CCDs",
                unit="1/nmgy",
                nullable=True,
            ),
            optional("masked_fraction", F4, "share of pixels with no weight or a mask bit"),
            optional("refused", TEXT, "why there are no pixels; null: there are"),
        ]
    )


def cutouts(bands: Bands) -> pa.Schema:
    """One row per target: its pixels as the survey has them, or why it is refused."""
    return pa.schema(
        [
            *cutouts_head(bands),
            optional(
                "psf_image",
                PIXELS,
                "float32 PSF with the pixel in it, centred, of sum 1, (band, y, x); null: the run "
                "keeps none",
            ),
            optional("pixels", PIXELS, "float32 sky-subtracted coadd, (band, y, x)", unit="nmgy"),
        ]
    )


def _identity() -> list[pa.Field]:
    return [
        column("stamp_id", I8, "63-bit hash of target, kind and copy"),
        column("target_id", I8, "galaxy whose pixels are used"),
        optional("source_id", I8, "injected source; null: none"),
        optional("src_kind", TEXT, "sersic, clumpy or catalogue; null: none, or a painted shape"),
        column("split", TEXT, "split of the galaxy"),
        column("region_id", I8, "region of the galaxy"),
        column("kind", TEXT, "what is in the stamp, e.g. lens, control, ring"),
        column(
            "family", TEXT, "injection, control, contaminant, counterfactual, look_alike or sky"
        ),
        optional("label", I1, "1: lens; 0: not; null: as observed"),
        optional("sky_weight", F8, "share of its kind on the sky over its share in the set"),
        optional("weight_population", F8, "weight to the physical population of lenses"),
        column("area_deg2", F8, "sky that the galaxy stands for", unit="deg2"),
        column("ra_deg", F8, "right ascension", unit="deg"),
        column("dec_deg", F8, "declination", unit="deg"),
        optional("host_mag_z", F4, "the host's z magnitude", unit="mag"),
    ]


def manifest(bands: Bands) -> pa.Schema:
    """One row per stamp to make, with every number its pixels need."""
    return pa.schema(
        [
            *_identity(),
            column("population", TEXT, "training (broad priors or grid), physical, or sky"),
            column("copy", I4, "which copy of this kind on this target"),
            optional("pair_id", I8, "stamp of the same host that it is compared with; null: none"),
            optional("theta_e_arcsec", F4, "Einstein radius, area pi theta_E^2", unit="arcsec"),
            optional("theta_e_over_fwhm_r", F4, "Einstein radius over the r-band PSF's FWHM"),
            optional(
                "theta_e_over_psfsize_r",
                F4,
                "Einstein radius over psfsize_r, as the first run's table",
            ),
            optional("lens_q", F4, "axis ratio of the mass"),
            optional("lens_phi_deg", F4, "position angle of the mass, from +x to +y", unit="deg"),
            optional("lens_z", F4, "redshift of the host"),
            optional("lens_sigma_v_kms", F4, "velocity dispersion", unit="km/s"),
            optional("is_group_lens", FLAG, "the halo of the host's group is part of the lens"),
            optional("shear", F4, "external shear"),
            optional("shear_phi_deg", F4, "direction of the shear", unit="deg"),
            optional("src_z", F4, "redshift of the source"),
            optional(
                "src_x_arcsec", F4, "unlensed source from the host's centroid, +x", unit="arcsec"
            ),
            optional(
                "src_y_arcsec", F4, "unlensed source from the host's centroid, +y", unit="arcsec"
            ),
            *per_band(
                bands, "src_mag_{b}", F4, "unlensed source, dust-free AB", unit="mag", nullable=True
            ),
            optional(
                "src_r_eff_arcsec", F4, "half-light radius sqrt(ab) of the source", unit="arcsec"
            ),
            optional("src_n", F4, "Sersic index of the source; null: it is a picture"),
            optional("src_q", F4, "axis ratio of the source or of the painted shape"),
            optional("src_phi_deg", F4, "position angle of the source or shape", unit="deg"),
            optional("src_picture", I4, "row of the source's picture in the bank of sources"),
            optional("src_is_mirrored", FLAG, "the picture is mirrored before it is turned"),
            optional(
                "shape_radius_arcsec",
                F4,
                "of what is painted: a ring, where arms begin, a disc, the outermost piece",
                unit="arcsec",
            ),
            optional(
                "shape_width_arcsec",
                F4,
                "Gaussian sigma of a painted ring, arm or tail",
                unit="arcsec",
            ),
            *per_band(
                bands,
                "mw_transmission_{b}",
                F4,
                "share of injected light that Galactic dust leaves",
                unit="",
                nullable=True,
            ),
            optional(
                "shape_variant", TEXT, "which form of its kind, e.g. polar, barred, satellite"
            ),
            optional("shape_parts", F4_LIST, "numbers of its parts, as `lensing.parts` lists them"),
            *per_band(
                bands,
                "layer_share_{b}",
                F4,
                "share of the second layer in the light of a painted shape",
                unit="",
                nullable=True,
            ),
            optional(
                "light_scale_max",
                F4,
                "most that its light may be scaled by and leave its host a target; null: any",
            ),
            optional(
                "arc_snr_target", F4, "matched-filter S/N in g that training scales the source to"
            ),
        ]
    )


def sources(bands: Bands) -> pa.Schema:
    """One row per galaxy that may be a source as a picture."""
    return pa.schema(
        [
            column("source_id", I8, "galaxy; the lowest two bits name its split"),
            column("src_kind", TEXT, "clumpy (generated) or catalogue (real)"),
            column("split", TEXT, "the one split that may use it"),
            optional("ident", I8, "IDENT of the catalogue; of a generated galaxy its number"),
            column("half_light_px", F4, "radius that holds half of the light", unit="px"),
            optional("r_eff_arcsec", F4, "the same as observed; null: any", unit="arcsec"),
            optional("mag_hst", F4, "magnitude in the (reddest) HST filter", unit="mag"),
            *per_band(bands, "mag_{b}", F4, "HSC magnitude", unit="mag", nullable=True),
            optional("z", F4, "redshift: photometric, or that of the generated colours"),
            optional("snr", F4, "signal-to-noise ratio of the HST image"),
            optional("resolution_arcsec", F4, "FWHM left in the picture", unit="arcsec"),
            optional("masked_share", F4, "share that a neighbour covered within two radii"),
            *per_band(bands, "second_share_{b}", F4, "share of the second layer", unit=""),
            column("provenance", TEXT, "file it comes from, and its filters; or how it was made"),
            column("pixels", PIXELS, "float32 (y, x), adding up to 1: first layer"),
            optional("pixels_2", PIXELS, "second layer; null: there is none"),
        ]
    )


def stamps(bands: Bands) -> pa.Schema:
    """One row per stamp: its pixels and what was injected."""
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
                nullable=True,
            ),
            *[
                field
                for name, radius in ARC_APERTURES_ARCSEC.items()
                for field in per_band(
                    bands,
                    f"arc_flux_{name}_{{b}}_nmgy",
                    F4,
                    f"injected light within {radius} arcsec of the host's centroid",
                    unit="nmgy",
                    nullable=True,
                )
            ],
            optional(
                "injected_inside_share", F4, "share of the injected light inside the stamp, r band"
            ),
            *per_band(
                bands,
                "arc_snr_mf_{b}",
                F4,
                "matched filter, sqrt(sum f^2/sigma^2)",
                unit="",
                nullable=True,
            ),
            *per_band(bands, "arc_snr_peak_{b}", F4, "largest pixel's S/N", unit="", nullable=True),
            column("pixels", PIXELS, "float32, (band, y, x)", unit="nmgy"),
        ]
    )


def _measured(bands: Bands) -> list[pa.Field]:
    """What evaluation asks of an injection and of its host's data."""
    return [
        optional("theta_e_arcsec", F4, "Einstein radius", unit="arcsec"),
        optional("theta_e_over_fwhm_r", F4, "Einstein radius over the r-band PSF's FWHM"),
        optional("theta_e_over_psfsize_r", F4, "Einstein radius over psfsize_r"),
        optional("src_mag_r", F4, "unlensed source", unit="mag"),
        optional("magnification", F4, "lensed over unlensed flux"),
        *per_band(
            bands,
            "arc_snr_{b}",
            F4,
            "sum f / sqrt(sum sigma^2) where the arc exceeds 1 sky sigma",
            unit="",
            nullable=True,
        ),
        optional("ground_visible", FLAG, "Collett 2015's criterion"),
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
            *_measured(bands),
            column("logit", F4, "the network's output"),
        ]
    )


def ensemble(bands: Bands) -> pa.Schema:
    """One row per stamp: a committee's score of it, as a logit and as a probability."""
    meant = "combined logit of the members; of calib that of fits without the row's region"
    return pa.schema(
        [
            *[column("logit", F4, meant) if f.name == "logit" else f for f in scores(bands)],
            column("probability", F8, "of a lens, at the ensemble's prevalence"),
            column("probability_contaminated", F8, "the same with more contaminants on the sky"),
            optional("disagreement", F4, "spread of the members' calibrated logits; null: one"),
            column("member_logits", F4_LIST, "each member's logit, in the order of `members`"),
            optional("fold", I2, "fold of the cross-fit; null: the row is not of calib"),
        ]
    )


def candidates(bands: Bands) -> pa.Schema:
    """Every target of the sky set, best first."""
    return pa.schema(
        [
            column("rank", I8, "1 is the most lens-like"),
            *_where(),
            column("tile", TEXT, "tile of the run"),
            column("logit", F4, "the network's output, or the committee's"),
            optional("probability", F8, "of a lens; null: of one network"),
            optional("disagreement", F4, "spread of the members' calibrated logits"),
            column("split", TEXT, "train: the network has seen this galaxy's pixels"),
            column("region_id", I8, "region"),
            column("n_merged", I4, "targets merged into this row, itself included"),
            *per_band(bands, "mag_{b}", F4, "host magnitude", unit="mag", nullable=True),
            *per_band(bands, "psf_fwhm_{b}_arcsec", F4, "FWHM of the PSF", unit="arcsec"),
            column("masked_fraction", F4, "share of bad pixels in the cutout"),
            column(
                "viewer_url",
                TEXT,
                "the galaxy in the survey's sky viewer; empty: it is not on the real sky",
            ),
        ]
    )


def selection(bands: Bands) -> pa.Schema:
    """Every cell of the selection function: sizes, three factors, and their product."""
    del bands  # seeing, depth and magnitude are those of r, whatever else there is
    axes = (
        ("theta_e", "_arcsec", "Einstein radius", "arcsec"),
        ("src_mag", "", "r magnitude of the unlensed source", "mag"),
        ("psf_fwhm", "_arcsec", "FWHM of the PSF in r", "arcsec"),
        ("depth", "_mag", "5-sigma point-source depth in r", "mag"),
    )
    ends = (("low", "lower edge, included"), ("high", "upper edge, not included"))
    factors = {
        "target": "the galaxy with the arc passes the target cuts",
        "usable": "its cutout is usable, given a target",
        "score": "the score reaches the threshold, given both",
    }
    return pa.schema(
        [
            *[
                column(f"{name}_{end}{suffix}", F8, f"{what}: {said}", unit=unit)
                for name, suffix, what, unit in axes
                for end, said in ends
            ],
            column("n_injections", I8, "injected lenses in the cell"),
            column("n_hosts", I8, "their host galaxies"),
            column("n_sources", I8, "their sources"),
            column("effective_hosts", F8, "hosts of equal weight that would tell as much"),
            column("effective_sources", F8, "sources of equal weight that would tell as much"),
            column("is_enough", FLAG, "the cell holds what the settings ask of one"),
            *[
                field
                for name, what in factors.items()
                for field in (
                    column(f"{name}_n", F8, f"galaxies asked whether {what}"),
                    column(f"{name}_k", F8, f"galaxies of which {what}"),
                    column(f"{name}_effective_n", F8, f"independent galaxies: {what}"),
                    optional(f"{name}_value", F8, f"share: {what}"),
                    optional(f"{name}_low", F8, f"lower end, 95 %: {what}"),
                    optional(f"{name}_high", F8, f"upper end, 95 %: {what}"),
                )
            ],
            column("is_usable_overall", FLAG, "no target has such a PSF and depth: all targets'"),
            optional("completeness", F8, "product of the three shares"),
            optional("completeness_low", F8, "lower end, 95 %"),
            optional("completeness_high", F8, "upper end, 95 %"),
        ]
    )


def gates(bands: Bands) -> pa.Schema:
    """Every check of the training set: its value, its limits, and whether they hold."""
    del bands  # a band is part of a stratum's name
    return pa.schema(
        [
            column("name", TEXT, "the gate"),
            column("stratum", TEXT, "what of it: `all`, a stratum, or a quantity"),
            column("guards", TEXT, "what the gate guards against"),
            optional("value", F8, "what was measured, if it could be"),
            optional("low", F8, "lower end, 95 %"),
            optional("high", F8, "upper end, 95 %"),
            optional("limit_low", F8, "the value may not be below it"),
            optional("limit_high", F8, "the value may not be above it"),
            column("passed", FLAG, "the limits hold, or there is none"),
            column("waived", FLAG, "it failed, and the run's file waives it"),
            column("reason", TEXT, "why it failed or is waived; empty otherwise"),
            column("detail", TEXT, "what was compared with what, and how many"),
        ]
    )


def mined(bands: Bands) -> pa.Schema:
    """Targets of train that a network takes for lenses, and what becomes of them."""
    del bands
    return pa.schema(
        [
            column("target_id", I8, "galaxy"),
            column("stamp_id", I8, "its row of kind sky in the manifest"),
            column("round", I2, "round whose network chose it"),
            column("rank", I8, "1 is the most lens-like target of train"),
            column("logit", F4, "the network's output"),
            column("split", TEXT, "train; any other refuses the round"),
            column("region_id", I8, "region of the galaxy"),
            column("ra_deg", F8, "right ascension", unit="deg"),
            column("dec_deg", F8, "declination", unit="deg"),
            column("n_merged", I4, "targets merged into this row, itself included"),
            column(
                "p_lens", F8, "probability of a lens at the run's prevalence; of a graded one 0"
            ),
            column("p_lens_low", F8, "lower end of its 95 % interval"),
            column("p_lens_high", F8, "upper end of its 95 % interval"),
            column("weight", F8, "of the galaxy as a negative; 0: it is none"),
            column("use", TEXT, "negative, review (nobody has graded it) or left_out"),
            column("reason", TEXT, "why it is left out or up for review; a grade; empty otherwise"),
            optional("known_name", TEXT, "nearest entry of the lists within its radius"),
            optional("known_separation_arcsec", F4, "distance from it", unit="arcsec"),
            column(
                "test_sha256", TEXT, "what the frozen test set is: ids of its stamps and sources"
            ),
        ]
    )


def audit(bands: Bands) -> pa.Schema:
    """Every check of a trained network: its value, its limits, and whether they hold."""
    return gates(bands)


BY_NAME: dict[str, SchemaOf] = {
    "targets": targets,
    "splits": splits,
    "images": images,
    "cutouts": cutouts,
    "sources": sources,
    "manifest": manifest,
    "stamps": stamps,
    "scores": scores,
    "ensemble": ensemble,
    "candidates": candidates,
    "gates": gates,
    "selection": selection,
    "mined": mined,
    "audit": audit,
}

__all__ = ["BY_NAME", "F4", "PIXELS", "TEXT", "Bands", "SchemaOf", "column", "conform", "empty"]

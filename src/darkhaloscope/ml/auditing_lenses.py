"""The audit's counterfactuals: what a network makes of an arc's light where there is no arc."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from darkhaloscope.evaluate import audit, rows
from darkhaloscope.evaluate.audit import Operating, Repainted
from darkhaloscope.evaluate.audit_checks import KINDS
from darkhaloscope.evaluate.audit_judge import unjudged
from darkhaloscope.evaluate.gates import ALL, Row
from darkhaloscope.ml import auditing
from darkhaloscope.ml.auditing import heads_of
from darkhaloscope.ml.auditing_case import Case, numbers

FLUX_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
THETA_E_FACTORS = (0.6, 0.8, 1.0, 1.25)
RISES = ("rises_with_snr", "rises_with_theta_e")


def found(case: Case) -> list[Row]:
    """All rows of the counterfactuals."""
    point, made = _operating(case)
    return [*made, *_stored(case, point), *_painted(case, point), *_rings(case, point)]


def _operating(case: Case) -> tuple[Operating | None, list[Row]]:
    """The operating point on the set's own lenses."""
    known = _known(case)
    labels = known["label"].to_numpy()
    if not (labels == 1).any() or not (labels == 0).any():
        why = f"set {case.config.set} holds {len(labels)} stamps with a label, of one class only"
        return None, [unjudged("operating_point", ALL, why)]
    is_headline = case.is_headline(known)
    return audit.operating(_rows(known), is_headline, case.config.completeness, case.judge)


def _stored(case: Case, point: Operating | None) -> list[Row]:
    """Shares of kinds whose stamps the set holds."""
    if point is None:
        return [unjudged(kind, ALL, _no_point(case)) for kind in KINDS]
    return audit.counterfactuals(point, _rows(_known(case)), case.config.limits)


def _painted(case: Case, point: Operating | None) -> list[Row]:
    """What follows from the same lenses with another flux, another theta_E, or no light."""
    config, bands = case.config, case.config.bands
    lenses = case.sample(case.drawn("lens"), config.lenses)
    controls = numbers(case.sample(case.scored("control"), config.plain_cutouts), "logit")
    variants = {("flux", 0.0): auditing.at_flux(lenses, auditing.NO_FLUX, bands)}
    variants |= {("flux", f): auditing.at_flux(lenses, f, bands) for f in FLUX_FACTORS}
    variants |= {("theta_e", f): auditing.at_theta_e(lenses, f) for f in THETA_E_FACTORS if f != 1}
    all_of = auditing.scored(pa.concat_tables(variants.values()), case.studio)
    shape = (len(variants), lenses.num_rows)
    snrs = all_of.arc_snr[:, bands.index("g")].reshape(shape)
    logit = dict(zip(variants, all_of.logit.reshape(shape), strict=True))
    snr = dict(zip(variants, snrs, strict=True))
    for values in (logit, snr):
        values["theta_e", 1.0] = values["flux", 1.0]
    dark, as_drawn, limits = logit["flux", 0.0], logit["flux", 1.0], config.limits
    made = [audit.zero_flux(dark, controls, limits.zero_flux, case.judge)]
    made += audit.arc_removed(as_drawn, dark, point, limits.arc_removed, _no_point(case))
    ratio = numbers(lenses, "theta_e_over_fwhm_r")[:, None]
    for name, what, factors in (
        (RISES[0], "flux", FLUX_FACTORS),
        (RISES[1], "theta_e", THETA_E_FACTORS),
    ):
        of_lens = np.array(factors if what == "theta_e" else [1.0] * len(factors))
        again = Repainted(
            np.array(factors),
            np.stack([logit[what, f] for f in factors], 1),
            np.stack([snr[what, f] for f in factors], 1),
            ratio * of_lens,
        )
        made += audit.rises(name, again, config.rising, getattr(limits, name), case.judge)
    return made


def _rings(case: Case, point: Operating | None) -> list[Row]:
    """Plain galaxies with a faint Gaussian ring."""
    name, config, asked = "gaussian_ring", case.config, case.config.gaussian_ring
    hosts, arcs = case.sample(case.drawn("control"), config.rings), case.drawn("lens")
    if point is None:
        return [unjudged(name, ALL, _no_point(case))]
    if not hosts.num_rows or not arcs.num_rows:
        return [unjudged(name, ALL, f"set {config.set} has no lens or no control")]
    at = pc.index_in(hosts["target_id"], value_set=case.splits["target_id"].combine_chunks())
    place = auditing.drawn_places(hosts, arcs.num_rows, seed=config.seed)
    plain = auditing.scored(hosts, case.studio).logit
    fwhm = numbers(heads_of(hosts, case.studio.cutouts), "psf_fwhm_r_arcsec")
    made = []
    for stratum, of, column, widths in (
        ("wide, of an arc's colours", arcs.take(place), "src_mag", asked.wide_fwhm_over_psf),
        (
            "of the host's colours",
            case.splits.take(at),
            "mag",
            asked.host_coloured_fwhm_over_psf,
        ),
    ):
        mags = {band: numbers(of, f"{column}_{band}") for band in config.bands}
        known = np.isfinite(np.stack(list(mags.values()))).all(0)
        ringed = auditing.rings(
            hosts.filter(pa.array(known)),
            {band: mag[known] for band, mag in mags.items()},
            fwhm[known],
            width_over_fwhm=widths,
            asked=asked,
            seed=config.seed,
        )
        before = float((plain[known] >= point.threshold).mean()) if known.any() else 0.0
        said = f"controls with such a ring ({100 * before:.1f} % of them without)"
        logits = auditing.scored(ringed, case.studio).logit
        made.append(point.share(name, stratum, logits, config.limits.gaussian_ring, said))
    return made


def _known(case: Case) -> pa.Table:
    """Scores of the set that have a label."""
    return case.in_set.filter(pc.is_valid(case.in_set["label"]))


def _rows(known: pa.Table) -> rows.Rows:
    """Scores with a label, as the evaluator counts them."""
    return rows.rows(
        score=numbers(known, "logit"),
        is_lens=known["label"].to_numpy() == 1,
        galaxy=known["target_id"].to_numpy(),
        kind=known["kind"],
        source=known["source_id"],
        where="scores that are audited",
    )


def _no_point(case: Case) -> str:
    return f"too few headline lenses in set {case.config.set} to fix the operating point"

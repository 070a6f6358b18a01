"""The page of a foreign score table: the report's page, without what only a run knows."""

from collections.abc import Mapping
from typing import Any

from darkhaloscope.evaluate import html, plots
from darkhaloscope.evaluate.metrics import Evaluation
from darkhaloscope.evaluate.options import Order
from darkhaloscope.evaluate.reading import Scored
from darkhaloscope.evaluate.words import negatives

PANELS = 2  # columns whose strata are drawn


def page(order: Order, first: Scored, result: Evaluation, figures: Mapping[str, Any]) -> str:
    """The page of an evaluation as HTML.

    Args:
        order: What was asked for.
        first: The table.
        result: Its evaluation, with the curves.
        figures: The content of `metrics.json`.
    """
    best = plots.best_fpr(result.curve)
    columns = list(dict.fromkeys(name.partition(":")[0] for name in figures["by_stratum"]))
    drawn = {c: html.plain(c) for c in columns if c != "headline"}
    drawn = dict(list(drawn.items())[:PANELS])
    made = {"roc": plots.roc(result), "scores": plots.score_distributions(first.rows)}
    if drawn:
        made["completeness"] = plots.completeness(figures, drawn, best)
    if figures["calibration"]:
        made["reliability"] = plots.reliability(figures["calibration"])
    n, left_out = figures["n_rows"], first.n_left_out
    rest = f"; {left_out:,} more without a label are left out" if left_out else ""
    return html.render(
        html.Page(
            title=order.title or f"What the scores of {first.name} find and miss",
            subtitle=f"{first.where}: {n:,} stamps of known truth{rest}.",
            metrics=figures,
            plots=made,
            best_fpr=best,
            cautions=cautions(order, first, result, figures),
            is_simulated_sky=order.sky == "simulated",
            of="table",
        )
    )


def cautions(
    order: Order, first: Scored, result: Evaluation, figures: Mapping[str, Any]
) -> list[str]:
    """What the figures must not be used for, one sentence each; all of it follows from the data."""
    lowest = html.power(plots.smallest_fpr(result.curve))
    said = []
    if order.sky == "simulated":
        said.append("For any statement about the real sky: hosts and noise are simulated.")
    if not order.lenses and not first.is_own:
        said.append("As simulated or as real figures: the table does not say what its lenses are.")
    elif order.lenses != "real":
        said.append("As the recall of real lenses: the lenses here are injected.")
    if "group" not in first.columns:
        said.append(
            "Where a galaxy stands in several rows: no column names the galaxies, so that every "
            "row counts as one, and copies make the intervals too narrow."
        )
    if not figures["is_weighted_to_sky"]:
        said.append(
            "As rates on the sky, unless the negatives are a fair sample of it: there is no "
            "sky_weight, and each counts alike."
        )
    if not figures["operating_points"]:
        said.append(
            "As what a threshold that was fixed beforehand gives: thresholds are placed on this "
            "table, and their own uncertainty is in the intervals."
        )
    if order.score_kind != "probability":
        said.append("As the probability that one candidate is a lens: scores are no probabilities.")
    if order.sky == "real":
        said.append("Below the contamination floor: some negatives may be undiscovered lenses.")
    if figures["illustrative"]:
        said.append(f"As more than an example: {figures['illustrative']}.")
    regions = f" the {figures['n_regions']} regions of" if figures["n_regions"] else ""
    return [
        *said,
        "As a figure for all lenses where it is that of a stratum: name the stratum beside it.",
        f"For false-positive rates below {lowest}: {negatives(figures['n_negatives'])} cannot "
        "bound them.",
        "As a purity without a prevalence: how rare lenses are is stated, not measured.",
        f"For parts of the sky other than{regions or ' that of'} this table.",
    ]

"""Nominal 95 % intervals hold the truth 95 times in 100, whatever the table looks like.

200 repeats of each scene here, judged with the room that so few repeats need; 1,000 of more scenes
with --soak (`make soak`), judged by the bare limits, and 5,000 of a scene that misses them.
"""

import numpy as np
import pytest
from coverage_builders import (
    MORE,
    SCENES,
    Coverage,
    Scene,
    coverage,
    curve_of,
    is_outside,
    settled,
)
from scipy import stats

from darkhaloscope.evaluate import intervals

REPEATS, SOAK_REPEATS = 200, 1000
NOMINAL, LOWEST, HIGHEST = 0.95, 0.93, 0.975
ONCE_IN = 10_000  # how rarely an interval that covers as it should is called wrong


def name_of(scene: Scene) -> str:
    return scene.name.replace(",", "").replace(" ", "-")


def faults(found: list[Coverage], lowest: float, highest: float = 1.0) -> list[str]:
    """Rates whose intervals are too narrow, or too wide where the counts are large enough."""
    return [
        f"{c.rate}: {100 * c.share:.1f} % of {c.repeats}, {c.expected:.0f} expected"
        for c in found
        if is_outside(c, lowest, highest)
    ]


def room(repeats: int) -> tuple[float, float]:
    """Shares that intervals of 95 %, and of 97.5 %, fall short of, or exceed, once in 10,000."""
    lowest = stats.binom.ppf(1 / ONCE_IN, repeats, NOMINAL) / repeats
    return lowest, stats.binom.ppf(1 - 1 / ONCE_IN, repeats, HIGHEST) / repeats


def mean(found: list[Coverage]) -> float:
    return float(np.mean([c.share for c in found]))


@pytest.mark.parametrize("scene", SCENES, ids=name_of)
def test_intervals_hold_the_truth(scene: Scene) -> None:
    found = coverage(scene, REPEATS)
    assert faults(found, *room(REPEATS)) == []
    assert LOWEST <= mean(found) <= HIGHEST + 0.01  # all rates together: repeats enough


@pytest.mark.slow
@pytest.mark.parametrize("scene", SCENES + MORE, ids=name_of)
def test_intervals_hold_the_truth_in_a_thousand_repeats(
    scene: Scene, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    is_soak = bool(request.config.getoption("--soak"))
    limits = (LOWEST, HIGHEST) if is_soak else room(REPEATS)
    found = settled(scene, SOAK_REPEATS, *limits) if is_soak else coverage(scene, REPEATS)
    with capsys.disabled():
        print(f"\n{scene.name}: " + ", ".join(f"{c.rate} {100 * c.share:.1f}" for c in found))
    assert faults(found, *limits) == []


def test_clopper_pearson_at_a_threshold_of_the_same_table_is_found_out() -> None:
    scene = Scene("too narrow", 1000, (4000,), tpr_at=(1e-3,), fpr_at=())
    truth = scene.truths["TPR at FPR 0.001"]
    held = []
    for i in range(REPEATS):
        curve = curve_of(scene.draw(np.random.default_rng([77, i])))
        low, high = intervals.fixed_tpr(curve.lenses, curve.threshold_at_fpr(1e-3))
        held.append(low <= truth <= high)
    found = [Coverage("TPR at FPR 0.001", float(np.mean(held)), REPEATS, 4.0, 0.0)]
    assert faults(found, *room(REPEATS))
    assert mean(found) < 0.6


@pytest.mark.parametrize(
    ("n_regions", "n_sources", "column"), [(30, 0, "region"), (0, 20, "source")]
)
def test_intervals_that_are_blind_to_clusters_are_too_narrow(
    n_regions: int, n_sources: int, column: str
) -> None:
    chosen = (s for s in SCENES if (s.n_regions, s.n_sources) == (n_regions, n_sources))
    scene = next(chosen)
    blind = coverage(scene, 100, blind_to=(column,))
    assert faults(blind, *room(100))
    assert mean(blind) < mean(coverage(scene, 100)) - 0.05

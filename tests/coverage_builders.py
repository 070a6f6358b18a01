"""Simulated score tables whose true rates are known, and how often intervals hold the truth.

Scores are normal: what a rate truly is follows from the normal distribution, and from nothing of
the evaluator. Regions and sources shift the scores of all their members; the truth is then that of
a sky of many regions, of which the table has seen a few.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import stats
from scipy.optimize import brentq

from darkhaloscope.core import keys
from darkhaloscope.evaluate import rates, sample
from darkhaloscope.evaluate.intervals import Draws
from darkhaloscope.evaluate.rates import Curve, Rate
from darkhaloscope.evaluate.rows import Rows

LENS_MEAN = 2.5
AREA = "AUROC"
ENOUGH = 20  # expected counts from which an interval may not be too wide either


@dataclass(frozen=True)
class Scene:
    """A score table to be drawn again and again.

    Attributes:
        name: As the tables print it.
        n_lenses: Lens galaxies.
        sizes: Negative galaxies of each kind.
        means: Mean score of each kind.
        sky: Part of the sky of each kind; empty: no weights, one kind.
        copies: Rows of each negative galaxy.
        lens_copies: Rows of each lens galaxy.
        alike: Correlation of the scores of a galaxy's copies; 1: they are identical.
        n_regions: Regions of the sky; 0: none.
        region_shift: Standard deviation of what a region adds to all its scores.
        lens_shift: Standard deviation of what a region adds to its lenses alone.
        n_sources: Different sources of the lenses; 0: each has its own.
        source_shift: Standard deviation of what a source adds to its lenses.
        is_weighted: Lenses of low scores weigh more, as exp(-s / 2).
        tpr_at: FPRs at which the completeness is asked.
        fpr_at: Completenesses at which the FPR is asked.
        fixed_at: FPRs whose true thresholds are taken as fixed by other data.
    """

    name: str
    n_lenses: int
    sizes: tuple[int, ...]
    means: tuple[float, ...] = (0.0,)
    sky: tuple[float, ...] = ()
    copies: int = 1
    lens_copies: int = 1
    alike: float = 1.0
    n_regions: int = 0
    region_shift: float = 0.0
    lens_shift: float = 0.0
    n_sources: int = 0
    source_shift: float = 0.0
    is_weighted: bool = False
    tpr_at: tuple[float, ...] = (1e-1, 1e-2, 1e-3, 1e-4)
    fpr_at: tuple[float, ...] = (0.95, 0.85, 0.5)
    fixed_at: tuple[float, ...] = ()

    @cached_property
    def sd_negative(self) -> float:
        return float(np.sqrt(1 + self.region_shift**2))

    @cached_property
    def sd_lens(self) -> float:
        shifts = self.region_shift**2 + self.lens_shift**2 + self.source_shift**2
        return float(np.sqrt(1 + shifts))

    def true_fpr(self, threshold: float) -> float:
        """Share of the unique negatives at or above a threshold, weighted to the sky."""
        parts = self.sky or (1.0,)
        return sum(w * self._of_kind(threshold - m) for w, m in zip(parts, self.means, strict=True))

    def _of_kind(self, threshold: float) -> float:
        """Chance that the highest score of a galaxy of mean 0 is at or above a threshold."""
        if self.copies == 1 or self.alike == 1:
            return float(stats.norm.sf(threshold / self.sd_negative))
        node, weight = np.polynomial.hermite_e.hermegauss(80)
        own = np.sqrt(1 - self.alike)
        below = stats.norm.cdf((threshold - np.sqrt(self.alike) * node) / own) ** self.copies
        return float(1 - (weight * below).sum() / weight.sum())

    def true_tpr(self, threshold: float) -> float:
        """Share of the lenses at or above a threshold, weighted; exp(-s / 2) shifts a normal."""
        z = (threshold - LENS_MEAN) / self.sd_lens
        return float(stats.norm.sf(z + 0.5 if self.is_weighted else z))

    def threshold_at_tpr(self, tpr: float) -> float:
        return float(brentq(lambda t: self.true_tpr(t) - tpr, -12, 14))

    def threshold_at_fpr(self, fpr: float) -> float:
        return float(brentq(lambda t: self.true_fpr(t) - fpr, -12, 14))

    @cached_property
    def places(self) -> dict[str, tuple[str, float, float]]:
        """By the name of each rate: what is asked, at what, and the true threshold."""
        made = {}
        for f in self.tpr_at:
            made[f"TPR at FPR {f:g}"] = ("tpr", f, self.threshold_at_fpr(f))
        for x in self.fpr_at:
            made[f"FPR at TPR {x:g}"] = ("fpr", x, self.threshold_at_tpr(x))
        for f in self.fixed_at:
            made[f"TPR at t({f:g})"] = ("fixed tpr", f, self.threshold_at_fpr(f))
            made[f"FPR at t({f:g})"] = ("fixed fpr", f, self.threshold_at_fpr(f))
        if self.copies == 1 or self.alike == 1:
            made[AREA] = ("auroc", 0.5, LENS_MEAN)
        return made

    @cached_property
    def truths(self) -> dict[str, float]:
        """The true value of each rate."""
        made = {
            name: self.true_tpr(t) if what.endswith("tpr") else self.true_fpr(t)
            for name, (what, _, t) in self.places.items()
        }
        if AREA in made:
            made[AREA] = self.true_area
        return made

    @property
    def true_area(self) -> float:
        """Chance that a lens stands above a negative of another region."""
        mean = LENS_MEAN - (0.5 * self.sd_lens if self.is_weighted else 0.0)
        sd = np.hypot(self.sd_lens, self.sd_negative)
        parts = zip(self.sky or (1.0,), self.means, strict=True)
        return float(sum(w * stats.norm.cdf((mean - m) / sd) for w, m in parts))

    @cached_property
    def expectations(self) -> dict[str, float]:
        """The least expected count of each rate."""
        return {
            name: self.expected(t, of_lenses=what != "fixed fpr", of_negatives=what != "fixed tpr")
            for name, (what, _, t) in self.places.items()
        }

    def expected(self, threshold: float, *, of_lenses: bool, of_negatives: bool) -> float:
        """The least number of galaxies that an interval at the threshold rests on."""
        tpr, counts = self.true_tpr(threshold), [np.inf]
        if of_lenses:
            counts += [self.n_lenses * tpr, self.n_lenses * (1 - tpr)]
        if of_negatives:
            x = np.array(
                [
                    n * self._of_kind(threshold - m)
                    for n, m in zip(self.sizes, self.means, strict=True)
                ]
            )
            w = np.array(self.sky or (1.0,)) / self.sizes
            counts.append(float((w @ x) ** 2 / (w**2 @ x)))
        return float(min(counts))

    def draw(self, rng: np.random.Generator) -> Rows:
        """One table."""
        n, sizes = self.n_lenses, np.array(self.sizes)
        n_all = n + int(sizes.sum())
        score = rng.normal(0, 1, n_all)
        score[:n] += LENS_MEAN
        score[n:] += np.repeat(self.means, sizes)
        region = source = weight = sky = None
        if self.n_regions:
            edges = np.cumsum(rng.lognormal(0, 0.4, self.n_regions))
            region = np.searchsorted(edges / edges[-1], rng.random(n_all)).clip(
                0, self.n_regions - 1
            )
            score += rng.normal(0, self.region_shift, self.n_regions)[region]
            score[:n] += rng.normal(0, self.lens_shift, self.n_regions)[region[:n]]
        if self.n_sources:
            source = np.full(n_all, -1)
            source[:n] = rng.integers(0, self.n_sources, n)
            score[:n] += rng.normal(0, self.source_shift, self.n_sources)[source[:n]]
        if self.is_weighted:
            weight = np.ones(n_all)
            weight[:n] = np.exp(-0.5 * (score[:n] - LENS_MEAN) / self.sd_lens)
        kind = np.concatenate([np.zeros(n, np.int64), 1 + np.repeat(np.arange(len(sizes)), sizes)])
        if self.sky:
            sky = np.concatenate([[0.0], np.array(self.sky) / sizes])[kind]
        names = ("lens", *(f"k{i}" for i in range(len(sizes))))
        made = Rows(
            score, np.arange(n_all) < n, np.arange(n_all), kind, names, sky, weight,
            region=region, source=source,
        )  # fmt: skip
        return self._copied(made, rng)

    def _copied(self, rows: Rows, rng: np.random.Generator) -> Rows:
        """Each galaxy so many times, its scores alike."""
        if self.copies == self.lens_copies == 1:
            return rows
        times = np.where(rows.is_lens, self.lens_copies, self.copies)
        whose = rng.permutation(np.repeat(np.arange(len(rows)), times))
        columns = ("score", "is_lens", "galaxy", "kind", "sky_weight", "weight", "region", "source")
        taken = {
            name: values[whose] for name in columns if (values := getattr(rows, name)) is not None
        }
        if self.alike < 1:
            mean = np.where(taken["is_lens"], LENS_MEAN, 0.0)
            own = rng.normal(0, np.sqrt(1 - self.alike), len(whose))
            copied = taken["galaxy"] >= 0 if self.lens_copies > 1 else ~taken["is_lens"]
            moved = mean + np.sqrt(self.alike) * (taken["score"] - mean) + own
            taken["score"] = np.where(copied, moved, taken["score"])
        return replace(rows, **taken)


def curve_of(table: Rows, draws: int = 200) -> Curve:
    negatives = sample.negatives(table, to_sky=True)
    return Curve(sample.lenses(table), negatives, Draws(1, draws), "t")


def judged(
    scene: Scene, rng: np.random.Generator, *, blind_to: tuple[str, ...] = ()
) -> dict[str, tuple[bool, float]]:
    """Whether each interval of one table holds the truth, and how wide it is.

    Columns in `blind_to` (`region`, `source`) are kept from the evaluator.
    """
    curve = curve_of(replace(scene.draw(rng), **dict.fromkeys(blind_to)))
    found = {}
    for name, (what, at, t) in scene.places.items():
        asked = curve.auroc if what == "auroc" else _asked(curve, what, at, t).as_dict()
        ends = ("region_low", "region_high") if "region_note" in asked else ("low", "high")
        low, high = (asked[end] for end in ends)
        if low is not None and high is not None:
            found[name] = (low <= scene.truths[name] <= high, high - low)
    return found


def _asked(curve: Curve, what: str, at: float, threshold: float) -> Rate:
    if what == "tpr":
        return curve.tpr_at_fpr(at)
    if what == "fpr":
        return curve.fpr_at_tpr(at)
    fixed = rates.tpr_at_fixed if what == "fixed tpr" else rates.fpr_at_fixed
    return fixed(curve, threshold, at=at)


@dataclass(frozen=True)
class Coverage:
    """How often the intervals of one rate held the truth.

    Attributes:
        rate: Which rate.
        share: Part of the repeats whose interval held it.
        repeats: How many there were.
        expected: The least expected count that the interval rests on.
        width: Mean width.
    """

    rate: str
    share: float
    repeats: int
    expected: float
    width: float


def coverage(
    scene: Scene, repeats: int, *, first: int = 0, blind_to: tuple[str, ...] = ()
) -> list[Coverage]:
    """Coverage of every rate of a scene; repeat i has a generator of its own seed."""
    seed = keys.hash64("coverage", scene.name) % 2**32
    found: dict[str, list[tuple[bool, float]]] = {}
    for i in range(first, first + repeats):
        seen = judged(scene, np.random.default_rng([seed, i]), blind_to=blind_to)
        for name, one in seen.items():
            found.setdefault(name, []).append(one)
    made = []
    for name, each in found.items():
        held, width = np.array(each, np.float64).T
        mean = float(held.mean()), len(each), scene.expectations[name], float(width.mean())
        made.append(Coverage(name, *mean))
    return made


def is_outside(one: Coverage, lowest: float, highest: float) -> bool:
    """Too narrow, or too wide where the counts are large enough to ask for it."""
    return one.share < lowest or (one.share > highest and one.expected >= ENOUGH)


def settled(scene: Scene, repeats: int, lowest: float, highest: float) -> list[Coverage]:
    """Coverage from so many repeats; a scene with a rate outside the limits gets 5 times as many.

    A thousand repeats of an interval that holds the truth 95.3 times in 100, as Clopper and
    Pearson's does, fall below 93 % once in some two thousand: with so many rates that happens.
    """
    found = coverage(scene, repeats)
    if not any(is_outside(c, lowest, highest) for c in found):
        return found
    more = {c.rate: c for c in coverage(scene, 4 * repeats, first=repeats)}
    return [_together(c, more[c.rate]) for c in found]


def _together(a: Coverage, b: Coverage) -> Coverage:
    n = a.repeats + b.repeats
    share, width = (
        (x * a.repeats + y * b.repeats) / n for x, y in ((a.share, b.share), (a.width, b.width))
    )
    return Coverage(a.rate, share, n, a.expected, width)


KINDS = {"means": (0.0, 1.0, 2.0), "sky": (0.97, 0.025, 0.005)}
BIG = {"tpr_at": (1e-1, 1e-2, 1e-3, 1e-4), "fpr_at": (0.99, 0.95, 0.85, 0.5)}
SMALL = {"tpr_at": (1e-1, 1e-2, 1e-3), "fpr_at": (0.95, 0.85, 0.5)}
FIXED = {"fixed_at": (1e-1, 1e-2, 1e-3)}


def _kinds(n: int) -> tuple[int, ...]:
    return (n * 6 // 10, n * 3 // 10, n // 10)


SCENES = (
    Scene("plain, 50 lenses, 4,000 negatives", 50, (4000,), **SMALL, **FIXED),
    Scene("plain, 500 lenses, 30,000 negatives", 500, (30_000,), **SMALL),
    Scene("plain, 5,000 lenses, 110,000 negatives", 5000, (110_000,), **BIG),
    Scene("36 identical copies, 200 lenses, 4,000 negatives", 200, (4000,), copies=36, **SMALL),
    Scene("36 differing copies, 200 lenses, 4,000 negatives", 200, (4000,), copies=36, alike=0.5,
          tpr_at=(1e-1, 1e-2), fpr_at=(0.85, 0.5)),
    Scene("kinds of different weight, 300 lenses, 10,000 negatives", 300, _kinds(10_000), **KINDS,
          **SMALL, **FIXED),
    Scene("12 regions that shift all scores, 1,000 lenses, 10,000 negatives", 1000, (10_000,),
          n_regions=12, region_shift=0.3, **SMALL, **FIXED),
    Scene("30 regions that shift lenses too, 500 lenses, 20,000 negatives", 500, (20_000,),
          n_regions=30, region_shift=0.2, lens_shift=0.3, **SMALL, **FIXED),
    Scene("100 regions and kinds of different weight, 300 lenses, 10,000 negatives", 300,
          _kinds(10_000), **KINDS, n_regions=100, region_shift=0.3, **SMALL),
    Scene("20 sources, 600 lenses, 10,000 negatives", 600, (10_000,), n_sources=20,
          source_shift=0.5, **SMALL, **FIXED),
    Scene("150 sources, 600 lenses, 10,000 negatives", 600, (10_000,), n_sources=150,
          source_shift=0.5, **SMALL),
    Scene("4 differing copies of each lens, 300 lenses, 10,000 negatives", 300, (10_000,),
          lens_copies=4, alike=0.5, **SMALL),
    Scene("lenses of different weight, 400 lenses, 10,000 negatives", 400, (10_000,),
          is_weighted=True, **SMALL),
)  # fmt: skip
MORE = (
    *(
        Scene(f"plain, {n:,} lenses, {m:,} negatives", n, (m,), **BIG)
        for n in (50, 200, 1000, 5000)
        for m in (4000, 30_000, 110_000)
        if (n, m) not in {(50, 4000), (5000, 110_000)}  # among the scenes above
    ),
    Scene("36 identical copies, 1,000 lenses, 20,000 negatives", 1000, (20_000,), copies=36,
          **SMALL),
    Scene("kinds of different weight, 50 lenses, 4,000 negatives", 50, _kinds(4000), **KINDS,
          **SMALL, **FIXED),
    Scene("kinds of different weight, 5,000 lenses, 110,000 negatives", 5000, _kinds(110_000),
          **KINDS, **BIG, **FIXED),
    Scene("10 regions that differ by nothing, 1,000 lenses, 30,000 negatives", 1000, (30_000,),
          n_regions=10, **SMALL, **FIXED),
    Scene("400 regions that differ by nothing, 1,000 lenses, 30,000 negatives", 1000, (30_000,),
          n_regions=400, **SMALL, **FIXED),
    Scene("12 regions that shift lenses too, 1,000 lenses, 30,000 negatives", 1000, (30_000,),
          n_regions=12, region_shift=0.2, lens_shift=0.3, **SMALL, **FIXED),
    Scene("100 regions that shift all scores, 5,000 lenses, 110,000 negatives", 5000, (110_000,),
          n_regions=100, region_shift=0.3, **BIG, **FIXED),
    Scene("400 regions that shift all scores, 1,000 lenses, 30,000 negatives", 1000, (30_000,),
          n_regions=400, region_shift=0.3, **SMALL, **FIXED),
    Scene("100 sources that differ by nothing, 600 lenses, 10,000 negatives", 600, (10_000,),
          n_sources=100, **SMALL),
)  # fmt: skip

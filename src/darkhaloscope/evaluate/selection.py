"""The selection function as others use it: completeness at any lens, read from its file.

    function = SelectionFunction.load("selection")
    function(theta_e=1.4, src_mag=23.1, psf_fwhm=1.1, depth=24.3)
    low, high = function.interval(theta_e=1.4, src_mag=23.1, psf_fwhm=1.1, depth=24.3)

It belongs to one model at one threshold: `load(path, model=folder)` refuses the weights of another.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from darkhaloscope.core.errors import DataError
from darkhaloscope.data.store import sha256_of
from darkhaloscope.evaluate.rows import Flags, Floats
from darkhaloscope.evaluate.selection_cells import AXES
from darkhaloscope.evaluate.selection_check import Factor, at, factor_of
from darkhaloscope.evaluate.selection_fit import NORMAL

FORMAT, KIND = 1, "selection function"
FILE = "selection.json"
TINY = 1e-12  # from 0 or 1, where a logit ends
WEIGHTS = "model.safetensors"  # of a model's folder: what a selection function is tied to

Spans = Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class UsableTable:
    """Share of targets with a usable cutout by PSF and depth, and its standard error.

    Attributes:
        psf_fwhm: Edges, arcsec, shape (p + 1,).
        depth: Edges, mag, shape (d + 1,).
        value: Shape (p, d).
        spread: A quarter of the 95 % interval's width, near enough, shape (p, d).
    """

    psf_fwhm: Floats
    depth: Floats
    value: Floats
    spread: Floats

    def at(self, psf_fwhm: Floats, depth: Floats) -> tuple[Floats, Floats]:
        """Share and standard error at places within the edges, shape (n,) each."""
        i = np.searchsorted(self.psf_fwhm, psf_fwhm, side="right") - 1
        j = np.searchsorted(self.depth, depth, side="right") - 1
        i, j = (np.clip(k, 0, n - 1) for k, n in zip((i, j), self.value.shape, strict=True))
        return self.value[i, j], self.spread[i, j]


@dataclass(frozen=True, slots=True)
class SelectionFunction:
    """Completeness C = P(target | lens) P(usable cutout | target) P(score >= threshold | both).

    Attributes:
        factors: The first and the last factor; none: too few injections.
        spans: Range of each coordinate, and of two ratios of them, that the fit has seen.
        usable: The middle factor.
        content: All of `selection.json`: threshold, model, sizes, marginals, what is left out.
    """

    factors: tuple[Factor, ...]
    spans: Spans
    usable: UsableTable
    content: Mapping[str, Any]

    @classmethod
    def load(cls, path: str | Path, *, model: str | Path | None = None) -> "SelectionFunction":
        """Read a selection function.

        Args:
            path: The folder `selection` of a run, or its `selection.json`.
            model: Folder of the model whose lenses are asked for; None: not compared.

        Raises:
            DataError: it is not there, no selection function, of another format, or of another
                model than `model`.
        """
        file = Path(path)
        file = file / FILE if file.is_dir() else file
        content = _read(file)
        if model is not None:
            _compare(file, content, Path(model))
        try:
            fit = content["fit"]
            is_fitted = bool(fit["is_fitted"])
            names = ("target", "score") if is_fitted else ()
            factors = tuple(factor_of(fit["factors"][name]) for name in names)
            spans = (
                {k: (float(v[0]), float(v[1])) for k, v in fit["range"].items()}
                if is_fitted
                else {}
            )
            return cls(factors, spans, _usable(content["usable"]["table"]), content)
        except (KeyError, TypeError, ValueError, IndexError) as fault:
            raise DataError(
                f"{file} is damaged: {type(fault).__name__}: {fault}; run stage selection again"
            ) from fault

    @property
    def threshold(self) -> float | None:
        """Scores from here on are kept; None: none could be chosen."""
        found: float | None = self.content["threshold"]["value"]
        return found

    def __call__(
        self, *, theta_e: ArrayLike, src_mag: ArrayLike, psf_fwhm: ArrayLike, depth: ArrayLike
    ) -> NDArray[np.float64]:
        """Completeness; the arguments are broadcast against each other.

        Args:
            theta_e: Einstein radius, arcsec; the area inside is pi theta_e^2.
            src_mag: Magnitude of the unlensed source, r, without dust.
            psf_fwhm: FWHM of the PSF in r, arcsec.
            depth: 5-sigma point-source depth in r, mag.

        Returns:
            Within 0 and 1; NaN outside the range of the injections that were fitted, in any
            coordinate or in theta_e / psf_fwhm or depth - src_mag: nothing is extrapolated.

        Raises:
            DataError: there is no fit, as the injections were too few.
        """
        return self._at(theta_e, src_mag, psf_fwhm, depth)[0]

    def interval(
        self, *, theta_e: ArrayLike, src_mag: ArrayLike, psf_fwhm: ArrayLike, depth: ArrayLike
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lower and upper end of the 95 % interval; arguments and NaN as in a call.

        The spread of the fit, with hosts and sources as clusters, and of the share of usable
        cutouts, on the logit scale. What the form of the fit cannot follow is not in it: that is
        what the held-out bins of `content["fit"]["held_out"]` are for.
        """
        value, spread = self._at(theta_e, src_mag, psf_fwhm, depth)
        inner = np.clip(value, TINY, 1 - TINY)
        step, middle = NORMAL * spread / (inner * (1 - inner)), special.logit(inner)
        return np.asarray(special.expit(middle - step)), np.asarray(special.expit(middle + step))

    def _at(self, *given: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Completeness and its standard error, in the shape of the broadcast arguments."""
        if not self.factors:
            raise DataError(
                f"this selection function can only be read cell by cell: "
                f"{self.content['fit']['note']}; its cells are in selection.parquet"
            )
        arrays = np.broadcast_arrays(*[np.asarray(v, np.float64) for v in given])
        where = dict(zip(AXES, (a.ravel() for a in arrays), strict=True))
        is_known = self._is_within(where)
        inside = {name: values[is_known] for name, values in where.items()}
        share, spread = self.usable.at(inside["psf_fwhm"], inside["depth"])
        value, relative = share, (spread / share) ** 2
        for factor in self.factors:
            share, spread = at(factor, inside)
            value, relative = value * share, relative + (spread / share) ** 2
        made = np.full((2, len(is_known)), np.nan)
        made[:, is_known] = value, value * np.sqrt(relative)
        return made[0].reshape(arrays[0].shape), made[1].reshape(arrays[0].shape)

    def _is_within(self, where: Mapping[str, Floats]) -> Flags:
        """Whether the fit has seen such injections, shape (n,)."""
        seen = dict(where)
        with np.errstate(divide="ignore", invalid="ignore"):
            seen["theta_e_over_fwhm"] = where["theta_e"] / where["psf_fwhm"]
        seen["depth_minus_mag"] = where["depth"] - where["src_mag"]
        is_within = np.ones(len(where["theta_e"]), bool)
        for name, (low, high) in self.spans.items():
            slack = 1e-9 * max(abs(low), abs(high))  # a ratio made again differs in its last bits
            is_within &= (seen[name] >= low - slack) & (seen[name] <= high + slack)
        return is_within


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise DataError(
            f"{file} cannot be read as a selection function: {fault}; expected the folder that the "
            "stage selection writes, or its selection.json"
        ) from fault
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise DataError(
            f"{file} holds no selection function; expected the selection.json of a run's folder "
            "`selection`"
        )
    if content.get("format") != FORMAT:
        raise DataError(
            f"{file} has format {content.get('format')!r}; this version reads format {FORMAT}: run "
            "stage selection again"
        )
    return content


def _compare(file: Path, content: Mapping[str, Any], model: Path) -> None:
    """Refuse a selection function of other weights than those of a model's folder."""
    weights = model / WEIGHTS if model.is_dir() else model
    try:
        found = sha256_of(weights)
    except OSError as fault:
        raise DataError(f"{weights} cannot be read: {fault}; expected a model's folder") from fault
    stated = content.get("model", {}).get("sha256")
    if found != stated:
        raise DataError(
            f"{file} is of another model: its {WEIGHTS} has sha256 {str(stated)[:12]}..., that of "
            f"{model} {found[:12]}...; run stage selection for this model"
        )


def _usable(table: Mapping[str, Any]) -> UsableTable:
    value = np.asarray(table["value"], np.float64)
    width = np.asarray(table["high"], np.float64) - np.asarray(table["low"], np.float64)
    made = UsableTable(
        np.asarray(table["psf_fwhm"], np.float64),
        np.asarray(table["depth"], np.float64),
        value,
        width / (2 * NORMAL),
    )
    if value.shape != (len(made.psf_fwhm) - 1, len(made.depth) - 1):
        raise ValueError("the table of usable cutouts does not fit its edges")
    return made

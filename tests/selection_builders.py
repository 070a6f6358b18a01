"""Injections of a sky on which the completeness is known: for the selection function."""

from dataclasses import dataclass

import numpy as np
from scipy import special

from darkhaloscope.core import keys
from darkhaloscope.evaluate.selection_cells import Injections, Least, Usable, usable

EDGES = {
    "theta_e": (0.6, 0.9, 1.2, 1.6, 2.4),
    "src_mag": (21.0, 22.0, 23.0, 24.0, 25.0),
    "psf_fwhm": (0.8, 1.1, 1.5),
    "depth": (23.5, 24.25, 25.0),
}
LEAST = Least(500, 300, 100)
USABLE = 0.93


@dataclass(frozen=True)
class Truth:
    """Injections with the true probability of what happened to each.

    Attributes:
        lenses: What was seen.
        p_target: That the lens is a target.
        p_found: That it is found, if it is a target.
    """

    lenses: Injections
    p_target: np.ndarray
    p_found: np.ndarray


def p_target(theta_e: np.ndarray, src_mag: np.ndarray) -> np.ndarray:
    """A bright arc close to its host makes it too blue."""
    return special.expit(1.0 + 0.8 * (src_mag - 22.0) + 0.5 * (theta_e - 1))


def p_found(
    theta_e: np.ndarray, src_mag: np.ndarray, psf_fwhm: np.ndarray, depth: np.ndarray
) -> np.ndarray:
    """Resolved and bright arcs are found, but for 4 % of them."""
    resolved = 3.5 * (theta_e / psf_fwhm - 1.1)
    return 0.96 * special.expit(resolved + 1.6 * (depth - src_mag - 1.2))


def truth(
    n: int = 50_000, *, seed: int = 1, copies: int = 2, n_sources: int = 4000, spread: float = 0.5
) -> Truth:
    """Injections by named draws: `copies` a host, sources shared, each with an ease of its own.

    The ease of a host and of a source shifts the uniform draw that decides, by a Gaussian copula:
    outcomes cluster, and the share at given coordinates stays what it is.
    """
    row = np.arange(n)
    host, source = row // copies, keys.bits(row, seed=seed, stream="source") % np.uint64(n_sources)
    source = source.astype(np.int64)

    def draw(stream: str, ids: np.ndarray = row) -> np.ndarray:
        return keys.uniform(ids, seed=seed, stream=stream)

    theta_e = 0.6 + 1.8 * draw("theta_e")
    src_mag = 21.0 + 4 * draw("mag")
    psf_fwhm = 0.8 + 0.7 * draw("psf", host)
    depth = 23.5 + 1.5 * draw("depth", host)

    def happens(p: np.ndarray, name: str) -> np.ndarray:
        of_host = keys.normal(host, seed=seed, stream=f"{name} host")
        of_source = keys.normal(source, seed=seed, stream=f"{name} source")
        own = keys.normal(row, seed=seed, stream=f"{name} own")
        shared = spread * (of_host + of_source) / np.sqrt(2)
        return special.ndtr(shared + np.sqrt(1 - spread**2) * own) < p

    target, found = p_target(theta_e, src_mag), p_found(theta_e, src_mag, psf_fwhm, depth)
    at = {"theta_e": theta_e, "src_mag": src_mag, "psf_fwhm": psf_fwhm, "depth": depth}
    weight = np.exp(-1.2 * theta_e) * 10 ** (0.3 * (src_mag - 23))
    lenses = Injections(at, host, source, happens(target, "t"), happens(found, "f"), weight)
    return Truth(lenses, target, found)


def targets(n: int = 20_000, *, seed: int = 1) -> Usable:
    """Targets of which 93 % have a usable cutout: some bricks have none."""
    row = np.arange(n)
    brick = row // 25
    is_usable = keys.uniform(brick, seed=seed, stream="brick") >= 0.04
    is_usable &= keys.uniform(row, seed=seed, stream="pixel") >= 1 - USABLE / 0.96
    psf = 0.8 + 0.7 * keys.uniform(row, seed=seed, stream="psf of targets")
    depth = 23.5 + 1.5 * keys.uniform(row, seed=seed, stream="depth of targets")
    return usable(psf, depth, is_usable, brick, EDGES)

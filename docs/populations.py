"""The physical population beside published lenses: the table and the figure of docs/populations.md.

    OMP_NUM_THREADS=1 python docs/populations.py [--hosts 40000] [--figure FILE]

Draws on the real luminous red galaxies of the tests' data ($DHS_SHARED, default ../shared), paints
each lens as the real coadd cutout would show it, and keeps what Collett 2015's criterion calls
visible. Half a minute on one core. Prints Markdown.
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np
import torch

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests"))

from population_builders import PSF_BETA, Drawn, drawn, luminous_red_galaxies

from darkhaloscope.core import units
from darkhaloscope.evaluate.drawn import effective_size, quantiles
from darkhaloscope.evaluate.published import SAMPLES

ROWS = {
    "theta_e_arcsec": 'theta_E, "',
    "lens_z": "lens redshift",
    "src_z": "source redshift",
    "src_mag_r": "source r, mag",
    "src_r_eff_arcsec": 'source r_eff, "',
    "magnification": "magnification",
    "lens_sigma_v_kms": "dispersion, km/s",
}
SEEING_OF_DES_ARCSEC = 1.356


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--hosts", type=int, default=40_000)
    asked.add_argument("--figure", type=Path)
    given = asked.parse_args()
    torch.set_num_threads(1)
    shared = Path(os.environ.get("DHS_SHARED", REPOSITORY.parent / "shared")) / "data"
    galaxies = luminous_red_galaxies(shared)
    per_width = units.moffat_fwhm(units.moffat_alpha_from_psfsize(1.0, PSF_BETA[0]), PSF_BETA[0])
    made = {
        "as the real coadd sees": drawn(*galaxies, given.hosts, keep_weight=0.002),
        "galaxies alone, 1.36 arcsec seeing": drawn(
            *galaxies,
            given.hosts,
            keep_weight=0.002,
            psfsize_arcsec=(SEEING_OF_DES_ARCSEC / per_width,) * 3,
            group_share=0.0,
        ),
    }
    for name, sample in made.items():
        print(f"\n{name}: {len(galaxies[0])} galaxies, {sample.n_hosts:,} draws")
        seen = sample.weight * sample.is_visible
        print(f"- {sample.weight.sum() / sample.n_hosts:.4f} lenses per galaxy, of which")
        print(f"  {seen.sum() / sample.n_hosts:.5f} visible: {sample.is_visible.sum():,} rows,")
        print(f"  worth {effective_size(seen):.0f} of equal weight")
        theta_e = sample.columns["theta_e_arcsec"]
        for least in (1.5, 2.0, 2.5):
            wide = seen * (theta_e > least)
            groups = (wide * sample.columns["is_group_lens"]).sum() / wide.sum()
            print(f"- visible, theta_E > {least}: {wide.sum() / seen.sum():.2%} of them; "
                  f"groups {groups:.0%}; worth {effective_size(wide):.0f}")  # fmt: skip
    print_table(made)
    if given.figure is not None:
        draw(made["as the real coadd sees"], given.figure)


def print_table(made: dict[str, Drawn]) -> None:
    """Medians with the middle 68 %, ours and the published ones."""
    print("\n| | " + " | ".join([*made, *(s.name for s in SAMPLES)]) + " |")
    print("| --- |" + " --- |" * (len(made) + len(SAMPLES)))
    for name, label in ROWS.items():
        cells = []
        for sample in made.values():
            seen = sample.weight * sample.is_visible
            low, median, high = quantiles(sample.columns[name], seen, (0.16, 0.5, 0.84))
            cells.append(f"{median:.4g} ({low:.4g}-{high:.4g})")
        for published in SAMPLES:
            s = published.spreads.get(name)
            cells.append(f"{s.median:.4g} ({s.low:.4g}-{s.high:.4g}), n = {s.n}" if s else "")
        print(f"| {label} | " + " | ".join(cells) + " |")


def draw(sample: Drawn, file: Path) -> None:
    """Histograms of all lenses and of the visible ones, weighted, with published ranges above."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.6, 6.6), layout="constrained")
    panels = figure.subplots(3, 2).ravel()
    for axes, (name, label) in zip(panels, list(ROWS.items())[:6], strict=True):
        values = sample.columns[name]
        shown = [s for s in SAMPLES if name in s.spreads]
        ends = [end for s in shown for end in (s.spreads[name].low, s.spreads[name].high)]
        low = min([*quantiles(values, sample.weight, (0.01,)), *ends])
        high = max([*quantiles(values, sample.weight * sample.is_visible, (0.985,)), *ends])
        edges = np.linspace(low, high * 1.05, 31)
        for weight, colour, said in (
            (sample.weight, "#0072b2", "all lenses"),
            (sample.weight * sample.is_visible, "#c24e00", "visible from the ground"),
        ):
            share, _ = np.histogram(values, edges, weights=weight)
            axes.stairs(share / weight.sum(), edges, color=colour, lw=1.5, label=said)
        top = axes.get_ylim()[1]
        for row, published in enumerate(shown):
            spread, y = published.spreads[name], top * (1.06 + 0.2 * row)
            axes.plot([spread.low, spread.high], [y, y], color="#1b1e23", lw=1.2)
            axes.plot(spread.median, y, "o", color="#1b1e23", ms=4)
            said = f"{published.name} ({spread.n})"
            axes.text(spread.low, y + 0.03 * top, said, va="bottom", fontsize=7)
        axes.set(xlabel=label, ylim=(0, top * (1.08 + 0.2 * len(shown))))
    panels[0].legend(fontsize=8, frameon=False, loc="center right")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()

"""The pictures of docs/look-alikes.md: painted look-alikes of every kind and variant.

    OMP_NUM_THREADS=1 python docs/look_alikes.py [--beside FOLDER [--shared DIR]]

Writes docs/images/look-alikes-*.png, 20 s on one core: every kind and variant, drawn as
`stages.manifest` draws and painted as `ml.injection` paints, with the shapes of the preset
`legacy-dr10`. With --beside it also writes, into a folder that is not of this repository, sheets of
the same kinds beside real pictures of the tests' data (DIR, by default $DHS_SHARED or ../shared):
those may not be passed on.
"""

import argparse
import csv
import io
import os
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from astropy.io import fits
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[1]
DOCS = REPOSITORY / "docs"
sys.path.insert(0, str(REPOSITORY / "tests"))
sys.path.append(str(DOCS))
import gallery

# docs/coverage.py is not the package of that name that numba looks for
sys.path[:] = [path for path in sys.path if Path(path).resolve() != DOCS]

from manifest_builders import cutouts_head, splits

from darkhaloscope.core.settings.manifest import ManifestConfig
from darkhaloscope.core.units import COADD_RMS_FACTOR
from darkhaloscope.evaluate.pictures import rgb
from darkhaloscope.lensing import noise
from darkhaloscope.lensing.light import Sersic
from darkhaloscope.lensing.populations import light_shape
from darkhaloscope.lensing.psf import moffat_from_psfsize
from darkhaloscope.lensing.render import Grid
from darkhaloscope.ml import manifesting
from darkhaloscope.ml.injection import Camera, paint_rows

IMAGES = DOCS / "images"
PRESET = REPOSITORY / "src" / "darkhaloscope" / "presets" / "legacy-dr10.toml"
BANDS = ("g", "r", "z")
SCALE, STAMP_PX, CUTOUT_PX = 0.262, 64, 80
SHOWN_PX = 44
NOISE_NMGY = (0.003, 0.004, 0.01)  # of `cutouts_head`
ELECTRONS = 3500.0  # per nmgy and exposure
CAMERA = Camera(BANDS, SCALE, STAMP_PX, "moffat", (2.9, 2.9, 2.9), (ELECTRONS,) * 3)
QUIET = replace(CAMERA, electrons_per_nmgy_per_exposure=(0.0, 0.0, 0.0))
SEED = 4

HOSTS = 60  # a variant is drawn for so many galaxies; those shown are these shares of the way
SIZES = {"small": 0.1, "middle": 0.5, "large": 0.9}  # up in radius
SNR = (25, 80)
SHEETS = {
    "galaxies": ("ring", "spiral", "edge_on", "merger", "agn_jet"),
    "artefacts": ("artefact",),
    "counterfactuals": ("companion", "radial_arc", "scrambled", "halo_ring"),
}

# Of the real files: what each shows, by eye
SPIRALS = ("example_e_a11c605", "ls_154.7709_46.4537", "example_d_c9ab79a", "example_a_cb2185a")
INCLINED = ("example_b_5e3c033", "example_c_4989d6a", "example_d83a482", "example_d_c9ab79a")
FAULTS = ("example_bad_pix_09782dd", "ls_134.7709_46.4537")
WITH_FAULTS = (
    "CFHTLSJ020153.0-094429_ASW0001p1o.png", "CFHTLSJ020322.3-073011_ASW0001exp.png",
    "CFHTLSJ020906.7-060913_ASW0002f5v.png", "CFHTLSJ021118.0-062533_ASW0002enb.png",
)  # fmt: skip

Images = NDArray[np.float32]


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--shared", type=Path, default=os.environ.get("DHS_SHARED"))
    asked.add_argument("--beside", type=Path)
    given = asked.parse_args()
    torch.set_num_threads(1)
    config = manifest_of_preset()
    if given.beside is not None:
        shared = (given.shared or REPOSITORY.parent / "shared") / "data"
        beside(shared, given.beside, config)
        return
    for name, kinds in SHEETS.items():
        save(kinds_figure(kinds, config), name)


# What is drawn and painted


def manifest_of_preset() -> ManifestConfig:
    """The preset's manifest, with Sersic sources, so that no bank of pictures is needed."""
    tables = tomllib.loads(PRESET.read_text(encoding="utf-8"))
    manifest = {k: v for k, v in tables["manifest"].items() if k != "look_alikes"}
    manifest["sources"] = {
        **{k: v for k, v in manifest["sources"].items() if k != "bank"},
        "kinds": {"sersic": 1.0},
    }
    handed = {"bands": BANDS, "pixel_scale_arcsec": SCALE}
    return ManifestConfig.model_validate(
        {**manifest, **handed, "target_variant": tables["targets"]["variant"]}
    )


def variants_of(kind: str, config: ManifestConfig) -> tuple[str, ...]:
    """The forms of a kind that the preset draws."""
    return tuple(name for name, share in getattr(config.shapes, kind).variants.items() if share)


def galaxies() -> pa.Table:
    """Bright red galaxies, enough for every variant of a kind to have its own."""
    return splits(HOSTS * 8, split="train", seed=SEED)


def rows_of(
    kind: str, variant: str, config: ManifestConfig, which: int = 0
) -> tuple[pa.Table, pa.Table]:
    """Rows of the manifest of one variant, smallest first, and the cutout of each, no pixels."""
    stated = config.model_dump(mode="json")
    stated["shapes"][kind]["variants"] = {variant: 1.0}
    plan = {"population": "training", "controls": "paired", "copies": {"lens": 1, kind: 1}}
    stated["sets"] = {"train": plan}
    stated["sky_shares"] = {k: v for k, v in stated["sky_shares"].items() if k == kind}
    stated["sky_shares"].setdefault(kind, 0.0)
    if kind in ("radial_arc", "scrambled", "halo_ring"):
        stated["sky_shares"] = {}
    targets = galaxies().slice(HOSTS * which, HOSTS)
    head = cutouts_head(targets)
    hosts = manifesting.hosts_of(targets, head, BANDS)
    rows = manifesting.draw(hosts, split="train", config=ManifestConfig.model_validate(stated))
    rows = rows.filter(pc.equal(rows["kind"], kind))
    rows = rows.sort_by([("shape_radius_arcsec", "ascending"), ("stamp_id", "ascending")])
    at = pc.index_in(rows["target_id"], value_set=targets["target_id"].combine_chunks())
    return rows, pc.take(head, at)


def host_pixels(head: pa.Table) -> Images:
    """De Vaucouleurs galaxies of the targets' own magnitudes and shapes on a noisy sky."""
    targets = galaxies()
    at = pc.index_in(head["target_id"], value_set=targets["target_id"].combine_chunks())
    targets = targets.take(at)

    def column(table: pa.Table, name: str) -> torch.Tensor:
        return torch.from_numpy(table[name].to_numpy().astype(np.float32))

    q, phi = light_shape(targets["shape_e1"].to_numpy(), targets["shape_e2"].to_numpy())
    n = targets.num_rows
    zero = torch.zeros(n)
    shape = (torch.full((n,), 4.0), *(torch.from_numpy(v).float() for v in (q, phi)))
    host = Sersic(zero, zero, column(targets, "shape_r_arcsec"), *shape)
    flux = torch.stack([column(targets, f"flux_{b}_nmgy") for b in BANDS], 1)
    widths = torch.stack([column(head, f"psf_nea_{b}_arcsec") for b in BANDS], 1)
    psf = moffat_from_psfsize(widths, torch.tensor([CAMERA.psf_beta]).expand(n, -1))
    middle = (CUTOUT_PX - 1) / 2
    made = gallery.render_lensed(
        host, gallery.Lens.none(zero), flux=flux, psf=psf,
        centre_x=column(head, "host_x_px") - middle, centre_y=column(head, "host_y_px") - middle,
        grid=Grid(CUTOUT_PX, SCALE),
    ).pixels  # fmt: skip
    return np.asarray((made + photons(made, "host") + sky(n)).numpy(), np.float32)


def photons(light: torch.Tensor, stream: str) -> torch.Tensor:
    """Photon noise of four exposures, as a coadd has it."""
    gain = torch.full(light.shape[:2], 4 * ELECTRONS)
    row_keys = torch.arange(len(light)) + SEED
    return noise.photon_noise(light.contiguous(), gain, row_keys, stream=stream)


def sky(n: int) -> torch.Tensor:
    """Noise of the sky: that of as many photons as it takes; no light is added."""
    edge = 3  # the kernel's reach, where noise would lack neighbours
    level = (torch.tensor(NOISE_NMGY) / COADD_RMS_FACTOR) ** 2 * 4 * ELECTRONS
    size = CUTOUT_PX + 2 * edge
    wide = level[None, :, None, None].expand(n, -1, size, size)
    return photons(wide, "sky")[..., edge:-edge, edge:-edge]


def with_snr(rows: pa.Table, snr: float) -> pa.Table:
    """The same rows, their light scaled to a S/N in g where they have a target for it."""
    at = rows.schema.get_field_index("arc_snr_target")
    values = pc.if_else(
        pc.is_null(rows["arc_snr_target"]),
        pa.scalar(None, pa.float32()),
        pa.scalar(snr, pa.float32()),
    )
    return rows.set_column(at, rows.schema.field(at), values)


def painted(rows: pa.Table, head: pa.Table, snr: float) -> tuple[Images, Images]:
    """Stamps as the survey would have them, and what was painted alone, (n, band, y, x)."""
    cutouts, edge = host_pixels(head), (CUTOUT_PX - STAMP_PX) // 2
    rows = with_snr(rows, snr)
    seen, clean = (
        paint_rows(rows, head, cutouts, camera=camera, seed=SEED).pixels.numpy()
        for camera in (CAMERA, QUIET)
    )
    return seen, clean - cutouts[..., edge:-edge, edge:-edge]


def picked(rows: pa.Table) -> pa.Array:
    """Rows of the sizes shown."""
    return pa.array([round(share * (rows.num_rows - 1)) for share in SIZES.values()])


def kinds_figure(kinds: Sequence[str], config: ManifestConfig) -> Figure:
    """A row a variant: three sizes at each S/N, and the middle one's light alone."""
    drawn = [(kind, variant) for kind in kinds for variant in variants_of(kind, config)]
    figure, panels = gallery.sheet(len(drawn), len(SIZES) * len(SNR) + 1, 0.85)
    for axes, (kind, variant) in zip(panels, drawn, strict=True):
        rows, head = rows_of(kind, variant, config)
        at = picked(rows)
        for block, snr in enumerate(SNR):
            seen, alone = painted(rows.take(at), head.take(at), snr)
            for place, stamp in enumerate(seen):
                gallery.show(axes[block * len(SIZES) + place], torch.from_numpy(stamp), SHOWN_PX)
        gallery.show(axes[-1], torch.from_numpy(alone[1]), SHOWN_PX)
        axes[0].set_ylabel(f"{kind}\n{variant}", fontsize=7)
    titles = [f"{size}\nS/N {snr}" for snr in SNR for size in SIZES] + ["middle,\nalone"]
    for axis, title in zip(panels[0], titles, strict=True):
        axis.set_title(title, fontsize=7)
    return figure


def save(figure: Figure, name: str) -> None:
    """Write a figure, the same bytes for the same picture."""
    file = IMAGES / f"look-alikes-{name}.png"
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=100, metadata={"Software": None})
    pixels = np.asarray(Image.open(drawn).convert("RGB")) & 0xFC  # noise costs a third less
    Image.fromarray(pixels).save(file, optimize=True)
    print(f"{file.relative_to(REPOSITORY)}: {file.stat().st_size / 1000:.0f} kB")


# Beside real pictures


def beside(data: Path, folder: Path, config: ManifestConfig) -> None:
    """Sheets of painted stamps, S/N 80, above real pictures of what they stand for."""
    if folder.resolve().is_relative_to(REPOSITORY):
        raise SystemExit(f"{folder} lies in the repository, where real pictures may not be copied")
    folder.mkdir(parents=True, exist_ok=True)
    for kind, real in real_pictures(data).items():
        ours = [
            picture
            for which, variant in enumerate(variants_of(kind, config))
            for picture in painted_pictures(kind, variant, config, which)
        ]
        file = folder / f"beside-{kind}.png"
        Image.fromarray(contact_sheet(ours, real)).save(file)
        print(f"{file}: {len(ours)} painted above {len(real)} real")


def painted_pictures(
    kind: str, variant: str, config: ManifestConfig, which: int
) -> list[NDArray[np.uint8]]:
    """Six stamps of a variant over its range of sizes, on galaxies of its own, in colour."""
    rows, head = rows_of(kind, variant, config, which)
    at = pa.array(np.linspace(0, rows.num_rows - 1, 6).round().astype(int))
    return list(rgb(painted(rows.take(at), head.take(at), SNR[-1])[0], BANDS))


def real_pictures(data: Path) -> Mapping[str, list[NDArray[np.uint8]]]:
    """Real look-alikes by kind; those of Galaxy Zoo have no known scale."""
    rings = chosen(data / "gz-decals-rings" / "labels.csv", "ring", "1")
    mimics = chosen(data / "spacewarps-cfhtls" / "labels.csv", "label", "not_lens")
    pictures = {path.name: path for path in (data / "spacewarps-cfhtls").rglob("*.png")}
    spotters = sorted(name for name in pictures if name.startswith("non-lenses_spirals"))

    def cubes(*names: str) -> list[NDArray[np.uint8]]:
        return [cube(data / "decals-grz-fits" / f"{name}.fits.gz") for name in names]

    of_mimics = [cfhtls(pictures[name]) for name in mimics[:48] if name not in WITH_FAULTS]
    return {
        "ring": [galaxy_zoo(data / "gz-decals-rings" / name) for name in rings[:24]],
        "spiral": cubes(*SPIRALS) + [cfhtls(pictures[name]) for name in spotters],
        "edge_on": cubes(*INCLINED),
        "merger": of_mimics,
        "companion": of_mimics,
        "artefact": cubes(*FAULTS) + [cfhtls(pictures[name]) for name in WITH_FAULTS],
    }


def chosen(labels: Path, column: str, value: str) -> list[str]:
    """Images that a table of labels gives a value."""
    with labels.open(encoding="utf-8") as file:
        return [row["image"] for row in csv.DictReader(file) if row[column] == value]


def galaxy_zoo(path: Path) -> NDArray[np.uint8]:
    """The middle half of a picture, which Galaxy Zoo scaled to the galaxy."""
    image = np.asarray(Image.open(path).convert("RGB"))
    edge = len(image) // 4
    return np.asarray(image[edge:-edge, edge:-edge])


def cfhtls(path: Path) -> NDArray[np.uint8]:
    """The middle 90 pixels, a stamp's 16.8 arcsec, without the text around them."""
    image = Image.open(path).convert("RGB").resize((161, 161))
    return np.asarray(image)[35:125, 35:125]


def cube(path: Path) -> NDArray[np.uint8]:
    """A cutout of the survey's viewer, 25 arcsec across where it is that large, in our stretch."""
    with fits.open(path) as file:
        pixels = np.asarray(file[0].data, np.float32)
    edge = max(pixels.shape[-1] // 2 - 125, 0)
    inner = pixels[:, edge : pixels.shape[1] - edge, edge : pixels.shape[2] - edge]
    return np.asarray(rgb(inner[None], BANDS)[0])


def contact_sheet(
    ours: Sequence[NDArray[np.uint8]], real: Sequence[NDArray[np.uint8]], size: int = 120
) -> NDArray[np.uint8]:
    """Rows of twelve: the painted, a white line, the real."""

    def rows(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        tiles = [np.asarray(Image.fromarray(p).resize((size, size))) for p in pictures]
        tiles += [np.zeros((size, size, 3), np.uint8)] * (-len(tiles) % 12)
        lines = [np.concatenate(tiles[at : at + 12], 1) for at in range(0, len(tiles), 12)]
        return np.concatenate(lines, 0)

    line = np.full((6, 12 * size, 3), 255, np.uint8)
    return np.concatenate([rows(ours), line, rows(real)], 0)


if __name__ == "__main__":
    main()

"""The bank of sources: built once, kept, split by galaxy; and rows that are painted from it."""

import multiprocessing
import time
from pathlib import Path
from typing import Any

import manifest_builders as mb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from bank_builders import flux_of, hst_image, open_when_ready, profile, write_catalogue
from run_builders import tiny_tables

from darkhaloscope.core import schemas
from darkhaloscope.core.config import RunConfig, parse
from darkhaloscope.core.contracts import Device
from darkhaloscope.core.errors import ConfigError, DataError
from darkhaloscope.core.settings.stamps import StampsConfig
from darkhaloscope.data import pixels, store
from darkhaloscope.ml.manifesting import SPLIT_BITS
from darkhaloscope.ml.sources import SourceBank, pictures_of
from darkhaloscope.pipeline import sources, task
from darkhaloscope.pipeline.layout import Layout
from darkhaloscope.stages import manifest, stamps
from darkhaloscope.survey.files import Survey

SPLITS = ("train", "val", "calib", "test")
KINDS = {"sersic": 0.4, "clumpy": 0.3, "catalogue": 0.3}
LIT = ("lens", "single_image", "companion")


def bank_settings(**changes: Any) -> dict[str, Any]:
    return {
        "seed": 8,
        "picture_px": 48,
        "split_shares": dict.fromkeys(SPLITS, 0.25),
        "clumpy_count": 60,
        "catalogues": ["hst/real_galaxy_catalog.fits"],
        "least_snr": 20.0,
        "resolution_arcsec": 0.12,
        "colours": "catalogue",
        "nearest": 4,
        "max_scale": 3.0,
        **changes,
    }


def tables_of(folder: Path, **changes: Any) -> dict[str, Any]:
    tables = tiny_tables()
    tables["root"] = str(folder / "run")
    tables["manifest"]["sources"].update(kinds=KINDS, bank=bank_settings(**changes))
    return tables


def settings(folder: Path, **changes: Any) -> RunConfig:
    """A run whose sources are of all three kinds; its catalogue is written if it is not there."""
    catalogue = folder / "hst" / "real_galaxy_catalog.fits"
    if not catalogue.exists():
        catalogue.parent.mkdir()
        radii, mags = np.linspace(5.0, 12.0, 13), np.linspace(21.0, 23.0, 13)
        images = [
            hst_image(profile(111, r, q=0.6), flux_of(m), seed=i)
            for i, (r, m) in enumerate(zip(radii, mags, strict=True))
        ]
        faint = hst_image(profile(111, 8.0), flux_of(26.5), seed=99)
        write_catalogue(catalogue.parent, [*images, faint], mags=[*mags, 26.5])
    return parse(tables_of(folder, **changes), folder=folder, where="run.toml")


def opened(config: RunConfig) -> SourceBank:
    bank = sources.opened(config, Path(config.root) / "sources")
    assert bank is not None
    return bank


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sources")


@pytest.fixture(scope="module")
def bank(folder: Path) -> SourceBank:
    return opened(settings(folder))


def drawn(bank: SourceBank, split: str, n: int = 300, **changes: Any) -> pa.Table:
    config = settings(Path(bank.path).parents[2], **changes)
    targets = mb.splits(n, split=split)
    asked = mb.config(sources=config.manifest.sources.model_dump())
    return manifest.run(targets, mb.cutouts_head(targets), config=asked, sources=bank)


@pytest.fixture(scope="module")
def rows(bank: SourceBank) -> dict[str, pa.Table]:
    return {split: drawn(bank, split) for split in SPLITS}


def of_kind(table: pa.Table, *kinds: str) -> pa.Table:
    return table.filter(pc.is_in(table["kind"], value_set=pa.array(kinds)))


def test_the_file_has_its_schema_and_says_what_became_of_every_galaxy(bank: SourceBank) -> None:
    table = schemas.conform(pq.read_table(bank.path), schemas.sources(bank.bands), where="bank")
    header = store.header_of(bank.path)
    assert header is not None
    assert header.digest == bank.digest
    assert sum(header.notes["galaxies"].values()) == table.num_rows == 73
    assert header.notes["refused"] == {"its signal-to-noise ratio is too low": 1}
    real = table.filter(pc.equal(table["src_kind"], "catalogue"))
    assert set(real["provenance"].to_pylist()) == {
        f"F814W_images_{file}.fits[{hdu}] F814W" for file in (1, 2) for hdu in range(7)
    } - {"F814W_images_2.fits[6] F814W"}
    size = (real["r_eff_arcsec"].to_numpy() / 0.03).astype(float)
    assert np.corrcoef(size, real["ident"].to_numpy())[0, 1] > 0.99


def test_pictures_are_read_without_this_package(bank: SourceBank) -> None:
    table = pq.read_table(bank.path)
    shape = table.schema.field("pixels").metadata[b"shape"].decode().split(",")
    first = np.frombuffer(table["pixels"][0].as_py(), "<f4").reshape([int(n) for n in shape])
    assert first.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(first, bank.bank("cpu").pictures[0, 0].numpy())
    np.testing.assert_array_equal(first, pictures_of(table["pixels"])[0])


def test_a_galaxy_is_in_one_split_and_its_id_says_which(bank: SourceBank) -> None:
    heads = bank.heads()
    ids = heads["source_id"].to_numpy()
    assert len(np.unique(ids)) == len(ids)
    assert (ids > 0).all()
    bits = [SPLIT_BITS[split] for split in heads["split"].to_pylist()]
    np.testing.assert_array_equal(ids & 3, bits)
    assert set(heads["split"].to_pylist()) == set(SPLITS)


def test_no_source_is_in_two_splits(rows: dict[str, pa.Table]) -> None:
    used = {split: set(table["source_id"].drop_null().to_pylist()) for split, table in rows.items()}
    for split in SPLITS:
        assert used[split]
        for other in SPLITS[: SPLITS.index(split)]:
            assert not used[split] & used[other]


def test_every_kind_of_stamp_has_its_sources_in_the_same_shares(
    rows: dict[str, pa.Table],
) -> None:
    table = of_kind(rows["train"], *LIT)
    for kind in LIT:
        kinds = np.asarray(of_kind(table, kind)["src_kind"].to_pylist())
        # red sources are no clumpy ones, and a galaxy of no suiting size gives way to a profile
        assert (kinds == "clumpy").mean() == pytest.approx(0.27, abs=0.09), kind
        assert 0.1 < (kinds == "catalogue").mean() < 0.36, kind
    painted = of_kind(rows["train"], "ring", "spiral", "halo_ring", "control", "sky")
    assert painted["src_kind"].null_count == painted.num_rows
    assert painted["src_picture"].null_count == painted.num_rows


def test_a_row_has_a_picture_of_its_split_and_kind_or_a_profile(
    rows: dict[str, pa.Table], bank: SourceBank
) -> None:
    heads = bank.heads()
    for split, table in rows.items():
        lit = of_kind(table, *LIT)
        pictured = lit.filter(pc.is_valid(lit["src_picture"]))
        at = heads.take(pictured["src_picture"])
        assert set(at["split"].to_pylist()) == {split}
        assert at["src_kind"].to_pylist() == pictured["src_kind"].to_pylist()
        assert at["source_id"].to_pylist() == pictured["source_id"].to_pylist()
        for name in ("src_n", "src_q"):
            assert pictured[name].null_count == pictured.num_rows
        assert not pictured["src_is_mirrored"].null_count
        profiles = lit.filter(pc.is_null(lit["src_picture"]))
        assert set(profiles["src_kind"].to_pylist()) == {"sersic"}
        assert not profiles["src_n"].null_count


def test_a_real_galaxy_is_scaled_within_bounds_and_a_generated_one_is_near_in_redshift(
    rows: dict[str, pa.Table], bank: SourceBank
) -> None:
    heads = bank.heads()
    for table in rows.values():
        real = of_kind(table, *LIT)
        real = real.filter(pc.equal(real["src_kind"], "catalogue"))
        observed = heads.take(real["src_picture"])["r_eff_arcsec"].to_numpy()
        scale = real["src_r_eff_arcsec"].to_numpy() / observed
        assert scale.max() <= 3.001
        assert scale.min() >= 0.333
    made = of_kind(rows["train"], *LIT)
    made = made.filter(pc.equal(made["src_kind"], "clumpy"))
    z = heads.take(made["src_picture"])["z"].to_numpy()
    assert np.corrcoef(z, made["src_z"].to_numpy())[0, 1] > 0.9


def test_colours_are_the_catalogues_or_the_templates(
    rows: dict[str, pa.Table], bank: SourceBank
) -> None:
    def g_minus_r(table: pa.Table) -> np.ndarray:
        real = of_kind(table, *LIT)
        real = real.filter(pc.equal(real["src_kind"], "catalogue"))
        return real["src_mag_g"].to_numpy() - real["src_mag_r"].to_numpy()

    np.testing.assert_allclose(g_minus_r(rows["train"]), 0.6, atol=1e-4)
    assert g_minus_r(drawn(bank, "train", 100, colours="templates")).std() > 0.1


def test_a_companion_shows_its_lenss_picture(rows: dict[str, pa.Table]) -> None:
    table = rows["train"]
    companion, lens = of_kind(table, "companion"), of_kind(table, "lens")
    at = pc.index_in(companion["pair_id"], value_set=lens["stamp_id"].combine_chunks())
    lens = lens.take(at)
    for name in ("src_kind", "src_picture", "src_is_mirrored", "src_phi_deg", "source_id"):
        assert companion[name].equals(lens[name]), name


def test_rows_do_not_depend_on_the_rows_beside_them(
    rows: dict[str, pa.Table], bank: SourceBank
) -> None:
    config = settings(Path(bank.path).parents[2])
    targets = mb.splits(300, split="train")[100:140]
    asked = mb.config(sources=config.manifest.sources.model_dump())
    some = manifest.run(targets, mb.cutouts_head(targets), config=asked, sources=bank)
    of_all = rows["train"]
    at = pc.index_in(some["stamp_id"], value_set=of_all["stamp_id"].combine_chunks())
    assert at.null_count == 0
    whole = of_all.take(at)
    for name in ("src_picture", "source_id", "src_phi_deg", "src_mag_g"):
        assert some[name].to_pylist() == whole[name].to_pylist()


def test_all_three_kinds_become_stamps(bank: SourceBank) -> None:
    targets = mb.splits(60, split="test")
    held = mb.cutouts(targets)
    config = settings(Path(bank.path).parents[2])
    asked = mb.config(sources=config.manifest.sources.model_dump())
    table = manifest.run(targets, held, config=asked, sources=bank)
    made = stamps.run(table, held, device=Device(), config=stamps_config("test"), sources=bank)
    lenses = of_kind(made, "lens")
    kinds = np.asarray(lenses["src_kind"].to_pylist())
    assert set(kinds) == set(KINDS)
    magnification = lenses["magnification"].to_numpy()
    images = pixels.decode(made["pixels"], made.field("pixels"))
    assert np.isfinite(images).all()
    for kind in KINDS:
        assert (magnification[kinds == kind] > 1).mean() > 0.95
        added = lenses["injected_flux_r_nmgy"].to_numpy()[kinds == kind]
        unlensed = 10 ** (-0.4 * (lenses["src_mag_r"].to_numpy()[kinds == kind] - 22.5))
        inside = lenses["injected_inside_share"].to_numpy()[kinds == kind]
        dust = 0.9
        ratio = added / (dust * inside * unlensed * magnification[kinds == kind])
        np.testing.assert_allclose(ratio, 1, atol=0.01)


def stamps_config(*sets: str) -> StampsConfig:
    return StampsConfig(
        bands=mb.BANDS,
        pixel_scale_arcsec=mb.SCALE,
        seed=4,
        size_px=64,
        sets=sets,
        psf_profile="moffat",
        psf_beta=(2.8, 2.7, 2.6),
        electrons_per_nmgy_per_exposure=(3500.0, 3500.0, 3500.0),
    )


def test_pictures_without_a_bank_are_refused(rows: dict[str, pa.Table]) -> None:
    targets = mb.splits(300, split="train")
    table = of_kind(rows["train"], "lens")[:20]
    with pytest.raises(ValueError, match="no bank of sources"):
        stamps.run(
            table, mb.cutouts(targets), device=Device(),
            config=stamps_config("train"),
        )  # fmt: skip
    made = {"kinds": {"clumpy": 1.0}, "bank": bank_settings(catalogues=[])}
    asked = mb.config(sources={**mb.SOURCES, **made})
    with pytest.raises(DataError, match="no bank of them was handed"):
        manifest.run(targets, mb.cutouts_head(targets), config=asked)


def test_a_bank_is_built_once_and_again_when_it_is_made_from_something_else(
    folder: Path, bank: SourceBank
) -> None:
    before = Path(bank.path).stat().st_mtime_ns
    assert opened(settings(folder)) == bank
    assert Path(bank.path).stat().st_mtime_ns == before
    digest = sources.digest_of(settings(folder))
    assert digest == bank.digest
    assert sources.digest_of(settings(folder, clumpy_count=61)) != digest
    assert sources.digest_of(settings(folder, least_snr=30)) != digest


def test_a_catalogues_place_is_no_part_of_the_digest_but_its_content_is(tmp_path: Path) -> None:
    config = settings(tmp_path)
    digest = sources.digest_of(config)
    (tmp_path / "hst").rename(tmp_path / "moved")
    tables = tables_of(tmp_path, catalogues=[str(tmp_path / "moved" / "real_galaxy_catalog.fits")])
    moved = parse(tables, folder=tmp_path, where="run.toml")
    assert sources.digest_of(moved) == digest
    image = tmp_path / "moved" / "F814W_images_2.fits"
    image.write_bytes(image.read_bytes() + bytes(2880))
    sources._fingerprint.cache_clear()
    assert sources.digest_of(moved) != digest
    (tmp_path / "moved" / "real_galaxy_catalog.fits").unlink()
    with pytest.raises(DataError, match=r"is not there.*docs/sources.md"):
        sources.digest_of(moved)


def test_two_workers_that_ask_at_once_build_it_once(tmp_path: Path) -> None:
    config = settings(tmp_path)
    path = Path(config.root) / "sources" / "sources.parquet"
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    workers = [context.Process(target=open_when_ready, args=(config, ready)) for _ in range(2)]
    for worker in workers:
        worker.start()
    ready.set()
    seen = set()
    while any(worker.is_alive() for worker in workers):
        if path.exists():
            seen.add(path.stat().st_ino)
        time.sleep(0.01)
    assert [worker.exitcode for worker in workers] == [0, 0]
    seen.add(path.stat().st_ino)
    assert len(seen) == 1
    assert [p.name for p in path.parent.iterdir() if p.suffix == ".partial"] == []


def test_what_is_drawn_and_painted_is_stale_when_a_catalogue_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task, "_content", lambda path: path)
    config = settings(tmp_path)

    def digests() -> dict[str, str]:
        sources._fingerprint.cache_clear()
        layout = Layout(config, {}, {"32-1": {"train": 1, "val": 1, "test": 1}})
        keys = {"manifest": "32-1", "stamps": "set=test/tile=32-1", "model": "small/round=0",
                "scores": "small/round=0/set=test/tile=32-1"}  # fmt: skip
        survey = Survey(config.survey)
        return {
            name: task.Task(name, layout, survey, Device()).digest(key)
            for name, key in keys.items()
        }

    before = digests()
    image = tmp_path / "hst" / "F814W_images_2.fits"
    image.write_bytes(image.read_bytes() + bytes(2880))
    after = digests()
    assert {name for name in before if before[name] != after[name]} == {
        "manifest", "stamps", "model",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kinds": {"sersic": 0.5}}, "kinds must add up to 1"),
        ({"kinds": {"clumpy": 1.0}, "bank": None}, r"state how they are made in"),
        ({"kinds": {"sersic": 1.0}}, "leave .* out"),
        ({"kinds": {"clumpy": 1.0}, "clumpy_count": 0}, "clumpy_count must be above 0"),
        ({"kinds": {"catalogue": 1.0}, "catalogues": []}, "must name a catalogue file"),
        ({"split_shares": {"train": 0.5}}, "split_shares must add up to 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    tables = tables_of(tmp_path)
    section = tables["manifest"]["sources"]
    for name, value in changes.items():
        if name == "bank":
            section.pop("bank")
        elif name == "kinds":
            section["kinds"] = value
        else:
            section["bank"][name] = value
    with pytest.raises(ConfigError, match=message):
        parse(tables, folder=tmp_path, where="run.toml")

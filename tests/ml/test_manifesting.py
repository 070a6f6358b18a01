"""Rows of the manifest: what belongs to a row, who plays what, and what a negative stands for."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from manifest_builders import (
    BANDS,
    KINDS,
    ONE_KIND_EACH,
    PAIRED,
    SKY_SHARES,
    config,
    cutouts_head,
    span,
    splits,
)  # fmt: skip
from pydantic import ValidationError

from darkhaloscope.core import keys, schemas
from darkhaloscope.core.errors import DataError
from darkhaloscope.lensing.caustics import multiply_imaged
from darkhaloscope.lensing.parts import PART
from darkhaloscope.lensing.profiles import sie_deflection
from darkhaloscope.ml import manifesting, roles, shaping
from darkhaloscope.survey.lrg import lrg_variants


def hosts(n: int, *, split: str | None = None, fwhm_r: float = 1.0) -> pa.Table:
    targets = splits(n, split=split)
    return manifesting.hosts_of(targets, cutouts_head(targets, fwhm_r=fwhm_r), BANDS)


def of_kind(rows: pa.Table, *kinds: str) -> pa.Table:
    return rows.filter(pc.is_in(rows["kind"], value_set=pa.array(kinds)))


def column(rows: pa.Table, name: str) -> np.ndarray:
    values = rows[name].to_numpy(zero_copy_only=False)
    return values.astype(np.float64) if values.dtype == np.float32 else values


@settings(deadline=None, max_examples=8)
@given(cut=st.integers(0, 40), seed=st.integers(0, 2**31), split=st.sampled_from(["train", "test"]))
def test_rows_do_not_depend_on_how_targets_are_partitioned(cut: int, seed: int, split: str) -> None:
    whole, settled = hosts(40, split=split), config(seed=seed)
    parts = [manifesting.draw(p, split=split, config=settled) for p in (whole[:cut], whole[cut:])]
    assert pa.concat_tables(parts).equals(manifesting.draw(whole, split=split, config=settled))


def test_the_order_of_targets_changes_the_order_of_rows_alone() -> None:
    forwards = hosts(30, split="train")
    backwards = forwards.take(pa.array(np.arange(30)[::-1].copy()))
    drawn = [manifesting.draw(h, split="train", config=config()) for h in (forwards, backwards)]
    assert drawn[0].sort_by("stamp_id").equals(drawn[1].sort_by("stamp_id"))


def test_ids_are_unique_over_kinds_copies_and_epochs() -> None:
    plan = {**PAIRED, "copies": dict.fromkeys(KINDS, 3)}
    settled, some = config(sets={"train": plan}), hosts(20, split="train")
    epochs = [manifesting.draw(some, split="train", config=settled, epoch=e) for e in range(3)]
    ids = np.concatenate([column(rows, "stamp_id") for rows in epochs])
    assert len(np.unique(ids)) == len(ids) == 3 * 3 * len(KINDS) * 20
    theta_e = [column(of_kind(rows, "lens"), "theta_e_arcsec") for rows in epochs]
    assert not np.isin(theta_e[1], theta_e[0]).any()


def test_redrawn_rows_are_those_of_the_epoch_in_the_order_asked_for() -> None:
    some, settled = hosts(12, split="train"), config()
    first = manifesting.draw(some, split="train", config=settled)
    second = manifesting.draw(some, split="train", config=settled, epoch=1)
    order = np.random.default_rng(1).integers(0, first.num_rows, 50)
    got = manifesting.redraw(first.take(pa.array(order)), some, config=settled, epoch=1)
    for name in set(got.column_names) - {"pair_id"}:
        assert (
            got[name].combine_chunks().equals(second.take(pa.array(order))[name].combine_chunks())
        )
    assert manifesting.redraw(first, some, config=settled, epoch=0).equals(first)


def test_a_redrawn_row_without_its_galaxy_is_refused() -> None:
    some, settled = hosts(12, split="train"), config()
    rows = manifesting.draw(some, split="train", config=settled)
    with pytest.raises(DataError, match="have no cutout; rerun stage manifest"):
        manifesting.redraw(rows, some[:5], config=settled, epoch=1)


def test_only_lenses_are_labelled_one_and_only_they_are_multiply_imaged() -> None:
    rows = manifesting.draw(hosts(60, split="train"), split="train", config=config())
    label = column(rows, "label")
    np.testing.assert_array_equal(label == 1, column(rows, "kind") == "lens")
    seen = of_kind(rows, "lens", "single_image")
    inside = multiply_imaged(
        *(column(seen, f"src_{axis}_arcsec") for axis in "xy"),
        theta_e=column(seen, "theta_e_arcsec"),
        q=column(seen, "lens_q"),
        phi=np.radians(column(seen, "lens_phi_deg")),
        shear=column(seen, "shear"),
        shear_phi=np.radians(column(seen, "shear_phi_deg")),
    )
    np.testing.assert_array_equal(inside, column(seen, "kind") == "lens")


@pytest.mark.parametrize("kind", shaping.COPIES)
def test_a_copy_has_the_numbers_of_the_lens_that_it_names(kind: str) -> None:
    rows = manifesting.draw(hosts(30, split="train"), split="train", config=config())
    lenses, copies = (of_kind(rows, name) for name in ("lens", kind))
    at = pc.index_in(copies["pair_id"], value_set=lenses["stamp_id"].combine_chunks())
    lenses = lenses.take(at)
    same = (
        "source_id", "src_mag_g", "src_r_eff_arcsec", "theta_e_arcsec", "src_x_arcsec",
        "arc_snr_target",
    )  # fmt: skip
    for name in same:
        assert copies[name].combine_chunks().equals(lenses[name].combine_chunks())
    for name in ("shape_radius_arcsec", "shape_parts", "shape_variant"):
        assert lenses[name].null_count == lenses.num_rows
        assert copies[name].null_count == 0
    assert copies["light_scale_max"].null_count == copies.num_rows


def test_every_look_alike_states_its_parts_and_layers_and_nothing_else_does() -> None:
    rows = manifesting.draw(hosts(40, split="train"), split="train", config=config())
    has_parts = rows["shape_parts"].is_valid().to_numpy()
    kinds = column(rows, "kind")
    of_parts = np.isin(kinds, (*shaping.PAINTED, *shaping.COPIES))
    np.testing.assert_array_equal(has_parts, of_parts)
    np.testing.assert_array_equal(rows["shape_variant"].is_valid().to_numpy(), of_parts)
    lengths = pc.list_value_length(rows["shape_parts"]).drop_null().to_numpy()
    assert (lengths % PART == 0).all()
    assert lengths.min() >= PART
    for band in BANDS:
        share = rows[f"layer_share_{band}"]
        np.testing.assert_array_equal(share.is_valid().to_numpy(), np.isin(kinds, shaping.PAINTED))
        assert 0 <= pc.min(share).as_py() <= pc.max(share).as_py() <= 1


def test_an_artefact_has_light_in_its_bands_alone() -> None:
    rows = manifesting.draw(hosts(400, split="train"), split="train", config=config())
    made = of_kind(rows, "artefact")
    lit = np.stack([made[f"src_mag_{band}"].is_valid().to_numpy() for band in BANDS], 1)
    variant = np.array(made["shape_variant"].to_pylist())
    assert (lit[variant == "satellite"].sum(1) == 1).all()
    assert lit[np.isin(variant, ("ghost", "spikes"))].all()
    done_to_pixels = np.isin(variant, ("cosmic_ray", "bleed", "misregistered", "edge"))
    assert not lit[done_to_pixels].any()
    target = made["arc_snr_target"].is_valid().to_numpy()
    np.testing.assert_array_equal(target, ~done_to_pixels)


def passes(rows: pa.Table, some: pa.Table, scale: np.ndarray, variant: str) -> np.ndarray:
    """Whether hosts with light that is scaled pass the cuts."""
    host = some.take(pc.index_in(rows["target_id"], value_set=some["target_id"].combine_chunks()))
    light_w1 = column(rows, "src_mag_z") - config().shapes.light_z_minus_w1
    mags = {"r": column(rows, "src_mag_r"), "z": column(rows, "src_mag_z"), "w1": light_w1}
    flux = {
        band: 10 ** (-0.4 * (column(host, f"mag_{band}") - 22.5))
        + scale * 10 ** (-0.4 * (mag - 22.5))
        for band, mag in mags.items()
    }
    return lrg_variants(flux)[variant]


HELD = ("ring", "spiral", "edge_on", "merger", "agn_jet")


@pytest.mark.parametrize("variant", ["v2_baseline_dr10", "v3_color_relaxed"])
def test_a_contaminant_of_a_physical_set_never_leaves_the_target_cuts(variant: str) -> None:
    some, settled = targets_of(900, variant, "test"), config(target_variant=variant)
    rows = of_kind(manifesting.draw(some, split="test", config=settled), *HELD)
    assert rows.num_rows > 80
    ones = np.ones(rows.num_rows)
    assert passes(rows, some, ones, variant).all()
    assert not passes(rows, some, 100 * ones, variant).all()  # so that the limit is at work
    limit = rows["light_scale_max"].drop_null().to_numpy()
    assert limit.min() >= 1


def test_light_of_a_training_set_may_grow_to_the_edge_of_the_cuts_and_no_further() -> None:
    variant = "v3_color_relaxed"
    some = targets_of(300, variant, "train")
    rows = of_kind(manifesting.draw(some, split="train", config=config()), *HELD)
    rows = rows.filter(pc.is_valid(rows["light_scale_max"]))
    limit = column(rows, "light_scale_max")
    assert passes(rows, some, 0.999 * limit, variant).all()
    assert not passes(rows, some, 1.001 * limit, variant).any()


def targets_of(n: int, variant: str, split: str) -> pa.Table:
    """Hosts that pass a variant's cuts; those of the builder have z - W1 of 1.2, here 1.8."""
    some = hosts(n, split=split)
    brighter = {"mag_w1": pc.subtract(some["mag_w1"], pa.scalar(0.6, pa.float32()))}
    more = pa.scalar(10**0.24, pa.float32())
    brighter["flux_w1_nmgy"] = pc.multiply(some["flux_w1_nmgy"], more)
    for name, values in brighter.items():
        some = some.set_column(some.schema.get_field_index(name), name, values)
    flux = {b: 10 ** (-0.4 * (column(some, f"mag_{b}") - 22.5)) for b in ("r", "z", "w1")}
    return some.filter(pa.array(lrg_variants(flux)[variant]))


def test_cuts_on_fluxes_as_observed_see_the_light_through_the_dust() -> None:
    some = hosts(60, split="train")
    rows = of_kind(manifesting.draw(some, split="train", config=config()), "ring")
    observed = some
    for band in ("r", "z", "w1"):  # as `targets` has them where it does not deredden
        at = observed.schema.get_field_index(f"mag_{band}")
        dimmed = pc.add(observed[f"mag_{band}"], pa.scalar(-2.5 * np.log10(0.9), "float32"))
        observed = observed.set_column(at, f"mag_{band}", dimmed)
    seen = of_kind(manifesting.draw(observed, split="train", config=config()), "ring")
    np.testing.assert_allclose(
        column(seen, "light_scale_max"), column(rows, "light_scale_max"), rtol=1e-3
    )  # the dust is grey here: host and light lose the same share


def two_images(q: float, phi: float, shear: float, x: float, y: float) -> list[float]:
    """Directions of the images of a point source where there are two, degrees; else none.

    Triangles of the image plane (theta_E = 1) whose map to the source plane holds the source.
    """
    axis = np.linspace(-3.2, 3.2, 201)
    px, py = np.meshgrid(axis, axis)
    one = [torch.tensor([v], dtype=torch.float64) for v in (1.0, q, phi)]
    at = [torch.tensor(p)[None] for p in (px, py)]
    ax, ay = (a[0].numpy() for a in sie_deflection(*at, theta_e=one[0], q=one[1], phi=one[2]))
    u, v = px * (1 - shear) - ax - x, py * (1 + shear) - ay - y
    found = []
    for corners in (((0, 0), (1, 0), (0, 1)), ((1, 1), (1, 0), (0, 1))):
        cut = [(slice(j, j + 200), slice(i, i + 200)) for j, i in corners]
        side = [u[a] * v[b] - v[a] * u[b] for a, b in zip(cut, cut[1:] + cut[:1], strict=True)]
        holds = np.abs(np.sign(side).sum(0)) == 3
        found += [(px[cut[0]][p], py[cut[0]][p]) for p in zip(*np.nonzero(holds), strict=True)]
    images = [np.degrees(np.arctan2(b, a)) for a, b in found if np.hypot(a, b) > 0.06]
    return images if len(images) == 2 else []


def test_no_lens_has_two_images_as_near_each_other_as_a_companions_galaxies() -> None:
    rng = np.random.default_rng(2)
    apart = []
    for q, phi, shear in rng.uniform([0.5, 0, 0], [1, np.pi, 0.1], (250, 3)):
        radius, angle = np.sqrt(rng.uniform()), rng.uniform(0, 2 * np.pi)
        images = two_images(q, phi, shear, radius * np.cos(angle), radius * np.sin(angle))
        if images:
            turn = abs(images[0] - images[1]) % 360
            apart.append(min(turn, 360 - turn))
    assert len(apart) > 150
    assert np.mean(np.array(apart) < 120) < 0.01  # 0.2 % of 1,331
    assert np.median(apart) == pytest.approx(168, abs=3)


def test_paired_controls_name_their_lens_and_copies_without_one_name_none() -> None:
    plan = {**PAIRED, "copies": {"lens": 1, "control": 2}}
    rows = manifesting.draw(
        hosts(10, split="train"), split="train", config=config(sets={"train": plan})
    )
    controls = of_kind(rows, "control")
    paired = controls.filter(pc.is_valid(controls["pair_id"]))
    assert (controls.num_rows, paired.num_rows) == (20, 10)
    assert set(column(paired, "copy")) == {0}
    lens = of_kind(rows, "lens").take(
        pc.index_in(paired["pair_id"], value_set=of_kind(rows, "lens")["stamp_id"].combine_chunks())
    )
    assert lens["target_id"].combine_chunks().equals(paired["target_id"].combine_chunks())


def test_where_each_galaxy_plays_one_kind_negatives_are_unique_and_no_lens_host() -> None:
    rows = manifesting.draw(hosts(800, split="test"), split="test", config=config())
    negatives = rows.filter(pc.equal(rows["label"], 0))
    targets = column(negatives, "target_id")
    assert len(np.unique(targets)) == len(targets)
    assert not np.isin(column(of_kind(rows, "lens"), "target_id"), targets).any()
    counted = Counter(column(negatives, "kind"))
    expected = {k: 800 * share for k, share in ONE_KIND_EACH["shares"].items() if k != "lens"}
    for kind, number in expected.items():
        assert abs(counted[kind] - number) < 4 * np.sqrt(number), kind


def test_weights_to_the_sky_give_each_kind_its_natural_share() -> None:
    rows = manifesting.draw(hosts(3000, split="test"), split="test", config=config())
    negatives = rows.filter(pc.equal(rows["label"], 0))
    weight, kind = column(negatives, "sky_weight"), column(negatives, "kind")
    for name, share in SKY_SHARES.items():
        got = weight[kind == name].sum() / len(weight)
        assert got == pytest.approx(share, rel=4 / np.sqrt((kind == name).sum())), name
    for name in ("halo_ring", "radial_arc", "scrambled"):
        assert set(weight[kind == name]) == {0.0}
    assert of_kind(rows, "lens")["sky_weight"].null_count == of_kind(rows, "lens").num_rows


def test_weights_of_paired_sets_count_copies() -> None:
    settled = config(sets={"train": {**PAIRED, "copies": {"lens": 1, "control": 3, "ring": 1}}})
    rows = manifesting.draw(hosts(10, split="train"), split="train", config=settled)
    assert set(column(of_kind(rows, "control"), "sky_weight")) == {SKY_SHARES["control"] / 0.75}
    assert set(column(of_kind(rows, "ring"), "sky_weight")) == {SKY_SHARES["ring"] / 0.25}


def test_host_matched_controls_are_like_the_hosts_of_the_lenses_they_name() -> None:
    plan = {**ONE_KIND_EACH, "controls": "host_matched"}
    settled = config(
        sets={"test": plan}, physical={**config().physical.model_dump(), "keep_weight": 0}
    )
    some = hosts(600, split="test")
    rows = manifesting.draw(some, split="test", config=settled)
    controls, lenses = of_kind(rows, "control"), of_kind(rows, "lens")
    assert controls["pair_id"].null_count == 0
    assert len(set(column(controls, "pair_id"))) == controls.num_rows
    lenses = lenses.take(
        pc.index_in(controls["pair_id"], value_set=lenses["stamp_id"].combine_chunks())
    )
    apart = np.abs(column(controls, "host_mag_z") - column(lenses, "host_mag_z"))
    assert apart.max() < roles.MATCH_DISTANCE * roles.MATCH_SCALES["mag_z"]
    assert not set(column(controls, "target_id")) & set(column(lenses, "target_id"))


def test_sources_of_two_splits_never_share_an_id() -> None:
    some = hosts(2000)
    used = {
        name: set(column(rows, "source_id")[~np.isnan(column(rows, "source_id"))].tolist())
        for name in ("train", "val", "calib", "test")
        if (rows := manifesting.draw(some, split=name, config=config())).num_rows
    }
    for name, ids in used.items():
        others = set().union(*(v for k, v in used.items() if k != name))
        assert ids
        assert not ids & others


def test_a_source_id_says_its_split() -> None:
    for name, bits in manifesting.SPLIT_BITS.items():
        rows = manifesting.draw(hosts(10, split=name), split=name, config=config())
        ids = rows["source_id"].drop_null().to_numpy()
        assert set((ids & 3).tolist()) == {bits}


def test_targets_with_too_wide_a_psf_are_dropped_with_their_controls() -> None:
    wide = hosts(10, split="train", fwhm_r=6.0)  # 0.5 x 6" is beyond the largest theta_E
    assert manifesting.draw(wide, split="train", config=config()).num_rows == 0
    assert manifesting.sky_rows(wide, BANDS).num_rows == 10


def test_einstein_radii_respect_the_seeing() -> None:
    rows = manifesting.draw(hosts(200, split="train", fwhm_r=2.0), split="train", config=config())
    ratio = column(of_kind(rows, "lens"), "theta_e_over_fwhm_r")
    assert ratio.min() >= 0.5 - 1e-6
    expected = column(of_kind(rows, "lens"), "theta_e_arcsec") / (2.0 / 0.75)
    np.testing.assert_allclose(
        column(of_kind(rows, "lens"), "theta_e_over_psfsize_r"), expected, rtol=1e-6
    )


def test_training_rows_have_a_target_signal_and_physical_rows_a_weight() -> None:
    some, settled = hosts(100), config()
    train = manifesting.draw(some, split="train", config=settled)
    test = manifesting.draw(some, split="test", config=settled)
    light = train.filter(pc.is_valid(train["src_mag_r"]))
    assert light["arc_snr_target"].null_count == 0
    assert pc.min_max(light["arc_snr_target"]).as_py()["min"] >= 15
    assert train["weight_population"].null_count == train.num_rows
    assert test["arc_snr_target"].null_count == test.num_rows
    assert of_kind(test, "lens")["weight_population"].null_count == 0
    copies = ONE_KIND_EACH["copies"]["lens"]
    assert column(of_kind(test, "lens"), "weight_population").min() >= 0.02 / copies - 1e-12


def test_only_training_may_scale_sources_to_a_signal() -> None:
    with pytest.raises(ValidationError, match="population of test must be physical"):
        config(sets={"train": PAIRED, "test": {**PAIRED, "population": "training"}})


def test_a_lens_of_the_physical_population_says_whether_a_group_lenses() -> None:
    some = hosts(400)
    test = of_kind(manifesting.draw(some, split="test", config=config()), "lens")
    train = of_kind(manifesting.draw(some, split="train", config=config()), "lens")
    assert test["is_group_lens"].null_count == 0
    assert set(test["is_group_lens"].to_pylist()) == {True, False}
    assert train["is_group_lens"].null_count == train.num_rows


def test_the_grid_is_that_of_its_name() -> None:
    grid = {"prior": "grid_small", "lens_q": span(0.5, 1.0)}
    settled = config(training=grid, min_theta_e_over_fwhm=0.0)
    some = hosts(50, split="train")
    rows = of_kind(manifesting.draw(some, split="train", config=settled), "lens")
    assert set(column(rows, "theta_e_arcsec").round(3)) == {0.3, 0.6, 1.0}
    dmag = column(rows, "src_mag_r") - manifesting.dereddened_mag(some, "r")
    assert set(dmag.round(3)) == {1.0, 2.0}
    assert rows["arc_snr_target"].null_count == rows.num_rows


def test_a_host_coloured_ring_has_the_hosts_colours() -> None:
    shapes = config().shapes.model_dump()
    shapes["halo_ring"]["variants"] = {"host_coloured": 1.0}
    some = hosts(20, split="train")
    rows = of_kind(manifesting.draw(some, split="train", config=config(shapes=shapes)), "halo_ring")
    got = column(rows, "src_mag_g") - column(rows, "src_mag_z")
    expected = manifesting.dereddened_mag(some, "g") - manifesting.dereddened_mag(some, "z")
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_the_sky_has_one_row_for_each_target_of_every_split() -> None:
    some = hosts(25)
    rows = manifesting.sky_rows(some, BANDS)
    assert rows["target_id"].equals(some["target_id"])
    assert set(column(rows, "split")) == set(schemas.SPLITS)
    for name in ("label", "sky_weight", "weight_population", "source_id"):
        assert rows[name].null_count == 25
    np.testing.assert_array_equal(
        column(rows, "stamp_id"), keys.stamp_id(column(some, "target_id"), "sky", np.zeros(25, int))
    )


def test_refused_targets_are_no_hosts_and_lost_ones_are_named() -> None:
    targets = splits(5)
    head = cutouts_head(targets)
    refused = head.set_column(
        head.schema.get_field_index("refused"), "refused",
        pa.array([None, "band g is missing", None, None, None]),
    )  # fmt: skip
    assert manifesting.hosts_of(targets, refused, BANDS).num_rows == 4
    with pytest.raises(DataError, match="2 of 5 targets have no row in cutouts"):
        manifesting.hosts_of(targets, head[:3], BANDS)


@pytest.mark.parametrize("n", [0, 1])
def test_no_host_and_one_host(n: int) -> None:
    for split in ("train", "test"):
        rows = manifesting.draw(hosts(n, split=split), split=split, config=config())
        checked = schemas.conform(rows, schemas.manifest(BANDS), where="test")
        assert checked.num_rows >= (len(KINDS) if n and split == "train" else 0)


def test_a_set_that_is_not_planned_is_empty() -> None:
    settled = config(sets={"test": ONE_KIND_EACH})
    assert manifesting.draw(hosts(5, split="train"), split="train", config=settled).num_rows == 0


def test_light_is_dimmed_by_the_dust_of_its_host() -> None:
    rows = manifesting.draw(hosts(3, split="train"), split="train", config=config())
    assert set(column(rows, "mw_transmission_g").round(6)) == {0.9}


def look_alikes(some: pa.Table, *places: int, kind: str = "spiral") -> pa.Table:
    """The galaxies at some places of a table, known to be of a kind."""
    ids = some["target_id"].take(pa.array(places))
    return pa.table({"target_id": ids, "kind": pa.repeat(kind, len(places))})


def known(n: int, split: str, *places: int) -> tuple[pa.Table, pa.Table]:
    """Hosts of which some are known look-alikes; those alone."""
    targets = splits(n, split=split)
    named = look_alikes(targets, *places)
    return manifesting.hosts_of(targets, cutouts_head(targets), BANDS, look_alikes=named), named


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_known_look_alike_hosts_nothing_and_plays_its_kind_once(split: str) -> None:
    some, named = known(30, split, 3, 8)
    rows = manifesting.draw(some, split=split, config=config())
    mine = rows.filter(pc.is_in(rows["target_id"], value_set=named["target_id"].combine_chunks()))
    assert mine["kind"].to_pylist() == ["spiral"] * 2
    assert mine["family"].to_pylist() == ["look_alike"] * 2
    assert mine["label"].to_pylist() == [0, 0]
    for name in ("source_id", "shape_parts", "src_mag_r", "pair_id"):
        assert mine[name].null_count == 2
    assert (rows["family"].to_pylist()).count("look_alike") == 2
    assert len(pc.unique(rows["stamp_id"])) == rows.num_rows
    assert schemas.conform(rows, schemas.manifest(BANDS), where="test").num_rows == rows.num_rows


def test_rows_of_other_galaxies_do_not_depend_on_known_look_alikes() -> None:
    with_known, named = known(30, "test", 3, 8)
    rows = manifesting.draw(with_known, split="test", config=config())
    without = manifesting.draw(hosts(30, split="test"), split="test", config=config())
    of_others = [
        table.filter(
            pc.invert(pc.is_in(table["target_id"], value_set=named["target_id"].combine_chunks()))
        )
        for table in (rows, without)
    ]
    assert of_others[0].equals(of_others[1])


def test_a_known_look_alike_stands_for_itself_on_the_sky() -> None:
    some, _ = known(30, "test", 3)
    rows = manifesting.draw(some, split="test", config=config())
    (weight,) = rows.filter(pc.equal(rows["family"], "look_alike"))["sky_weight"].to_pylist()
    assert weight == pytest.approx(1 - ONE_KIND_EACH["shares"]["lens"])
    # Against the others: all negatives of n galaxies weigh as much as n galaxies that stand for
    # themselves, so far as the kinds add up to the sky.
    many = manifesting.draw(hosts(4000, split="test"), split="test", config=config())
    total = np.nansum(column(many, "sky_weight")) / 4000
    assert total == pytest.approx(weight * sum(SKY_SHARES.values()), rel=0.1)


def test_training_takes_a_known_look_alike_as_it_is_every_time() -> None:
    some, _ = known(12, "train", 4)
    first = manifesting.draw(some, split="train", config=config())
    again = manifesting.redraw(first, some, config=config(), epoch=2)
    is_known = pc.equal(first["family"], "look_alike")
    assert again.filter(is_known).equals(first.filter(is_known))
    assert again["kind"].equals(first["kind"])
    later = manifesting.draw(some, split="train", config=config(), epoch=1)
    assert "look_alike" not in later["family"].to_pylist()


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        (["lens", "ring"], "lens is no kind of them"),
        (["halo_ring", "ring"], "halo_ring is no kind of them"),
        (["ring", "spiral"], "1 galaxies are named more than once"),
    ],
)
def test_look_alikes_that_cannot_be_are_refused(kinds: list[str], message: str) -> None:
    targets = splits(4)
    places = [0, 0] if "more than once" in message else [0, 1]
    named = pa.table({"target_id": targets["target_id"].take(pa.array(places)), "kind": kinds})
    with pytest.raises(DataError, match=message):
        manifesting.hosts_of(targets, cutouts_head(targets), BANDS, look_alikes=named)

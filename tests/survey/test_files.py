import logging
import os
import pickle
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import survey_builders as build
from survey_server import Server

from darkhaloscope.core.errors import DataError
from darkhaloscope.survey import layout, remote
from darkhaloscope.survey.files import Absent, Survey

BRICK = build.Brick()
IMAGE = layout.coadd_path(BRICK.name, "image", "g")
INVVAR = layout.coadd_path(BRICK.name, "invvar", "g")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build.write_survey(tmp_path_factory.mktemp("survey"), count=2)


@pytest.fixture
def server(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(remote, "FIRST_WAIT_S", 0.01)
    running = Server(tree)
    yield running
    running.close()


def far(server: Server, cache: Path, **changes: Any) -> Survey:
    settings = {"area": [BRICK.name], "cache_folder": str(cache), "retries": 2}
    return build.survey_at(server.address, **(settings | changes))


def left_over(cache: Path) -> list[Path]:
    return list(cache.rglob("*partial*"))


def test_a_folder_is_read_in_place(tree: Path) -> None:
    survey = build.survey_at(tree, cache_folder="/nowhere")
    assert survey.local(IMAGE) == tree / IMAGE


def test_a_survey_travels_to_a_worker(tree: Path) -> None:
    survey = build.survey_at(tree)
    assert pickle.loads(pickle.dumps(survey)) == survey  # noqa: S301


def test_a_file_is_fetched_once_and_equal(server: Server, tree: Path, tmp_path: Path) -> None:
    survey = far(server, tmp_path)
    assert survey.local(IMAGE).read_bytes() == (tree / IMAGE).read_bytes()
    assert survey.local(IMAGE).read_bytes() == (tree / IMAGE).read_bytes()
    assert server.asked == [IMAGE]


def test_only_what_is_asked_for_is_fetched(server: Server, tmp_path: Path) -> None:
    far(server, tmp_path).fetch([IMAGE, INVVAR])
    assert sorted(server.asked) == [IMAGE, INVVAR]


def test_a_missing_file_is_a_reason_and_is_asked_for_once(server: Server, tmp_path: Path) -> None:
    path = layout.coadd_path(BRICK.name, "image", "i")
    found = far(server, tmp_path).fetch([path, IMAGE])
    assert found[path] == Absent("the survey has no such file", is_nowhere=True)
    assert isinstance(found[IMAGE], Path)
    assert server.asked.count(path) == 1
    with pytest.raises(DataError, match=r"image-i.*no such file; check survey.root"):
        far(server, tmp_path).local(path)


def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.faults[IMAGE] = [(503, {}), (429, {})]
    assert far(server, tmp_path).local(IMAGE).is_file()
    assert server.asked == [IMAGE] * 3


@pytest.mark.parametrize("as_date", [False, True])
def test_the_wait_that_a_server_names_is_kept(
    server: Server, tmp_path: Path, as_date: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(remote.time, "sleep", waits.append)
    asked = formatdate(time.time() + 7, usegmt=True) if as_date else "7"
    server.faults[IMAGE] = [(503, {"Retry-After": asked}), (503, {})]
    far(server, tmp_path).local(IMAGE)
    assert waits[0] == pytest.approx(7, abs=1.1)
    assert waits[1] == pytest.approx(0.02)  # the second of the doubling waits


def test_a_server_that_stays_busy_is_an_error_and_not_a_missing_file(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote.time, "sleep", lambda _: None)
    server.faults[IMAGE] = [(503, {})] * 10
    with pytest.raises(DataError, match=r"in 3 tries \(HTTP 503\)"):
        far(server, tmp_path).fetch([INVVAR, IMAGE])
    assert left_over(tmp_path) == []


def test_a_busy_server_does_not_make_a_file_missing(server: Server, tmp_path: Path) -> None:
    survey = far(server, tmp_path)
    server.faults[IMAGE] = [(503, {})] * 3
    assert survey.exists(IMAGE)
    server.faults[IMAGE] = [(503, {})] * 100
    with pytest.raises(DataError, match=r"in 3 tries \(HTTP 503\)"):
        survey.fingerprint(IMAGE)


def test_a_refusal_ends_at_once(server: Server, tmp_path: Path) -> None:
    server.faults[IMAGE] = [(403, {})] * 10
    with pytest.raises(DataError, match=r"is refused \(HTTP 403\)"):
        far(server, tmp_path).local(IMAGE)
    assert server.asked == [IMAGE]


def test_a_transfer_cut_short_is_repeated(
    server: Server, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote.time, "sleep", lambda _: None)
    server.cut_short[IMAGE] = 1
    assert far(server, tmp_path).local(IMAGE).read_bytes() == (tree / IMAGE).read_bytes()


def test_a_transfer_that_is_always_cut_short_leaves_nothing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote.time, "sleep", lambda _: None)
    server.cut_short[IMAGE] = 99
    with pytest.raises(DataError, match="could not be fetched in 3 tries"):
        far(server, tmp_path).local(IMAGE)
    assert [path for path in tmp_path.rglob("*") if "image" in path.name] == []


def test_a_file_that_the_survey_itself_has_broken_is_a_reason(
    server: Server, tree: Path, tmp_path: Path
) -> None:
    path = layout.coadd_path("9999p999", "image", "g")
    (tree / path).parent.mkdir(parents=True, exist_ok=True)
    (tree / path).write_bytes((tree / IMAGE).read_bytes()[:-8000])
    for survey in (far(server, tmp_path), build.survey_at(tree)):
        found = survey.fetch([path])[path]
        assert isinstance(found, Absent)
        assert "truncated" in found.reason
        assert not found.is_nowhere
    assert left_over(tmp_path) == []


def test_files_are_fetched_several_at_a_time_within_the_limit(
    server: Server, tmp_path: Path
) -> None:
    server.slow_s = 0.05
    paths = [
        layout.coadd_path(BRICK.name, kind, band)
        for kind in ("image", "invvar", "psfsize")
        for band in build.BANDS
    ]
    seen: list[tuple[str, int, int]] = []
    survey = far(server, tmp_path, fetch_parallel=3)
    survey.fetch(paths, progress=lambda *state: seen.append(state))
    assert server.most_at_once == 3
    assert seen == [(path, done, 9) for done, path in enumerate(paths, 1)]


def test_fetching_from_many_threads_is_safe(server: Server, tmp_path: Path) -> None:
    surveys = [far(server, tmp_path) for _ in range(6)]
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda s=s: found.append(s.local(IMAGE)))  # type: ignore[misc]
        for s in surveys
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert left_over(tmp_path) == []


def _age(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


def test_the_cache_drops_what_was_used_longest_ago(
    server: Server, tree: Path, tmp_path: Path
) -> None:
    limit_gb = ((tree / IMAGE).stat().st_size + (tree / INVVAR).stat().st_size) / 1e9
    survey = far(server, tmp_path, cache_limit_gb=limit_gb)
    image, invvar = survey.local(IMAGE), survey.local(INVVAR)
    _age(image, 100)
    _age(invvar, 200)
    survey.local(IMAGE)  # used now
    mask = survey.local(layout.coadd_path(BRICK.name, "maskbits"))
    assert (image.exists(), invvar.exists(), mask.exists()) == (True, False, True)


def test_bricks_that_are_done_with_go_first(server: Server, tree: Path, tmp_path: Path) -> None:
    others = [layout.coadd_path(name, "image", "g") for name in ("0200p000", "0300p000")]
    for other in others:
        (tree / other).parent.mkdir(parents=True, exist_ok=True)
        (tree / other).write_bytes((tree / IMAGE).read_bytes())
    limit_gb = 2.5 * (tree / IMAGE).stat().st_size / 1e9
    survey = far(server, tmp_path, cache_limit_gb=limit_gb)
    old, newer = survey.local(IMAGE), survey.local(others[0])
    _age(old, 1000)
    survey.done_with(["0200p000"])
    survey.fetch([others[1]])
    assert (old.exists(), newer.exists()) == (True, False)


def test_a_brick_in_use_is_not_dropped(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    survey = far(server, tmp_path, cache_limit_gb=1e-9)
    with survey.using(BRICK.name), caplog.at_level(logging.WARNING):
        image = survey.local(IMAGE)
        assert image.exists()
        assert "all in use" in caplog.text
    survey.fetch([layout.bricks_path()])
    assert not image.exists()


def test_a_cache_that_cannot_be_written_is_an_error_that_says_so(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(DataError, match=r"cache.*cannot be written.*survey.cache_folder"):
        far(server, tmp_path / "cache").local(IMAGE)
    with (
        pytest.raises(DataError, match="cannot be written"),
        far(server, tmp_path / "cache").using(BRICK.name),
    ):
        pass


def test_a_full_disk_is_an_error_that_says_so(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource

    survey = far(server, tmp_path)
    survey.exists(layout.bricks_path())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(DataError, match=r"could not be kept.*make room"):
            survey.local(IMAGE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert server.asked.count(IMAGE) == 1
    assert left_over(tmp_path) == []


def test_existence_and_fingerprint_need_no_fetch(
    server: Server, tree: Path, tmp_path: Path
) -> None:
    survey = far(server, tmp_path)
    assert survey.exists(IMAGE)
    assert not survey.exists(IMAGE.replace("image", "chi2"))
    before = survey.fingerprint(IMAGE)
    assert before == survey.fingerprint(IMAGE)
    assert before != survey.fingerprint(INVVAR)
    assert list(tmp_path.rglob("*.fz")) == []
    with pytest.raises(DataError, match="is not there"):
        survey.fingerprint(IMAGE.replace("image", "chi2"))


@pytest.mark.parametrize("name", ["http", "folder"])
def test_a_fingerprint_changes_with_the_file(
    server: Server, tree: Path, tmp_path: Path, name: str
) -> None:
    path = tree / "changing.fits"
    survey = far(server, tmp_path) if name == "http" else build.survey_at(tree)
    path.write_bytes(b"1")
    first = survey.fingerprint("changing.fits")
    path.write_bytes(b"22")
    assert survey.fingerprint("changing.fits") != first


def test_the_digest_follows_the_area_and_not_the_cache(server: Server, tmp_path: Path) -> None:
    one = far(server, tmp_path)
    assert one.digest == far(server, tmp_path / "other", fetch_parallel=9).digest
    box = [{"ra_deg": (9.0, 11.0), "dec_deg": (-1.0, 1.0)}]
    assert one.digest != far(server, tmp_path, area=box).digest


def test_the_fingerprint_of_a_brick_follows_its_files(tree: Path) -> None:
    survey = build.survey_at(tree)
    before = survey.brick_fingerprint(BRICK.name)
    assert before == survey.brick_fingerprint(BRICK.name)
    _age(tree / IMAGE, 50)
    assert before != survey.brick_fingerprint(BRICK.name)


@pytest.fixture(scope="module")
def bucket(tree: Path) -> Iterator[str]:
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        }.items():
            patch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="surveys")
        for path in tree.rglob("*"):
            if path.is_file():
                key = f"dr10/{path.relative_to(tree).as_posix()}"
                client.put_object(Bucket="surveys", Key=key, Body=path.read_bytes())
        yield "s3a://surveys/dr10"
    server.stop()


def test_files_of_a_bucket_arrive_and_missing_ones_are_a_reason(
    bucket: str, tree: Path, tmp_path: Path
) -> None:
    survey = build.survey_at(bucket, cache_folder=str(tmp_path))
    missing = layout.coadd_path(BRICK.name, "image", "i")
    found = survey.fetch([IMAGE, missing])
    assert isinstance(found[IMAGE], Path)
    assert found[IMAGE].read_bytes() == (tree / IMAGE).read_bytes()
    assert isinstance(found[missing], Absent)
    assert survey.exists(INVVAR)
    assert not survey.exists(missing)
    assert survey.fingerprint(IMAGE) != survey.fingerprint(INVVAR)


def test_catalogues_of_a_bucket_are_listed(bucket: str, tmp_path: Path) -> None:
    survey = build.survey_at(bucket, cache_folder=str(tmp_path))
    path = layout.tractor_path(BRICK.name)
    assert survey.catalogues() == {f"tractor-{BRICK.name}": path}

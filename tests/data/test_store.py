"""Tables are whole or absent, and say what they were made from; on disk and in an object store."""

import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from darkhaloscope.core.errors import DataError
from darkhaloscope.data import store


@pytest.fixture(params=["disk", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A run's root on disk, and in a bucket behind HTTP."""
    if request.param == "disk":
        return str(tmp_path / "run")
    return str(request.getfixturevalue("bucket"))


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty bucket on a server of this machine."""
    import boto3
    from moto.server import ThreadedMotoServer

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket="survey-runs")
    yield "s3://survey-runs/first"
    server.stop()


def rows(n: int, start: int = 0) -> pa.Table:
    """n rows with an id and some text."""
    return pa.table(
        {"target_id": pa.array(range(start, start + n), pa.int64()), "kind": ["lens"] * n}
    )


def written(path: str, *chunks: pa.Table, digest: str = "d") -> store.Header:
    """A table at `path`."""
    return store.write(chunks, path, schema=rows(0).schema, digest=digest)


def test_a_table_comes_back_with_its_header(root: str) -> None:
    header = store.write(
        [rows(3)], f"{root}/a.parquet", schema=rows(0).schema, digest="x", notes={"tiles": {"1": 2}}
    )
    assert store.read(f"{root}/a.parquet").equals(rows(3))
    assert store.header_of(f"{root}/a.parquet") == header
    assert (header.digest, header.rows, header.notes) == ("x", 3, {"tiles": {"1": 2}})


def test_what_is_not_there_has_no_header(root: str) -> None:
    assert store.header_of(f"{root}/none.parquet") is None
    with pytest.raises(DataError, match="is not there; run the stage"):
        store.read(f"{root}/none.parquet")


def test_no_chunks_make_an_empty_table(root: str) -> None:
    assert written(f"{root}/a.parquet").rows == 0
    assert store.read(f"{root}/a.parquet").schema.names == ["target_id", "kind"]


def test_an_error_midway_leaves_what_was_there(root: str) -> None:
    def failing() -> Iterator[pa.Table]:
        yield rows(2)
        raise ValueError("midway")

    written(f"{root}/a.parquet", rows(1))
    with pytest.raises(ValueError, match="midway"):
        store.write(failing(), f"{root}/a.parquet", schema=rows(0).schema, digest="new")
    assert store.read(f"{root}/a.parquet").num_rows == 1
    assert store.listing(root) == ["a.parquet"]


def test_content_names_the_rows_and_not_how_they_were_buffered(tmp_path: Path) -> None:
    whole = written(f"{tmp_path}/a", rows(4))
    pieces = written(f"{tmp_path}/b", pa.concat_tables([rows(1), rows(3, start=1)]), digest="other")
    other = written(f"{tmp_path}/c", rows(4, start=1))
    assert whole.content == pieces.content
    assert whole.content != other.content


def test_equal_tables_are_equal_bytes(tmp_path: Path) -> None:
    for name in "ab":
        written(f"{tmp_path}/{name}", rows(1000))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_rows_are_found_by_id_across_row_groups(root: str) -> None:
    written(f"{root}/a.parquet", rows(1500))
    found = store.rows_where(f"{root}/a.parquet", "target_id", pa.array([1400, 3, 9999]))
    assert found["target_id"].to_pylist() == [3, 1400]
    some = store.rows_where(f"{root}/a.parquet", "target_id", pa.array([3]), columns=["target_id"])
    assert some.equals(found.select(["target_id"])[:1])
    none = store.rows_where(f"{root}/a.parquet", "target_id", pa.array([-1]), columns=["target_id"])
    assert none.column_names == ["target_id"]


@pytest.mark.parametrize("at_once", [1, 500, 512, 700, 5000])
def test_pieces_are_the_rows_in_order_whatever_the_row_groups(root: str, at_once: int) -> None:
    written(f"{root}/a.parquet", rows(900), rows(600, start=900))
    pieces = list(store.pieces(f"{root}/a.parquet", at_once, columns=["target_id"]))
    assert [p.num_rows for p in pieces[:-1]] == [at_once] * (len(pieces) - 1)
    assert pa.concat_tables(pieces).equals(rows(1500).select(["target_id"]))


def test_a_table_without_rows_is_one_piece(root: str) -> None:
    written(f"{root}/a.parquet")
    assert list(store.pieces(f"{root}/a.parquet", 10)) == [rows(0)]
    with pytest.raises(DataError, match="is not there; run the stage"):
        next(store.pieces(f"{root}/none.parquet", 10))


def test_a_table_is_written_in_row_groups_of_a_fixed_size(tmp_path: Path) -> None:
    written(f"{tmp_path}/a.parquet", rows(1500))
    assert pq.ParquetFile(f"{tmp_path}/a.parquet").num_row_groups == 3


def test_a_truncated_table_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    written(str(path), rows(10))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"a\.parquet is not a whole Parquet file"):
        store.header_of(str(path))


def test_a_parquet_file_of_somebody_else_is_not_ours(tmp_path: Path) -> None:
    pq.write_table(rows(1), tmp_path / "a.parquet")
    assert store.header_of(f"{tmp_path}/a.parquet") is None


def test_a_folder_is_done_when_its_record_is_there(root: str, tmp_path: Path) -> None:
    source = tmp_path / "made"
    (source / "deep").mkdir(parents=True)
    (source / "index.html").write_text("<p>")
    (source / "deep" / "x.json").write_text("{}")
    assert store.header_of_folder(f"{root}/report") is None
    header = store.publish_folder(source, f"{root}/report", digest="d1")
    assert store.header_of_folder(f"{root}/report") == header
    assert set(header.notes["files"]) == {"index.html", "deep/x.json"}
    held = store.fetch_folder(f"{root}/report", tmp_path / "held")
    assert (held / "deep" / "x.json").read_text() == "{}"


def test_records_of_the_making_are_no_part_of_an_artefacts_content(tmp_path: Path) -> None:
    contents = []
    for seconds in ("12", "13"):
        made = tmp_path / seconds
        made.mkdir()
        (made / "model.safetensors").write_text("weights")
        (made / "training.log").write_text(seconds)
        contents.append(store.publish_folder(made, f"{tmp_path}/out{seconds}", digest="d").content)
    assert contents[0] == contents[1]


def test_a_new_edition_of_a_folder_drops_the_old_files(root: str, tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.txt").write_text(name)
        store.publish_folder(tmp_path / name, f"{root}/report", digest=name)
    assert store.listing(f"{root}/report") == ["done.json", "new.txt"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DataError, match="cannot be written"):
        written(f"{tmp_path}/sub/a.parquet", rows(1))


def test_a_path_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        written(f"{tmp_path}/file/a.parquet", rows(1))


def checks(value: float | None = 0.25) -> pa.Table:
    """Rows of every type that JSON can hold."""
    return pa.table(
        {
            "name": ["companion", "halo_ring"],
            "value": pa.array([value, None], pa.float64()),
            "target_id": pa.array([2**62 + 1, None], pa.int64()),
            "share": pa.array([0.1, 0.7], pa.float32()),
            "passed": [True, False],
        }
    )


def test_a_table_kept_as_json_comes_back_with_its_header(root: str) -> None:
    path = f"{root}/audit/small/round=0.json"
    header = store.write([checks()], path, schema=checks().schema, digest="x", notes={"n": 2})
    assert store.read(path).equals(checks())
    assert store.read(path, columns=["passed"]).column_names == ["passed"]
    assert store.header_of(path) == header
    assert (header.digest, header.rows, header.notes) == ("x", 2, {"n": 2})
    assert header.content == store.content_of(checks())


def test_a_table_has_one_content_however_it_is_kept(root: str) -> None:
    kept = [
        store.write([checks()], f"{root}/a.{end}", schema=checks().schema, digest="x")
        for end in ("parquet", "json")
    ]
    assert kept[0].content == kept[1].content
    assert store.write([], f"{root}/b.json", schema=checks().schema, digest="x").rows == 0


def test_what_json_cannot_hold_is_refused_and_leaves_the_former_table(root: str) -> None:
    path = f"{root}/a.json"
    before = store.write([checks()], path, schema=checks().schema, digest="x")
    with pytest.raises(DataError, match="value holds NaN or infinity"):
        store.write([checks(float("nan"))], path, schema=checks().schema, digest="y")
    blob = pa.table({"pixels": pa.array([b"1"], pa.binary())})
    with pytest.raises(DataError, match="cannot hold pixels: binary"):
        store.write([blob], path, schema=blob.schema, digest="y")
    assert store.header_of(path) == before


@pytest.mark.parametrize("text", ["", "{", "[]", '{"columns": {"a": "int64"}, "rows": [{}]}', "{}"])
def test_a_broken_json_table_is_named_and_not_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"a\.json is not a whole table"):
        store.header_of(str(path))
    assert store.header_of(str(tmp_path / "b.json")) is None
    with pytest.raises(DataError, match="is not there; run the stage"):
        store.read(str(tmp_path / "b.json"))

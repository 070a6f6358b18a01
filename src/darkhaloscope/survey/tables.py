"""A table of any of five formats, of which only the columns asked for are kept.

CSV and TSV, ECSV, FITS, VOTable and Parquet, on this machine or behind an address; text formats
and VOTable may be gzipped. The ending of the name says which. What is missing in a file (empty or
`NaN` in text, masked, NaN) is null; bytes become text without the blanks around them.
"""

import gzip
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from astropy.io import fits
from astropy.table import Table

from darkhaloscope.core.errors import DataError

Choice = Callable[[Sequence[str]], Sequence[str]]

ENDINGS: Mapping[str, str] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".ecsv": "ecsv",
    ".fits": "fits",
    ".fit": "fits",
    ".vot": "votable",
    ".votable": "votable",
    ".xml": "votable",
    ".parquet": "parquet",
}
_TEXT_NULLS = ["", "NaN", "nan", "NA", "N/A", "n/a", "NULL", "null", "None", "--"]


def read(address: str, choose: Choice) -> pa.Table:
    """Columns of a table, in the order of `choose`.

    Args:
        address: A path, or an address that fsspec opens.
        choose: Given the names of the file's columns, those to read; may raise DataError.

    Returns:
        Columns by the file's own names; a unit of the file is in the field's metadata, `unit`.

    Raises:
        DataError: the file is not there, has another ending, or is no such table.
    """
    form = format_of(address)
    try:
        with fsspec.open(address, "rb") as file:
            if form == "parquet":
                whole = pq.ParquetFile(file)
                wanted = list(choose(whole.schema_arrow.names))
                return _tidy(whole.read(columns=wanted).select(wanted))
            content = file.read()
        if address.lower().endswith(".gz"):
            content = gzip.decompress(content)
        if form in ("csv", "tsv"):
            return _tidy(_separated(content, choose, "\t" if form == "tsv" else ","))
        return _tidy(_of_astropy(content, form, choose))
    except FileNotFoundError as error:
        raise DataError(f"{address} is not there; mend the address or fetch the table") from error
    except DataError:
        raise
    except (OSError, ValueError, KeyError, IndexError, TypeError, EOFError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{address} cannot be read as {form}: {said}; fetch it again") from error


def format_of(address: str) -> str:
    """The format that an address's ending stands for.

    Raises:
        DataError: it is none that can be read.

    Examples:
        >>> format_of("lists/lenscat.csv.gz"), format_of("s3://bucket/gz_desi.parquet")
        ('csv', 'parquet')
    """
    name = address.lower().removesuffix(".gz")
    found = next((form for ending, form in ENDINGS.items() if name.endswith(ending)), None)
    if found is None or (found == "parquet" and name != address.lower()):
        raise DataError(
            f"{address}: its ending names no format that can be read; expected one of "
            f"{', '.join(ENDINGS)} (but for Parquet also with .gz)"
        )
    return found


def _separated(content: bytes, choose: Choice, delimiter: str) -> pa.Table:
    """A text table with one line of names; numbers are what can be read as numbers."""
    parse = pa.csv.ParseOptions(delimiter=delimiter)
    head = content.lstrip(b"\xef\xbb\xbf").split(b"\n", 1)[0] + b"\n"
    names = pa.csv.read_csv(io.BytesIO(head), parse_options=parse).column_names
    convert = pa.csv.ConvertOptions(
        include_columns=list(dict.fromkeys(choose(names))),
        null_values=_TEXT_NULLS,
        strings_can_be_null=True,
    )
    return pa.csv.read_csv(io.BytesIO(content), parse_options=parse, convert_options=convert)


def _of_astropy(content: bytes, form: str, choose: Choice) -> pa.Table:
    options: dict[str, Any] = {"format": "ascii.ecsv" if form == "ecsv" else form}
    if form == "fits":
        options["hdu"] = _first_table(content)
    if form == "votable":
        options["table_id"] = 0
    found = Table.read(io.BytesIO(content), **options)
    fields, columns = [], []
    for name in dict.fromkeys(choose(found.colnames)):
        values, unit = found[name], found[name].unit
        columns.append(_array(np.asarray(values), getattr(values, "mask", None)))
        fields.append(
            pa.field(name, columns[-1].type, metadata={"unit": "" if unit is None else str(unit)})
        )
    return pa.table(columns, schema=pa.schema(fields))


def _first_table(content: bytes) -> int:
    kinds = (fits.BinTableHDU, fits.TableHDU)
    with fits.open(io.BytesIO(content)) as units:
        at = next((n for n, unit in enumerate(units) if isinstance(unit, kinds)), None)
    if at is None:
        raise ValueError("it holds no table")
    return at


def _array(values: np.ndarray[Any, Any], mask: Any) -> pa.Array:
    """A column of one value a row; one of several values a row cannot be asked for."""
    if values.ndim != 1:
        raise ValueError("a column that holds several values a row was asked for")
    masked = np.zeros(len(values), bool) if mask is None else np.asarray(mask, bool)
    if values.dtype.kind in "SUO":
        texts = [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values]
        return pa.array(texts, pa.string(), mask=masked)
    return pa.array(values.astype(values.dtype.newbyteorder("=")), mask=masked)


def _tidy(table: pa.Table) -> pa.Table:
    """Text without blanks around it, NaN as null."""
    for at, field in enumerate(table.schema):
        values = table[field.name]
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        if pa.types.is_binary(values.type) or pa.types.is_large_string(values.type):
            values = values.cast(pa.string())
        if pa.types.is_string(values.type):
            values = pc.utf8_trim_whitespace(values)
            values = pc.if_else(pc.equal(values, ""), pa.scalar(None, pa.string()), values)
        elif pa.types.is_floating(values.type):
            values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
        if values is not table[field.name]:
            table = table.set_column(
                at, pa.field(field.name, values.type, True, field.metadata), values
            )
    return table

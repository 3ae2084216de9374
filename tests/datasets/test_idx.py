"""IDX files, whole and damaged."""

import contextlib
import gzip
import re
import struct
import tracemalloc

import numpy as np
import pytest
from data_files import idx_bytes

from gpucnn.datasets import idx
from gpucnn.errors import DataError, FileError

pytestmark = pytest.mark.usefixtures("alone")


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_gives_back_the_array_that_was_written(tmp_path, rng, suffix):
    array = rng.integers(0, 256, (3, 4, 5)).astype(np.uint8)
    path = tmp_path / f"x{suffix}"
    path.write_bytes(gzip.compress(idx_bytes(array)) if suffix else idx_bytes(array))
    read = idx.read(path, 3)
    np.testing.assert_array_equal(read, array)
    assert read.flags.writeable


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_cut_at_any_length_is_an_error(tmp_path, rng, suffix):
    content = idx_bytes(rng.integers(0, 256, (2, 3, 3)).astype(np.uint8))
    content = gzip.compress(content) if suffix else content
    path = tmp_path / f"x{suffix}"
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=re.escape(str(path))):
            idx.read(path, 3)


def test_packed_idx_with_any_byte_changed_is_an_error_or_the_same_array(tmp_path, rng):
    array = rng.integers(0, 256, (2, 3, 3)).astype(np.uint8)
    content = gzip.compress(idx_bytes(array))
    path = tmp_path / "x.gz"
    for position in range(len(content)):
        path.write_bytes(content[:position] + bytes([content[position] ^ 0x41]) + content[position + 1 :])
        with contextlib.suppress(DataError):
            np.testing.assert_array_equal(idx.read(path, 3), array)


@pytest.mark.parametrize(
    ("shape", "word"),
    [((3, 3, 3), "less"), ((1, 3, 3), "more"), ((2**31, 2**16, 2**16), "is free"), ((0, 3, 3), "more")],
)
def test_idx_header_that_lies_about_the_extents_is_an_error(tmp_path, shape, word):
    path = tmp_path / "x"
    path.write_bytes(struct.pack(">BBBB3I", 0, 0, 8, 3, *shape) + bytes(18))
    with pytest.raises(DataError, match=word):
        idx.read(path, 3)


def test_idx_of_another_type_or_rank_or_format_is_named(tmp_path):
    path = tmp_path / "x"
    for content, word in (
        (idx_bytes(np.zeros(4, ">f4"), 0x0D), "type 0x0d"),
        (idx_bytes(np.zeros(4, np.uint8)), "1 axes where 3 are expected"),
        (b"\x89PNG\r\n", "not an IDX file"),
        (b"", "begins with nothing"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=word):
            idx.read(path, 3)


def test_idx_file_that_is_not_there_is_a_file_error(tmp_path):
    with pytest.raises(FileError, match="there is no such file"):
        idx.read(tmp_path / "x", 1)


def test_a_packed_idx_that_unpacks_to_more_than_100_times_its_size_is_refused(tmp_path):
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(struct.pack(">BBBB3I", 0, 0, 8, 3, 40_000, 28, 28) + bytes(40_000 * 28 * 28)))
    with pytest.raises(DataError, match=r"would unpack to 31\.4 MB, more than 100 times as much"):
        idx.read(path, 3)


def test_reading_an_idx_takes_no_more_memory_than_its_array(tmp_path, rng):
    array = rng.integers(0, 256, (8192, 32, 32)).astype(np.uint8)
    (tmp_path / "x.gz").write_bytes(gzip.compress(idx_bytes(array), 1))
    tracemalloc.start()
    read = idx.read(tmp_path / "x.gz", 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(read, array)
    assert peak < 1.75 * array.nbytes

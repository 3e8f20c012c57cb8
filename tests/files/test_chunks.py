"""Chunks of tables are decompressed outside of HDF5, and checked as HDF5 would."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tables

from ctapipe_gammaphysnet.files.chunks import fetch_rows, has_plain_chunks

N_ROWS, N_CHUNK = 100, 7
DTYPE = np.dtype([("a", "i2"), ("b", "f4", 300), ("c", "?")])


def make_rows(n=N_ROWS, dtype=DTYPE):
    rng = np.random.default_rng(1)
    rows = np.zeros(n, dtype)
    rows["a"], rows["c"] = np.arange(n), np.arange(n) % 3 == 0
    # An odd number of bytes in a row, and chunks of odd and even sizes.
    rows["b"] = rng.integers(0, 100, rows["b"].shape)
    return rows


def make_table(path, rows=None, **filters):
    filters = {"complevel": 5, "complib": "blosc:zstd", "fletcher32": True} | filters
    rows = make_rows() if rows is None else rows
    with tables.open_file(path, "w") as file:
        file.create_table(
            "/", "t", obj=rows, filters=tables.Filters(**filters), chunkshape=N_CHUNK
        )
    return path


@pytest.mark.parametrize("fletcher32", [True, False])
@pytest.mark.parametrize("complib", ["blosc:zstd", "blosc:lz4", "blosc:blosclz"])
def test_rows_are_those_of_hdf5(tmp_path, complib, fletcher32):
    path = make_table(tmp_path / "a.h5", complib=complib, fletcher32=fletcher32)
    with tables.open_file(path) as file, ThreadPoolExecutor(2) as executor:
        table = file.root.t
        assert has_plain_chunks(table)
        sizes = [len(table.read_chunk((n,))) % 2 for n in range(0, N_ROWS, N_CHUNK)]
        assert {*sizes} == {0, 1}
        for start, stop in ((0, 100), (3, 4), (7, 14), (95, 100), (6, 99)):
            found = executor.submit(fetch_rows(table, start, stop)).result()
            assert found.dtype == table.dtype
            assert found.tobytes() == table.read(start, stop).tobytes()


def test_checksums_of_large_chunks_are_right(tmp_path):
    rows = np.zeros(N_ROWS, [("b", "u1", 20_000)])
    # Compressed to half of it.
    rows["b"] = np.random.default_rng(3).integers(0, 16, rows["b"].shape)
    path = make_table(tmp_path / "a.h5", rows)
    with tables.open_file(path) as file:
        assert len(file.root.t.read_chunk((0,))) > 65_536
        assert has_plain_chunks(file.root.t)
        np.testing.assert_array_equal(fetch_rows(file.root.t, 0, N_ROWS)(), rows)


def test_chunks_that_were_not_compressed_are_read(tmp_path):
    """Blosc leaves out what it cannot make smaller; here each other chunk."""
    rows = np.zeros(N_ROWS, [("b", "u1", 4000)])
    noise = np.random.default_rng(2).integers(0, 256, (N_ROWS, 4000), dtype="u1")
    is_noise = np.arange(N_ROWS) // N_CHUNK % 2 == 1
    rows["b"][is_noise] = noise[is_noise]
    path = make_table(tmp_path / "a.h5", rows)
    with tables.open_file(path) as file:
        assert has_plain_chunks(file.root.t)
        sizes = {len(file.root.t.read_chunk((n,))) for n in (0, N_CHUNK)}
        assert min(sizes) < N_CHUNK * 4000 <= max(sizes)
        np.testing.assert_array_equal(fetch_rows(file.root.t, 0, N_ROWS)(), rows)


@pytest.mark.parametrize(
    ("rows", "filters"),
    [
        (make_rows(), {"complib": "zlib"}),
        (make_rows(), {"complib": "blosc2:zstd"}),
        (make_rows(), {"complevel": 0, "fletcher32": False}),
        (make_rows(N_CHUNK), {}),
        (make_rows(0), {}),
    ],
)
def test_other_tables_are_left_to_hdf5(tmp_path, rows, filters):
    path = make_table(tmp_path / "a.h5", rows, **filters)
    with tables.open_file(path) as file:
        assert not has_plain_chunks(file.root.t)


def test_numbers_of_another_byte_order_are_left_to_hdf5(tmp_path):
    with tables.open_file(tmp_path / "a.h5", "w") as file:
        filters = tables.Filters(complevel=5, complib="blosc:zstd")
        table = file.create_table(
            "/", "t", obj=make_rows(), filters=filters, byteorder="big", chunkshape=7
        )
        table.flush()
        assert not has_plain_chunks(table)


@pytest.mark.parametrize("place", [0, 5, 40, -3, -1])
def test_a_damaged_chunk_is_an_error(tmp_path, place):
    """In its header, its data, or its checksum."""
    path = make_table(tmp_path / "a.h5")
    with tables.open_file(path) as file:
        chunk = file.root.t.chunk_info((N_CHUNK,))
    with open(path, "r+b") as file:
        file.seek(chunk.offset + place % chunk.size)
        (byte,) = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte ^ 4]))
    with tables.open_file(path) as file:
        assert has_plain_chunks(file.root.t)
        damaged = fetch_rows(file.root.t, 0, N_ROWS)
        with pytest.raises(ValueError, match="does not have its checksum"):
            damaged()
        with pytest.raises(tables.HDF5ExtError):
            file.root.t.read(0, N_ROWS)
        # The others are as they were.
        fetch_rows(file.root.t, 2 * N_CHUNK, N_ROWS)()


@pytest.mark.parametrize(("place", "value"), [(4, 255), (5, 0), (20, 255)])
def test_without_checksum_nothing_is_written_beyond_the_rows(tmp_path, place, value):
    """Whatever size a chunk claims to have."""
    path = make_table(tmp_path / "a.h5", fletcher32=False)
    with tables.open_file(path) as file:
        offset = file.root.t.chunk_info((N_CHUNK,)).offset
    with open(path, "r+b") as file:
        file.seek(offset + place)
        file.write(bytes([value]))
    with (
        tables.open_file(path) as file,
        pytest.raises((ValueError, RuntimeError), match=r"bytes, not|decompress"),
    ):
        fetch_rows(file.root.t, 0, N_ROWS)()

"""What is missing from an HDF5 file, or other than it was written, is noticed."""

import numpy as np
import pytest
import tables
from disk import full_disk

from ctapipe_gammaphysnet.files.hdf5_output import contents, verified
from ctapipe_gammaphysnet.files.output import OutputError


def write(file, n_tables=5, **filters):
    rng = np.random.default_rng(1)
    for number in range(n_tables):
        rows = np.zeros(1000, dtype=[("a", "f8"), ("b", "i4", 3)])
        rows["a"] = rng.normal(size=1000)
        table = file.create_table(
            "/group",
            f"table{number}",
            obj=rows,
            createparents=True,
            filters=tables.Filters(**filters),
        )
        table.attrs["unit"] = "TeV"
        table.attrs["values"] = np.array([1, np.nan])
    lengths = file.create_vlarray("/", "lengths", atom=tables.Int32Atom())
    lengths.append([1, 2, 3])
    file.create_array("/", "scalar", 3.0)
    file.root._v_attrs["text"] = "ü"


def test_a_good_file_passes(tmp_path):
    path = tmp_path / "a.h5"
    with verified(tables.open_file(path, "w"), path) as file:
        write(file)
    with tables.open_file(path) as file:
        found = contents(file)
    assert {"/", "/group", "/group/table0", "/lengths", "/scalar"} <= set(found)


def remove_table(file):
    file.remove_node("/group/table3")


def remove_rows(file):
    file.root.group.table0.remove_rows(990)


def change_value(file):
    file.root.group.table0.modify_column(5, 7, column=[99.0, 99.0], colname="a")


def remove_attribute(file):
    del file.root.group.table0.attrs["unit"]


@pytest.mark.parametrize(
    "change", [remove_table, remove_rows, change_value, remove_attribute]
)
def test_what_differs_is_noticed(tmp_path, monkeypatch, change):
    """Changed between closing and opening: as a full disk can."""
    path = tmp_path / "a.h5"

    def open_changed(*args, original=tables.open_file, **kwargs):
        with original(path, "r+") as file:
            change(file)
        return original(*args, **kwargs)

    file = tables.open_file(path, "w")
    write(file)
    monkeypatch.setattr(tables, "open_file", open_changed)
    with (
        pytest.raises(OutputError, match=r"a\.h5 cannot be written"),
        verified(file, path),
    ):
        pass


@pytest.mark.parametrize("filters", [{}, {"complevel": 5, "fletcher32": True}])
def test_no_size_of_the_disk_is_taken_for_success(tmp_path, filters):
    path = tmp_path / "a.h5"
    with tables.open_file(path, "w") as file:
        write(file, **filters)
        expected = contents(file)
    full = path.stat().st_size
    for size in range(0, full, full // 50):
        with (
            full_disk(size),
            pytest.raises(OutputError, match=r"a\.h5 cannot be written"),
            verified(_open(path), path) as file,
        ):
            write(file, **filters)
    with full_disk(2 * full), verified(tables.open_file(path, "w"), path) as file:
        write(file, **filters)
    with tables.open_file(path) as file:
        assert contents(file) == expected


def _open(path):
    try:
        return tables.open_file(path, "w")
    except tables.HDF5ExtError as error:
        raise OutputError(f"{path} cannot be written") from error

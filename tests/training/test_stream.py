"""Streamed batches: the right images, each once, well mixed, the same again."""

import gc
import shutil
import threading
import time
import tracemalloc

import numpy as np
import psutil
import pytest
import tables
import toy_sample
from conftest import small_cameras
from ctapipe.io import EventSource
from scipy.stats import kstest

from ctapipe_gammaphysnet.events import images as images_module
from ctapipe_gammaphysnet.events.quality import ImageQualityQuery
from ctapipe_gammaphysnet.files.input_file import DL1FileError
from ctapipe_gammaphysnet.training import stream as stream_module
from ctapipe_gammaphysnet.training.index import EventIndex, read_index
from ctapipe_gammaphysnet.training.stream import (
    Images,
    TrainingStream,
    ValidationStream,
    read_images,
)

TYPE = "LST_LST_ToyCam"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A file of gammas, and one of protons with images as fixed-point numbers."""
    folder = tmp_path_factory.mktemp("stream")
    compact = [
        "--DataWriter.transform_image=True",
        "--DataWriter.transform_peak_time=True",
    ]
    return [
        toy_sample.write_toy_file(
            folder / "gamma.dl1.h5", "gamma", 30, array=small_cameras()
        ),
        toy_sample.write_toy_file(
            folder / "proton.dl1.h5",
            "proton",
            20,
            array=small_cameras(),
            options=compact,
        ),
    ]


@pytest.fixture(scope="module")
def index(files):
    query = ImageQualityQuery(quality_criteria=[])
    return EventIndex.concatenate(
        [read_index(path, n, TYPE, n, query) for n, path in enumerate(files)]
    )


@pytest.fixture(scope="module")
def truth(files, index):
    """Image, peak time and mask of each row of the index, from the event loop."""
    images = {}
    for number, path in enumerate(files):
        rows = {1: 0, 2: 0}
        with EventSource(path) as source:
            for event in source:
                for tel_id in set(rows) & set(event.trigger.tels_with_trigger):
                    dl1 = event.dl1.tel[tel_id]
                    key = number, tel_id, rows[tel_id]
                    images[key] = dl1.image, dl1.peak_time, dl1.image_mask
                    rows[tel_id] += 1
    keys = zip(index.file, index.tel_id, index.row, strict=True)
    return [np.array(column) for column in zip(*map(images.get, keys), strict=True)]


def large_index(n_files=(150, 50), n_rows=400, keep=None):
    """Index of many imagined files: each has a narrow range of rising energies."""
    signal, background = n_files
    n_all = sum(n_files)
    file = np.repeat(np.arange(n_all, dtype=np.int32), n_rows)
    n = len(file)
    none = np.zeros((n, 2), np.float32)
    index = EventIndex(
        file=file,
        obs_id=np.ones(n, np.int64),
        event_id=np.arange(n),
        tel_id=np.ones(n, np.int32),
        row=np.tile(np.arange(n_rows), n_all),
        label=(file >= signal).astype(np.int64),
        shower=np.arange(n, dtype=np.uint64),
        energy=np.concatenate(
            [np.linspace(0, 1, k * n_rows, dtype=np.float32) for k in n_files if k]
        )[:, np.newaxis],
        targets={"direction": none, "impact": none},
        pointing=none,
        axes=np.zeros((n, 4), np.float32),
    )
    return index if keep is None else index.select(keep(index))


@pytest.fixture
def no_images(monkeypatch):
    """Streams then give rows alone, without files."""
    monkeypatch.setattr(
        stream_module,
        "read_images",
        lambda paths, index, rows: Images(rows, *np.empty((3, len(rows), 0))),
    )


def rows_of_batch(images, step):
    return step, images.row


def make_stream(index, paths=None, **options):
    options = {
        "batch_size": 8,
        "signal_fraction": None,
        "window": 20,
        "seed": 1,
        "make_batch": rows_of_batch,
    } | options
    return TrainingStream(paths, index, **options)


def take(stream, n_steps, start=0):
    """Rows of the first batches from a step on, across epochs."""
    stream.step = start
    batches = []
    while len(batches) < n_steps:
        for step, rows in stream:
            assert step == start + len(batches) == stream.step - 1
            batches.append(rows)
            if len(batches) == n_steps:
                break
    stream.close()
    return batches


def assert_equal(batches, expected):
    for batch, other in zip(batches, expected, strict=True):
        np.testing.assert_array_equal(batch, other)


def assert_like_the_truth(images, truth):
    for column, expected in zip(images[1:], truth, strict=True):
        np.testing.assert_array_equal(column, expected[images.row])


# --- Images ---------------------------------------------------------------------------


def test_images_are_those_of_the_file(files, index, truth):
    """In any order, some twice, with both ways of writing them."""
    rng = np.random.default_rng(0)
    for rows in (
        np.arange(len(index)),
        rng.integers(0, len(index), 100),
        [len(index) - 1],
        [3, 3, 0, 3],
    ):
        images = read_images(files, index, rows)
        np.testing.assert_array_equal(images.row, rows)
        assert_like_the_truth(images, truth)
        assert images.image.dtype == images.peak_time.dtype == np.float32
        assert images.image_mask.dtype == bool
    assert len({image.tobytes() for image in truth[0]}) == len(index)


def test_images_are_those_of_the_file_wherever_blocks_end(
    files, index, truth, monkeypatch
):
    monkeypatch.setattr(images_module, "_BLOCK", 3)
    rows = np.random.default_rng(0).permutation(len(index))
    assert_like_the_truth(read_images(files, index, rows), truth)
    # With gaps that a selection has left.
    kept = np.flatnonzero(rows % 3 > 0)
    images = read_images(files, index.select(kept), np.arange(len(kept)))
    assert_like_the_truth(images._replace(row=kept), truth)


def test_batches_have_the_images_of_their_rows(files, index, truth):
    stream = make_stream(index, files, make_batch=lambda images, step: images)
    batches = list(stream)
    stream.close()
    assert len(batches) == len(stream) == len(index) // 8
    for images in batches:
        assert_like_the_truth(images, truth)


# --- Order ----------------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 20, 5000, 10**6])
@pytest.mark.parametrize("keep", [None, lambda index: index.row % 7 < 2])
def test_a_pass_shows_each_image_once(no_images, window, keep):
    """Also with windows smaller than a block, or larger than all."""
    index = large_index((9, 3), keep=keep)
    stream = make_stream(index, window=window, batch_size=32)
    n_epochs = 2
    rows = np.concatenate(take(stream, n_epochs * len(stream) + 2))
    for label in (0, 1):
        expected = np.flatnonzero(index.label == label)
        shown = rows[index.label[rows] == label]
        first, second = shown[: len(expected)], shown[len(expected) :]
        np.testing.assert_array_equal(np.sort(first), expected)
        assert (first[: len(second)] != second[: len(first)]).mean() > 0.9
        assert len(np.unique(second)) >= min(len(second), len(expected) - 32)


def test_batches_mix_files_and_energies(no_images):
    """Though each file has a narrow range of energies, in rising order."""
    index = large_index()
    stream = make_stream(index, window=20_000, batch_size=128)
    batches = take(stream, 2 * len(stream))
    energy = index.energy[:, 0]
    # 200 blocks of the files' 800 are in a window, from about 130 of the 200 files.
    n_files = [len(np.unique(index.file[rows])) for rows in batches]
    assert min(n_files) > 55
    # Energies are uniform between 0 and 1. A window has fewer independent ones.
    means = np.array([energy[rows].mean() for rows in batches])
    assert means.std() < 1.6 / np.sqrt(12 * 128)
    assert abs(means.mean() - 0.5) < 0.005
    deviations = [kstest(energy[rows], "uniform").statistic for rows in batches[::4]]
    # Of 128 independent ones, 0.077 is the mean, and 0.22 would be the largest.
    assert np.mean(deviations) < 0.1
    assert np.max(deviations) < 0.28
    # Nor do neighbours in a batch come from the same place.
    neighbours = [np.diff(index.file[rows]) == 0 for rows in batches]
    assert np.mean(neighbours) < 0.05


def test_the_end_of_a_pass_is_as_well_mixed(no_images):
    """Where there is a little more than fits in a window."""
    index = large_index((52, 0))
    stream = make_stream(index, window=20_000, batch_size=128)
    batches = take(stream, len(stream))
    n_files = [len(np.unique(index.file[rows])) for rows in batches]
    assert min(n_files) > 30


def test_the_start_of_the_training_is_like_its_end(no_images):
    """No class, file or energy comes first."""
    index = large_index()
    stream = make_stream(index, window=20_000, batch_size=128)
    n_early = 200
    early = np.concatenate(take(stream, n_early))
    share = len(early) / len(index)
    counts = np.bincount(index.file[early], minlength=200)
    # After a third of the epoch all files have been seen but a few.
    assert 0.2 < share < 0.4
    assert (counts > 0).mean() > 0.6
    assert abs(index.energy[early].mean() - 0.5) < 0.06


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [(None, {0: 24, 1: 8}), (0.5, {0: 16, 1: 16}), (0.0, {0: 1, 1: 31})],
)
def test_batches_have_the_share_of_signal(no_images, fraction, expected):
    index = large_index((9, 3))
    stream = make_stream(index, batch_size=32, signal_fraction=fraction)
    assert stream.counts == expected
    assert len(stream) == len(index) // 32
    for rows in take(stream, 2 * len(stream)):
        labels, counts = np.unique(index.label[rows], return_counts=True)
        assert dict(zip(labels, counts, strict=True)) == expected


def test_the_rarer_class_is_shown_more_often(no_images):
    index = large_index((9, 3))
    stream = make_stream(index, batch_size=32, signal_fraction=0.5)
    shown = np.concatenate(take(stream, len(stream)))
    counts = np.bincount(shown, minlength=len(index))
    assert set(counts[index.label == 1]) == {2}
    assert set(counts[index.label == 0]) <= {0, 1}


@pytest.mark.parametrize("n_files", [(3, 0), (0, 3)])
def test_one_class_alone(no_images, n_files):
    index = large_index(n_files)
    stream = make_stream(index, batch_size=100, signal_fraction=0.5)
    rows = np.concatenate(take(stream, len(stream)))
    np.testing.assert_array_equal(np.sort(rows), np.arange(len(index)))


def test_fewer_images_than_a_batch(no_images):
    """They are shown several times in a batch, equally often."""
    index = large_index((2, 1), n_rows=10)
    stream = make_stream(index, batch_size=96)
    assert len(stream) == 1
    batches = take(stream, 3)
    assert [len(rows) for rows in batches] == [96, 96, 96]
    counts = [np.bincount(rows, minlength=len(index)) for rows in batches]
    # 3.2 passes in each batch, which begin and end within one.
    assert np.min(counts) >= 2
    assert np.max(counts) <= 5
    assert set(sum(counts)) == {9, 10}


@pytest.mark.parametrize("start", [1, 7, 37, 38, 100])
def test_a_stream_goes_on_at_any_step(no_images, start):
    index = large_index((9, 3), keep=lambda index: index.row % 4 == 0)
    stream = make_stream(index, batch_size=32, window=300, signal_fraction=0.4)
    assert len(stream) == 37
    expected = take(stream, 120)
    assert_equal(take(stream, 120 - start, start), expected[start:])
    # Within an epoch, the rest of it comes first.
    stream.step = start
    assert len(list(stream)) == 37 - start % 37
    assert stream.step % 37 == 0
    stream.close()


def test_an_epoch_goes_on_where_the_last_one_ended(no_images):
    """Without reading anew, and whether or not it was left before its end."""
    stream = make_stream(large_index((9, 3)), batch_size=32)
    expected = take(stream, 2 * len(stream) + 5)
    stream = make_stream(large_index((9, 3)), batch_size=32)
    left = [rows for _, (_, rows) in zip(range(5), stream, strict=False)]
    assert_equal(left, expected[:5])
    found = [rows for _ in range(2) for _, rows in stream]
    assert_equal(found, expected[stream.step - len(found) : stream.step])
    stream.close()


def test_the_seed_makes_the_order(no_images):
    index = large_index((9, 3))
    first, again, other = (
        take(make_stream(index, seed=seed), 20) for seed in (1, 1, 2)
    )
    assert_equal(first, again)
    same = np.concatenate(first) == np.concatenate(other)
    assert same.mean() < 0.1


def test_epochs_have_different_orders(no_images):
    index = large_index((3, 0), n_rows=128)
    stream = make_stream(index, batch_size=128, window=10**6)
    first, second = np.concatenate(take(stream, 6)).reshape(2, -1)
    np.testing.assert_array_equal(np.sort(first), np.sort(second))
    assert (first == second).mean() < 0.1


@pytest.mark.parametrize("n_processes", [2, 3])
@pytest.mark.parametrize("fraction", [None, 0.02])
def test_processes_share_each_batch(no_images, n_processes, fraction):
    """Also where there are fewer images of a class in a batch than processes."""
    index = large_index((9, 3), keep=lambda index: index.row % 3 == 0)
    options = {"batch_size": 47, "window": 500, "signal_fraction": fraction}
    expected = take(make_stream(index, **options), 60, 5)
    parts = [
        take(make_stream(index, rank=rank, n_processes=n_processes, **options), 60, 5)
        for rank in range(n_processes)
    ]
    for whole, *shares in zip(expected, *parts, strict=True):
        sizes = [len(rows) for rows in shares]
        assert max(sizes) - min(sizes) <= 2
        np.testing.assert_array_equal(np.sort(np.concatenate(shares)), np.sort(whole))


# --- Validation -----------------------------------------------------------------------


def test_validation_shows_all_images_in_order(files, index, truth):
    stream = ValidationStream(files, index, lambda images: images, 16)
    for _ in range(2):
        batches = list(stream)
        assert len(batches) == len(stream) == -(-len(index) // 16)
        rows = np.concatenate([images.row for images in batches])
        np.testing.assert_array_equal(rows, np.arange(len(index)))
        for images in batches:
            assert_like_the_truth(images, truth)


@pytest.mark.parametrize("n_processes", [2, 3])
def test_processes_share_the_validation(no_images, n_processes):
    index = large_index((2, 1), n_rows=11)
    streams = [
        ValidationStream(None, index, lambda images: images.row, 4, rank, n_processes)
        for rank in range(n_processes)
    ]
    parts = [list(stream) for stream in streams]
    assert [len(part) for part in parts] == [len(stream) for stream in streams]
    rows = np.concatenate([rows for part in parts for rows in part])
    np.testing.assert_array_equal(rows, np.arange(len(index)))


# --- What goes wrong, and what must not grow ------------------------------------------


def spoil_end(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def spoil_table(path):
    with tables.open_file(path, "r+") as file:
        file.remove_node("/dl1/event/telescope/images/tel_001")


def spoil_chunk(path):
    with tables.open_file(path) as file:
        table = file.root.dl1.event.telescope.images.tel_001
        chunk = table.chunk_info((0,))
    content = bytearray(path.read_bytes())
    content[chunk.offset : chunk.offset + chunk.size] = bytes(chunk.size)
    path.write_bytes(content)


def test_images_of_other_events_are_an_error(files, index, tmp_path):
    """They are found by their rows, and must be of the events of the parameters."""
    copy = shutil.copy(files[1], tmp_path / "copy.dl1.h5")
    with tables.open_file(copy, "r+") as file:
        table = file.root.dl1.event.telescope.images.tel_001
        rows = table.read()
        table.modify_rows(start=0, rows=np.roll(rows, 1))
    with pytest.raises(DL1FileError, match=r"copy.dl1.h5: .*images/tel_001 does not"):
        read_images([files[0], copy], index, np.arange(len(index)))
    read_images(files, index, np.arange(len(index)))


@pytest.mark.parametrize("spoil", [spoil_end, spoil_table, spoil_chunk, None])
def test_a_damaged_file_is_named(files, index, tmp_path, spoil):
    """Whichever stream reads it, in whatever thread."""
    broken = shutil.copy(files[1], tmp_path / "broken.dl1.h5")
    if spoil is None:
        broken.unlink()
        reason = r"there is no file .*broken\.dl1\.h5"
    else:
        reason = r"broken\.dl1\.h5 cannot be read"
        spoil(broken)
    paths = [files[0], broken]
    training = make_stream(index, paths)
    validation = ValidationStream(paths, index, len, 8)
    before = threading.active_count()
    for stream in (training, validation):
        with pytest.raises(DL1FileError, match=reason):
            for _ in stream:
                pass
    training.close()
    gc.collect()
    assert threading.active_count() == before


def test_an_error_in_a_batch_is_not_lost(files, index):
    def fail(images, step):
        raise ZeroDivisionError("in the augmentation")

    stream = make_stream(index, files, make_batch=fail)
    with pytest.raises(ZeroDivisionError, match="in the augmentation"):
        next(iter(stream))
    stream.close()


def test_threads_end_when_a_stream_is_closed(files, index):
    before = set(threading.enumerate())
    stream = make_stream(index, files, window=8)
    for _ in range(3):
        next(iter(stream))
        assert set(threading.enumerate()) > before
        stream.close()
        assert set(threading.enumerate()) == before
    # And when the stream jumps: those of before are not left.
    next(iter(stream))
    n_threads = threading.active_count()
    stream.step = 11
    next(iter(stream))
    assert threading.active_count() == n_threads
    stream.close()
    # One that was never read from, or is closed twice, has none.
    stream.close()
    assert set(threading.enumerate()) == before


def test_threads_end_with_the_validation(files, index):
    """At its end, and when it is left before."""
    before = set(threading.enumerate())
    batches = iter(ValidationStream(files, index, len, 8))
    next(batches)
    assert set(threading.enumerate()) > before
    del batches
    gc.collect()
    assert set(threading.enumerate()) == before
    list(ValidationStream(files, index, len, 8))
    assert set(threading.enumerate()) == before


def test_batches_are_made_while_the_network_is_busy(files, index):
    made = []

    def make_batch(images, step):
        made.append(step)

    stream = make_stream(index, files, make_batch=make_batch)
    next(iter(stream))
    for _ in range(500):
        if len(made) > 4:
            break
        time.sleep(0.01)
    stream.close()
    # As many as are made ahead, and no more.
    assert made == list(range(5))


def test_streams_read_one_after_another(files, index):
    """PyTables' table of open files does not bear several threads."""
    busy, overlaps = [], []
    open_file = tables.open_file

    def watched(*args, **kwargs):
        overlaps.append(len(busy))
        busy.append(None)
        time.sleep(0.002)
        file = open_file(*args, **kwargs)
        busy.pop()
        return file

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "open_file", watched)
        stream = make_stream(index, files, window=8)
        for _ in zip(stream, ValidationStream(files, index, len, 8), strict=False):
            pass
        stream.close()
    assert len(overlaps) > 10
    assert not any(overlaps)


def test_memory_does_not_grow_with_the_epochs(files, index):
    stream = make_stream(index, files, make_batch=lambda images, step: images)
    process = psutil.Process()

    def train(n_epochs):
        for _ in range(n_epochs):
            for _ in stream:
                pass
        gc.collect()
        return tracemalloc.get_traced_memory()[0], process.memory_info().rss

    tracemalloc.start()
    try:
        traced, resident = zip(train(5), train(25), strict=True)
    finally:
        tracemalloc.stop()
        stream.close()
    # An epoch's images are 60 kB, and what is read ahead differs.
    assert traced[1] - traced[0] < 200_000
    assert resident[1] - resident[0] < 16e6

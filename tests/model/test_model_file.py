"""The model file: whole, unchanged, safe to read; or a clear error."""

import contextlib
import errno
import hashlib
import json
import os
import pickle
import resource
import struct
import subprocess
import sys
import textwrap
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save_file

from ctapipe_gammaphysnet.model import file as model_file
from ctapipe_gammaphysnet.model import header as model_header
from ctapipe_gammaphysnet.model.card import (
    CameraCard,
    MemberCard,
    ModelCard,
    NetworkCard,
    OpticsCard,
    TelescopeCard,
    card_to_json,
    geometry_sha256,
)
from ctapipe_gammaphysnet.model.errors import ModelFileError
from ctapipe_gammaphysnet.model.file import (
    Model,
    read_card,
    read_model,
    write_model,
)
from ctapipe_gammaphysnet.network import NetworkConfig, parameter_shapes

CHANGED = "changed or damaged after it was written"


def make_network(telescope_type, channels, seeds):
    x, y = np.mgrid[:5, :5].reshape(2, -1) * 0.05
    camera = CameraCard(
        name="Camera",
        pix_x_m=tuple(x.tolist()),
        pix_y_m=tuple(y.tolist()),
        pix_area_m2=(0.0025,) * x.size,
        pix_type="square",
        pix_rotation_deg=0.0,
        cam_rotation_deg=0.0,
        geometry_sha256=geometry_sha256(x, y),
    )
    optics = OpticsCard(
        name="Optics",
        equivalent_focal_length_m=2.15,
        effective_focal_length_m=None,
        mirror_area_m2=8.0,
        n_mirrors=2,
    )
    return NetworkCard(
        telescope=TelescopeCard(type=telescope_type, optics=optics, camera=camera),
        network=NetworkConfig(blocks=1, channels=channels, hidden=3, attention=False),
        members=tuple(MemberCard(seed=seed) for seed in seeds),
    )


def make_weights(network, rng):
    shapes = parameter_shapes(network.network, network.telescope.camera)
    return {
        name: np.array(rng.integers(2**62), "i8")
        if name.endswith("num_batches_tracked")
        else rng.normal(size=shape).astype("f4")
        for name, shape in shapes.items()
    }


def make_model(*networks):
    rng = np.random.default_rng(1)
    card = ModelCard(
        created="2030-01-31T12:00:00Z",
        software={"torch": "2.9"},
        note="demonstration",
        networks=networks,
    )
    weights = tuple(
        tuple(make_weights(network, rng) for _ in network.members)
        for network in networks
    )
    return Model(card, weights)


@pytest.fixture(scope="module")
def model():
    return make_model(make_network("SST", (2,), [123456789]))


@pytest.fixture(scope="module")
def content(model, tmp_path_factory):
    """The bytes of a model file."""
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    write_model(path, model)
    return path.read_bytes()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def parts(content):
    """Card text and tensors, (dtype, shape, bytes) by name, of a model file's bytes."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    card = header.pop("__metadata__")["card"]
    data = content[8 + length :]
    return card, {
        name: (entry["dtype"], entry["shape"], data[slice(*entry["data_offsets"])])
        for name, entry in header.items()
    }


def digest(card, tensors):
    """The digest as the format defines it."""
    fed = f"{len(card)}\n{card}\n".encode()
    for name in sorted(tensors):
        dtype, shape, data = tensors[name]
        fed += json.dumps([name, dtype, shape]).encode() + b"\n" + data
    return hashlib.sha256(fed).hexdigest()


def pack(header, data=b""):
    """Bytes of a file with a header: text, or anything JSON can express."""
    text = header if isinstance(header, str) else json.dumps(header)
    return struct.pack("<Q", len(text)) + text.encode() + data


def forge(card, tensors):
    """Bytes of a model file with a digest that fits."""
    header = {"__metadata__": {"card": card, "sha256": digest(card, tensors)}}
    position = 0
    for name, (dtype, shape, data) in tensors.items():
        end = position + len(data)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, end]}
        position = end
    return pack(header, b"".join(data for _, _, data in tensors.values()))


def refusal(path, content=None, read=read_model):
    """The message of the error that reading a file raises."""
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelFileError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert len(message) < 2000
    return message


def assert_same_weights(found, expected):
    assert [len(network) for network in found] == [len(net) for net in expected]
    for members in zip(found, expected, strict=True):
        for one, other in zip(*members, strict=True):
            assert one.keys() == other.keys()
            for name, array in one.items():
                assert array.dtype == other[name].dtype
                assert array.shape == other[name].shape
                assert array.tobytes() == other[name].tobytes()


# --- what was written is what is read


def test_round_trip(path):
    networks = make_network("LST", (2, 3), [7, 5, 6]), make_network("SST", (2,), [1])
    model = make_model(*networks)
    write_model(path, model)
    back = read_model(path)
    assert back.card == read_card(path) == model.card
    assert_same_weights(back.weights, model.weights)
    # Each member has its own weights.
    one, other = back.weights[0][:2]
    assert any((one[name] != other[name]).any() for name in one)


def test_arrays_that_are_not_contiguous(model, path):
    weights = {
        name: np.asarray(array, order="F")[..., ::-1][..., ::-1]
        if array.ndim
        else array
        for name, array in model.weights[0][0].items()
    }
    assert not all(array.flags.c_contiguous for array in weights.values())
    write_model(path, Model(model.card, ((weights,),)))
    assert_same_weights(read_model(path).weights, model.weights)


def test_format_on_disk(model, content):
    """Names, dtypes and digest are as documented: other software relies on them."""
    card, tensors = parts(content)
    assert json.loads(card) == json.loads(card_to_json(model.card))
    assert tensors.keys() == {
        f"network0.member0.{name}" for name in model.weights[0][0]
    }
    for name, (dtype, _, _) in tensors.items():
        assert dtype == ("I64" if name.endswith("num_batches_tracked") else "F32")
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert header["__metadata__"] == {"card": card, "sha256": digest(card, tensors)}


def test_forged_files_are_as_good_as_real_ones(model, content, path):
    """So that the tests below are refused for what they change, not for `forge`."""
    path.write_bytes(forge(*parts(content)))
    assert_same_weights(read_model(path).weights, model.weights)


def test_reading_order_of_the_header_does_not_matter(content, path, model):
    card, tensors = parts(content)
    path.write_bytes(forge(card, dict(reversed(tensors.items()))))
    assert_same_weights(read_model(path).weights, model.weights)


def test_permissions_are_those_of_any_new_file(model, path, tmp_path):
    (tmp_path / "other").touch()
    write_model(path, model)
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


# --- writing


def test_existing_file(model, path):
    path.write_text("precious")
    with pytest.raises(ModelFileError, match="exists already"):
        write_model(path, model)
    assert path.read_text() == "precious"
    write_model(path, model, overwrite=True)
    assert read_card(path) == model.card
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("overwrite", [False, True])
def test_write_to_folder(model, tmp_path, overwrite):
    with pytest.raises(ModelFileError, match="is a folder"):
        write_model(tmp_path, model, overwrite=overwrite)


def test_write_through_a_link(model, path, tmp_path):
    (tmp_path / "scratch").mkdir()
    path.symlink_to(tmp_path / "scratch" / "target.safetensors")
    for _ in range(2):
        write_model(path, model, overwrite=True)
        assert path.is_symlink()
        assert read_card(path) == model.card
    assert os.listdir(tmp_path / "scratch") == ["target.safetensors"]


def test_write_to_a_pipe(model, path):
    """Which is as little a file to be replaced as a device."""
    os.mkfifo(path)
    with pytest.raises(ModelFileError, match="is a pipe"):
        write_model(path, model, overwrite=True)
    assert path.is_fifo()


def test_what_the_disk_loses_is_noticed(model, path, monkeypatch):
    path.write_text("precious")
    original = type(path).write_bytes
    monkeypatch.setattr(type(path), "write_bytes", lambda p, c: original(p, c[:-9]))
    with pytest.raises(ModelFileError, match="cannot be written"):
        write_model(path, model, overwrite=True)
    assert path.read_text() == "precious"
    assert os.listdir(path.parent) == [path.name]


def test_write_to_missing_folder(model, tmp_path):
    path = tmp_path / "missing" / "model.safetensors"
    with pytest.raises(ModelFileError, match="cannot be written: No such file"):
        write_model(path, model)


@pytest.mark.parametrize("function", ["replace", "fsync"])
@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space"), KeyboardInterrupt]
)
def test_failure_leaves_the_old_file(model, path, monkeypatch, function, error):
    def fail(*args):
        assert len(os.listdir(path.parent)) == 2  # the old file and the temporary one
        raise error

    path.write_text("precious")
    monkeypatch.setattr(os, function, fail)
    expected = KeyboardInterrupt if error is KeyboardInterrupt else ModelFileError
    with pytest.raises(expected) as caught:
        write_model(path, model, overwrite=True)
    if expected is ModelFileError:
        assert str(caught.value) == f"{path} cannot be written: No space"
    assert path.read_text() == "precious"
    assert os.listdir(path.parent) == [path.name]


@contextlib.contextmanager
def file_size_limit(size):
    """Limit the size of files that the operating system lets this process write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        # Before the test ends: pytest's own output may go to a file.
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_no_room_for_the_file(model, content, path):
    """The operating system itself refuses to write more than half of the file."""
    path.write_text("precious")
    limit = len(content) // 2
    with file_size_limit(limit), pytest.raises(ModelFileError) as caught:
        write_model(path, model, overwrite=True)
    assert str(caught.value) == f"{path} cannot be written: File too large"
    assert path.read_text() == "precious"
    assert os.listdir(path.parent) == [path.name]


def change(model, name, array):
    """The same model with one array replaced, or left out if it is None."""
    weights = {**model.weights[0][0], name: array}
    if array is None:
        del weights[name]
    return Model(model.card, ((weights,),))


def name_of(tensors, ending):
    return next(name for name in tensors if name.endswith(ending))


@pytest.mark.parametrize(
    ("ending", "array", "message"),
    [
        (".weight", None, "is missing"),
        (".weight", np.zeros(1, "f4"), r"but is F32 of shape \(1,\)"),
        (".bias", np.zeros(2, "f8"), "type float64"),
        (".bias", np.zeros(2, ">f4"), "type >f4"),
        (".bias", np.zeros(2, "f2"), "type float16"),
        (".bias", np.zeros(2, "i8"), "must be F32"),
        (".num_batches_tracked", np.zeros((), "f4"), "must be I64"),
        (".running_var", np.array([1, np.nan], "f4"), "not all finite"),
        (".running_var", np.array([-np.inf, 1], "f4"), "not all finite"),
    ],
)
def test_weights_that_are_refused(model, path, ending, array, message):
    name = name_of(model.weights[0][0], ending)
    with pytest.raises(ModelFileError, match=f"{name}.*{message}"):
        write_model(path, change(model, name, array))
    assert os.listdir(path.parent) == []


def test_weights_of_no_network(model, path):
    with pytest.raises(ModelFileError, match=r"have no 'network0\.member0\.more'"):
        write_model(path, change(model, "more", np.zeros(1, "f4")))


@pytest.mark.parametrize("copies", [(0, 1), (2, 1), (1, 0), (1, 2)])
def test_wrong_number_of_weights(model, path, copies):
    networks, members = copies
    weights = ((model.weights[0][0],) * members,) * networks
    with pytest.raises(ModelFileError, match="members"):
        write_model(path, Model(model.card, weights))


def test_card_that_could_not_be_read_back(model, path):
    card = model.card.model_copy(update={"note": "x" * 5_000_000})
    with pytest.raises(ModelFileError, match="cannot be written: .*more than 5000000"):
        write_model(path, Model(card, model.weights))
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize(
    ("module", "limit"),
    [(model_header, "MAX_TENSORS"), (model_file, "MAX_HEADER_BYTES")],
)
def test_more_than_could_be_read_back(model, path, monkeypatch, module, limit):
    monkeypatch.setattr(module, limit, 5)
    with pytest.raises(ModelFileError, match="could not be read back.*fewer members"):
        write_model(path, model)
    assert os.listdir(path.parent) == []


def test_longest_card_that_may_be_written(model, path):
    """The header, where each of the card's escapes is escaped again, has room."""
    card = model.card.model_copy(update={"note": '"' * 2_490_000})
    write_model(path, Model(card, model.weights))
    assert read_card(path) == card


# --- files that are something else


def test_missing_file(path):
    assert "does not exist" in refusal(path)


@pytest.mark.parametrize("read", [read_card, read_model])
def test_folder(tmp_path, read):
    assert "is not a file" in refusal(tmp_path, read=read)


def test_pipe_does_not_block(path):
    os.mkfifo(path)
    assert "is not a file" in refusal(path)


@pytest.mark.parametrize("length", range(8))
def test_too_short(content, path, length):
    assert (
        "empty" if length == 0 else f"{length} bytes" in refusal(path, content[:length])
    )


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_is_not_opened(path, tmp_path, protocol):
    marker = tmp_path / "marker"
    content = pickle.dumps(Evil(marker), protocol)
    message = refusal(path, content)
    if protocol >= 2:  # older ones have no mark
        assert "looks like a Python pickle" in message
    assert not marker.exists()
    pickle.loads(content)
    assert marker.exists()  # so the test would have noticed


def test_torch_save_is_not_opened(path, tmp_path):
    marker = tmp_path / "marker"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(Evil(marker)))
    assert "torch.save" in refusal(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "looks like an HDF5 file"),
        (b"\x80\x04N.", "looks like a Python pickle"),
        (b"SIMPLE  =                    T", "is not a model file"),
        (bytes(1000), "is not a model file"),
        (b"\xff" * 1000, "is not a model file"),
    ],
    ids=range(5),
)
def test_other_files(path, content, message):
    assert message in refusal(path, content)


@pytest.mark.parametrize("metadata", [None, {}, {"format": "pt"}])
def test_safetensors_of_something_else(path, metadata):
    save_file({"weight": np.zeros(3, "f4")}, path, metadata)
    assert "without a model card" in refusal(path)


@pytest.mark.parametrize("seed", range(100))
def test_random_bytes(path, seed):
    rng = np.random.default_rng(seed)
    content = rng.bytes(rng.integers(1, 5000))
    if seed % 2:  # a header length that fits
        content = struct.pack("<Q", len(content) // 2) + content
    refusal(path, content)


# --- files that were changed


@pytest.mark.parametrize("seed", range(40))
def test_truncated(content, path, seed):
    length = int(np.random.default_rng(seed).integers(8, len(content)))
    message = refusal(path, content[:length])
    assert CHANGED in message


def test_truncated_while_it_is_read(content, path, monkeypatch):
    def cut(*args):
        os.truncate(path, len(content) - 3)
        return header(*args)

    header = model_file.parse_header
    monkeypatch.setattr(model_file, "parse_header", cut)
    # Large enough a file that its end is not yet in the reader's buffer.
    card, tensors = parts(content)
    tensors["more"] = zeros("F32", 100_000)
    content = forge(card, tensors)
    assert "became shorter" in refusal(path, content)


@pytest.mark.parametrize("extra", [b"\0", b" ", b"\0" * 4])
def test_extended(content, path, extra):
    assert CHANGED in refusal(path, content + extra)


def test_any_flipped_bit_is_noticed(content, path):
    header = 8 + int.from_bytes(content[:8], "little")
    rng = np.random.default_rng(0)
    version = content.index(b"format_version")
    positions = [
        *range(200),
        *range(version, version + 30),
        *rng.integers(header, size=300),
        *range(header - 20, header + 20),
        *rng.integers(header, len(content), size=200),
        len(content) - 1,
    ]
    assert read_card(_written(path, content))
    for position in positions:
        changed = bytearray(content)
        changed[position] ^= 1 << int(rng.integers(8))
        message = refusal(path, bytes(changed), read_card)
        assert (
            CHANGED in message
            # What the change makes it look like comes first.
            or "newer" in message
            or "looks like" in message
        ), (position, message)


def _written(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"123456789", b"123456780"),
        (b"demonstration", b"observations!"),
        (b"2030-01-31", b"not a date"),
        (b"format_version", b"Format_version"),
        (b'\\"blocks\\": 1', b'\\"blocks\\": 2'),
        (b"network0.member0.heads.class.bias", b"network0.member1.heads.class.bias"),
    ],
)
def test_edited_by_hand(content, path, old, new):
    assert content.count(old) == 1
    assert len(old) == len(new)
    assert "SHA-256" in refusal(path, content.replace(old, new))


def test_swapped_tensors(content, path):
    """Two tensors of one shape that trade places keep all of the bytes."""
    one, other = (
        f'"network0.member0.heads.{task}.bias"'.encode() for task in ("impact", "class")
    )
    swapped = content.replace(one, b"HERE").replace(other, one).replace(b"HERE", other)
    assert swapped != content
    assert len(swapped) == len(content)
    assert "SHA-256" in refusal(path, swapped)


# --- files made to look right


def test_newer_format(content, path):
    card, tensors = parts(content)
    newer = json.loads(card) | {"format_version": 3, "more": {}}
    message = refusal(path, forge(json.dumps(newer), tensors))
    assert message == (
        f"{path} was written by a newer ctapipe_gammaphysnet (format 3); "
        "this version reads up to 2: upgrade ctapipe_gammaphysnet"
    )


@pytest.mark.parametrize("read", [read_card, read_model])
def test_newer_format_comes_before_all_else(path, read):
    card = json.dumps({"format": "ctapipe_gammaphysnet", "format_version": 3})
    metadata = {"card": card, "sha256": "another digest"}
    tensor = {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}
    content = pack({"__metadata__": metadata, "new": tensor}, b"\0\0")
    assert "(format 3)" in refusal(path, content, read)


def test_invalid_card(content, path):
    card, tensors = parts(content)
    edited = json.loads(card)
    edited["networks"][0]["members"][0]["seed"] = -1
    message = refusal(path, forge(json.dumps(edited), tensors))
    assert "networks.0.members.0.seed" in message
    assert CHANGED not in message


@pytest.mark.parametrize("card", ["", "{}", "[" * 10_000])
def test_card_of_something_else(path, card):
    message = refusal(path, forge(card, {}))
    assert "model card cannot be used" in message


def zeros(dtype, *shape):
    return dtype, list(shape), bytes(int(np.prod(shape)) * {"F32": 4, "I64": 8}[dtype])


@pytest.mark.parametrize(
    ("ending", "tensor", "message"),
    [
        ("conv1.weight", None, "is missing"),
        ("conv1.weight", zeros("F32", 9, 2, 2), "of shape (2, 2, 9), but is"),
        ("conv1.weight", zeros("F32", 36), "but is F32 of shape (36,)"),
        ("conv1.weight", zeros("F32", 0), "but is F32 of shape (0,)"),
        ("conv1.bias", zeros("I64", 2), "must be F32"),
        ("num_batches_tracked", zeros("F32"), "must be I64"),
        ("num_batches_tracked", zeros("I64", 1), "but is I64 of shape (1,)"),
    ],
)
def test_tensors_that_do_not_fit(content, path, ending, tensor, message):
    card, tensors = parts(content)
    name = name_of(tensors, ending)
    tensors[name] = tensor
    if tensor is None:
        del tensors[name]
    found = refusal(path, forge(card, tensors))
    assert message in found
    assert repr(name) in found
    assert read_card(path)


@pytest.mark.parametrize(
    "name",
    [
        "more",
        "network0.member0.more",
        "network0.member1.heads.class.bias",
        "network1.x",
    ],
)
def test_extra_tensor(content, path, name):
    card, tensors = parts(content)
    tensors[name] = zeros("F32", 2)
    assert f"have no {name!r}" in refusal(path, forge(card, tensors))


@pytest.mark.parametrize("read", [read_card, read_model])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(content, path, value, read):
    card, tensors = parts(content)
    name = name_of(tensors, "geometry.0.weight")
    dtype, shape, data = tensors[name]
    tensors[name] = dtype, shape, data[:-4] + struct.pack("<f", value)
    message = refusal(path, forge(card, tensors), read)
    assert f"{name!r} are not all finite" in message


def test_not_finite_beyond_the_first_chunk(content, path, monkeypatch):
    monkeypatch.setattr(model_file, "_CHUNK_BYTES", 16)
    test_weights_that_are_not_finite(content, path, np.nan, read_card)
    path.write_bytes(content)
    assert read_card(path)


def test_counters_are_no_floats(content, path):
    """The bytes of an integer may be those of a NaN."""
    card, tensors = parts(content)
    name = name_of(tensors, "num_batches_tracked")
    tensors[name] = "I64", [], struct.pack("<ff", np.nan, np.nan)
    path.write_bytes(forge(card, tensors))
    assert read_model(path)


@pytest.mark.parametrize("scale", [1, 1e200])
def test_pixels_on_no_lattice(content, path, scale):
    card, tensors = parts(content)
    edited = json.loads(card)
    camera = edited["networks"][0]["telescope"]["camera"]
    x, y = np.random.default_rng(0).normal(size=(2, len(camera["pix_x_m"])))
    x[-1] *= scale
    camera["pix_x_m"], camera["pix_y_m"] = x.tolist(), y.tolist()
    camera["geometry_sha256"] = geometry_sha256(x, y)
    message = refusal(path, forge(json.dumps(edited), tensors))
    assert "no network can be built for SST" in message


ENTRY = '"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
METADATA = '"__metadata__":{"card":"{}","sha256":""}'


@pytest.mark.parametrize(
    "header",
    [
        "",
        "null",
        "[]",
        "{}",
        "{",
        "{" + ENTRY,
        "{" + ENTRY + ",}",
        "{" + ENTRY + "}}",
        "{" + ENTRY + "}x",
        "{," + ENTRY + "}",
        "{" + ENTRY + "," + ENTRY + "}",
        "{" + ENTRY + "," + ENTRY.replace('"a"', r'"\u0061"') + "}",
        "{" + METADATA + "," + METADATA + "}",
        "{" + ENTRY + ',"__metadata__":{"card":1,"sha256":""}}',
        "{" + ENTRY + ',"__metadata__":{"card":"","card":"","sha256":""}}',
        "{" + ENTRY + ',"__metadata__":{"card":{},"sha256":""}}',
        "{" + ENTRY + ',"__metadata__":[]}',
        "{" + ENTRY + r',"__metadata__":{"card":"\ud83d\ude00","sha256":""}}',
        "{" + ENTRY + r',"__metadata__":{"card":"\\\u00e9","sha256":""}}',
        '{"a":1}',
        '{"a":{}}',
        '{"a":{"dtype":"F32","shape":[1]}}',
        '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"more":1}}',
        '{"a":{"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]}}',
        '{"a":{"dtype":1,"shape":[1],"data_offsets":[0,4]}}',
        '{"a":{"dtype":"F32","shape":1,"data_offsets":[0,4]}}',
        '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,4]}}',
        '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4.0]}}',
        '{"a":{"dtype":"F32","shape":[true],"data_offsets":[0,4]}}',
        '{"a":{"dtype":"F32","shape":[-1,-1],"data_offsets":[0,4]}}',
        '{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,4]}}',
        '{"a":{"dtype":"F32","shape":[Infinity],"data_offsets":[0,4]}}',
        '{"a":{"dtype":"F32","shape":[' + "1" * 5000 + '],"data_offsets":[0,4]}}',
        '{"a":{"dtype":"F32","shape":' + "[" * 400 + ',"data_offsets":[0,4]}}',
        '{"' + "a" * 600 + '":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        '{"γ":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"a":' + "[" * 100_000,
        '"' * 100_001,
        "\\" * 100_000,
        '{"' + "\\" * 100_001,
    ],
    ids=range(42),
)
def test_malformed_header(path, header):
    assert "is not a model file" in refusal(path, pack(header, bytes(4)))


@pytest.mark.parametrize(
    "tensors",
    [
        [("F32", [1], [0, 4])],  # eight bytes of data, four of them of no tensor
        [("F32", [3], [0, 12])],
        [("F32", [2], [0, 4])],
        [("F32", [1], [4, 8])],
        [("F32", [1], [0, 4]), ("F32", [1], [0, 4])],
        [("F32", [1], [0, 4]), ("F32", [2], [0, 8])],
        [("F32", [2], [8, 0])],
        [("F64", [1], [0, 8])],
        [("F32", [2**63, 2**63], [0, 8])],
        [("F32", [2**63, 2], [0, 2**66])],
    ],
)
def test_layout_that_does_not_cover_the_data(path, tensors):
    header = {"__metadata__": {"card": "{}", "sha256": ""}}
    for index, (dtype, shape, offsets) in enumerate(tensors):
        header[str(index)] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
    assert "does not fit its data" in refusal(path, pack(header, bytes(8)))


def test_too_many_tensors(content, path, monkeypatch):
    _, tensors = parts(content)
    path.write_bytes(content)
    monkeypatch.setattr(model_header, "MAX_TENSORS", len(tensors))
    assert read_card(path)
    monkeypatch.setattr(model_header, "MAX_TENSORS", len(tensors) - 1)
    assert f"more than {len(tensors) - 1} tensors" in refusal(path)


def test_many_members_can_be_read(path):
    """Of so many tensors that their number is compared with the card's."""
    model = make_model(make_network("SST", (2,), range(50)))
    write_model(path, model)
    assert read_card(path) == model.card
    assert_same_weights(read_model(path).weights, model.weights)


def many_tensors(card, key="data_offsets"):
    """Headers of more tensors than the card describes, parsed in seconds."""
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    header = {} if card is None else {"__metadata__": {"card": card, "sha256": ""}}
    text = json.dumps(header | dict.fromkeys(map(str, range(50_000)), entry))
    return text.replace('"data_offsets"', f'"{key}"')


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (many_tensors, "50000 tensors, but its card describes 23"),
        (lambda _: many_tensors(None), "50000 tensors, but no valid card"),
        (lambda _: many_tensors("{}"), "50000 tensors, but no valid card"),
        (
            lambda card: many_tensors(card, r"data\u005foffsets"),
            "more than 1000 tensors",
        ),
        (
            lambda card: many_tensors(card.replace('version": 2', 'version": 9', 1)),
            "written by a newer",
        ),
    ],
)
def test_many_tensors_are_refused_without_parsing_them(
    content, path, monkeypatch, make, message
):
    card, _ = parts(content)
    parsed = []
    parse = model_header._parse_tensor
    monkeypatch.setattr(
        model_header, "_parse_tensor", lambda text: parsed.append(1) or parse(text)
    )
    assert message in refusal(path, pack(make(card)))
    assert len(parsed) <= model_header.FEW_TENSORS


def test_more_tensors_than_any_model_has(path):
    header = '"data_offsets"' * (model_header.MAX_TENSORS + 1)
    assert "more than 100000 tensors" in refusal(path, pack(header))


# --- files made to take all of the memory


def hostile_files(content):
    """Yield names and bytes of files that would take a lot of memory if parsed."""
    card, tensors = parts(content)
    largest = 16 * 1024**2

    def with_card(edit):
        values = json.loads(card)
        edit(values["networks"][0])
        return forge(json.dumps(values), tensors)

    def training(value):
        return with_card(lambda network: network.update(training={"x": value}))

    def card_text(text):
        return forge(text, tensors)

    yield "lists in header", pack("[" * largest)
    yield "empty lists", pack('{"a":[' + "[]," * (largest // 3 - 10))
    yield "spaces", pack(" " * largest)
    escapes = r"\ud83d\ude00" + "a" * 9_999_900  # four bytes each
    yield "escapes", pack('{"__metadata__":{"card":"' + escapes + '","sha256":""}}')
    pairs = ",".join(f'"{index}":""' for index in range(1_000_000))
    yield "metadata", pack('{"__metadata__":{' + pairs + "}}")
    yield "quotes", pack('{"__metadata__":{"card":"' + r"\"" * (largest // 2 - 50))
    yield "unescaped", pack('{"a' + "😀" * (largest // 4 - 10))
    many = {
        f"a{i}": {"dtype": "F32", "shape": [1], "data_offsets": [4 * i, 4 * i + 4]}
        for i in range(99_999)
    }
    metadata = {"card": card, "sha256": "0" * 64}
    text = json.dumps({"__metadata__": metadata} | many, separators=(",", ":"))
    yield "many tensors", pack(text, bytes(4 * len(many)))
    lists = '"training": {"x": [' + "[]," * 1_600_000 + "[]]}"
    yield "lists in card", card_text(card.replace('"training": {}', lists, 1))
    yield "dicts in card", training([{"a": 1.5} for _ in range(19_000)])
    yield "text in card", training(["a" * 4_900_000])
    yield "numbers in card", training([float(i) for i in range(199_000)])
    yield "objects in card", training({str(i): {} for i in range(19_900)})
    wrong = ["a"] * 49_000
    yield (
        "errors in card",
        with_card(
            lambda network: network["telescope"]["camera"].update(
                pix_x_m=wrong, pix_y_m=wrong, pix_area_m2=wrong
            )
        ),
    )
    yield (
        "errors in network",
        with_card(lambda network: network["network"].update(channels=["a"] * 199_000)),
    )
    yield (
        "errors at top",
        card_text(
            '{"format":"ctapipe_gammaphysnet","networks":[' + "1," * 199_000 + "1]}"
        ),
    )


MEASURE = """
    import os, pathlib, sys
    from ctapipe_gammaphysnet.model.errors import ModelFileError
    from ctapipe_gammaphysnet.model.file import read_card

    def peak():
        status = pathlib.Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    def measure(path):
        pathlib.Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        before = peak()
        try:
            read_card(path)
            outcome = "read"
        except ModelFileError:
            outcome = "refused"
        print(path, peak() - before, outcome, sep="\\t", flush=True)

    # Each file in a process of its own: memory that was used once stays mapped.
    for path in sys.argv[1:]:
        child = os.fork()
        if child == 0:
            measure(path)
            os._exit(0)
        os.waitpid(child, 0)
"""


def test_hostile_files_take_little_memory(content, tmp_path):
    paths = [tmp_path / "length", tmp_path / "giant"]
    paths[0].write_bytes(struct.pack("<Q", 2**63) + bytes(100))
    with open(paths[1], "wb") as file:
        file.write(struct.pack("<Q", 2**30))
        file.truncate(2**30 + 8)
    for name, hostile in hostile_files(content):
        paths.append(tmp_path / name)
        paths[-1].write_bytes(hostile)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MEASURE), *paths],
        capture_output=True,
        text=True,
        check=True,
    )
    growth = dict(line.split("\t")[:2] for line in done.stdout.splitlines())
    assert growth.keys() == set(map(str, paths))
    assert max(map(float, growth.values())) < 100, done.stdout


def test_large_network_is_not_built(content, path):
    """In memory, it would take more than 10 GB."""
    card, tensors = parts(content)
    edited = json.loads(card)
    largest = {"blocks": 64, "channels": [1024, 1024], "hidden": 4096}
    edited["networks"][0]["network"] |= largest
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    message = refusal(path, forge(json.dumps(edited), tensors))
    assert "must be F32 of shape (1024, 2, 9), but is F32 of shape (2, 2, 9)" in message
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # in kB
    assert growth < 100_000

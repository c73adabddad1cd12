"""Files that were made to harm: pickles that call, archives and headers that lie."""

import json
import os
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from tables import refused

import fastrnn
from fastrnn.interop import from_torch
from fastrnn.interop.archive import Archive, opened
from fastrnn.interop.torch_files import contents

MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}q\x00."  # of old files
SLACK = 40 << 20


def written(directory, kind, data, members=()):
    """A file with a pickle in it."""
    path = directory / "hostile.pt"
    if kind == "old":
        path.write_bytes(MAGIC + data)
        return path
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        for name, content in members:
            archive.writestr(f"archive/{name}", content)
    return path


def require_refused(path, match=None, **options):
    """One ValueError that names the file, in little memory."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=match) as raised:
            from_torch(path, **options)
        assert tracemalloc.get_traced_memory()[1] < 2 * path.stat().st_size + SLACK
    finally:
        tracemalloc.stop()
    assert path.name in str(raised.value)


class Calls:
    """What a pickle of it calls."""

    def __init__(self, function, *arguments):
        self.called = function, arguments

    def __reduce__(self):
        return self.called


@pytest.mark.parametrize("kind", ["archive", "old"])
@pytest.mark.parametrize("function", [os.system, eval, open, getattr])
@refused("from_torch", "files that call functions", "nothing is executed")
def test_no_function_is_called(function, kind, tmp_path):
    data = pickle.dumps({"lstm": Calls(function, f"{tmp_path}/made", "x")}, protocol=2)
    name = f"{function.__module__}.{function.__name__}".replace("posix.", "(posix|nt).")
    require_refused(written(tmp_path, kind, data), f"calls '{name}'.*Nothing was executed")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_no_function_is_called_by_any_protocol(protocol, tmp_path):
    data = pickle.dumps([Calls(os.mkdir, f"{tmp_path}/made")], protocol=protocol)
    require_refused(written(tmp_path, "archive", data), "mkdir'.*Nothing was executed")
    assert not (tmp_path / "made").exists()


CALLING = {
    "INST": b"(S'echo'\nios\nsystem\n.",
    "OBJ": b"(cos\nsystem\nS'echo'\no.",
    "a result": b"cbuiltins\ngetattr\ncos\nsystem\nS'name'\n\x86R(S'echo'\ntR.",
    "a method": b"ctorch._C\n_VariableFunctionsClass\ncbuiltins\ngetattr\n\x85R.",
    "an object": b"\x80\x02cx\nY\n)\x81(S'a'\ntR.",
    "through another": b"ctorch._tensor\n_rebuild_from_type_v2\n(cos\nsystem\nctorch\nTensor\n(S'a'\ntNtR.",
    "an extension": b"\x82\x01.",
    "a named object": b"P17\n.",
    "buffers": b"\x80\x05\x97.",
}


@pytest.mark.parametrize("data", CALLING.values(), ids=CALLING)
def test_other_ways_to_call_are_none(data, tmp_path):
    require_refused(written(tmp_path, "archive", data))


MALFORMED = {
    "empty": b"",
    "no pickle": b"PK\x03\x04 is not it",
    "nothing on the stack": b"\x80\x02.",
    "no mark": b"\x80\x02t.",
    "no end": b"\x80\x02]",
    "a memo that is not there": b"\x80\x02h\x05.",
    "an unknown opcode": b"\x80\x02\xff.",
    "a string of four gigabytes": b"\x80\x02X\xff\xff\xff\xffa.",
    "a string of exabytes": b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7fa.",
    "bytes of exabytes": b"\x80\x05\x8e" + b"\xff" * 7 + b"\x7fa.",
    "an array of exabytes": b"\x80\x05\x96" + b"\xff" * 7 + b"\x7fa.",
    "a number of two gigabytes": b"\x80\x02\x8b\xff\xff\xff\x7f1.",
    "a negative length": b"\x80\x02\x8b\xff\xff\xff\xff1.",
    "many digits": b"I" + b"9" * 20_000 + b"\n.",
    "no string": b"\x80\x02X\x02\x00\x00\x00\xff\xfe.",
    "a place of the memo far away": b"\x80\x02Nr\xff\xff\xff\x7f.",
    "deep lists": b"\x80\x02" + b"]" * 20_000 + b"a" * 19_999 + b".",
    "deep tuples": b"\x80\x02)" + b"\x85" * 20_000 + b".",
    "deep dicts": b"\x80\x02" + b"}" * 50_000 + b"U\x01x}" + b".",
    "deep names": b"\x80\x02}X" + struct.pack("<I", 20_000) + b"a." * 20_000 + b"Ns.",
    "deep tuples as a key": b"\x80\x02})" + b"\x85" * 20_000 + b"Ns.",
    "a cycle of lists": b"\x80\x02]q\x00h\x00a.",
    "a cycle of dicts": b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.",
    "a list as a key": b"\x80\x02}]Ns.",
    "equal hashes": b"\x80\x02}(" + b"".join(
        b"\x8a\x0a" + (k * (2**61 - 1)).to_bytes(10, "little") + b"N" for k in range(1, 9)
    ) + b"u.",
    "items of no dict": b"\x80\x02]NNs.",
    "a list of many": b"\x80\x02]q\x00" + b"(h\x00ecollections\nOrderedDict\n" + b".",
    "a billion laughs": b"\x80\x02]q\x00" + b"".join(
        b"](" + b"h%c" % (k,) * 10 + b"eq%c" % (k + 1,) for k in range(60)
    ) + b".",
    "many objects": b"\x80\x02" + b"]" * 600_000 + b".",
    "many copies":
    b"\x80\x02(" + b"K\x01" * 1000 + b"lq\x000" + b"cbuiltins\nlist\nh\x00\x85R" * 20_000 + b".",
    "attributes in a long tuple, many times":
    b"\x80\x02(" + b"N" * 100_000 + b"tq\x000" + b"cx\nY\n)\x81" + b"h\x00b" * 100_000 + b".",
    "pairs that are long lists":
    b"\x80\x02(" + b"N" * 100_000 + b"lq\x000(" + b"h\x00" * 100_000
    + b"lq\x010ccollections\nOrderedDict\nh\x01\x85R.",
    "many attributes": b"\x80\x02}(" + b"".join(b"J%sN" % struct.pack("<i", k) for k in range(5000))
    + b"uq\x000" + b"cx\nY\n)\x81h\x00b" * 5000 + b".",
}  # fmt: skip


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
@refused("from_torch", "damaged and hostile files", "in at most twice their size of memory")
def test_pickles_that_lie_are_refused(data, tmp_path):
    require_refused(written(tmp_path, "archive", data), layers=True)


def tensor(storage="FloatStorage", key="0", count=20, offset=0, shape=(20, 1), strides=(1, 1)):
    """A state dict with such a tensor, as a pickle."""
    numbers = b"".join(pickle.dumps(each, protocol=2)[2:-1] for each in (offset, shape, strides))
    storage = (
        b"(" + pickle.dumps("storage", 2)[2:-1] + f"ctorch\n{storage}\n".encode()
        + pickle.dumps(key, 2)[2:-1] + pickle.dumps("cpu", 2)[2:-1] + pickle.dumps(count, 2)[2:-1] + b"tQ"
    )  # fmt: skip
    built = (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + numbers + b"\x89ccollections\nOrderedDict\n)RtR"
    )
    return (
        b"\x80\x02}(X\x0c\x00\x00\x00weight_ih_l0" + built + b"X\x0c\x00\x00\x00weight_hh_l0" + built + b"u."
    )


def test_a_plain_tensor_is_read(tmp_path):
    path = written(
        tmp_path, "archive", tensor(shape=(4, 1), count=4), [("data/0", np.ones(4, "f4").tobytes())]
    )
    layer = from_torch(path, batch_first=True)
    assert (layer.hidden_size, layer.input_size) == (1, 1)
    assert (layer.parameters["weight_hh_l0"] == 1).all()


TENSORS = {
    "behind its storage": {"offset": 1},
    "negative offset": {"offset": -1},
    "huge offset": {"offset": 2**70},
    "strides beyond": {"strides": (2, 1)},
    "negative strides": {"strides": (-1, 1)},
    "expanded": {"shape": (20, 10**9), "strides": (1, 0)},
    "overlapping": {"shape": (10, 10), "strides": (1, 1)},
    "other axes": {"shape": (20,)},
    "many axes": {"shape": (1,) * 100, "strides": (1,) * 100},
    "no numbers": {"shape": ("a", 1)},
    "negative shape": {"shape": (-20, -1)},
    "longer than its member": {"count": 10**9, "shape": (10**9, 1)},
    "shorter than its member": {"count": 4, "shape": (4, 1)},
    "a member that is not there": {"key": "1"},
    "a member elsewhere": {"key": "../../etc/passwd"},
    "of integers": {"storage": "CharStorage", "shape": (4, 1), "count": 80},
    "of complex numbers": {"storage": "ComplexFloatStorage", "shape": (4, 1), "count": 10},
    "of an unknown class": {"storage": "Popen", "shape": (4, 1)},
}


@pytest.mark.parametrize("options", TENSORS.values(), ids=TENSORS)
def test_tensors_stay_within_their_storage(options, tmp_path):
    path = written(tmp_path, "archive", tensor(**options), [("data/0", bytes(80))])
    require_refused(path, batch_first=True)


def test_tensors_that_share_their_numbers_are_no_bomb(tmp_path):
    names = [f"lstm{k}." for k in range(100)]
    one = tensor(count=4 * 64 * 64, shape=(256, 64), strides=(64, 1), key="0")[4:-2]
    data = b"\x80\x02}(" + b"".join(
        b"X" + struct.pack("<I", len(name)) + name.encode() + b"}(" + one + b"u" for name in names
    ) + b"u."  # fmt: skip
    path = written(tmp_path, "archive", data, [("data/0", bytes(4 * 4 * 64 * 64))])
    require_refused(path, "twice the size", layers=True, batch_first=True)


def test_plain_objects_are_inert(tmp_path):
    """Objects of any class may be beside the weights: they are not made."""
    data = (
        tensor(shape=(4, 1), count=4)[:-2]
        + b"X\x01\x00\x00\x00acsubprocess\nPopen\n)\x81}X\x01\x00\x00\x00aK\x01sbu."
    )
    path = written(tmp_path, "archive", data, [("data/0", bytes(16))])
    assert from_torch(path, batch_first=True).hidden_size == 1


# -- archives


def archive(path, *members, **options):
    with zipfile.ZipFile(path, "w", **options) as made:
        for name, content in members:
            made.writestr(name, content)
    return path


def patched(path, place, data):
    content = bytearray(path.read_bytes())
    content[place : place + len(data)] = data
    path.write_bytes(content)
    return path


def test_an_archive_is_read(tmp_path):
    path = archive(tmp_path / "a.zip", ("a/b", b"one"), ("c", b"two" * 10), compression=zipfile.ZIP_DEFLATED)
    with Archive(path) as read:
        assert read.sizes == {"a/b": 3, "c": 30}
        assert read.read("c") == b"two" * 10
        with pytest.raises(ValueError, match=r"a\.zip' has no member 'd'"):
            read.read("d")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_that_lie_are_refused(tmp_path):
    def refuse(path, match):
        with pytest.raises(ValueError, match=match) as raised, Archive(path) as read:
            for member in read.sizes:
                read.read(member)
        assert path.name in str(raised.value)

    deflated = {"compression": zipfile.ZIP_DEFLATED}
    bomb = archive(tmp_path / "bomb.zip", ("a", bytes(50_000_000)), **deflated)
    refuse(bomb, "50,000,000 bytes in a file of .*, more than twice its size: write it uncompressed")
    refuse(archive(tmp_path / "twice.zip", ("a", b"1"), ("a", b"2")), "member 'a' is there twice")
    refuse(archive(tmp_path / "bz2.zip", ("a", b"1"), compression=zipfile.ZIP_BZIP2), "by method 12")
    refuse(archive(tmp_path / "lzma.zip", ("a", b"1"), compression=zipfile.ZIP_LZMA), "by method 14")

    plain = archive(tmp_path / "a.zip", ("a", b"1" * 100), ("b", b"2" * 100))
    content = plain.read_bytes()
    central = content.index(b"PK\x01\x02")
    second = content.index(b"PK\x01\x02", central + 1)

    def changed(place, data):
        plain.write_bytes(content)
        return patched(plain, place, data)

    refuse(changed(central + 8, b"\x01"), "member 'a' is encrypted")
    refuse(changed(second + 42, struct.pack("<I", 0)), "overlaps|differ")
    refuse(changed(second + 42, struct.pack("<I", 40)), "overlaps")
    refuse(changed(central + 20, struct.pack("<II", 2**31, 2**31)), "overlaps|twice its size")
    refuse(changed(central + 24, struct.pack("<I", 200)), "200|damaged|CRC|cannot be read")
    refuse(changed(central + 24, struct.pack("<I", 50)), "CRC|cannot be read")
    refuse(changed(40, b"x"), "CRC.* it is damaged, or was written without checksums")
    refuse(changed(30, b"x"), "differ")
    refuse(changed(len(content) - 10, struct.pack("<I", 2**31)), "cannot be read as a zip archive")
    refuse(changed(len(content) - 6, struct.pack("<I", 2**31)), "cannot be read as a zip archive")
    plain.write_bytes(content[:-30])
    refuse(plain, "cannot be read as a zip archive: its end is missing")
    refuse(archive(tmp_path / "many.zip", *((f"{k:040}", b"") for k in range(15_000))), "directory is longer")


def test_a_file_that_somebody_writes_anew_while_it_is_read(tmp_path):
    """Mapped into memory it would end the process."""
    data = tensor(shape=(4, 1), count=4) + b"\x80\x02](X\x01\x00\x00\x000e." + struct.pack("<q", 4)
    path = written(tmp_path, "old", data + np.ones(4, "f4").tobytes())
    with contents(path) as content:
        os.truncate(path, 0)
        assert (content.held["weight_ih_l0"].array() == 1).all()


def test_only_regular_files_are_opened(tmp_path):
    with pytest.raises(FileNotFoundError), opened(tmp_path / "no.pt"):
        pass
    with pytest.raises(IsADirectoryError), opened(tmp_path):
        pass
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.pt")
        for path in (tmp_path / "pipe.pt", "/dev/zero"):
            with pytest.raises(ValueError, match="must be a regular file"), opened(path):
                pass
            with pytest.raises(ValueError, match="must be a regular file"):
                from_torch(path)


# -- other formats


def safetensors(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.mark.parametrize(
    "header",
    [
        b"{",
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        {"a": 1},
        {"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 17]}},
        {"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 16]}},
        {"a": {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}},
        {"a": {"dtype": "F32", "shape": [400], "data_offsets": [0, 1600]}},
        {"a": {"dtype": "F4711", "shape": [4], "data_offsets": [0, 16]}},
        {"a" + "." * 100_000: {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}},
        b'{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},'
        b'"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}',
    ],
)
def test_safetensors_that_lie_are_refused(header, tmp_path):
    require_refused(safetensors(tmp_path / "a.safetensors", header, bytes(16)), "a.safetensors", layers=True)


def npy(header, data, version=b"\x01\x00"):
    text = (header + "\n").encode()
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000,)}", bytes(16)),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-4,)}", bytes(16)),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}", bytes(16)),
        npy("{'descr': '|O', 'fortran_order': False, 'shape': (4, 1)}", pickle.dumps(Calls(eval, "1/0"))),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': " + "(" * 500, bytes(16)),
        npy("{'descr': __import__('os'), 'fortran_order': False, 'shape': (4,)}", bytes(16)),
    ],
)
def test_npz_that_lie_are_refused(content, tmp_path):
    path = archive(tmp_path / "a.npz", ("weight_ih_l0.npy", content), ("weight_hh_l0.npy", content))
    require_refused(path, batch_first=True)


def test_other_files_are_told_apart(tmp_path):
    for content, match in (
        (b"", "none of PyTorch's, no safetensors and no npz"),
        (b"hello, world", "not a file of named tensors"),
        (pickle.dumps({"weight_ih_l0": 1}, protocol=2), "not one that PyTorch wrote"),
    ):
        (tmp_path / "a.pt").write_bytes(content)
        require_refused(tmp_path / "a.pt", match)
    require_refused(archive(tmp_path / "a.zip", ("b.txt", b"c")), "a zip archive, but without")
    with pytest.raises(FileNotFoundError):
        from_torch(tmp_path / "no.pt")


def test_what_a_refusal_says_can_be_read(tmp_path):
    """Names in a file may be long, and move the cursor of a terminal."""
    for name in ("a" * 1_000_000, "\x1b[2J\n\r\u202e\x00" * 1000):
        header = {f"{name}.weight_hh_l0": {"dtype": "F32", "shape": [4, 1], "data_offsets": [0, 16]}}
        path = safetensors(tmp_path / "a.safetensors", header, bytes(16))
        other = archive(tmp_path / "b.zip", (name[:50_000].replace("\x00", ""), b""))
        for read, each in ((from_torch, path), (fastrnn.load, path), (fastrnn.load, other)):
            with pytest.raises(ValueError) as raised:
                read(each)
            said = str(raised.value)
            assert each.name in said and len(said) < 2100 and said.isprintable()

"""Files with something wrong: what readers of other systems' files must answer with one ValueError."""

import io
import struct
import tracemalloc
import zipfile

import numpy as np

SLACK = 40 << 20  # what a reader may need besides twice the file's size: Python's own objects, and imports

HOSTILE = [0, 1, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**48, 2**63 - 1, 2**64 - 1]


def mutated(data, rng):
    """The same bytes but for one to four pieces: inside the members, where it is a zip archive."""
    if data[:2] == b"PK" and rng.random() < 0.7:
        return _of_archive(data, rng)
    for _ in range(rng.integers(1, 5)):
        data = MUTATIONS[rng.integers(len(MUTATIONS))](data, rng)
    return data


def _of_archive(data, rng):
    """One member mutated, in an archive that fits it: else the checksum would be all that is ever tested."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = list(members)[rng.integers(len(members))]
    what = rng.random()
    if what < 0.1:
        del members[name]
    elif what < 0.2:
        members[str(rng.choice(list(members)))] = members[name]
    else:
        for _ in range(rng.integers(1, 5)):
            members[name] = MUTATIONS[rng.integers(len(MUTATIONS))](members[name], rng)
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return written.getvalue()


def _place(data, rng):
    """Anywhere, but more often at the start or the end, where headers are."""
    if rng.random() < 0.5:
        return int(rng.integers(len(data) + 1))
    near = min(len(data), int(rng.integers(1, 512)))
    return near if rng.random() < 0.5 else len(data) - near


def _flip(data, rng):
    if not data:
        return b"\0"
    changed = bytearray(data)
    changed[min(_place(data, rng), len(data) - 1)] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _overwrite(data, rng):
    start = _place(data, rng)
    piece = rng.bytes(int(rng.integers(1, 9)))
    return data[:start] + piece + data[start + len(piece) :]


def _number(data, rng):
    form = str(rng.choice(["<B", "<H", "<I", "<Q", ">I", ">Q"]))
    number = HOSTILE[rng.integers(len(HOSTILE))] % 256 ** struct.calcsize(form)
    piece, start = struct.pack(form, number), _place(data, rng)
    return data[:start] + piece + data[start + len(piece) :]


def _text(data, rng):
    """Digits of a header in JSON or in a literal."""
    places = [place for place in range(min(len(data), 4096)) if 48 <= data[place] < 58]
    if not places:
        return _number(data, rng)
    place = places[rng.integers(len(places))]
    return data[:place] + str(HOSTILE[rng.integers(len(HOSTILE))]).encode() + data[place + 1 :]


def _remove(data, rng):
    start = _place(data, rng)
    return data[:start] + data[start + int(rng.integers(1, 64)) :]


def _insert(data, rng):
    start = _place(data, rng)
    return data[:start] + rng.bytes(int(rng.integers(1, 64))) + data[start:]


def _repeat(data, rng):
    start = _place(data, rng)
    return data[:start] + data[start : start + int(rng.integers(1, 256))] * 2 + data[start:]


def _move(data, rng):
    first, second = sorted((_place(data, rng), _place(data, rng)))
    return data[:first] + data[second : second + 32] + data[first:]


def _cut(data, rng):
    return data[: _place(data, rng)]


MUTATIONS = [_flip, _overwrite, _number, _text, _remove, _insert, _repeat, _move, _cut]


def survives(read, files, count, directory, seed=0):
    """Read `count` mutations of some files, each as `refuses` has it.

    Parameters
    ----------
    read : callable
        Takes a path.
    files : sequence of Path
    count : int
    directory : Path
        Where a file is left that fails.

    Returns
    -------
    int
        How many were refused.
    """
    rng, refused = np.random.default_rng(seed), 0
    files = sorted(files)
    assert files
    contents = {file: file.read_bytes() for file in files}
    for file in files:
        read(file)
    for done in range(count):
        file = files[done % len(files)]
        path = directory / f"mutated{file.suffix}"
        path.write_bytes(mutated(contents[file], rng))
        refused += refuses(read, path, f"{file.name}, {done}")
    return refused


def refuses(read, path, of):
    """Whether a file is refused: with a ValueError that names it; else it loads, and in either case in no
    more memory than it may take. ``of`` says in errors which file it was."""
    tracemalloc.start()
    try:
        read(path)
        return False
    except ValueError as error:
        assert path.name in str(error), f"{path} ({of}): not named by {error}"
        return True
    except Exception as error:
        raise AssertionError(f"{path} ({of}): {error!r}") from error
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        limit = 2 * path.stat().st_size + SLACK
        assert peak < limit, f"{path} ({of}): {peak:,} bytes of memory"

"""Places in a file system for a file of some content, and what happens to who reads or writes there."""

import os
import resource
import socket
import threading

SMALL = 16 << 10  # bytes of a file where that is limited, or of what is left of a disk


def a_file(folder, name, content, during):
    (folder / name).write_bytes(content)
    return folder / name


def no_file(folder, name, content, during):
    return folder / name


def an_empty_file(folder, name, content, during):
    return a_file(folder, name, b"", during)


def nowhere(folder, name, content, during):
    return folder / "nowhere" / name


def a_directory(folder, name, content, during):
    (folder / name).mkdir()
    return folder / name


def below_a_file(folder, name, content, during):
    return a_file(folder, "aim", content, during) / name


def link(to):
    def place(folder, name, content, during):
        a_file(folder, "file", content, during)
        (folder / name).symlink_to(to or name)
        return folder / name

    return place


def a_socket(folder, name, content, during):
    server = during.enter_context(socket.socket(socket.AF_UNIX))
    server.bind(os.path.relpath(folder / name))  # whose paths must be short
    return folder / name


def a_long_name(folder, name, content, during):
    return folder / ("x" * 300 + name)


def a_long_path(folder, name, content, during):
    return folder / ("x/" * 2500 + name)


def bytes_that_are_no_text(folder, name, content, during):
    return a_file(folder, os.fsdecode(b"caf\xe9") + name, content, during)


def a_protected_file(folder, name, content, during):
    path = a_file(folder, name, content, during)
    path.chmod(0)
    during.callback(path.chmod, 0o600)
    return path


def in_a_locked_directory(folder, name, content, during):
    (folder / "locked").mkdir()
    path = a_file(folder / "locked", name, content, during)
    path.parent.chmod(0)
    during.callback(path.parent.chmod, 0o700)
    return path


def a_read_only_directory(folder, name, content, during):
    path = in_a_locked_directory(folder, name, content, during)
    path.parent.chmod(0o500)
    return path


def a_pipe(folder, name, content, during):
    os.mkfifo(folder / name)
    return folder / name


def a_pipe_that_is_read(folder, name, content, during):
    path = a_pipe(folder, name, content, during)
    reader = threading.Thread(target=lambda: path.read_bytes(), daemon=True)
    reader.start()
    during.callback(reader.join, 1)  # not for ever, where a writer puts a file in its place
    return path


def a_limited_file(folder, name, content, during):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    path = a_file(folder, name, content, during)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL, limits[1]))
    during.callback(resource.setrlimit, resource.RLIMIT_FSIZE, limits)
    return path


def a_full_disk(folder, name, content, during):
    """On the disk beside the folder, if there is one: it is filled but for `SMALL`."""
    disk = folder.parent / "disk"
    path = a_file(disk, name, content, during)
    during.callback(path.unlink)
    found = os.statvfs(disk)
    a_file(disk, "filling", bytes(found.f_bavail * found.f_bsize - SMALL), during)
    during.callback((disk / "filling").unlink)
    return path


def a_file_that_comes_and_goes(folder, name, content, during):
    path, done = a_file(folder, name, content, during), threading.Event()

    def move():
        while not done.is_set():
            os.rename(path, folder / "aim")
            os.rename(folder / "aim", path)

    thread = threading.Thread(target=move)
    thread.start()
    during.callback(thread.join)
    during.callback(done.set)
    return path


DONE, REFUSED, EITHER = "done", "refused", "done or refused"

#: Each with what is expected of a reader and of a writer, None where there is nothing to try.
PLACES = {
    "a file": (a_file, DONE, DONE),
    "no file": (no_file, REFUSED, DONE),
    "an empty file": (an_empty_file, REFUSED, DONE),
    "a missing directory": (nowhere, REFUSED, REFUSED),
    "a directory": (a_directory, REFUSED, REFUSED),
    "a file in the place of a directory": (below_a_file, REFUSED, REFUSED),
    "a link to a file": (link("file"), DONE, DONE),
    "a link to nothing": (link("aim"), REFUSED, DONE),
    "a link into a missing directory": (link("nowhere/aim"), REFUSED, REFUSED),
    "a loop of links": (link(None), REFUSED, REFUSED),
    "a socket": (a_socket, REFUSED, REFUSED),
    "a long name": (a_long_name, REFUSED, REFUSED),
    "a long path": (a_long_path, REFUSED, REFUSED),
    "a name that is not UTF-8": (bytes_that_are_no_text, DONE, DONE),
    "a protected file": (a_protected_file, REFUSED, REFUSED),
    "a file in a locked directory": (in_a_locked_directory, REFUSED, REFUSED),
    "a file in a read-only directory": (a_read_only_directory, DONE, REFUSED),
    "a pipe with nobody at its other end": (a_pipe, REFUSED, REFUSED),
    "a pipe that is read": (a_pipe_that_is_read, None, DONE),
    "a link to the null device": (link("/dev/null"), REFUSED, DONE),
    "a link to a device of zeros": (link("/dev/zero"), REFUSED, DONE),
    "a link to a full device": (link("/dev/full"), REFUSED, REFUSED),
    "a file that may not grow": (a_limited_file, DONE, REFUSED),
    "a full disk": (a_full_disk, DONE, REFUSED),
    "a file that comes and goes": (a_file_that_comes_and_goes, EITHER, EITHER),
}

"""Forked children: what they say, how they end, and that none is left behind."""

import os
import select
import signal
import time
import traceback
import warnings


class Child:
    """A fork of this process that does one thing and ends, without what Python does at its exit.

    Parameters
    ----------
    task : callable
        Called in the child with a function that says a word to the parent. What it raises is said, too.
    """

    def __init__(self, task):
        self._killed = False
        self._from, to = os.pipe()
        with warnings.catch_warnings():  # of newer Pythons, that other threads are not in a child
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if self.pid:
            os.close(to)
            return
        code = 1
        try:
            null = os.open(os.devnull, os.O_RDWR)
            for stream in 0, 1, 2:
                os.dup2(null, stream)
            task(lambda word: os.write(to, f"{word}\n".encode()))
            code = 0
        except BaseException:
            os.write(to, " ".join(traceback.format_exc().split()).encode(errors="replace")[-2000:])
        finally:
            os._exit(code)

    def says(self, seconds):
        """The next of what it says; "" when it is gone, None if it says nothing."""
        if not select.select([self._from], [], [], seconds)[0]:
            return None
        return os.read(self._from, 1 << 16).decode()

    def kill(self):
        self._killed = True
        os.kill(self.pid, signal.SIGKILL)

    def end(self, seconds):
        """What is wrong with how it ended, or None, and all that it has said until then."""
        deadline, said = time.monotonic() + seconds, ""
        while word := self.says(max(0, deadline - time.monotonic())):
            said += word
        hung = word is None
        if hung:
            self.kill()
        os.close(self._from)
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        if hung:
            return f"a child was not done after {seconds} s", said
        fine = code == 0 or (self._killed and code == -signal.SIGKILL)
        return None if fine else f"a child ended with {code}: {said}", said

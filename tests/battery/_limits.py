"""What is tried must come to an end."""

import contextlib
import signal


class Overdue(BaseException):
    """No `Exception`, which a reader would take for what is wrong with its file."""


@contextlib.contextmanager
def limited(seconds):
    """Within it, on the main thread, what takes longer is a failure; where there are no alarms it hangs."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def overdue(number, frame):
        raise Overdue

    before = signal.signal(signal.SIGALRM, overdue)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except Overdue:
        raise AssertionError(f"not done after {seconds} s") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

"""What a training shows while it runs: a bar where somebody watches, and a line for each epoch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any


class Progress:
    """A bar by tqdm, in a terminal or a notebook and where tqdm is installed; else lines on standard output.

    Parameters
    ----------
    verbose : bool or callable
        Whether to show anything; or what puts a loss into a few words.
    epochs : int or None
        How many there are at most.
    """

    def __init__(self, verbose: bool | Callable[[float], str], epochs: int | None) -> None:
        self._words = verbose if callable(verbose) else "{:.4g}".format if verbose else None
        self._of = "" if epochs is None else f"/{epochs}"
        self._bar: Any = None

    def begin(self, epoch: int, samples: int | None) -> None:
        """An epoch begins."""
        if self._words is None or not _watched():
            return
        try:
            from tqdm.auto import tqdm
        except ImportError:
            return
        title = f"epoch {epoch}{self._of}"
        self._bar = tqdm(desc=title, total=samples, unit="", unit_scale=True, leave=False, dynamic_ncols=True)

    def update(self, count: int, loss: float) -> None:
        """So many samples more; the mean loss so far."""
        if self._bar is not None and self._words is not None:
            self._bar.set_postfix_str(self._words(loss), refresh=False)
            self._bar.update(count)

    def end(self, record: Mapping[str, Any] | None = None) -> None:
        """An epoch has ended, with this record unless something went wrong."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        if record is not None and self._words is not None:
            print(line(record, self._of, self._words), flush=True)


def line(record: Mapping[str, Any], of: str, words: Callable[[float], str]) -> str:
    """An epoch in at most 78 columns."""
    parts = [part for part in ("train", "validation") if f"{part}_loss" in record]
    losses = "  ".join(f"{part} {words(record[f'{part}_loss'])}" for part in parts)
    speed = f"{record['seconds']:.1f} s  {record['samples_per_second']:,.0f}/s"
    return f"epoch {record['epoch']:>3}{of}  {speed}  {losses}"[:78]


def _watched() -> bool:
    """Whether standard error is a terminal, or a notebook shows it."""
    return "ipykernel" in sys.modules or (sys.stderr is not None and sys.stderr.isatty())

"""A network of PyTorch's own modules in a row, as `fastrnn.interop.to_torch` makes it.

It needs PyTorch alone: this file can be taken along to where fastrnn is not.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Optional

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

# Optional[Tensor] is what torch.jit.script reads.


class Network(nn.Sequential):
    """Modules one after the other, each taking what the one before gives; of recurrent ones that is y.

    Its ``state_dict`` has the names of the fastrnn network. It can be pickled, copied, scripted
    (``torch.jit.script``), and without lengths exported (``torch.export``).

    Parameters
    ----------
    modules : mapping of str to Module
        By name, in order: of this file or of `torch.nn`.
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        super().__init__(OrderedDict(modules))
        self.takes_lengths = True

    def forward(self, x: Tensor, lengths: Optional[Tensor] = None) -> Tensor:  # noqa: UP045
        """What the last module gives.

        Parameters
        ----------
        x : Tensor
            (B, T, F) floats or (B, T) tokens, if the recurrent modules have `batch_first`; else (T, B, ...).
        lengths : Tensor of integers, (B,), optional
            How many steps of each sequence are valid, at least 1; all T if left out.
        """
        for layer in self:
            if hasattr(layer, "takes_lengths"):  # which scripting decides for each module by itself
                x = layer(x, lengths)
            elif hasattr(layer, "bidirectional"):
                if lengths is None:
                    x = layer(x)[0]
                else:
                    steps = x.shape[1 if layer.batch_first else 0]
                    packed = pack_padded_sequence(x, lengths.cpu(), layer.batch_first, enforce_sorted=False)
                    packed = layer(packed)[0]
                    x = pad_packed_sequence(packed, layer.batch_first, total_length=steps)[0]
            else:
                x = layer(x)
        return x


class _OfSteps(nn.Module):
    """What takes all steps of each sequence."""

    def __init__(self, batch_first: bool = False) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.takes_lengths = True

    def extra_repr(self) -> str:
        return "batch_first=True" if self.batch_first else ""


class Last(_OfSteps):
    """What comes after the last valid step; with `halves` the second half of the features is that of the
    first step, where a direction that runs backwards ends."""

    def __init__(self, halves: bool = False, batch_first: bool = False) -> None:
        super().__init__(batch_first)
        self.halves = halves

    def forward(self, x: Tensor, lengths: Optional[Tensor] = None) -> Tensor:  # noqa: UP045
        x = x.transpose(0, 1) if self.batch_first else x
        last = x[-1]
        if lengths is not None:
            last = x[lengths.to(x.device) - 1, torch.arange(x.shape[1], device=x.device)]
        if self.halves:
            half = x.shape[2] // 2
            last = torch.cat([last[:, :half], x[0, :, half:]], 1)
        return last


class Mean(_OfSteps):
    """The mean over the valid steps."""

    def forward(self, x: Tensor, lengths: Optional[Tensor] = None) -> Tensor:  # noqa: UP045
        x = x.transpose(0, 1) if self.batch_first else x
        if lengths is None:
            return x.mean(0)
        lengths = lengths.to(x.device)
        return x.masked_fill(padding(x, lengths), 0.0).sum(0) / lengths.unsqueeze(1).to(x.dtype)


class Max(_OfSteps):
    """The greatest value over the valid steps, of each feature."""

    def forward(self, x: Tensor, lengths: Optional[Tensor] = None) -> Tensor:  # noqa: UP045
        x = x.transpose(0, 1) if self.batch_first else x
        if lengths is not None:
            x = x.masked_fill(padding(x, lengths.to(x.device)), float("-inf"))
        return x.amax(0)


class Reverse(_OfSteps):
    """The valid steps of each sequence in reverse order, and zeros behind them."""

    def forward(self, x: Tensor, lengths: Optional[Tensor] = None) -> Tensor:  # noqa: UP045
        if lengths is None:
            return x.flip(1 if self.batch_first else 0)
        x = x.transpose(0, 1) if self.batch_first else x
        lengths = lengths.to(x.device)
        step = lengths.unsqueeze(0) - 1 - torch.arange(x.shape[0], device=x.device).unsqueeze(1)
        turned = x[step.clamp(min=0), torch.arange(x.shape[1], device=x.device)]
        turned = turned.masked_fill(padding(x, lengths), 0.0)
        return turned.transpose(0, 1) if self.batch_first else turned


class Merge(nn.Module):
    """The sum, the product or the mean of the two halves of the features."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, -1)
        if self.mode == "mul":
            return a * b
        return a + b if self.mode == "sum" else (a + b) / 2

    def extra_repr(self) -> str:
        return repr(self.mode)


class OneHot(nn.Module):
    """Tokens as one-hot vectors."""

    def __init__(self, tokens: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.tokens, self.dtype = tokens, dtype

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.one_hot(x, self.tokens).to(self.dtype)

    def extra_repr(self) -> str:
        return str(self.tokens)


def padding(x: Tensor, lengths: Tensor) -> Tensor:
    """Which steps of x, (T, B, F), are behind the end of a sequence, (T, B, 1)."""
    step = torch.arange(x.shape[0], device=x.device)
    return (step.unsqueeze(1) >= lengths.unsqueeze(0)).unsqueeze(2)

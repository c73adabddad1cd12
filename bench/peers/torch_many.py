"""PyTorch with many models that have nothing to do with each other: the ways that its users have.

A loop over the modules; threads, each with some of them; processes that hold some of them with their data,
so that a call sends nothing but its number; and all of them, which are of one size, at once in a loop over
the steps whose products are of batches. Where there are several threads or processes, PyTorch has one thread
in each.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from cases import Case, Data, data_of
from peers.base import Results, Run, of_some, places

NAMES = {"weight_ih": "dw_ih", "weight_hh": "dw_hh", "bias_ih": "db_ih", "bias_hh": "db_hh"}


def runs(case: Case, data: Data, threads: int) -> dict[str, Run]:
    ways = {"loop": _loop(case, data, threads), "products of batches": _stacked(case, data, threads)}
    if threads > 1:
        ways |= {"threads": _threads(case, data, threads), "processes": _processes(case, threads)}
    return ways


class Modules:
    """Some of the models, and what goes through them."""

    def __init__(self, case: Case, data: Iterable[Data]) -> None:
        import torch

        self.torch, self.case = torch, case
        self.modules, self.x, self.dy = [], [], []
        for each in data:
            module = getattr(torch.nn, case.cell.upper())(case.I, case.H)
            module.load_state_dict({name: torch.from_numpy(array) for name, array in each.weights.items()})
            self.modules.append(module)
            self.x.append(torch.from_numpy(each.x).requires_grad_(case.trains))
            self.dy.append(torch.from_numpy(each.dy))

    def call(self, *_: Any) -> list[Any]:
        """All of the work, one after the other; what each gives."""
        return self._train() if self.case.trains else self._infer()

    def _infer(self) -> list[Any]:
        with self.torch.inference_mode():
            return [module(x)[0] for module, x in zip(self.modules, self.x, strict=True)]

    def _train(self) -> list[Any]:
        found = []
        for module, x, dy in zip(self.modules, self.x, self.dy, strict=True):
            x.grad = None
            module.zero_grad(set_to_none=True)
            y, _ = module(x)
            y.backward(dy)
            found.append(y.detach())
        return found

    def results(self, found: list[Any]) -> list[Results]:
        """Of each model, once it has been called."""
        if not self.case.trains:
            return [{"y": y.numpy()} for y in found]
        return [
            {"y": y.numpy(), "dx": x.grad.numpy()}
            | {NAMES[name.removesuffix("_l0")]: p.grad.numpy() for name, p in module.named_parameters()}
            for module, x, y in zip(self.modules, self.x, found, strict=True)
        ]


def _loop(case: Case, data: Data, threads: int) -> Run:
    part = Modules(case, data.each)

    def call() -> list[Any]:
        part.torch.set_num_threads(threads)
        return part.call()

    return Run(call, lambda: of_some(part.results(call())))


def _threads(case: Case, data: Data, threads: int) -> Run:
    """The interpreter's lock is let go of while PyTorch computes."""
    parts = [Modules(case, data.each[which]) for which in shares(case.models, threads)]
    pool = ThreadPoolExecutor(threads)

    def call() -> list[list[Any]]:
        parts[0].torch.set_num_threads(1)
        return list(pool.map(Modules.call, parts))

    def results() -> Results:
        found = zip(parts, call(), strict=True)
        return of_some([each for part, those in found for each in part.results(those)])

    return Run(call, results)


_held: dict[tuple[Case, int], Modules] = {}  # in a process: parts of the models, by the first one's place


def _in_a_process(case: Case, which: slice, wanted: bool) -> list[Results]:
    """The work of one process; the results of those that are compared, if they are wanted. All else stays."""
    import torch

    key, places_here = (case, which.start), range(case.models)[which]
    if key not in _held:
        torch.set_num_threads(1)
        _held[key] = Modules(case, [data_of(case, place) for place in places_here])
    found = _held[key].call()
    if not wanted:
        return []
    results = zip(places_here, _held[key].results(found), strict=True)
    return [each for place, each in results if place in places(case.models)]


def _processes(case: Case, threads: int) -> Run:
    """By joblib's loky, whose processes stay: as kind as can be, since neither data nor results go between
    them. Each soon has all parts, as it may get any."""
    import joblib

    parallel = joblib.Parallel(threads, backend="loky", batch_size=1, pre_dispatch="all", max_nbytes=None)
    parallel.__enter__()  # one pool for all calls

    def call(wanted: bool = False) -> list[Results]:
        jobs = [joblib.delayed(_in_a_process)(case, which, wanted) for which in shares(case.models, threads)]
        return [each for results in parallel(jobs) for each in results]

    def results() -> Results:
        found = call(True)
        return {name: np.array([each[name] for each in found]) for name in found[0]}

    return Run(call, results)


def shares(count: int, parts: int) -> list[slice]:
    """As many for each, in order."""
    ends = [count * part // parts for part in range(parts + 1)]
    return [slice(*pair) for pair in itertools.pairwise(ends)]


def _stacked(case: Case, data: Data, threads: int) -> Run:
    """An LSTM of each model by hand: N models' weights in arrays (N, ...)."""
    import torch

    arrays = [each.layer() for each in data.each]
    w_ih, w_hh, b_ih, b_hh = (torch.from_numpy(np.stack(each)) for each in zip(*arrays, strict=True))
    x = torch.from_numpy(np.stack([each.x for each in data.each], axis=1))  # (T, N, B, I)
    dy = torch.from_numpy(np.stack([each.dy for each in data.each], axis=1))
    given = [each.requires_grad_(case.trains) for each in (x, w_ih, w_hh, b_ih, b_hh)]

    def forward() -> Any:
        _, N, B, _ = x.shape
        bias = (b_ih + b_hh)[:, None]  # (N, 1, 4 H)
        w_i, w_h = w_ih.mT, w_hh.mT
        h = c = torch.zeros(N, B, case.H)
        found = []
        for x_t in x:
            gates = torch.baddbmm(torch.baddbmm(bias, x_t, w_i), h, w_h)
            i, f, g, o = gates.chunk(4, dim=-1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            found.append(h)
        return torch.stack(found)

    def call() -> Any:
        torch.set_num_threads(threads)
        if not case.trains:
            with torch.inference_mode():
                return forward()
        for each in given:
            each.grad = None
        y = forward()
        y.backward(dy)
        return y.detach()

    def results() -> Results:
        y = call().numpy()
        names = ["dx", *NAMES.values()]
        gradients = {name: each.grad.numpy() for name, each in zip(names, given, strict=True) if case.trains}
        if case.trains:
            gradients["dx"] = gradients["dx"].swapaxes(0, 1)
        found = {"y": y.swapaxes(0, 1), **gradients}
        return {name: array[places(case.models)] for name, array in found.items()}

    return Run(call, results)

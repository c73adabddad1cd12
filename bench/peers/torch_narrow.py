"""PyTorch with narrower weights: quantized dynamically, as long as it has that, or all in 16 bits."""

from __future__ import annotations

from cases import Case, Data
from peers.base import STREAM_STEPS, Results, Run, require


def runs(case: Case, layer, data: Data) -> dict[str, Run]:
    """float16: quantized dynamically, which is widened in the product, or all in it; bfloat16: all in it, or
    by autocast; int8: quantized dynamically."""
    import torch

    layer = layer.eval()
    x = torch.from_numpy(data.x)
    found = {}
    if case.format != "bfloat16" and case.cell != "rnn":
        kind = torch.qint8 if case.format == "int8" else torch.float16
        model = torch.ao.quantization.quantize_dynamic(torch.nn.Sequential(layer), {type(layer)}, kind)
        found["quantize_dynamic"] = _run(case, model[0], x)
    if case.format == "bfloat16":
        found["autocast"] = _run(case, layer, x, autocast=True)
    if case.format != "int8":
        kind = getattr(torch, case.format)
        whole = type(layer)(case.I, case.H)
        whole.load_state_dict(layer.state_dict())
        found[case.format] = _run(case, whole.to(kind).eval(), x.to(kind))
    require(bool(found), "no quantized layer of this cell")
    return found


def _run(case: Case, layer, x, autocast: bool = False) -> Run:
    import torch

    stream, state = case.set == "stream", None

    def call():
        nonlocal state
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            y, after = layer(x, state)
        if stream:
            state = after
        return y

    def results() -> Results:
        nonlocal state
        state = None
        y = [call() for _ in range(STREAM_STEPS if stream else 1)][-1]
        return {"y": y.float().numpy()}

    return Run(call, results)

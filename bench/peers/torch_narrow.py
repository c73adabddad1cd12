"""PyTorch with narrower weights: quantized dynamically, as long as it has that, or all in 16 bits."""

from __future__ import annotations

from cases import Case, Data
from peers.base import STREAM_STEPS, Results, Run, require


def runs(case: Case, modules: dict, data: Data) -> dict[str, Run]:
    """float16: quantized dynamically, which is widened in the product, or all in it; bfloat16: all in it, or
    by autocast; int8: quantized dynamically. `modules` has the "layer", and for a stream the "cell" too."""
    import torch

    x = torch.from_numpy(data.x)
    found = {}
    for name, module in modules.items():
        module = module.eval()
        if case.format != "bfloat16" and (case.cell != "rnn" or name == "cell"):
            kind = torch.qint8 if case.format == "int8" else torch.float16
            model = torch.nn.Sequential(module)
            quantized = torch.ao.quantization.quantize_dynamic(model, {type(module)}, kind)[0]
            found[f"{name}, quantize_dynamic"] = _run(case, quantized, x, name)
        if case.format == "bfloat16":
            found[f"{name}, autocast"] = _run(case, module, x, name, autocast=True)
        if case.format != "int8":
            kind = getattr(torch, case.format)
            whole = type(module)(case.I, case.H)
            whole.load_state_dict(module.state_dict())
            found[f"{name}, {case.format}"] = _run(case, whole.to(kind).eval(), x.to(kind), name)
    require(bool(found), "no quantized layer of this cell")
    return found


def _run(case: Case, module, x, name: str, autocast: bool = False) -> Run:
    import torch

    stream, state = case.set == "stream", None

    def call():
        nonlocal state
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            if name == "cell":
                state = module(x[0], state)
                return (state[0] if case.cell == "lstm" else state)[None]
            y, after = module(x, state)
        if stream:
            state = after
        return y

    def results() -> Results:
        nonlocal state
        state = None
        return {"y": [call() for _ in range(STREAM_STEPS if stream else 1)][-1].float().numpy()}

    return Run(call, results)

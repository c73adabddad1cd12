"""A recurrent layer as an ONNX model, for those who run such models."""

from __future__ import annotations

import numpy as np

from cases import Case, Data
from peers.base import reordered

OPERATORS = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}
TO = {"lstm": ("ifgo", "iofg"), "gru": ("rzn", "zrn"), "rnn": ("h", "h")}
STATES = {"lstm": ("h", "c"), "gru": ("h",), "rnn": ("h",)}


def model(case: Case, data: Data, with_states: bool = False) -> bytes:
    """The serialized model: ``x`` (T, B, I) to ``y`` (T, 1, B, H), and if asked for also the state, from
    ``h0`` (and ``c0``) to ``h1`` (and ``c1``), each (1, B, H)."""
    from onnx import TensorProto, checker, helper, numpy_helper

    w_ih, w_hh, b_ih, b_hh = (reordered(array, *TO[case.cell]) for array in data.layer())
    weights = {"W": w_ih, "R": w_hh, "B": np.concatenate([b_ih, b_hh])}
    states = STATES[case.cell] if with_states else ()
    node = helper.make_node(
        OPERATORS[case.cell],
        ["x", *weights, "", *(f"{name}0" for name in states)],
        ["y", *(f"{name}1" for name in states)],
        hidden_size=case.H,
        **({"linear_before_reset": 1} if case.cell == "gru" else {}),
    )
    state = [1, case.B, case.H]
    shapes_in = {"x": [case.T, case.B, case.I], **{f"{name}0": state for name in states}}
    shapes_out = {"y": [case.T, 1, case.B, case.H], **{f"{name}1": state for name in states}}

    def values(shapes: dict[str, list[int]]):
        return [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()
        ]

    graph = helper.make_graph(
        [node],
        "layer",
        values(shapes_in),
        values(shapes_out),
        [numpy_helper.from_array(array[None], name) for name, array in weights.items()],
    )
    found = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(found)
    return found.SerializeToString()


def zero_states(case: Case) -> dict[str, np.ndarray]:
    """The initial state, by the names of the model's inputs."""
    return {f"{name}0": np.zeros((1, case.B, case.H), "float32") for name in STATES[case.cell]}

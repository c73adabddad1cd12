"""An ONNX graph while it is being written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

OPSET = 17  # that of ONNX 1.12: runtimes of 2022 and after know it; GELU needs 20
IR = {17: 8, 20: 9}  # the form of the file that came with it


class Graph:
    """Its nodes and constants so far, and what goes through it: `x`, which lies as its input does, until a
    layer needs time first.

    Parameters
    ----------
    dtype : numpy.dtype
        Of all floats.
    batch_first : bool
        Whether the input x is (B, T, ...) instead of (T, B, ...).
    opset : int
        The version of the operators.
    """

    def __init__(self, dtype: np.dtype[Any], batch_first: bool, opset: int = OPSET) -> None:
        self.dtype, self.batch_first, self.opset = dtype, batch_first, opset
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.x = "x"
        self.time_first = not batch_first
        self.part = ""  # the name of the layer that is being written, which stands before those of its nodes
        self.lengths = ""  # the input of lengths, if there is one
        self._taken: Counter[str] = Counter()

    def input(self, name: str, dtype: npt.DTypeLike, shape: Sequence[int | str]) -> str:
        """An input of the graph; letters are sizes that vary."""
        self.inputs.append(_info(name, dtype, shape))
        return name

    def output(self, source: str, name: str, shape: Sequence[int | str]) -> None:
        """An output of the graph: a node's, under a name of its own."""
        for node in self.nodes:
            for names in (node.input, node.output):
                names[:] = [name if each == source else each for each in names]
        self.outputs.append(_info(name, self.dtype, shape))

    def constant(self, name: str, array: npt.ArrayLike) -> str:
        """Numbers, under such a name within the layer."""
        from onnx import numpy_helper

        name = self._unique(f"{self.part}.{name}")
        self.constants.append(numpy_helper.from_array(np.array(array, order="C"), name))
        return name

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        """The output of a node that has one."""
        from onnx import helper

        name = self._unique(f"{self.part}/{op}")
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def nodes_of(
        self, op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any
    ) -> list[str]:
        """The outputs of a node that has several; one whose name is empty is left out."""
        from onnx import helper

        if op == "Split" and self.opset >= 18:
            attributes["num_outputs"] = len(outputs)
        name = self._unique(f"{self.part}/{op}")
        names = [each and f"{name}.{each}" for each in outputs]
        self.nodes.append(helper.make_node(op, inputs, names, name=name, **attributes))
        return names

    def reduced(self, op: str, x: str) -> str:
        """One out of all steps: the axis is an attribute until opset 17, then an input."""
        if self.opset < 18:
            return self.node(op, x, axes=[0], keepdims=0)
        return self.node(op, x, self.constant("axis", [0]), keepdims=0)

    def cast(self, x: str, dtype: npt.DTypeLike) -> str:
        """The same numbers in another dtype."""
        return self.node("Cast", x, to=_number(dtype))

    def swap(self) -> str:
        """x from batch first to time first, or back."""
        self.x, self.time_first = self.node("Transpose", self.x, perm=[1, 0, 2]), not self.time_first
        return self.x

    def steps(self) -> str:
        """x, time first."""
        return self.x if self.time_first else self.swap()

    def batch(self) -> str:
        """The size of the batch, an array of one number."""
        axis = 0 if self.batch_first else 1
        return self.node("Shape", "x", start=axis, end=axis + 1)

    def model(self) -> Any:
        """The whole."""
        from onnx import helper

        from fastrnn import __version__

        graph = helper.make_graph(self.nodes, "network", self.inputs, self.outputs, self.constants)
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", self.opset)],
            ir_version=IR[self.opset],
            producer_name="fastrnn",
            producer_version=__version__,
        )

    def _unique(self, name: str) -> str:
        self._taken[name] += 1
        return name if self._taken[name] == 1 else f"{name}_{self._taken[name]}"


def _info(name: str, dtype: npt.DTypeLike, shape: Sequence[int | str]) -> Any:
    from onnx import helper

    return helper.make_tensor_value_info(name, _number(dtype), shape)


def _number(dtype: npt.DTypeLike) -> int:
    """ONNX's for a dtype."""
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

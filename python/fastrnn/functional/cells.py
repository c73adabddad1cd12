"""One recurrent layer in one direction, as a function of its weights.

Letters: T time, B batch, I input, H hidden, P projection, G gates, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from inspect import cleandoc
from typing import Any, Generic, TypeVar

import numpy.typing as npt

from fastrnn.checks import Array
from fastrnn.functional.door import Reserve, run_directions, run_directions_back
from fastrnn.functional.variants import OPTIONS, checked, choose, refuse_unknown
from fastrnn.reference import CELLS, Call, Gradients, Parameters

StateT = TypeVar("StateT")


class CellFunction(Generic[StateT]):
    """A recurrent layer in one direction, as a function of its weights: `rnn`, `lstm` and `gru`.

    A call is inference; `forward` and `backward` are for training, and ``lstm_forward`` and ``lstm_backward``
    are other names of ``lstm.forward`` and ``lstm.backward``. G is the number of gates, which have the order
    of the equations.
    """

    def __init__(self, name: str, forms: Mapping[str, str], equations: str) -> None:
        self.__name__ = name
        _, _, arguments = cleandoc(type(self).__call__.__doc__ or "").partition("\n\n")
        self.__doc__ = f"{cleandoc(equations)}\n\n{arguments}"
        self._family = CELLS[choose(name, OPTIONS[name]).cell]  # what all of the function's cells are
        # Vectors that stand for an option, and are given in its place.
        self._forms = {option: tuple(CELLS[form].vectors) for option, form in forms.items()}
        self._arrays = ["w_hr"] * self._family.projected + [
            each for form in self._forms.values() for each in form
        ]

    def __call__(
        self,
        x: npt.ArrayLike,
        w_ih: npt.ArrayLike,
        w_hh: npt.ArrayLike,
        b_ih: npt.ArrayLike | None = None,
        b_hh: npt.ArrayLike | None = None,
        state: Any = None,
        *,
        lengths: npt.ArrayLike | None = None,
        reverse: bool = False,
        starts: npt.ArrayLike | None = None,
        start_state: Any = None,
        **options: Any,
    ) -> tuple[Array, StateT]:
        """Inference.

        Parameters
        ----------
        x : array_like, (T, B, I) float32 or float64, or (T, B) integers
            The input. Integers are tokens, 0 to V-1: each stands for the column of `w_ih` that a one-hot
            input would select.
        w_ih : array_like, (G*H, I) or (G*H, V)
            The input's weights. The dtype of all floats is one.
        w_hh : array_like, (G*H, H), or (G*H, P) with `w_hr`
            The recurrent weights.
        b_ih, b_hh : array_like, (G*H,), optional
            Biases, each of which may be left out.
        state : array_like, (B, H), or for `lstm` a pair (h, c) of them, optional
            The initial state. Zeros if left out, and so is a member of a pair that is None. With `w_hr` h is
            (B, P).
        lengths : array_like of integers, (B,), optional
            How many steps of each row are valid, 0 to T, in any order; all T if left out. What `x` holds
            beyond does not matter, except that tokens must be within 0 to V-1 there too.
        reverse : bool, default False
            Run each row from its last valid step to its first.
        starts : array_like of booleans, (T, B), optional
            Before which steps a row starts anew, as if what follows were a sequence of its own; in reverse
            when such a step is behind it. What it holds where a row is padded does not matter.
        start_state : as `state`, optional
            Where rows start anew from; zeros if left out. `state` has no part in a row whose first step is a
            start, unless it runs in reverse.
        **options
            What a function does not have, it refuses.

            Of `rnn` ``nonlinearity="tanh"``, of the others ``gate_activation="sigmoid"`` and
            ``activation="tanh"``, of `lstm` ``output_activation="tanh"`` too: the functions in these places,
            by name, as of `fastrnn.LSTM`. Of all ``clip``, the bound of their arguments but c_t; of `lstm`
            ``coupled=True``, for f = 1 - i; of `gru` ``reset_after=False``, for
            n = tanh(W_in x_t + b_in + W_hn (r h_{t-1}) + b_hn).

            Of `rnn` and `lstm` ``w_hr`` (P, H), for a projection: W_hr times what the equations call h_t is
            the next h. Of `lstm` ``peephole`` (3*H,), in the order i f o. Of `lstm` and `gru` ``gamma_ih``
            and ``gamma_hh`` (G*H,), and of `lstm` ``gamma_c`` and ``beta_c`` (H,), for layer normalisation:
            all of them or none.

        Returns
        -------
        y : ndarray, (T, B, H), or (T, B, P) with `w_hr`
            h after each step, in the order of `x` also if `reverse`; 0 where a row is padded.
        state_n : as `state`
            The state after each row's last valid step; a row of length 0 returns its initial state.

        Raises
        ------
        TypeError
            If an argument is of another dtype, masked or None, if floats of two dtypes are mixed, or if the
            function has no such option.
        ValueError
            If an argument has another shape, if H, I or V is 0, if a token or a length is out of range, or if
            options do not go together.
        """
        call = self._call(
            x, (w_ih, w_hh, b_ih, b_hh), state, lengths, reverse, (starts, start_state), options
        )
        y, state_n, _ = run_directions([call])[0]
        return y, state_n

    def forward(
        self,
        x: npt.ArrayLike,
        w_ih: npt.ArrayLike,
        w_hh: npt.ArrayLike,
        b_ih: npt.ArrayLike | None = None,
        b_hh: npt.ArrayLike | None = None,
        state: Any = None,
        *,
        lengths: npt.ArrayLike | None = None,
        reverse: bool = False,
        starts: npt.ArrayLike | None = None,
        start_state: Any = None,
        recompute: bool = False,
        **options: Any,
    ) -> tuple[Array, StateT, Reserve]:
        """The same as a call, and what `backward` needs.

        Parameters
        ----------
        x, w_ih, w_hh, b_ih, b_hh, state, lengths, reverse, starts, start_state, **options
            As of a call. Do not write to those of floats before the backward call.
        recompute : bool, default False
            Keep little but `y` and compute the gates again in the backward call: the same bits from a small
            part of the memory, at the price of some time.

        Returns
        -------
        y : ndarray, (T, B, H)
            As of a call, but read-only, because `backward` reads it.
        state_n
            As of a call.
        reserve : Reserve
            For one call of `backward`.

        Raises
        ------
        TypeError, ValueError
            As of a call.
        """
        call = self._call(
            x, (w_ih, w_hh, b_ih, b_hh), state, lengths, reverse, (starts, start_state), options
        )
        return run_directions([call._replace(training=True, recompute=recompute)])[0]

    def backward(
        self,
        reserve: Reserve,
        dy: npt.ArrayLike | None = None,
        dstate_n: Any = None,
        *,
        input_gradient: bool = True,
    ) -> Gradients:
        """Backpropagation through time (Werbos 1990).

        Parameters
        ----------
        reserve : Reserve
            What `forward` returned; it serves one call.
        dy : array_like, (T, B, H), optional
            The gradient of a loss with respect to `y`. Zeros if left out. What it holds where a row is
            padded does not matter, `y` being constant there.
        dstate_n : as `state`, optional
            The gradient of the loss with respect to `state_n`. Zeros if left out, and so is a member of a
            pair that is None.
        input_gradient : bool, default True
            Whether the gradient of `x` is wanted: without it a training step of a first layer is a sixth
            shorter.

        Returns
        -------
        Gradients
            Those of the loss with respect to `x` (None for tokens, or if not wanted), the parameters (None
            where there was none), the initial state, and with `starts` the state that rows have started anew
            from.

        Raises
        ------
        TypeError
            If the reserve is of another function, or a gradient not of the dtype of `y`.
        ValueError
            If a gradient has another shape than what it is the gradient of.
        RuntimeError
            If the reserve was used before.
        """
        if not isinstance(reserve, Reserve) or not issubclass(CELLS[reserve._cell], self._family):
            raise TypeError(f"reserve must come from {self.__name__}_forward, got {reserve!r}")
        return run_directions_back([(reserve, dy, dstate_n, input_gradient, None)])[0]

    def _call(
        self,
        x: Any,
        weights: Any,
        state: Any,
        lengths: Any,
        reverse: bool,
        anew: Any,
        options: dict[str, Any],
    ) -> Call:
        """One whose arrays have not been checked yet."""
        known = dict.fromkeys([*self._arrays, *OPTIONS[self.__name__]])
        refuse_unknown(self.__name__, options, [name for name in known if name != "layer_norm"])
        arrays = {name: options.pop(name, None) for name in self._arrays}
        for option, names in self._forms.items():
            options[option] = any(arrays[name] is not None for name in names)
        cell, told = choose(self.__name__, checked(self.__name__, options))
        vectors = tuple(arrays[name] for name in CELLS[cell].vectors)
        parameters = Parameters(*weights)._replace(w_hr=arrays.get("w_hr"), vectors=vectors)
        starts, start_state = anew
        call = Call(cell, x, parameters, state, lengths, reverse, options=told)
        return call._replace(starts=starts, start_states=start_state)

    def __repr__(self) -> str:
        return f"<function fastrnn.{self.__name__}>"

    def __reduce__(self) -> str:
        return self.__name__


rnn = CellFunction[Array](
    "rnn",
    {},
    "A simple recurrent layer (Elman 1990): h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh).",
)
rnn_forward, rnn_backward = rnn.forward, rnn.backward

lstm = CellFunction[tuple[Array, Array]](
    "lstm",
    {"peephole": "lstm_any", "layer_norm": "lstm_layer_norm"},
    """A long short-term memory layer (Hochreiter & Schmidhuber 1997; forget gate of Gers et al. 2000).

    ::

        i, f, o = sigmoid(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)     g = tanh(the same)
        c_t     = f c_{t-1} + i g                                    h_t = o tanh(c_t)

    The gates have the order i f g o; the state is the pair (h, c).""",
)
lstm_forward, lstm_backward = lstm.forward, lstm.backward

gru = CellFunction[Array](
    "gru",
    {"layer_norm": "gru_layer_norm"},
    """A gated recurrent layer (Cho et al. 2014) in cuDNN's form, with the reset gate after the product.

    ::

        r, z = sigmoid(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)
        n    = tanh(W_in x_t + b_in + r (W_hn h_{t-1} + b_hn))
        h_t  = (1 - z) n + z h_{t-1}

    The gates have the order r z n; the last third of `b_hh` is b_hn.""",
)
gru_forward, gru_backward = gru.forward, gru.backward

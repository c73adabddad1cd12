"""Where a number can reach in a layer or a network, on both ways: worked out from what depends on what.

What is reached are bools in the shapes of the arrays: of what goes in, by name, and of what comes out. Time
is the first axis here.
"""

import numpy as np

from fastrnn import layers, reference
from fastrnn.layers import Recurrent
from fastrnn.layers.feedforward import Dropout, Embedding, Linear, Merge


def through(row, reached, given, lengths):
    """Through layers in a row.

    Parameters
    ----------
    row : list of Layer
    reached : dict
        ``x`` (T, B, ...), ``dy``, a list ``states`` and ``dstates`` of a list for each recurrent layer, and a
        list ``parameters`` of a dict for each layer.
    given : ndarray
        What x is, time first.
    lengths : ndarray, (B,)

    Returns
    -------
    y, states, dx, dstates, parameters
    """
    x, states, ways, tokens = reached["x"], [], [], given if given.ndim == 2 else None
    before, dafter = iter(reached["states"]), iter(reached["dstates"])
    for layer, parameters in zip(row, reached["parameters"], strict=True):
        if isinstance(layer, Recurrent):
            x, state, back = recurrent(layer, x, tokens, next(before), parameters, lengths, next(dafter))
            states.append(state)
        elif isinstance(layer, layers.Reverse):
            tokens = tokens if tokens is None else turned(tokens, lengths)
            x, back = turned(x, lengths), lambda dy: (turned(dy, lengths), {})
        elif isinstance(layer, layers.Pooling):
            x, back = pooling(layer, x, lengths)
        elif isinstance(layer, Embedding):
            x, back = embedding(tokens, parameters)
        elif isinstance(layer, Linear):
            x, back = linear(x, parameters)
        elif isinstance(layer, Merge):
            x, back = merge(layer, x)
        else:
            x, back = elementwise(layer, x)
        tokens = tokens if isinstance(layer, layers.Reverse) else None
        ways.append(back)
    y, dy, found, dstates = x, reached["dy"], [], []
    for back in reversed(ways):
        dy, gradients, *dstate = back(dy)
        found.insert(0, gradients)
        dstates[:0] = dstate
    return y, states, dy, dstates, found


def spread(array):
    """All features of a step, where one of them is reached."""
    return np.broadcast_to(array.any(axis=-1, keepdims=True), array.shape)


def outer(rows, columns):
    """A sum of products of rows and columns, over all other axes."""
    rows, columns = (each.reshape(-1, each.shape[-1]).any(axis=0) for each in (rows, columns))
    return rows[:, None] | columns


# -- layers without memory: what comes out, and the way back, to dx and the gradients of the parameters


def elementwise(layer, x):
    mixes = isinstance(layer, (layers.Softmax, layers.LogSoftmax))
    y = spread(x) if mixes else x
    keeps = isinstance(layer, Dropout)

    def back(dy):
        dx = dy if keeps else dy | y
        return (spread(dx) if mixes else dx), {}

    return y, back


def linear(x, parameters):
    weight, bias = parameters["weight"], parameters.get("bias")
    direct = weight.any(axis=1) | (False if bias is None else bias)
    y = x.any(axis=-1, keepdims=True) | direct

    def back(dy):
        dx = dy.any(axis=-1, keepdims=True) | weight.any(axis=0)
        return dx, {"weight": outer(dy, x), "bias": dy.reshape(-1, dy.shape[-1]).any(axis=0)}

    return y, back


def embedding(tokens, parameters):
    weight = parameters["weight"]

    def back(dy):
        found = np.zeros_like(weight)
        np.logical_or.at(found, tokens, dy)
        return None, {"weight": found}

    return weight[tokens], back


def merge(layer, x):
    first, second = np.split(x, 2, axis=-1)

    def back(dy):
        both = (dy | second, dy | first) if layer.mode == "mul" else (dy, dy)
        return np.concatenate(both, axis=-1), {}

    return first | second, back


def turned(array, lengths):
    other = np.zeros_like(array)
    for row, length in enumerate(lengths):
        other[:length, row] = array[:length, row][::-1]
    return other


def pooling(layer, x, lengths):
    lengths = np.maximum(lengths, 1)
    valid = (np.arange(len(x))[:, None] < lengths)[:, :, None]
    if not isinstance(layer, layers.Last):
        y = (x & valid).any(axis=0)
        finds = isinstance(layer, layers.Max)  # and what is found decides where the gradient goes
        return y, lambda dy: (valid & (dy | (y & finds)), {})
    ends = np.zeros(x.shape, bool)
    half = x.shape[-1] // 2 if layer.bidirectional else x.shape[-1]
    ends[lengths - 1, np.arange(len(lengths)), :half] = True
    ends[0, :, half:] = True
    return (x & ends).any(axis=0), lambda dy: (dy & ends, {})


# -- recurrent layers


def recurrent(layer, x, tokens, state, parameters, lengths, dstate):
    """All layers and directions of one; of its states those at the end, and those after each step."""
    letters, widths = reference.CELLS[layer._cell].states, layer._states.widths
    x = x if tokens is None else x[..., None]
    start = []
    for letter, member, width in zip(letters, state, widths, strict=True):
        learned = parameters.get(f"initial_{letter}", np.zeros((layer._states.places, width), bool))
        start.append(np.repeat(learned[:, None], x.shape[1], axis=1) if member is None else member)
    places = []
    for k in range(layer.num_layers):
        for suffix in layer._suffixes(k):
            own = {name.removesuffix(suffix): parameters[name] for name in layer._names[suffix]}
            before = [member[len(places)] for member in start]
            places.append(Place(layer, own, x, tokens, before, lengths, suffix.endswith("reverse")))
        x, tokens = np.concatenate([place.y for place in places[-layer._directions :]], axis=-1), None

    def back(dy):
        gradients, dstates = {}, [None] * len(places)
        for k in reversed(range(layer.num_layers)):
            parts, dxs = np.split(dy, layer._directions, axis=-1), []
            for d, suffix in enumerate(layer._suffixes(k)):
                n = k * layer._directions + d
                dx, own, dstates[n] = places[n].back(parts[d], [member[n] for member in dstate])
                gradients |= {base + suffix: array for base, array in own.items()}
                dxs.append(dx)
            dy = np.logical_or.reduce(dxs)
        dstart = [np.array(each) for each in zip(*dstates, strict=True)]
        for letter, member, given in zip(letters, dstart, state, strict=True):
            gradients[f"initial_{letter}"] = member.any(axis=1) & (given is None)
        return dy, gradients, dstart

    ends = [np.array(each) for each in zip(*(place.end for place in places), strict=True)]
    every = [np.array([place.y for place in places]), np.array([place.units for place in places])]
    return x, (ends, every[: len(letters)]), back


class Place:
    """One layer in one direction."""

    def __init__(self, layer, parameters, x, tokens, before, lengths, reverse):
        self.w, self.lengths, self.reverse, self.x, self.tokens = parameters, lengths, reverse, x, tokens
        self.gates = len(reference.CELLS[layer._cell].gates)
        # A step in which units meet: normalised together, or multiplied once more.
        self.mixes = "gamma_ih" in parameters or not getattr(layer, "reset_after", True)
        T, B, H = len(x), len(lengths), layer.hidden_size
        self.h = before[0].copy()
        self.c = before[1].copy() if len(before) == 2 else np.zeros((B, H), bool)
        self.y = np.zeros((T, *self.h.shape), bool)
        self.units, self.previous = np.zeros((T, B, H), bool), np.zeros_like(self.y)
        direct, w_ih = self._direct(H), parameters["weight_ih"]
        for rows, times in self._walk():
            self.previous[times, rows] = self.h[rows]
            columns = w_ih.any(axis=1)[None] if tokens is None else w_ih[:, tokens[times, rows]].T
            units = columns.reshape(-1, self.gates, H).any(axis=1) | direct | self.c[rows]
            units = units | (x[times, rows].any(axis=-1) | self.h[rows].any(axis=-1))[:, None]
            self.units[times, rows] = self.c[rows] = units = self._mixed(units)
            self.y[times, rows] = self.h[rows] = self._projected(units)
        self.end = [self.h, self.c][: len(before)]

    def back(self, dy, after):
        dh, dc = after[0].copy(), after[-1].copy() if len(after) == 2 else np.zeros_like(self.c)
        dunits, dx = np.zeros_like(self.units), np.zeros_like(self.x)
        dhs = np.zeros_like(self.y)
        w_ih, w_hh, w_hr = self.w["weight_ih"], self.w["weight_hh"], self.w.get("weight_hr")
        for rows, times in reversed([*self._walk()]):
            dhs[times, rows] = out = dh[rows] | dy[times, rows]
            if w_hr is not None:
                out = out.any(axis=-1, keepdims=True) | w_hr.any(axis=0)
            dunits[times, rows] = units = self._mixed(out | dc[rows] | self.units[times, rows])
            dc[rows] = units
            dh[rows] = units.any(axis=-1, keepdims=True) | w_hh.any(axis=0)
            if self.tokens is None:
                dx[times, rows] = units.any(axis=-1, keepdims=True) | w_ih.any(axis=0)
        steps = np.tile(dunits, self.gates)
        previous = self.previous if w_hr is not None else self.previous | self.units
        gradients = {"weight_hh": outer(steps, previous), "weight_hr": outer(dhs, self.units)}
        if self.tokens is None:
            gradients["weight_ih"] = outer(steps, self.x)
        else:
            gradients["weight_ih"] = np.zeros_like(w_ih)
            np.logical_or.at(gradients["weight_ih"].T, self.tokens, steps)
        every = dunits.reshape(-1, dunits.shape[-1]).any(axis=0)
        for name in self.w.keys() - gradients.keys():
            gradients[name] = np.tile(every, len(self.w[name]) // len(every))
        return dx, {name: gradients[name] for name in self.w}, [dh, dc][: len(after)]

    def _direct(self, units):
        """The units that weights reach in every step."""
        found = np.zeros(units, bool)
        for name, array in self.w.items():
            if name not in ("weight_ih", "weight_hr"):
                rows = array if array.ndim == 1 else array.any(axis=1)
                found |= rows.reshape(-1, len(found)).any(axis=0)
        return found

    def _mixed(self, units):
        return spread(units) if self.mixes else units

    def _projected(self, units):
        w_hr = self.w.get("weight_hr")
        return units if w_hr is None else units.any(axis=-1, keepdims=True) | w_hr.any(axis=1)

    def _walk(self):
        """Rows and times of each step."""
        for step in range(self.lengths.max(initial=0)):
            rows = np.flatnonzero(step < self.lengths)
            yield rows, self.lengths[rows] - 1 - step if self.reverse else np.full_like(rows, step)

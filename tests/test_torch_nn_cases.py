"""PyTorch's tests of recurrent modules in test/test_nn.py, for the modules of `fastrnn.torch`."""

import io
import itertools

import pytest
from twins import (
    agree,
    cells,
    flat,
    layers,
    like,
    make,
    modules,
    packed,
    results,
    rnn,
    same_outcome,
    state,
    taken_over,
    torch,
    twins,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
    pytest.mark.usefixtures("one_torch_thread"),
]

PROJECTED = pytest.mark.parametrize(
    "kind, own",
    [("RNN", {}), ("GRU", {}), ("LSTM", {}), ("LSTM", {"proj_size": 3})],
    ids=["RNN", "GRU", "LSTM", "LSTM-3"],
)


# Cells


@cells
@pytest.mark.parametrize("bias", [True, False])
def test_cells_run_step_after_step(kind, bias):
    def steps(cell):
        hx = state(kind, 3, hidden=20)
        for _ in range(6):
            hx = cell(x, hx)
        sum(h.sum() for h in flat(hx)).backward()
        return [*flat(hx), *(p.grad for p in cell.parameters())]

    x, found = make(3, 10), []
    for cell in twins(kind, 10, 20, bias=bias):
        torch.manual_seed(0)
        found.append(steps(cell))
    agree(*found)


@pytest.mark.parametrize("only", [0, 1])
def test_one_output_of_an_lstm_cell_is_enough_for_backward(only):
    found = []
    for cell in twins("LSTMCell", 2, 3):
        torch.manual_seed(0)
        x, hx = make(4, 2), state("LSTMCell", 4, hidden=3)
        cell(x, hx)[only].sum().backward()
        found.append([x.grad, *(h.grad for h in hx), *(p.grad for p in cell.parameters())])
    agree(*found)


@cells
def test_cells_do_not_broadcast(kind):
    for cell in twins(kind, 10, 20):
        for x, rows in ((make(3, 10), (1, 20)), (make(3, 10), (3, 1)), (make(3, 1), (3, 20))):
            bad, good = make(*rows), make(3, 20)
            for hx in ((bad, good), (good, bad)) if kind == "LSTMCell" else (bad,):
                with pytest.raises(RuntimeError):
                    cell(x, hx)


# Arguments


@PROJECTED
def test_messages_name_the_sizes_that_do_not_fit(kind, own):
    mine, theirs = twins(kind, 10, 20, batch_first=True, **own)
    h = torch.zeros(1, 2, 19, dtype=torch.float64)
    said = same_outcome(mine, theirs, make(2, 3, 10), (h, h) if kind == "LSTM" else h)
    assert "Expected hidden" in said[1] and "got" in said[1]
    said = same_outcome(mine, theirs, make(2, 3, 3))
    assert "input.size(-1) must be equal to input_size" in said[1]


@PROJECTED
def test_each_wrong_measure_of_input_or_state_is_refused(kind, own):
    mine, theirs = twins(kind, 3, 5, 2, **own)
    shapes = [(6, 4, 3), (2, 4, own.get("proj_size", 5)), (2, 4, 5)][: 3 if kind == "LSTM" else 2]
    for k, (which, axis) in enumerate(itertools.product(range(len(shapes)), range(3))):
        if which == 0 and axis == 0:  # any length is right
            continue
        wrong = [list(shape) for shape in shapes]
        wrong[which][axis] = 7
        x, *hx = (make(*shape) for shape in wrong)
        assert same_outcome(mine, theirs, x, tuple(hx) if kind == "LSTM" else hx[0])[0] is RuntimeError, k


@PROJECTED
@pytest.mark.parametrize("bidirectional", [False, True])
def test_no_state_is_a_state_of_zeros(kind, own, bidirectional):
    mine, _ = twins(kind, 30, 20, 2, bidirectional=bidirectional, **own)
    x = make(10, 8, 30)
    zeros = state(kind, 2 * (1 + bidirectional), 8, hidden=20, projected=own.get("proj_size", 0), grad=False)
    zeros = (
        like(zeros, [torch.zeros_like(h) for h in flat(zeros)]) if kind == "LSTM" else torch.zeros_like(zeros)
    )
    agree(mine(x), mine(x, zeros), rtol=0, atol=0)


@layers
@pytest.mark.parametrize("bidirectional", [False, True])
def test_no_steps_are_refused_and_no_rows_are_not(kind, bidirectional):
    mine, theirs = twins(kind, 5, 6, bidirectional=bidirectional)
    said = same_outcome(mine, theirs, make(0, 10, 5))
    assert said == (RuntimeError, "Expected sequence length to be larger than 0 in RNN")
    x = make(5, 0, 5)
    agree(results(mine, x), results(theirs, x))
    assert mine(x)[0].shape == (5, 0, 6 * (1 + bidirectional))


@pytest.mark.parametrize("kind", ["RNN", "RNNCell"])
def test_the_nonlinearity_is_given_by_place_or_name(kind):
    place = (1, "relu") if kind == "RNN" else (True, "relu")
    mine, theirs = twins(kind, 2, 3, *place)
    by_name = twins(kind, 2, 3, nonlinearity="relu")[0]
    by_name.load_state_dict(mine.state_dict())
    x = make(4, 2)
    assert by_name.nonlinearity == "relu"
    agree(results(by_name, x), results(theirs, x))
    agree(results(mine, x), results(theirs, x))
    mine.nonlinearity = theirs.nonlinearity = "garbage"
    same_outcome(mine, theirs, x)


def test_dropout_without_a_second_layer_is_warned_of():
    with pytest.warns(UserWarning, match="dropout option adds dropout after all but last recurrent layer"):
        modules.GRU(3, 4, dropout=0.5)


# Dropout


@pytest.mark.parametrize("p", [0, 0.276, 0.731, 1])
@pytest.mark.parametrize("training", [True, False])
@torch.no_grad()
def test_dropout_stands_between_layers(p, training):
    rnn = modules.RNN(10, 1000, 2, bias=False, dropout=p, nonlinearity="relu", dtype=torch.float64)
    for parameter in rnn.train(training).parameters():
        parameter.fill_(1)
    y, hn = rnn(torch.ones(1, 1, 10, dtype=torch.float64))
    assert hn[0].min() == hn[0].max() == 10  # the first layer's: nothing is dropped before it
    assert y.min() == y.max() == hn[1].min() == hn[1].max()
    kept = y[0, 0, 0].item() / 10 * (1 - p * training)  # of 1000 units
    assert kept == pytest.approx(round(kept), abs=1e-6)
    assert kept == pytest.approx(1000 * (1 - p * training), abs=100)


@layers
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("form", ["batch", "sequence", "packed"])
def test_the_generator_gives_the_parents_masks(kind, batch_first, form):
    mine, theirs = twins(kind, 6, 5, 3, dropout=0.4, bidirectional=True, batch_first=batch_first)
    x = make(4, 7, 6) if form != "sequence" else make(7, 6)
    if form == "packed":
        x = packed(
            x, [7, 2, 4, 4] if batch_first else [3, 4, 1, 1, 2, 4, 2], batch_first, enforce_sorted=False
        )
    found = []
    for module in (mine, theirs):
        torch.manual_seed(5)
        found.append([*results(module, x), *results(module, x), torch.rand(3)])
    agree(*found)
    assert not taken_over(mine)
    assert not torch.equal(found[0][0], mine(x)[0] if form != "packed" else mine(x)[0].data)


@layers
@pytest.mark.parametrize("p", [0, 0.1234])
@pytest.mark.parametrize("training", [True, False])
def test_masks_differ_from_call_to_call_also_after_a_load(kind, p, training):
    mine = getattr(modules, kind)(50, 50, 2, bias=False, dropout=p).train(training)
    x, hx = make(1, 1, 50, dtype=torch.float32), state(kind, 2, 1, hidden=50, dtype=torch.float32)
    first, second = flat(mine(x, hx)), flat(mine(x, hx))
    file = io.BytesIO()
    torch.save(mine, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    loaded.flatten_parameters()
    third = flat(loaded(x, hx))
    for other in (second, third):
        assert torch.equal(first[0], other[0]) == (p == 0 or not training)


@layers
@pytest.mark.parametrize("training", [True, False])
def test_dropout_may_be_changed(kind, training):
    mine, theirs = (module.train(training) for module in twins(kind, 20, 20, 2))
    x, before = make(3, 2, 20), None
    for p in (0, 0.5, 0, 0.7, 0.2, 1, 0.2, 0):
        mine.dropout = theirs.dropout = p
        torch.manual_seed(1)
        found = [*mine(x), *mine(x)]
        torch.manual_seed(1)
        agree(found, [*theirs(x), *theirs(x)])
        assert torch.equal(found[0], found[2]) == (p in (0, 1) or not training)
        assert before is None or torch.equal(found[0], before) != training
        before = found[0]


# Sequences


@PROJECTED
@pytest.mark.parametrize(
    "enforce_sorted, lengths",
    [
        (True, [5]),
        (False, [5]),
        (True, [10, 10, 6, 2, 2, 1, 1]),
        (False, [10, 10, 6, 2, 2, 1, 1]),
        (False, [2, 1, 3, 2, 10, 5, 3]),
    ],
)
@pytest.mark.parametrize("given", [True, False])
def test_a_packed_sequence_is_its_sequences_one_by_one(kind, own, enforce_sorted, lengths, given):
    mine, _ = twins(kind, 3, 4, 2, bidirectional=True, **own)
    x = make(max(lengths), len(lengths), 3)
    hx = state(kind, 4, len(lengths), hidden=4, projected=own.get("proj_size", 0)) if given else None

    def one(k, length):
        here = hx if hx is None else tuple(h[:, k : k + 1] for h in flat(hx))
        y, hn = mine(x[:length, k : k + 1], here if hx is None or kind == "LSTM" else here[0])
        return torch.nn.functional.pad(y, (0, 0, 0, 0, 0, max(lengths) - length)), *flat(hn)

    expected = [torch.cat(each, 1) for each in zip(*itertools.starmap(one, enumerate(lengths)), strict=True)]
    together = rnn.pack_padded_sequence(x, lengths, enforce_sorted=enforce_sorted)
    y, hn = mine(together, hx)
    y, counted = rnn.pad_packed_sequence(y)
    assert counted.tolist() == lengths
    agree([y, *flat(hn)], expected)
    sources = [x, *mine.parameters()]
    agree(
        torch.autograd.grad(y.square().sum(), sources),
        torch.autograd.grad(expected[0].square().sum(), sources),
    )


@layers
def test_packed_sequences_keep_their_order_and_lists_of_sequences_pack(kind):
    mine, theirs = twins(kind, 3, 4)
    sequences = [make(n, 3, grad=False) for n in (2, 5, 1, 5)]
    for enforce_sorted, these in ((False, sequences), (True, sorted(sequences, key=len, reverse=True))):
        given = rnn.pack_sequence(these, enforce_sorted=enforce_sorted)
        y, _ = mine(given)
        agree(results(mine, given), results(theirs, given))
        assert torch.equal(y.batch_sizes, given.batch_sizes) and y.sorted_indices is given.sorted_indices
        agree(
            mine(like(given, [*given[:2], None, None]))[0].data, y.data
        )  # without indices: in the order packed


@PROJECTED
@pytest.mark.parametrize("bias, bidirectional, batch_first", list(itertools.product([True, False], repeat=3)))
def test_all_gradients_of_strided_and_ragged_input(kind, own, bias, bidirectional, batch_first):
    mine, theirs = twins(
        kind, 10, 6, 2, bias=bias, bidirectional=bidirectional, batch_first=batch_first, **own
    )
    hx = state(kind, 2 * (1 + bidirectional), 6, hidden=6, projected=own.get("proj_size", 0))

    def gapped(t):
        return torch.stack([torch.zeros_like(t), t.detach()], t.dim()).select(t.dim(), 1).requires_grad_()

    x, lengths = make(6, 7, 10) if batch_first else make(7, 6, 10), [7, 5, 5, 2, 1, 1]
    gapped_state = tuple(map(gapped, hx)) if kind == "LSTM" else gapped(hx)
    ragged = [packed(x, each, batch_first) for each in (lengths, torch.tensor(lengths))]
    for args in (
        (x, hx),
        (gapped(x), gapped_state),
        *((each, h) for each in ragged for h in (hx, gapped_state)),
    ):
        agree(results(mine, *args), results(theirs, *args))
    assert not taken_over(mine)

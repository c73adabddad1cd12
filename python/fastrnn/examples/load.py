"""Electricity demand, a day ahead, with intervals.

Half-hourly demand in England and Wales over twelve weeks (Taylor 2003), which comes with pmdarima, beside
the day and the week before. The network learns from the first ten weeks, once, and calibrates its
intervals on the last four of them before it learns those; each midnight of the two weeks that follow it
forecasts the 48 half-hours ahead.

Errors are absolute, and scaled as MASE (Hyndman and Koehler 2006): divided by the mean absolute error of the
seasonal naive forecast over the weeks trained on, once with a season of a day and once of a week, the harder
one.
"""

from __future__ import annotations

import os
import time

import numpy as np

from fastrnn import figures
from fastrnn.checks import Array
from fastrnn.examples import needs, print_table, save_figure
from fastrnn.metrics import coverage, mase
from fastrnn.models import Forecaster

DAY, WEEK, TEST_DAYS = 48, 7 * 48, 14


def run(directory: str | os.PathLike[str], *, quick: bool = False) -> dict[str, float]:
    """Forecast the last two weeks, a day at a time."""
    y = _data()
    origins = range(len(y) - TEST_DAYS * DAY, len(y), DAY)
    past = y[: origins[0]]
    start = time.perf_counter()
    model = Forecaster(
        horizon=DAY,
        context=2 * DAY,
        lags=(DAY, WEEK),
        quantiles=(0.1, 0.5, 0.9),
        cell="gru",
        hidden_size=64,
        dropout=0.3,
        max_steps=250 if quick else 600,
        validation_fraction=0.4,
        seed=0,
    ).fit(past)
    seconds = time.perf_counter() - start

    pasts = [y[:t] for t in origins]
    low, high = map(np.concatenate, model.predict_interval(pasts, coverage=0.8))
    middle = np.concatenate(model.predict(pasts))
    truth = y[origins[0] :]
    forecasts = {
        "the day before": y[origins[0] - DAY : -DAY],
        "the week before": y[origins[0] - WEEK : -WEEK],
        "GRU": middle,
    }
    errors = {name: float(np.abs(truth - forecast).mean()) for name, forecast in forecasts.items()}
    scaled = {
        name: [mase(truth, forecast, past, season=season) for season in (WEEK, DAY)]
        for name, forecast in forecasts.items()
    }
    scores = {
        "mase_week": scaled["GRU"][0],
        "mase_day": scaled["GRU"][1],
        "ratio_to_week": errors["GRU"] / errors["the week before"],
        "ratio_to_day": errors["GRU"] / errors["the day before"],
        "coverage": coverage(truth, low, high),
        "seconds": seconds,
    }
    print_table(
        ("forecast", "MAE, MW", "MASE by the week", "MASE by the day"),
        *(
            (name, f"{error:,.0f}", *(f"{each:.3f}" for each in scaled[name]))
            for name, error in errors.items()
        ),
    )
    print(
        f"on the same days the GRU's error is {scores['ratio_to_week']:.2f} of the week before's and "
        f"{scores['ratio_to_day']:.2f} of the day before's"
    )
    print(f"{scores['coverage']:.0%} of the half-hours are in the 80% interval; {seconds:.0f} s of training")
    _draw(truth, low, high, forecasts, directory)
    return scores


def _data() -> Array:
    with needs("pmdarima"):
        from pmdarima.datasets import load_taylor
    return np.asarray(load_taylor(), np.float64)


def _draw(
    truth: Array, low: Array, high: Array, forecasts: dict[str, Array], directory: str | os.PathLike[str]
) -> None:
    figure = figures.new(10, 7)
    above, below = figure.subplots(2, 1, height_ratios=(2, 1))
    days = np.arange(len(truth)) / DAY
    above.fill_between(days, low, high, color="C0", alpha=0.25, label="80% interval")
    above.plot(days, truth, "k", linewidth=1, label="truth")
    above.plot(days, forecasts["GRU"], "C0", linewidth=1, label="GRU, forecast at each midnight")
    above.set(ylabel="MW", title="Electricity demand in England and Wales, a day ahead")
    for place, (name, forecast) in enumerate(reversed(forecasts.items())):
        errors = np.abs(truth - forecast).reshape(-1, DAY).mean(axis=1)
        below.bar(np.arange(TEST_DAYS) + 0.25 * (place + 1), errors, 0.25, color=f"C{place}", label=name)
    below.set(xlabel="day of the test", ylabel="MAE of the day, MW")
    for axes in (above, below):
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.set_xlim(0, TEST_DAYS)
        axes.legend(fontsize="small", ncols=3)
    save_figure(figure, directory, "load")

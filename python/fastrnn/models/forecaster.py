"""What comes next in a series of numbers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from fastrnn import checks
from fastrnn.checks import Array
from fastrnn.data.series import ForecastWindows, Frame, Scale, known_inputs, read_series
from fastrnn.models.estimator import Check, NetworkEstimator
from fastrnn.models.forecast_network import ForecastNetwork
from fastrnn.models.networks import recurrent


class Past(NamedTuple):
    """The last steps of a series, as many as a forecast needs, and the scale of all that was known."""

    values: Array  # (S, C)
    covariates: Array  # (S, K)
    scale: Scale
    dimensions: int  # 1 or 2: of the array that the series came in


def _quantiles(name: str, value: Any) -> list[float] | None:
    """Levels that rise, with the median among them."""
    if value is None:
        return None
    levels = checks.array(name, value, "None or levels between 0 and 1")
    rising = levels.ndim == 1 and levels.dtype.kind == "f" and bool((np.diff(levels) > 0).all())
    if not rising or not ((levels > 0) & (levels < 1)).all() or 0.5 not in levels:
        expected = "None or rising levels between 0 and 1, 0.5 among them"
        raise ValueError(f"{name} must be {expected}, got {value!r}")
    return [float(level) for level in levels]


def _lags(name: str, value: Any) -> list[int]:
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"{name} must be a tuple of integers, got {checks.came(value)}")
    return [checks.positive_int(f"{name}[{place}]", lag) for place, lag in enumerate(value)]


@dataclass(kw_only=True, eq=False, repr=False)
class Forecaster(NetworkEstimator):
    """A recurrent network that forecasts one series or many, from their past and from what is known ahead.

    After each step it forecasts the steps that follow, from its state and from what is known of them
    beforehand: covariates, and the series' own values some `lags` earlier (Wen et al., A multi-horizon
    quantile recurrent forecaster, 2017, with a linear readout). It learns from windows of `context` steps,
    and forecasts from the last `context` steps. Each series is scaled to mean 0 and deviation 1 by its own
    past, each covariate over all series.

    Parameters
    ----------
    horizon : int
        The steps to forecast.
    context : int
        The steps that a forecast is made from, beside the lags.
    strategy : {"direct", "recursive"}
        Whether all steps of the horizon are forecast at once, or one, from which the next is, and so on.
    lags : tuple of int
        How many steps earlier the values are that enter beside each step ahead, such as a day or a week; at
        least `horizon` with the direct strategy, which has no later ones.
    quantiles : tuple of float or None
        The quantiles to forecast, the median among them, by the pinball loss; direct strategy only, since
        quantiles fed back are no quantiles. None forecasts the mean, by the squared error.
    bptt_steps : int or None
        Steps that gradients flow back through; None is all of `context`.
    validation_fraction : float
        The part at the end of each series that is forecast to choose the best weights, and not trained on.
    cell, hidden_size, num_layers, dropout, epochs, batch_size, ...
        See `fastrnn.models.estimator.NetworkEstimator`. In an epoch each step is in about eight windows.

    Attributes
    ----------
    n_channels_, n_covariates_ : int
        Of each series.
    history_, best_epoch_
        See `fastrnn.models.estimator.NetworkEstimator`.

    Examples
    --------
    >>> y = np.sin(np.arange(400) * 0.3)
    >>> model = Forecaster(horizon=20, context=20, hidden_size=16, epochs=20, learning_rate=0.02, seed=0)
    >>> forecast = model.fit(y[:-20]).predict()
    >>> bool(np.abs(forecast - y[-20:]).max() < 0.3)
    True
    """

    horizon: int = 1
    context: int = 50
    strategy: str = "direct"
    lags: tuple[int, ...] = ()
    quantiles: tuple[float, ...] | None = None

    _per_step: ClassVar[bool] = True
    _checks: ClassVar[dict[str, Check]] = {
        **NetworkEstimator._checks,
        "horizon": checks.positive_int,
        "context": checks.positive_int,
        "strategy": lambda name, value: checks.one_of(name, value, ("direct", "recursive")),
        "lags": _lags,
        "quantiles": _quantiles,
    }

    def fit(
        self,
        y: Any,
        covariates: Any = None,
        *,
        checkpoint: str | os.PathLike[str] | None = None,
        resume: str | os.PathLike[str] | None = None,
        on_epoch: Callable[[Forecaster], None] | None = None,
    ) -> Forecaster:
        """Learn from series, forgetting what was learned before.

        Parameters
        ----------
        y : array_like, (T,) or (T, C), or list of them
            One series, or several. A list is several series, unless its members are numbers.
        covariates : array_like, (T,) or (T, K), or list of them, optional
            What goes with each step and is known ahead, such as the hour or a price set in advance.
        checkpoint, resume, on_epoch
            See `fastrnn.models.estimator.SequenceEstimator.fit`.

        Returns
        -------
        Forecaster
            This model.

        Raises
        ------
        TypeError, ValueError
            If a parameter is unusable, a series too short for `context`, `horizon`, `lags` and the part to
            validate on, or a value NaN or infinite: it names the place.
        FloatingPointError, KeyboardInterrupt
            As there.
        """
        return self._fit((y, covariates), None, checkpoint, resume, on_epoch)

    def partial_fit(self, y: Any, covariates: Any = None) -> Forecaster:
        """Learn for one more epoch, from these series: see `SequenceEstimator.partial_fit`.

        Those are what `predict` goes on from then.
        """
        return self._partial_fit((y, covariates))

    def predict(self, y: Any = None, covariates: Any = None, *, horizon: int | None = None) -> Any:
        """The steps that follow: their means, or with `quantiles` their medians.

        Parameters
        ----------
        y : array_like or list of them, optional
            The past of the series to forecast, as in `fit`; by default the series of `fit`. It needs
            `context` steps, and ``max(lags) - 1`` more.
        covariates : array_like or list of them, optional
            With `y`, those of all its steps and of the horizon's. Without, those of the horizon's alone.
        horizon : int, optional
            How many steps, by default the parameter `horizon`; more than that only by the recursive strategy.

        Returns
        -------
        ndarray of float64, (horizon,) or (horizon, C), or list of them
            In the form in which the series came.

        Raises
        ------
        TypeError, ValueError
            If an argument is unusable: too short, of other channels, NaN.
        RuntimeError
            If the model is not fitted.
        """
        return self._forecasts(y, covariates, horizon, None)

    def predict_quantiles(self, y: Any = None, covariates: Any = None, *, horizon: int | None = None) -> Any:
        """The quantiles of the steps that follow, in the order of `quantiles`.

        Each step's are sorted, so that they never cross, which a network that learns them side by side does
        not ensure by itself (Chernozhukov et al., Quantile and probability curves without crossing, 2010).

        Parameters
        ----------
        y, covariates, horizon
            As of `predict`.

        Returns
        -------
        ndarray of float64, (horizon, Q) or (horizon, C, Q), or list of them
        """
        self._levels()
        return self._forecasts(y, covariates, horizon, slice(None))

    def predict_interval(
        self, y: Any = None, covariates: Any = None, *, horizon: int | None = None, coverage: float = 0.8
    ) -> tuple[Any, Any]:
        """Bounds that each step is between with some probability.

        Parameters
        ----------
        y, covariates, horizon
            As of `predict`.
        coverage : float
            The probability; the quantiles (1 - coverage) / 2 and (1 + coverage) / 2 must be in `quantiles`.

        Returns
        -------
        lower, upper
            Each as `predict` returns.
        """
        levels = self._levels()
        coverage = checks.probability("coverage", coverage)
        ends = np.array([(1 - coverage) / 2, (1 + coverage) / 2])
        places = np.abs(np.array(levels) - ends[:, None]).argmin(axis=1)
        if not np.isclose(np.array(levels)[places], ends).all():
            needed = " and ".join(f"{end:.4g}" for end in ends)
            raise ValueError(f"coverage {coverage} needs the quantiles {needed}, but there are {levels}")
        lower, upper = (self._forecasts(y, covariates, horizon, place) for place in places)
        return lower, upper

    def score(self, y: Any, covariates: Any = None) -> float:
        """R² of forecasts of the last `horizon` steps of each series from those before.

        1 is perfect; 0 is as good as the mean over these steps, of each channel and series, would have been.

        Parameters
        ----------
        y, covariates
            As of `fit`.

        Returns
        -------
        float
        """
        self._require_fitted("history_")
        series, _, several = read_series("y", y)
        self._require_steps(series, several, [self._frame.past + self._horizon] * len(series))
        past = [array[: -self._horizon] for array in series]
        given = None if covariates is None else read_series("covariates", covariates)[0]
        found = [array.reshape(self._horizon, -1) for array in self.predict(past, given)]
        truth = [array[-self._horizon :] for array in series]
        errors = sum(float(np.square(a - b).sum()) for a, b in zip(truth, found, strict=True))
        spread = sum(float(np.square(a - a.mean(axis=0)).sum()) for a in truth)
        return 1 - errors / spread if spread else float(errors == 0)

    # -- what the base asks for

    def _checked_copy(self) -> Forecaster:
        model = super()._checked_copy()
        if model.strategy == "recursive" and model.quantiles is not None:
            raise ValueError('quantiles need strategy="direct": quantiles fed back are no quantiles')
        early = [lag for lag in model.lags if lag < model._new_frame().ahead]
        if early:
            raise ValueError(
                f'lags must be at least horizon = {model.horizon} with strategy="direct", got {early[0]}'
            )
        return model

    def _new_frame(self) -> Frame:
        return Frame(self.context, self.horizon if self.strategy == "direct" else 1, tuple(self.lags))

    def _read(self, y: Any, covariates: Any, *, learn: bool) -> Any:
        series, dimensions, several = read_series("y", y)
        given = _read_covariates(covariates, [len(array) for array in series], "of y")
        if learn:
            self.n_channels_, self.n_covariates_ = series[0].shape[1], given[0].shape[1]
            self._frame, self._horizon = self._new_frame(), self.horizon
            self._covariate_scale = Scale.of(np.concatenate(given))
        self._require_form(series, given)
        self._require_steps(series, several, [self._frame.past + self._frame.ahead] * len(series))
        self._several = several
        self._pasts = self._tails(series, given, dimensions)
        values, known = [], []
        first, lags = self._frame.first, self._frame.lags
        for array, beside, past in zip(series, given, self._pasts, strict=True):
            scaled = past.scale.apply(array)
            inputs = known_inputs(scaled, self._covariate_scale.apply(beside), lags, first, len(scaled))
            values.append(scaled.astype(self.dtype))
            known.append(np.pad(inputs, ((first, 0), (0, 0))).astype(self.dtype))
        return ForecastWindows(values, known, self._frame)

    def _build(self, rng: np.random.Generator) -> ForecastNetwork:
        known = len(self._frame.lags) * self.n_channels_ + self.n_covariates_
        return ForecastNetwork(
            recurrent(self, self.n_channels_ + known, rng),
            self.n_channels_,
            self._frame.ahead,
            known,
            None if self.quantiles is None else list(self.quantiles),
            self.dropout,
            rng,
        )

    def _format(self) -> dict[str, Any]:
        return {
            "n_channels": self.n_channels_,
            "n_covariates": self.n_covariates_,
            "covariate_scale": [part.tolist() for part in self._covariate_scale],
            "several": self._several,
            "series": [
                {
                    "values": past.values.tolist(),
                    "covariates": past.covariates.tolist(),
                    "scale": [part.tolist() for part in past.scale],
                    "dimensions": past.dimensions,
                }
                for past in self._pasts
            ],
        }

    def _restore(self, metadata: Mapping[str, Any]) -> None:
        self.n_channels_, self.n_covariates_ = metadata["n_channels"], metadata["n_covariates"]
        self._frame, self._horizon = self._new_frame(), self.horizon
        self._covariate_scale = Scale(*map(np.array, metadata["covariate_scale"]))
        self._several = metadata["several"]
        self._pasts = [
            Past(
                np.array(series["values"], np.float64).reshape(-1, self.n_channels_),
                np.array(series["covariates"], np.float64).reshape(self._frame.past, self.n_covariates_),
                Scale(*map(np.array, series["scale"])),
                series["dimensions"],
            )
            for series in metadata["series"]
        ]

    def _batches(self, examples: Any, rng: np.random.Generator | None) -> Iterator[Any]:
        return iter(examples.batches(self.batch_size, rng))

    def _split(self, examples: Any) -> tuple[Any, Any]:
        if not self.validation_fraction:
            return examples, None
        training, validation = examples.split(self.validation_fraction)
        least = [self._frame.past + self._frame.ahead + count for count in validation.held_out]
        self._require_steps(validation.values, self._several, least, " and those to validate on")
        return training, validation

    def _samples(self, examples: Any) -> int:
        return int(examples.samples)

    # -- how a forecast is made

    def _levels(self) -> list[float]:
        self._require_fitted("history_")
        levels: list[float] | None = self._network.quantiles
        if levels is None:
            raise ValueError("quantiles are not forecast: set the parameter quantiles, and fit again")
        return levels

    def _forecasts(self, y: Any, covariates: Any, horizon: int | None, quantile: Any) -> Any:
        """The forecasts of a quantile, of several or, with None, of the middle, in the form of the series."""
        self._require_fitted("history_")
        horizon = self._horizon if horizon is None else checks.positive_int("horizon", horizon)
        if self._fitted_with["strategy"] == "direct" and horizon > self._frame.ahead:
            limit = f'at most {self._frame.ahead}, as fitted with strategy="direct"'
            raise ValueError(f"horizon must be {limit}, got {horizon}")
        if y is None:
            pasts, several = self._pasts, self._several
            coming = _read_covariates(covariates, [horizon] * len(pasts), "ahead")
            self._require_form([past.values for past in pasts], coming)
        else:
            series, dimensions, several = read_series("y", y)
            lengths = [len(array) for array in series]
            given = _read_covariates(covariates, [T + horizon for T in lengths], f"of y and {horizon} ahead")
            self._require_form(series, given)
            self._require_steps(series, several, [self._frame.past] * len(series))
            past_given = [array[:T] for array, T in zip(given, lengths, strict=True)]
            coming = [array[T:] for array, T in zip(given, lengths, strict=True)]
            pasts = self._tails(series, past_given, dimensions)
        found = []
        for begin in range(0, len(pasts), self._fitted_with["batch_size"]):
            chosen = slice(begin, begin + self._fitted_with["batch_size"])
            found += self._run(pasts[chosen], coming[chosen], horizon)
        which = self._network.middle if quantile is None else quantile
        picked = [array[..., which] for array in found]
        for place, past in enumerate(pasts):
            if past.dimensions == 1:
                picked[place] = picked[place][:, 0]
        return picked if several else picked[0]

    def _run(self, pasts: list[Past], coming: list[Array], horizon: int) -> list[Array]:
        """The forecasts, (horizon, C, Q), of some series side by side."""
        network, frame = self._network, self._frame
        rows = -(-horizon // frame.ahead) * frame.ahead  # what is forecast beyond the horizon is cut off
        padding = ((0, rows), (0, 0), (0, 0))
        values = np.pad(np.stack([past.scale.apply(past.values) for past in pasts], axis=1), padding)
        given = [np.concatenate([past.covariates, new]) for past, new in zip(pasts, coming, strict=True)]
        covariates = np.pad(self._covariate_scale.apply(np.stack(given, axis=1)), padding)
        begin, end, state, outputs = frame.first - 1, frame.past, None, []
        while end < frame.past + horizon:
            known = known_inputs(values, covariates, frame.lags, begin + 1, end + frame.ahead)
            x = np.concatenate([values[begin:end], known[: end - begin]], axis=-1)
            ahead = known[end - begin - 1 :].swapaxes(0, 1)
            dtype = network.head.dtype
            found, state = network(x.astype(dtype), ahead.astype(dtype), state)
            outputs.append(np.sort(found.astype(np.float64), axis=-1))
            values[end : end + frame.ahead] = outputs[-1][..., network.middle].swapaxes(0, 1)
            begin, end = end, end + frame.ahead
        scaled = np.concatenate(outputs, axis=1)[:, :horizon]
        return [
            past.scale.undo(array.swapaxes(1, 2)).swapaxes(1, 2)
            for array, past in zip(scaled, pasts, strict=True)
        ]

    def _tails(self, series: list[Array], given: list[Array], dimensions: list[int]) -> list[Past]:
        S = self._frame.past
        return [
            Past(array[-S:], covariates[-S:], Scale.of(array), ndim)
            for array, covariates, ndim in zip(series, given, dimensions, strict=True)
        ]

    def _require_form(self, series: list[Array], given: list[Array]) -> None:
        found = {"y": series[0].shape[1], "covariates": given[0].shape[1]}
        for (name, came), fitted in zip(found.items(), (self.n_channels_, self.n_covariates_), strict=True):
            if came != fitted:
                raise ValueError(f"{name} must have {fitted} channels, as in fit, got {came}")

    def _require_steps(self, series: list[Array], several: bool, least: list[int], also: str = "") -> None:
        for place, (array, steps) in enumerate(zip(series, least, strict=True)):
            if len(array) < steps:
                name = f"y[{place}]" if several else "y"
                lags = f", lags of up to {self._frame.first}" if self._frame.lags else ""
                needs = f"a context of {self._frame.context}{lags}, the steps ahead{also}"
                raise ValueError(f"{name} must have at least {steps} steps, for {needs}, got {len(array)}")


def _read_covariates(value: Any, lengths: list[int], which: str) -> list[Array]:
    """Covariates of some lengths, (T_i, K), with K = 0 if there are none."""
    if value is None:
        return [np.zeros((length, 0)) for length in lengths]
    covariates, _, several = read_series("covariates", value)
    if len(covariates) != len(lengths):
        raise ValueError(f"covariates must be of {len(lengths)} series, as y, got {len(covariates)}")
    for place, (array, length) in enumerate(zip(covariates, lengths, strict=True)):
        if len(array) != length:
            name = f"covariates[{place}]" if several else "covariates"
            raise ValueError(f"{name} must have {length} steps, those {which}, got {len(array)}")
    return covariates

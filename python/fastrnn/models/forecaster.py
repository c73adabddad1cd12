"""What comes next in a series of numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastrnn import checks
from fastrnn.data.windows import Scale, in_units
from fastrnn.layers import Composite
from fastrnn.models.estimator import Callbacks, Path
from fastrnn.models.forecasting import LearnsToForecast
from fastrnn.models.intervals import bounds, score_of
from fastrnn.models.members import fitted
from fastrnn.training.learning import Learn


@dataclass(kw_only=True, eq=False, repr=False)
class Forecaster(LearnsToForecast):
    """A recurrent network that forecasts one series or many, from their past and from what is known ahead.

    After each step it forecasts the steps that follow, from its state and from what is known of them
    beforehand: covariates, and the series' own values some `lags` earlier (Wen et al., A multi-horizon
    quantile recurrent forecaster, 2017, with a linear readout). It learns from windows of `context` steps,
    and forecasts from the last `context` steps. A window is scaled to mean 0 and deviation 1 by itself, in
    training as in prediction (Kim et al., Reversible instance normalization, 2022), so that levels may move
    and nothing of a series need be known but its last steps; each covariate is scaled over all series. Where
    a window does not vary at all, its level is forecast.

    Intervals are calibrated by forecasts of the end of each series, which the network then had not seen:
    see `predict_interval`.

    Attributes
    ----------
    n_channels_, n_covariates_ : int
        Of each series.
    network_ : Composite
        The network; with ``global_model=False`` one whose parts, "0", "1" and so on, are those of the series.
    compression_ : Compression or None
        What `compress` has reported of this model; None of one that it has not made.
    history_ : list of dict
        One record per epoch of the training before `refit`: see `fastrnn.training.Training`. With
        ``global_model=False`` a list of them for each series, as `best_epoch_` has an epoch for each.

    Examples
    --------
    >>> y = np.sin(np.arange(400) * 0.3)
    >>> model = Forecaster(horizon=20, context=20, hidden_size=16, epochs=20, learning_rate=0.02, seed=0)
    >>> forecast = model.fit(y[:-20]).predict()
    >>> bool(np.abs(forecast - y[-20:]).max() < 0.3)
    True
    """

    def fit(
        self,
        y: Any,
        covariates: Any = None,
        *,
        checkpoint: Path | None = None,
        resume: Path | None = None,
        callbacks: Callbacks = (),
    ) -> Forecaster:
        """Learn from series, forgetting what was learned before.

        Parameters
        ----------
        y : array_like, Series or DataFrame, or several
            One series, (T,) or (T, C): an array, a Series, or a frame with a column for each channel. Or
            several: a list, unless its members are numbers; a dict; a Series or frame whose index has two
            levels, names and stamps; a long frame with these in the columns "unique_id" and "ds", whose
            other columns are channels.

            An index of pandas, of dates, periods, times or integers, has to go in equal steps, which
            forecasts continue. Later series must go in the same, and have the same columns in their order.
        covariates : likewise, (T,) or (T, K), optional
            What goes with each step and is known ahead, such as the hour or a price set in advance. Where
            both have an index, rows are found by their stamps, among others such as those of the future,
            and a single frame is for all series. Else there is a row for each step.
        checkpoint, resume, callbacks
            See `fastrnn.models.estimator.SequenceEstimator.fit`. With ``global_model=True`` only.

        Returns
        -------
        Forecaster
            This model.

        Raises
        ------
        TypeError, ValueError
            If a parameter is unusable, a series too short for `context`, `horizon`, `lags` and the part to
            validate on, a value NaN or infinite, steps of an index not equal, or stamps without covariates:
            it names the place.
        FloatingPointError, KeyboardInterrupt
            As there.
        """
        if checks.boolean("global_model", self.global_model):
            return self._fit((y, covariates), None, checkpoint, resume, callbacks)
        if checkpoint is not None or resume is not None or callbacks != ():
            self._require_global("for checkpoint, resume and callbacks")
        return self._fit_each(y, covariates)

    def partial_fit(self, y: Any, covariates: Any = None) -> Forecaster:
        """Learn for one more epoch, from these series: see `SequenceEstimator.partial_fit`.

        Those are what `predict` goes on from then. Intervals stay as `fit` has calibrated them, and
        covariates are scaled as in the first call: one that did not vary there has no effect. It needs
        ``global_model=True``.
        """
        self._require_global("for partial_fit")
        return self._partial_fit((y, covariates))

    def predict(self, y: Any = None, covariates: Any = None, *, horizon: int | None = None) -> Any:
        """The steps that follow: their means, or what `loss` makes of them; with `quantiles` the medians.

        Parameters
        ----------
        y : optional
            The past of the series to forecast, as in `fit`; by default the series of `fit`. It needs
            `context` steps, and ``max(lags) - 1`` or ``sum(differences)`` more, whichever is more.
        covariates : optional
            With `y`, those of all its steps and of the horizon's. Without, those of the horizon's alone.
        horizon : int, optional
            How many steps, by default the parameter `horizon`; more than that only by the recursive strategy.

        Returns
        -------
        ndarray of float64, (horizon,) or (horizon, C), or Series, DataFrame, list or dict
            In the form in which the series came, with the stamps that follow.

        Raises
        ------
        TypeError, ValueError
            If an argument is unusable: too short, of other channels, NaN.
        RuntimeError
            If the model is not fitted.
        """
        model = self._as_fitted()
        form, forecasts, _ = model._forecasts(y, covariates, horizon)
        return form.forecasts(forecasts[..., model._levels.index(0.5)])

    def predict_quantiles(self, y: Any = None, covariates: Any = None, *, horizon: int | None = None) -> Any:
        """The quantiles of the steps that follow, in the order of `quantiles`, as the network learned them.

        Each step's are sorted, so that they never cross, which a network that learns them side by side does
        not ensure by itself (Chernozhukov et al., Quantile and probability curves without crossing, 2010).
        They are not calibrated; `predict_interval` is.

        Parameters
        ----------
        y, covariates, horizon
            As of `predict`.

        Returns
        -------
        ndarray of float64, (horizon, Q) or (horizon, C, Q), or of pandas or several as by `predict`
            A Series becomes a frame with a column for each quantile; a frame has them below each channel, a
            long one in columns such as "y_0.1".
        """
        model = self._as_fitted()
        if model.quantiles is None:
            raise ValueError("quantiles are not forecast: set the parameter quantiles, and fit again")
        form, forecasts, _ = model._forecasts(y, covariates, horizon)
        return form.forecasts(forecasts, model.quantiles)

    def predict_interval(
        self, y: Any = None, covariates: Any = None, *, horizon: int | None = None, coverage: float = 0.8
    ) -> tuple[Any, Any]:
        """Bounds that each step is between with some probability, by what `fit` has seen of its own errors.

        It is as wide as would have covered so many of the values at the end of each series, which were
        forecast before they were learned: conformalised quantile regression (Romano, Patterson and Candès
        2019), for each step of the horizon and each channel. An interval lies between two of the learned
        quantiles, or beyond the outer ones or the mean by some deviations of the window's context; one of a
        greater coverage holds it. The coverage holds as far as what follows is like those ends. Where a
        context does not vary, the interval is a point; it is endless if contexts did not vary before too many
        of those values that did.

        Parameters
        ----------
        y, covariates, horizon
            As of `predict`; at most the parameter `horizon`, by the recursive strategy too.
        coverage : float
            The probability, from 0 to 1.

        Returns
        -------
        lower, upper
            Each as `predict` returns.

        Raises
        ------
        TypeError, ValueError, RuntimeError
            As `predict`; also where nothing, or too little for this coverage, was held out.
        """
        model, coverage = self._as_fitted(), checks.probability("coverage", coverage)
        steps = model._steps_ahead(horizon)
        score = np.stack([score_of(coverage, each, steps) for each in model._scores])
        form, forecasts, deviation = model._forecasts(y, covariates, horizon)
        series = model._places(form, len(forecasts))
        score = score if series is None else score[series]
        low, high = bounds(score, forecasts, deviation[:, None], model._levels)
        return form.forecasts(low), form.forecasts(high)

    def score(self, y: Any, covariates: Any = None) -> float:
        """R² of forecasts of the last `horizon` steps of each series from those before.

        1 is perfect; 0 is as good as to forecast the mean of each channel and series over the steps before.
        Errors are in units of their deviation there, so that the scale of a series does not matter. Series
        that do not vary there do not count; of such alone it is 1 if they are met, else 0.

        Parameters
        ----------
        y, covariates
            As of `fit`.

        Returns
        -------
        float
        """
        model = self._as_fitted()
        panel, given = model._given(y, covariates)
        model._require_steps(panel.values, panel.form, model._reach.past + model.horizon)
        truths = [array[-model.horizon :] for array in panel.values]
        past = [array[: -model.horizon] for array in panel.values]
        values, known = model._ends(past), model._ends(given, model.horizon)
        series = model._places(panel.form, len(values))
        forecasts, _ = model._run(values.swapaxes(0, 1), known.swapaxes(0, 1), series)
        found = forecasts[..., model._levels.index(0.5)]
        errors = spread = 0.0
        for before, truth, forecast in zip(past, truths, found, strict=True):
            scale = Scale.of(before)
            errors += float(np.square(in_units(truth - forecast, scale.deviation)).sum())
            spread += float(np.square(scale.apply(truth)).sum())
        return 1 - errors / spread if spread else float(all(map(np.array_equal, truths, found)))

    # -- a network for each series

    def _fit_each(self, y: Any, covariates: Any) -> Forecaster:
        """Fit one to each series, and be what they have become."""
        model: Any = self._checked_copy()
        windows = model._read(y, covariates, learn=True)
        model._split(windows)  # or say which is too short
        one = type(model)(**{**model.get_params(), "global_model": True})
        beside = windows.covariates if model.n_covariates_ else [None] * len(windows.values)
        series = enumerate(zip(windows.values, beside, strict=True))
        each = fitted(one, ((model._tails.form.place("y", k), given) for k, given in series))
        model._fitted_with, model._optimizers = model.get_params(), None
        model.network_ = Composite(**{str(k): member.network_ for k, member in enumerate(each)})
        scales = zip(*(member._covariate_scale for member in each), strict=True)
        model._covariate_scale = Scale(*map(np.stack, scales))
        model._scores = [member._scores[0] for member in each]
        model.history_ = [member.history_ for member in each]
        model.best_epoch_ = [member.best_epoch_ for member in each]
        return self._become(model)

    def _require_global(self, what: str) -> None:
        if not (self.global_model and getattr(self, "_fitted_with", {}).get("global_model", True)):
            raise ValueError(f"global_model must be True {what}: each series has a training of its own else")

    def _learner(self) -> Learn:
        self._require_global("for that")
        return super()._learner()

"""What a forecaster learns, and how it runs: its parameters, windows and networks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from fastrnn import checks, losses
from fastrnn.checks import Array
from fastrnn.data import Dataset
from fastrnn.data.panel import Form, Panel, Steps, read_series
from fastrnn.data.windows import ForecastWindows, Reach, Scale
from fastrnn.layers import Composite
from fastrnn.models.estimator import Check, NetworkEstimator
from fastrnn.models.forecast_network import ForecastNetwork
from fastrnn.models.intervals import scores
from fastrnn.models.networks import recurrent
from fastrnn.models.parameters import named_or_function
from fastrnn.models.regressor import LOSSES

ORIGINS_IN_A_CONTEXT = 4  # a window is forecast from the end of its context and a quarter as many steps on
CALIBRATING_WINDOWS = 1000  # at most


class Tails(NamedTuple):
    """The last steps of N series, as many as a forecast needs."""

    values: Array  # (N, S, C)
    covariates: Array  # (N, S, K)
    form: Form


def _quantiles(name: str, value: Any) -> tuple[float, ...] | None:
    """Levels that rise, with the median among them."""
    if value is None:
        return None
    levels = checks.array(name, value, "None or levels between 0 and 1")
    rising = levels.ndim == 1 and levels.dtype.kind == "f" and bool((np.diff(levels) > 0).all())
    if not rising or not ((levels > 0) & (levels < 1)).all() or 0.5 not in levels:
        expected = "None or rising levels between 0 and 1, 0.5 among them"
        raise ValueError(f"{name} must be {expected}, got {value!r}")
    return tuple(float(level) for level in levels)


def _steps(name: str, value: Any) -> tuple[int, ...]:
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"{name} must be a tuple of integers, got {checks.came(value)}")
    return tuple(checks.positive_int(f"{name}[{place}]", lag) for place, lag in enumerate(value))


def _context(name: str, value: Any) -> int:
    if (steps := checks.positive_int(name, value)) < 2:
        raise ValueError(f"{name} must be at least 2, as a single step does not vary, got {value}")
    return steps


@dataclass(kw_only=True, eq=False, repr=False)
class LearnsToForecast(NetworkEstimator):
    """A network, or one for each of some series, that forecasts.

    Parameters
    ----------
    horizon : int
        The steps to forecast.
    context : int
        The steps that a forecast is made from, beside the lags; at least 2.
    strategy : {"direct", "recursive"}
        Whether all steps of the horizon are forecast at once, or one, from which the next is, and so on.
    lags : tuple of int
        How many steps earlier the values are that enter beside each step ahead, such as a day or a week; at
        least `horizon` with the direct strategy, which has no later ones.
    loss : {"mean_squared_error", "mean_absolute_error", "huber"} or callable
        What is least for the forecasts: their mean by the first, or what outliers pull less; see
        `fastrnn.losses`. A function takes forecasts and what came, and returns the loss and its gradient.
    quantiles : tuple of float or None
        The quantiles to forecast, the median among them, by the pinball loss instead; direct strategy only,
        since quantiles fed back are no quantiles.
    differences : tuple of int
        Spans of steps over which changes are forecast instead of levels, one after the other: (1,) for a
        level that wanders or a trend, (24,) for an hourly series with a day's season, (1, 24) for both. A
        forecast departs then from the path along which the changes stay at their mean over the context.
    global_model : bool
        Whether one network learns from all series. Else each has one of its own, which is trained as if its
        series were the only one (`many`); later series have to be those of `fit` then, by their names or in
        their order.
    refit : bool
        Whether training, when the best weights have been chosen on the end of each series, goes on with all
        of the series, at a tenth of the learning rate, for as many steps more as there are more windows. Else
        the ends of the series stay unlearned.
    bptt_steps : int or None
        Steps that gradients flow back through; None is all of `context`.
    epochs : int or None
        Passes over all windows at most, one of which starts at each step; None: as many as `max_steps` take.
    max_steps : int or None
        Training stops after so many steps of the optimizer.
    validation_fraction : float
        The part at the end of each series, at least the horizon, that is forecast to choose the best weights
        and to calibrate intervals. With 0 there are no intervals.
    """

    horizon: int = 1
    context: int = 50
    strategy: str = "direct"
    lags: tuple[int, ...] = ()
    loss: str | losses.Loss = "mean_squared_error"
    quantiles: tuple[float, ...] | None = None
    differences: tuple[int, ...] = ()
    global_model: bool = True
    refit: bool = True
    epochs: int | None = None
    max_steps: int | None = 1000

    _checks: ClassVar[dict[str, Check]] = {
        **NetworkEstimator._checks,
        "horizon": checks.positive_int,
        "context": _context,
        "strategy": lambda name, value: checks.one_of(name, value, ("direct", "recursive")),
        "lags": _steps,
        "loss": named_or_function(*LOSSES),
        "quantiles": _quantiles,
        "differences": _steps,
        "global_model": checks.boolean,
        "refit": checks.boolean,
    }

    # -- what the base asks for

    def _checked_copy(self) -> Any:
        model = super()._checked_copy()
        if model.strategy == "recursive" and model.quantiles is not None:
            raise ValueError('quantiles need strategy="direct": quantiles fed back are no quantiles')
        if model.loss != LOSSES[0] and model.quantiles is not None:
            raise ValueError(
                f"loss must be {LOSSES[0]!r} beside quantiles, which have theirs, got {model.loss!r}"
            )
        early = [lag for lag in model.lags if lag < model._reach.ahead]
        if early:
            raise ValueError(
                f'lags must be at least horizon = {model.horizon} with strategy="direct", got {early[0]}'
            )
        return model

    @property
    def _reach(self) -> Reach:
        origins = max(1, min(self.context // ORIGINS_IN_A_CONTEXT, self.bptt_steps or self.context))
        ahead = self.horizon if self.strategy == "direct" else 1
        return Reach(self.context, ahead, self.lags, self.differences, origins)

    def _read(self, y: Any, covariates: Any = None, *, learn: bool) -> ForecastWindows:
        panel, given = self._given(y, covariates, learn=learn)
        self._require_steps(panel.values, panel.form, self._reach.past + self._reach.ahead)
        self._tails = Tails(self._ends(panel.values), self._ends(given), panel.form)
        return ForecastWindows(panel.values, given, self._reach)

    def _learn_scale(self, examples: ForecastWindows) -> None:
        if not hasattr(self, "_covariate_scale"):
            self._covariate_scale = Scale.of(np.concatenate(examples.covariates))

    def _build(self, rng: np.random.Generator) -> Composite:
        if self.global_model:
            return self._one_network(rng)
        return Composite(**{str(place): self._one_network(rng) for place in range(len(self._tails.values))})

    def _one_network(self, rng: np.random.Generator) -> ForecastNetwork:
        known = len(self._reach.lags) * self.n_channels_ + self.n_covariates_
        return ForecastNetwork(
            recurrent(self, self.n_channels_ + known, rng),
            self.n_channels_,
            self._reach.ahead,
            known,
            losses.get(self.loss),
            self.quantiles,
            self.bptt_steps,
            self.dropout,
            rng,
        )

    def _format(self) -> dict[str, Any]:
        return {
            "channels": self._channels,
            "covariate_scale": np.stack(self._covariate_scale),
            "scores": np.concatenate(self._scores),
            "tails": self._tails.values,
            "tails_covariates": self._tails.covariates,
            "form": dataclasses.asdict(self._tails.form),
            **({} if self.global_model else {"scored": [len(each) for each in self._scores]}),
        }

    def _restore(self, metadata: Mapping[str, Any]) -> None:
        self._learn_channels(metadata["channels"])
        self._covariate_scale = Scale(*metadata["covariate_scale"])
        self._scores = np.split(metadata["scores"], np.cumsum(metadata.get("scored", [0]))[:-1])
        self._tails = Tails(metadata["tails"], metadata["tails_covariates"], Form(**metadata["form"]))

    def _dataset(self, examples: ForecastWindows) -> Dataset:
        return dataclasses.replace(examples, batch_size=self.batch_size, scale=self._covariate_scale)

    def _split(self, examples: ForecastWindows) -> tuple[ForecastWindows, ForecastWindows | None]:
        part = self.validation_fraction
        if not part:
            return examples, None
        held_out = [max(self.horizon, round(part * len(values))) for values in examples.values]
        least = [self._reach.past + self._reach.ahead + count for count in held_out]
        also = ", the steps ahead and those to validate on"
        self._require_steps(examples.values, self._tails.form, *least, also=also)
        return examples.split(held_out)

    def _train(self, training: ForecastWindows, validation: ForecastWindows | None, *others: Any) -> None:
        super()._train(training, validation, *others)
        if validation is None or self.best_epoch_ is None:
            return
        self._scores = [self._scores_of(validation)]
        if self.refit:
            steps = self.history_[self.best_epoch_ - 1]["steps"]
            everything = dataclasses.replace(validation, held_out=None)
            more = steps * (everything.samples / training.samples - 1)
            self._go_on(everything, max(1, round(more)))

    # -- after the training

    def _scores_of(self, held_out: ForecastWindows) -> Array:
        """The scores of what followed on some of the held out windows, (N, horizon, C): see `intervals`."""
        past, steps = self._reach.past, self._reach.past + self.horizon
        lengths = np.array([len(values) for values in held_out.values])
        series, starts = held_out.places.T
        whole = held_out.places[starts + steps <= lengths[series]]
        some = whole[np.linspace(0, len(whole) - 1, min(len(whole), CALIBRATING_WINDOWS)).astype(np.int64)]
        values, covariates = held_out.cut(some, steps)
        forecasts, deviation = self._run(values[:past], covariates)
        truth = values[past:].swapaxes(0, 1)
        return scores(truth, forecasts, deviation[:, None], self._levels).astype(np.float32)

    def _go_on(self, windows: ForecastWindows, steps: int) -> None:
        """Train for some more steps; whatever happens, the weights are those before or those after."""
        before = self.network_.state_dict()
        try:
            self._learn(windows, self._make_optimizers(self.learning_rate / 10), max_steps=steps)
        except BaseException:
            self.network_.load_state_dict(before)
            raise

    # -- what is given, checked

    def _given(
        self, y: Any, covariates: Any, horizon: int = 0, *, learn: bool = False
    ) -> tuple[Panel, list[Array]]:
        """Series, and covariates of theirs and of so many steps ahead."""
        panel = read_series("y", y, None if learn else self._tails.form)
        beside = _read_covariates(covariates, panel.steps(horizon))
        if learn:
            self._learn_channels({"y": panel.channels, "covariates": beside.channels})
            self._scores = [np.zeros((0, self.horizon, self.n_channels_))]
        self._require_channels(y=panel, covariates=beside)
        return panel, beside.values

    def _learn_channels(self, channels: Mapping[str, Any]) -> None:
        """How many channels there are, and what they are called if they have names."""
        self._channels = channels
        self.n_channels_, self.n_covariates_ = channels["y"][0], channels["covariates"][0]

    def _require_channels(self, **panels: Panel) -> None:
        for name, panel in panels.items():
            (count, names), (fitted, known) = panel.channels, self._channels[name]
            if names and known and names != known:
                must = f"must have the columns of fit, in their order: {known}"
                raise ValueError(f"{name} {must}, got {names}")
            if count != fitted:
                raise ValueError(f"{name} must have {fitted} channels, as in fit, got {count}")

    def _require_steps(
        self, series: list[Array], form: Form, *least: int, also: str = ", the steps ahead"
    ) -> None:
        """Raise if a series has less than so many steps, one number for all or one for each."""
        for place, array in enumerate(series):
            steps = least[place % len(least)]
            if len(array) < steps:
                before = self._reach.before and f", {self._reach.before} before it for lags and differences"
                needs = f"{steps} steps, for a context of {self._reach.context}{before or ''}{also}"
                name = form.place("y", place)
                raise ValueError(f"{name} must have at least {needs}, got {len(array)}")

    # -- how a forecast is made

    def _steps_ahead(self, horizon: int | None) -> int:
        """The steps to forecast, checked."""
        horizon = self.horizon if horizon is None else checks.positive_int("horizon", horizon)
        if self.strategy == "direct" and horizon > self.horizon:
            limit = f'at most {self.horizon}, as fitted with strategy="direct"'
            raise ValueError(f"horizon must be {limit}, got {horizon}")
        return horizon

    def _forecasts(self, y: Any, covariates: Any, horizon: int | None) -> tuple[Form, Array, Array]:
        """The form of N series, their forecasts, (N, horizon, C, Q), and contexts' deviations, (N, C)."""
        horizon = self._steps_ahead(horizon)
        if y is None:
            values, known, form = self._tails
            ahead = Steps([horizon] * len(values), form.following(horizon), form.names, "ahead")
            beside = _read_covariates(covariates, ahead)
            self._require_channels(covariates=beside)
            given = np.concatenate([known, np.stack(beside.values)], axis=1)
        else:
            panel, found = self._given(y, covariates, horizon)
            self._require_steps(panel.values, panel.form, self._reach.past, also="")
            values, given, form = self._ends(panel.values), self._ends(found, horizon), panel.form
        series = self._places(form, len(values))
        return form, *self._run(values.swapaxes(0, 1), given.swapaxes(0, 1), series)

    def _places(self, form: Form, count: int) -> list[int] | None:
        """Which networks are those of some series, where each has one."""
        if self.global_model:
            return None
        known = self._tails.form.names
        if bool(known) != bool(form.names) or (not known and count != len(self._tails.values)):
            came = f"{count} {'by name' if form.names else 'without names'}"
            which = "some of these, by name" if known else f"the {len(self._tails.values)} in their order"
            raise ValueError(f"y must be of the series of fit, {which}, as global_model=False, got {came}")
        if missing := [name for name in form.names if name not in known]:
            raise ValueError(f"y must be of series of fit, as global_model=False, got {missing[0]!r}")
        return [known.index(name) for name in form.names] or list(range(count))

    def _ends(self, arrays: list[Array], ahead: int = 0) -> Array:
        """The last steps of each, as many as a forecast needs, and so many more, (N, S, ·)."""
        count = self._reach.past + ahead
        return np.stack([array[-count:] for array in arrays])

    def _run(self, values: Array, covariates: Array, series: list[int] | None = None) -> tuple[Array, Array]:
        """The forecasts of windows (S, N, C) with covariates (S + horizon, N, K), as of `_forecasts`.

        Each is of the series at some place, where each of these has a network.
        """
        networks: list[tuple[ForecastNetwork, Scale, slice]] = []
        if series is None:
            for at in range(0, values.shape[1], self.batch_size):
                networks.append((self.network_, self._covariate_scale, np.s_[at : at + self.batch_size]))
        else:
            for at, place in enumerate(series):
                scale = Scale(*(array[place] for array in self._covariate_scale))
                networks.append((self.network_.parts[str(place)], scale, np.s_[at : at + 1]))
        parts = [
            network.forecast(self._reach, values[:, some], scale.apply(covariates[:, some]))
            for network, scale, some in networks
        ]
        forecasts, deviations = map(np.concatenate, zip(*parts, strict=True))
        return forecasts, deviations

    @property
    def _levels(self) -> tuple[float, ...]:
        """Of the quantiles that are forecast; a mean takes the median's place."""
        return self.quantiles or (0.5,)


def _read_covariates(value: Any, steps: Steps) -> Panel:
    """Covariates of these steps, (T_i, K), with K = 0 if there are none."""
    if value is None:
        return Panel([np.zeros((length, 0)) for length in steps.lengths], Form(), [])
    return read_series("covariates", value, steps=steps)

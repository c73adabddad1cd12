"""What every model that trains a network shares: fitting, going on, files, and common parameters."""

from __future__ import annotations

import copy
import inspect
import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np

from fastrnn import checkpoint as files
from fastrnn import checks
from fastrnn.checks import Array
from fastrnn.data import Batches, Dataset, Examples, Sequences
from fastrnn.layers import CELLS
from fastrnn.models.parameters import Estimator
from fastrnn.models.splitting import held_out, warn_of_no_validation
from fastrnn.optim import Adam
from fastrnn.training import SCHEDULES, Trainer, part_of, same_settings

Self = TypeVar("Self", bound="NetworkEstimator")
SequenceSelf = TypeVar("SequenceSelf", bound="SequenceEstimator")

Check = Callable[[str, Any], Any]


def optional(check: Check) -> Check:
    """The check of a parameter that may be None."""
    return lambda name, value: None if value is None else check(name, value)


BUDGET = {"epochs", "max_steps", "patience", "max_seconds", "verbose"}  # may differ when a training goes on

SAMPLED = 8  # batches or windows by which a model is compared with guessing

STATE = "training."  # what the names of a checkpoint begin with where they are not the model's own
LEARNED = "learned."  # and those of arrays of a model that are not weights


@dataclass(kw_only=True, eq=False, repr=False)
class NetworkEstimator(Estimator):
    """A network trained by back-propagation through time; the base of every model.

    `SequenceEstimator` adds ``fit(X, y, lengths)`` and ``partial_fit``; a model with other arguments has its
    own and passes them on to ``_fit`` and ``_partial_fit``, as a tuple, from where ``_read`` gets them.

    A subclass is a dataclass too: its own parameters are fields with defaults, and their checks, which
    return plain Python, go into ``_checks``. It supplies

    - ``_read(X, y, lengths, *, learn) -> Examples``: the arguments of `fit` as examples, checked. With
      `learn` it also sets the attributes that say what the data is like (classes, scaling, vocabulary);
      without, it uses them.
    - ``_build(rng)``: the untrained network for these attributes, all of whose randomness, dropout's
      included, comes from the generator. A network is a `fastrnn.layers.Composite` with
      ``loss(batch, state, *, training)``, which returns the mean loss of an `Examples`, the number of samples
      it is the mean of, and the state to go on from; with ``training=True`` it also runs backward.
    - ``_format()`` and ``_restore(metadata)``: the learned attributes as a dict, whose values are arrays or
      what JSON can express, and back.

    and may replace

    - ``_dataset(examples) -> Dataset``: how examples go through the network, in training and validation. By
      default in batches, samples being sequences; see `fastrnn.data.Batches` for steps and for windows.
    - ``_classes(examples)``: the classes that each example has, and validation must not have the last of.
    - ``_split(examples)``: the examples to train on, and those to validate on or None. By default a random
      part, with as much of each class.
    - ``_learn_scale(examples)``: sets what numbers are scaled by from examples to train on, for ``_dataset``
      to apply. Called again for more of them, which `partial_fit` does, it changes no prediction.
    - ``_annotate(record)``: adds scores to an epoch's record.

    A prediction begins with ``model = self._as_fitted()``, whose parameters are those of `fit`; this reads X,
    then calls its ``network_`` on batches, by `fastrnn.data.batches`.

    Parameters
    ----------
    cell : {"lstm", "gru", "rnn"}
        The recurrent cell; "rnn" is the vanilla one with tanh.
    hidden_size, num_layers : int
        Units in a layer and direction, and layers.
    dropout : float
        The part of each layer's outputs that is dropped in training, in [0, 1).
    epochs : int or None
        Passes over the data at most. With 0 the weights keep their initial values; with None there are as
        many as `max_steps` or `max_seconds` allow.
    max_steps : int or None
        Training stops after so many steps of the optimizer, and the learning rate falls accordingly.
    batch_size : int
        Sequences side by side in a step of training.
    bptt_steps : int or None
        Steps that gradients flow back through; None is all steps of a sequence.
    learning_rate : float
        Adam's, at its highest.
    schedule : {"cosine", "constant", "step", "warmup"}
        How the learning rate changes: see `fastrnn.training`.
    clip_norm : float or None
        Gradients of a greater norm are scaled down to it.
    validation_fraction : float
        The part of the data, in [0, 1), that is not trained on. After every epoch it is scored, and the
        weights that score best are kept. The last example of a class is never held out. With 0 there is no
        validation, and the last weights are kept; likewise, with a warning, where the part is less than one
        example, or all are the last of a class.
    patience : int or None
        Training stops after so many epochs without a better score; it needs a validation.
    max_seconds : float or None
        Training stops after so many seconds, and the learning rate falls accordingly. What comes out depends
        on the machine's speed then; without it, one ``seed`` gives the same model again.
    dtype : {"float32", "float64"}
        Of weights and computation.
    seed : int or None
        Of all randomness: initial weights, dropout, order of the data. None takes fresh randomness.
    verbose : bool
        Show a progress bar if standard error is a terminal; it needs tqdm.

    Attributes
    ----------
    network_ : Composite
        The network, with the weights that predict as its ``parameters``; its layers can be called, run step
        by step, and trained further.
    history_ : list of dict
        One record per epoch: see `fastrnn.training.Trainer`.
    best_epoch_ : int or None
        The epoch the weights are from; None without validation.
    """

    cell: str = "lstm"
    hidden_size: int = 64
    num_layers: int = 1
    dropout: float = 0.0
    epochs: int | None = 50
    max_steps: int | None = None
    batch_size: int = 32
    bptt_steps: int | None = None
    learning_rate: float = 5e-3
    schedule: str = "cosine"
    clip_norm: float | None = 1.0
    validation_fraction: float = 0.1
    patience: int | None = None
    max_seconds: float | None = None
    dtype: str = "float32"
    seed: int | None = None
    verbose: bool = False

    _checks: ClassVar[dict[str, Check]] = {
        "cell": lambda name, value: checks.one_of(name, value, tuple(CELLS)),
        "hidden_size": checks.positive_int,
        "num_layers": checks.positive_int,
        "dropout": checks.fraction,
        "epochs": optional(checks.non_negative_int),
        "max_steps": optional(checks.positive_int),
        "batch_size": checks.positive_int,
        "bptt_steps": optional(checks.positive_int),
        "learning_rate": checks.positive_float,
        "schedule": lambda name, value: checks.one_of(name, value, tuple(SCHEDULES)),
        "clip_norm": optional(checks.positive_float),
        "validation_fraction": checks.fraction,
        "patience": optional(checks.positive_int),
        "max_seconds": optional(checks.positive_float),
        "dtype": lambda name, value: checks.float_dtype(name, value).name,
        "seed": optional(checks.non_negative_int),
        "verbose": checks.boolean,
    }

    # -- what a user calls

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted model to a safetensors file, in one step: see `fastrnn.checkpoint.save`."""
        self._require_fitted("history_")
        arrays, metadata = self._metadata()
        files.save(path, {**self.network_.parameters, **arrays}, metadata)

    @classmethod
    def load(cls: type[Self], path: str | os.PathLike[str]) -> Self:
        """The model that `save` wrote, or a checkpoint of `fit`.

        Raises
        ------
        OSError
            If the file cannot be read.
        ValueError
            If it is damaged, or holds anything else.
        """
        tensors, metadata = files.load(path)
        _require_model(path, metadata, cls.__name__)
        try:
            model = cls(**metadata["parameters"])._checked_copy()
            model._restore({**metadata, **part_of(tensors, LEARNED)})
            model._begin()
            weights = (name for name in tensors if not name.startswith((STATE, LEARNED)))
            model.network_.load_state_dict({name: tensors[name] for name in weights})
            model.history_, model.best_epoch_ = metadata["history"], metadata["best_epoch"]
        except Exception as error:  # of many kinds, since a file may hold anything
            reason = f"{error} is missing" if isinstance(error, KeyError) else error
            raise ValueError(f"{os.fspath(path)!r} holds an inconsistent {cls.__name__}: {reason}") from None
        return model

    # -- what a subclass supplies

    def _read(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    def _build(self, rng: np.random.Generator) -> Any:
        raise NotImplementedError

    def _format(self) -> dict[str, Any]:
        raise NotImplementedError

    def _restore(self, metadata: Mapping[str, Any]) -> None:
        raise NotImplementedError

    # -- what it may replace

    def _dataset(self, examples: Any) -> Dataset:
        return Batches(examples, self.batch_size)

    def _classes(self, examples: Examples) -> Sequence[Array]:
        if isinstance(examples.y, Sequences):
            return [np.unique(item) for item in examples.y.items]
        classes: Array = examples.y if examples.y.dtype.kind in "iu" else np.zeros(len(examples), np.int64)
        return list(classes[:, None])

    def _split(self, examples: Any) -> tuple[Any, Any]:
        part, count = self.validation_fraction, len(examples)
        if not part:
            return examples, None
        places = held_out(self._classes(examples), part, self._rng)
        if not len(places):
            warn_of_no_validation(count, part)
            return examples, None
        return examples[np.delete(np.arange(count), places)], examples[places]

    def _learn_scale(self, examples: Examples) -> None:
        pass

    def _annotate(self, record: dict[str, Any]) -> None:
        pass

    def _describe(self, loss: float) -> str:
        return f"loss {loss:.4f}"

    # -- how a fit goes

    def _fit(
        self: Self,
        data: tuple[Any, ...],
        validation_data: tuple[Any, ...] | None,
        checkpoint: str | os.PathLike[str] | None,
        resume: str | os.PathLike[str] | None,
        on_epoch: Callable[[Self], None] | None,
    ) -> Self:
        """See `SequenceEstimator.fit`."""
        optional(checks.function)("on_epoch", on_epoch)
        if checkpoint is not None:
            files.require_writable(checkpoint)
        model, before = self._checked_copy(), dict(self.__dict__)
        asked = model.patience not in (None, type(model).patience)  # by more than a default
        if asked and not model.validation_fraction and validation_data is None:
            raise ValueError(
                f"patience must be None if there is nothing to validate on, got {model.patience} with "
                "validation_fraction=0 and no validation_data"
            )
        examples = model._read(*data, learn=True)
        model._begin()
        if validation_data is None:
            training, validation = model._split(examples)
        else:
            training, validation = examples, model._read(*validation_data, learn=False)
        model._learn_scale(training)
        trainer = model._trainer(validated=validation is not None)
        if resume is not None:
            model._resume(resume, trainer, model._dataset(training).samples)
        ended = None if on_epoch is None else lambda model: on_epoch(self._become(model))
        try:
            model._train(trainer, training, validation, checkpoint, ended)
        except KeyboardInterrupt:
            self._become(copy.deepcopy(model))  # without the data of the step that was interrupted
            raise
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise
        self._become(model)._warn_of_divergence(training)
        return self

    def _partial_fit(self: Self, data: tuple[Any, ...]) -> Self:
        """See `SequenceEstimator.partial_fit`."""
        checked = self._checked_copy()
        model = copy.deepcopy(self._as_fitted()) if hasattr(self, "history_") else checked
        examples = model._read(*data, learn=model is checked)
        if model is checked:
            model._begin()
        model._learn_scale(examples)
        if model._optimizer is None:
            model._optimizer = Adam(model.network_.parameters, checked.learning_rate)
        model._optimizer.lr = checked.learning_rate
        trainer = Trainer(
            model.network_, model._optimizer, epochs=1, schedule="constant", clip_norm=checked.clip_norm
        )
        dataset = model._dataset(examples)
        trainer.run(lambda: model._losses(dataset, model._rng), dataset.samples)
        return self._become(model)

    def _checked_copy(self: Self) -> Self:
        """An unfitted model with the same parameters, as plain Python, which JSON can express."""
        params = self.get_params()
        return type(self)(**{name: self._checks[name](name, value) for name, value in params.items()})

    def _as_fitted(self: Self) -> Self:
        """This model with the parameters of its `fit`, whatever `set_params` has made of them since."""
        self._require_fitted("history_")
        model: Self = object.__new__(type(self))
        model.__dict__.update({**self.__dict__, **self._fitted_with})
        return model

    def _begin(self) -> None:
        """Build the untrained network."""
        self._fitted_with = self.get_params()
        self._rng = np.random.default_rng(self.seed)
        self.network_ = self._build(self._rng)
        self._optimizer: Adam | None = None  # of `partial_fit`
        self.history_: list[dict[str, Any]] = []
        self.best_epoch_: int | None = None

    def _trainer(self, *, validated: bool) -> Trainer:
        return Trainer(
            self.network_,
            Adam(self.network_.parameters, self.learning_rate),
            epochs=self.epochs,
            max_steps=self.max_steps,
            schedule=self.schedule,
            clip_norm=self.clip_norm,
            patience=self.patience if validated else None,
            max_seconds=self.max_seconds,
            rng=self._rng,
            describe=self._describe if self.verbose else None,
        )

    def _train(
        self,
        trainer: Trainer,
        training: Examples,
        validation: Examples | None,
        checkpoint: str | os.PathLike[str] | None,
        on_epoch: Callable[[Any], None] | None,
    ) -> None:
        dataset = self._dataset(training)

        def epoch_ended() -> None:
            self._annotate(trainer.history[-1])
            self.history_, self.best_epoch_ = trainer.history, trainer.best_epoch
            if checkpoint is not None:
                self._save_checkpoint(checkpoint, trainer, dataset.samples)
            if on_epoch is not None:
                on_epoch(self)

        validate = None if validation is None else lambda: self._mean_loss(validation)
        trainer.run(lambda: self._losses(dataset, self._rng), dataset.samples, validate, epoch_ended)

    def _losses(self, dataset: Dataset, rng: np.random.Generator | None) -> Iterator[tuple[float, int]]:
        """An epoch of training; or of validation, if there is no generator to shuffle by."""
        state = None
        for batch in dataset.batches(rng):
            state = state if batch.follows else None
            loss, count, state = self.network_.loss(batch, state, training=rng is not None)
            yield loss, count

    def _training_step(self, *data: Any, **named: Any) -> None:
        """The first step of an epoch on data as of `fit`, but for the update; for `fastrnn.diagnostics`."""
        model = self._as_fitted()
        next(model._losses(model._dataset(model._examples(*data, **named)), model._rng))

    def _examples(self, *data: Any, **named: Any) -> Any:
        """Data as of `fit`, with what is left out as there, as examples."""
        fit = inspect.signature(self.fit)  # type: ignore[attr-defined]  # that of a subclass
        positional = [each for each in fit.parameters.values() if each.kind is not each.KEYWORD_ONLY]
        signature = inspect.Signature([each.replace(annotation=each.empty) for each in positional])
        try:
            given = signature.bind(*data, **named)
        except TypeError as error:
            raise TypeError(f"data must be as of {type(self).__name__}.fit{signature}: {error}") from None
        given.apply_defaults()
        return self._read(*given.args, learn=False)

    def _mean_loss(self, examples: Examples, most: int | None = None) -> float:
        """Of all batches, or windows, or of at most so many."""
        every = self._losses(self._dataset(examples), None)
        losses, counts = zip(*itertools.islice(every, most), strict=True)
        return float(np.average(losses, weights=counts))

    def _warn_of_divergence(self, examples: Examples) -> None:
        """Training can diverge and stay finite: then all weights 0, and so outputs of 0, are far better."""
        if not self.history_:
            return
        learned, weights = self._mean_loss(examples, SAMPLED), self.network_.parameters
        kept = {name: array.copy() for name, array in weights.items()}
        try:
            for array in weights.values():
                array[...] = 0
            guessed = self._mean_loss(examples, SAMPLED)
        finally:
            for name, array in kept.items():
                weights[name][...] = array
        if 0 < 2 * guessed < learned:
            checks.warn(
                f"the training has diverged: its loss is {learned:.4g}, where guessing has {guessed:.4g}; "
                "a lower learning_rate or clip_norm may help",
            )

    def _become(self: Self, other: Self) -> Self:
        learned = other.__dict__.keys() - other.get_params()
        self.__dict__.update((name, other.__dict__[name]) for name in learned)
        return self

    # -- files

    def _metadata(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """The model but for its weights: arrays by the names of a file, and what JSON can express."""
        learned = self._format()
        arrays = {name: value for name, value in learned.items() if isinstance(value, np.ndarray)}
        metadata = {
            "model": type(self).__name__,
            "parameters": self._fitted_with,
            **{name: value for name, value in learned.items() if name not in arrays},
            "history": self.history_,
            "best_epoch": self.best_epoch_,
        }
        return {f"{LEARNED}{name}": array for name, array in arrays.items()}, metadata

    def _save_checkpoint(self, path: str | os.PathLike[str], trainer: Trainer, count: int) -> None:
        """A model file with the best weights, and beside them the state of the training."""
        tensors, state = trainer.state_dict()
        kept: Mapping[str, Array] = trainer.best_weights or self.network_.parameters
        arrays, metadata = self._metadata()
        beside = {f"{STATE}{name}": array for name, array in tensors.items()}
        metadata["training"] = {**state, "samples": count}
        files.save(path, {**kept, **arrays, **beside}, metadata)

    def _resume(self, path: str | os.PathLike[str], trainer: Trainer, count: int) -> None:
        tensors, metadata = files.load(path)
        _require_model(path, metadata, type(self).__name__)
        if "training" not in metadata:
            hint = f"{type(self).__name__}.load takes it, and partial_fit trains it further"
            raise ValueError(f"{os.fspath(path)!r} holds a model, but not the state of its training: {hint}")
        learned = {**self._format(), "parameters": self._fitted_with}
        metadata.update(part_of(tensors, LEARNED))
        found: dict[str, Any] = {name: _plain(metadata.get(name)) for name in learned}
        wanted: dict[str, Any] = {name: _plain(value) for name, value in learned.items()}
        for settings, samples in ((found, metadata["training"]["samples"]), (wanted, count)):
            parameters = settings.pop("parameters")
            others = {name: parameters[name] for name in parameters.keys() - settings.keys() - BUDGET}
            settings.update(dict(sorted(others.items())), samples=samples)
        same_settings(found, wanted)
        trainer.load_state_dict(part_of(tensors, STATE), metadata["training"])
        self.history_, self.best_epoch_ = trainer.history, trainer.best_epoch


@dataclass(kw_only=True, eq=False, repr=False)
class SequenceEstimator(NetworkEstimator):
    """A model to fit to sequences X and targets y."""

    def fit(
        self: SequenceSelf,
        X: Any,
        y: Any = None,
        lengths: Any = None,
        sample_weight: Any = None,
        *,
        validation_data: tuple[Any, ...] | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        resume: str | os.PathLike[str] | None = None,
        on_epoch: Callable[[SequenceSelf], None] | None = None,
    ) -> SequenceSelf:
        """Learn from data, forgetting what was learned before.

        Parameters
        ----------
        X, y, lengths
            The data, as the model's own documentation says; see `fastrnn.data.sequences`.
        sample_weight : array_like, (N,), optional
            How much each sequence counts in the loss, in comparison with the others of the call: by twice
            their weight as if it were there twice, by 0 as if it were not there. Of models whose y are labels
            or numbers.
        validation_data : tuple, optional
            ``(X, y)``, ``(X, y, lengths)`` or ``(X, y, lengths, sample_weight)`` to validate on, in the place
            of a part of the data.
        checkpoint : path, optional
            Where to write, after every epoch, a file from which the training can go on. `load` reads it too,
            as a model with the best weights so far.
        resume : path, optional
            Such a file: training goes on from there, bit for bit as if it had never stopped. The data and
            all parameters must be the same but ``epochs``, ``max_steps``, ``patience``, ``max_seconds`` and
            ``verbose``.
        on_epoch : callable, optional
            Called after every epoch with this model as it is then, which can predict and save.

        Returns
        -------
        This model.

        Raises
        ------
        TypeError, ValueError
            If a parameter or the data is unusable, or the checkpoint is of another training.
        OSError
            If the checkpoint cannot be written, which is tried before training.
        FloatingPointError
            If training diverges. A checkpoint is from the last good epoch then.
        KeyboardInterrupt
            If interrupted: the model has the best weights so far then, or the latest before the first
            validation. After any other error it is what it was before, so that what it has learned by then
            is only in the checkpoint.

        Warns
        -----
        UserWarning
            If training has diverged without numbers that are not finite: on what it was trained on, the loss
            is more than twice that of outputs of 0, which is guessing.
        """
        held_out = None if validation_data is None else _given(validation_data)
        return self._fit((X, y, lengths, sample_weight), held_out, checkpoint, resume, on_epoch)

    def partial_fit(
        self: SequenceSelf, X: Any, y: Any = None, lengths: Any = None, sample_weight: Any = None
    ) -> SequenceSelf:
        """Learn for one more epoch, with `learning_rate` as it is and no validation.

        The first call learns from its data what classes or features there are, as `fit` does; those after
        it go on from the weights, and from Adam's averages, that there are, also after `fit`. After an
        error, or when it is interrupted, the model is what it was before.

        Parameters
        ----------
        X, y, lengths, sample_weight
            As of `fit`.

        Returns
        -------
        This model.
        """
        return self._partial_fit((X, y, lengths, sample_weight))


def _plain(value: Any) -> Any:
    """As JSON gives it back, to compare."""
    return json.loads(json.dumps(value.tolist() if isinstance(value, np.ndarray) else value))


def _require_model(path: str | os.PathLike[str], metadata: Mapping[str, Any], model: str) -> None:
    if metadata.get("model") != model:
        raise ValueError(f"{os.fspath(path)!r} holds no {model}, but {metadata.get('model')!r}")


def _given(data: Any) -> tuple[Any, ...]:
    if not isinstance(data, (tuple, list)) or len(data) not in (2, 3, 4):
        expected = "(X, y), (X, y, lengths) or (X, y, lengths, sample_weight)"
        raise TypeError(f"validation_data must be {expected}, got {checks.came(data)}")
    return (*data, None, None)[:4]

"""What every model that trains a network shares: fitting, and what it asks a model for."""

from __future__ import annotations

import copy
import inspect
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np

from fastrnn import checkpoint as checkpoints
from fastrnn import checks, optim, parallel
from fastrnn.checks import Array, Check, optional
from fastrnn.data import Batches, Dataset, Examples, Sequences
from fastrnn.data.dataset import FORMS
from fastrnn.layers import Recurrent, initial
from fastrnn.layers.compression import require_trainable
from fastrnn.layers.layer import held_in
from fastrnn.models.compression import CanBeCompressed
from fastrnn.models.networks import optimizers
from fastrnn.models.splitting import held_out, warn_of_no_validation
from fastrnn.training import Training, fit
from fastrnn.training.fit import Callbacks, Path, listed
from fastrnn.training.learning import Learn, epoch_of, learn_by, mean_loss

__all__ = ["Callbacks", "Check", "NetworkEstimator", "Path", "SequenceEstimator", "optional"]

Self = TypeVar("Self", bound="NetworkEstimator")
SequenceSelf = TypeVar("SequenceSelf", bound="SequenceEstimator")

SAMPLED = 8  # batches or windows by which a model is compared with guessing


@dataclass(kw_only=True, eq=False, repr=False)
class NetworkEstimator(CanBeCompressed):
    """A network trained by back-propagation through time; the base of every model.

    `SequenceEstimator` adds ``fit(X, y, lengths)`` and ``partial_fit``; a model with other arguments has its
    own and passes them on to ``_fit`` and ``_partial_fit``, as a tuple, from where ``_read`` gets them.

    A subclass is a dataclass too: its own parameters are fields with defaults, and their checks, which
    return plain Python, go into ``_checks``. Its docstring is completed with what its bases' say of
    parameters and attributes. It supplies

    - ``_read(X, y, lengths, *, learn) -> Examples``: the arguments of `fit` as examples, checked. With
      `learn` it also sets the attributes that say what the data is like (classes, scaling, vocabulary);
      without, it uses them.
    - ``_build(rng)``: the untrained network for these attributes, all of whose randomness, dropout's
      included, comes from the generator.
    - ``_format()`` and ``_restore(metadata)``: the learned attributes as a dict, whose values are arrays or
      what JSON can express, and back.

    and may replace

    - ``_dataset(examples) -> Dataset``: how examples go through the network, in training and validation. By
      default in batches, samples being sequences; see `fastrnn.data.Batches` for steps and for windows.
    - ``_loss()``: what is minimised, as `fastrnn.training.fit` wants it; None if the network has a ``loss``.
    - ``_classes(examples)``: the classes that each example has, and validation must not have the last of.
    - ``_split(examples)``: the examples to train on, and those to validate on or None. By default a random
      part, with as much of each class.
    - ``_learn_scale(examples)``: sets what numbers are scaled by from examples to train on, for ``_dataset``
      to apply. Called again for more of them, which `partial_fit` does, it changes no prediction.
    - ``_annotate(record)``: adds scores to an epoch's record; ``_describe(loss)``: a loss in a few words.

    A prediction begins with ``model = self._as_fitted()``, whose parameters are those of `fit`; this reads X,
    then calls its ``network_`` on batches, by `fastrnn.data.batches`.

    Attributes
    ----------
    network_ : Composite
        The network, with the weights that predict as its ``parameters``; its layers can be called, run step
        by step, and trained further.
    compression_ : Compression or None
        What `compress` has reported of this model; None of one that it has not made.
    history_ : list of dict
        One record per epoch: see `fastrnn.training.Training`.
    best_epoch_ : int or None
        The epoch the weights are from; None without validation.
    """

    # -- what a subclass supplies

    def _read(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    def _build(self, rng: np.random.Generator) -> Any:
        raise NotImplementedError

    # -- what it may replace

    def _loss(self) -> Any:
        return None

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

    def _learn_scale(self, examples: Any) -> None:
        pass

    def _annotate(self, record: dict[str, Any]) -> None:
        pass

    def _describe(self, loss: float) -> str:
        return f"{loss:.4g}"

    # -- how a fit goes

    def _fit(
        self: Self,
        data: tuple[Any, ...],
        validation_data: tuple[Any, ...] | None,
        checkpoint: Path | None,
        resume: Path | None,
        callbacks: Callbacks,
    ) -> Self:
        """See `SequenceEstimator.fit`."""
        told = [lambda _, each=each: each(self) for each in listed(callbacks)]
        resume = parallel.on_first(checkpoints.to_resume, resume, checkpoint)
        if checkpoint is not None:
            parallel.on_first(checkpoints.require_writable, checkpoint)
        model = self._checked_copy()
        asked = model.patience not in (None, type(model).patience)  # by more than a default
        if asked and not model.validation_fraction and validation_data is None:
            raise ValueError(
                f"patience must be None if there is nothing to validate on, got {model.patience} with "
                "validation_fraction=0 and no validation_data"
            )
        examples = model._read(*data, learn=True)
        model._begin()
        model._initialise()
        if validation_data is None:
            training, validation = model._split(examples)
        else:
            training, validation = examples, model._read_validation(validation_data)
        model._learn_scale(training)
        parallel.require_same(model._told())
        samples = model._dataset(training).samples
        state = None if resume is None else model._read_checkpoint(resume, samples)

        def epoch_ended(run: Training) -> None:
            model._annotate(run.history[-1])
            model.history_, model.best_epoch_ = run.history, run.best_epoch
            if checkpoint is not None:
                model._save_checkpoint(checkpoint, run, samples)
            self._become(model)

        try:
            model._train(training, validation, state, [epoch_ended, *told])
        except KeyboardInterrupt:
            self._become(model)
            raise
        self._become(model)._warn_of_divergence(training)
        return self

    def _read_validation(self, data: tuple[Any, ...]) -> Any:
        try:
            return self._read(*data, learn=False)
        except (TypeError, ValueError) as error:
            error.args = (f"validation_data: {error}",)
            raise

    def _train(
        self, training: Any, validation: Any, state: Any, callbacks: list[Callable[[Training], Any]]
    ) -> None:
        self._learn(
            training,
            self._make_optimizers(self.learning_rate),
            validation=None if validation is None else self._dataset(validation),
            epochs=self.epochs,
            max_steps=self.max_steps,
            max_seconds=self.max_seconds,
            patience=None if validation is None else self.patience,
            callbacks=callbacks,
            resume=state,
            verbose=self._describe if self.verbose else False,
        )

    def _learn(self, examples: Any, made: list[optim.Optimizer], **options: Any) -> None:
        """Train the network on examples, by these optimizers."""
        usual = {"schedule": self.schedule, "clip_norm": self.clip_norm}
        fit(
            self.network_,
            self._dataset(examples),
            loss=self._loss(),
            bptt_steps=self.bptt_steps,
            optimizer=made,
            seed=self._rng,
            **usual | options,
        )

    def _make_optimizers(self, learning_rate: float) -> list[optim.Optimizer]:
        return optimizers(self.network_, self.optimizer, learning_rate, self.weight_decay)

    def _partial_fit(self: Self, data: tuple[Any, ...]) -> Self:
        """See `SequenceEstimator.partial_fit`."""
        checked = self._checked_copy()
        model = copy.deepcopy(self._as_fitted()) if hasattr(self, "history_") else checked
        if model is not checked:
            require_trainable(model.network_)
        examples = model._read(*data, learn=model is checked)
        if model is checked:
            model._begin()
            model._initialise()
        model._learn_scale(examples)
        parallel.require_same(model._told())
        rate = checked.learning_rate
        made, before = model._optimizers or (
            optimizers(model.network_, checked.optimizer, rate, checked.weight_decay),
            rate,
        )
        for each in made:
            each.lr *= rate / before
        model._optimizers = made, rate
        model._learn(examples, made, epochs=1, schedule="constant", clip_norm=checked.clip_norm)
        return self._become(model)

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
        self._optimizers: tuple[list[optim.Optimizer], float] | None = None  # of `partial_fit`; and the rate
        self.history_ = []
        self.best_epoch_ = None
        self.compression_ = None

    def _initialise(self) -> None:
        """Change the initial values as `initial` and `forget_bias` say."""
        wanted: list[tuple[str, Callable[[Any], None]]] = []
        if self.initial == "orthogonal":
            wanted.append(("initial", partial(initial.orthogonal, seed=self._rng)))
        elif self.initial == "identity":
            wanted.append(("initial", initial.identity))
        elif self.initial is not None:
            self.initial(self.network_)  # type: ignore[operator]  # a function, as its check has seen
        if self.forget_bias is not None:
            wanted.append(("forget_bias", partial(initial.forget_bias, value=self.forget_bias)))
        layers = [each for each in held_in(self.network_) if isinstance(each, Recurrent)]
        for (name, change), layer in itertools.product(wanted, layers):
            try:
                change(layer)
            except (TypeError, ValueError) as error:
                value = getattr(self, name)
                raise ValueError(f"{name}={value!r} must go with cell={self.cell!r}: {error}") from None

    def _training_step(self, *data: Any, **named: Any) -> None:
        """The first step of an epoch on data as of `fit`, but for the update; for `fastrnn.diagnostics`."""
        model = self._as_fitted()
        dataset = model._dataset(model._examples(*data, **named))
        next(epoch_of(model._learner(), dataset, model._rng))

    def _examples(self, *data: Any, learn: bool = False, **named: Any) -> Any:
        """Data as of `fit`, with what is left out as there, as examples."""
        signature = inspect.signature(self.fit)  # type: ignore[attr-defined]  # that of a subclass
        positional = [each for each in signature.parameters.values() if each.kind is not each.KEYWORD_ONLY]
        signature = inspect.Signature([each.replace(annotation=each.empty) for each in positional])
        try:
            given = signature.bind(*data, **named)
        except TypeError as error:
            raise TypeError(f"data must be as of {type(self).__name__}.fit{signature}: {error}") from None
        given.apply_defaults()
        return self._read(*given.args, learn=learn)

    def _mean_loss(self, examples: Any, most: int | None = None) -> float:
        """Of all batches, or windows, or of at most so many."""
        return mean_loss(self._learner(), self._dataset(examples), most)

    def _learner(self) -> Learn:
        return learn_by(self.network_, self._loss(), True)

    def _warn_of_divergence(self, examples: Any) -> None:
        """Training can diverge and stay finite: then all weights 0, and so outputs of 0, are far better."""
        if not self.history_ or not parallel.leads():
            return
        guessing = copy.copy(self)
        guessing.network_ = copy.deepcopy(self.network_)
        for array in guessing.network_.parameters.values():
            array[...] = 0
        learned, guessed = (model._mean_loss(examples, SAMPLED) for model in (self, guessing))
        if 0 < 2 * guessed < learned:
            checks.warn(
                f"the training has diverged: its loss is {learned:.4g}, where guessing has {guessed:.4g}; "
                "a lower learning_rate or clip_norm may help",
            )

    def _become(self: Self, other: Self) -> Self:
        learned = other.__dict__.keys() - other.get_params()
        self.__dict__.update({name: other.__dict__[name] for name in learned})  # a generator could be ended
        return self


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
        checkpoint: Path | None = None,
        resume: Path | None = None,
        callbacks: Callbacks = (),
    ) -> SequenceSelf:
        """Learn from data, forgetting what was learned before.

        Parameters
        ----------
        X : array_like or list
            The sequences: a list of arrays (T_i, F), an array (N, T, F), or any other form of
            `fastrnn.data.sequences`; or of symbols: a list of strings, whose characters they are, or of lists
            of words. Of `SequenceGenerator` vectors (N, F), or N classes.
        y : array_like or list
            What to learn of each: N labels or numbers; of a tagger, a label for each step; of a model that
            writes, a string or a list of symbols.
        lengths : array_like of integers, (N,), optional
            The valid steps of each sequence, if X is a padded array.
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
        resume : path or "auto", optional
            Such a file: training goes on from there, bit for bit as if it had never stopped; with "auto"
            from `checkpoint`, if there is such a file. The data and all parameters must be the same but
            ``epochs``, ``max_steps``, ``patience``, ``max_seconds`` and ``verbose``.
        callbacks : callable or sequence of callable
            Called after every epoch with this model as it is then, which can predict and save. One that
            returns True, or raises `fastrnn.training.StopTraining`, ends the training.

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
        Exception, KeyboardInterrupt
            After any error, also in a callback, the model has the best weights so far, or without validation
            those after the last epoch that ended. Before the first epoch has ended it is what it was; when
            interrupted, it has the latest weights.

        Warns
        -----
        UserWarning
            If training has diverged without numbers that are not finite: on what it was trained on, the loss
            is more than twice that of outputs of 0, which is guessing.
        """
        held_out = None if validation_data is None else _given(validation_data)
        return self._fit((X, y, lengths, sample_weight), held_out, checkpoint, resume, callbacks)

    def partial_fit(
        self: SequenceSelf, X: Any, y: Any = None, lengths: Any = None, sample_weight: Any = None
    ) -> SequenceSelf:
        """Learn for one more epoch, with `learning_rate` as it is and no validation.

        The first call learns from its data what classes or features there are, as `fit` does; those after
        it go on from the weights, and from the optimizer's averages, that there are, also after `fit`. After
        an error, or when it is interrupted, the model is what it was before.

        Parameters
        ----------
        X, y, lengths, sample_weight
            As of `fit`.

        Returns
        -------
        This model.
        """
        return self._partial_fit((X, y, lengths, sample_weight))


def _given(data: Any) -> tuple[Any, ...]:
    if not isinstance(data, (tuple, list)) or len(data) not in (2, 3, 4):
        raise TypeError(f"validation_data must be {FORMS}, got {checks.came(data)}")
    return (*data, None, None)[:4]

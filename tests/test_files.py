"""Model files that were written once, by every format there has been, are read for ever.

``python tests/test_files.py`` writes those of today's format, or of the models that it is given. Once a
version is published its files stay as they are: who then changes what a model puts into its file raises
`checkpoint.FORMAT`, reads the old files too, and adds a folder.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from test_estimator import ALL_MODELS

from fastrnn import checkpoint

FOLDER = Path(__file__).parent / "files"
FORMATS = range(1, checkpoint.FORMAT + 1)
NAMES = [make.__name__.strip("_") for make in ALL_MODELS]


def loss(model, given):
    """What depends on all that a file holds: how data are read, and all weights."""
    return model._mean_loss(model._examples(*given))


@pytest.mark.parametrize("number", FORMATS)
@pytest.mark.parametrize("make", ALL_MODELS, ids=NAMES)
def test_a_file_of_every_format_is_the_model_that_was_saved(make, number):
    name = make.__name__.strip("_")
    model, given = make()
    loaded = type(model).load(FOLDER / str(number) / f"{name}.safetensors")
    expected = json.loads((FOLDER / str(number) / "losses.json").read_text())[name]
    np.testing.assert_allclose(loss(loaded, given), expected, rtol=1e-5)
    assert len(loaded.history_) == 2


def write(names):
    folder = FOLDER / str(checkpoint.FORMAT)
    folder.mkdir(parents=True, exist_ok=True)
    listed = folder / "losses.json"
    losses = json.loads(listed.read_text()) if listed.exists() else {}
    for make, name in zip(ALL_MODELS, NAMES, strict=True):
        if name in names:
            model, given = make(epochs=2)
            model.fit(*given).save(folder / f"{name}.safetensors")
            losses[name] = loss(model, given)
    listed.write_text(json.dumps(losses, indent=2) + "\n")


if __name__ == "__main__":
    write(sys.argv[1:] or NAMES)

"""The training of every network: `fit`, for one's own as for those of the models.

Parameter groups, frozen parts, schedules, early stopping, checkpoints and callbacks are arguments of it.
"""

from fastrnn.training.fit import fit
from fastrnn.training.run import Network, StopTraining, Training
from fastrnn.training.schedules import SCHEDULES

__all__ = ["SCHEDULES", "Network", "StopTraining", "Training", "fit"]

"""Gradients made visible: how far back in time they reach, and what the gates do.

Back-propagation through time multiplies the gradient by one Jacobian per step (Bengio, Simard and Frasconi,
"Learning long-term dependencies with gradient descent is difficult", 1994; Pascanu, Mikolov and Bengio, "On
the difficulty of training recurrent neural networks", 2013). What is left of it k steps back goes as a power
of some rate: below 1 it vanishes, above 1 it explodes. `diagnose` measures that in a layer,
`diagnose_network` in anything made of layers, `diagnose_model` in a fitted model.

Two gradients are looked at, both with respect to h after every step, with all that reaches it: that of the
loss in training, over t; and that of a loss at the last step only, over the steps back from it, which shows
what remains of it and gives the rate.
"""

from fastrnn.diagnostics.diagnosis import Diagnosis, Direction, Gate
from fastrnn.diagnostics.measure import diagnose, diagnose_model, diagnose_network

__all__ = ["Diagnosis", "Direction", "Gate", "diagnose", "diagnose_model", "diagnose_network"]

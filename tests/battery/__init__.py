"""What tries to break fastrnn: thousands of cases in parts, each of which is shown able to fail.

    make battery                                            all of it, and the builds with sanitizers
    cd tests && python -m battery [PART …] --share 0.1      in an environment that has fastrnn

A part is a module here whose name has no underscore, with

- a docstring, whose first line says what is tried;
- ``COUNT``, how many things are tried in `make battery`, and ``UNIT``, what they are;
- ``trial(rng, tally)``, which draws something from ``rng``, tries it, and tells the `Tally`. It knows of
  nothing but its generator, so that one that failed can be repeated:
  ``python -m battery PART --seed S --trial K``;
- ``FAULTS``, which maps what could be wrong to a context manager that makes it so: `trial` must then notice;
- ``missing()``, where it does not run everywhere: why it cannot run here, or None.
"""

from ._parts import PARTS, Tally, missing, run, seeded

__all__ = ["PARTS", "Tally", "missing", "run", "seeded"]

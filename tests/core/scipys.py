"""The methods of SciPy among the tables: for tests whose oracle is plain SciPy."""

from torchmin_nb import LEAST_SQUARES_METHODS as ALL_LEAST_SQUARES
from torchmin_nb import METHODS as ALL

METHODS = {name: spec for name, spec in ALL.items() if "scipy" in spec.engines}
LEAST_SQUARES_METHODS = {name: spec for name, spec in ALL_LEAST_SQUARES.items() if "scipy" in spec.engines}

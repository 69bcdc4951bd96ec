"""A linear softmax model of ten classes, 210 parameters: every method with derivatives fits it in both precisions."""

import numpy as np
import pytest
import torch
from sklearn.datasets import make_classification
from sklearn.model_selection import train_test_split

from tests.core.scipys import METHODS
from torchmin_nb import MinimizeWrapper

WITH_DERIVATIVES = [name for name, spec in METHODS.items() if spec.gradient != "none"]


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Closures this small gain nothing from threads, and lose much to them where others want the cores too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def samples():
    """100 samples of 20 features to fit, and their classes."""
    np.random.seed(0)
    features, classes = make_classification(n_samples=120, n_informative=10, n_features=20, n_classes=10)
    fit, _, fit_classes, _ = train_test_split(features, classes, test_size=2 / 12, random_state=0)
    return fit, fit_classes


def test_there_are_eleven_such_methods():
    assert len(WITH_DERIVATIVES) == 11


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("method", WITH_DERIVATIVES)
def test_the_training_loss_falls_below_a_tenth(method, dtype, samples):
    inputs, targets = torch.tensor(samples[0], dtype=dtype), torch.tensor(samples[1])
    assert inputs.shape == (100, 20)
    torch.manual_seed(0)
    model = torch.nn.Linear(20, 10).to(dtype)
    optimizer = MinimizeWrapper(model.parameters(), method)

    def closure():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(inputs), targets)
        loss.backward()
        return loss

    start = closure().item()
    loss = optimizer.step(closure).item()
    assert start > 2
    assert loss < 0.1
    assert optimizer.history.totals.nfev < 10_000
    with torch.no_grad():  # what is returned is what the model in hand gives
        at_the_end = torch.nn.functional.cross_entropy(model(inputs), targets).item()
        accuracy = (model(inputs).argmax(dim=1) == targets).double().mean().item()
    assert at_the_end == pytest.approx(loss, rel=1e-5)
    assert accuracy == 1.0

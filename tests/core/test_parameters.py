"""Parameters as they come: groups, frozen, tied, parametrised, with buffers, of odd shapes and storage."""

import pytest
import torch
from torch.nn.utils import parametrizations

from torchmin_nb import METHODS, MinimizeWrapper
from torchmin_nb.errors import ClosureWarning

DERIVATIVE = [name for name, spec in METHODS.items() if spec.gradient != "none"]
SMALL = dict(options=dict(maxiter=300))


def fit(params, loss, method, **keywords):
    optimizer = MinimizeWrapper(params, dict(method=method, **SMALL), **keywords)
    optimizer.step(loss)
    return optimizer


@pytest.mark.parametrize("method", METHODS)
def test_odd_shapes_storage_and_unused_parameters(method):
    scalar = torch.nn.Parameter(torch.tensor(3.0, dtype=torch.float64))
    empty = torch.nn.Parameter(torch.empty(0, 2, dtype=torch.float64))
    turned = torch.nn.Parameter(torch.ones(2, 1, dtype=torch.float32).t().expand(1, 2).clone().t())
    frozen = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    unused = torch.nn.Parameter(torch.ones(1))

    def loss():
        return (scalar - 1) ** 2 + ((turned.double() - 2 * frozen[:, None]) ** 2).sum() + empty.sum()

    optimizer = fit([scalar, empty, turned, frozen, unused], loss, method)
    assert optimizer.history.n_parameters == 4
    assert optimizer.result.fun < 1e-6
    assert frozen.tolist() == [1.0, 1.0]
    assert not turned.is_contiguous() or turned.shape == (2, 1)


@pytest.mark.parametrize("method", DERIVATIVE)
def test_tied_parameters_count_once(method):
    encoder = torch.nn.Linear(2, 2, bias=False, dtype=torch.float64)
    decoder = torch.nn.Linear(2, 2, bias=False, dtype=torch.float64)
    decoder.weight = encoder.weight
    model = torch.nn.Sequential(encoder, decoder)
    with torch.no_grad():
        encoder.weight.copy_(torch.eye(2) * 2)
    inputs = torch.eye(2, dtype=torch.float64)
    optimizer = fit(model.parameters(), lambda: ((model(inputs) - inputs) ** 2).sum(), method)
    assert optimizer.history.n_parameters == 4
    assert decoder.weight is encoder.weight
    assert optimizer.result.fun < 1e-6


@pytest.mark.parametrize("method", DERIVATIVE)
def test_parametrized_modules(method):
    layer = parametrizations.weight_norm(torch.nn.Linear(3, 2, dtype=torch.float64))
    inputs, targets = torch.randn(20, 3, dtype=torch.float64), torch.randn(20, 2, dtype=torch.float64)
    start = float(((layer(inputs) - targets) ** 2).mean().detach())
    optimizer = fit(layer.parameters(), lambda: ((layer(inputs) - targets) ** 2).mean(), method)
    best = torch.linalg.lstsq(torch.cat([inputs, torch.ones(20, 1, dtype=torch.float64)], 1), targets)
    floor = float(best.residuals.sum() / targets.numel()) if best.residuals.numel() else None
    assert optimizer.result.fun < start
    assert floor is None or optimizer.result.fun == pytest.approx(floor, rel=1e-3)


@pytest.mark.parametrize("method", ["L-BFGS-B", "Newton-CG"])
def test_sparse_gradients(method):
    table = torch.nn.Embedding(4, 2, sparse=method == "L-BFGS-B", dtype=torch.float64)
    rows = torch.tensor([0, 2])
    optimizer = fit(table.parameters(), lambda: ((table(rows) - 1) ** 2).sum(), method)
    assert optimizer.result.fun < 1e-8
    assert torch.allclose(table.weight[rows], torch.ones(2, 2, dtype=torch.float64), atol=1e-4)


def test_named_parameters_and_groups():
    model = torch.nn.Linear(2, 1, dtype=torch.float64)
    inputs = torch.randn(9, 2, dtype=torch.float64)
    optimizer = fit(model.named_parameters(), lambda: (model(inputs) ** 2).mean(), "BFGS")
    assert optimizer.param_groups[0]["param_names"] == ["weight", "bias"]
    with torch.no_grad():
        model.bias.fill_(2.0)
    groups = [{"params": [model.weight], "scale": 2.0}, {"params": [model.bias], "bounds": (1.0, None)}]
    optimizer = fit(groups, lambda: (model(inputs) ** 2).mean(), "L-BFGS-B")
    assert model.bias.item() >= 1.0


@pytest.mark.parametrize("method", ["L-BFGS-B", "trust-ncg", "trust-exact"])
def test_probes_leave_batch_norm_as_closure_calls_do(method):
    """The start check and optimizer.check call the closure, but the running statistics do not notice."""
    inputs = torch.randn(30, 3, dtype=torch.float64)

    def statistics(start_check):
        torch.manual_seed(1)
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1)).double()
        optimizer = MinimizeWrapper(
            model.parameters(), dict(method=method, options=dict(maxiter=2)), start_check=start_check
        )
        optimizer.step(lambda: ((model(inputs) - 1) ** 2).mean())
        return model[1].running_mean.clone(), model[1].num_batches_tracked.item(), optimizer, model

    mean, calls, optimizer, model = statistics(True)
    other_mean, other_calls, _, _ = statistics(False)
    assert calls == other_calls == optimizer.history.totals.nfev
    assert torch.equal(mean, other_mean)
    assert optimizer.check(lambda: ((model(inputs) - 1) ** 2).mean()).deterministic
    assert model[1].num_batches_tracked.item() == calls
    assert torch.equal(model[1].running_mean, mean)


@pytest.mark.parametrize("method", ["Powell", "BFGS", "trust-ncg"])
def test_dropout_is_found_out(method):
    model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1)).double()
    inputs = torch.randn(10, 3, dtype=torch.float64)
    optimizer = MinimizeWrapper(model.parameters(), method, max_evaluations=5)
    with pytest.warns(ClosureWarning, match=r"model\.eval\(\)"):
        optimizer.step(lambda: ((model(inputs) - 1) ** 2).mean())

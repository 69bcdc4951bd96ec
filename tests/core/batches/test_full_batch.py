"""full_batch against the loss of all samples at once: values, derivatives, runs, and what is said of wrong batches."""

import warnings
import weakref

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from torchmin_nb import LeastSquaresWrapper, MinimizeWrapper, full_batch, observe
from torchmin_nb.core.autodiff.closure import evaluate_curvature, evaluator_for
from torchmin_nb.core.autodiff.hessian import DenseHessian
from torchmin_nb.core.parameters.flat import FlatParameters
from torchmin_nb.errors import ArgumentError, ArgumentTypeError, ClosureError, ClosureWarning, NonFiniteStartError

INPUTS = torch.randn(103, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
LABELS = torch.randint(3, (103,), generator=torch.Generator().manual_seed(1))


def network(dtype=torch.float64):
    torch.manual_seed(2)
    return torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3)).to(dtype)


class Both:
    """A model whose loss is computed by batches, and at once."""

    def __init__(self, batches=None, reduction="mean", extra=True, dtype=torch.float64, **more):
        self.model, self.reduction, self.dtype = network(dtype), reduction, dtype
        penalty = self.penalty if extra else None
        self.extra = extra
        self.batches = loader(20) if batches is None else batches
        self.by_batches = full_batch(self.loss, self.batches, reduction=reduction, extra=penalty, **more)

    @property
    def parameters(self):
        return list(self.model.parameters())

    def loss(self, batch):
        return cross_entropy(self.model(batch[0].to(self.dtype)), batch[1], reduction=self.reduction)

    def penalty(self):
        return 1e-2 * sum((p**2).sum() for p in self.parameters)

    def at_once(self):
        return self.loss((INPUTS, LABELS)) + (self.penalty() if self.extra else 0.0)


def loader(size, **more):
    return DataLoader(TensorDataset(INPUTS, LABELS), batch_size=size, **more)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(list(zip(INPUTS, LABELS, strict=True)))


FORMS = {
    "loader": lambda: loader(20),
    "shuffled loader": lambda: loader(20, shuffle=True),
    "shuffled by a generator": lambda: loader(20, shuffle=True, generator=torch.Generator().manual_seed(3)),
    "iterable data set": lambda: DataLoader(Stream(), batch_size=20),
    "batch sampler": lambda: DataLoader(
        TensorDataset(INPUTS, LABELS), batch_sampler=BatchSampler(SequentialSampler(INPUTS), 30, False)
    ),
    "one batch": lambda: loader(200),
    "list": lambda: list(zip(INPUTS.split(11), LABELS.split(11), strict=True)),
    "tuple of one": lambda: ((INPUTS, LABELS),),
}


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("form", FORMS)
def test_value_and_derivatives_are_those_of_all_samples(form, reduction):
    both = Both(FORMS[form](), reduction)
    flat = FlatParameters(both.parameters)
    evaluator = evaluator_for(both.by_batches, flat)
    here = evaluator.evaluate("curvature")
    there = evaluate_curvature(both.at_once, flat)
    v = np.cos(np.arange(flat.n))
    assert here.loss == pytest.approx(there.loss, rel=1e-14)
    assert here.gradient == pytest.approx(there.gradient, rel=1e-12, abs=1e-14 * abs(there.gradient).max())
    assert here.graph.hvp(v) == pytest.approx(there.graph.hvp(v), rel=1e-12, abs=1e-13)
    dense = DenseHessian(flat.n)
    built = [dense.build(graph, flat.n, lambda: None) for graph in (here.graph, there.graph)]
    assert torch.allclose(*built, rtol=1e-12, atol=1e-13)
    assert evaluator.evaluate("value").loss == pytest.approx(here.loss, rel=1e-14)


def test_a_function_of_the_index():
    batches = list(zip(INPUTS.split(11), LABELS.split(11), strict=True))
    both = Both(batches.__getitem__, count=len(batches))
    assert evaluator_for(both.by_batches, FlatParameters(both.parameters)).evaluate("value").loss == pytest.approx(
        both.at_once().item(), rel=1e-14
    )


def test_sums_are_in_float64():
    """In float32 the batches round, their sum does not."""
    both = Both(loader(1), "sum", dtype=torch.float32, extra=False)
    flat = FlatParameters(both.parameters)
    result = evaluator_for(both.by_batches, flat).evaluate("gradient")
    single = []
    for inputs, labels in both.batches:
        gradient = torch.autograd.grad(both.loss((inputs, labels)), both.parameters)
        single.append(flat.gather(gradient))
    assert (result.gradient == np.sum(single, axis=0)).mean() > 0.9  # the order of the sum may change the last bit
    assert result.gradient == pytest.approx(np.sum(single, axis=0), rel=1e-14)
    assert all(part.dtype == torch.float64 for part in result.parts)
    assert all(parameter.grad.dtype == torch.float32 for parameter in both.parameters)


METHODS = ["CG", "BFGS", "L-BFGS-B", "TNC", "SLSQP", "Newton-CG", "dogleg", "trust-ncg", "trust-krylov", "trust-exact"]


@pytest.mark.parametrize(
    ("method", "engine"),
    [(name, "scipy") for name in [*METHODS, "trust-constr", "Nelder-Mead", "Powell"]]
    + [(name, "torch") for name in METHODS if name not in ("TNC", "SLSQP")]
    + [("SSBroyden", "torch")],
)
def test_a_run_is_that_of_all_samples(method, engine):
    limit = {"TNC": {"maxfun": 12}}.get(method, {"maxiter": 6})
    runs = []
    for form in ("by_batches", "at_once"):
        both = Both(loader(30, shuffle=True))
        optimizer = MinimizeWrapper(both.parameters, dict(method=method, options=limit), engine=engine)
        optimizer.step(getattr(both, form))
        runs.append(optimizer)
    here, there = runs
    assert len(here.history) == len(there.history) > 1
    assert here.history.loss[:7] == pytest.approx(there.history.loss[:7], rel=1e-8 if method == "TNC" else 1e-10)
    assert here.result.nfev == there.result.nfev
    assert here.result.message == there.result.message


def test_as_a_plain_closure():
    """torch's optimizers, observe, and autograd switched off."""
    both = Both()
    loss = both.by_batches()
    assert loss.shape == ()
    assert not loss.requires_grad
    assert loss.item() == pytest.approx(both.at_once().item(), rel=1e-13)
    expected = torch.autograd.grad(both.at_once(), both.parameters)
    for _ in range(2):  # it clears what an earlier call has left
        both.by_batches()
        for parameter, gradient in zip(both.parameters, expected, strict=True):
            assert torch.allclose(parameter.grad, gradient, rtol=1e-12)
    for parameter in both.parameters:
        parameter.grad = None
    with torch.no_grad():
        assert both.by_batches().item() == pytest.approx(loss.item(), rel=1e-14)
    assert all(parameter.grad is None for parameter in both.parameters)
    torch.optim.LBFGS(both.parameters, max_iter=5).step(both.by_batches)
    assert both.at_once().item() < loss.item()
    run = observe(torch.optim.SGD(both.parameters, lr=0.1), both.by_batches, steps=3)
    run.wait()
    assert run.history.loss[-1] < run.history.loss[0]


def test_check_and_covariance():
    both = Both()
    optimizer = MinimizeWrapper(both.parameters, dict(method="trust-exact", options=dict(gtol=1e-9)))
    report = optimizer.check(both.by_batches)
    assert report.ok, report
    assert report.loss == pytest.approx(both.at_once().item())
    optimizer.step(both.by_batches)
    matrices = [optimizer.covariance(closure).matrix for closure in (both.by_batches, both.at_once)]
    assert matrices[0] == pytest.approx(matrices[1], rel=1e-8, abs=1e-10)


class Token:
    """Something that a graph keeps alive."""


ALIVE = weakref.WeakSet()


class Marked(torch.autograd.Function):
    """x itself; its graph keeps a token, which is in ALIVE."""

    @staticmethod
    def forward(ctx, x):
        ctx.token = Token()
        ALIVE.add(ctx.token)
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient.clone()


@pytest.mark.parametrize("method", ["L-BFGS-B", "trust-ncg", "trust-exact"])
@pytest.mark.parametrize("engine", ["scipy", "torch"])
def test_one_graph_at_a_time(method, engine):
    """When a batch is evaluated, the graphs of the batches before are gone."""
    both, counts = Both(loader(10)), []

    def loss(batch):
        counts.append(len(ALIVE))
        return cross_entropy(both.model[2](Marked.apply(both.model[0](batch[0]).tanh())), batch[1])

    arguments = dict(method=method, options=dict(maxiter=3))
    optimizer = MinimizeWrapper(both.parameters, arguments, engine=engine, start_check=False)
    optimizer.step(full_batch(loss, both.batches))
    assert len(counts) > 22
    assert max(counts) <= 1  # of the batch before, which is freed when this one has replaced it


# What is refused


def repeating():
    return loader(20, sampler=RandomSampler(INPUTS, replacement=True))


REFUSED = {
    "replacement": (repeating, "RandomSampler repeats samples"),
    "weights": (lambda: loader(20, sampler=WeightedRandomSampler([1.0] * 103, 103)), "WeightedRandomSampler repeats"),
    "drop_last": (lambda: loader(20, shuffle=True, drop_last=True), "drop_last=False"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_samplers_that_are_refused(name):
    make, match = REFUSED[name]
    with pytest.raises(ArgumentError, match=match):
        Both(make())


def test_walking_a_sampler_leaves_the_random_numbers_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    full_batch(lambda batch: batch, loader(20, shuffle=True))
    assert torch.equal(torch.rand(3), expected)


WARNED = {
    "leaves out": lambda: loader(20, drop_last=True),
    "starts its 2 workers again": lambda: loader(20, num_workers=2),
    "leaves out 53": lambda: loader(20, sampler=SubsetRandomSampler(range(50))),
}


@pytest.mark.parametrize("text", WARNED)
def test_loaders_that_are_warned_of(text):
    with pytest.warns(ClosureWarning, match=text) as caught:
        Both(WARNED[text]())
    assert caught[0].filename == __file__


WRONG = {
    "an iterator": (lambda: iter([1]), {}, ArgumentTypeError, "only once"),
    "a tensor": (lambda: INPUTS, {}, ArgumentTypeError, "tensor.split"),
    "a number": (lambda: 3, {}, ArgumentTypeError, "got int"),
    "a function without count": (lambda: len, {}, ArgumentError, "count="),
    "count of a list": (lambda: [INPUTS], dict(count=1), ArgumentError, "for a function of the index"),
    "count": (lambda: len, dict(count=0), ArgumentError, "count must be a positive integer, got 0"),
    "reduction": (lambda: [INPUTS], dict(reduction="max"), ArgumentError, "'max'"),
    "extra": (lambda: [INPUTS], dict(extra=3), ArgumentTypeError, "extra must be callable, got int"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments(name):
    make, more, error, match = WRONG[name]
    with pytest.raises(error, match=match):
        full_batch(lambda batch: batch, make(), **more)


def run(loss, batches, parameter, **more):
    optimizer = MinimizeWrapper([parameter], dict(method="BFGS", options=dict(maxiter=20)))
    optimizer.step(full_batch(loss, batches, **more))
    return optimizer


SIZES = {
    "two lengths": ([(INPUTS, LABELS[:3])], {}, "103 and 3 samples"),
    "no tensor": ([["a"]], {}, "no tensor"),
    "size": ([INPUTS], dict(size=lambda batch: 0), "has 0 samples"),
    "no batches": ([], {}, "no batches"),
}


@pytest.mark.parametrize("name", SIZES)
def test_batches_of_unknown_size(name):
    batches, more, match = SIZES[name]
    x = torch.nn.Parameter(torch.ones(5, dtype=torch.float64))
    with pytest.raises(ClosureError, match=match):
        run(lambda batch: (x**2).sum(), batches, x, **more)


def test_a_pass_of_another_length():
    calls = []

    class Shrinking:
        def __iter__(self):
            calls.append(1)
            return iter(INPUTS.split(20)[: 6 if len(calls) < 4 else 5])

    x = torch.nn.Parameter(torch.ones(5, dtype=torch.float64))
    with pytest.raises(ClosureError, match="had 100 samples, the first one 103"):
        run(lambda batch: ((batch @ x) ** 2).mean() + (x**4).sum(), Shrinking(), x)


def test_batch_statistics_are_refused():
    x = torch.nn.Parameter(torch.ones(5, dtype=torch.float64))
    norm = torch.nn.BatchNorm1d(5).double()
    loss = lambda batch: norm(batch * x).pow(3).mean()  # noqa: E731
    with pytest.raises(ClosureError, match=r"BatchNorm in training mode.*model.eval"):
        run(loss, INPUTS.split(20), x)
    with pytest.raises(ClosureError, match="BatchNorm"):
        full_batch(loss, INPUTS.split(20))()
    norm.eval()
    assert run(lambda batch: loss(batch) ** 2, INPUTS.split(20), x).result.nit > 0
    other = torch.nn.InstanceNorm1d(20, affine=True).double()
    y = torch.nn.Parameter(torch.ones(5, dtype=torch.float64))
    batches = INPUTS[:100].split(20)
    assert run(lambda batch: other((batch * y)[None]).pow(4).mean() + (y**2).sum(), batches, y).result.nit > 0


def test_an_error_names_its_batch_and_keeps_the_best_point():
    x = torch.nn.Parameter(torch.full((5,), 3.0, dtype=torch.float64))
    calls = []

    def loss(batch):
        calls.append(1)
        if len(calls) == 40:
            raise KeyError("broken file")
        return (x**2).sum() + (batch**2).mean()

    optimizer = MinimizeWrapper([x], dict(method="CG", options=dict(maxiter=50)), start_check=False)
    with pytest.raises(KeyError, match="broken file") as caught:
        optimizer.step(full_batch(loss, INPUTS.split(9)))
    assert caught.value.__notes__ == ["raised in batch 3 of 12"]
    assert "batch 3 of 12" in optimizer.result.message
    assert optimizer.result.fun == min(optimizer.history.loss)


def test_nan_is_traced_to_its_batch():
    x = torch.nn.Parameter(torch.ones(5, dtype=torch.float64))
    broken = INPUTS.clone()
    broken[45] = torch.nan
    with (
        pytest.warns(ClosureWarning, match=r"the loss is not finite: first in batch 2 of 6"),
        pytest.raises(NonFiniteStartError),
    ):
        run(lambda batch: ((batch @ x) ** 2).mean(), broken.split(20), x)


def test_stops_and_budgets_act_between_batches():
    both, calls = Both(loader(10)), []

    def loss(batch):
        calls.append(1)
        if len(calls) == 30:
            optimizer.stop()
        return both.loss(batch)

    optimizer = MinimizeWrapper(both.parameters, "L-BFGS-B", start_check=False)
    optimizer.step(full_batch(loss, both.batches))
    assert len(calls) == 30
    assert optimizer.result.status == 99


def test_a_run_tells_its_batch():
    both, seen = Both(loader(10), extra=False), []

    def loss(batch):
        seen.append(run.batch)
        return both.loss(batch)

    optimizer = MinimizeWrapper(both.parameters, dict(method="BFGS", options=dict(maxiter=2)), start_check=False)
    run = optimizer.start(full_batch(loss, both.batches), paused=True)
    assert run.batch is None
    run.resume()
    run.wait()
    assert seen[:11] == [(number, 11) for number in range(1, 12)]
    assert run.batch is None


def test_batches_are_moved():
    """To the device, also inside sequences and mappings; the next one is fetched while this one is used."""

    class Pair(dict):
        pass

    batches = [Pair(inputs=part, rest=[part, (part,)]) for part in INPUTS.split(20)]
    x = torch.nn.Parameter(torch.ones(5, dtype=torch.float64, device="cpu"))
    seen = []

    def loss(batch):
        seen.append(type(batch))
        assert batch["rest"][1][0].device == batch["inputs"].device == torch.device("cpu")
        return ((batch["inputs"] @ x - 1) ** 2).mean()

    run(loss, batches, x, device="cpu")
    assert set(seen) == {Pair}


# Least squares

TIMES = torch.linspace(0, 4, 203, dtype=torch.float64)
VALUES = 2.5 * torch.exp(-1.3 * TIMES) + 0.5 + 0.01 * torch.cos(37 * TIMES)
START = [1.0, 1.0, 0.0]


class Decay:
    def __init__(self):
        self.p = torch.nn.Parameter(torch.tensor(START, dtype=torch.float64))
        self.data = DataLoader(TensorDataset(TIMES, VALUES), batch_size=30)
        self.by_batches = full_batch(self.residuals, self.data, reduction="sum", extra=self.prior)

    def residuals(self, batch):
        return self.p[0] * torch.exp(-self.p[1] * batch[0]) + self.p[2] - batch[1]

    def prior(self):
        return 0.1 * (self.p - 1)

    def at_once(self):
        return torch.cat([self.residuals((TIMES, VALUES)), self.prior()])


FITS = [
    ("trf", "scipy", {}, {}),
    ("dogbox", "scipy", {}, {}),
    ("lm", "scipy", {}, {}),
    ("trf", "scipy", {}, dict(jacobian="operator")),
    ("trf", "scipy", dict(bounds=([0, 0, 0], [2, 2, 2])), {}),
    ("lm", "torch", {}, {}),
    ("gauss-newton", "torch", {}, {}),
    ("gauss-newton", "torch", dict(solver="cg"), {}),
]


@pytest.mark.parametrize(("method", "engine", "options", "more"), FITS)
def test_a_fit_is_that_of_all_residuals(method, engine, options, more):
    fits = []
    for form in ("by_batches", "at_once"):
        decay = Decay()
        optimizer = LeastSquaresWrapper([decay.p], dict(method=method, **options), engine=engine, **more)
        optimizer.step(getattr(decay, form))
        fits.append(optimizer)
    here, there = fits
    assert len(here.history) == len(there.history)
    assert here.history.loss == pytest.approx(there.history.loss, rel=1e-10)
    assert here.result.x == pytest.approx(there.result.x, rel=1e-8)
    assert here.result.residuals == pytest.approx(there.result.residuals, abs=1e-8)
    assert here.result.grad == pytest.approx(there.result.grad, abs=1e-8)
    assert here.result.message == there.result.message
    assert "jac" not in here.result  # never whole


@pytest.mark.slow
def test_a_robust_fit():
    decay, other = Decay(), Decay()
    arguments = dict(method="trf", loss="soft_l1", f_scale=0.01, xtol=1e-12, ftol=1e-12, gtol=1e-12)
    here, there = LeastSquaresWrapper([decay.p], arguments), LeastSquaresWrapper([other.p], arguments)
    here.step(decay.by_batches)
    there.step(other.at_once)
    assert here.result.cost == pytest.approx(there.result.cost, rel=1e-9)
    assert here.covariance(decay.by_batches).matrix == pytest.approx(there.covariance(other.at_once).matrix, rel=1e-3)


def test_check_and_covariance_of_a_fit():
    decay = Decay()
    optimizer = LeastSquaresWrapper([decay.p], "lm")
    assert optimizer.check(decay.by_batches).ok
    optimizer.step(decay.by_batches)
    matrices = [optimizer.covariance(closure).matrix for closure in (decay.by_batches, decay.at_once)]
    assert matrices[0] == pytest.approx(matrices[1], rel=1e-9)
    with pytest.raises(ArgumentError, match="pass the closure"):
        optimizer.covariance()


def test_least_squares_needs_sums_in_order():
    decay = Decay()
    optimizer = LeastSquaresWrapper([decay.p], "trf")
    with pytest.raises(ArgumentError, match="reduction='sum'"):
        optimizer.step(full_batch(decay.residuals, decay.data))
    shuffled = DataLoader(TensorDataset(TIMES, VALUES), batch_size=30, shuffle=True)
    with pytest.raises(ArgumentError, match="shuffle=False"):
        optimizer.step(full_batch(decay.residuals, shuffled, reduction="sum"))

    class Turning:
        turn = 0

        def __iter__(self):
            self.turn += 1
            return iter([(TIMES, VALUES), (TIMES + 1, VALUES)][:: 1 - 2 * (self.turn % 2)])

    with pytest.raises(ClosureError, match="same order"):
        optimizer.step(full_batch(decay.residuals, Turning(), reduction="sum"))


def test_the_jacobian_is_never_whole():
    """The largest tensor of a fit of 20,000 residuals and 40 variables is a batch's."""
    torch.manual_seed(0)
    batches, sizes = [torch.randn(500, 40, dtype=torch.float64) for _ in range(40)], []
    x = torch.nn.Parameter(torch.zeros(40, dtype=torch.float64))

    class Sizes(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                sizes.append(result.untyped_storage().nbytes() // 8)
            return result

    for method, engine in (("trf", "scipy"), ("lm", "torch"), ("gauss-newton", "torch")):
        with torch.no_grad():
            x.zero_()
        optimizer = LeastSquaresWrapper([x], method, engine=engine, start_check=False)
        with Sizes():
            optimizer.step(full_batch(lambda batch: batch @ x - 1, batches, reduction="sum"))
        assert optimizer.result.success
        assert max(sizes) <= 3 * 500 * 40, (method, max(sizes))
        sizes.clear()


def test_no_warnings_of_ours_for_good_loaders():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for make in FORMS.values():
            Both(make())

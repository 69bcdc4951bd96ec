"""Every refusal: of its family and of the built-in class, with the value, what is allowed and the remedy."""

import inspect

import numpy as np
import pytest
import torch

from torchmin_nb import METHODS, MinimizeWrapper, errors, minimize
from torchmin_nb.errors import (
    ArgumentError,
    ArgumentTypeError,
    ClosureError,
    DistributedError,
    MemoryBudgetError,
    NonFiniteStartError,
    ParameterError,
    TorchminError,
    UnknownMethodError,
    UnknownOptionError,
)

LEVELS = {"value": "Nelder-Mead", "gradient": "L-BFGS-B", "curvature": "trust-ncg"}
EACH_LEVEL = pytest.mark.parametrize("method", LEVELS.values(), ids=LEVELS)
WITH_GRADIENT = pytest.mark.parametrize("method", ["L-BFGS-B", "trust-ncg"])


@pytest.fixture
def p():
    return torch.nn.Parameter(torch.tensor([1.5, -0.5], dtype=torch.float64))


def _leaf(dtype=torch.float64, n=2):
    return torch.ones(n, dtype=dtype, requires_grad=True)


def _refused(error, builtin, *, match):
    assert issubclass(error, TorchminError)
    assert issubclass(error, builtin)
    return pytest.raises(error, match=match)


# The family


def test_every_class_is_in_the_tree_of_the_docstring():
    tree = inspect.getdoc(errors)
    for name in errors.__all__:
        found = getattr(errors, name)
        if not issubclass(found, Warning):
            assert name in tree, name
        assert found.__doc__, name


def test_all_is_all():
    defined = {name for name, thing in vars(errors).items() if inspect.isclass(thing)}
    assert defined == set(errors.__all__)
    assert sorted(errors.__all__) == errors.__all__


def test_every_error_is_of_the_family_and_of_a_builtin_class():
    for name in errors.__all__:
        found = getattr(errors, name)
        if issubclass(found, Warning):
            assert issubclass(found, UserWarning)
        elif found is not TorchminError:
            assert issubclass(found, TorchminError)
            assert issubclass(found, ValueError | TypeError | RuntimeError), name


# The constructor: nothing is run


BAD_PARAMETERS = {
    "none": (list, ParameterError, ValueError, "empty parameter list"),
    "used generator": (lambda: _spent(torch.nn.Linear(1, 1).parameters()), ParameterError, ValueError, "empty"),
    "all frozen": (lambda: [torch.zeros(2)], ParameterError, ValueError, "requires_grad=False"),
    "no element": (lambda: [_leaf(n=0)], ParameterError, ValueError, "every tensor is empty"),
    "half": (lambda: [_leaf(torch.float16)], ParameterError, ValueError, r"torch.float16.*model\.double\(\)"),
    "bfloat16": (lambda: [_leaf(torch.bfloat16)], ParameterError, ValueError, r"torch.bfloat16 of shape \(2,\)"),
    "complex": (lambda: [_leaf(torch.complex64)], ParameterError, ValueError, "torch.complex64.*view_as_real"),
    "not a leaf": (lambda: [_leaf() * 2], ParameterError, ValueError, "non-leaf.*leaf tensors"),
    "two groups share": (lambda: _shared(), ParameterError, ValueError, "more than one parameter group"),
    "not iterable": (lambda: 5, ArgumentTypeError, TypeError, r"model\.parameters\(\)"),
    "a tensor": (lambda: _leaf(), ArgumentTypeError, TypeError, r"model\.parameters\(\)"),
    "numbers": (lambda: [1.0, 2.0], ArgumentTypeError, TypeError, r"float.*model\.parameters\(\)"),
    "None": (lambda: None, ArgumentTypeError, TypeError, r"model\.parameters\(\)"),
}


def _spent(generator):
    list(generator)
    return generator


def _shared():
    p = _leaf()
    return [{"params": [p]}, {"params": [p]}]


@pytest.mark.parametrize(("make", "error", "builtin", "match"), BAD_PARAMETERS.values(), ids=BAD_PARAMETERS)
def test_parameters_refused(make, error, builtin, match):
    with _refused(error, builtin, match=f"(?s){match}"):
        MinimizeWrapper(make())


@pytest.mark.filterwarnings("ignore:optimizer contains a parameter group with duplicate:UserWarning")
def test_a_parameter_given_twice_is_refused():
    """torch only warns; two copies of one tensor in x would make every method silently wrong."""
    p = _leaf()
    with _refused(ParameterError, ValueError, match="passed twice"):
        MinimizeWrapper([p, p])


BAD_ARGS = {
    "method": ("BFGSS", UnknownMethodError, ValueError, "'BFGSS' is not known; choose one of .*L-BFGS-B"),
    "method key": ({"method": "adam"}, UnknownMethodError, ValueError, "'adam'.*trust-ncg"),
    "method type": ({"method": 3}, ArgumentTypeError, TypeError, "a name or a callable, got 3; names: .*BFGS"),
    "not a dict": (3, ArgumentTypeError, TypeError, r"a dict such as dict\(.*or a method name, got int"),
    "a list": ([("method", "CG")], ArgumentTypeError, TypeError, "got list"),
    "unknown key": ({"metod": "CG"}, ArgumentError, ValueError, "'metod'; allowed are method, options"),
    "fun": ({"fun": abs}, ArgumentError, ValueError, "'fun'; torchmin_nb sets it"),
    "x0": ({"x0": [1]}, ArgumentError, ValueError, "'x0'; torchmin_nb sets it"),
    "options type": ({"options": [1]}, ArgumentTypeError, TypeError, "options must be a dict, got list"),
    "option": ({"options": {"gtool": 1}}, UnknownOptionError, ValueError, "BFGS has no option 'gtool'; it has .*gtol"),
    "maxiter": ({"options": {"maxiter": -1}}, ArgumentError, ValueError, "maxiter=-1 of BFGS.*integer of at least 0"),
    "maxiter float": ({"options": {"maxiter": 1.5}}, ArgumentError, ValueError, "maxiter=1.5"),
    "gtol": ({"options": {"gtol": "small"}}, ArgumentError, ValueError, "gtol='small'.*a number.*default 1e-05"),
    "tol": ({"tol": -1}, ArgumentError, ValueError, "tol must be a number of at least 0, got -1"),
    "tol text": ({"tol": "1"}, ArgumentError, ValueError, "tol must be"),
    "callback": ({"callback": 3}, ArgumentTypeError, TypeError, "callback must be callable, got int"),
    "hessp": ({"method": "trust-ncg", "hessp": 3}, ArgumentTypeError, TypeError, "hessp must be callable, got int"),
    "jac cs": ({"jac": "cs"}, ArgumentError, ValueError, "jac='cs' is not allowed.*complex parameters"),
    "jac": ({"jac": "4-point"}, ArgumentError, ValueError, "'4-point'.*'2-point', '3-point'.*autograd"),
    "jac number": ({"jac": 3}, ArgumentError, ValueError, "jac=3 is not allowed"),
    "bounds": ({"method": "CG", "bounds": [(0, 1)]}, ArgumentError, ValueError, "CG cannot take bounds.*L-BFGS-B"),
    "constraints": (
        {"method": "BFGS", "constraints": {"type": "eq", "fun": sum}},
        ArgumentError,
        ValueError,
        "BFGS cannot take constraints.*SLSQP",
    ),
}


@pytest.mark.parametrize(("args", "error", "builtin", "match"), BAD_ARGS.values(), ids=BAD_ARGS)
def test_minimizer_args_refused(args, error, builtin, match, p):
    with _refused(error, builtin, match=match):
        MinimizeWrapper([p], args)


@pytest.mark.parametrize("jac", [False, "2-point", "3-point"])
@pytest.mark.parametrize("method", ["Newton-CG", "dogleg", "trust-ncg", "trust-krylov", "trust-exact"])
def test_differences_refused_where_scipy_has_none(method, jac, p):
    with _refused(ArgumentError, ValueError, match=f"jac={jac!r}: {method} needs a gradient.*autograd.*trust-constr"):
        MinimizeWrapper([p], {"method": method, "jac": jac})


BAD_KEYWORDS = {
    "max_seconds 0": ({"max_seconds": 0}, ArgumentError, "max_seconds must be a positive number or None, got 0"),
    "max_seconds -1": ({"max_seconds": -1.0}, ArgumentError, "got -1.0"),
    "max_seconds nan": ({"max_seconds": float("nan")}, ArgumentError, "got nan"),
    "max_seconds text": ({"max_seconds": "1"}, ArgumentError, "got '1'"),
    "max_seconds bool": ({"max_seconds": True}, ArgumentError, "got True"),
    "max_evaluations 0": ({"max_evaluations": 0}, ArgumentError, "max_evaluations must be a positive integer"),
    "max_evaluations 2.5": ({"max_evaluations": 2.5}, ArgumentError, "max_evaluations.*got 2.5"),
    "target_loss text": ({"target_loss": "0"}, ArgumentError, "target_loss must be a number or None, got '0'"),
    "target_loss nan": ({"target_loss": float("nan")}, ArgumentError, "target_loss.*got nan"),
    "curvature": ({"curvature": "exact"}, ArgumentError, "'exact'.*autograd, finite-difference"),
    "hessian_chunk": ({"hessian_chunk": 0}, ArgumentError, "hessian_chunk.*got 0"),
    "hessian_chunk 1.5": ({"hessian_chunk": 1.5}, ArgumentError, "hessian_chunk must be a positive integer"),
    "memory_budget": ({"memory_budget": -1}, ArgumentError, "memory_budget.*got -1"),
    "blas_threads 0": ({"blas_threads": 0}, ArgumentError, "blas_threads.*'auto' or None, got 0"),
    "blas_threads text": ({"blas_threads": "all"}, ArgumentError, "blas_threads.*'auto' or None, got 'all'"),
    "blas_threads 1.5": ({"blas_threads": 1.5}, ArgumentError, "blas_threads.*got 1.5"),
    "callbacks number": ({"callbacks": 3}, ArgumentTypeError, "callbacks must be a callable or a list of them, got 3"),
    "callbacks None": ({"callbacks": None}, ArgumentTypeError, "callbacks must be.*got None"),
    "callbacks member": ({"callbacks": [print, 3]}, ArgumentTypeError, "callable with an Iteration, got int"),
}


@pytest.mark.parametrize(("keywords", "error", "match"), BAD_KEYWORDS.values(), ids=BAD_KEYWORDS)
def test_keywords_refused(keywords, error, match, p):
    with _refused(error, TypeError if error is ArgumentTypeError else ValueError, match=match):
        MinimizeWrapper([p], **keywords)


@pytest.mark.parametrize("value", [3, np.int64(3)])
def test_numpy_numbers_are_numbers(value, p):
    MinimizeWrapper([p], max_evaluations=value, hessian_chunk=value, max_seconds=value, target_loss=value)


# step: what cannot be called


@EACH_LEVEL
@pytest.mark.parametrize(
    ("closure", "match"),
    [(None, "step.. needs a closure"), (torch.tensor(1.0), "got Tensor; pass the function itself"), (3.0, "got float")],
)
def test_not_a_closure(method, closure, match, p):
    optimizer = MinimizeWrapper([p], method)
    for call in (optimizer.step, optimizer.check):
        with _refused(ArgumentTypeError, TypeError, match=match):
            call(closure)


def test_step_without_a_closure(p):
    with _refused(ArgumentTypeError, TypeError, match="needs a closure"):
        MinimizeWrapper([p]).step()


def test_several_processes(monkeypatch, p):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 4)
    with _refused(DistributedError, RuntimeError, match="4 processes.*full_batch"):
        MinimizeWrapper([p]).step(lambda: pytest.fail("called"))


def test_one_process_of_a_group_is_fine(monkeypatch, p):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 1)
    MinimizeWrapper([p]).step(lambda: (p**2).sum())


def test_memory_is_refused_before_the_first_call(p):
    with _refused(MemoryBudgetError, RuntimeError, match=r"BFGS needs about 192 B.*N = 2 .*100 B.*L-BFGS-B"):
        MinimizeWrapper([p], memory_budget=100).step(lambda: pytest.fail("called"))


# step: what the closure returned


def _float_without_backward(p):
    return float((p**2).sum().detach())


def _detached(p):
    return (p**2).sum().detach()


def _under_no_grad(p):
    with torch.no_grad():
        return (p**2).sum()


def _other_leaf(p):
    return (_leaf() ** 2).sum()


def _other_leaf_backward(p):
    loss = (_leaf() ** 2).sum()
    loss.backward()
    return loss


RETURNED = {
    "None": (lambda p: None, "returned nothing; end it with `return loss`"),
    "backward only": (lambda p: (p**2).sum().backward(), "returned nothing"),
    "vector": (lambda p: p**2, r"shape \(2,\).*\.sum\(\) or \.mean\(\)"),
    "empty": (lambda p: (p**2)[:0], r"shape \(0,\)"),
    "complex": (lambda p: (p * 1j).sum(), r"complex loss \(torch.complex128\).*\.real"),
    "string": (lambda p: "3.0", "returned str.*scalar tensor or a real number"),
    "python complex": (lambda p: 1j, "returned complex"),
    "numpy complex": (lambda p: np.complex128(1j), "returned complex"),
    "array": (lambda p: np.ones(2), "returned ndarray"),
    "list": (lambda p: [(p**2).sum()], "returned list"),
    "tuple": (lambda p: ((p**2).sum(), 1), "returned tuple"),
}
NO_GRADIENT = {
    "float without backward": (_float_without_backward, r"returned a float.*loss\.backward\(\).*Nelder-Mead"),
    "detached": (_detached, r"its loss has no graph.*loss\.backward\(\)"),
    "no_grad": (_under_no_grad, r"outside torch\.no_grad\(\)"),
    "of another tensor": (_other_leaf, "does not depend on the parameters"),
    "of another tensor, backward": (_other_leaf_backward, "does not depend on the parameters"),
}


def _refused_at_the_start(closure, method, p, error, match):
    start, calls = p.detach().clone(), []

    def counted():
        calls.append(1)
        return closure(p)

    optimizer = MinimizeWrapper([p], method)
    with _refused(error, RuntimeError, match=match):
        optimizer.step(counted)
    assert len(calls) <= 3  # two of them the start check
    assert torch.equal(p, start)
    assert len(optimizer.history) == 0


@EACH_LEVEL
@pytest.mark.parametrize(("closure", "match"), RETURNED.values(), ids=RETURNED)
def test_losses_refused(closure, match, method, p):
    _refused_at_the_start(closure, method, p, ClosureError, match)


@WITH_GRADIENT
@pytest.mark.parametrize(("closure", "match"), NO_GRADIENT.values(), ids=NO_GRADIENT)
def test_losses_without_a_gradient_refused(closure, match, method, p):
    _refused_at_the_start(closure, method, p, ClosureError, match)


@pytest.mark.parametrize("closure", [_float_without_backward, _detached, _under_no_grad])
@pytest.mark.parametrize("method", [name for name, spec in METHODS.items() if spec.gradient == "none"])
def test_gradient_free_methods_take_them(closure, method, p):
    assert MinimizeWrapper([p], method).step(lambda: closure(p)) < 1e-3


@pytest.mark.parametrize(
    "returned",
    [lambda s: s.item(), lambda s: s.numpy(), lambda s: s.numpy()[None], lambda s: np.float32(s), lambda s: s[None]],
    ids=["float", "0-d array", "1 element", "numpy scalar", "1-element tensor"],
)
def test_every_scalar_is_a_loss(returned, p):
    assert MinimizeWrapper([p], "Nelder-Mead").step(lambda: returned((p.detach() ** 2).sum())) < 1e-3


NONFINITE = {
    "NaN loss": (lambda p: (p**2).sum() * torch.nan, "the loss is nan at the starting point"),
    "inf loss": (lambda p: (p**2).sum() + torch.inf, "the loss is inf"),
    "-inf loss": (lambda p: (p**2).sum() - torch.inf, "the loss is -inf"),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("closure", "match"), NONFINITE.values(), ids=NONFINITE)
def test_a_nonfinite_start_is_refused(closure, match, method, p):
    _refused_at_the_start(closure, method, p, NonFiniteStartError, match)


@pytest.mark.parametrize("method", [name for name, spec in METHODS.items() if spec.gradient != "none"])
def test_a_nonfinite_gradient_at_the_start_is_refused(method):
    p = torch.nn.Parameter(torch.tensor([0.0, 1.0], dtype=torch.float64))
    _refused_at_the_start(
        lambda p: p.abs().sqrt().sum(), method, p, NonFiniteStartError, "gradient has NaN or infinite entries"
    )


# step: what changes on the way


@EACH_LEVEL
@pytest.mark.parametrize("when", ["before the loss", "after the loss"])
def test_a_parameter_that_changes_shape_is_named(method, when):
    p = torch.nn.Parameter(torch.tensor([1.5, -0.5], dtype=torch.float64))
    calls, ended = [], []

    class Watch:
        def __call__(self, iteration):
            pass

        def on_end(self, history):
            ended.append(history.message)

    def grow():
        if len(calls) == 3:
            p.data = torch.zeros(3, dtype=torch.float64)

    def closure():
        calls.append(1)
        if when == "before the loss":
            grow()
        loss = (p**2).sum() + (p**4).sum()
        if when == "after the loss":
            grow()
        return loss

    optimizer = MinimizeWrapper([p], method, callbacks=Watch(), start_check=False)
    with pytest.raises((ParameterError, RuntimeError), match=r"had shape \(2,\).*\(3,\) now|incompatible with tensor"):
        optimizer.step(closure)
    assert len(ended) == 1
    assert optimizer.result.status == 107


def test_a_resize_at_the_border_is_a_parameter_error(p):
    def closure():
        loss = (p**2).sum()
        loss.backward()
        p.data = torch.zeros(3, dtype=torch.float64)
        return loss.detach()

    with _refused(ParameterError, ValueError, match="must not resize"):
        MinimizeWrapper([p]).step(closure)


def test_a_refused_step_leaves_no_result_of_an_earlier_one(p):
    optimizer = MinimizeWrapper([p], "trust-ncg")
    optimizer.step(lambda: (p**2).sum())
    assert optimizer.result.success
    with pytest.raises(ClosureError):
        optimizer.step(lambda: None)
    assert not optimizer.result.success
    assert np.isnan(optimizer.result.fun)
    assert len(optimizer.history) == 0


# record and minimize


@pytest.mark.parametrize("value", ["many", None, [1, 2], torch.ones(2), 1j])
def test_record_takes_numbers_only(value, p):
    optimizer = MinimizeWrapper([p])
    with _refused(ArgumentTypeError, TypeError, match=r"record\(error=\.\.\.\) needs a number or a scalar tensor"):
        optimizer.record(error=value)


def test_record_outside_a_run_does_nothing(p):
    optimizer = MinimizeWrapper([p])
    optimizer.record(error=1.0)
    optimizer.step(lambda: (p**2).sum())
    assert optimizer.history[0].metrics == {}


@pytest.mark.parametrize(
    ("fun", "x0", "error", "match"),
    [
        (3, [1.0], ArgumentTypeError, "fun must be a function of x, got int"),
        (sum, "abc", ArgumentTypeError, "x0 must be a float32 or float64 tensor"),
        (sum, torch.ones(2, dtype=torch.int64), ArgumentTypeError, "x0 must be a float32 or float64 tensor"),
        (sum, {"a": [1.0], "b": "x"}, ArgumentTypeError, "b must be"),
        (sum, torch.ones(2, dtype=torch.float16), ParameterError, "torch.float16"),
        (sum, {}, ParameterError, "empty"),
    ],
)
def test_minimize_refuses(fun, x0, error, match):
    with pytest.raises(error, match=match):
        minimize(fun, x0)


@pytest.mark.parametrize("name", ["maxiter", "callbak"])
def test_minimize_refuses_unknown_keywords(name):
    with pytest.raises(TypeError, match=name):
        minimize(torch.sum, torch.ones(2), **{name: 3})

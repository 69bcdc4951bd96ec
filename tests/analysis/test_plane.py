"""Planes through larger problems: against dense linear algebra, and leaving everything as it was."""

import numpy as np
import pytest
import torch

from tests.analysis.runs import a_run, rosenbrock
from torchmin_nb import MinimizeWrapper
from torchmin_nb.analysis import hessian_plane, plane_landscape, trajectory_plane
from torchmin_nb.errors import ArgumentError, ClosureError


class Net:
    """A small network with BatchNorm, whose buffers change with each call in training mode."""

    def __init__(self, dtype=torch.float64):
        generator = torch.Generator().manual_seed(0)
        self.model = torch.nn.Sequential(
            torch.nn.Linear(2, 6), torch.nn.Tanh(), torch.nn.BatchNorm1d(6), torch.nn.Linear(6, 1)
        ).to(dtype)
        for p in self.model.parameters():
            p.data = torch.randn(p.shape, generator=generator, dtype=dtype)
        self.x = torch.randn(30, 2, generator=generator, dtype=dtype)

    def __call__(self):
        loss = ((self.model(self.x) - self.x[:, :1] * self.x[:, 1:]) ** 2).mean()
        loss.backward()
        return loss

    @property
    def parameters(self):
        return list(self.model.parameters())


@pytest.fixture(scope="module")
def trained():
    net = Net()
    optimizer = MinimizeWrapper(
        net.parameters, {"method": "L-BFGS-B", "options": {"maxiter": 15}}, keep_parameters=True
    )
    optimizer.step(net)
    return net, optimizer.history


def _state(net):
    return [
        *(p.detach().clone() for p in net.parameters),
        *(b.clone() for b in net.model.buffers()),
        *(p.grad for p in net.parameters),
    ]


def _dense_hessian(net):
    parameters = net.parameters
    n = sum(p.numel() for p in parameters)
    names = [name for name, _ in net.model.named_parameters()]

    def loss(flat):
        pieces = flat.split([p.numel() for p in parameters])
        values = {name: piece.view(p.shape) for name, piece, p in zip(names, pieces, parameters, strict=True)}
        out = torch.func.functional_call(
            net.model, (values, {k: b.clone() for k, b in net.model.named_buffers()}), net.x
        )
        return ((out - net.x[:, :1] * net.x[:, 1:]) ** 2).mean()

    flat = torch.cat([p.detach().reshape(-1) for p in parameters])
    return torch.autograd.functional.hessian(loss, flat).numpy().reshape(n, n)


# The trajectory's plane


def test_the_principal_components_are_those_of_the_covariance(trained):
    _, history = trained
    plane = trajectory_plane(history)
    values, vectors = np.linalg.eigh(np.cov(history.parameters.T))
    np.testing.assert_allclose(np.abs(plane.axes @ vectors[:, [-1, -2]]), np.eye(2), atol=1e-6)
    np.testing.assert_allclose(plane.share, values[[-1, -2]] / values.sum(), rtol=1e-9)
    assert f"{sum(plane.share):.1%}" in plane.note
    np.testing.assert_allclose(plane.axes @ plane.axes.T, np.eye(2), atol=1e-12)


def test_points_of_the_plane_come_back(trained):
    plane = trajectory_plane(trained[1])
    at = np.array([[0.0, 0.0], [1.0, -2.0]])
    np.testing.assert_allclose(plane.project(plane.lift(at)), at, atol=1e-12)
    np.testing.assert_array_equal(plane.lift(at)[0], trained[1].parameters[-1])


def test_two_parameters_are_their_own_plane():
    plane = trajectory_plane({"a": a_run("BFGS"), "b": a_run("CG")})
    assert sum(plane.share) == pytest.approx(1.0)


def test_a_run_along_a_line():
    plane = trajectory_plane(a_run("BFGS", lambda x: (x**2).sum(), (1.0, 1.0, 1.0)))
    np.testing.assert_allclose(plane.axes @ plane.axes.T, np.eye(2), atol=1e-9)
    assert plane.share[0] == pytest.approx(1.0)


def test_runs_without_a_plane():
    with pytest.raises(ArgumentError, match="at least two parameters"):
        trajectory_plane(a_run("BFGS", lambda x: (x**2).sum(), (1.0,)))
    with pytest.raises(ArgumentError, match="did not move"):
        trajectory_plane(a_run("BFGS", lambda x: (x**2).sum(), (0.0, 0.0)))


# The Hessian's plane


@pytest.mark.parametrize(("which", "chosen"), [("largest", [-1, -2]), ("both ends", [-1, 0])])
def test_the_eigenvectors_are_those_of_the_dense_hessian(trained, which, chosen):
    net, _ = trained
    plane = hessian_plane(net, net.parameters, which=which)
    values, vectors = np.linalg.eigh(_dense_hessian(net))
    np.testing.assert_allclose(plane.eigenvalues, values[chosen], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(np.abs((plane.axes @ vectors[:, chosen]).diagonal()), 1, atol=1e-4)


def test_two_parameters_have_two_eigenvectors():
    x = torch.nn.Parameter(torch.tensor([1.0, 1.0], dtype=torch.float64))
    plane = hessian_plane(lambda: rosenbrock(x), [x], at=np.array([0.0, 2.0]))
    np.testing.assert_allclose(plane.eigenvalues, [200.0, 2.0 - 800.0], rtol=1e-9)


def test_hessians_that_give_no_plane():
    x = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    with pytest.raises(ClosureError, match="Hessian is not finite"):
        hessian_plane(lambda: x.abs().sqrt().sum(), [x])
    with pytest.raises(ArgumentError, match="which='odd' is not known; choose one of 'largest', 'both ends'"):
        hessian_plane(lambda: (x**2).sum(), [x], which="odd")
    with pytest.raises(ArgumentError, match="at least two parameters"):
        hessian_plane(lambda: None, [])


# The landscape


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_surface_is_the_loss_in_the_plane(dtype):
    net = Net(dtype)
    plane = hessian_plane(net, net.parameters)
    landscape = plane_landscape(net, net.parameters, plane, window=((-1, 1), (-1, 1)), resolution=5)
    flat = torch.nn.utils.parameters_to_vector(net.parameters).detach()
    for row, column in ((2, 2), (0, 4), (3, 1)):
        at = np.array([[landscape.surface.x[column], landscape.surface.y[row]]])
        torch.nn.utils.vector_to_parameters(torch.from_numpy(plane.lift(at)[0]).to(dtype), net.parameters)
        assert landscape.surface.loss[row, column] == pytest.approx(float(net().detach()), rel=1e-5)
    torch.nn.utils.vector_to_parameters(flat, net.parameters)


def test_everything_is_left_as_it_was(trained):
    net, history = trained
    net()
    before = _state(net)
    marks = [p.grad.clone() for p in net.parameters]
    plane = hessian_plane(net, net.parameters)
    plane_landscape(net, net.parameters, plane, history, resolution=5)
    for old, new in zip(before, _state(net), strict=True):
        assert old is new or torch.equal(old, new)
    assert all(torch.equal(mark, p.grad) for mark, p in zip(marks, net.parameters, strict=True))


def test_an_error_in_the_closure_leaves_everything_too(trained):
    net, history = trained
    before, calls = _state(net), []

    def failing():
        calls.append(1)
        if len(calls) == 4:
            raise ZeroDivisionError
        return net()

    with pytest.raises(ZeroDivisionError):
        plane_landscape(failing, net.parameters, trajectory_plane(history), history, resolution=5)
    for old, new in zip(before, _state(net), strict=True):
        assert old is new or torch.equal(old, new)


def test_the_run_is_projected(trained):
    net, history = trained
    plane = trajectory_plane(history)
    landscape = plane_landscape(net, net.parameters, plane, history, resolution=4, up_to=3)
    (path,) = landscape.paths
    np.testing.assert_allclose(path.iterates, (history.parameters[:4] - history.parameters[-1]) @ plane.axes.T)
    np.testing.assert_array_equal(path.losses, history.loss[:4])
    assert not path.ended
    assert landscape.axes == plane.names
    (left, right), (bottom, top) = landscape.surface.window
    whole = plane.project(history.parameters)
    assert ((whole > [left, bottom]) & (whole < [right, top])).all()

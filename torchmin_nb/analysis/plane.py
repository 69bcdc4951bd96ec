"""A plane through a large problem: two directions, the loss in the plane, and the run projected into it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

import numpy as np
import scipy.sparse.linalg
import torch
from numpy.typing import NDArray

from ..core.history.history import History
from ..core.signatures import shows_keywords
from ..errors import ArgumentError, ClosureError
from .landscape import Landscape, Path, Runs, named_runs
from .loss import Local, opened
from .surface import Surface, Window, contour_levels, read_window, window_around

__all__ = ["Plane", "hessian_plane", "plane_landscape", "trajectory_plane"]

Which = Literal["largest", "both ends"]
_WHICH = {"largest": "LA", "both ends": "BE"}


class Plane(NamedTuple):
    """A plane through a problem of n parameters: the points origin + a·axes[0] + b·axes[1].

    Attributes
    ----------
    origin : ndarray of shape (n,)
        A point of the plane, float64.
    axes : ndarray of shape (2, n)
        Two orthonormal directions, float64.
    names : tuple of (str, str)
        What the axes are, in words.
    share : tuple of (float, float) or None
        Share of the trajectory's variance along each axis; None if the plane is not that of a trajectory.
    eigenvalues : tuple of (float, float) or None
        Eigenvalues of the Hessian along the axes; None if they are no eigenvectors.
    note : str
        What the plane shows, in words.

    Examples
    --------
    >>> plane = Plane(np.zeros(3), np.eye(3)[:2], ("x₁", "x₂"))
    >>> plane.project(np.array([[1.0, 2.0, 3.0]]))
    array([[1., 2.]])
    >>> plane.lift(np.array([[1.0, 2.0]]))
    array([[1., 2., 0.]])
    """

    origin: NDArray[np.float64]
    axes: NDArray[np.float64]
    names: tuple[str, str]
    share: tuple[float, float] | None = None
    eigenvalues: tuple[float, float] | None = None
    note: str = ""

    def project(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """The nearest points in the plane, as coordinates.

        Parameters
        ----------
        points : ndarray of shape (k, n)
            Points of the problem.

        Returns
        -------
        ndarray of shape (k, 2)
            Their coordinates, float64.
        """
        return np.asarray((points - self.origin) @ self.axes.T)

    def lift(self, coordinates: NDArray[np.float64]) -> NDArray[np.float64]:
        """The points of the plane at these coordinates.

        Parameters
        ----------
        coordinates : ndarray of shape (k, 2)
            Coordinates in the plane.

        Returns
        -------
        ndarray of shape (k, n)
            Points of the problem, float64.
        """
        return np.asarray(self.origin + coordinates @ self.axes)


def trajectory_plane(histories: Runs) -> Plane:
    """The plane of the first two principal components of one or several runs, through the first run's last iterate.

    Parameters
    ----------
    histories : History or dict of str to History
        Runs with ``keep_parameters=True``.

    Returns
    -------
    Plane
        With the `share` of the variance along each axis.

    Raises
    ------
    ArgumentError
        If there are fewer than two parameters, or the runs never moved.
    HistoryError
        If a run has kept no points.

    References
    ----------
    H. Li et al., "Visualizing the loss landscape of neural nets" (2018), section 7.

    Examples
    --------
    >>> history = minimize(lambda x: (x**4).sum(), [3.0, 4.0, 0.0], "CG", keep_parameters=True).history
    >>> plane = trajectory_plane(history)
    >>> plane.axes.shape, round(sum(plane.share), 6)
    ((2, 3), 1.0)
    """
    runs = [history for _, history in named_runs(histories)]
    paths = [_finite_rows(history.parameters) for history in runs if len(history)]
    points = np.concatenate(paths) if paths else np.empty((0, 0))
    if points.shape[1] < 2:
        raise ArgumentError(f"a plane needs at least two parameters; these runs have {points.shape[1]}")
    _, sizes, axes = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
    total = float((sizes**2).sum())
    if total == 0:
        raise ArgumentError("these runs did not move, so they have no principal component; choose runs with iterations")
    sizes, axes = np.append(sizes, 0.0), _two(axes, sizes)
    first, second = ((sizes[:2] ** 2) / total).tolist()
    return Plane(
        origin=paths[0][-1],
        axes=axes,
        names=(f"first principal component, {first:.1%}", f"second principal component, {second:.1%}"),
        share=(first, second),
        note=f"The plane holds {first + second:.1%} of the trajectory's variance. "
        f"The contours are the loss in the plane through the last iterate, the runs are projected into it.",
    )


@shows_keywords()
def hessian_plane(
    closure: Callable[..., Any],
    parameters: Iterable[torch.Tensor],
    *,
    at: NDArray[np.float64] | None = None,
    which: Which = "largest",
    seed: int = 0,
) -> Plane:
    """The plane of two eigenvectors of the Hessian.

    They are computed by Lanczos iterations (`scipy.sparse.linalg.eigsh`) on Hessian-vector products from autograd. No
    N×N array is made. Parameters, ``.grad`` and buffers are restored.

    Parameters
    ----------
    closure : callable
        Computes the loss from the parameters.
    parameters : iterable of torch.Tensor
        The parameters, n entries in all, at least two.
    at : ndarray of shape (n,) or None, optional
        The point. Default: the parameters' present values.
    which : {"largest", "both ends"}, optional
        "largest": the two largest eigenvalues. "both ends": the largest and the smallest. Default "largest".
    seed : int, optional
        Seed of the first vector. Default 0.

    Returns
    -------
    Plane
        With the `eigenvalues` along its axes.

    Raises
    ------
    ArgumentError
        If there are fewer than two parameters, or `which` is not known.
    ClosureError
        If the Hessian is not finite.
    SecondDerivativeError
        If an operation has no second derivative.

    Examples
    --------
    >>> x = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    >>> weights = torch.tensor([1.0, 5.0, 3.0], dtype=torch.float64)
    >>> plane = hessian_plane(lambda: (weights * x**2).sum() / 2, [x])
    >>> np.round(plane.eigenvalues, 6)
    array([5., 3.])
    """
    if which not in _WHICH:
        raise ArgumentError(f"which={which!r} is not known; choose one of {', '.join(map(repr, _WHICH))}")
    tensors = [tensor for tensor in parameters if tensor.requires_grad]
    origin = _present(tensors) if at is None else np.array(at, dtype=np.float64).ravel()
    if origin.size < 2:
        raise ArgumentError(f"a plane needs at least two parameters; there are {origin.size}")
    with opened(closure, tensors) as loss:
        values, vectors = _eigenvectors(loss, origin, _WHICH[which], seed)
    return Plane(
        origin=origin,
        axes=vectors.T,
        names=(f"eigenvector of curvature {values[0]:.3g}", f"eigenvector of curvature {values[1]:.3g}"),
        eigenvalues=(float(values[0]), float(values[1])),
        note="The axes are eigenvectors of the Hessian; runs are projected into the plane.",
    )


def plane_landscape(
    closure: Callable[..., Any],
    parameters: Iterable[torch.Tensor],
    plane: Plane,
    histories: Runs | None = None,
    *,
    window: Window | None = None,
    resolution: int = 31,
    up_to: int | None = None,
    log: bool | None = None,
) -> Landscape:
    """The loss over a plane, and runs projected into it. Draw it with `landscape_figure` or `landscape_picture`.

    Parameters, ``.grad`` and buffers are restored.

    Parameters
    ----------
    closure : callable
        Computes the loss from the parameters.
    parameters : iterable of torch.Tensor
        The parameters, n entries in all.
    plane : Plane
        The plane.
    histories : History or dict of str to History, optional
        Runs with ``keep_parameters=True``.
    window : ((float, float), (float, float)) or None, optional
        ((low, high), (low, high)) in coordinates of the plane. Default: the projected runs with a margin, or one unit
        around the origin.
    resolution : int, optional
        Grid points on each side; the closure is called resolution² times. Default 31.
    up_to : int or None, optional
        Show iterates 0 to `up_to` only. Default: all.
    log : bool or None, optional
        Logarithmic contours. Default: chosen by the loss.

    Returns
    -------
    Landscape
        The loss is NaN where it is not finite.

    Raises
    ------
    ArgumentError
        If the window is empty.
    HistoryError
        If a run has kept no points.

    Examples
    --------
    >>> x = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    >>> plane = Plane(np.zeros(3), np.eye(3)[:2], ("x₁", "x₂"))
    >>> landscape = plane_landscape(lambda: (x**2).sum(), [x], plane, window=((-1, 1), (-1, 1)), resolution=3)
    >>> landscape.surface.loss
    array([[2., 1., 2.],
           [1., 0., 1.],
           [2., 1., 2.]])
    """
    paths = tuple(_path(name, history, plane, up_to) for name, history in named_runs(histories))
    whole = [plane.project(_finite_rows(history.parameters)) for _, history in named_runs(histories) if len(history)]
    chosen = window_around(np.concatenate(whole or [np.empty((0, 2))])) if window is None else read_window(window)
    with opened(closure, parameters) as loss:
        surface = _surface(loss, plane, chosen, resolution)
    return Landscape(
        surface=surface,
        levels=contour_levels(surface.loss, log=log),
        paths=paths,
        minimizers=np.empty((0, 2)),
        box=None,
        boundaries=(),
        axes=plane.names,
        note=plane.note,
    )


def _surface(loss: Local, plane: Plane, window: Window, resolution: int) -> Surface:
    x, y = (np.linspace(low, high, resolution) for low, high in window)
    # One row of the grid at a time: all points together could need more memory than the model.
    rows = [loss.values(plane.lift(np.stack([x, np.full_like(x, each)], axis=1))) for each in y]
    return Surface(x, y, np.stack(rows))


def _path(name: str, history: History, plane: Plane, up_to: int | None) -> Path:
    last = len(history) - 1 if up_to is None else max(0, min(int(up_to), len(history) - 1))
    nothing = np.empty((0, 2))
    return Path(
        name=name,
        iterates=plane.project(history.parameters[: last + 1]) if len(history) else nothing,
        losses=history.loss[: last + 1],
        trials=nothing,
        rejected=nothing,
        region=nothing,
        iteration=last,
        ended=last == len(history) - 1,
    )


def _eigenvectors(
    loss: Local, origin: NDArray[np.float64], which: str, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two eigenvalues, the larger first, and their eigenvectors (n, 2)."""
    product, n = loss.at(origin).product, origin.size

    def checked(v: NDArray[np.float64]) -> NDArray[np.float64]:
        answer = product(v.ravel())
        if not np.isfinite(answer).all():
            raise ClosureError("the Hessian is not finite at this point; choose another point with at=")
        return answer

    if n == 2:
        hessian = np.stack([checked(unit) for unit in np.eye(2)])
        values, vectors = np.linalg.eigh((hessian + hessian.T) / 2)
    else:
        operator = scipy.sparse.linalg.LinearOperator((n, n), matvec=checked, dtype=np.float64)
        start = np.random.default_rng(seed).standard_normal(n)
        values, vectors = scipy.sparse.linalg.eigsh(operator, k=2, which=which, v0=start, tol=1e-6)
    order = np.argsort(-values)
    return values[order], vectors[:, order]


def _two(axes: NDArray[np.float64], sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """The first two axes; if the points are on a line, the second axis is any perpendicular one."""
    if len(axes) > 1 and sizes[1] > 0:
        return axes[:2]
    across = np.eye(axes.shape[1])[int(np.abs(axes[0]).argmin())]
    across = across - (across @ axes[0]) * axes[0]
    return np.stack([axes[0], across / np.linalg.norm(across)])


def _present(tensors: list[torch.Tensor]) -> NDArray[np.float64]:
    if not tensors:
        return np.empty(0)
    return np.concatenate([tensor.detach().reshape(-1).to("cpu", torch.float64).numpy() for tensor in tensors])


def _finite_rows(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return points[np.isfinite(points).all(axis=1)]

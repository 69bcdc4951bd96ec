"""Data that explain a run, in NumPy and torch, without drawing. The figures are in `views`."""

from .._public import publish
from .curvature import CurvatureCost, Measurement, curvature_cost
from .landscape import Landscape, landscape_data
from .order import Order, order_data, order_of_convergence
from .plane import Plane, hessian_plane, plane_landscape, trajectory_plane
from .profiles import CostTable, Profile, cost_table, data_profile, performance_profile
from .step import explained_methods, step_data
from .surface import Surface, sample

__all__ = [
    "CostTable",
    "CurvatureCost",
    "Landscape",
    "Measurement",
    "Order",
    "Plane",
    "Profile",
    "Surface",
    "cost_table",
    "curvature_cost",
    "data_profile",
    "explained_methods",
    "hessian_plane",
    "landscape_data",
    "order_data",
    "order_of_convergence",
    "performance_profile",
    "plane_landscape",
    "sample",
    "step_data",
    "trajectory_plane",
]


def __dir__() -> list[str]:
    return sorted(__all__)


publish(__name__)

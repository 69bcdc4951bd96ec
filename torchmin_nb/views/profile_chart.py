"""Performance and data profiles, drawn by Plotly or by matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..analysis.profiles import Profile
from .chart import Axis, Chart, Mark
from .palette import style

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from .chart_picture import Picture

__all__ = ["profile_chart", "profile_figure", "profile_picture"]

_WIDE = 20.0


def profile_figure(profile: Profile, *, title: str = "") -> go.Figure:
    """A performance or data profile as a Plotly figure.

    Parameters
    ----------
    profile : Profile
        From `performance_profile` or `data_profile`.
    title : str, optional
        Title.

    Returns
    -------
    plotly.graph_objects.Figure
        The figure.

    Examples
    --------
    >>> from torchmin_nb.analysis import performance_profile
    >>> profile = performance_profile({"easy": {"BFGS": 10, "CG": 20}, "hard": {"BFGS": np.inf, "CG": 90}})
    >>> [trace.name for trace in profile_figure(profile).data]
    ['BFGS', 'CG']
    """
    from .chart_figure import chart_figure

    return chart_figure(profile_chart(profile, title))


def profile_picture(profile: Profile, *, title: str = "") -> Picture:
    """A performance or data profile by matplotlib.

    Parameters
    ----------
    profile : Profile
        From `performance_profile` or `data_profile`.
    title : str, optional
        Title.

    Returns
    -------
    Picture
        A matplotlib Figure.

    Examples
    --------
    >>> from torchmin_nb.analysis import performance_profile
    >>> profile = performance_profile({"easy": {"BFGS": 10, "CG": 20}, "hard": {"BFGS": np.inf, "CG": 90}})
    >>> profile_picture(profile).axes[0].get_ylabel()
    'share of problems solved'
    """
    from .chart_picture import chart_picture

    return chart_picture(profile_chart(profile, title))


def profile_chart(profile: Profile, title: str = "") -> Chart:
    """What is drawn, without a drawing library. A wide axis that starts above 0 is logarithmic."""
    ends = [(x[0], x[-1]) for x, _ in profile.steps.values()]
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    marks = []
    for index, (method, (x, share)) in enumerate(profile.steps.items()):
        colour, dash, _ = style(index)
        texts = tuple(f"{method}\n{share_:.0%} within {x_:.4g}" for x_, share_ in zip(x, share, strict=True))
        marks.append(Mark(x, share, method, colour, dash, 2.2, steps="hv", texts=texts))
    notes = (f"{profile.problems} problems. {profile.note}".strip(),)
    return Chart(
        tuple(marks),
        Axis(profile.axis, log=low > 0 and high / low > _WIDE, range=(low, high)),
        Axis("share of problems solved", range=(-0.03, 1.03)),
        title,
        notes,
    )

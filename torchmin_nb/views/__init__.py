"""What a person sees. Everything but the progress line needs the [notebook] extra."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .._public import publish, published
from .progress import ProgressLine

if TYPE_CHECKING:
    from .animate import animated_html
    from .bands_chart import bands_figure, bands_picture
    from .bundle import show
    from .chart import Axis, Chart, Contours, Mark, Region
    from .chart_figure import chart_figure
    from .chart_picture import Picture, chart_picture
    from .curves import curves_picture
    from .explorer import MethodExplorer
    from .figures import convergence_figure
    from .following import follow
    from .landscape import landscape_chart, landscape_figure, landscape_picture
    from .live import Dashboard
    from .order_chart import order_figure, order_picture
    from .palette import INK, RUNS, style
    from .profile_chart import profile_figure, profile_picture
    from .slider import show_slider, slider_figure
    from .spectrum_chart import spectrum_figure, spectrum_picture
    from .starts_chart import multistart_figure, multistart_picture
    from .starts_view import StartsView
    from .step_chart import step_figure, step_picture

__all__ = [
    "INK",
    "RUNS",
    "Axis",
    "Chart",
    "Contours",
    "Dashboard",
    "Mark",
    "MethodExplorer",
    "Picture",
    "ProgressLine",
    "Region",
    "StartsView",
    "animated_html",
    "bands_figure",
    "bands_picture",
    "chart_figure",
    "chart_picture",
    "convergence_figure",
    "curves_picture",
    "follow",
    "landscape_chart",
    "landscape_figure",
    "landscape_picture",
    "multistart_figure",
    "multistart_picture",
    "order_figure",
    "order_picture",
    "profile_figure",
    "profile_picture",
    "show",
    "show_slider",
    "slider_figure",
    "spectrum_figure",
    "spectrum_picture",
    "step_figure",
    "step_picture",
    "style",
]

_LAZY = {
    "INK": ".palette",
    "RUNS": ".palette",
    "Axis": ".chart",
    "Chart": ".chart",
    "Contours": ".chart",
    "Dashboard": ".live",
    "Mark": ".chart",
    "MethodExplorer": ".explorer",
    "Picture": ".chart_picture",
    "Region": ".chart",
    "StartsView": ".starts_view",
    "animated_html": ".animate",
    "bands_figure": ".bands_chart",
    "bands_picture": ".bands_chart",
    "chart_figure": ".chart_figure",
    "chart_picture": ".chart_picture",
    "convergence_figure": ".figures",
    "curves_picture": ".curves",
    "follow": ".following",
    "landscape_chart": ".landscape",
    "landscape_figure": ".landscape",
    "landscape_picture": ".landscape",
    "multistart_figure": ".starts_chart",
    "multistart_picture": ".starts_chart",
    "order_figure": ".order_chart",
    "order_picture": ".order_chart",
    "profile_figure": ".profile_chart",
    "profile_picture": ".profile_chart",
    "show": ".bundle",
    "show_slider": ".slider",
    "slider_figure": ".slider",
    "spectrum_figure": ".spectrum_chart",
    "spectrum_picture": ".spectrum_chart",
    "step_figure": ".step_chart",
    "step_picture": ".step_chart",
    "style": ".palette",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(_LAZY[name], __name__)
    except ModuleNotFoundError as error:
        raise ImportError(f"{name} needs {error.name}: pip install 'torchmin-nb[notebook]'") from error
    # An imported submodule becomes an attribute of the package: where it has the name of its function, it is called.
    return module if module.__name__ == f"{__name__}.{name}" else published(getattr(module, name), __name__)


def __dir__() -> list[str]:
    return sorted(__all__)


publish(__name__)

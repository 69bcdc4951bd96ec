"""The demo: softmax regression on real handwritten digits, by five methods, side by side."""

from __future__ import annotations

from pathlib import Path

import torch

from .core.history.comparison import comparison_text
from .core.history.history import History
from .core.optimizers.minimize import MinimizeWrapper
from .problems import Split, digits
from .views.figures import convergence_figure
from .views.progress import ProgressLine

__all__ = ["DEMO_METHODS", "run_demo"]

DEMO_METHODS = ("CG", "L-BFGS-B", "Newton-CG", "trust-ncg", "trust-krylov")
_WEIGHT_DECAY = 1e-3


def run_demo(output: Path, iterations: int = 60) -> dict[str, History]:
    """Fit the digits with each method, print a table, write the curves to `output`."""
    output.parent.mkdir(parents=True, exist_ok=True)
    data = digits()
    print(
        f"{len(data.train_labels):,} digits to train, {len(data.test_labels):,} to test; softmax regression, "
        f"7,850 parameters, at most {iterations} iterations a method\n"
    )
    fitted = {method: _fit(method, data, iterations) for method in DEMO_METHODS}
    histories = {method: history for method, (history, _) in fitted.items()}
    accuracy = {id(history): share for history, share in fitted.values()}
    print("\n" + comparison_text(histories, [("test accuracy", lambda history: f"{accuracy[id(history)]:.1%}")]))
    title = "softmax regression on 4,000 handwritten digits · 7,850 parameters"
    figure = convergence_figure(histories, x="seconds", title=title)
    figure.update_layout(height=860, plot_bgcolor="white", paper_bgcolor="white", font_color="#444")
    figure.write_html(output, include_plotlyjs=True)
    print(f"\ncurves: {output}")
    return histories


def _fit(method: str, data: Split, iterations: int) -> tuple[History, float]:
    """The run's history and the share of test digits that the fitted model gets right."""
    model = torch.nn.Linear(784, 10, dtype=torch.float64)
    torch.nn.init.zeros_(model.weight)
    torch.nn.init.zeros_(model.bias)
    optimizer = MinimizeWrapper(
        model.parameters(), dict(method=method, options=dict(maxiter=iterations)), callbacks=[ProgressLine()]
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(data.train_inputs), data.train_labels)
        loss = loss + _WEIGHT_DECAY / 2 * model.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        right = model(data.test_inputs).argmax(dim=1) == data.test_labels
    return optimizer.history, float(right.double().mean())

"""The demo: softmax regression on real handwritten digits, by five methods, side by side."""

from __future__ import annotations

from pathlib import Path

import torch

from .core.display.html import Html, html, html_page, html_table, joined
from .core.display.tables import text_table
from .core.history.comparison import comparison_rows
from .core.history.history import History
from .core.optimizers.minimize import MinimizeWrapper
from .core.storage.atomic_files import write_text
from .problems import Split, digits
from .views.figures import convergence_figure
from .views.progress import ProgressLine

__all__ = ["DEMO_METHODS", "run_demo"]

DEMO_METHODS = ("CG", "L-BFGS-B", "Newton-CG", "trust-ncg", "trust-krylov")
_TITLE = "Handwritten digits, learned by five methods of SciPy in PyTorch"
_WEIGHT_DECAY = 1e-3


def run_demo(output: Path, iterations: int = 60) -> dict[str, History]:
    """Fit the digits with each method, print a table, write a page with table and curves to `output`."""
    output.parent.mkdir(parents=True, exist_ok=True)
    data = digits()
    task = (
        f"{len(data.train_labels):,} digits to train, {len(data.test_labels):,} to test; softmax regression, "
        f"7,850 parameters, at most {iterations} iterations a method"
    )
    print(f"{task}\n")
    fitted = {method: _fit(method, data, iterations) for method in DEMO_METHODS}
    histories = {method: history for method, (history, _) in fitted.items()}
    accuracy = {id(history): share for history, share in fitted.values()}
    rows = comparison_rows(histories, [("test accuracy", lambda history: f"{accuracy[id(history)]:.1%}")])
    print("\n" + text_table(rows))
    write_text(output, _page(task, rows, histories, [share for _, share in fitted.values()]))
    print(f"\ncurves: {output}")
    return histories


def _page(task: str, rows: list[tuple[str, ...]], histories: dict[str, History], accuracy: list[float]) -> str:
    """Heading, table, what it shows, and the curves with a choice of the scale. It needs no network."""
    figure = convergence_figure(histories, x="seconds")
    layout = figure.to_plotly_json()["layout"]
    axes = [name for name, axis in layout.items() if name.startswith("yaxis") and axis.get("type") == "log"]
    choices = [
        {
            "label": scale,
            "method": "relayout",
            "args": [
                {
                    f"{axis}.{key}": value
                    for axis in axes
                    for key, value in (
                        ("type", scale),
                        ("autorange", True),
                        ("tickmode", "auto"),
                        ("tickvals", None),
                        ("ticktext", None),
                    )
                }
            ],
        }
        for scale in ("log", "linear")
    ]
    menu = {"type": "buttons", "direction": "left", "buttons": choices, "x": 1, "xanchor": "right", "y": 1.08}
    figure.update_layout(height=860, plot_bgcolor="white", paper_bgcolor="white", font_color="#444", updatemenus=[menu])
    return html_page(
        _TITLE,
        html(
            "<h1>{title}</h1><p>{task}. Each method starts from zeros and minimises the same loss: cross-entropy with "
            "a weight decay.</p><div class='wide'>{table}</div><h2>What to take from it</h2>"
            "<ul>{lessons}</ul><h2>The runs over time</h2><figure>{figure}</figure>",
            title=_TITLE,
            task=task,
            table=html_table(rows, ["left", *["right"] * (len(rows[0]) - 1)]),
            lessons=joined(html("<li>{text}</li>", text=text) for text in _lessons(histories, accuracy)),
            figure=Html(figure.to_html(full_html=False, include_plotlyjs=True)),
        ),
    )


def _lessons(histories: dict[str, History], accuracy: list[float]) -> list[str]:
    """What the numbers say, computed from them."""
    lowest = min(history[-1].loss for history in histories.values())
    name = min(histories, key=lambda each: histories[each][-1].loss)
    level = 1.001 * lowest
    times = {each: next((e.elapsed for e in history if e.loss <= level), None) for each, history in histories.items()}
    known = {each: seconds for each, seconds in times.items() if seconds is not None}
    first = min(known, key=known.__getitem__)
    late = [each for each in histories if each not in known]
    return [
        f"The lowest loss is that of {name}: {lowest:.6f}.",
        f"{first} was within 0.1 % of it first, after {known[first]:.2f} s"
        + (f"; {', '.join(late)} did not get there." if late else "; all methods got there."),
        f"On digits that were not trained on, {min(accuracy):.1%} to {max(accuracy):.1%} are recognised: below a "
        "certain loss, a lower one is no better.",
        "Methods with Hessian-vector products need few iterations; each of them costs more.",
    ]


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

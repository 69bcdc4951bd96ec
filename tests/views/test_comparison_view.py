"""What the panel of a comparison shows, and what its buttons do."""

import threading

import torch

from torchmin_nb import compare
from torchmin_nb.views.comparison_view import ComparisonSource

LONG = 60.0


def test_moments_and_buttons():
    x, begun, go = (
        torch.nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64)),
        threading.Event(),
        threading.Event(),
    )

    def closure():
        if begun.is_set():
            go.wait(LONG)
        return (x**4).sum()

    comparison = compare([x], closure, ["CG", "Adam"], budget=30, background=True)
    comparison.wait(LONG)
    moment = ComparisonSource(comparison).moment()
    assert moment.over
    assert moment.buttons == ()
    assert list(moment.histories) == ["CG", "torch.Adam"]
    assert (moment.header.badge, moment.header.progress) == ("finished", 1.0)
    assert moment.header.verdict == "CG is the first."
    assert ("runs", "2 / 2") in moment.header.facts
    assert moment.notes["CG"] == f"loss {comparison.best.loss:.4g}"

    begun.set()
    assert not comparison.priced
    comparison = compare([x], closure, ["CG", "Adam"], budget=10_000, background=True)
    source = ComparisonSource(comparison)
    assert source.moment().header.badge == "running"
    assert [button.action for button in source.moment().buttons] == ["pause", "stop"]
    source.press("pause", 1)
    assert (source.moment().header.badge, source.moment().buttons[0].action) == ("paused", "resume")
    source.press("resume", 1)
    assert source.moment().header.badge == "running"
    source.press("stop", 1)
    go.set()
    comparison.wait(LONG)
    moment = source.moment()
    assert (moment.header.badge, moment.header.tone) == ("stopped", "warning")
    assert "have ended" in moment.header.verdict

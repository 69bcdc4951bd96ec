"""What the live panel shows: the state as a function of histories, and the messages that carry it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.views.histories import a_history, waves
from torchmin_nb import History, Iteration
from torchmin_nb.core.history.priced import priced
from torchmin_nb.views.figures import drawing
from torchmin_nb.views.live_panel.header import header_of
from torchmin_nb.views.live_panel.state import EXCESS, Sketch, panel_state
from torchmin_nb.views.live_panel.wire import delta, whole
from torchmin_nb.views.panels import POINTS

KINDS = (np.int32, np.int32, np.float32, np.float64)


def state_of(*histories, **choices):
    named = {f"run {place}": history for place, history in enumerate(histories)}
    return panel_state(named, header_of(histories[-1]), **choices)


def grown(history, count):
    """The same run, so many iterations long and not over."""
    part = History(history.method)
    for iteration in history[:count]:
        part.append(iteration)
    return part


def decoded(arrays):
    return [np.frombuffer(buffer, kind) for buffer, kind in zip(arrays, KINDS, strict=True)]


def applied(shown, message, buffers):
    """What a view makes of a delta: its columns."""
    shown = [list(columns) for columns in shown]
    for place, part in enumerate(message["points"]):
        added = decoded(buffers[4 * place : 4 * place + 4])
        shown[part["curve"]] = [
            np.concatenate([old[: part["keep"]], new]) for old, new in zip(shown[part["curve"]], added, strict=True)
        ]
    return shown


def assert_same(shown, wanted):
    for columns, others in zip(shown, wanted, strict=True):
        for column, other in zip(columns, others, strict=True):
            np.testing.assert_array_equal(column, other)


# The state


def test_its_columns_are_those_of_the_history():
    history = a_history(length=30)
    state = state_of(history)
    names = [look["yaxis"] for look in state.looks]
    assert names == ["y", "y2", "y3", "y3", "y4"]
    loss = state.columns[0]
    np.testing.assert_array_equal(loss.y, history.loss)
    np.testing.assert_array_equal(loss.iteration, history.column("index"))
    np.testing.assert_array_equal(loss.calls, history.nfev)
    np.testing.assert_allclose(loss.seconds, history.elapsed, rtol=1e-6)
    assert [column.dtype for column in loss[1:5]] == [np.dtype(kind) for kind in KINDS]


def test_a_long_curve_is_thinned_and_keeps_its_lowest_and_its_highest_point():
    history = waves(20_000)
    state = state_of(history)
    for columns in state.columns:
        assert columns.y.size <= POINTS == 1000
    assert state.columns[0].y.min() == history.loss.min()
    assert state.columns[0].y.max() == history.loss.max()
    assert state.columns[0].iteration[-1] == 19_999


def test_each_axis_has_its_ticks_for_every_choice():
    state = state_of(a_history(metrics=["bias"]))
    assert list(state.x_axes) == ["iteration", "closure calls", "seconds"]
    assert set(state.y_axes["yaxis"]) == {"log", "linear", EXCESS}
    every = [*state.x_axes.values(), *(axis for axes in state.y_axes.values() for axis in axes.values())]
    assert all(len(axis.ticks) >= 3 for axis in every)


def test_loss_minus_best_is_taken_from_the_best_of_all_runs():
    state = state_of(a_history(length=4, offset=2.0), a_history(length=6, offset=1.0))
    assert state.best == 1 + 2.0**-5
    low, high = state.y_axes["yaxis"][EXCESS].range
    assert low < np.log10(2.0**-5) < np.log10(3 - state.best) < high


def test_a_legend_only_where_there_are_several():
    assert state_of(a_history()).legend == ()
    legend = state_of(a_history(), a_history("CG", radius=False), notes={"run 1": "loss 3"}).legend
    assert [(entry.group, entry.text) for entry in legend] == [("run 0", ""), ("run 1", "loss 3")]
    assert len({entry.colour for entry in legend}) == len({entry.dash for entry in legend}) == 2
    assert len({entry.symbol for entry in legend}) == 2


@pytest.mark.parametrize(
    "history", [History("trust-ncg"), History(""), a_history(length=1), a_history(metrics="pqrstu")]
)
def test_any_history_can_be_sent(history):
    message = whole(state_of(history))
    del message["columns"]
    json.dumps(message, allow_nan=False)


def test_what_is_not_a_number_is_left_out():
    history = History("CG")
    for loss in (1.0, np.nan, np.inf, 0.5):
        history.append(Iteration(len(history), loss, metrics={"m": loss}))
    state = state_of(history)
    assert all(np.isfinite(columns.y).all() for columns in state.columns)
    np.testing.assert_array_equal(state.columns[0].iteration, [0, 3])


# The messages


@pytest.mark.parametrize("history", [a_history(length=60, metrics=["bias"]), waves(9000)], ids=["short", "long"])
@pytest.mark.parametrize("step", [1, 7, 700])
def test_deltas_add_up_to_the_whole(history, step):
    state = state_of(grown(history, 2))
    shown = [decoded(arrays) for arrays in whole(state)["columns"]]
    counts = [*range(2 + step, len(history), max(step, len(history) // 40)), len(history)]
    for count in counts:
        new = state_of(grown(history, count))
        message, buffers = delta(state, new)
        shown, state = applied(shown, message, buffers), new
        assert_same(shown, [decoded(arrays) for arrays in whole(new)["columns"]])


def test_a_delta_of_one_iteration_is_small_however_long_the_run_is():
    history = waves(20_000)
    message, buffers = delta(state_of(grown(history, 19_990)), state_of(grown(history, 19_991)))
    assert sum(map(len, buffers)) + len(json.dumps(message)) < 4_000


def test_a_delta_has_only_the_words_and_axes_that_changed():
    history = a_history(length=20, ended=False)
    old = state_of(history)
    message, buffers = delta(old, state_of(history))
    assert buffers == []
    assert "header" not in message
    assert message["x_axes"] == {}
    assert not any(message["y_axes"].values())
    message, _ = delta(old, old._replace(header=old.header._replace(badge="paused")))
    assert message["header"]["badge"] == "paused"


def test_a_panel_that_comes_brings_the_look_and_all_curves():
    old, new = state_of(a_history(ended=False)), state_of(a_history(metrics=["bias"], ended=False))
    message, buffers = delta(old, new)
    for part in ("layout", "looks", "x_axes", "y_axes", "best"):
        assert message[part] == whole(new)[part]
    assert [part["keep"] for part in message["points"]] == [0] * len(new.columns)
    empty = [[[]] * 4] * len(new.columns)
    assert_same(applied(empty, message, buffers), [decoded(part) for part in whole(new)["columns"]])


# The picture beside the curves


def sketch(name="plane", *, length=3, height=300):
    ground = {"type": "contour", "z": np.arange(6.0).reshape(2, 3), "levels": [{"at": np.array([1, 2], np.int32)}]}
    path = {"type": "scatter", "x": np.arange(length, dtype=np.float32), "name": "run", "fill": None}
    return Sketch(name, [ground, path], {"height": height})


def unpacked(value, buffers=()):
    """What a view makes of a part of a figure."""
    if isinstance(value, list):
        return [unpacked(part, buffers) for part in value]
    if not isinstance(value, dict):
        return value
    if "bytes" in value:
        data = value["bytes"] if isinstance(value["bytes"], bytes) else buffers[value["bytes"]]
        return np.frombuffer(data, value["dtype"]).reshape(value["shape"])
    return {name: unpacked(part, buffers) for name, part in value.items()}


def with_picture(picture):
    return state_of(a_history(length=4, ended=False))._replace(picture=picture)


def test_a_picture_is_sent_whole_with_its_arrays_as_bytes():
    sent = unpacked(whole(with_picture(sketch()))["picture"])
    np.testing.assert_array_equal(sent["traces"][0]["z"], [[0, 1, 2], [3, 4, 5]])
    assert sent["traces"][0]["levels"][0]["at"].tolist() == [1, 2]
    assert sent["traces"][1]["x"].dtype == np.float32
    assert (sent["name"], sent["layout"], sent["traces"][1]["fill"]) == ("plane", {"height": 300}, None)


@pytest.mark.parametrize(
    ("new", "keep", "sent"),
    [
        (sketch(length=5), 1, [5]),
        (sketch(height=400), 2, []),
        (sketch("order")._replace(traces=sketch().traces[1:]), 0, [3]),
        (sketch()._replace(traces=sketch().traces[:1]), 1, []),
    ],
    ids=["longer", "layout", "other", "shorter"],
)
def test_only_what_is_new_of_a_picture_is_sent(new, keep, sent):
    message, buffers = delta(with_picture(sketch()), with_picture(new))
    part = unpacked(message["picture"], buffers)
    assert part["keep"] == keep
    assert [trace["x"].size for trace in part["traces"]] == sent
    assert part["layout"] == new.layout


def test_arrays_of_a_picture_follow_those_of_the_curves():
    old = state_of(a_history(length=3, ended=False))._replace(picture=sketch())
    message, buffers = delta(old, with_picture(sketch(length=7)))
    assert len(buffers) == 4 * len(message["points"]) + 1
    assert unpacked(message["picture"], buffers)["traces"][0]["x"].tolist() == list(range(7))


def test_a_picture_that_stays_is_not_sent_and_one_that_goes_is_told():
    assert "picture" not in delta(with_picture(sketch()), with_picture(sketch()))[0]
    assert delta(with_picture(sketch()), with_picture(None))[0]["picture"] is None
    assert "picture" not in delta(with_picture(None), with_picture(None))[0]


def test_opening_sends_less_than_50_kb():
    from torchmin_nb.views.live_panel.widget import PanelWidget

    for history in (History("trust-ncg"), a_history(length=50, metrics="pqrs")):
        widget = PanelWidget(state_of(history))
        sent = widget.get_state()
        columns = sent["state"].pop("columns")
        arrays = sum(len(buffer) for arrays in columns for buffer in arrays)
        assert len(json.dumps({name: value for name, value in sent.items() if name != "layout"})) + arrays < 50_000
        widget.close()


def test_a_changed_value_is_sent_again():
    history = a_history(length=6, ended=False)
    other = History("trust-ncg")
    for iteration in history:
        other.append(replace(iteration, loss=9.0) if iteration.index == 4 else iteration)
    message, _ = delta(state_of(history), state_of(other))
    assert message["points"][0] == {"curve": 0, "keep": 4}


def test_what_was_spent_is_an_x_axis_where_products_have_a_price():
    histories = {"trust-ncg": a_history("trust-ncg", 12), "BFGS": a_history("BFGS", 9)}
    x = priced(2.5)
    assert x == "closure calls + 2.5 × products"
    state = panel_state(histories, header_of(histories["BFGS"]), panels=["loss"], priced=x)
    assert list(state.x_axes) == ["iteration", "closure calls", "seconds", x]
    spent = [history.nfev + 2.5 * history.nhvp for history in histories.values()]
    for columns, expected in zip(state.columns, spent, strict=True):
        assert columns.priced == pytest.approx(expected)
    assert state.x_axes[x].range[1] >= max(map(max, spent))
    assert {len(columns) for columns in whole(state)["columns"]} == {5}
    assert {len(columns) for columns in whole(panel_state(histories, state.header))["columns"]} == {4}
    figure = drawing(histories, x=x, panels=["loss"]).figure()
    assert figure.data[0].x == pytest.approx(spent[0])
    assert figure.layout.xaxis.title.text == x

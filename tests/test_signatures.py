"""Shift-Tab shows everything: every public signature names its keywords, with types, defaults and choices."""

import inspect
import pydoc
from enum import Enum
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
import torch

import torchmin_nb
import torchmin_nb.analysis
import torchmin_nb.explore
import torchmin_nb.problems
import torchmin_nb.views
from torchmin_nb import (
    GLOBAL_METHODS,
    LEAST_SQUARES_METHODS,
    METHODS,
    BasinHoppingWrapper,
    BruteWrapper,
    DifferentialEvolutionWrapper,
    DirectWrapper,
    DualAnnealingWrapper,
    History,
    LeastSquaresWrapper,
    MinimizeWrapper,
    SHGOWrapper,
    method,
    minimize,
)
from torchmin_nb.analysis import cost_table, hessian_plane, landscape_data, order_data, plane, profiles, step_data
from torchmin_nb.core.methods.least_squares import LeastSquaresMethod
from torchmin_nb.core.methods.local import MethodName
from torchmin_nb.core.methods.user import NEEDS, Need
from torchmin_nb.core.optimizers.common import COMMON, Common
from torchmin_nb.core.signatures import shows_keywords
from torchmin_nb.errors import ArgumentError, ArgumentTypeError
from torchmin_nb.explore import Race, build, race
from torchmin_nb.explore import run as run_call
from torchmin_nb.views import (
    Dashboard,
    animated_html,
    convergence_figure,
    landscape_figure,
    landscape_picture,
    order_figure,
    order_picture,
    step_figure,
    step_picture,
)
from torchmin_nb.views.panels import PANELS, X_AXES, PanelName, XAxis

PACKAGES = (
    torchmin_nb,
    torchmin_nb.analysis,
    torchmin_nb.explore,
    torchmin_nb.problems,
    torchmin_nb.views,
)
OPEN = {
    "record": "names of the user's own",
    "ProblemSpec.make": "the settings of each problem",
    "Picture": "matplotlib's Figure",
    "Result": "SciPy's OptimizeResult, a dict",
}
"""What may take any keyword: there the names are not ours."""

WRAPPERS = [
    MinimizeWrapper,
    LeastSquaresWrapper,
    BasinHoppingWrapper,
    BruteWrapper,
    DifferentialEvolutionWrapper,
    DirectWrapper,
    DualAnnealingWrapper,
    SHGOWrapper,
]
DEFAULTS = {
    "callbacks": (),
    "max_seconds": None,
    "max_evaluations": None,
    "target_loss": None,
    "keep_parameters": False,
    "keep_evaluations": False,
    "memory_budget": None,
    "blas_threads": "auto",
    "start_check": True,
    "nonfinite_errors": (torch.linalg.LinAlgError,),
}


def public_callables():
    """Every function, class and method that a user can call by a public name."""
    for package in PACKAGES:
        for name in package.__all__:
            value = getattr(package, name)
            if callable(value) and not of_a_form_of_its_own(value):
                yield name, value
            if inspect.isclass(value):
                yield from methods_of(name, value)


def of_a_form_of_its_own(value):
    """Whether Python makes the signature: protocols are never called, and an enum is called with a value."""
    return getattr(value, "_is_protocol", False) or (inspect.isclass(value) and issubclass(value, Enum))


def methods_of(name, kind):
    for each, value in inspect.getmembers(kind, callable):
        ours = getattr(inspect.unwrap(value), "__module__", None) or ""
        if not each.startswith("_") and ours.startswith("torchmin_nb"):
            yield f"{name}.{each}", value


CALLABLES = dict(public_callables())
KEYWORDS = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


def keywords(function):
    found = inspect.signature(function).parameters.values()
    return {each.name: each for each in found if each.kind is each.KEYWORD_ONLY}


def words(annotation):
    """The choices of the Literals in an annotation."""
    if get_origin(annotation) is Literal:
        return set(get_args(annotation))
    return set().union(*(words(part) for part in get_args(annotation)), set())


@pytest.mark.parametrize("name", CALLABLES)
def test_no_keyword_is_hidden(name):
    if name.split(".")[-1] == "record" or name in OPEN:
        pytest.skip(OPEN.get(name, OPEN["record"]))
    try:
        signature = inspect.signature(CALLABLES[name])
    except ValueError:  # an exception class, or NumPy's
        return
    hidden = [each.name for each in signature.parameters.values() if each.kind in KEYWORDS]
    assert not hidden, f"{name}{signature}"


def test_the_walk_finds_what_there_is():
    expected = {"minimize", "MinimizeWrapper", "MinimizeWrapper.start", "Dashboard", "MethodExplorer", "race", "Race"}
    assert expected | {"History.to_html", "animated_html", "subject_of", "build"} <= set(CALLABLES)
    assert len(CALLABLES) > 150


@pytest.mark.parametrize("name", [n for n in CALLABLES if "." not in n and n not in OPEN])
def test_every_parameter_says_its_type(name):
    value = CALLABLES[name]
    if not (getattr(value, "__module__", "") or "").startswith("torchmin_nb"):
        return
    for each in inspect.signature(value).parameters.values():
        assert each.annotation is not each.empty, f"{each.name} of {name}"


@pytest.mark.parametrize("function", [*WRAPPERS, minimize, run_call, race, Race, build], ids=lambda f: f.__name__)
def test_the_common_keywords_are_shown_with_types_and_defaults(function):
    found, hints = keywords(function), get_type_hints(Common)
    assert {name: found[name].default for name in DEFAULTS} == DEFAULTS
    assert {name: found[name].annotation for name in DEFAULTS} == hints
    assert [each.name for each in COMMON] == list(DEFAULTS) == list(hints)
    assert words(found["blas_threads"].annotation) == {"auto"}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_help_and_the_docstring_have_every_keyword(wrapper):
    shown = pydoc.plain(pydoc.render_doc(wrapper))
    for name in keywords(wrapper):
        assert f"{name}:" in shown, name
        assert f"\n{name} : " in inspect.getdoc(wrapper), name


@pytest.mark.parametrize("function", [*WRAPPERS, minimize, Dashboard], ids=lambda f: f.__name__)
def test_shift_tab_in_ipython_has_every_keyword(function):
    inspector = pytest.importorskip("IPython.core.oinspect").Inspector
    plain = {"theme_name": "nocolor"} if "theme_name" in inspect.signature(inspector).parameters else {}
    info = inspector(**plain).info(function, oname=function.__name__)
    shown = info["init_definition"] or info["definition"]
    for name, each in keywords(function).items():
        assert f"{name}:" in shown
        assert f"= {each.default!r}" in shown
    assert "**" not in shown


@pytest.mark.parametrize("wrapper", [*WRAPPERS, minimize], ids=lambda f: f.__name__)
def test_what_is_shown_is_what_is_taken(wrapper):
    start = torch.zeros(2, dtype=torch.float64)

    def made(**given):
        if wrapper is minimize:
            return minimize(lambda x: (x**2).sum(), start, **given)
        group = {"params": [torch.nn.Parameter(start.clone())], "bounds": (-1.0, 1.0)}
        return wrapper([group], **given)

    for name, each in keywords(wrapper).items():
        if wrapper is not minimize:
            made(**{name: each.default})
    with pytest.raises(ArgumentTypeError, match=r"no keyword 'nonsense'; it has .*callbacks") as caught:
        made(nonsense=1)
    for name in keywords(wrapper):
        assert name in str(caught.value)
    assert wrapper.__name__ in str(caught.value)


def test_a_subclass_shows_its_own_keywords():
    class Named(MinimizeWrapper):
        def __init__(self, params, *, label):
            super().__init__(params, "CG", max_evaluations=5)
            self.label = label

    assert list(inspect.signature(Named).parameters) == ["params", "label"]
    assert Named([torch.nn.Parameter(torch.zeros(1))], label="mine").name == "CG"


PASSED_ON = [
    (landscape_figure, landscape_data),
    (landscape_picture, landscape_data),
    (animated_html, landscape_data),
    (History.to_html, landscape_data),
    (step_figure, step_data),
    (step_picture, step_data),
    (order_figure, order_data),
    (order_picture, order_data),
]


@pytest.mark.parametrize(("function", "source"), PASSED_ON, ids=lambda f: f.__qualname__)
def test_what_is_passed_on_is_shown_as_where_it_goes(function, source):
    shown, wanted = keywords(function), keywords(source)
    assert {name: shown[name].default for name in wanted} == {name: each.default for name, each in wanted.items()}


def test_a_name_of_its_own_comes_first_and_is_not_doubled():
    def inner(*, a: int = 1, b: "Literal['x']" = "x"):
        pass

    @shows_keywords(inner)
    def outer(x: int, *, a: float = 2.0, **rest):
        pass

    assert str(inspect.signature(outer)) == "(x: int, *, a: float = 2.0, b: Literal['x'] = 'x')"


# A choice stands once


@pytest.mark.parametrize(
    ("literal", "table"),
    [
        (MethodName, METHODS),
        (LeastSquaresMethod, LEAST_SQUARES_METHODS),
        (Need, NEEDS),
        (XAxis, X_AXES),
        (PanelName, PANELS),
        (plane.Which, plane._WHICH),
        (profiles.Measure, profiles._MEASURES),
    ],
    ids=lambda value: None,
)
def test_the_choices_are_the_rows_of_their_table(literal, table):
    assert get_args(literal) == tuple(table)


CHOICES = [
    (MinimizeWrapper, "curvature", {"autograd", "finite-difference"}),
    (MinimizeWrapper, "minimizer_args", set(METHODS)),
    (MinimizeWrapper, "loss_scale", {"auto"}),
    (minimize, "method", set(METHODS)),
    (minimize, "curvature", {"autograd", "finite-difference"}),
    (minimize, "jac", {"2-point", "3-point"}),
    (minimize, "hess", {"2-point", "3-point"}),
    (LeastSquaresWrapper, "jacobian", {"auto", "dense", "operator"}),
    (LeastSquaresWrapper, "least_squares_args", set(LEAST_SQUARES_METHODS)),
    (Dashboard, "x", set(X_AXES)),
    (Dashboard, "scale", {"log", "linear", "loss - best"}),
    (Dashboard, "panels", {"auto", *PANELS}),
    (convergence_figure, "scale", {"log", "linear"}),
    (convergence_figure, "x", set(X_AXES)),
    (hessian_plane, "which", {"largest", "both ends"}),
    (cost_table, "measure", {"closure calls", "iterations", "seconds"}),
    (method, "needs", set(NEEDS)),
]


@pytest.mark.parametrize(("function", "name", "choices"), CHOICES)
def test_choices_are_shown_as_words(function, name, choices):
    assert words(inspect.signature(function).parameters[name].annotation) == choices


REFUSED = [
    (lambda word: MinimizeWrapper([parameter()], curvature=word), MinimizeWrapper, "curvature"),
    (lambda word: LeastSquaresWrapper([parameter()], jacobian=word), LeastSquaresWrapper, "jacobian"),
    (lambda word: Dashboard(x=word), Dashboard, "x"),
    (lambda word: Dashboard(scale=word), Dashboard, "scale"),
    (lambda word: Dashboard(panels=word), Dashboard, "panels"),
    (lambda word: convergence_figure(History("BFGS"), scale=word), convergence_figure, "scale"),
    (lambda word: hessian_plane(lambda: None, [], which=word), hessian_plane, "which"),
    (lambda word: cost_table({}, measure=word), cost_table, "measure"),
    (lambda word: method("mine", needs=word), method, "needs"),
]


def parameter():
    return torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))


@pytest.mark.parametrize(("make", "function", "name"), REFUSED)
def test_an_unknown_word_is_refused_by_the_words_that_are_shown(make, function, name):
    with pytest.raises(ArgumentError) as caught:
        make("nonsense")
    for word in words(inspect.signature(function).parameters[name].annotation):
        assert word in str(caught.value)


@pytest.mark.parametrize("wrapper", WRAPPERS[2:])
def test_all_global_wrappers_take_search_args(wrapper):
    assert "search_args" in inspect.signature(wrapper).parameters
    older = GLOBAL_METHODS[wrapper.spec.name].older
    assert older not in inspect.signature(wrapper).parameters
    assert older.endswith("_kwargs")

"""The explorer without widgets: rows, fits, suggestions, calls, scripts, races and reports."""

from .._public import called_as_its_function, publish
from ..core.methods.user import method, unregister
from .call import Call, Form, Reading, read_form
from .catalogue import Entry, catalogue, entry, groups
from .fit import Fit, fit
from .plan import build, plan
from .race import Race, race, run
from .ranking import Compared
from .report import report_html
from .script import script
from .subject import Subject, of_function, of_model, subject_of
from .suggest import Advice, Suggestion, suggest
from .table import COLUMNS, RunRow, RunTable, row_of
from .traits import Traits, measured, traits

__all__ = [
    "COLUMNS",
    "Advice",
    "Call",
    "Compared",
    "Entry",
    "Fit",
    "Form",
    "Race",
    "Reading",
    "RunRow",
    "RunTable",
    "Subject",
    "Suggestion",
    "Traits",
    "build",
    "catalogue",
    "entry",
    "fit",
    "groups",
    "measured",
    "method",
    "of_function",
    "of_model",
    "plan",
    "race",
    "read_form",
    "report_html",
    "row_of",
    "run",
    "script",
    "subject_of",
    "suggest",
    "traits",
    "unregister",
]

_NAMED_AS_THEIR_FUNCTION = ("catalogue", "fit", "plan", "race", "script", "suggest", "traits")


def __dir__() -> list[str]:
    return sorted(__all__)


globals().update({name: called_as_its_function(f"{__name__}.{name}") for name in _NAMED_AS_THEIR_FUNCTION})
publish(__name__)

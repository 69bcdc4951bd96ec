"""Why did it stop? `diagnose` examines a run with a table of rules; `Report.rescue` tries the remedies."""

from .._public import publish
from .diagnosing import diagnose
from .finding import Evidence, Finding
from .remedy import Change, Remedy
from .report import Report
from .rescue import Trial

__all__ = ["Change", "Evidence", "Finding", "Remedy", "Report", "Trial", "diagnose"]


def __dir__() -> list[str]:
    return sorted(__all__)


publish(__name__)

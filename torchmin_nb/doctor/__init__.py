"""Why did it stop? `diagnose` examines a run with a table of rules; `Report.rescue` tries the remedies."""

from .._public import publish
from .diagnose import diagnose
from .finding import Evidence, Finding
from .remedy import Change, Remedy
from .report import Report

__all__ = ["Change", "Evidence", "Finding", "Remedy", "Report", "diagnose"]

publish(__name__)

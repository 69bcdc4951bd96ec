"""The methods as tables: one row a method, with its options."""

from .local import MethodSpec, _row
from .options import OptionSpec

__all__ = ["MethodSpec", "OptionSpec", "_row"]  # pickles of earlier versions ask for them here

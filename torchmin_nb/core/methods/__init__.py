"""The tables of methods: one row for each method, with its options."""

from .local import MethodSpec, _row
from .options import OptionSpec

__all__ = ["MethodSpec", "OptionSpec", "_row"]  # pickles of earlier versions look for these names here

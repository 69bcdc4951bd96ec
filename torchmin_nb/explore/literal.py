"""Values as Python literals, and text from outside as a safe part of code."""

from __future__ import annotations

import math
from collections.abc import Mapping
from keyword import iskeyword
from typing import Any

import numpy as np
import torch

__all__ = ["comment", "is_name", "literal", "quoted"]


def literal(value: Any) -> str:
    """Code for a value; arrays and tensors become lists, and values without a literal their `repr`."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, np.ndarray | np.generic | torch.Tensor):
        return literal(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if isinstance(value, Mapping):
        return _of_mapping(value)
    if type(value) in (list, tuple):
        items = ", ".join(map(literal, value))
        return f"[{items}]" if isinstance(value, list) else f"({items}{',' * (len(value) == 1)})"
    return repr(value)


def quoted(text: str) -> str:
    """A string literal: `repr`, with double quotes if they need no escape."""
    code = repr(text)
    return f'"{code[1:-1]}"' if code[0] == "'" and '"' not in text and "'" not in text else code


def comment(text: str) -> str:
    """Text for the rest of a comment line: unchanged, or quoted if it would end the line."""
    return text if text.isprintable() else repr(text)


def is_name(text: object) -> bool:
    """Whether it can be the name of a keyword argument or variable."""
    return isinstance(text, str) and text.isidentifier() and not iskeyword(text)


def _of_mapping(value: Mapping[Any, Any]) -> str:
    if all(map(is_name, value)):
        return "dict(" + ", ".join(f"{key}={literal(item)}" for key, item in value.items()) + ")"
    return "{" + ", ".join(f"{literal(key)}: {literal(item)}" for key, item in value.items()) + "}"

"""Restores what a closure call changes besides its result: buffers, random numbers, parameters."""

from __future__ import annotations

import random
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

if TYPE_CHECKING:
    from ..parameters.flat import FlatParameters

__all__ = ["Generators", "autograd_enabled", "preserved_buffers", "restored_afterwards", "same_random_numbers"]


@contextmanager
def preserved_buffers() -> Iterator[None]:
    """Restore the buffers, such as BatchNorm statistics, of every module that runs inside, in this thread."""
    saved: dict[torch.Tensor, torch.Tensor] = {}
    thread = threading.get_ident()

    def remember(module: torch.nn.Module, inputs: object) -> None:
        if threading.get_ident() != thread:  # the hook is process-wide
            return
        for buffer in module.buffers(recurse=False):
            if buffer not in saved:
                saved[buffer] = buffer.detach().clone()

    hook = torch.nn.modules.module.register_module_forward_pre_hook(remember)
    try:
        with _without_compile_warnings():
            yield
    finally:
        hook.remove()
        for buffer, value in saved.items():
            buffer.data.copy_(value)


@contextmanager
def _without_compile_warnings() -> Iterator[None]:
    """Without torch.compile's warning that hooks run twice: this hook may run twice."""
    if "torch._dynamo" not in sys.modules:
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Using `torch.compile", category=UserWarning)
        yield


def autograd_enabled() -> AbstractContextManager[Any]:
    """Enable autograd inside, also under `torch.inference_mode()`."""
    return torch.inference_mode(False) if torch.is_inference_mode_enabled() else nullcontext()


@contextmanager
def same_random_numbers() -> Iterator[Callable[[], None]]:
    """Yields a function that restores the states of the random generators; restores them at the end too."""
    state = Generators.now()
    try:
        yield state.put_back
    finally:
        state.put_back()


class Generators(NamedTuple):
    """The states of the default random generators: torch's on the CPU and on GPUs, NumPy's, Python's."""

    torch: torch.Tensor
    cuda: list[torch.Tensor]
    numpy: Any
    python: Any

    @classmethod
    def now(cls) -> Generators:
        """The current states. CUDA is not initialised for this."""
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
        return cls(torch.get_rng_state(), cuda, np.random.get_state(), random.getstate())

    def put_back(self) -> None:
        """Restore the states."""
        torch.set_rng_state(self.torch)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)
        np.random.set_state(self.numpy)
        random.setstate(self.python)

    def same(self, other: Generators) -> bool:
        """Whether no random number was drawn between the two."""
        numpy = np.array_equal(self.numpy[1], other.numpy[1]) and self.numpy[2:] == other.numpy[2:]
        torches = len(self.cuda) == len(other.cuda) and all(
            torch.equal(a, b) for a, b in zip([self.torch, *self.cuda], [other.torch, *other.cuda], strict=True)
        )
        return numpy and torches and self.python == other.python


@contextmanager
def restored_afterwards(flat: FlatParameters) -> Iterator[Callable[[], None]]:
    """Restores parameters, `.grad`, buffers and random numbers; yields the function that restores the generators."""
    x, gradients = flat.read(), flat.gradients()
    with preserved_buffers(), same_random_numbers() as rewind:
        try:
            yield rewind
        finally:
            flat.write_final(x)
            for tensor, gradient in zip(flat.tensors, gradients, strict=True):
                tensor.grad = gradient

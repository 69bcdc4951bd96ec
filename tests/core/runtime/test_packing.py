"""Packing for another process: what is shared stays shared, and what cannot be packed is named."""

import functools
import threading

import pytest
import torch

from torchmin_nb.core.runtime.packing import Packer, unpack
from torchmin_nb.errors import WorkerError

LOCK = threading.Lock()


class Holder:
    def __init__(self):
        self.kept = {"first": [0, LOCK]}

    def loss(self):
        return 0.0


def through_variable():
    held = Holder()
    return lambda: held.loss()


UNPACKABLE = {
    "variable": (through_variable(), "the closure → held.kept['first'][1], of type lock"),
    "global": (lambda: LOCK, "the closure → LOCK, of type lock"),
    "method": (Holder().loss, "the closure → its object.kept['first'][1], of type lock"),
    "partial": (functools.partial(print, end=LOCK), "the closure → argument end, of type lock"),
    "default": (lambda lock=LOCK: lock, "the closure → default <unlocked _thread.lock object"),
    "itself": (LOCK, "the closure, of type lock"),
}


@pytest.mark.parametrize("case", UNPACKABLE)
def test_what_cannot_be_packed_is_named(case):
    value, place = UNPACKABLE[case]
    with pytest.raises(WorkerError, match="workers=1") as caught:
        Packer().add("the closure", value)
    assert str(caught.value).startswith("the closure cannot be sent to another process")
    assert place in str(caught.value)
    assert "cannot pickle" in str(caught.value)


def test_what_parts_share_is_shared_after_unpacking():
    x = torch.nn.Parameter(torch.ones(2))
    packer = Packer([x])
    packer.add("a number", 3)
    assert not packer.met
    packer.add("the closure", lambda: x.sum())
    assert packer.met
    packer.add("the parameters", [x])
    number, closure, (copy,) = unpack(packer.data)
    copy.data.fill_(5.0)
    assert (number, closure().item()) == (3, 10.0)
    assert x.sum() == 2


def test_what_cannot_be_unpacked_is_an_error_of_the_family():
    packer = Packer()
    packer.add("a module's function", torch.relu)
    with pytest.raises(WorkerError, match="same packages and modules"):
        unpack(packer.data.replace(b"relu", b"rule"))

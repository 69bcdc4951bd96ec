"""Several processes, one run: rank 0 leads, the others evaluate their batches when it orders it.

Only rank 0 decides. Decisions that every process takes for itself hang as soon as two of them differ in the last bit.
"""

from __future__ import annotations

import pickle
import re
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.distributed as dist

from ...errors import ArgumentTypeError, DistributedError, text_of
from ..autodiff.closure import Steering
from ..runtime.workers import after_workers

if TYPE_CHECKING:
    from ..parameters.flat import FlatParameters

__all__ = ["Attentive", "Order", "OrderKind", "Ranks", "position"]

_BEAT = 1.0
"""Seconds after which rank 0 tells the others that it is alive: no wait is longer than the timeout of the group."""
_PLACE = re.compile(r"^\[[^\]]*\] *")
"""The place in gloo's source, with which its messages begin."""
_LENGTHS = "the ranks computed vectors of different lengths; build the model alike on each"
_LOOK = 0.1
"""Seconds between two looks, before a batch, whether another rank has failed."""


class OrderKind(IntEnum):
    """What rank 0 orders."""

    NOTHING = 0
    EVALUATE = 1
    PRODUCT = 2
    HESSIAN = 3
    END = 4
    TELL = 5
    COUNT = 6
    RESIDUALS = 7
    JACOBIAN_PRODUCT = 8
    ADJOINT = 9
    FACTOR = 10


class Order(NamedTuple):
    """An order: at x, shape (n,); with a vector v, for a product; level: a number, for an evaluation.

    length: of the share that each rank computes; -1 where rank 0 does not know it.
    """

    kind: OrderKind
    x: torch.Tensor | None = None
    v: torch.Tensor | None = None
    level: int = 0
    length: int = -1


class _Elsewhere(BaseException):
    """Another rank has failed: what this rank computes is not needed."""


class Ranks:
    """The processes of a group. Constructed by all of them at the same time.

    Numbers travel over the group itself; orders and errors over a second group, on the CPU.
    """

    def __init__(self, group: Any):
        if not (dist.is_available() and dist.is_initialized()):
            raise DistributedError(
                "group= needs torch.distributed: start the script by torchrun, and call init_process_group() first"
            )
        if group is not None and not isinstance(group, dist.ProcessGroup):
            raise ArgumentTypeError(f"group must be a process group of torch.distributed, got {type(group).__name__}")
        self.group = group
        members = dist.get_process_group_ranks(group)
        self.rank, self.size, self._leader = dist.get_rank(group), len(members), members[0]
        self._orders = dist.new_group(members, backend="gloo", use_local_synchronization=True)
        _open.add(self)
        self._store = dist.PrefixStore(  # type: ignore[attr-defined]
            f"torchmin_nb/{_named()}", dist.distributed_c10d._get_default_store()
        )
        self._lock = threading.RLock()
        self._exchanges = 0
        self._last_order = time.monotonic()
        self.own_error: BaseException | None = None
        """What this rank raised last in an exchange."""
        self.interrupted = False
        """Whether an interrupt has come that was not raised yet."""

    @property
    def device(self) -> torch.device:
        """Where tensors must be for the group to send them."""
        nccl = dist.get_backend(self.group) == "nccl"
        return torch.device("cuda", torch.cuda.current_device()) if nccl else torch.device("cpu")

    def require_same(self, facts: Mapping[str, Any]) -> None:
        """Raise DistributedError on every rank if the facts differ between two of them."""
        everyone = self._gathered(dict(facts))
        for name, first in everyone[0].items():
            others = [rank for rank, theirs in enumerate(everyone) if theirs.get(name) != first]
            if others:
                named = ", ".join(map(str, others))
                raise DistributedError(
                    f"{name} of rank {named} differ from rank 0: {everyone[others[0]].get(name)}, not {first}; "
                    f"build the model and the optimizer alike on every rank, from the same seed or the same file"
                )

    def close(self) -> None:
        """End the threads of the group for orders, at exit.

        They may hold a tensor for a moment after it has arrived. One that lets go of it while the interpreter ends
        aborts the process: https://github.com/pytorch/pytorch/issues/190489.
        """
        with suppress(Exception):  # torch.distributed may have been shut down, and ranks may be lost
            dist.destroy_process_group(self._orders)
        del self._orders

    # Rank 0

    @contextmanager
    def leading(self) -> Iterator[None]:
        """Tell the other ranks regularly that rank 0 is alive, also while it computes alone or is paused."""
        over = threading.Event()
        beat = threading.Thread(target=self._beat, args=[over], name="torchmin_nb-beat", daemon=True)
        beat.start()
        try:
            with self._deferring_interrupts():
                yield
        finally:
            over.set()
            beat.join()
        self.raise_interrupt()

    def lead(self, order: Order, compute: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Order, compute this rank's share, and return the sum over all ranks, in float64.

        Raises what a rank raised, with a note that names the rank.
        """
        with self._lock:
            self._send(order)
            return self._together(order, compute)

    def finish(self, package: Mapping[str, Any]) -> None:
        """End the run on the other ranks. Nothing is raised if some of them are lost: the run has its error already."""
        with self._lock, suppress(DistributedError):
            self._send(Order(OrderKind.END))
            self.broadcast(dict(package))

    # The other ranks

    def follow(self, compute: Callable[[Order], torch.Tensor], arrived: Callable[[Order, torch.Tensor], None]) -> Any:
        """Obey until the end of the run; returns what rank 0 sends then.

        compute: this rank's share of an order. arrived: called with each sum over all ranks.
        """
        self.own_error = None
        with self._deferring_interrupts():
            while (order := self._received()).kind is not OrderKind.END:
                if order.kind is not OrderKind.NOTHING:
                    with suppress(BaseException):  # rank 0 decides what an error means
                        arrived(order, self._together(order, partial(compute, order)))
            return self.broadcast()

    # All

    def broadcast(self, value: Any = None) -> Any:
        """The value of rank 0, on every rank: a part of the share of an order."""
        held = [value]
        with _lost_ranks_named():
            dist.broadcast_object_list(held, src=self._leader, group=self._orders)
        return held[0]

    def raise_interrupt(self) -> None:
        """Raise the interrupt that has come, once."""
        if self.interrupted:
            self.interrupted = False
            raise KeyboardInterrupt

    def someone_failed(self) -> bool:
        """Whether another rank has failed in the present exchange."""
        return bool(self._store.check([f"failed-{self._exchanges}"]))

    def _together(self, order: Order, compute: Callable[[], torch.Tensor]) -> torch.Tensor:
        error: BaseException | None = None
        share = torch.zeros(0, dtype=torch.float64)
        try:
            share = compute().to(self.device, torch.float64)
            if order.length not in (-1, share.numel()):
                raise DistributedError(_LENGTHS)
        except BaseException as raised:
            error = raised
            if not isinstance(raised, _Elsewhere):
                self.own_error = raised
                with suppress(Exception):  # a lost rank is found below
                    self._store.set(f"failed-{self._exchanges}", "1")
        self._exchanges += 1
        if order.length < 0 or self.device.type != "cpu":
            self._agree(share.numel(), error)
            return self._summed(share)
        # With the share: a message takes as long as some milliseconds of work where all cores are busy.
        failed = torch.tensor([float(error is not None)], dtype=torch.float64)
        whole = self._summed(torch.cat([share if error is None else share.new_zeros(order.length), failed]))
        if whole[-1]:
            raise self._first_error(error)
        return whole[:-1]

    def _agree(self, length: int, error: BaseException | None) -> None:
        """Raise on every rank if one has failed, before a sum that it could not join."""
        state = torch.tensor([float(error is not None), length, -length], dtype=torch.float64)
        with _lost_ranks_named():
            dist.all_reduce(state, dist.ReduceOp.MAX, group=self._orders)
        if state[0]:
            raise self._first_error(error)
        if state[1] != -state[2]:
            raise DistributedError(_LENGTHS)

    def _summed(self, share: torch.Tensor) -> torch.Tensor:
        with _lost_ranks_named():
            dist.all_reduce(share, group=self.group)
        return share

    def _first_error(self, own: BaseException | None) -> BaseException:
        """The error that ends the exchange: this rank's own, else that of the lowest rank that has one."""
        told = None if own is None or isinstance(own, _Elsewhere) else _packed(own)
        everyone = self._gathered(told)
        if own is not None and told is not None:
            if isinstance(own, Exception):
                own.add_note(f"raised on rank {self.rank}")
            return own
        rank, packed = next((rank, each) for rank, each in enumerate(everyone) if each is not None)
        return _unpacked(packed, rank)

    def _gathered(self, value: Any) -> list[Any]:
        everyone: list[Any] = [None] * self.size
        with _lost_ranks_named():
            dist.all_gather_object(everyone, value, group=self._orders)
        return everyone

    def _send(self, order: Order) -> None:
        lengths = [-1 if vector is None else vector.numel() for vector in (order.x, order.v)]
        header = torch.tensor([order.kind, order.level, order.length, *lengths])
        with _lost_ranks_named():
            dist.broadcast(header, src=self._leader, group=self._orders)
            for vector in (order.x, order.v):
                if vector is not None:
                    dist.broadcast(vector.to(self.device, torch.float64), src=self._leader, group=self.group)
        self._last_order = time.monotonic()

    def _received(self) -> Order:
        header = torch.zeros(5, dtype=torch.int64)
        with _lost_ranks_named():
            dist.broadcast(header, src=self._leader, group=self._orders)
            kind, level, length, *lengths = header.tolist()
            vectors: list[torch.Tensor | None] = []
            for entries in lengths:
                vector = None if entries < 0 else torch.empty(entries, dtype=torch.float64, device=self.device)
                if vector is not None:
                    dist.broadcast(vector, src=self._leader, group=self.group)
                vectors.append(vector)
        x, v = vectors
        return Order(OrderKind(kind), x, v, level, length)

    def _beat(self, over: threading.Event) -> None:
        with suppress(Exception):
            while not over.wait(_BEAT / 4):
                if not self._lock.acquire(blocking=False):
                    continue  # an exchange is under way
                try:
                    if time.monotonic() - self._last_order > _BEAT and not over.is_set():
                        self._send(Order(OrderKind.NOTHING))
                finally:
                    self._lock.release()

    @contextmanager
    def _deferring_interrupts(self) -> Iterator[None]:
        """Note an interrupt, so that it acts between batches and not in the middle of an exchange."""
        self.interrupted = False
        if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) in (
            signal.SIG_IGN,
            None,
        ):
            yield
            return

        def note(*_: object) -> None:
            self.interrupted = True

        before = signal.signal(signal.SIGINT, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


class Attentive:
    """The Steering of a share: it ends when the run must end, and when another rank has failed. It does not pause."""

    def __init__(self, ranks: Ranks, control: Steering | None):
        self._ranks, self._control = ranks, control
        self._looked = 0.0

    @property
    def batch(self) -> tuple[int, int] | None:
        """See Steering."""
        return None if self._control is None else self._control.batch

    @batch.setter
    def batch(self, batch: tuple[int, int] | None) -> None:
        if self._control is not None:
            self._control.batch = batch

    def before_work(self) -> None:
        """See Steering."""
        self._ranks.raise_interrupt()
        if self._control is not None:
            self._control.require_running()
        now = time.monotonic()
        if now - self._looked > _LOOK:
            self._looked = now
            if self._ranks.someone_failed():
                raise _Elsewhere

    require_running = before_work


def position(flat: FlatParameters, ranks: Ranks) -> torch.Tensor:
    """The parameters' values, to be sent."""
    return flat.join([tensor.detach() for tensor in flat.tensors], torch.float64, ranks.device)


_open: weakref.WeakSet[Ranks] = weakref.WeakSet()


def _close_all() -> None:
    for ranks in list(_open):
        ranks.close()


after_workers(_close_all)

_counter = 0


def _named() -> int:
    """A number for each Ranks of this process: the same on every rank, as all make them in the same order."""
    global _counter
    _counter += 1
    return _counter


def _packed(error: BaseException) -> bytes:
    """An exception to send, or its text if it cannot be pickled."""
    text = f"{type(error).__name__}: {text_of(error)}" + "".join(
        f" ({note})" for note in getattr(error, "__notes__", ())
    )
    try:
        whole = pickle.dumps((error, text))
        pickle.loads(whole)
    except Exception:
        return pickle.dumps((None, text))
    return whole


def _unpacked(packed: bytes, rank: int) -> BaseException:
    error, text = pickle.loads(packed)
    if error is None or not isinstance(error, Exception):
        return DistributedError(f"rank {rank} ended the run: {text}")
    error.add_note(f"raised on rank {rank}")
    return error


@contextmanager
def _lost_ranks_named() -> Iterator[None]:
    """Translate torch's errors about lost connections. Only around what is sent: the user's errors pass unchanged."""
    try:
        yield
    except (dist.DistError, RuntimeError) as error:
        if isinstance(error, DistributedError) or not _is_of_connections(error):
            raise
        reason = _PLACE.sub("", text_of(error).splitlines()[0]).partition(". ")[0]
        raise DistributedError(f"another rank is lost: {reason}") from error


def _is_of_connections(error: BaseException) -> bool:
    text = text_of(error)
    return isinstance(error, dist.DistError) or any(
        word in text for word in ("Connection", "connection", "peer", "Timed out", "timed out", "gloo", "Socket")
    )

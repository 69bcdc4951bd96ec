"""What a rank does in `test_ranks.py`, or by hand: `python -m tests.core.batches.rank_scripts NAME [ARGUMENT ...]`.

A script prints lines of JSON. The environment is that of torchrun.
"""

import json
import os
import signal
import sys
import threading
import time
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from torchmin_nb import LeastSquaresWrapper, MinimizeWrapper, full_batch, laplace, shard, spectrum
from torchmin_nb.errors import DistributedError

INPUTS = torch.randn(103, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
LABELS = torch.randint(3, (103,), generator=torch.Generator().manual_seed(1))


FORMS = ("dense", "diagonal", "low-rank")


def tell(**facts):
    print(json.dumps({"rank": dist.get_rank(), **facts}), flush=True)


class Classifier:
    """A model and its loss, over the shards of all ranks; before: called with the rank and the number of each batch."""

    def __init__(self, before=lambda rank, batch: None, *, size=10, seed=2):
        torch.manual_seed(seed)
        self.model = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3)).double()
        self.parameters = list(self.model.parameters())
        self.before, self.calls = before, 0
        data = DataLoader(shard(TensorDataset(INPUTS, LABELS)), batch_size=size, shuffle=True)
        self.closure = full_batch(self.loss, data, extra=self.penalty, group=dist.group.WORLD)

    def loss(self, batch):
        self.calls += 1
        self.before(dist.get_rank(), self.calls)
        return cross_entropy(self.model(batch[0]), batch[1])

    def penalty(self):
        return 1e-2 * sum((p**2).sum() for p in self.parameters)


def parity(engine, *methods):
    """The first losses of each method, and what every rank has at the end."""
    for method in methods:
        made = Classifier()
        limit = {"maxfun": 12} if method == "TNC" else {"maxiter": 6}
        optimizer = MinimizeWrapper(made.parameters, dict(method=method, options=limit), engine=engine)
        loss = optimizer.step(made.closure)
        tell(
            method=method,
            losses=optimizer.history.loss.tolist(),
            end=[float(p.detach().sum()) for p in made.parameters],
            gradient=[float(p.grad.sum()) for p in made.parameters],
            loss=loss.item(),
            message=optimizer.result.message,
            nfev=optimizer.result.nfev,
        )


def points():
    """Of the unit square, for a network that solves −Δu = f."""
    return torch.rand(60, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


class Pinn:
    """A network u(x, y) with the loss mean (Δu + 2π² sin πx sin πy)², and the boundary as the extra term."""

    def __init__(self):
        torch.manual_seed(5)
        self.model = torch.nn.Sequential(torch.nn.Linear(2, 6), torch.nn.Tanh(), torch.nn.Linear(6, 1)).double()
        self.parameters = list(self.model.parameters())
        side = torch.linspace(0, 1, 9, dtype=torch.float64)
        self.edge = torch.cat([torch.stack([side, side * 0 + end], 1) for end in (0, 1)])

    def loss(self, batch):
        x = batch.clone().requires_grad_()
        (slope,) = torch.autograd.grad(self.model(x).sum(), x, create_graph=True)
        curvature = sum(torch.autograd.grad(slope[:, i].sum(), x, create_graph=True)[0][:, i] for i in (0, 1))
        return (curvature + 2 * torch.pi**2 * torch.sin(torch.pi * batch).prod(1)).square().mean()

    def boundary(self):
        return 4 * self.model(self.edge).square().mean()


def pinn(engine, *methods):
    """The first losses of each method on a PINN."""
    for method in methods:
        made = Pinn()
        batches = DataLoader(shard(points()), batch_size=8)
        closure = full_batch(made.loss, batches, extra=made.boundary, group=dist.group.WORLD)
        optimizer = MinimizeWrapper(made.parameters, dict(method=method, options=dict(maxiter=6)), engine=engine)
        optimizer.step(closure)
        tell(method=method, losses=optimizer.history.loss.tolist())


def reports():
    """check, covariance, a run that is started, callbacks; DistributedDataParallel, around the model and by itself."""
    made, seen = Classifier(), []
    wrapped = torch.nn.parallel.DistributedDataParallel(made.model)
    made.model = wrapped.module
    method = dict(method="trust-exact", options=dict(gtol=1e-9))
    optimizer = MinimizeWrapper(made.parameters, method, callbacks=[lambda iteration: seen.append(iteration.index)])
    report = optimizer.check(made.closure)
    run = optimizer.start(made.closure)
    result = run.wait()
    matrix = optimizer.covariance(made.closure).matrix
    made, refused = Classifier(), ""
    made.model = wrapped
    try:
        MinimizeWrapper(wrapped.parameters(), "BFGS").step(made.closure)
    except DistributedError as error:
        refused = str(error)
    tell(
        ok=report.ok,
        seen=len(seen),
        iterations=len(optimizer.history),
        success=bool(result.success),
        refused=refused,
        variances=matrix.diagonal().tolist(),
    )


def curvature():
    """spectrum and the forms of laplace, at a point that is no minimum."""
    made = Classifier()
    found = spectrum(made.closure, made.parameters, k=2, density=3)
    forms = [laplace(made.closure, made.parameters, 2.0, form=form) for form in FORMS]
    decay = Decay()
    ggn = [laplace(decay.closure, decay.parameters, 2.0, curvature="ggn", form=form) for form in FORMS]
    tell(
        values=found.values.tolist(),
        nodes=found.density.nodes.tolist(),
        variances=[form.matrix.diagonal().tolist() for form in forms],
        of_residuals=[form.matrix.diagonal().tolist() for form in ggn],
        read=float(forms[0].predict(lambda: made.model(INPUTS[:1])).variance.sum()),
    )


TIMES = torch.linspace(0, 3, 41, dtype=torch.float64)
DECAYS = 2 * torch.exp(-1.3 * TIMES) + 0.5 + 0.05 * torch.sin(40 * TIMES)


class Decay:
    """y ≈ a·exp(−b t) + c, with a prior of b as the extra residual: over the shards of all ranks, or in one process."""

    def __init__(self, before=lambda call: None):
        self.parameters = [torch.nn.Parameter(torch.tensor(v, dtype=torch.float64)) for v in ([1.0, 0.5], 0.0)]
        self.before, self.calls = before, 0
        group = dist.group.WORLD if dist.is_initialized() else None
        batches = DataLoader(shard(torch.stack([TIMES, DECAYS], 1)), batch_size=6)
        self.closure = full_batch(self.residuals, batches, reduction="sum", extra=self.prior, group=group)

    def residuals(self, batch):
        self.calls += 1
        self.before(self.calls)
        (a, b), c = self.parameters
        return a * torch.exp(-b * batch[:, 0]) + c - batch[:, 1]

    def prior(self):
        return 0.1 * (self.parameters[0][1] - 1)


FITS = {
    "trf": (dict(method="trf"), {}),
    "dogbox": (dict(method="dogbox"), {}),
    "lm": (dict(method="lm"), {}),
    "robust": (dict(method="trf", loss="soft_l1", f_scale=0.1), {}),
    "by products": (dict(method="trf"), dict(jacobian="operator")),
    "lm on the device": (dict(method="lm"), dict(engine="torch")),
    "gauss-newton": (dict(method="gauss-newton"), dict(engine="torch")),
    "gauss-newton by products": (dict(method="gauss-newton", solver="cg"), dict(engine="torch")),
}


def fit(case):
    """What a fit of the decay finds."""
    made = Decay()
    arguments, more = FITS[case]
    optimizer = LeastSquaresWrapper(made.parameters, arguments, **more)
    ok = optimizer.check(made.closure).ok
    optimizer.step(made.closure)
    return dict(
        case=case,
        ok=ok,
        costs=optimizer.history.loss.tolist(),
        x=optimizer.result.x.tolist(),
        residuals=sorted(optimizer.result.residuals.tolist()),
        gradient=[float(p.grad.sum()) for p in made.parameters],
        covariance=optimizer.covariance(made.closure).matrix.reshape(-1).tolist(),
    )


def least_squares():
    """All fits of the decay."""
    for case in FITS:
        tell(**fit(case))


def residual_faults():
    """Errors of rank 1 in residuals and in a pass for the Jacobian; a point that it rejects."""

    def raising(call, error=ValueError):
        def before(number):
            if dist.get_rank() == 1 and number == call:
                raise error("broken")

        return before

    for case, before in {
        "first": raising(1),
        "Jacobian": raising(10),
        "later": raising(18),
        "rejected": raising(26, torch.linalg.LinAlgError),
    }.items():
        made, outcome, notes = Decay(before), "", []
        optimizer = LeastSquaresWrapper(made.parameters, "trf", start_check=False)
        try:
            optimizer.step(made.closure)
        except Exception as error:
            outcome, notes = f"{type(error).__name__}: {error}", getattr(error, "__notes__", [])
        tell(case=case, outcome=outcome, notes=notes, success=bool((optimizer.result or {}).get("success")))


def mirrored():
    """Callbacks on every rank: what they receive, a stop and an error of rank 1."""

    class Listener:
        def __init__(self, on_rank, act):
            self.seen, self.on_rank, self.act = [], on_rank, act

        def on_start(self, history):
            self.seen.append("start")

        def __call__(self, iteration):
            here = sum(float(p.detach().sum()) for p in made.parameters)
            self.seen.append([iteration.index, iteration.loss, here])
            if dist.get_rank() == self.on_rank and iteration.index == 3:
                return self.act()
            return None

        def on_end(self, history):
            self.seen.append(len(history))

    def interrupted():
        os.kill(os.getpid(), signal.SIGINT)

    for case, act in {
        "nothing": lambda: None,
        "stop": lambda: True,
        "error": lambda: 1 / 0,
        "interrupt": interrupted,
    }.items():
        made = Classifier()
        made.closure.callbacks = "every rank"
        listener, outcome = Listener(0 if case == "interrupt" else 1, act), ""
        # The interrupt comes after the last closure call.
        method = dict(method="BFGS", options=dict(maxiter=3 if case == "interrupt" else 5))
        optimizer = MinimizeWrapper(made.parameters, method, callbacks=[listener])
        try:
            optimizer.step(made.closure)
        except BaseException as error:
            outcome = f"{type(error).__name__}: {error} {getattr(error, '__notes__', '')}"
        tell(case=case, seen=listener.seen, outcome=outcome, status=int(optimizer.result.status))


def refusals():
    """What is refused on every rank, with the reason."""
    made = Classifier()
    plain = MinimizeWrapper(made.parameters, "BFGS")
    cases = {
        "plain closure": lambda: plain.step(lambda: made.loss((INPUTS, LABELS))),
        "called": made.closure,
        "a mean of squares": lambda: LeastSquaresWrapper(made.parameters, "trf").step(made.closure),
        "values": lambda: MinimizeWrapper(Classifier(seed=2 + dist.get_rank()).parameters, "BFGS").step(made.closure),
        "method": lambda: MinimizeWrapper(made.parameters, ["BFGS", "CG"][dist.get_rank()]).step(made.closure),
        "shapes": lambda: MinimizeWrapper(made.parameters[dist.get_rank() :], "BFGS").step(made.closure),
    }
    for name, call in cases.items():
        try:
            call()
        except Exception as error:
            tell(case=name, error=type(error).__name__, text=str(error))
        else:
            tell(case=name, error=None)


def faults():
    """Errors, stops and budgets on either rank. The group is whole afterwards: each case follows the one before."""

    def raising(rank, call, error=ValueError):
        def before(here, number):
            if here == rank and number == call:
                raise error("broken")

        return before

    def stopping(here, number):
        if here == 0 and number == 20:
            holder["optimizer"].stop()

    class Unpicklable(Exception):  # noqa: N818
        def __init__(self, text):
            super().__init__(text)
            self.lock = threading.Lock()

    def of_a_connection(text):
        return RuntimeError(f"connection {text}")

    holder = {}
    method = lambda name: dict(method=name, options=dict(maxiter=50))  # noqa: E731
    cases = {
        "rank 0, first batch": (raising(0, 1), method("BFGS"), {}),
        "rank 1, first batch": (raising(1, 1), method("BFGS"), {}),
        "rank 0, later": (raising(0, 33), method("BFGS"), {}),
        "rank 1, later": (raising(1, 33), method("BFGS"), {}),
        "rank 1, in a product": (raising(1, 21), method("trust-ncg"), {}),
        "rank 0, in a product": (raising(0, 36), method("trust-ncg"), {}),
        "rank 1, in a Hessian": (raising(1, 9), method("trust-exact"), {}),
        "rank 1, not to be pickled": (raising(1, 20, Unpicklable), method("BFGS"), {}),
        "rank 0, of a connection": (
            raising(0, 20, lambda text: RuntimeError(f"connection {text}")),
            method("BFGS"),
            {},
        ),
        "rank 1, of a connection": (
            raising(1, 20, lambda text: RuntimeError(f"connection {text}")),
            method("BFGS"),
            {},
        ),
        "rank 1, rejected": (raising(1, 20, torch.linalg.LinAlgError), method("BFGS"), {}),
        "rank 1, exits": (raising(1, 20, SystemExit), method("BFGS"), {}),
        "stop": (stopping, method("L-BFGS-B"), {}),
        "evaluations": (raising(0, 0), method("L-BFGS-B"), dict(max_evaluations=4)),
        "seconds": (lambda rank, number: time.sleep(0.02), method("L-BFGS-B"), dict(max_seconds=0.3)),
        "target": (raising(0, 0), method("L-BFGS-B"), dict(target_loss=1.1)),
        "callback": (raising(0, 0), method("L-BFGS-B"), dict(callbacks=[lambda it: it.index == 2])),
        "raising callback": (raising(0, 0), method("L-BFGS-B"), dict(callbacks=[lambda it: 1 / (it.index - 2)])),
        "nothing": (raising(0, 0), method("L-BFGS-B"), {}),
    }
    for name, (before, arguments, more) in cases.items():
        made = Classifier(before)
        optimizer = holder["optimizer"] = MinimizeWrapper(made.parameters, arguments, start_check=False, **more)
        begun, outcome, notes = time.monotonic(), "", []
        try:
            optimizer.step(made.closure)
        except BaseException as error:
            outcome, notes = f"{type(error).__name__}: {error}", getattr(error, "__notes__", [])
        tell(
            case=name,
            outcome=outcome,
            notes=notes,
            status=None if optimizer.result is None else int(optimizer.result.status),
            fun=None if optimizer.result is None else float(optimizer.result.fun),
            end=[float(p.detach().sum()) for p in made.parameters],
            seconds=time.monotonic() - begun,
        )


def early():
    """Rank 1 fails in its first batch; rank 0 has ten slow ones, and stops at the end of the present one."""

    def before(rank, number):
        if rank == 1:
            raise ValueError("broken")
        time.sleep(0.5)

    made, begun = Classifier(before, size=5), time.monotonic()
    try:
        MinimizeWrapper(made.parameters, "BFGS", start_check=False).step(made.closure)
    except ValueError as error:
        tell(seconds=time.monotonic() - begun, calls=made.calls, notes=error.__notes__)


def paused(seconds):
    """A pause that is longer than the timeout of the group."""
    made, seconds = Classifier(), float(seconds)
    optimizer = MinimizeWrapper(made.parameters, dict(method="BFGS", options=dict(maxiter=8)))
    run = optimizer.start(made.closure, iterations=3)
    if dist.get_rank() == 0:
        run.wait_until_paused()
        time.sleep(seconds)
        run.resume()
    run.wait()
    tell(iterations=len(optimizer.history), success=bool(optimizer.result.success), loss=float(optimizer.result.fun))


def killed(rank, how):
    """One rank disappears in the middle of a run."""
    rank, number = int(rank), {"SIGKILL": signal.SIGKILL, "SIGINT": signal.SIGINT, "SIGTERM": signal.SIGTERM}[how]

    def before(here, call):
        if here == rank and call == 20:
            os.kill(os.getpid(), number)
            time.sleep(0.5)

    made, begun = Classifier(before), time.monotonic()
    tell(ready=True)
    try:
        MinimizeWrapper(made.parameters, "BFGS", start_check=False).step(made.closure)
    except BaseException as error:
        tell(error=type(error).__name__, text=str(error), seconds=time.monotonic() - begun)


def messages():
    """How many messages a run needs; the numbers in those that add up shares."""
    sizes, sent = [], dict(all_reduce=0, broadcast=0)

    def counted(name, call):
        def function(tensor, *arguments, **keywords):
            sent[name] += 1
            if name == "all_reduce":
                sizes.append(tensor.numel())
            return call(tensor, *arguments, **keywords)

        return function

    made = Classifier()
    optimizer = MinimizeWrapper(made.parameters, dict(method="L-BFGS-B", options=dict(maxiter=5)), start_check=False)
    for name in sent:
        setattr(dist, name, counted(name, getattr(dist, name)))
    optimizer.step(made.closure)
    tell(calls=optimizer.result.nfev, n=optimizer.result.x.size, sizes=sizes, **sent)


def speed(milliseconds):
    """Seconds of twelve closure calls of so many milliseconds in one process, on this number of ranks."""
    torch.manual_seed(0)
    rows = int(float(milliseconds) * 70)
    inputs, w = torch.randn(rows, 400), torch.nn.Parameter(torch.zeros(400, 30))
    data = list(shard(list(inputs.split(rows // 8))))
    closure = full_batch(lambda batch: (batch @ w).tanh().sub(0.1).square().mean(), data, group=dist.group.WORLD)
    arguments = dict(method="L-BFGS-B", options=dict(gtol=0, ftol=0))
    optimizer = MinimizeWrapper([w], arguments, max_evaluations=12, start_check=False)
    optimizer.step(closure)
    tell(seconds=optimizer.history.totals.seconds, calls=optimizer.history.totals.nfev)


def forked(output, errors, environment, arguments):
    """A rank in a process that is forked after the imports; output and errors are paths of files."""
    for number, path in enumerate((output, errors), 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.environ.update(environment)
    main(*arguments)


def main(name, *arguments):
    torch.set_num_threads(1)
    timeout = timedelta(seconds=float(os.environ.get("GROUP_TIMEOUT", "60")))
    dist.init_process_group("gloo", timeout=timeout)
    globals()[name](*arguments)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])

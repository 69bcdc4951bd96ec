"""full_batch over several processes: the run of one process, on every rank; what ends it, and that nothing hangs."""

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.core.batches.rank_scripts import FITS, FORMS, INPUTS, LABELS, Decay, Pinn, fit, forked, points
from tests.proof import PROOF
from torchmin_nb import MinimizeWrapper, full_batch, laplace, shard, spectrum
from torchmin_nb.errors import CovarianceWarning, DistributedError

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["torch._dynamo", "tests.core.batches.rank_scripts"])


class Interpreter:
    """A rank in an interpreter of its own, as torchrun starts it: with the methods of FORKS.Process."""

    def __init__(self, *, target, args):
        output, errors, environment, arguments = args
        command = [sys.executable, "-m", target.__module__, *arguments]
        with output.open("w") as out, errors.open("w") as err:
            self._running = subprocess.Popen(
                command, env={**os.environ, **environment}, cwd=ROOT, stdout=out, stderr=err
            )
        self.start, self.kill, self.is_alive = (lambda: None), self._running.kill, lambda: self.exitcode is None

    def join(self, timeout=None):
        with suppress(subprocess.TimeoutExpired):
            self._running.wait(timeout)

    @property
    def exitcode(self):
        return self._running.poll()


def ranks(count, *arguments, timeout=120, whole=PROOF, **environment):
    """What each rank told, in order, by rank; the exit codes. Fails if a rank has not ended after the timeout.

    whole: in interpreters of their own, whose start and end are those of a script.
    As under torchrun, the process that starts the ranks has their store: nobody else can take its port meanwhile.
    """
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    place = dict(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(store.port), TORCHELASTIC_USE_AGENT_STORE="True")
    common = {**place, **dict(WORLD_SIZE=str(count), OMP_NUM_THREADS="1")}
    with tempfile.TemporaryDirectory() as folder:
        files = [[Path(folder, f"{rank} {kind}") for kind in ("output", "errors")] for rank in range(count)]
        started = [
            (Interpreter if whole else FORKS.Process)(
                target=forked, args=(*files[rank], {**common, **environment, "RANK": str(rank)}, [*map(str, arguments)])
            )
            for rank in range(count)
        ]
        try:
            for process in started:
                process.start()
            for process in started:
                process.join(timeout)
                assert not process.is_alive(), "a rank has not ended"
        finally:
            for process in started:
                process.kill()
                process.join()
        outputs, errors = zip(*[[path.read_text() for path in of_rank] for of_rank in files], strict=True)
    told = [[json.loads(line) for line in output.splitlines() if line.startswith("{")] for output in outputs]
    return told, [process.exitcode for process in started], errors


def in_one_process(method, engine, **options):
    torch.manual_seed(2)
    model = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3)).double()
    parameters = list(model.parameters())
    limit = {"maxfun": 12} if method == "TNC" else {"maxiter": 6}
    optimizer = MinimizeWrapper(parameters, dict(method=method, options={**limit, **options}), engine=engine)
    optimizer.closure = lambda: cross_entropy(model(INPUTS), LABELS) + 1e-2 * sum((p**2).sum() for p in parameters)
    optimizer.step(optimizer.closure)
    return optimizer


SCIPY = ["CG", "BFGS", "L-BFGS-B", "TNC", "SLSQP", "Newton-CG", "dogleg", "trust-ncg", "trust-krylov", "trust-exact"]
SCIPY += ["trust-constr"]
TORCH = ["CG", "BFGS", "L-BFGS-B", "Newton-CG", "dogleg", "trust-ncg", "trust-krylov", "trust-exact"]


@pytest.mark.parametrize(
    ("count", "engine", "methods"), [(2, "scipy", SCIPY), (2, "torch", TORCH), (4, "scipy", ["BFGS", "trust-ncg"])]
)
def test_the_run_is_that_of_one_process(count, engine, methods):
    told, codes, errors = ranks(count, "parity", engine, *methods, whole=PROOF or methods is SCIPY)
    assert codes == [0] * count, errors
    for lines in zip(*told, strict=True):
        first, *others = lines
        one = in_one_process(first["method"], engine)
        tolerance = 1e-8 if first["method"] == "TNC" else 1e-10
        assert first["losses"][:7] == pytest.approx(one.history.loss[:7].tolist(), rel=tolerance), first["method"]
        assert first["nfev"] == one.result.nfev
        for other in others:  # every rank ends with the same run and the same parameters, to the last bit
            assert {**other, "rank": 0} == first


@pytest.mark.parametrize("engine", ["scipy", "torch"])
def test_a_pinn(engine):
    methods = {"scipy": SCIPY, "torch": TORCH}[engine] if PROOF else ["BFGS", "L-BFGS-B", "trust-ncg"]
    methods = [method for method in methods if method != "TNC"]
    told, codes, errors = ranks(2, "pinn", engine, *methods)
    assert codes == [0, 0], errors
    for first, second in zip(*told, strict=True):
        made = Pinn()
        optimizer = MinimizeWrapper(
            made.parameters, dict(method=first["method"], options=dict(maxiter=6)), engine=engine
        )
        optimizer.step(lambda made=made: made.loss(points()) + made.boundary())
        assert first["losses"] == second["losses"]
        assert first["losses"][:7] == pytest.approx(optimizer.history.loss[:7].tolist(), rel=1e-10), first["method"]


@pytest.mark.parametrize("count", [2, 4] if PROOF else [2])
def test_least_squares(count):
    told, codes, errors = ranks(count, "least_squares")
    assert codes == [0] * count, errors
    assert [line["case"] for line in told[0]] == list(FITS)
    for first, *others in zip(*told, strict=True):
        one = fit(first["case"])
        assert first.pop("ok")
        assert one.pop("ok")
        by_products = first["case"] in ("robust", "by products", "gauss-newton by products")  # inexact steps
        near = dict(rel=1e-5, abs=1e-6) if by_products else dict(rel=1e-8, abs=1e-10)
        assert first["costs"][:4] == pytest.approx(one["costs"][:4], rel=1e-10), first["case"]
        for name in ("x", "residuals", "gradient", "covariance"):
            assert first[name] == pytest.approx(one[name], **near), (name, first["case"])
        for other in others:
            assert {**other, "rank": 0, "ok": True} == {**first, "ok": True}


def test_an_evaluation_is_three_messages():
    """The order, the point, and the sum with its status: each waits for the other ranks."""
    told, codes, errors = ranks(2, "messages")
    assert codes == [0, 0], errors
    for (line,) in told:
        assert line["all_reduce"] == line["calls"]
        assert set(line["sizes"]) == {line["n"] + 2 + 4 + 1}  # gradient, loss and samples, reached tensors, status
        assert line["broadcast"] <= 2 * line["calls"] + 6  # the end, and beats on a slow machine


AT_EXIT = """
import atexit
import torch
import torch.distributed as dist

atexit.register(lambda: print(len(dist.distributed_c10d._world.pg_map)))  # called last: it is registered first

from torchmin_nb import MinimizeWrapper, full_batch

dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
w = torch.nn.Parameter(torch.ones(2))
closure = full_batch(lambda batch: (w - batch).square().sum(), [torch.zeros(2)], group=dist.group.WORLD)
MinimizeWrapper([w], "BFGS").step(closure)
"""


def test_nothing_of_ours_lives_on_at_exit():
    ended = subprocess.run([sys.executable, "-c", AT_EXIT], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout.split()) == (0, ["1"]), ended.stderr  # the user's own group


def test_faults_of_residuals():
    told, codes, errors = ranks(2, "residual_faults")
    assert codes == [0, 0], errors
    for first, second in zip(*told, strict=True):
        if first["case"] == "rejected":
            assert first["outcome"] == second["outcome"] == ""
            assert first["success"]
            continue
        assert first["outcome"] == second["outcome"] == "ValueError: broken"
        assert "raised on rank 1" in first["notes"]


def test_check_covariance_and_callbacks():
    told, codes, errors = ranks(2, "reports")
    assert codes == [0, 0], errors
    (first,), (second,) = told
    assert first["ok"]
    assert first["success"]
    assert first["seen"] == first["iterations"] > 3
    assert second["seen"] == 0  # callbacks are called on rank 0
    assert "call ddp.module" in first["refused"]
    assert {**first, "seen": 0, "refused": ""} == {**second, "rank": 0, "refused": ""}
    one = in_one_process("trust-exact", "scipy", gtol=1e-9, maxiter=200)
    matrix = one.covariance(one.closure).matrix
    assert first["variances"] == pytest.approx(matrix.diagonal().tolist(), rel=1e-6)


def test_curvature():
    told, codes, errors = ranks(2, "curvature")
    assert codes == [0, 0], errors
    (first,), (second,) = told
    assert {**first, "rank": 1} == second
    torch.manual_seed(2)
    model = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3)).double()
    closure = lambda: cross_entropy(model(INPUTS), LABELS) + 1e-2 * sum((p**2).sum() for p in model.parameters())  # noqa: E731
    found = spectrum(closure, model, k=2, density=3)
    assert first["values"] == pytest.approx(found.values.tolist())
    decay = Decay()
    for form, *variances in zip(FORMS, first["variances"], first["of_residuals"], strict=True):
        with pytest.warns(CovarianceWarning, match="not at the maximum"):
            one = laplace(closure, model, 2.0, form=form)
        with pytest.warns(CovarianceWarning, match="not at the maximum"):
            ggn = laplace(decay.closure, decay.parameters, 2.0, curvature="ggn", form=form)
        assert variances[0] == pytest.approx(one.matrix.diagonal().tolist(), rel=1e-8)
        assert variances[1] == pytest.approx(ggn.matrix.diagonal().tolist(), rel=1e-8)
    assert first["read"] > 0


def test_callbacks_on_every_rank():
    told, codes, errors = ranks(2, "mirrored")
    assert codes == [0, 0], errors
    by_case = [{line["case"]: line for line in lines} for lines in told]
    iterations = {"nothing": 5, "stop": 3, "error": 3, "interrupt": 3}
    for case, count in iterations.items():
        first, second = (lines[case] for lines in by_case)
        assert first["seen"] == second["seen"], case
        assert [each[0] for each in first["seen"][1:-1]] == list(range(count + 1))
        assert (first["seen"][0], first["seen"][-1]) == ("start", count + 1)
        assert first["status"] == second["status"]
    outcomes = {case: [lines[case]["outcome"] for lines in by_case] for case in iterations}
    assert outcomes["nothing"] == outcomes["stop"] == ["", ""]
    assert by_case[0]["stop"]["status"] == 99
    assert all("ZeroDivisionError" in outcome and "raised on rank 1" in outcome for outcome in outcomes["error"])
    # The run was complete, so only the interrupted rank has an error.
    assert outcomes["interrupt"] == ["KeyboardInterrupt:  ", ""]


def test_what_is_refused():
    told, codes, errors = ranks(2, "refusals")
    assert codes == [0, 0], errors
    expected = {
        "plain closure": "full_batch(loss, loader, group=",
        "called": "pass it to step()",
        "a mean of squares": "reduction='sum'",
        "values": "parameter values of rank 1 differ from rank 0",
        "method": "what is run of rank 1 differ from rank 0: MinimizeWrapper CG, not MinimizeWrapper BFGS",
        "shapes": "shapes and dtypes of rank 1 differ",
    }
    for lines in told:
        errors = {line["case"]: line["error"] for line in lines}
        of_arguments = "ArgumentError" if lines[0]["rank"] == 0 else "DistributedError"
        assert errors == {**dict.fromkeys(expected, "DistributedError"), "a mean of squares": of_arguments}
        for line in lines:
            assert expected[line["case"]] in line["text"]


ENDINGS = {"stop": 99, "evaluations": 102, "seconds": 103, "target": 104, "callback": 99}


def test_faults_end_every_rank_alike():
    told, codes, errors = ranks(2, "faults")
    assert codes == [0, 0], errors
    for first, second in zip(*told, strict=True):
        name = first["case"]
        assert (first["end"], first["fun"], first["status"]) == (second["end"], second["fun"], second["status"]), name
        if name in ENDINGS:
            assert first["outcome"] == second["outcome"] == ""
            assert first["status"] == ENDINGS[name]
        elif name in ("nothing", "rank 1, rejected"):
            assert first["outcome"] == second["outcome"] == ""
            assert first["status"] in (0, 1)
        else:
            assert first["outcome"], name
            assert second["outcome"], name
            failed = int(name.removeprefix("rank ")[0]) if name.startswith("rank") else 0
            whole = first["outcome"] + "".join(first["notes"])
            if name.startswith("rank"):
                assert "broken" in whole
                assert f"rank {failed}" in whole
                assert "broken" in second["outcome"]
            else:
                assert "ZeroDivisionError" in whole
                assert "rank 0 ended: ZeroDivisionError" in second["outcome"]


def test_a_slow_rank_hears_of_an_error_between_its_batches():
    told, codes, errors = ranks(2, "early")
    assert codes == [0, 0], errors
    (first,), _ = told
    assert first["calls"] <= 1  # of eleven
    assert first["notes"] == ["raised in batch 0 of 11", "raised on rank 1"]


def test_a_pause_longer_than_the_timeout_of_the_group():
    told, codes, errors = ranks(2, "paused", 6, GROUP_TIMEOUT="4")
    assert codes == [0, 0], errors
    (first,), (second,) = told
    assert first["iterations"] > 4
    assert {**second, "rank": 0} == first


KILLED = [(1, "SIGKILL"), (0, "SIGINT")]
KILLED += [(0, "SIGKILL"), (1, "SIGTERM"), (1, "SIGINT"), (0, "SIGTERM")] if PROOF else []


@pytest.mark.parametrize(("rank", "how"), KILLED)
def test_a_rank_that_disappears_ends_the_others(rank, how):
    told, _, errors = ranks(2, "killed", rank, how, GROUP_TIMEOUT="20", timeout=60)
    other = told[1 - rank][-1]
    assert "ready" not in other, errors
    if how == "SIGINT":
        assert told[rank][-1]["error"] == "KeyboardInterrupt"
        assert other["error"] == "DistributedError"
        assert "KeyboardInterrupt" in other["text"]
    else:
        assert other["error"] == "DistributedError"
        assert "another rank is lost" in other["text"]


def test_shard():
    assert list(shard(list(range(10)))) == list(range(10))


def test_a_group_needs_torch_distributed():
    with pytest.raises(DistributedError, match="torchrun"):
        full_batch(lambda batch: batch, [INPUTS], group=object())

"""The peak memory of a run over 50 batches, beside that over one: each in a process of its own."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

SCRIPT = '''
import sys
from pathlib import Path

import torch
from torchmin_nb import MinimizeWrapper, full_batch

torch.set_num_threads(1)
method, engine, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
w = torch.nn.Parameter(torch.zeros(4, 400))

def peak():
    """Of this program: ru_maxrss has that of the process that started it."""
    return next(int(line.split()[1]) for line in Path("/proc/self/status").open() if line.startswith("VmHWM"))

def batch(index):
    return torch.randn(8000, 4, generator=torch.Generator().manual_seed(index))

def hidden(inputs):
    return (inputs @ w).tanh()

before = peak()
options = {"maxiter": 2} | ({"initial_trust_radius": 1e-3} if method == "trust-ncg" else {})  # one product a step
arguments = dict(method=method, options=options)
optimizer = MinimizeWrapper([w], arguments, engine=engine, start_check=False, max_evaluations=2)
closure = full_batch(lambda inputs: (hidden(inputs).sum(1) - 1).square().mean(), batch, count=count)
optimizer.step(closure)
print(peak() - before)
'''
CASES = [("L-BFGS-B", "scipy"), ("trust-ncg", "torch")]


def peak(method, engine, count):
    """In kilobytes, above what the imports take. Large blocks go back to the system at once: malloc keeps none."""
    command = [sys.executable, "-c", SCRIPT, method, engine, str(count)]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "1000000"}
    return int(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("method", "engine"), CASES)
def test_fifty_batches_take_the_memory_of_one(method, engine):
    one, fifty = peak(method, engine, 1), peak(method, engine, 50)
    assert one > 30_000  # a batch is what takes the memory
    assert fifty <= 1.2 * one + 8_000, (one, fifty)

"""Kernels forked from a process that has imported torch and what the notebooks draw with: they start in a moment.

A kernel is a process of its own, as elsewhere; only these imports are done before it starts. They are a third of what a
notebook computes. A plugin for --nbval; the server of the browser tests imports it too.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from typing import Any

from jupyter_client.provisioning import local_provisioner

IMPORTED = [
    *("anywidget", "ipykernel.kernelapp", "ipywidgets", "matplotlib.backends.backend_agg", "pandas"),
    *("plotly.graph_objects", "sklearn.datasets", "torch._decomp.decompositions_for_jvp", "torch._dynamo"),
    *("torchmin_nb.views", "torchmin_nb.views.chart_picture", "torchmin_nb.views.live"),
]


class ForkedKernel:
    """A running kernel: of subprocess.Popen, what jupyter_client uses."""

    stdin = stdout = stderr = None

    def __init__(
        self, command: list[str], *, env: dict[str, str], cwd: str | None = None, stderr: Any = None, **_: Any
    ):
        forked = multiprocessing.get_context("forkserver")
        forked.set_forkserver_preload(IMPORTED)
        self._process = forked.Process(target=_run, args=(command[command.index("-f") :], env, cwd, stderr is not None))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid
        while os.getpgid(self.pid) != self.pid:  # until then a signal to its group would reach the tests
            time.sleep(0.001)

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int | None:
        self._process.join()
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _run(arguments: list[str], env: dict[str, str], cwd: str | None, quiet: bool) -> None:
    """The kernel, in the forked process."""
    os.setsid()
    os.environ.clear()
    os.environ.update(env, JPY_PARENT_PID=str(os.getppid()))
    os.chdir(cwd or ".")
    if quiet:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    multiprocessing.set_start_method(None, force=True)
    from ipykernel.kernelapp import launch_new_instance

    sys.argv = ["ipykernel_launcher", *arguments]
    launch_new_instance()


local_provisioner.launch_kernel = ForkedKernel

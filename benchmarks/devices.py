"""What a sweep of ALS and a fit cost with torch's arrays, which stand in for a device's: time, operations, copies.

    python benchmarks/devices.py [--ranks 16 32 64] [--samples 1000000]

Times are CPU seconds on one thread. Operations are those of torch, views left out: on a device each is a launch. A read
is a single number that is waited for. The sweep is that of the six-dimensional plume, the fit of four variables.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import sepnet as sn
from sepnet.backends import arrays
from sepnet.backends.arrays import as_device, as_dtype, as_namespace
from sepnet.models import vsna
from sepnet.solvers import block_band
from sepnet.solvers.als import AlternatingLeastSquares
from sepnet.solvers.lifting import make_lift
from sepnet.solvers.on_device import on_host
from sepnet.solvers.separable import SeparableMatrix, SeparableVector
from sepnet.solvers.system import make_system

VIEWS = ("view", "permute", "transpose", "slice", "select", "unsqueeze", "expand", "alias", "detach", "squeeze",
         "as_strided", "_unsafe_view", "t.default", "diagonal", "numpy_T", "movedim", "reshape")  # fmt: skip
READ = "_local_scalar_dense.default"


class Operations(TorchDispatchMode):
    """Counts what torch does within the block."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count[str(function).removeprefix("aten.")] += 1
        return function(*args, **(kwargs or {}))


def sweeps(xp: Any, ranks: Sequence[int], label: str) -> None:
    """Print the time of a sweep at each rank, and with torch the operations and reads of an axis step."""
    problem = vsna.advection_diffusion().problem
    lift = make_lift(problem, 1e-3)
    system = make_system(problem, lift)
    space = as_namespace(xp)
    home = (space, as_device(None, space), as_dtype(None, space))
    matrix, load = (
        part.to(*home)
        for part in (SeparableMatrix.from_table(system.matrices), SeparableVector.from_table(system.loads))
    )
    iteration = AlternatingLeastSquares(matrix, load)
    for rank in sorted(ranks):
        while iteration.rank < rank:
            iteration.grow(min(4, rank - iteration.rank))
            iteration.sweep()
        times = []
        for _ in range(5):
            began = time.process_time()
            iteration.sweep()
            times.append(time.process_time() - began)
        line = f"ALS, {label}, rank {rank}: {1e3 * float(np.median(times)):.1f} ms a sweep"
        if xp is torch:
            with Operations() as seen:
                iteration.sweep()
            axes, real = len(matrix.axes), {k: v for k, v in seen.count.items() if not k.startswith(VIEWS)}
            line += f"; an axis step: {sum(real.values()) / axes:.0f} operations, {seen.count[READ] / axes:.1f} reads"
        print(line, flush=True)


def counted(call: Callable[[], Any]) -> tuple[Any, dict[str, int]]:
    """Return what `call` returns, and how many numbers it moved between host and torch."""
    moved = {"to host": 0, "from host": 0}
    there, back = arrays.to_host, arrays.from_host

    def to_host(array: Any, /) -> np.ndarray:
        moved["to host"] += 0 if isinstance(array, np.ndarray) else int(np.prod(array.shape))
        return there(array)

    def from_host(array: Any, xp: Any, /, **options: Any) -> Any:
        moved["from host"] += 0 if arrays.is_numpy(xp) else int(np.asarray(array).size)
        return back(array, xp, **options)

    stands = {"to_host": (there, to_host), "from_host": (back, from_host)}
    changed = [
        (module, name, old, new)
        for module in list(sys.modules.values())
        for name, (old, new) in stands.items()
        if module.__name__.startswith("sepnet") and getattr(module, name, None) is old
    ]
    for module, name, _, new in changed:
        setattr(module, name, new)
    try:
        return call(), moved
    finally:
        for module, name, old, _ in changed:
            setattr(module, name, old)


def fits(samples: int) -> None:
    """Print what a fit of four variables costs with NumPy's and with torch's arrays."""
    rng = np.random.default_rng(0)
    X = rng.random((samples, 4))
    y = np.sin(3 * X[:, 0]) * np.exp(X[:, 1]) + X[:, 2] ** 2 * X[:, 3] + 0.01 * rng.standard_normal(samples)
    for name, put in (("numpy", lambda a: a), ("torch", torch.from_numpy)):
        began = time.process_time()
        fit, moved = counted(lambda put=put: sn.fit(put(X), put(y), rank=4, cells=4, max_steps=3))  # type: ignore[misc]
        seconds = time.process_time() - began
        print(
            f"fit, {name}, {samples} samples: {seconds:.1f} s, error {fit.error:.5f}, numbers moved {moved}", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--samples", type=int, default=1_000_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for xp in (np, torch):
        sweeps(xp, options.ranks, xp.__name__)
    # blocks, and inverses of their factors, of the sizes that a device takes
    block_band.on_host = lambda array: False
    sweeps(torch, options.ranks, "torch, the way of a device")
    block_band.on_host = on_host
    fits(options.samples)


if __name__ == "__main__":
    main()

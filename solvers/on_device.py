"""What costs time on a device and nothing on the host: numbers that are read, and needless launches.

A device works behind the host's back until the host asks for a number: then the host waits until everything before it
is done. So solvers read numbers together, as late as they can, and only where they decide something by them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sepnet.backends.arrays import Array, device_of, from_host, is_cupy, is_torch, namespace, to_host

__all__ = ["beside", "on_host", "read", "rows"]


def read(*numbers: Array) -> tuple[float, ...]:
    """Read numbers from where they are, all with one synchronisation.

    Parameters
    ----------
    *numbers : arrays of shape ()
        Of one namespace and device; numbers that may be bool or of another dtype are read as the first one's.

    Returns
    -------
    tuple of float

    Examples
    --------
    >>> import numpy as np
    >>> from sepnet.solvers.on_device import read
    >>> read(np.sum(np.ones(3)), np.max(np.arange(4.0)))
    (3.0, 3.0)
    """
    if len(numbers) == 1:
        return (float(numbers[0]),)
    xp = namespace(*numbers)
    first = numbers[0].dtype
    stacked = xp.stack([n if n.dtype == first else xp.astype(n, first) for n in numbers])
    return tuple(to_host(stacked).tolist())


def rows(array: Array, index: Array, /) -> Array:
    """Return ``array[index, ...]`` for a one-dimensional index without negative numbers.

    As ``take`` along the first axis, which in torch is made to know negative numbers: three launches more each time.
    """
    if is_torch(namespace(array)):
        return array.index_select(0, index)
    return namespace(array).take(array, index, axis=0)


def beside(saved: Array, like: Array) -> Array:
    """Return an array where `like` is, in its dtype: one from a file is moved, one that is there already stays."""
    if not isinstance(saved, np.ndarray):
        return saved
    return from_host(saved, namespace(like), device=device_of(like), dtype=like.dtype)


def on_host(array: Array) -> bool:
    """Tell whether the processor itself computes with `array`: launches cost little there, and caches are small."""
    xp: Any = namespace(array)
    return not is_cupy(xp) and not (is_torch(xp) and array.device.type != "cpu")

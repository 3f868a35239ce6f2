"""Noise-free functions of many variables that `regression.py` learns from random samples, each on its input box.

The formulas and boxes are those of the cited works; the special functions are of SciPy, on boxes (ours) that stay clear
of their singularities: Liu et al. (KAN, arXiv 2404.19756, table 2) fit such functions and give no boxes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
import scipy.special as special
from numpy.typing import NDArray

__all__ = ["CASES", "GROUPS", "Case"]

Array = NDArray[np.float64]


@final
@dataclass(frozen=True)
class Case:
    """A function on a box: `formula` takes the inputs one by one, in the order of `box`."""

    box: dict[str, tuple[float, float]]
    formula: Callable[..., Array]
    source: str
    inert: tuple[str, ...] = ()

    def __call__(self, points: Array) -> Array:
        return self.formula(*points.T)

    @property
    def low(self) -> Array:
        return np.array([low for low, _ in self.box.values()])

    @property
    def high(self) -> Array:
        return np.array([high for _, high in self.box.values()])

    def samples(self, count: int, seed: int | tuple[int, ...]) -> tuple[Array, Array]:
        """Return `count` uniformly random points of the box and the values there."""
        rng = np.random.default_rng(seed)
        points = self.low + (self.high - self.low) * rng.random((count, len(self.box)))
        return points, self(points)


# ----------------------------------------------------------------------------------------- functions of 6 to 10 inputs


def borehole(rw: Array, r: Array, Tu: Array, Hu: Array, Tl: Array, Hl: Array, L: Array, Kw: Array) -> Array:
    """Return the flow of water through a borehole, in m^3 a year."""
    logarithm = np.log(r / rw)
    return 2 * np.pi * Tu * (Hu - Hl) / (logarithm * (1 + Tu / Tl) + 2 * L * Tu / (rw**2 * Kw))


def friedman(x1: Array, x2: Array, x3: Array, x4: Array, x5: Array, *inert: Array) -> Array:
    return 10 * np.sin(np.pi * x1 * x2) + 20 * (x3 - 0.5) ** 2 + 10 * x4 + 5 * x5


def wing_weight(
    Sw: Array,
    Wfw: Array,
    A: Array,
    sweep: Array,
    q: Array,
    taper: Array,
    tc: Array,
    Nz: Array,
    Wdg: Array,
    Wp: Array,
) -> Array:
    """Return the weight of the wing of a light aircraft, in pounds; `sweep` in degrees."""
    cosine = np.cos(np.deg2rad(sweep))
    wing = 0.036 * Sw**0.758 * Wfw**0.0035 * (A / cosine**2) ** 0.6
    return wing * q**0.006 * taper**0.04 * (100 * tc / cosine) ** -0.3 * (Nz * Wdg) ** 0.49 + Sw * Wp


def otl_circuit(Rb1: Array, Rb2: Array, Rf: Array, Rc1: Array, Rc2: Array, beta: Array) -> Array:
    """Return the midpoint voltage of an output-transformerless push-pull circuit, in V."""
    Vb1 = 12 * Rb2 / (Rb1 + Rb2)
    gain = beta * (Rc2 + 9)
    return ((Vb1 + 0.74) * gain + 11.35 * Rf + 0.74 * Rf * gain / Rc1) / (gain + Rf)


# -------------------------------------------------------------------------------------------------- special functions


def spherical_harmonic(theta: Array, phi: Array, alpha: Array) -> Array:
    """Return the sum of the real harmonics of degree 4 and orders 1 to 3, turned by alpha about the z axis."""
    orders = (1, 2, 3)
    scales = (special.poch(5 - m, 2 * m) ** -0.5 for m in orders)
    turned = (special.lpmv(m, 4, np.cos(theta)) * np.cos(m * (phi - alpha)) for m in orders)
    return np.sum([s * t for s, t in zip(scales, turned, strict=True)], axis=0)


VIRTUAL_LIBRARY = "Surjanovic and Bingham, Virtual Library of Simulation Experiments"

CASES: dict[str, Case] = {
    "borehole": Case(
        {
            "rw": (0.05, 0.15),
            "r": (100, 50_000),
            "Tu": (63_070, 115_600),
            "Hu": (990, 1110),
            "Tl": (63.1, 116),
            "Hl": (700, 820),
            "L": (1120, 1680),
            "Kw": (9855, 12_045),
        },
        borehole,
        f"Harper and Gupta 1983, ONWI-516; Morris, Mitchell and Ylvisaker 1993, Technometrics 35; {VIRTUAL_LIBRARY}",
    ),
    "friedman": Case(
        {f"x{i}": (0, 1) for i in range(1, 11)},
        friedman,
        "Friedman 1991, Annals of Statistics 19, section 4.3, without the noise",
        inert=("x6", "x7", "x8", "x9", "x10"),
    ),
    "wing-weight": Case(
        {
            "Sw": (150, 200),
            "Wfw": (220, 300),
            "A": (6, 10),
            "sweep": (-10, 10),
            "q": (16, 45),
            "taper": (0.5, 1),
            "tc": (0.08, 0.18),
            "Nz": (2.5, 6),
            "Wdg": (1700, 2500),
            "Wp": (0.025, 0.08),
        },
        wing_weight,
        f"Forrester, Sobester and Keane 2008, Engineering Design via Surrogate Modelling; {VIRTUAL_LIBRARY}",
    ),
    "otl-circuit": Case(
        {
            "Rb1": (50, 150),
            "Rb2": (25, 70),
            "Rf": (0.5, 3),
            "Rc1": (1.2, 2.5),
            "Rc2": (0.25, 1.2),
            "beta": (50, 300),
        },
        otl_circuit,
        f"Ben-Ari and Steinberg 2007, Quality Engineering 19; {VIRTUAL_LIBRARY}",
    ),
    "bessel-j": Case({"nu": (0, 5), "x": (0.5, 10)}, special.jv, "DLMF 10.2.2"),
    "bessel-y": Case({"nu": (0, 2), "x": (1, 10)}, special.yv, "DLMF 10.2.3"),
    "bessel-i": Case({"nu": (0, 3), "x": (0.5, 4)}, special.iv, "DLMF 10.25.2"),
    "elliptic-f": Case({"phi": (0, 1.4), "m": (0, 0.9)}, special.ellipkinc, "DLMF 19.2.4, m = k^2"),
    "elliptic-e": Case({"phi": (0, 1.4), "m": (0, 0.9)}, special.ellipeinc, "DLMF 19.2.5, m = k^2"),
    "legendre": Case({"nu": (0, 4), "x": (-0.5, 1)}, special.eval_legendre, "DLMF 14.3.1 with mu = 0"),
    "gamma-p": Case({"a": (1, 5), "x": (0.5, 8)}, special.gammainc, "DLMF 8.2.4"),
    "kummer": Case({"a": (0.5, 2), "b": (1, 3), "x": (-2, 2)}, special.hyp1f1, "DLMF 13.2.2"),
    "voigt": Case({"x": (-3, 3), "sigma": (0.5, 1.5), "gamma": (0.1, 1)}, special.voigt_profile, "DLMF 7.19.1"),
    "harmonic": Case(
        {"theta": (0, np.pi), "phi": (0, 2 * np.pi), "alpha": (0, np.pi)}, spherical_harmonic, "DLMF 14.30.1"
    ),
}

# Names that stand for several cases on the command line.
ENGINEERING = ("borehole", "friedman", "wing-weight", "otl-circuit")
GROUPS: dict[str, tuple[str, ...]] = {
    "all": tuple(CASES),
    "engineering": ENGINEERING,
    "special": tuple(name for name in CASES if name not in ENGINEERING),
}

"""Second moments of separable functions under product measures, part by part, free of cancellation.

On every axis a function is split into its mean and the rest, which are orthogonal. Choosing one of them on every axis
gives the components of Hoeffding's decomposition (Sobol', Math. Comput. Simul. 55, 2001); their energies are found by
sweeps along the axes that carry what the axes so far amount to. No energy is a difference: all are sums of squares.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, final

from sepnet.backends.arrays import Array, device_of, eps, from_host, namespace, needs_autograd
from sepnet.functions.base import SeparableFunction
from sepnet.functions.cp import CP
from sepnet.functions.dense import number
from sepnet.functions.evaluation import column_values
from sepnet.functions.rounding import ROUND_OFF
from sepnet.functions.tensor_train import TensorTrain
from sepnet.functions.tucker import Tucker
from sepnet.measures import ProductMeasure
from sepnet.spaces import TensorSpace

__all__ = ["Chain", "Form", "Grams", "Half", "Part", "Roots", "above", "as_separable", "chain_of", "energy", "halves"]

# Up to this many products moments are carried as roots, which takes half a second for ten inputs. Beyond, Gram matrices
# will do where they see shares of the variance down to the smallest, and have to beyond many: roots would take seconds.
FEW, MANY = 64, 128
SMALLEST_SHARE = 1e-10
# Round-off of the Gram formula, in units of that of the square of all terms' norms: a few per axis.
GRAM_NOISE = 1e2

# What is taken of an axis: the mean, the rest, both, or both with the two kept apart.
Part: TypeAlias = Literal["mean", "rest", "full", "split"]


@final
@dataclass(frozen=True, eq=False)
class Chain:
    """A function in coordinates that are orthonormal for a product measure, along a line of axes.

    Attributes
    ----------
    order : tuple of str
        The axes along the line.
    means, rests : tuple of arrays (1, R) and (m_i, R), or (r, 1, r') and (r, m_i, r')
        Columns of a sum of products, or cores of a train: their means, and the coordinates of what is left. float64.
    columns : tuple of arrays (n_i, R), or (r, n_i, r')
        The coefficients of the same.
    scale : float
        What the function is to be multiplied by: the coefficients are at most one.
    noise : float
        Energies up to this, relative to `scale` squared, are round-off.
    form : Form
        What moments are carried in.
    """

    order: tuple[str, ...]
    means: tuple[Array, ...]
    rests: tuple[Array, ...]
    columns: tuple[Array, ...]
    scale: float
    noise: float
    form: Form

    def start(self) -> Array:
        """Return the row of ones from which sweeps start, at either end."""
        first = self.means[0]
        xp, count = namespace(first), int(first.shape[1]) if first.ndim == 2 else 1
        return xp.ones((1, count), dtype=first.dtype, device=device_of(first))


@final
@dataclass(frozen=True, eq=False)
class Half:
    """What one side of an axis amounts to: the moments of the averaged functions, and of what is left of them."""

    mean: Array
    rest: Array


class Form(ABC):
    """How the second moments of R functions of the axes passed are carried."""

    @abstractmethod
    def begin(self, row: Array) -> Half:
        """Return the moments of constants."""

    @abstractmethod
    def push(self, moment: Array, part: Array) -> Array:
        """Multiply the functions with a part of the next axis."""

    @abstractmethod
    def add(self, one: Array, other: Array) -> Array:
        """Return the moments of sums of functions that are orthogonal to each other."""

    @abstractmethod
    def close(self, one: Array, other: Array) -> float:
        """Return the energy of the function between the moments from the left and from the right."""

    @abstractmethod
    def fan(self, one: Array, columns: Array, other: Array) -> Array:
        """Return a matrix (n, k): the squares of row n add up to the energy with row n of the columns in the middle."""

    def step(self, half: Half, mean: Array, rest: Array) -> Half:
        """Go on by one axis, the means apart."""
        both = self.push(half.rest, _stacked(mean, rest))
        return Half(self.push(half.mean, mean), self.add(both, self.push(half.mean, rest)))

    def whole(self, half: Half) -> Array:
        """Return the moments of the functions themselves."""
        return self.add(half.mean, half.rest)


@final
class Roots(Form):
    """Moments as roots: matrices (k, R) with as many rows as needed, triangularised on the way.

    A tiny energy that is left of large terms keeps its digits, as the Gram matrix would not let it; the price is a QR
    factorisation an axis, R times the work.
    """

    def begin(self, row: Array) -> Half:
        """Return the row, and no rows."""
        return Half(row, row[:0, :])

    def push(self, moment: Array, part: Array) -> Array:
        """Multiply all rows with all rows."""
        return _triangle(_joined(moment, part))

    def add(self, one: Array, other: Array) -> Array:
        """Put rows below each other."""
        return _triangle(namespace(one, other).concat([one, other], axis=0))

    def close(self, one: Array, other: Array) -> float:
        """Return the squared norm of all products."""
        products = one @ other.T
        return number(namespace(products).sum(products * products))

    def fan(self, one: Array, columns: Array, other: Array) -> Array:
        """Return the products of all rows with all rows around the columns."""
        xp = namespace(one, columns, other)
        n = int(columns.shape[0 if columns.ndim == 2 else 1])
        products = _joined(one, columns) @ other.T
        shape = (int(one.shape[0]), n, int(other.shape[0]))
        rows = xp.permute_dims(xp.reshape(products, shape), (1, 0, 2))
        return _triangle(xp.reshape(rows, (n, shape[0] * shape[2])).T).T


@final
class Grams(Form):
    """Moments as Gram matrices (R, R), for sums of more products than roots can be afforded for."""

    def begin(self, row: Array) -> Half:
        """Return ones, and zeros."""
        return Half(row.T @ row, 0.0 * (row.T @ row))

    def push(self, moment: Array, part: Array) -> Array:
        """Multiply with the Gram matrix of the part."""
        return moment * (part.T @ part)

    def add(self, one: Array, other: Array) -> Array:
        """Add."""
        return one + other

    def close(self, one: Array, other: Array) -> float:
        """Add up the products."""
        return max(number(namespace(one, other).sum(one * other)), 0.0)

    def fan(self, one: Array, columns: Array, other: Array) -> Array:
        """Return the columns times a root of the product."""
        xp = namespace(one, columns, other)
        values, vectors = xp.linalg.eigh(one * other)
        return columns @ (vectors * xp.sqrt(xp.clip(values, min=0.0)))


def _stacked(mean: Array, rest: Array) -> Array:
    return namespace(mean, rest).concat([mean, rest], axis=0 if mean.ndim == 2 else 1)


def _joined(rows: Array, part: Array) -> Array:
    """Return all rows times all rows of a part of an axis, shape (k m, R)."""
    xp, k = namespace(rows, part), int(rows.shape[0])
    if part.ndim == 2:
        return xp.reshape(rows[:, None, :] * part[None, :, :], (k * int(part.shape[0]), int(part.shape[1])))
    return xp.reshape(xp.tensordot(rows, part, axes=([1], [0])), (k * int(part.shape[1]), int(part.shape[2])))


def _triangle(rows: Array) -> Array:
    """Return no more rows than columns with the same Gram matrix."""
    if rows.shape[0] <= rows.shape[1]:
        return rows
    return namespace(rows).linalg.qr(rows, mode="reduced")[1]


# --------------------------------------------------------------------------------------------------------- energies


def energy(chain: Chain, parts: Sequence[Part]) -> float:
    """Return the energy of a function made of parts, relative to ``chain.scale`` squared; zero where it is round-off.

    Parameters
    ----------
    chain : Chain
    parts : sequence of {"mean", "rest", "full", "split"}
        One for each axis along the chain. With ``"split"`` on some axes, what is averaged over all these is left out.

    Returns
    -------
    float
    """
    form = chain.form
    half = form.begin(chain.start())
    for part, mean, rest in zip(parts, chain.means, chain.rests, strict=True):
        if part == "split":
            half = form.step(half, mean, rest)
            continue
        taken = _stacked(mean, rest) if part == "full" else mean if part == "mean" else rest
        half = Half(form.push(half.mean, taken), form.push(half.rest, taken))
    end = form.begin(chain.start()).mean
    return above(chain, form.close(half.rest if "split" in parts else half.mean, end))


def above(chain: Chain, value: float) -> float:
    """Return an energy, and exactly zero where it is round-off."""
    return value if value > chain.noise else 0.0


def halves(chain: Chain) -> tuple[list[Half], list[Half]]:
    """Return what is on the left and on the right of every axis along the chain."""
    means, rests = [_mirrored(a) for a in chain.means], [_mirrored(a) for a in chain.rests]
    left = _sweep(chain.form, chain.start(), chain.means, chain.rests)
    right = _sweep(chain.form, chain.start(), means[::-1], rests[::-1])
    return left, right[::-1]


def _mirrored(part: Array) -> Array:
    return part if part.ndim == 2 else namespace(part).permute_dims(part, (2, 1, 0))


def _sweep(form: Form, start: Array, means: Sequence[Array], rests: Sequence[Array]) -> list[Half]:
    result = [form.begin(start)]
    for mean, rest in zip(means[:-1], rests[:-1], strict=True):
        result.append(form.step(result[-1], mean, rest))
    return result


# ------------------------------------------------------------------------------------------------------ coordinates


def as_separable(u: object, name: str) -> SeparableFunction:
    """Return a function whose moments are known here: itself, or the sum of products that it says it is.

    Raises
    ------
    TypeError
        If it is no function, or no sum of products.
    ValueError
        If its coefficients are not finite.
    """
    found = u
    if not isinstance(u, CP | TensorTrain | Tucker) and hasattr(u, "to_cp"):
        found = u.to_cp()
    if not isinstance(found, CP | TensorTrain | Tucker):
        msg = f"{name}: `u` is {type(u).__name__}, expected a function such as sn.CP, or one whose u.to_cp() is one"
        raise TypeError(msg)
    xp = found.xp
    if not all(bool(xp.all(xp.isfinite(array))) for array in found.arrays):
        msg = f"{name}: `u` has coefficients that are not finite: check where it comes from"
        raise ValueError(msg)
    return found


def chain_of(u: SeparableFunction, measure: ProductMeasure) -> Chain | None:
    """Return a function in orthonormal coordinates, in float64 where its coefficients are; None for zero.

    Numbers of float32 are taken as they are: only the noise level knows that they were rounded. A Tucker function
    becomes a train, which is exact.

    Parameters
    ----------
    u : CP, TensorTrain or Tucker
    measure : ProductMeasure
        On the space of `u`.

    Returns
    -------
    Chain or None
    """
    plain = u._like(u.space, [array.detach() if needs_autograd(array) else array for array in u.arrays])
    double: Any = plain.to(dtype="float64")
    if isinstance(double, Tucker):
        double = double.to_train()
    order = double.order if isinstance(double, TensorTrain) else u.space.names
    matrices = dict(zip(u.space.names, double._matrices(), strict=True))
    parts, scale = [], 1.0
    for k, name in enumerate(order):
        matrix = matrices[name]
        size = number(double.xp.max(double.xp.abs(matrix))) if 0 not in matrix.shape else 0.0
        if size == 0.0:
            return None
        scale *= size
        mean, rest = _axis_parts(TensorSpace(**{name: u.space.axes[name]}), matrix / size, measure)
        trio = [mean, rest, matrix / size]
        if isinstance(double, TensorTrain):
            trio = [_folded(part, int(double.cores[k].shape[0])) for part in trio]
        parts.append(trio)
    means, rests, columns = (tuple(kind) for kind in zip(*parts, strict=True))
    size, varying = _sizes(means, rests)
    noise = (ROUND_OFF * eps(u.dtype, u.xp) * size) ** 2
    chain = Chain(tuple(order), means, rests, columns, scale, noise, Roots())
    count = int(means[0].shape[1]) if means[0].ndim == 2 else 1
    if count <= FEW:
        return chain
    # Sums of squares cannot see below the round-off of what they add up.
    blind = GRAM_NOISE * eps(double.dtype, double.xp) * varying**2
    grams = replace(chain, noise=noise + blind, form=Grams())
    clear = blind <= SMALLEST_SHARE * energy(grams, ["split"] * len(order))
    return grams if clear or count > MANY else chain


def _axis_parts(line: TensorSpace, matrix: Array, measure: ProductMeasure) -> tuple[Array, Array]:
    """Return means (1, columns) and the coordinates of the rest (m, columns)."""
    xp, device = namespace(matrix), device_of(matrix)
    points, weights = (from_host(a, xp, device=device, dtype="float64") for a in measure.rules[line.names[0]])
    values = column_values(line, [matrix], {line.names[0]: points})[0]
    mean = weights[None, :] @ values
    return mean, _triangle(xp.sqrt(weights)[:, None] * (values - mean))


def _folded(part: Array, left: int) -> Array:
    """Return a matrix (m, r r') as a core (r, m, r')."""
    xp, m = namespace(part), int(part.shape[0])
    return xp.permute_dims(xp.reshape(part, (m, left, int(part.shape[1]) // left)), (1, 0, 2))


def _sizes(means: Sequence[Array], rests: Sequence[Array]) -> tuple[float, float]:
    """Return the sum of all terms' norms, and of those of all terms but their means, which bound what is added up."""
    xp = namespace(*means)
    first = means[0]
    count = int(first.shape[1]) if first.ndim == 2 else 1
    total = xp.ones((1, count), dtype=first.dtype, device=device_of(first))
    constant, varying = total, 0.0 * total
    for mean, rest in zip(means, rests, strict=True):
        size = xp.sqrt(xp.sum(rest * rest, axis=0 if mean.ndim == 2 else 1, keepdims=True))
        full = xp.sqrt(size * size + mean * mean)
        varying = _joined(varying, full) + _joined(constant, size)
        total, constant = _joined(total, full), _joined(constant, xp.abs(mean))
    return number(xp.sum(total)), number(xp.sum(varying))

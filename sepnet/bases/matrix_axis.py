"""Axes given by their assembled matrices: finite-element meshes, and small sets of modes on them.

A function along such an axis is a vector of coefficients; what is known of the axis is how the forms act on these. The
coordinate along the axis is the number of the degree of freedom, so that ``u.restrict(s=17)`` and values on grids work;
between two of them there is nothing.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property
from hashlib import sha256
from types import MappingProxyType
from typing import Any, NoReturn, final

import numpy as np
import scipy.linalg
import scipy.sparse

from sepnet.backends import arrays
from sepnet.bases.basis import SMOOTH, Basis, Kind, Pieces, Quadrature, Zero, frozen, mixing_error
from sepnet.bases.checks import whole_number
from sepnet.bases.given_arrays import (
    EPS,
    SYMMETRIC,
    Matrix,
    given_matrix,
    given_places,
    given_vector,
    is_symmetric,
    named_arrays,
    round_off,
)
from sepnet.bases.sparse_root import SparseRoot

__all__ = ["MASS", "UNIT", "Assembled", "MatrixAxis"]

MASS = "mass"
"""Name of the mass matrix in forms: what stands where no name is given."""
UNIT = "unit"
"""Name of the load vector of the constant 1: what stands where data do not depend on the axis."""

# A coordinate this close to a whole number is one, in single precision too.
WHOLE = 1e-3


class Assembled(Basis):
    """An axis whose functions are known by their assembled matrices only.

    Attributes
    ----------
    mass : csr_array or ndarray (n, n)
        Products of the functions.
    terms : mapping of str to csr_array or ndarray (n, n)
        Matrices by name, `mass` among them: rows for the test functions.
    loads : mapping of str to ndarray (n,)
        Load vectors by name.
    points : ndarray (n, k) or None
        Where the degrees of freedom are, for pictures.
    """

    mass: Matrix
    terms: Mapping[str, Matrix]
    loads: Mapping[str, np.ndarray]
    points: np.ndarray | None
    digest: str

    @abstractmethod
    def __init__(self) -> None: ...

    def _fill(self, size: int, mass: object, terms: object, loads: object, points: object) -> None:
        """Check and take over the data, in a constructor."""
        n = whole_number("size", size, at_least=1)
        unit = given_matrix("mass", mass, n, dense=not scipy.sparse.issparse(mass))
        if not (unit.diagonal() > 0.0).all() or not is_symmetric(unit, round_off(mass)):
            msg = "`mass` is not symmetric with a positive diagonal, expected the matrix of the L2 products: check it"
            raise ValueError(msg)
        dense = isinstance(unit, np.ndarray)
        named = {name: given_matrix(f"terms[{name!r}]", m, n, dense=dense) for name, m in named_arrays("terms", terms)}
        if MASS in named:
            msg = "`terms` has the name 'mass', which is that of `mass`: choose another"
            raise ValueError(msg)
        vectors = {name: given_vector(f"loads[{name!r}]", v, n) for name, v in named_arrays("loads", loads)}
        # Whether its products are symmetric, a solver asks again in double precision.
        unit = (unit + unit.T) / 2 if round_off(mass) > EPS else unit
        # An interval even where there is one degree of freedom only.
        self._set(domain=(0.0, float(max(n - 1, 1))), degree=0, zero=None, periodic=False, mass=unit)
        self._set(terms=MappingProxyType({MASS: unit} | named), loads=MappingProxyType(vectors))
        self._set(points=None if points is None else given_places(points, n), digest="")
        self._set(digest=_digest(self))

    def __getstate__(self) -> dict[str, Any]:
        # What was computed from the data, factorisations above all, stays behind.
        members = [member for kind in type(self).__mro__ for member in vars(kind).items()]
        cached = {name for name, value in members if isinstance(value, cached_property)}
        state = {name: value for name, value in vars(self).items() if name not in cached}
        return state | {"terms": dict(self.terms), "loads": dict(self.loads)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        held = {name: MappingProxyType(state[name]) for name in ("terms", "loads")}
        self._set(**(state | held))

    def __eq__(self, other: object) -> bool:
        """Equal in class and in all numbers."""
        return type(self) is type(other) and isinstance(other, Assembled) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash((type(self), self.digest))

    def __repr__(self) -> str:
        names = ", ".join(name for name in self.terms if name != MASS)
        loads = f"; loads {', '.join(self.loads)}" if self.loads else ""
        return f"{type(self).__name__}({self.size}, terms {names or 'none'}{loads})"

    # ------------------------------------------------------------------------------------------ what forms ask for

    def matrix(self, name: str | None) -> Matrix:
        """Return the matrix of that name; None stands for the mass."""
        key = MASS if name is None else name
        if key not in self.terms:
            msg = (
                f"there is no matrix {key!r} on the axis, expected one of {', '.join(self.terms)}: "
                "give it in terms={name: matrix}"
            )
            raise ValueError(msg)
        return self.terms[key]

    def load(self, name: str | None) -> np.ndarray:
        """Return the load vector of that name; None stands for that of the constant 1."""
        key = UNIT if name is None else name
        if key not in self.loads:
            what = "data that do not depend on the axis need it: " if name is None else ""
            msg = (
                f"there is no load {key!r} on the axis, expected one of {', '.join(self.loads) or 'none'}: {what}"
                "give it in loads={name: vector}"
            )
            raise ValueError(msg)
        return self.loads[key]

    def symmetric(self, name: str | None) -> bool:
        """Tell whether the matrix of that name is symmetric, up to round-off."""
        key = MASS if name is None else name
        if key not in self._symmetric:
            self._symmetric[key] = is_symmetric(self.matrix(name))
        return self._symmetric[key]

    @cached_property
    def _symmetric(self) -> dict[str, bool]:
        return {}

    @cached_property
    def mass_root(self) -> SparseRoot:
        """The factorised mass matrix; only where it is sparse.

        Raises
        ------
        ValueError
            If it is not positive definite.
        """
        return SparseRoot(self.mass, "`mass`")

    @cached_property
    def dense_root(self) -> np.ndarray:
        """The upper triangular root of the mass matrix; only where it is dense.

        Raises
        ------
        ValueError
            If it is not positive definite.
        """
        try:
            return np.asarray(scipy.linalg.cholesky(self.mass))
        except np.linalg.LinAlgError as error:
            msg = "`mass` is not positive definite"
            raise ValueError(msg) from error

    @cached_property
    def has_constants(self) -> bool:
        """Whether the vector of ones is the constant 1: its products with all functions are ``loads["unit"]``."""
        if UNIT not in self.loads:
            return False
        unit = self.loads[UNIT]
        return bool(np.abs(self.mass @ np.ones(self.size) - unit).max() <= SYMMETRIC * EPS * np.abs(unit).max())

    def represent(self, load: np.ndarray) -> np.ndarray:
        """Return the vector whose products with all functions are `load`: the L2 projection, (n,)."""
        if self.kind == "sparse":
            return self.mass_root.solve(load[:, None])[:, 0]
        return np.asarray(scipy.linalg.cho_solve((self.dense_root, False), load))

    # --------------------------------------------------------------------------------------------- what a basis says

    @property
    def size(self) -> int:
        """Number of degrees of freedom."""
        return int(self.mass.shape[0])

    @property
    def kind(self) -> Kind:
        """``"sparse"``, or ``"dense"`` where the matrices were given as dense arrays."""
        return "dense" if isinstance(self.mass, np.ndarray) else "sparse"

    @property
    def bandwidth(self) -> int:
        """``size - 1``: the numbers of the degrees of freedom say nothing about who is near whom."""
        return self.size - 1

    @property
    def smoothness(self) -> int:
        """Of no meaning here: no limit."""
        return SMOOTH

    @property
    def max_order(self) -> int:
        """Zero: there are no derivatives along the axis, the matrices have them inside."""
        return 0

    @cached_property
    def breaks(self) -> np.ndarray:
        """The ends of the domain."""
        return frozen(np.asarray(self.domain))

    @cached_property
    def nodes(self) -> np.ndarray:
        """The numbers of the degrees of freedom, 0 to size - 1."""
        return frozen(np.arange(self.size, dtype=np.float64))

    @property
    def pieces(self) -> Pieces | None:
        """None."""
        return None

    def numbers(self, x: arrays.Array) -> np.ndarray:
        """Return coordinates along the axis as numbers of degrees of freedom (host).

        Raises
        ------
        ValueError
            If one is no whole number.
        """
        host = np.asarray(arrays.to_host(x), dtype=np.float64)
        whole = np.rint(host)
        off = (np.abs(host - whole) > WHOLE) | (whole >= self.size)
        if off.any():
            wrong = float(host[off][0])
            msg = (
                f"the coordinate {wrong:g} is no number of a degree of freedom, expected whole ones from 0 to "
                f"{self.size - 1}: to interpolate at places take mesh.probes(points) @ u.full()"
            )
            raise ValueError(msg)
        return whole.astype(np.int64)

    def _values(self, x: arrays.Array, derivative: int) -> arrays.Array:
        if derivative:
            self._no_derivative()
        table = np.zeros((int(x.shape[0]), self.size))
        table[np.arange(table.shape[0]), self.numbers(x)] = 1.0
        return arrays.from_host(table, arrays.namespace(x), device=arrays.device_of(x), dtype=x.dtype)

    def tabulate(self, points: Any, derivative: int = 0) -> scipy.sparse.csr_array:
        """Return unit rows, as `values` does, sparse."""
        if derivative:
            self._no_derivative()
        columns = self.numbers(np.asarray(points, dtype=np.float64).reshape(-1))
        return scipy.sparse.csr_array(
            (np.ones(columns.size), columns, np.arange(columns.size + 1)), shape=(columns.size, self.size)
        )

    def spread(self, shares: np.ndarray) -> np.ndarray:
        """Return numbers of degrees of freedom, each as often as its diagonal entry of the mass says."""
        ends = np.cumsum(self.mass.diagonal())
        found = np.searchsorted(ends, np.asarray(shares) * ends[-1], side="right")
        return np.asarray(np.minimum(found, self.size - 1), dtype=np.float64)

    def quadrature(self, exactness: int | None = None) -> Quadrature:
        """Refuse: the matrices are integrated already."""
        msg = f"{self!r} has no quadrature: its matrices are integrated already, name them in the weak form"
        raise TypeError(msg)

    def integrals(self) -> np.ndarray:
        """Return the load of the constant 1, ``loads["unit"]``.

        Raises
        ------
        ValueError
            If it was not given.
        """
        return np.asarray(self.load(None))

    def derivative_basis(self, order: int) -> Basis:
        """Refuse: weak form only."""
        return self if order == 0 else self._no_derivative()

    def product_basis(self, other: Basis) -> Basis:
        """Refuse: products of finite-element functions are none."""
        msg = (
            f"products of functions on {self!r} are no functions on it: multiply in the forms, with matrices of terms="
        )
        raise TypeError(msg)

    def sum_basis(self, other: Basis) -> Basis:
        """Return itself, if the other is equal; TypeError otherwise."""
        if self != other:
            raise mixing_error(other, f"the same axis, {self!r}")
        return self

    def refine(self) -> Basis:
        """Refuse: only the mesh's own library can."""
        msg = f"{self!r} cannot be refined here: refine the mesh, and assemble again"
        raise TypeError(msg)

    def with_zero(self, zero: Zero) -> Basis:
        """Return itself for None; the rest belongs to the mesh: condense Dirichlet dofs out before assembling."""
        if zero is not None:
            msg = f"{self!r} has no ends, `zero` is {zero!r}: take Dirichlet dofs out of the matrices"
            raise ValueError(msg)
        return self

    def parameters(self) -> dict[str, Any]:
        """Refuse: files hold no meshes.

        Raises
        ------
        TypeError
            Always, with the next step.
        """
        msg = (
            f"files do not hold {self!r}: save restrictions, u.restrict(s=...), or the arrays u.factors beside the mesh"
        )
        raise TypeError(msg)

    def interpolate(self, samples: Any) -> np.ndarray:
        """Return the samples: values at the degrees of freedom are the coefficients."""
        values = np.asarray(samples, dtype=np.float64)
        if values.ndim == 0 or values.shape[0] != self.size:
            msg = f"`samples` has shape {values.shape}, expected ({self.size}, ...): one value a degree of freedom"
            raise ValueError(msg)
        return np.ascontiguousarray(values)

    @cached_property
    def _collocation_solver(self) -> Callable[[np.ndarray], np.ndarray]:
        return lambda right: right

    def _no_derivative(self) -> NoReturn:
        msg = (
            f"there are no derivatives along {self!r}: use the weak form with its matrices, "
            "e.g. sn.inner(one, one, s='stiffness')"
        )
        raise ValueError(msg)


@final
class MatrixAxis(Assembled):
    """An axis given by assembled matrices, such as those of a finite-element mesh from any library.

    Functions along it are vectors of coefficients. Forms name its matrices, ``sn.inner(kappa * one, one,
    s="stiffness")``; without a name the mass is meant. Dirichlet degrees of freedom are taken out before.

    Parameters
    ----------
    size : int
        Number n of degrees of freedom.
    mass : sparse matrix or ndarray (n, n)
        The L2 products, symmetric positive definite. Where it is a dense array, so are all matrices kept: for modes.
    terms : mapping of str to sparse matrix or ndarray (n, n), optional
        Further matrices by name, ``A[i, k] = a(phi_k, phi_i)``.
    loads : mapping of str to ndarray (n,), optional
        Load vectors by name; ``"unit"``, that of the constant 1, serves data that do not depend on the axis, and
        integrals over it.
    points : ndarray (n, k), optional
        Where the degrees of freedom are.

    Raises
    ------
    TypeError, ValueError
        If a matrix or vector is of the wrong shape, complex or not finite, or `mass` is not symmetric positive.

    Examples
    --------
    >>> import numpy as np
    >>> import scipy.sparse
    >>> import sepnet as sn
    >>> K = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(9, 9)) * 10
    >>> M = scipy.sparse.diags_array([1 / 6, 4 / 6, 1 / 6], offsets=[-1, 0, 1], shape=(9, 9)) / 10
    >>> line = MatrixAxis(9, mass=M, terms={"stiffness": K}, loads={"unit": np.full(9, 0.1)})
    >>> V = sn.TensorSpace(s=line, kappa=sn.Legendre((1, 2), 8))
    >>> s, kappa = V.coordinates
    >>> a = sn.inner(kappa * V.identity, V.identity, s="stiffness")
    >>> u = sn.solve(sn.Galerkin(a, source=1), tol=1e-6).u
    >>> round(float(u.restrict(kappa=2.0).full()[4]), 6)  # x (1 - x) / 4 at x = 0.5
    0.0625
    """

    def __init__(
        self,
        size: int,
        *,
        mass: Any,
        terms: Mapping[str, Any] | None = None,
        loads: Mapping[str, Any] | None = None,
        points: Any = None,
    ) -> None:
        self._fill(size, mass, {} if terms is None else terms, {} if loads is None else loads, points)


def _digest(axis: Assembled) -> str:
    """Return the digest of all numbers: what makes two axes one."""
    digest = sha256(str(axis.size).encode())
    for name, matrix in sorted(axis.terms.items()):
        digest.update(f"term {name} {axis.kind}".encode())
        parts = (matrix,) if isinstance(matrix, np.ndarray) else (matrix.indptr, matrix.indices, matrix.data)
        for part in parts:
            digest.update(np.ascontiguousarray(part).tobytes())
    for name, vector in sorted(axis.loads.items()):
        digest.update(f"load {name}".encode())
        digest.update(vector.tobytes())
    if axis.points is not None:
        digest.update(b"points" + axis.points.tobytes())
    return digest.hexdigest()

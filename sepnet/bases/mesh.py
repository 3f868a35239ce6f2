"""Finite-element meshes from scikit-fem as one axis of a space."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any, final

import numpy as np
import scipy.sparse

from sepnet.bases.basis import frozen
from sepnet.bases.matrix_axis import MASS, UNIT, Assembled

__all__ = ["Mesh"]


@final
class Mesh(Assembled):
    """A finite-element space of scikit-fem as one axis, assembled here.

    The mass, the stiffness ``int grad u . grad v`` and, for scalar elements, the load ``"unit"`` of the constant 1 are
    there by themselves. Dirichlet degrees of freedom are taken out of everything. Needs scikit-fem,
    ``pip install 'sepnet[fem]'``.

    Parameters
    ----------
    fem : skfem.CellBasis
        Mesh and element, scalar or vector-valued.
    dirichlet : str, sequence of str, or array of int, optional
        Names of boundaries, or numbers of degrees of freedom, where the functions vanish; ``fem.get_dofs(...)`` too.
    terms : mapping of str to form, optional
        Further matrices by name: a ``skfem.BilinearForm``, a pair of it and another basis (``FacetBasis`` for an
        integral over a boundary), or a matrix over all degrees of freedom.
    loads : mapping of str to form, optional
        Load vectors by name: a ``skfem.LinearForm``, a pair of it and another basis, or a vector.
    values : ndarray (N,), optional
        A vector over all degrees of freedom that has the Dirichlet values: the function is ``values + u`` there. For
        every matrix A the load ``"A*values"`` is what it does to them, to be moved to the right-hand side.

    Attributes
    ----------
    fem : skfem.CellBasis
        As given.
    free : ndarray of int (n,)
        The degrees of freedom that are left, as numbers of scikit-fem.
    points : ndarray (n, k)
        Their places.
    held : ndarray (N,) or None
        The Dirichlet values, zero elsewhere.

    Raises
    ------
    ImportError
        If scikit-fem is not installed.
    TypeError, ValueError
        If a form is none, or there is no such boundary.

    Examples
    --------
    >>> import skfem
    >>> import sepnet as sn
    >>> grid = skfem.MeshTri().refined(3).with_boundaries({"wall": lambda x: x[0] == 0})
    >>> plate = Mesh(skfem.Basis(grid, skfem.ElementTriP1()), dirichlet="wall")
    >>> plate
    Mesh(72, terms stiffness; loads unit)
    >>> V = sn.TensorSpace(s=plate, kappa=sn.Legendre((1, 2), 8))
    >>> s, kappa = V.coordinates
    >>> a = sn.inner(kappa * V.identity, V.identity, s="stiffness")
    >>> u = sn.solve(sn.Galerkin(a, source=1), tol=1e-6).u
    >>> (plate.probes([[1.0, 0.5]]) @ u.restrict(kappa=2.0).full()).round(4)  # (x - x**2 / 2) / kappa
    array([0.25])
    """

    fem: Any
    free: np.ndarray
    held: np.ndarray | None

    def __init__(
        self,
        fem: Any,
        *,
        dirichlet: Any = None,
        terms: Mapping[str, Any] | None = None,
        loads: Mapping[str, Any] | None = None,
        values: Any = None,
    ) -> None:
        skfem = _skfem()
        if not isinstance(fem, skfem.CellBasis):
            msg = f"`fem` is {type(fem).__name__}, expected a basis of scikit-fem: skfem.Basis(mesh, element)"
            raise TypeError(msg)
        free = np.setdiff1d(np.arange(fem.N), _dofs(fem, dirichlet))
        if free.size == 0:
            msg = "`dirichlet` holds all degrees of freedom, expected some to be left: refine the mesh"
            raise ValueError(msg)
        for what, given in (("terms", terms), ("loads", loads)):
            if not isinstance(given, Mapping | None):
                msg = f"`{what}` is {type(given).__name__}, expected a mapping of names to forms, e.g. {{'film': form}}"
                raise TypeError(msg)
        matrices = {MASS: _mass(skfem), "stiffness": _stiffness(skfem)} | dict(terms or {})
        assembled = {name: _assembled(f"terms[{name!r}]", skfem.BilinearForm, f, fem) for name, f in matrices.items()}
        vectors = ({UNIT: _unit(skfem)} if _is_scalar(fem) else {}) | dict(loads or {})
        right = {name: _assembled(f"loads[{name!r}]", skfem.LinearForm, f, fem)[free] for name, f in vectors.items()}
        if values is not None:
            values = np.array(values, dtype=np.float64)
            if values.shape != (fem.N,):
                msg = f"`values` has shape {values.shape}, expected ({fem.N},): one value for each dof of the basis"
                raise ValueError(msg)
            if not np.isfinite(values).all():
                msg = (
                    "`values` has entries that are not finite, expected the Dirichlet values, and any number elsewhere"
                )
                raise ValueError(msg)
            values[free] = 0.0
            right |= {f"{name}*values": np.asarray(matrix @ values)[free] for name, matrix in assembled.items()}
        cut = {name: scipy.sparse.csr_array(matrix[free][:, free]) for name, matrix in assembled.items()}
        self._fill(free.size, cut.pop(MASS), cut, right, np.asarray(fem.doflocs[:, free].T))
        self._set(fem=fem, free=frozen(free), held=None if values is None else frozen(values))

    def expand(self, vector: Any) -> np.ndarray:
        """Return a function on the mesh over all degrees of freedom of scikit-fem, Dirichlet values included.

        Parameters
        ----------
        vector : ndarray (n,) or (n, k)
            Coefficients on the axis, such as ``u.restrict(t=1.0).full()``.

        Returns
        -------
        ndarray (N,) or (N, k)
        """
        given = self._vectors(vector)
        whole = np.zeros((self.fem.N, *given.shape[1:]))
        if self.held is not None:
            whole += self.held.reshape(-1, *(1,) * (given.ndim - 1))
        whole[self.free] = given
        return whole

    def probes(self, points: Any) -> scipy.sparse.csr_array:
        """Return the matrix that interpolates functions on the axis at points, without Dirichlet values.

        Parameters
        ----------
        points : array_like (m, dim)
            Physical points in the mesh.

        Returns
        -------
        csr_array (m, n)
            Vector-valued elements: (components * m, n), all points of the first component first.

        Raises
        ------
        ValueError
            If a point lies outside the mesh.
        """
        return scipy.sparse.csr_array(self._probes(points)[:, self.free])

    def evaluate(self, vector: Any, points: Any) -> np.ndarray:
        """Return the values of a function on the mesh at points, Dirichlet values included.

        Parameters
        ----------
        vector : ndarray (n,)
            Coefficients on the axis.
        points : array_like (m, dim)
            Physical points in the mesh.

        Returns
        -------
        ndarray (m,), or (m, components) for vector-valued elements

        Raises
        ------
        ValueError
            If a point lies outside the mesh.
        """
        probes = self._probes(points)
        values = np.asarray(probes @ self.expand(vector))
        return values if _is_scalar(self.fem) else values.reshape(-1, len(np.atleast_2d(points))).T

    def project(self, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Return the L2 projection of a function of the place, less its Dirichlet values, onto the axis.

        Parameters
        ----------
        function : callable
            Takes places (dim, ...) and returns values (...); vector-valued elements: (components, ...).

        Returns
        -------
        ndarray (n,)
        """
        if not callable(function):
            msg = f"`function` is {type(function).__name__}, expected a callable of places: lambda x: x[0]"
            raise TypeError(msg)
        skfem, helpers = _skfem(), import_module("skfem.helpers")

        def load(v: Any, w: Any) -> Any:
            data = function(np.asarray(w.x))
            return data * v if _is_scalar(self.fem) else helpers.dot(data, v)

        right = np.asarray(skfem.LinearForm(load).assemble(self.fem))[self.free]
        return self.represent(right - (self.load("mass*values") if self.held is not None else 0.0))

    def _probes(self, points: Any) -> scipy.sparse.csr_array:
        places = np.array(points, dtype=np.float64, ndmin=2)
        dim = self.fem.mesh.dim()
        if places.ndim != 2 or places.shape[1] != dim or not np.isfinite(places).all():
            msg = f"`points` has shape {places.shape}, expected (m, {dim}) finite numbers: one row a point"
            raise ValueError(msg)
        try:
            found = self.fem.probes(np.ascontiguousarray(places.T))
        except (ValueError, IndexError, NotImplementedError) as error:
            msg = f"a point lies outside the mesh, or scikit-fem does not find its cell ({error}): give points inside"
            raise ValueError(msg) from error
        return scipy.sparse.csr_array(found)

    def _vectors(self, vector: Any) -> np.ndarray:
        given = np.asarray(vector, dtype=np.float64)
        if given.ndim not in (1, 2) or given.shape[0] != self.size:
            msg = f"`vector` has shape {given.shape}, expected ({self.size},): coefficients on the axis, u.full()"
            raise ValueError(msg)
        return given


def _skfem() -> Any:
    try:
        return import_module("skfem")
    except ImportError as error:
        msg = "sn.Mesh needs scikit-fem: pip install 'sepnet[fem]'"
        raise ImportError(msg) from error


def _is_scalar(fem: Any) -> bool:
    return len(fem._base_tensor_order) == 0 if hasattr(fem, "_base_tensor_order") else True


def _mass(skfem: Any) -> Any:
    def form(u: Any, v: Any, _: Any) -> Any:
        product = np.asarray(u) * np.asarray(v)
        return product.sum(axis=tuple(range(product.ndim - 2)))

    return skfem.BilinearForm(form)


def _stiffness(skfem: Any) -> Any:
    def form(u: Any, v: Any, _: Any) -> Any:
        if u.grad is None:
            msg = (
                "`fem` has an element without gradients, expected one with values and gradients, such as ElementTriP1: "
                "assemble the matrices of others yourself, and give them to sn.MatrixAxis"
            )
            raise TypeError(msg)
        product = np.asarray(u.grad) * np.asarray(v.grad)
        return product.sum(axis=tuple(range(product.ndim - 2)))

    return skfem.BilinearForm(form)


def _unit(skfem: Any) -> Any:
    return skfem.LinearForm(lambda v, _: 1.0 * v)


def _dofs(fem: Any, given: Any) -> np.ndarray:
    """Return numbers of degrees of freedom from boundary names, numbers, or what `get_dofs` returns."""
    if given is None:
        return np.zeros(0, dtype=np.int64)
    if isinstance(given, str):
        given = [given]
    if hasattr(given, "flatten") and not isinstance(given, np.ndarray):
        given = given.flatten()
    if isinstance(given, Iterable) and not isinstance(given, np.ndarray):
        names = list(given)
        if names and all(isinstance(name, str) for name in names):
            known = fem.mesh.boundaries or {}
            missing = [name for name in names if name not in known]
            if missing:
                msg = (
                    f"`dirichlet` names the boundary {missing[0]!r}, expected one of {', '.join(known) or 'none'}: "
                    "name it with mesh.with_boundaries({name: lambda x: ...})"
                )
                raise ValueError(msg)
            return np.concatenate([np.asarray(fem.get_dofs(name).flatten()) for name in names])
        if any(hasattr(name, "flatten") for name in names):
            return np.concatenate([_dofs(fem, name) for name in names])
        given = np.asarray(names)
    numbers = np.asarray(given)
    if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
        msg = f"`dirichlet` is {type(given).__name__}, expected names of boundaries or numbers of degrees of freedom"
        raise TypeError(msg)
    if numbers.size and not (numbers.min() >= 0 and numbers.max() < fem.N):
        msg = f"`dirichlet` has numbers from {numbers.min()} to {numbers.max()}, expected 0 to {fem.N - 1}"
        raise ValueError(msg)
    return numbers.astype(np.int64)


def _assembled(what: str, kind: Any, given: Any, fem: Any) -> Any:
    """Return the matrix or vector of a form over all degrees of freedom."""
    form, basis = given if isinstance(given, tuple) and len(given) == 2 else (given, fem)
    if isinstance(form, kind):
        if basis.N != fem.N:
            msg = f"`{what}` is given on a basis of {basis.N} dofs, expected one of the same element and mesh, {fem.N}"
            raise ValueError(msg)
        form = form.assemble(basis)
    matrix = kind.__name__ == "BilinearForm"
    size = int(fem.N)
    shape = (size, size) if matrix else (size,)
    if getattr(form, "shape", None) != shape:
        found = getattr(form, "shape", type(form).__name__)
        msg = (
            f"`{what}` is {found}, expected a skfem.{kind.__name__}, a pair of it and a basis, or an array of shape "
            f"{shape}"
        )
        raise TypeError(msg)
    return scipy.sparse.csr_array(form) if matrix else np.asarray(form)

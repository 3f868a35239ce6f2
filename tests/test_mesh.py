"""Finite-element meshes as axes, against scikit-fem's own solutions."""

import sys

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse.linalg

import sepnet as sn
from sepnet.bases.mesh import Mesh

skfem = pytest.importorskip("skfem")
from skfem.helpers import ddot, div, dot, grad, sym_grad  # noqa: E402


def lshape(refinements, element=None):
    """An L-shape with a cold wall on top and a film on the left."""
    grid = skfem.MeshTri.init_lshaped().refined(refinements)
    walls = {"cold": lambda x: np.isclose(x[1], 1.0), "film": lambda x: np.isclose(x[0], -1.0)}
    return skfem.Basis(grid.with_boundaries(walls), skfem.ElementTriP1() if element is None else element)


def heated(refinements, **options):
    fem = lshape(refinements)
    wall = skfem.FacetBasis(fem.mesh, fem.elem, facets="film")
    film = skfem.BilinearForm(lambda u, v, _: u * v)
    return Mesh(fem, dirichlet="cold", terms={"film": (film, wall)}, **options)


def relative(mesh, u, v, name="mass"):
    A = mesh.terms[name]
    return np.sqrt((u - v) @ (A @ (u - v)) / (v @ (A @ v)))


# ------------------------------------------------------------------------------------------------------------- heat


@pytest.mark.parametrize("options", [{}, {"format": "tt"}, {"method": "als"}], ids=["products", "train", "als"])
def test_stationary_heat(options):
    """Conductivity and film coefficient as axes: equal to scikit-fem at any of them, to the solver's tolerance."""
    mesh = heated(3)
    V = sn.TensorSpace(s=mesh, kappa=sn.Legendre((1, 4), 14), h=sn.Legendre((0.5, 2), 8))
    _, kappa, h = V.coordinates
    one = V.identity
    a = sn.inner(kappa * one, one, s="stiffness") + sn.inner(h * one, one, s="film")
    solution = sn.solve(sn.Galerkin(a, source=1), tol=1e-6, **options)
    assert solution.converged
    fem = mesh.fem
    facets = skfem.FacetBasis(fem.mesh, fem.elem, facets="film")
    K = skfem.BilinearForm(lambda u, v, _: dot(grad(u), grad(v))).assemble(fem)
    B = skfem.BilinearForm(lambda u, v, _: u * v).assemble(facets)
    f = skfem.LinearForm(lambda v, _: 1.0 * v).assemble(fem)
    for at in ({"kappa": 1.0, "h": 0.5}, {"kappa": 4.0, "h": 2.0}, {"kappa": 2.3, "h": 1.1}, {"kappa": 1.0, "h": 2.0}):
        A = at["kappa"] * K + at["h"] * B
        exact = skfem.solve(*skfem.condense(A, f, D=fem.get_dofs("cold")))
        found = mesh.expand(solution.u.restrict(**at).full())
        # The polynomials in kappa are exact to about 3**-15 = 7e-8 at the ends; the tolerance does the rest.
        assert np.abs(found - exact).max() <= 1e-5 * np.abs(exact).max()


def test_degrees_of_parameters_converge_spectrally():
    mesh = heated(2)
    errors = []
    for degree in (4, 8, 12):
        V = sn.TensorSpace(s=mesh, kappa=sn.Legendre((1, 4), degree))
        one = V.identity
        a = sn.inner(V.coordinates[1] * one, one, s="stiffness") + sn.inner(one, one, s="film")
        u = sn.solve(sn.Galerkin(a, source=1), tol=1e-10, format="tt").u
        exact = scipy.sparse.linalg.spsolve((mesh.terms["stiffness"] + mesh.terms["film"]).tocsc(), mesh.loads["unit"])
        errors.append(relative(mesh, u.restrict(kappa=1.0).full(), exact))
    # 1 / kappa on (1, 4): a factor 3 a degree; at least 10 for two.
    assert errors[1] <= errors[0] / 10
    assert errors[2] <= errors[1] / 10
    assert errors[2] <= 1e-4


def crank_nicolson(mesh, kappa, h, steps):
    """Heat from zero with the source sin(pi t) up to t = 1; second order."""
    A, M = kappa * mesh.terms["stiffness"] + h * mesh.terms["film"], mesh.terms["mass"]
    dt = 1.0 / steps
    lu = scipy.sparse.linalg.splu((M + dt / 2 * A).tocsc())
    u = np.zeros(mesh.size)
    for k in range(steps):
        load = (np.sin(np.pi * k * dt) + np.sin(np.pi * (k + 1) * dt)) / 2
        u = lu.solve(M @ u - dt / 2 * (A @ u) + dt * load * mesh.loads["unit"])
    return u


def test_heat_in_time():
    """Time, conductivity and film coefficient as axes, against Crank and Nicolson's method, extrapolated."""
    mesh = heated(2)
    V = sn.TensorSpace(s=mesh, t=sn.BSpline((0, 1), cells=12), kappa=sn.Legendre((1, 3), 9), h=sn.Legendre((0.5, 2), 5))
    _, t, kappa, h = V.coordinates
    d, one = V.d, V.identity
    a = sn.inner(d.t, one) + sn.inner(kappa * one, one, s="stiffness") + sn.inner(h * one, one, s="film")
    f = sn.load_on(sn.apply(lambda t: np.sin(np.pi * t), t), one, s="unit")
    solution = sn.solve(sn.Galerkin(a, source=f, initial={"t": 0}), tol=1e-5, format="tt")
    assert solution.converged
    for at in ({"kappa": 1.0, "h": 0.5}, {"kappa": 3.0, "h": 2.0}, {"kappa": 1.7, "h": 1.2}):
        coarse, fine = (crank_nicolson(mesh, **at, steps=n) for n in (200, 400))
        reference = fine + (fine - coarse) / 3
        # The reference changes by less than what is allowed: it is not what is measured.
        assert relative(mesh, fine, reference) <= 2e-5
        # Cubic splines in 12 cells, polynomials of degree 9 in kappa (a factor 3.7 a degree).
        assert relative(mesh, solution.u.restrict(t=1.0, **at).full(), reference) <= 2e-4


def test_second_order_in_the_mesh():
    """Linear elements: the L2 error against the exact solution falls as h**2, with a parameter as axis."""
    errors = []
    for refinements in (2, 3, 4, 5):
        fem = skfem.Basis(skfem.MeshTri().refined(refinements), skfem.ElementTriP1())

        def wave(x):
            return np.sin(np.pi * x[0]) * np.sin(np.pi * x[1])

        load = skfem.LinearForm(lambda v, w: 2 * np.pi**2 * wave(w.x) * v)
        mesh = Mesh(fem, dirichlet=fem.get_dofs(), loads={"wave": load})
        V = sn.TensorSpace(s=mesh, kappa=sn.Legendre((1, 2), 10))
        one = V.identity
        a = sn.inner(V.coordinates[1] * one, one, s="stiffness")
        u = sn.solve(sn.Galerkin(a, source=sn.load_on(1, one, s="wave")), tol=1e-8).u
        values = fem.interpolate(mesh.expand(u.restrict(kappa=2.0).full()))
        square = skfem.Functional(lambda w: (w.u - wave(w.x) / 2) ** 2).assemble(fem, u=values)
        errors.append(np.sqrt(square))
    slopes = np.log2(np.array(errors[:-1]) / errors[1:])
    assert slopes[-1] >= 1.9
    assert errors[-1] <= 1e-3


# --------------------------------------------------------------------------------------------------------- elasticity


def test_linear_elasticity():
    """Lame's parameters as axes of a vector-valued space, against scikit-fem."""
    fem = lshape(2, skfem.ElementVector(skfem.ElementTriP2()))
    pulled = skfem.FacetBasis(fem.mesh, fem.elem, facets="film")
    shear = skfem.BilinearForm(lambda u, v, _: 2 * ddot(sym_grad(u), sym_grad(v)))
    volume = skfem.BilinearForm(lambda u, v, _: div(u) * div(v))
    pull = skfem.LinearForm(lambda v, _: -v[1])
    body = Mesh(fem, dirichlet="cold", terms={"shear": shear, "div": volume}, loads={"pull": (pull, pulled)})
    V = sn.TensorSpace(s=body, lam=sn.Legendre((1, 4), 14), mu=sn.Legendre((1, 3), 14))
    _, lam, mu = V.coordinates
    one = V.identity
    a = sn.inner(lam * one, one, s="div") + sn.inner(mu * one, one, s="shear")
    solution = sn.solve(sn.Galerkin(a, source=sn.load_on(1, one, s="pull")), tol=1e-7, format="tt")
    assert solution.converged
    D = fem.get_dofs("cold")
    f = pull.assemble(pulled)
    for values in ((1.0, 1.0), (4.0, 1.0), (1.0, 3.0), (2.2, 1.7)):
        A = values[0] * volume.assemble(fem) + values[1] * shear.assemble(fem)
        exact = skfem.solve(*skfem.condense(A, f, D=D))
        found = solution.u.restrict(lam=values[0], mu=values[1]).full()
        # Polynomials of degree 14: 3**-15 = 7e-8 in lambda, 3.7**-15 in mu.
        assert np.abs(body.expand(found) - exact).max() <= 1e-5 * np.abs(exact).max()
        places = np.array([[-0.5, 0.25], [0.25, -0.5]])
        np.testing.assert_allclose(body.evaluate(found, places), fem.interpolator(body.expand(found))(places.T).T)
        np.testing.assert_allclose((body.probes(places) @ found).reshape(2, 2).T, body.evaluate(found, places))
    assert "unit" not in body.loads


# --------------------------------------------------------------------------------------------------------------- mesh


def test_inhomogeneous_dirichlet_values():
    """The lifted values as data: the load "stiffness*values" is what they do."""
    fem = lshape(2)
    values = np.random.default_rng(0).random(fem.N)  # what is not held does not matter
    cold = fem.get_dofs("cold").flatten()
    values[cold] = 1 + fem.doflocs[0, cold]
    mesh = Mesh(fem, dirichlet=cold, values=values)
    V = sn.TensorSpace(s=mesh, kappa=sn.Legendre((1, 2), 14))
    _, kappa = V.coordinates
    one = V.identity
    a = sn.inner(kappa * one, one, s="stiffness")
    f = sn.load_on(1, one) - sn.load_on(kappa, one, s="stiffness*values")
    u = sn.solve(sn.Galerkin(a, source=f), tol=1e-8).u
    K = skfem.BilinearForm(lambda u, v, _: dot(grad(u), grad(v))).assemble(fem)
    held = np.where(np.isin(np.arange(fem.N), cold), values, 0.0)
    exact = skfem.solve(*skfem.condense(1.5 * K, mesh_load(fem), x=held, D=cold))
    found = u.restrict(kappa=1.5).full()
    np.testing.assert_allclose(mesh.expand(found), exact, atol=1e-7)
    places = [[-0.9, 0.99], [0.5, -0.5]]
    np.testing.assert_allclose(mesh.evaluate(found, places), fem.interpolator(exact)(np.array(places).T), atol=1e-7)
    # The projection of the solution's own values is the solution.
    again = mesh.project(lambda x: fem.interpolator(exact)(x.reshape(2, -1)).reshape(x.shape[1:]))
    np.testing.assert_allclose(again, found, atol=1e-7)


def mesh_load(fem):
    return skfem.LinearForm(lambda v, _: 1.0 * v).assemble(fem)


def test_more_products_than_the_solution_needs():
    """Constant in time, from a start of rank four: the weights of three terms are singular up to round-off."""
    grid = skfem.MeshTri().refined(4).with_boundaries({"left": lambda x: x[0] == 0, "right": lambda x: x[0] == 1})
    fem = skfem.Basis(grid, skfem.ElementTriP1())
    film = skfem.BilinearForm(lambda u, v, _: u * v), skfem.FacetBasis(grid, fem.elem, facets="right")
    mesh = Mesh(fem, dirichlet="left", terms={"film": film})
    V = sn.TensorSpace(s=mesh, t=sn.BSpline((0, 1), cells=8), h=sn.Legendre((0.5, 2), 5))
    one, h = V.identity, V.coordinates[2]
    a = sn.inner(one, one, s="stiffness") + sn.inner(h * one, one, s="film") + sn.inner(V.d.t, V.d.t)
    assert sn.solve(sn.Galerkin(a, source=1), method="als", tol=1e-3).converged


def test_convection():
    # With functions from the symmetric part of the form alone, rounds came to a standstill at 2e-4.
    grid = skfem.MeshTri().refined(4).with_boundaries({"inflow": lambda x: x[0] == 0})
    fem = skfem.Basis(grid, skfem.ElementTriP1())
    wind = skfem.BilinearForm(lambda u, v, _: grad(u)[0] * v)
    mesh = Mesh(fem, dirichlet="inflow", terms={"wind": wind})
    V = sn.TensorSpace(s=mesh, speed=sn.Legendre((15, 60), 14))
    one, speed = V.identity, V.coordinates[1]
    a = sn.inner(speed * one, one, s="wind") + sn.inner(0.02 * one, one, s="stiffness")
    solution = sn.solve(sn.Galerkin(a, source=1), tol=1e-5)
    assert solution.converged
    stiffness = skfem.BilinearForm(lambda u, v, _: dot(grad(u), grad(v))).assemble(fem)
    matrix = 30 * wind.assemble(fem) + 0.02 * stiffness
    direct = skfem.solve(*skfem.condense(matrix, mesh_load(fem), D=fem.get_dofs("inflow")))
    found = mesh.expand(solution.u.restrict(speed=30.0).full())
    # The residual is in the norm of the diffusion, a thousand times weaker than the wind.
    np.testing.assert_allclose(found, direct, atol=1e-2 * np.abs(direct).max())


def test_initial_values_on_the_mesh():
    """Heat from the lowest eigenfunction decays with its eigenvalue, times the conductivity."""
    mesh = heated(2)
    K, M = mesh.terms["stiffness"].toarray(), mesh.terms["mass"].toarray()
    (value,), (vector,) = (a.T for a in scipy.linalg.eigh(K, M, subset_by_index=[0, 0]))
    V = sn.TensorSpace(s=mesh, t=sn.BSpline((0, 0.5), cells=10), kappa=sn.Legendre((1, 2), 6))
    _, _, kappa = V.coordinates
    one = V.identity
    a = sn.inner(V.d.t, one) + sn.inner(kappa * one, one, s="stiffness")
    start = sn.CP(sn.TensorSpace(s=mesh), [vector[:, None]])
    u = sn.solve(sn.Galerkin(a, initial={"t": start}), tol=1e-6, format="tt").u
    for kappa_, t in ((1.0, 0.5), (2.0, 0.25), (1.3, 0.4)):
        found = u.restrict(t=t, kappa=kappa_).full()
        assert relative(mesh, found, np.exp(-kappa_ * value * t) * vector) <= 1e-5


def test_what_is_assembled():
    fem = lshape(1)
    mesh = heated(1)
    free = mesh.free
    mass = skfem.BilinearForm(lambda u, v, _: u * v).assemble(fem)[free][:, free]
    np.testing.assert_allclose(mesh.mass.toarray(), mass.toarray(), atol=1e-15)
    np.testing.assert_allclose(mesh.points, fem.doflocs[:, free].T)
    np.testing.assert_allclose(mesh.integrals(), mesh_load(fem)[free])
    whole = Mesh(
        fem, terms={"given": skfem.BilinearForm(lambda u, v, _: u * v).assemble(fem)}, loads={"f": np.ones(fem.N)}
    )
    assert whole.size == fem.N
    assert whole.has_constants
    assert not mesh.has_constants
    np.testing.assert_allclose(whole.terms["given"].toarray(), whole.mass.toarray(), atol=1e-15)
    # Degrees of freedom by names, numbers, or what scikit-fem returns.
    for same in (["cold"], fem.get_dofs("cold"), fem.get_dofs("cold").flatten(), [fem.get_dofs("cold")]):
        assert Mesh(fem, dirichlet=same).size == mesh.size
    vector = Mesh(lshape(1, skfem.ElementVector(skfem.ElementTriP1())))
    by_hand = skfem.BilinearForm(lambda u, v, _: dot(u, v)).assemble(vector.fem)
    np.testing.assert_allclose(vector.mass.toarray(), by_hand.toarray(), atol=1e-15)
    stiff = skfem.BilinearForm(lambda u, v, _: ddot(grad(u), grad(v))).assemble(vector.fem)
    np.testing.assert_allclose(vector.terms["stiffness"].toarray(), stiff.toarray(), atol=1e-14)


@pytest.mark.parametrize(
    ("action", "error", "message"),
    [
        (lambda fem: Mesh(fem.mesh), TypeError, "expected a basis of scikit-fem"),
        (lambda fem: Mesh(fem, dirichlet="hot"), ValueError, "'hot', expected one of cold, film"),
        (lambda fem: Mesh(skfem.Basis(fem.mesh, skfem.ElementTriRT0())), TypeError, "sn.MatrixAxis"),
        (lambda fem: Mesh(fem, dirichlet=[0.5]), TypeError, "`dirichlet`"),
        (lambda fem: Mesh(fem, dirichlet=[10**6]), ValueError, "expected 0 to"),
        (lambda fem: Mesh(fem, dirichlet=np.arange(fem.N)), ValueError, "some to be left"),
        (lambda fem: Mesh(fem, terms={"k": 3}), TypeError, r"`terms\['k'\]` is int"),
        (lambda fem: Mesh(fem, terms=[3]), TypeError, "`terms` is list, expected a mapping"),
        (lambda fem: Mesh(fem, values=np.full(fem.N, np.nan)), ValueError, "`values` has entries"),
        (lambda fem: Mesh(fem).project(3), TypeError, "`function` is int"),
        (lambda fem: Mesh(fem, loads={"f": np.ones(2)}), TypeError, r"`loads\['f'\]` is \(2,\)"),
        (lambda fem: Mesh(fem, values=np.ones(2)), ValueError, "`values` has shape"),
        (lambda fem: Mesh(fem).probes([[0.5, 0.5, 0.5]]), ValueError, r"expected \(m, 2\)"),
        (lambda fem: Mesh(fem).probes([[0.0, 5.0]]), ValueError, "outside the mesh"),
        (lambda fem: Mesh(fem).expand(np.ones(2)), ValueError, "`vector` has shape"),
    ],
)
def test_bad_meshes_are_refused(action, error, message):
    with pytest.raises(error, match=message):
        action(lshape(1))


def test_scikit_fem_is_asked_for_when_needed(monkeypatch):
    monkeypatch.setitem(sys.modules, "skfem", None)
    with pytest.raises(ImportError, match=r"pip install 'sepnet\[fem\]'"):
        Mesh(None)

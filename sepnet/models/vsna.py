"""The problem gallery: differential equations with known answers, solved as separable architectures.

Every factory returns a `GalleryProblem`: the problem, a reference, and the error of that reference. All constants are
keyword arguments.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from sepnet.models.gallery_conditions import interface, periodic_heat, robin
from sepnet.models.gallery_laser import laser
from sepnet.models.gallery_maps import plume_corotating, ring
from sepnet.models.gallery_mesh import heat_mesh
from sepnet.models.gallery_nonlinear import allen_cahn, burgers, burgers_inviscid, burgers_nu, reaction_diffusion
from sepnet.models.gallery_poisson import poisson_1, poisson_kan, poisson_peak
from sepnet.models.gallery_problem import GalleryProblem
from sepnet.models.gallery_transport import advection_diffusion, heat

__all__ = [
    "GALLERY",
    "GalleryProblem",
    "advection_diffusion",
    "allen_cahn",
    "burgers",
    "burgers_inviscid",
    "burgers_nu",
    "constants",
    "heat",
    "heat_mesh",
    "interface",
    "laser",
    "make",
    "periodic_heat",
    "plume_corotating",
    "poisson_1",
    "poisson_kan",
    "poisson_peak",
    "reaction_diffusion",
    "ring",
    "robin",
]

GALLERY: Mapping[str, Callable[..., GalleryProblem]] = MappingProxyType(
    {
        "poisson-kan": poisson_kan,
        "poisson-peak": poisson_peak,
        "poisson-1": poisson_1,
        "heat": heat,
        "advection-diffusion": advection_diffusion,
        "plume-corotating": plume_corotating,
        "ring": ring,
        "robin": robin,
        "periodic-heat": periodic_heat,
        "interface": interface,
        "burgers": burgers,
        "burgers-nu": burgers_nu,
        "burgers-inviscid": burgers_inviscid,
        "allen-cahn": allen_cahn,
        "reaction-diffusion": reaction_diffusion,
        "laser": laser,
        "heat-mesh": heat_mesh,
    }
)


def constants(name: str) -> tuple[str, ...]:
    """Return the names of the constants that a problem of the gallery takes.

    Parameters
    ----------
    name : str
        A name in `GALLERY`.

    Returns
    -------
    tuple of str

    Raises
    ------
    ValueError
        If there is no such problem.

    Examples
    --------
    >>> constants("heat")
    ('cells', 'degree', 't', 'kappa', 'amplitudes', 'rank')
    """
    return tuple(inspect.signature(_factory(name)).parameters)


def make(name: str, **values: Any) -> GalleryProblem:
    """Return a problem of the gallery by its name.

    Parameters
    ----------
    name : str
        A name in `GALLERY`.
    **values
        Its constants; the factory's documentation lists them.

    Returns
    -------
    GalleryProblem

    Raises
    ------
    ValueError
        If there is no such problem or constant, or a constant is out of its range.

    Examples
    --------
    >>> make("poisson-1", d=3).space.names
    ('x1', 'x2', 'x3')
    """
    factory = _factory(name)
    unknown = [key for key in values if key not in constants(name)]
    if unknown:
        msg = f"{name} has no constant {unknown[0]!r}, expected one of {', '.join(constants(name))}"
        raise ValueError(msg)
    return factory(**values)


def _factory(name: str) -> Callable[..., GalleryProblem]:
    if name not in GALLERY:
        msg = f"`name` is {name!r}, expected one of {', '.join(GALLERY)}"
        raise ValueError(msg)
    return GALLERY[name]

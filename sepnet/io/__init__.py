"""Functions for other programs: files that ParaView opens."""

from sepnet.io.vtk import write_vtk

__all__ = ["write_vtk"]

"""The version, in one place: read by the build without an import, and by `sepnet` without package metadata."""

__all__ = ["__version__"]

__version__ = "0.1.0"

"""Functions that do not separate, as sums of products: cross approximation, refinement, measured errors."""

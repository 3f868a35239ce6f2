"""How problems are solved: assembly into one-dimensional matrices, alternating least squares, direct solution."""

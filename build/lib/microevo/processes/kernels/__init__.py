"""Compiled loops over modes and cells, one file for each solver that needs them; Numba is imported with the first."""

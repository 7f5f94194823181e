"""Integrators in time. They know nothing of the physics: they are given functions, symbols and numbers."""

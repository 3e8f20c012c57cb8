"""A compact air-shower simulation, as a ctapipe event source.

Importing this package imports no numba.
"""

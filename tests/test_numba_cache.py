"""Compiled functions are kept where that is possible."""

import subprocess
import sys

from numba import njit
from numba.core import caching

from ctapipe_gammaphysnet.numba_cache import keep_compiled


def double(x):
    """Some function."""
    return 2 * x


def test_what_is_compiled_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("numba.core.config.CACHE_DIR", str(tmp_path))
    assert keep_compiled(njit(double))(3) == 6
    assert list(tmp_path.rglob("*.nbi"))


def test_compiles_where_nothing_can_be_kept(monkeypatch):
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    assert keep_compiled(njit(double))(3) == 6


def test_the_package_needs_no_place_to_keep_anything():
    code = """
from numba.core import caching
caching.CacheImpl._locator_classes = []
from ctapipe_gammaphysnet.network import kernels
from ctapipe_gammaphysnet.simulation import cascade
"""
    subprocess.run([sys.executable, "-c", code], check=True)

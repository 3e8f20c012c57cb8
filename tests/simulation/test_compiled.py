import os
import shutil
import subprocess
import sys
from pathlib import Path

import ctapipe_gammaphysnet

PROGRAM = """
from ctapipe_gammaphysnet.simulation import hadrons
table = hadrons.load_hadron_table()
print(hadrons.mean_free_path(table, 12, 1000.0))
print(sum(hadrons.mean_free_path.stats.cache_hits.values()))
"""


def run(directory):
    """Mean free path in a process of its own, and whether it was compiled before."""
    environment = os.environ | {"PYTHONPATH": str(directory)}
    environment.pop("NUMBA_CACHE_DIR", None)
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        cwd=directory,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    value, hits = result.stdout.split()
    return float(value), int(hits)


def test_compiled_code_is_kept_until_another_file_changes(tmp_path):
    source = Path(ctapipe_gammaphysnet.__file__).parent
    copy = tmp_path / source.name
    ignored = shutil.ignore_patterns("__pycache__", "resources")
    shutil.copytree(source, copy, ignore=ignored)
    before, hits = run(tmp_path)
    assert hits == 0
    assert run(tmp_path) == (before, 1)
    atmosphere = copy / "simulation" / "atmosphere.py"
    text = atmosphere.read_text()
    assert "MEAN_MASS_NUMBER = 14.547" in text
    atmosphere.write_text(text.replace("= 14.547", "= 29.094"))
    after, hits = run(tmp_path)
    assert hits == 0
    assert after == 2 * before

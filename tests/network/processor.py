"""What the operating system, not the code under test, says of the processor."""

from pathlib import Path

import pytest

_CPUINFO = Path("/proc/cpuinfo")
#: Its features; None if the system does not tell.
FLAGS = {*_CPUINFO.read_text().split()} if _CPUINFO.exists() else None

needs_bfloat16 = pytest.mark.skipif(
    "avx512_bf16" not in (FLAGS or ()), reason="the processor has no units for bfloat16"
)

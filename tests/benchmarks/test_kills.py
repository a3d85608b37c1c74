"""A run that is killed at any call to the file system shows in the end what an undisturbed one shows."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "kills.py"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("arguments", [("--after-training",), ("--every", "9"), ("--signals", "21")])
def test_a_killed_run_shows_what_an_undisturbed_one_shows(arguments: tuple[str, ...]) -> None:
    ran = subprocess.run([sys.executable, str(PROGRAM), *arguments], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    counts = json.loads(ran.stdout.splitlines()[-1])
    assert counts["different"] == [], ran.stdout
    assert counts["killed"] >= 12

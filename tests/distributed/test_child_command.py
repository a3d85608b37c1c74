"""A process of a command ends with the one that started it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from resnet_keras.distributed.child_command import ending_with_parent

PARENT = """
import signal, subprocess, sys
from resnet_keras.distributed.child_command import ending_with_parent
child = subprocess.Popen(ending_with_parent(["sleep", "60"], signal.SIGTERM))
print(child.pid, flush=True)
child.wait()
"""


def test_a_command_runs_with_its_arguments_and_status() -> None:
    code = "import sys; print(sys.argv[1:]); sys.exit(7)"
    command = ending_with_parent([sys.executable, "-c", code, "a b", "-x"], signal.SIGKILL)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("['a b', '-x']\n", 7)


@pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")
def test_a_killed_process_leaves_no_child() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        for _ in range(200):  # until the child has become the command
            if Path(f"/proc/{child}/cmdline").read_bytes().startswith(b"sleep"):
                break
            time.sleep(0.05)
        parent.kill()
    for _ in range(200):
        try:
            state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":  # nobody reads the status of an orphan in a container
            return
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the child lives")

"""Scripts that need two devices, run by one process whose CPU is divided in two."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

_PROCESS = """
import contextlib, io, json, sys, traceback
import keras
from resnet_keras.distributed.strategy import create_strategy

create_strategy(2)
answers = sys.stdout
for line in sys.stdin:
    script, sys.argv[1:] = json.loads(line)
    keras.utils.clear_session()
    output, error = io.StringIO(), None
    try:
        with contextlib.redirect_stdout(output):
            exec(script, {"__name__": "__main__"})
    except BaseException:
        error = traceback.format_exc()
    print(json.dumps([output.getvalue(), error]), file=answers, flush=True)
"""


def run_on_two_devices(script: str, *arguments: object) -> str:
    """Returns what a script prints. The next script finds the process as this one leaves it."""
    process = _started()
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(json.dumps([script, [str(argument) for argument in arguments]]) + "\n")
    process.stdin.flush()
    output, error = json.loads(process.stdout.readline())
    assert error is None, error
    return output


@cache
def _started() -> subprocess.Popen[str]:
    """The process ends with this one, which closes its input."""
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": path}
    command = [sys.executable, "-c", _PROCESS]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )

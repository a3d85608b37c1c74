"""Versions and hardware of a run."""

import os
import platform

from resnet_keras.runs import machine


def test_versions_name_software_and_hardware() -> None:
    found = machine.versions()
    assert {"resnet_keras", "tensorflow", "keras", "python", "commit"} <= found.keys()
    assert found["machine"] == f"{platform.system()} {platform.machine()}"
    assert 1 <= found["cores"] <= (os.cpu_count() or 1)

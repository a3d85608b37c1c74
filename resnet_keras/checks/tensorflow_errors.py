"""TensorFlow's error messages, shortened to the line that gives the reason."""

from __future__ import annotations

import re

_CONTEXT = ("Graph execution error", "Detected at", "File ", "[[", "Hint:", "<stack traces")


def reason_of(message: str) -> str:
    """Returns the line of a TensorFlow error message that gives the reason, without its place in the graph.

    Args:
        message: The `message` of a `tf.errors.OpError`, of any number of lines.

    Returns:
        One line. The first 200 characters of the message if every line describes a place in the graph.
    """
    lines = [re.sub(r"^\{\{.*?\}\}\s*", "", line.strip()) for line in message.splitlines()]
    found = next((line for line in lines if line and not line.startswith(_CONTEXT)), message[:200])
    return found.rsplit(": ", 1)[-1] if found.startswith("Error in user-defined function") else found

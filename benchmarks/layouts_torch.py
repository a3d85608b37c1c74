"""Convolutions of PyTorch in two memory layouts, for `blocked_layouts.py`: `python layouts_torch.py`.

The first line of input is JSON with the shapes, the batch size, and the steps of a turn; each other line is the name of
a way. The answer to each is a line of JSON, with the seconds of a turn: those of the convolutions in oneDNN's own log,
because PyTorch packs the weights for channels last and reorders them at each call otherwise.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from typing import Any

WAYS = ("channels last", "blocked layouts")


def calls(shapes: list[dict[str, Any]], batch: int) -> dict[str, list[Callable[[], Any]]]:
    """Returns a function for each convolution, by way."""
    import torch

    found: dict[str, list[Callable[[], Any]]] = {way: [] for way in WAYS}
    for shape in shapes:
        height, width, channels = shape["input"]
        rows, columns, _, filters = shape["kernel"]
        stride = [shape["strides"]] * 2
        how = ([0, 0], stride, [1, 1], 1)
        size = (batch, channels, height, width)
        plain = torch.randn(size).to(memory_format=torch.channels_last)
        kernel = torch.randn(filters, channels, rows, columns)
        packed = torch._C._nn.mkldnn_reorder_conv2d_weight(kernel.to_mkldnn(), *how, size)
        same = torch._C._nn.mkldnn_reorder_conv2d_weight(
            torch.randn(channels, channels, 1, 1).to_mkldnn(), [0, 0], [1, 1], [1, 1], 1, size
        )
        # What a convolution of such a tensor returns has the layout that oneDNN has chosen.
        blocked = torch.mkldnn_convolution(plain.contiguous().to_mkldnn(), same, None, [0, 0], [1, 1], [1, 1], 1)

        def last(plain: Any = plain, packed: Any = packed, how: Any = how) -> Any:
            return torch.ops.mkldnn._convolution_pointwise(plain, packed, None, *how, "none", [], "")

        def own(blocked: Any = blocked, packed: Any = packed, how: Any = how) -> Any:
            return torch.mkldnn_convolution(blocked, packed, None, *how)

        found[WAYS[0]].append(last)
        found[WAYS[1]].append(own)
    return found


def main() -> None:
    """Answers until there are no more lines."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    with tempfile.TemporaryFile("a+") as log:
        os.dup2(log.fileno(), 1)
        os.environ["ONEDNN_VERBOSE"] = "profile_exec"  # before PyTorch is imported
        import torch

        torch.set_num_threads(len(os.sched_getaffinity(0)))
        given = json.loads(sys.stdin.readline())
        with torch.inference_mode():
            ways = calls(given["shapes"], given["batch"])
            for way in ways.values():
                for call in way:
                    call()
            print(json.dumps("ready"), file=answers)
            for line in sys.stdin:
                start = log.seek(0, os.SEEK_END)
                for _ in range(given["steps"]):
                    for call in ways[line.strip()]:
                        call()
                log.seek(start)
                fields = [each.split(",") for each in log]
                times = [float(each[-1]) for each in fields if each[3:6:2] == ["exec", "convolution"]]
                assert len(times) == given["steps"] * len(given["shapes"]), len(times)
                print(json.dumps(sum(times) / 1000), file=answers)


if __name__ == "__main__":
    main()

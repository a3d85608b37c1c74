"""The peer of `bccd.py` and `detection_speed.py`: torchvision's Faster R-CNN, in a process without TensorFlow.

`python torchvision_detector.py train SETTINGS RESULT` trains on the images that the JSON file SETTINGS names, and
writes the detections in the test images to the JSON file RESULT. `python torchvision_detector.py turns SETTINGS` writes
random weights, prints the detections in an image, and waits for its turns.
"""

from __future__ import annotations

import json
import random
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops.misc import FrozenBatchNorm2d

TRAINED = ("layer2", "layer3", "layer4")
STAGES = 4


def build(settings: dict[str, Any]) -> Any:
    """Returns torchvision's Faster R-CNN with a feature pyramid, with the numbers of the settings."""
    body = getattr(torchvision.models, settings["backbone"])(weights=None, norm_layer=FrozenBatchNorm2d)
    if settings.get("weights"):
        from safetensors.torch import load_file

        weights = {name: value for name, value in load_file(settings["weights"]).items() if not name.startswith("fc.")}
        left = body.load_state_dict(weights, strict=False)
        assert not left.unexpected_keys and set(left.missing_keys) <= {"fc.weight", "fc.bias"}, left
    for name, parameter in body.named_parameters():
        parameter.requires_grad_(name.startswith(TRAINED))
    width, channels = body.fc.in_features, settings["channels"]
    backbone = BackboneWithFPN(
        body,
        {f"layer{stage}": str(stage - 1) for stage in range(1, STAGES + 1)},
        [width // 2**less for less in range(STAGES - 1, -1, -1)],
        channels,
    )
    sizes = tuple((size,) for size in settings["anchor_sizes"])
    shorter, longer = settings["fit"]
    before, after = settings["proposals_before"], settings["proposals"]
    return FasterRCNN(
        backbone,
        min_size=shorter,
        max_size=longer,
        rpn_anchor_generator=AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes)),
        rpn_head=RPNHead(channels, 3),
        rpn_pre_nms_top_n_train=before[0],
        rpn_pre_nms_top_n_test=before[1],
        rpn_post_nms_top_n_train=after[0],
        rpn_post_nms_top_n_test=after[1],
        rpn_batch_size_per_image=settings["sampled_anchors"],
        box_batch_size_per_image=settings["sampled_regions"],
        box_head=TwoMLPHead(channels * 7 * 7, settings["box_units"]),
        box_predictor=FastRCNNPredictor(settings["box_units"], settings["classes"] + 1),
    )


def step(model: Any, optimizer: Any, images: Any, targets: Any, clip_norm: float | None) -> float:
    """Runs one step of training and returns the loss."""
    loss = sum(model(images, targets).values())
    optimizer.zero_grad()
    loss.backward()
    if clip_norm:
        torch.nn.utils.clip_grad_norm_([each for each in model.parameters() if each.requires_grad], clip_norm)
    optimizer.step()
    return float(loss.detach())


def sgd(model: Any, settings: dict[str, Any]) -> Any:
    """Returns stochastic gradient descent with momentum over the weights that are trained."""
    parameters = [each for each in model.parameters() if each.requires_grad]
    return torch.optim.SGD(parameters, settings["rates"][0], momentum=0.9, weight_decay=settings["l2"])


def train(settings: dict[str, Any]) -> dict[str, Any]:
    """Trains with the learning rates of the settings, and returns the detections in the test images."""
    torch.manual_seed(settings["seed"])
    draw, start = random.Random(settings["seed"]), time.perf_counter()
    model, size = build(settings).train(), settings["batch_size"]
    optimizer = sgd(model, settings)
    order: list[dict[str, Any]] = []
    for number, rate in enumerate(settings["rates"]):
        if len(order) < size:
            order = draw.sample(settings["train"], len(settings["train"]))
        batch, order = order[:size], order[size:]
        for group in optimizer.param_groups:
            group["lr"] = rate
        pairs = [_example(each, draw.random() < 0.5) for each in batch]
        loss = step(model, optimizer, [each[0] for each in pairs], [each[1] for each in pairs], settings["clip_norm"])
        if number % 50 == 0:
            print(f"step {number}, loss {loss:.3f}", file=sys.stderr, flush=True)
    model.eval()
    found = []
    with torch.inference_mode():
        for each in settings["test"]:
            (output,) = model([_pixels(each["image"])])
            found.append({name: output[name].tolist() for name in ("boxes", "scores", "labels")})
    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__}
    times = {"cpu_seconds": time.process_time(), "seconds": time.perf_counter() - start}
    return {"found": found, **times, "versions": versions}


def turns(settings: dict[str, Any]) -> None:
    """Writes the weights, and answers each line of the input, "train" or "predict", with the seconds of its steps."""
    from safetensors.torch import save_file

    torch.manual_seed(settings["seed"])
    model = build(settings)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, settings["weights_to"])
    optimizer = sgd(model, settings)
    images = [torch.from_numpy(image.transpose(2, 0, 1).copy()) / 255 for image in np.load(settings["images"])]
    targets = [
        {"boxes": torch.tensor(boxes, dtype=torch.float32), "labels": torch.tensor(labels)}
        for boxes, labels in zip(settings["boxes"], settings["labels"], strict=True)
    ]
    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__}
    with torch.inference_mode():
        (found,) = model.eval()(images[:1])
    print(json.dumps({"versions": versions, **{name: found[name].tolist() for name in found}}), flush=True)
    for line in sys.stdin:
        start, cpu = time.perf_counter(), time.process_time()
        for _ in range(settings["steps"]):
            if line.strip() == "train":
                step(model.train(), optimizer, images, targets, settings["clip_norm"])
            else:
                with torch.inference_mode():
                    model.eval()(images[:1])
        print(json.dumps([time.process_time() - cpu, time.perf_counter() - start]), flush=True)


def _pixels(path: str) -> Any:
    with Image.open(path) as image:
        return torch.from_numpy(np.asarray(image.convert("RGB")).transpose(2, 0, 1).copy()) / 255


def _example(example: dict[str, Any], mirrored: bool) -> tuple[Any, dict[str, Any]]:
    pixels = _pixels(example["image"])
    boxes = torch.tensor(example["boxes"], dtype=torch.float32).reshape(-1, 4)
    if mirrored:
        pixels = pixels.flip(-1)
        boxes = torch.stack(
            [pixels.shape[-1] - boxes[:, 2], boxes[:, 1], pixels.shape[-1] - boxes[:, 0], boxes[:, 3]], 1
        )
    return pixels, {"boxes": boxes, "labels": torch.tensor(example["labels"]) + 1}


def main() -> None:
    """Trains, or waits for turns."""
    warnings.simplefilter("ignore")
    way, settings = sys.argv[1], json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    if way == "turns":
        turns(settings)
    else:
        Path(sys.argv[3]).write_text(json.dumps(train(settings)), encoding="utf-8")


if __name__ == "__main__":
    main()

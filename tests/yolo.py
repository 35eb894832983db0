"""Ultralytics on a CPU, without the network: what tests and benchmarks of its trainer share.

Import it before Ultralytics. Models come from their YAML files, data from here; settings go to a
folder of their own.
"""

import os
import tempfile
from pathlib import Path

import numpy as np
import torch

os.environ.setdefault("YOLO_OFFLINE", "true")
os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.mkdtemp(prefix="fastgd-yolo-"))

_OPERATORS = (
    "nms", "qnms", "roi_align", "_roi_align_backward", "roi_pool", "_roi_pool_backward",
    "ps_roi_align", "_ps_roi_align_backward", "ps_roi_pool", "_ps_roi_pool_backward",
    "deform_conv2d", "_deform_conv2d_backward",
)  # fmt: skip


def _import_torchvision():
    """Import torchvision even if its operators were compiled for another build of torch."""
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in _OPERATORS:
            library.define(f"{name}(Tensor x) -> Tensor")
        import torchvision.ops
        from ultralytics.utils.nms import TorchNMS

        torchvision.ops.nms = TorchNMS.nms
        torchvision.fastgd_operators = library  # they live as long as it does


_import_torchvision()


def write_shapes(folder, n_train=64, n_val=16, side=160, seed=0):
    """Write images of rectangles and ellipses with their boxes; return their YAML file."""
    import cv2

    folder, rng = Path(folder), np.random.default_rng(seed)
    for split, count in (("train", n_train), ("val", n_val)):
        images, labels = folder / "images" / split, folder / "labels" / split
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for i in range(count):
            image = np.full((side, side, 3), 128, np.uint8)
            lines = []
            for _ in range(3):
                kind = int(rng.integers(2))
                half = rng.integers(side // 16, side // 6, size=2)
                centre = rng.integers(half, side - half)
                colour = rng.integers(256, size=3).tolist()
                if kind == 0:
                    cv2.rectangle(
                        image,
                        tuple(map(int, centre - half)),
                        tuple(map(int, centre + half)),
                        colour,
                        -1,
                    )
                else:
                    cv2.ellipse(
                        image, tuple(map(int, centre)), tuple(map(int, half)), 0, 0, 360, colour, -1
                    )
                lines.append(" ".join(map(str, [kind, *centre / side, *2 * half / side])))
            cv2.imwrite(str(images / f"{i}.png"), image)
            (labels / f"{i}.txt").write_text("\n".join(lines), encoding="utf-8")
    path = folder / "shapes.yaml"
    path.write_text(
        f"path: {folder.resolve()}\ntrain: images/train\nval: images/val\n"
        "names: {0: rectangle, 1: ellipse}\n",
        encoding="utf-8",
    )
    return path

"""Importing torchvision beside a CPU-only torch."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

import torch

_libraries: list[Any] = []  # the schemas live as long as these


def import_torchvision() -> ModuleType:
    """``torchvision``, also where its compiled operators do not load.

    The wheel on the package index is built for a CUDA torch. Beside a CPU-only torch its operators
    do not load, and the import stops at "operator torchvision::nms does not exist", although data
    sets and models need none of them. Declaring the missing schemas, after a first import has
    failed that way, is enough.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error) or _libraries:
            raise
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")
    _libraries.append(library)
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define(
        "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    )
    return importlib.import_module("torchvision")

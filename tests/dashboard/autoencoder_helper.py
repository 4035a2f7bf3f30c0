"""Runs of an autoencoder that was never trained, with reconstructions."""

from __future__ import annotations

import numpy as np

from engine.config import resolve
from engine.events import Reconstructed
from engine.runs import Runs
from engine.store import StoreWriter

SIDE = 16
PARTS = ((0.1, "train"), (0.2, "val"), (0.3, "test"))


def reconstructed(step, epoch, *, seed=0, count=8, side=SIDE):
    inputs = np.random.default_rng(7).integers(0, 256, (count, 1, side, side), np.uint8)
    outputs = np.random.default_rng(100 * seed + step).integers(0, 256, inputs.shape, np.uint8)
    samples = tuple(range(count))
    shape = (1, side, side)
    return Reconstructed(step, epoch, "test", samples, shape, inputs.tobytes(), outputs.tobytes())


def make_autoencoder(root, *, id=None, method="backprop", epochs=5, seed=0, status="finished"):
    document = {"preset": "usps-autoencoder", "epochs": epochs, "loss": "reconstruction"}
    document["model"] = {"kind": "autoencoder"}
    run = Runs(root).create(resolve(document, method=method, overrides={"seed": seed}), id=id)
    with StoreWriter(run.database) as writer:
        started = {"resumed": False, "steps_per_epoch": 10, "environment": {}}
        writer.append_event(0, "RunStarted", started)
        writer.append_block(range(1, 10 * epochs + 1), {"batch_loss": [3.0] * (10 * epochs)})
        for epoch in range(epochs + 1):
            add_epoch(writer, epoch, seed=seed)
        writer.set_state({"status": status})
    return run


def add_epoch(writer, epoch, *, seed=0):
    losses = {f"{part}_loss": 20 / (epoch + 1) + place for place, part in PARTS}
    metrics = {"epoch": epoch, "time/train": 0.1 * epoch, "time/wall": 0.2 * epoch, **losses}
    writer.append_metrics(10 * epoch, metrics)
    writer.add_reconstructions(reconstructed(10 * epoch, epoch, seed=seed))
    writer.set_state({"step": 10 * epoch, "epoch": epoch, "metrics": metrics})

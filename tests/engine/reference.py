"""Slow truths in float64, written from the formulas and with nothing of the engine in them."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import nn


def with_ones(a: np.ndarray, weight: bool = True, bias: bool = True) -> np.ndarray:
    """A: the rows of ``a`` where the weight is free, a column of ones where the bias is."""
    parts = [a] if weight else []
    if bias:
        parts.append(np.ones((len(a), 1)))
    return np.concatenate(parts, axis=1)


def exact(A: np.ndarray, G: np.ndarray, beta: float) -> np.ndarray:
    """(A^T A + beta I)^{-1} A^T G, ``(n, m)``, by least squares, which never forms the Gram."""
    n = A.shape[1]
    stacked = np.concatenate([A, np.sqrt(beta) * np.eye(n)])
    right = np.concatenate([G, np.zeros((n, G.shape[1]))])
    return np.linalg.lstsq(stacked, right, rcond=None)[0]


def damping(kind: str, A: np.ndarray, tau_theta: float) -> float:
    """beta of the three damping modes."""
    rows, columns = A.shape
    return {
        "sum": 1 / tau_theta,
        "mean": rows / tau_theta,
        "trace": float((A**2).sum()) / (columns * tau_theta),
    }[kind]


def cg(
    A: np.ndarray,
    G: np.ndarray,
    beta: float,
    iterations: int,
    *,
    tol: float = 0.0,
    eps: float = 0.0,
    flat: bool = False,
) -> np.ndarray:
    """Textbook CG on (A^T A + beta I) V = A^T G from zero, all columns stopped together."""
    S = A.T @ A + beta * np.eye(A.shape[1])
    B = A.T @ G
    columns = [B.reshape(-1, order="F")] if flat else list(B.T)
    operator = np.kron(np.eye(G.shape[1]), S) if flat else S
    V = [np.zeros_like(b) for b in columns]
    R = [b.copy() for b in columns]
    P = [b.copy() for b in columns]
    rho = [float(r @ r) for r in R]
    start = np.mean(rho)
    for _ in range(iterations):
        for j in range(len(columns)):
            if rho[j] == 0.0:
                continue
            q = operator @ P[j]
            alpha = rho[j] / (P[j] @ q + eps)
            V[j] = V[j] + alpha * P[j]
            R[j] = R[j] - alpha * q
            new = float(R[j] @ R[j])
            P[j] = R[j] + new / (rho[j] + eps) * P[j]
            rho[j] = new
        if max(rho) < tol**2 * start:
            break
    return V[0].reshape(B.shape, order="F") if flat else np.stack(V, axis=1)


def patches(layer: nn.Conv2d, x: np.ndarray) -> list[np.ndarray]:
    """Per group the patches under every output position, ``(B H' W', c_in/groups k k)``, by
    loops over an explicitly padded input."""
    left, right, top, bottom = layer._reversed_padding_repeated_twice
    mode = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    padded = np.pad(
        x, ((0, 0), (0, 0), (top, bottom), (left, right)), mode=mode[layer.padding_mode]
    )
    (ky, kx), (sy, sx), (dy, dx) = layer.kernel_size, layer.stride, layer.dilation
    height = (padded.shape[2] - dy * (ky - 1) - 1) // sy + 1
    width = (padded.shape[3] - dx * (kx - 1) - 1) // sx + 1
    per_group = x.shape[1] // layer.groups
    result = []
    for group in range(layer.groups):
        channels = padded[:, group * per_group : (group + 1) * per_group]
        rows = [
            channels[b][:, y * sy : y * sy + dy * ky : dy, z * sx : z * sx + dx * kx : dx].ravel()
            for b, y, z in itertools.product(range(len(x)), range(height), range(width))
        ]
        result.append(np.stack(rows))
    return result


def cotangents(layer: nn.Conv2d, G: np.ndarray) -> list[np.ndarray]:
    """Per group G as ``(B H' W', c_out/groups)``, rows in the order of :func:`patches`."""
    per_group = G.shape[1] // layer.groups
    return [
        G[:, g * per_group : (g + 1) * per_group].transpose(0, 2, 3, 1).reshape(-1, per_group)
        for g in range(layer.groups)
    ]


def backward(layer: nn.Module, x: torch.Tensor, G: torch.Tensor) -> None:
    """One backward pass with G = dL/dz."""
    layer(x).backward(G)


def relative(found: torch.Tensor | np.ndarray, truth: np.ndarray) -> float:
    """Norm of the difference over the norm of the truth."""
    found = np.asarray(found.detach() if isinstance(found, torch.Tensor) else found, dtype=float)
    assert found.shape == truth.shape, (found.shape, truth.shape)
    scale = np.linalg.norm(truth)
    return float(np.linalg.norm(found - truth) / (scale if scale > 0 else 1.0))

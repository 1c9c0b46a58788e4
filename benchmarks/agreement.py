"""Compare the joint modes with TorchJD's methods: `python -m benchmarks.agreement`.

The program prints the largest relative difference of the totals for each mode and kind of gradients.
With a file name it also writes the gradients and TorchJD's weights; `tests/golden/torchjd.json` was made
in this way. It needs the extra `bench`, which installs TorchJD.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

DIMENSION = 8
SEED = 7  # Seed of the random numbers of the modes.
ALPHA = 0.5  # alpha of GradVac, which TorchJD calls beta.


def families(n: int, rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    """Yield kinds of n gradients: a name, and a matrix with one gradient in each row."""

    def normal() -> np.ndarray:
        return rng.normal(size=(n, DIMENSION))

    def with_second(J: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.stack([J[0], second, *J[2:]])

    for number in range(3):
        yield f"random {number}", normal()
    J = normal()
    yield "parallel", np.outer(np.arange(1, n + 1), J[0])
    yield "opposed", with_second(J, -2 * J[0])
    yield "zero", with_second(J, 0 * J[0])
    yield "nearly dependent", with_second(J, J[0] + 1e-3 * normal()[1])
    yield "nearly opposed", with_second(J, -J[0] + 1e-3 * normal()[1])
    yield "badly scaled", normal() * 10.0 ** np.linspace(-1.5, 1.5, n)[:, np.newaxis]
    yield "small", 1e-3 * normal()


def torchjd_methods(n: int, exact: bool = True) -> dict[str, Any]:
    """Return TorchJD's methods by the names of the modes, as exact as possible or with its defaults."""
    from torchjd import aggregation
    from torchjd.linalg import QuadprogProjector

    projector = QuadprogProjector(norm_eps=0.0, reg_eps=1e-12) if exact else None
    made = {
        "Mean": aggregation.Mean(),
        "PCGrad": aggregation.PCGrad(),
        "GradVac": aggregation.GradVac(beta=ALPHA, eps=0.0),
        "MGDA": aggregation.MGDA(epsilon=1e-9, max_iters=10_000) if exact else aggregation.MGDA(),
        "CAGrad": aggregation.CAGrad(c=0.5, norm_eps=1e-4),
        "IMTL-G": aggregation.IMTLG(),
        "UPGrad": aggregation.UPGrad(projector=projector),
        "DualProj": aggregation.DualProj(projector=projector),
        "Aligned-MTL": aggregation.AlignedMTL(),
        "Nash-MTL": aggregation.NashMTL(n_tasks=n, optim_niter=100 if exact else 20),
    }
    # Do not compare random weights: TorchJD draws different numbers.
    return made if exact else {**made, "RandomWeighting": aggregation.Random()}


@contextmanager
def in_order(n: int) -> Iterator[None]:
    """Make TorchJD visit the gradients in the same order as the mode."""
    import tensorflow as tf
    import torch

    drawn = torch.randperm
    orders = tf.argsort(tf.random.stateless_uniform((n, n), [SEED, 0], alg="philox")).numpy()
    rows = iter([*enumerate(orders.tolist())] * 2)  # For two steps.

    def following(count: int, *arguments: Any, **options: Any) -> Any:
        own, row = next(rows)
        if count == n:  # In PCGrad a gradient visits itself, too.
            return torch.tensor(row)
        # GradVac takes the indices among the other gradients.
        return torch.tensor([other - (other > own) for other in row if other != own])

    torch.randperm = following
    try:
        yield
    finally:
        torch.randperm = drawn


def theirs(mode: str, J: np.ndarray) -> np.ndarray | None:
    """Return TorchJD's weights (GradVac: those of a second step), or None if TorchJD fails."""
    import torch

    method = torchjd_methods(len(J))[mode]
    with in_order(len(J)), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        takes_gram = hasattr(method, "gramian_weighting")
        weighting = method.gramian_weighting if takes_gram else method.weighting
        given = torch.tensor(J @ J.T if takes_gram else J)
        try:
            weights = weighting(given)
            if mode == "GradVac":
                weights = weighting(given)
        except (ValueError, ArithmeticError):
            return None
    return weights.numpy()


def ours(mode: str, J: np.ndarray) -> np.ndarray:
    """Return the weights of the mode (GradVac: those of a second step with the same gradients)."""
    import tensorflow as tf

    from auxgrad.censoring import MODES

    weigh = MODES[mode].weigh
    assert weigh is not None
    G, seed = tf.constant(J @ J.T), tf.constant([SEED, 0])
    if mode == "GradVac":
        alpha = tf.constant(ALPHA)
        _, memory = weigh(G, seed, tf.zeros_like(G), alpha)
        return weigh(G, seed, memory, alpha)[0].numpy()
    return (weigh(G, seed) if MODES[mode].takes("seed") else weigh(G)).numpy()


def difference(J: np.ndarray, mine: np.ndarray, other: np.ndarray) -> float:
    """Return the difference of the totals, relative to the other total.

    If the other total is shorter than 1e-6 times the norm of all gradients, divide by that instead.
    """
    least = 1e-6 * np.linalg.norm(J)
    return float(np.linalg.norm((mine - other) @ J) / max(np.linalg.norm(other @ J), least))


def main() -> None:
    """Run the command line."""
    cases, largest = [], {}
    rng = np.random.default_rng(0)
    for n in range(2, 6):
        for kind, J in families(n, rng):
            weights = {mode: theirs(mode, J) for mode in torchjd_methods(n)}
            for mode, other in weights.items():
                key = mode, kind.split(" ")[0] if kind.startswith("random") else kind
                value = np.nan if other is None else difference(J, ours(mode, J), other)
                largest[key] = np.fmax(largest.get(key, np.nan), value)
            known = {mode: each.tolist() for mode, each in weights.items() if each is not None}
            cases.append({"kind": kind, "gradients": J.tolist(), "weights": known})
    kinds = list(dict.fromkeys(kind for _, kind in largest))
    print(f"| mode | {' | '.join(kinds)} |\n|{'---|' * (1 + len(kinds))}")
    for mode in torchjd_methods(2):
        print(f"| {mode} | {' | '.join(f'{largest[mode, kind]:.0e}' for kind in kinds)} |")
    if sys.argv[1:]:
        made = {"torchjd": version("torchjd"), "seed": SEED, "alpha": ALPHA, "cases": cases}
        Path(sys.argv[1]).write_text(json.dumps(made) + "\n")


if __name__ == "__main__":
    main()

"""Points in the plane, to draw how each mode combines two losses."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import AfterValidator, Field

import auxgrad

__all__ = ["Toy"]

STEPS = 10  # Steps in an epoch; the points are recorded after each epoch.

POINTS = "a list of points [x, y]"

PositiveWhole = Annotated[int, Field(strict=True, ge=1, description="a whole number >= 1")]


def _checked(points: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
    if not points or any(len(point) != 2 or not all(map(math.isfinite, point)) for point in points):
        raise ValueError(f"must be {POINTS}")
    return points


class Toy(auxgrad.Problem):
    """Points p in the plane; primary loss (‖p‖ − 1)², auxiliary loss ‖p − (2, 0)‖².

    Source: V. Tran-Thien, *Censoring the auxiliary loss gradient to mitigate risks of negative
    transfer*. Each starting point is a separate variable, so that with overall=false the paths do not
    depend on each other. The paths are recorded as the metrics val_point_1_x, val_point_1_y, ...
    """

    uses_global_state = False

    starts: Annotated[
        tuple[tuple[float, ...], ...], AfterValidator(_checked), Field(description=POINTS)
    ] = ((-1.5, 0.4), (-0.5, -0.4), (0.3, 1.6), (1.8, -1.5))
    epochs: PositiveWhole = 150

    def load(self) -> auxgrad.Data:
        """Return constant examples: the losses depend only on the points."""
        import numpy as np

        def part(rows: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
            # The input has no meaning; the target is the radius.
            ones = np.ones((rows, 1), np.float32)
            return ones, {f"point_{i + 1}": ones for i in range(len(self.starts))}

        return auxgrad.Data(train=part(STEPS), validation=part(1), test=part(1))

    def build(self, data: auxgrad.Data, seed: int) -> auxgrad.Training:
        """Return a model whose variables are the points; the seed has no effect."""
        import keras

        from auxgrad.problems.toy import network

        points = network.build(self.starts)
        return auxgrad.Training(
            network=points,
            auxiliary=auxgrad.AuxiliaryLoss(network.distance_from_the_goal),
            optimizer=keras.optimizers.Adam(0.01, name="adam"),
            loss=dict.fromkeys(points.output_names, network.distance_from_the_circle),
            loss_label="squared distance",
            metrics={name: [network.x, network.y] for name in points.output_names},
            batch_size=1,
            epochs=self.epochs,
            patience=self.epochs,  # The result is the whole path, not the point of the lowest loss.
            description=f"{len(self.starts)} points in the plane, Adam 0.01",
        )

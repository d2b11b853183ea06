r"""How to train, where the parameters leave it to the program: numbers that follow from the data's size.

For ``n`` training rows:

- batch size: 128; 256 for many rows, which are 25,000 of a table or 2,500 images, and for patches;
- learning rate: :math:`0.001 \sqrt{b / 128}` for a batch of b rows (the square-root rule of adaptive optimisers), and
  1.5 times that for 2,500 images or more;
- epochs: as many as take 256,000 rows or 192,000 images, but at least 30 and at most 200; where a row has more than
  1,024 features fewer in proportion, but at least 80 if these were more; for rows on disk at most 100,000 steps; for
  patches as many as take 768,000 of them, 3,000 steps, at most 200;
- patience: a third of the epochs;
- input noise: a multiple, given by the kind of samples, of the scaled rows' root mean square deviation.

References
----------
On the SDEs and Scaling Rules for Adaptive Gradient Algorithms (Malladi et al., 2022), https://arxiv.org/abs/2205.10287
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from vae_anomaly.fitting.preprocessing import rms_deviation
from vae_anomaly.fitting.run import Recipe
from vae_anomaly.model.build import Choices
from vae_anomaly.model.scaling import Scaling
from vae_anomaly.storage.rows import Rows

BATCH_SIZE, BATCH_SIZE_FOR_MANY = 128, 256
MANY_ROWS, MANY_IMAGES = 25_000, 2_500
LEARNING_RATE, LEARNING_RATE_OF_MANY_IMAGES = 1e-3, 1.5e-3  # of a batch of 128 rows
ROWS_TO_TAKE, IMAGES_TO_TAKE, PATCHES_TO_TAKE = 256_000, 192_000, 768_000
MIN_EPOCHS, MAX_EPOCHS = 30, 200
MAX_STEPS_FROM_DISK = 100_000
WIDE, EPOCHS_OF_WIDE = 1_024, 80  # of 160 images of 64 x 64 x 3, 60 and 100 ranked better than 200, and 30 worse


def recipe_for(parameters: Mapping[str, Any], choices: Choices, scaling: Scaling, rows: Rows, precision: str) -> Recipe:
    """The recipe for training rows ``(n, D)`` or patches: what the parameters say, else the module's rules.

    Parameters
    ----------
    parameters
        Those of `VAEDetector` by name, checked.
    choices
        The values of all parameters for samples of this shape.
    scaling
        Fitted to the rows.
    rows
        To train on.
    precision
        "full" or "bfloat16".
    """
    batch_size = batch_size_for(parameters, choices, rows)
    learning_rate = parameters["learning_rate"]
    if learning_rate is None:
        whole_images = choices.image_shape is not None and choices.grid is None
        many = whole_images and len(rows) >= MANY_IMAGES
        of_128 = LEARNING_RATE_OF_MANY_IMAGES if many else LEARNING_RATE
        learning_rate = of_128 * math.sqrt(batch_size / BATCH_SIZE)
    epochs = parameters["epochs"]
    if epochs is None:
        of_patches = min(MAX_EPOCHS, math.ceil(PATCHES_TO_TAKE / len(rows)))
        of_whole = default_epochs(rows, batch_size, are_images=choices.image_shape is not None)
        epochs = of_whole if choices.grid is None else of_patches
    patience = parameters["patience"]
    return Recipe(
        epochs=int(epochs),
        batch_size=batch_size,
        learning_rate=float(learning_rate),
        patience=math.ceil(epochs / 3) if patience is None else int(patience),
        input_noise=choices.input_noise and choices.input_noise * rms_deviation(scaling, rows),
        precision=precision,
    )


def batch_size_for(parameters: Mapping[str, Any], choices: Choices, rows: Rows) -> int:
    """Rows a step; as `recipe_for` has them."""
    if parameters["batch_size"] is not None:
        return int(parameters["batch_size"])
    many = len(rows) >= (MANY_ROWS if choices.image_shape is None else MANY_IMAGES)
    return BATCH_SIZE_FOR_MANY if many or choices.grid is not None else BATCH_SIZE


def default_epochs(rows: Rows, batch_size: int, *, are_images: bool) -> int:
    """Passes over the training rows if their number is not given."""
    to_take = IMAGES_TO_TAKE if are_images else ROWS_TO_TAKE
    epochs = min(MAX_EPOCHS, max(MIN_EPOCHS, math.ceil(to_take / len(rows))))
    epochs = min(epochs, max(EPOCHS_OF_WIDE, math.ceil(epochs * WIDE / rows.shape[1])))
    if rows.in_memory:
        return epochs
    steps = math.ceil(len(rows) / batch_size)
    return min(epochs, math.ceil(MAX_STEPS_FROM_DISK / steps))

"""Trains a small Keras classifier on digits that it draws itself: no download, no network.

Each picture is a seven-segment digit, shifted, dimmed and covered with noise. The script prints the loss after
every epoch and one JSON line at the end, and fails when the loss did not fall.
"""

import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

SIZE = 16
SEGMENTS = {  # row and column ranges of a seven-segment display inside an 11 x 7 box
    "top": (slice(0, 2), slice(0, 7)),
    "middle": (slice(5, 6), slice(0, 7)),
    "bottom": (slice(9, 11), slice(0, 7)),
    "upper left": (slice(0, 6), slice(0, 2)),
    "upper right": (slice(0, 6), slice(5, 7)),
    "lower left": (slice(5, 11), slice(0, 2)),
    "lower right": (slice(5, 11), slice(5, 7)),
}
DARK = {  # the segments that each digit leaves out
    0: ("middle",),
    1: ("top", "middle", "bottom", "upper left", "lower left"),
    2: ("upper left", "lower right"),
    3: ("upper left", "lower left"),
    4: ("top", "bottom", "lower left"),
    5: ("upper right", "lower left"),
    6: ("upper right",),
    7: ("middle", "bottom", "upper left", "lower left"),
    8: (),
    9: ("lower left",),
}


def draw(digits: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Pictures of `digits`: float32 of shape (n, 16, 16, 1), values from 0 to 1."""
    pictures = np.zeros((len(digits), SIZE, SIZE), np.float32)
    for picture, digit in zip(pictures, digits, strict=True):
        row, column = random.integers(0, SIZE - 11), random.integers(0, SIZE - 7)
        box = picture[row : row + 11, column : column + 7]
        for name, place in SEGMENTS.items():
            if name not in DARK[int(digit)]:
                box[place] = random.uniform(0.6, 1.0)
    noise = random.normal(0.0, 0.15, pictures.shape).astype(np.float32)
    return np.clip(pictures + noise, 0.0, 1.0)[..., np.newaxis]


def main() -> int:
    """Train for three epochs and return 0 when the loss fell."""
    keras.utils.set_random_seed(7)
    random = np.random.default_rng(7)
    labels = random.integers(0, 10, 4000)
    pictures = draw(labels, random)
    model = keras.Sequential(
        [
            keras.layers.Input((SIZE, SIZE, 1)),
            keras.layers.Conv2D(16, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(pictures, labels, epochs=3, batch_size=64, validation_split=0.2, verbose=2)
    losses = [round(float(loss), 4) for loss in history.history["loss"]]
    accuracy = round(float(history.history["val_accuracy"][-1]), 4)
    print(json.dumps({"losses": losses, "validation_accuracy": accuracy}))
    return 0 if losses[-1] < losses[0] else 1


if __name__ == "__main__":
    sys.exit(main())

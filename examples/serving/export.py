"""Trains the classifier of ../mnist and writes it as a SavedModel into `model/`, which the image serves.

Run it where TensorFlow is installed; the image needs it no more:

    python examples/serving/export.py
"""

import runpy
import sys
from pathlib import Path

import keras
import numpy as np

HERE = Path(__file__).resolve().parent


def main() -> int:
    """Train, export, and return 0."""
    training = runpy.run_path(str(HERE.parent / "mnist" / "train.py"))
    draw, side = training["draw"], training["SIZE"]
    keras.utils.set_random_seed(7)
    random = np.random.default_rng(7)
    labels = random.integers(0, 10, 8000)
    model = keras.Sequential(
        [
            keras.layers.Input((side, side, 1), name="pictures"),
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(16, activation="relu"),
            keras.layers.Dense(10, activation="softmax", name="probabilities"),
        ]
    )
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(draw(labels, random), labels, epochs=6, batch_size=64, validation_split=0.2, verbose=2)
    model.export(HERE / "model")
    return 0


if __name__ == "__main__":
    sys.exit(main())

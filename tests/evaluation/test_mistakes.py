"""The mistakes that a test keeps."""

import numpy as np

from eurosat.evaluation.mistakes import mistaken_rows
from eurosat.evaluation.predictions import Predictions


def test_the_most_confident_mistakes_are_kept_in_order_and_at_most_twenty() -> None:
    count = 30
    confidence = np.linspace(0.55, 0.9, count)  # of class 1, which the model predicts everywhere
    labels = np.zeros(count, np.int64)
    labels[-1] = 1  # the most confident prediction is right
    predictions = Predictions(
        ("Forest", "River"),
        [f"Forest_{row}.jpg" for row in range(count)],
        np.arange(count),
        labels,
        np.stack([1 - confidence, confidence], axis=1),
    )
    assert mistaken_rows(predictions).tolist() == list(range(28, 8, -1))


def test_a_model_without_mistakes_keeps_none() -> None:
    predictions = Predictions(
        ("Forest", "River"), ["a.jpg"], np.arange(1), np.zeros(1, np.int64), np.array([[0.9, 0.1]])
    )
    assert len(mistaken_rows(predictions)) == 0

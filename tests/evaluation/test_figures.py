"""The figures say what the data say."""

import csv

import numpy as np
import pytest
from matplotlib.colors import to_hex

from eurosat.evaluation.colours import COLOURS, class_colours
from eurosat.evaluation.figures import (
    confident_mistakes,
    confusion_matrix,
    learning_curves,
    reliability_diagram,
    save_figure,
)
from eurosat.evaluation.tables import read_rows
from eurosat.labels import CLASSES

COLUMNS = ["epoch", "step", "lr-AdamW", "train/loss", "val/loss", "val/accuracy"]
ROWS = [
    ["", 0, 0.1, "", "", ""],
    [0, 9, "", "", 0.9, 0.5],
    [0, 9, "", 1.5, "", ""],
    [1, 19, "", "", 0.4, 0.8],
    [1, 19, "", 1.0, "", ""],
    ["", 20, 0.05, "", "", ""],
    [2, 29, "", "", 0.5, 0.7],
]


@pytest.fixture
def metrics(tmp_path):
    path = tmp_path / "metrics.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *ROWS])
    return read_rows(path)


def title(figure):
    return figure.get_suptitle() or figure.axes[0].get_title()


def lines(axes):
    return {line.get_label(): line.get_xydata().tolist() for line in axes.lines}


def test_learning_curves_draw_the_sparse_rows_and_mark_the_best_epoch(metrics):
    figure = learning_curves(metrics, note="synthetic data")
    loss, accuracy, rate = figure.axes
    assert lines(loss)["train"] == [[0, 1.5], [1, 1.0]]
    assert lines(loss)["val"] == [[0, 0.9], [1, 0.4], [2, 0.5]]
    assert lines(rate)["AdamW"] == [[0, 0.1], [20, 0.05]]
    assert "val/accuracy 0.8000 at epoch 1 (synthetic data)" in title(figure)
    assert [axes.lines[-1].get_xdata()[0] for axes in (loss, accuracy, rate)] == [1, 1, 19]


def test_best_epoch_follows_mode(metrics):
    assert "at epoch 0" in title(learning_curves(metrics, "val/accuracy", "min"))
    assert "0.4000 at epoch 1" in title(learning_curves(metrics, "val/loss", "min"))


def test_nan_is_never_the_best_epoch(metrics):
    metrics[1]["val/accuracy"] = "nan"
    assert "0.7000 at epoch 2" in title(learning_curves(metrics, mode="min"))


def test_learning_curves_of_one_epoch_show_a_point(metrics):
    axes = learning_curves(metrics[1:3]).axes
    assert lines(axes[0])["val"] == [[0, 0.9]]
    assert axes[0].lines[0].get_marker() == "o"
    assert axes[0].get_xlim() == (-1, 1)


@pytest.mark.parametrize("columns", [[], ["epoch", "step"]])
def test_learning_curves_without_columns_say_so(metrics, columns):
    rows = [{name: row[name] for name in columns} for row in metrics]
    figure = learning_curves(rows)
    assert title(figure) == "Learning curves"
    texts = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert texts == [["not recorded"]] * 3


def test_distant_learning_rates_get_a_log_scale():
    rows = [{"step": "0", "lr-AdamW/pg1": "0.1", "lr-AdamW/pg2": "0.001", "lr-AdamW-momentum": "9"}]
    rate = learning_curves(rows).axes[2]
    assert rate.get_yscale() == "log"
    assert set(lines(rate)) == {"AdamW/pg1", "AdamW/pg2"}


def test_confusion_matrix_prints_counts_and_fades_zeros():
    matrix = np.array([[8, 2, 0], [0, 5, 5], [0, 0, 0]])
    figure = confusion_matrix(matrix, ["Forest", "River", "Marsh"], note="synthetic data")
    axes = figure.axes[0]
    cells = {
        (int(text.get_position()[1]), int(text.get_position()[0])): text for text in axes.texts
    }
    assert {place: int(text.get_text()) for place, text in cells.items()} == dict(
        np.ndenumerate(matrix)
    )
    assert cells[0, 2].get_color() == "#CCCCCC" != cells[0, 1].get_color()
    assert axes.images[0].get_array().tolist() == [[0.8, 0.2, 0], [0, 0.5, 0.5], [0, 0, 0]]
    assert title(figure) == "Confusion matrix: 13 of 20 images right (synthetic data)"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["Forest", "River", "Marsh"]
    ticks = axes.yaxis.get_major_ticks()
    assert to_hex(ticks[0].tick1line.get_markeredgecolor()) == COLOURS["Forest"]


def test_class_colours_are_distinct_where_eurosat_has_none():
    assert class_colours(CLASSES) == COLOURS
    names = ["Forest", *(f"class {index}" for index in range(44))]
    colours = class_colours(names)
    assert colours["Forest"] == COLOURS["Forest"]
    assert len(set(colours.values())) == 45


def test_calibration_error_by_hand():
    # Bin [0.4, 0.6): accuracy 1/2 at mean 0.5, no gap. Bin [0.8, 1): accuracy 0 at 0.9, half the
    # images. So the error is 0.5 * 0.9.
    confidence = np.array([0.45, 0.55, 0.9, 0.9])
    correct = np.array([True, False, False, False])
    figure = reliability_diagram(confidence, correct, bins=5, note="synthetic data")
    assert title(figure) == "Reliability: expected calibration error 0.4500 (synthetic data)"
    upper, lower = figure.axes
    assert upper.get_xlim() == upper.get_ylim() == (0, 1)
    accuracy, gap = upper.containers
    assert [bar.get_height() for bar in accuracy] == [0.5, 0]
    assert [bar.get_height() for bar in gap] == pytest.approx([0, 0.9])
    assert [bar.get_height() for bar in lower.containers[0]] == [2, 2]


def test_confident_mistakes_are_drawn_in_the_given_order():
    count = 20
    images = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones(
        (1, 8, 8, 3), dtype=np.uint8
    )
    confidence = np.linspace(0.9, 0.3, count)
    labels = ["Forest"] * count
    predicted = ["River"] * count
    files = [f"Forest/Forest_{index}.jpg" for index in range(count)]
    figure = confident_mistakes(images, files, labels, predicted, confidence, "synthetic data")
    assert len(figure.axes) == 20
    first = figure.axes[0]
    assert first.images[0].get_array()[0, 0].tolist() == [0, 0, 0]
    assert first.texts[0].get_text() == "90.0% sure\nForest_0.jpg"
    words = [text.get_text() for text in first.get_legend().get_texts()]
    assert words == ["is Forest", "predicted River"]
    assert title(figure).endswith("(synthetic data)")


@pytest.mark.parametrize("name", ["caf\udce9.jpg", r"$\frac$.jpg", "a$b$c", "100 % $"])
def test_any_name_can_be_drawn(name, tmp_path):
    """Text between dollar signs is a formula to matplotlib, and lone surrogates are an error."""
    picture = np.zeros((1, 8, 8, 3), dtype=np.uint8)
    shown = name.encode("ascii", "backslashreplace").decode().replace("$", r"\$")
    figure = confident_mistakes(picture, [f"x/{name}"], [name], ["River"], np.ones(1))
    assert figure.axes[0].texts[0].get_text() == f"100.0% sure\n{shown}"
    save_figure(figure, tmp_path / "mistakes.png")
    figure = confusion_matrix(np.eye(2, dtype=int), [name, "River"])
    assert figure.axes[0].get_yticklabels()[0].get_text() == shown
    save_figure(figure, tmp_path / "matrix.png")


def test_no_mistakes_is_good_news():
    images = np.zeros((0, 8, 8, 3), dtype=np.uint8)
    figure = confident_mistakes(images, [], [], [], np.ones(0))
    assert "No mistakes" in figure.texts[-1].get_text()


def test_saved_figure_is_a_whole_reproducible_png(tmp_path):
    path = tmp_path / "figures" / "matrix.png"
    written = []
    for _ in range(2):
        save_figure(confusion_matrix(np.eye(2, dtype=int), ["a", "b"]), path)
        written.append(path.read_bytes())
    assert written[0] == written[1]
    assert written[0].startswith(b"\x89PNG")
    assert list(path.parent.iterdir()) == [path]


def test_failed_save_leaves_the_old_picture(tmp_path):
    path = tmp_path / "matrix.png"
    path.write_bytes(b"old")
    figure = confusion_matrix(np.eye(2, dtype=int), ["a", "b"])
    figure.axes[0].set_title("$\\nonsense{$")  # matplotlib cannot draw this.
    with pytest.raises(ValueError, match="nonsense"):
        save_figure(figure, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("count", [31, 200, 1000])
def test_of_many_classes_the_worst_are_drawn_and_the_others_added_up(count):
    matrix = np.diag(np.full(count, 10))
    matrix[7, 9], matrix[count - 1, 7], matrix[1, 2] = 5, 3, 1
    figure = confusion_matrix(matrix, [f"class {i}" for i in range(count)])
    axes = figure.axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert len(names) == 30
    assert {"class 7", "class 9", f"class {count - 1}", "class 1", "class 2"} <= set(names)
    assert names[-1] == f"the {count - 29} other classes"
    cells = {text.get_position(): int(text.get_text()) for text in axes.texts}
    assert sum(cells.values()) == matrix.sum()
    assert cells[names.index("class 9"), names.index("class 7")] == 5
    assert cells[29, 29] == 10 * (count - 29)
    assert f"{10 * count} of {matrix.sum()} images right; the 29 classes with most" in title(figure)

"""The last lines that a fit prints: its accuracy, its run folder and the commands to go on with."""

import json
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from eurosat.data.store import StoreCard


@rank_zero_only
def show_next_steps(
    run_directory: Path, best: str, card: StoreCard, *, tested: bool, report: bool
) -> None:
    """Print the test accuracy, the run folder and the commands that use the best checkpoint.

    Args:
        run_directory: The run folder.
        best: Path of the best checkpoint.
        card: Description of the data.
        tested: Whether the best checkpoint was tested.
        report: Whether the report was drawn.
    """
    if tested:
        accuracy = json.loads((run_directory / "metrics.json").read_text("utf-8"))["accuracy"]
        kind = "synthetic data" if card.synthetic else card.source
        print(f"\nTest accuracy {accuracy:.2%} on {kind}")
    hint = "open report.html in a browser" if report else "'eurosat report' draws its report"
    print(f"Run folder    {run_directory}  ({hint})")
    print("Next:")
    if card.synthetic:
        print("  train on real data   eurosat fit --config configs/fast.yaml")
        print("                       (add --data.source EuroSAT_RGB.zip for a local archive)")
    print(f"  classify images      eurosat predict --ckpt_path {best} --data.images FOLDER")
    print(f"  serve the model      eurosat serve {best}")
    print(f"  export the model     eurosat export {best} --format openvino-int8")
    print(f"  test the checkpoint  eurosat test --ckpt_path {best} --data.source ...")

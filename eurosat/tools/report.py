"""``eurosat report``: draw the figures and write the reports of finished runs."""

from collections import Counter
from pathlib import Path

from eurosat.errors import ReportError
from eurosat.run_card import RUN_CARD


def report(run_folders: list[str], *, output: Path | None = None) -> None:
    """Draw the figures and write report.html of finished runs, from the files in the run folders.

    The command trains and tests nothing. The command reads run.json, config.yaml, metrics.csv,
    metrics.json, predictions.csv, mistakes.npz and profile.json, and replaces an earlier report.

    Args:
        run_folders: Run folders, such as outputs/<experiment>/<time>.
        output: Folder for the reports: each report is written to <output>/<name of the run folder>.
            Default: each report is written into its run folder.
    """
    from eurosat.evaluation.run_report import write_report
    from eurosat.files import writing_to

    folders = [Path(name) for name in run_folders]
    for folder in folders:
        if not (folder / RUN_CARD).is_file():
            raise ReportError(
                f"{folder} holds no {RUN_CARD}, so it is not the folder of a run: give a folder "
                "such as outputs/<experiment>/<time>"
            )
    names = Counter(folder.resolve().name for folder in folders)
    if output is not None and len(names) < len(folders):
        raise ReportError(
            f"several runs have the name {names.most_common(1)[0][0]}, and their reports would "
            "overwrite each other: call 'eurosat report' for each with an --output of its own"
        )
    for folder in folders:
        destination = folder if output is None else output / folder.resolve().name
        with writing_to(destination, ReportError):
            written = write_report(folder, destination)
        print(f"report in {written}")

"""``eurosat study``: grids of training runs with confidence intervals."""

import sys
from dataclasses import replace
from pathlib import Path


def study(
    file: Path,
    *,
    source: str | None = None,
    root: str | None = None,
    output: Path | None = None,
    only_results: bool = False,
) -> int:
    """Train every combination of a study's settings with several seeds, and compare the results.

    To resume a study, repeat the command: the command keeps finished runs, and continues an
    interrupted run from the run's last checkpoint. To train several runs at once, start the same
    command several times, also on other machines that share the output folder. After every run the
    command writes the results so far: runs.csv (one row per run), table.md and plot.png.

    Args:
        file: YAML file of the study, such as configs/studies/training_fraction.yaml.
        source: Data source of every run; if not given, the source in the configurations.
        root: Folder for decoded data; if not given, the folder in the configurations.
        output: Folder for runs and results; if not given, outputs/studies/<name of the study's
            file>.
        only_results: Train nothing, and write the results of the finished runs.
    """
    from eurosat.errors import StudyError
    from eurosat.files import check_writable_folder
    from eurosat.study.plan import read_study
    from eurosat.study.report import markdown_table, write_results
    from eurosat.study.results import summarise
    from eurosat.study.runner import check_settings, plan_runs, train

    plan = read_study(file)
    if source is not None:  # one of the settings, so that runs of another source are other runs
        plan = replace(plan, settings={**plan.settings, "data.source": source})
    output = output or Path("outputs") / "studies" / plan.name
    runs = plan_runs(plan, output)
    extra = [f"--data.root={root}"] if root else []
    failed = []
    if not only_results:
        check_settings(plan)
    check_writable_folder(output, StudyError)
    if not only_results:
        for run in train(plan, runs, extra):
            if run.finished:
                write_results(plan, summarise(plan, runs), output)
            else:
                failed.append(run)
    summaries = summarise(plan, runs)
    write_results(plan, summaries, output)
    print(markdown_table(plan, summaries))
    done = sum(len(summary.rows) for summary in summaries)
    print(f"{done} of {len(runs)} runs are done, see {output}")
    elsewhere = len(runs) - done - len(failed)
    if elsewhere and not only_results:
        print(f"{elsewhere} more under way in other processes")
    if failed:
        print(f"{len(failed)} runs failed; call it again to try them again", file=sys.stderr)
    return 1 if failed else 0

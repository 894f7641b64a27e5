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
    """Train every combination of a study's settings with several seeds, and compare them.

    Runs that are done already are left alone, and one that was cut off goes on from its last
    checkpoint: call it again until all is done. Call it several times at once, for several GPUs
    or on machines that share the folder, and each takes the runs that no other is at. After every
    run the results so far are written: runs.csv (one row a run), table.md and plot.png.

    Args:
        file: The study, such as configs/studies/training_fraction.yaml.
        source: Where the data are, for every run; what the configurations say if not given.
        root: Folder for decoded data; what the configurations say if not given.
        output: Folder of the runs and results; outputs/studies/<name> if not given.
        only_results: Train nothing; write the results of what is done.
    """
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

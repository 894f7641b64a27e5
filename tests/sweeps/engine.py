"""Asks W&B's sweeps engine; run by the Python of an environment that has it.

It needs NumPy 1, so it cannot live in the project's own environment.
"""

import json
import sys

import sweeps


def main() -> None:
    question = json.load(sys.stdin)
    config, runs = question["config"], [sweeps.SweepRun(**run) for run in question["runs"]]
    suggested = sweeps.next_runs(config, runs, validate=True, n=question["count"])
    stopped = sweeps.stop_runs(config, runs) if "early_terminate" in config else []
    answer = {
        "violations": sweeps.schema_violations_from_proposed_config(config),
        "suggested": [run.config for run in suggested],
        "stopped": [run.name for run in stopped],
    }
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()

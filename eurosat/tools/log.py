"""``eurosat log``: read or purge the predictions that a service logged."""

import sys
from pathlib import Path
from typing import Literal


def log(
    url: str,
    *,
    format: Literal["table", "csv", "parquet"] = "table",
    output: Path | None = None,
    since: str | None = None,
    until: str | None = None,
    model: str | None = None,
    purge_id: str | None = None,
    purge_before: str | None = None,
) -> int:
    """Read the prediction log of 'eurosat serve --log_url', or remove records from the log.

    The table, which is the default, is a summary with the latest images. CSV and Parquet have a row
    for each image: the request's id, the time, the model's version, the route, the latency, input
    statistics, probabilities and the out-of-distribution score. The command also counts what is
    missing: requests that the service could not log, and torn lines, whose end is missing.

    Args:
        url: Folder or URL that 'eurosat serve --log_url' was given, such as gs://bucket/log.
        format: 'table' for a summary and the latest images, 'csv' or 'parquet' for all images.
            Only 'parquet' contains the embeddings.
        output: File for the output; required for 'parquet'. Default: standard output.
        since: Time of the earliest record, such as 2026-11-26 or 2026-11-26T14:30; UTC unless the
            time has an offset such as +01:00. Default: the start of the log.
        until: End of the period, a time as in --since; a record of exactly this time is left out.
            Default: the end of the log.
        model: Version of the model whose records are shown. Default: all models.
        purge_id: Id of a request, or several ids with commas between them. The command permanently
            removes the records of these requests, and shows only how many records it removed. The
            command does not find records that the service has not uploaded yet.
        purge_before: Time as in --since. The command permanently removes all records before this
            time, and shows only how many records it removed.
    """
    from eurosat.errors import PredictionLogError
    from eurosat.monitoring.times import parse_time

    if purge_id is not None or purge_before is not None:
        if since or until or model or output or format != "table":
            raise PredictionLogError(
                "--purge_id and --purge_before remove records and show none: remove the other "
                "options, or read the log in a command of its own"
            )
        ids = frozenset(purge_id.split(",")) if purge_id else frozenset()
        return _purge(url, ids, parse_time("purge_before", purge_before))
    if format == "parquet" and output is None:
        raise PredictionLogError("Parquet is binary: name a file with --output")
    from eurosat.files import write_text
    from eurosat.monitoring.log.reader import read_log
    from eurosat.monitoring.log.tables import summary, to_csv, write_parquet

    found = read_log(url, since=parse_time("since", since), until=parse_time("until", until))
    if model is not None:
        found = found.of_model(model)
    if format == "parquet" and output is not None:
        write_parquet(found, output)
    else:
        text = summary(found) + "\n" if format == "table" else to_csv(found)
        if output is None:
            print(text, end="")
        else:
            write_text(output, text)
    _warn(found.dropped, found.torn)
    return 0


def _purge(url: str, ids: frozenset[str], before: float | None) -> int:
    from eurosat.errors import PredictionLogError
    from eurosat.monitoring.log.purge import purge

    done = purge(url, ids=ids, before=before)
    print(f"{done.records} records removed, {done.objects} objects replaced or deleted")
    if done.damaged:
        print(f"{done.damaged} objects are damaged: only what can be read was searched")
    if done.foreign:
        print(
            f"{done.foreign} lines are of a newer version and were not searched: upgrade eurosat, "
            "and repeat the command"
        )
    if not done.records and ids:
        raise PredictionLogError(
            "no record has these ids: check the ids, and wait until the service has uploaded its "
            "records (--log_seconds)"
        )
    return 0


def _warn(dropped: int, torn: int) -> None:
    """Say on standard error what the output lacks."""
    if dropped or torn:
        print(
            f"the log is incomplete: {dropped} requests were dropped, and {torn} lines or objects "
            "are torn",
            file=sys.stderr,
        )

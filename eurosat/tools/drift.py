"""``eurosat drift``: compare the traffic of a service with the model's validation images."""

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

from eurosat.logs import LogLevel

if TYPE_CHECKING:
    from eurosat.monitoring.reference import Reference


def drift(
    action: Literal["report", "serve"],
    *,
    reference: str,
    log: str,
    output: Path = Path("outputs/drift"),
    since: str | None = None,
    until: str | None = None,
    window: int = 300,
    host: Literal["0.0.0.0", "127.0.0.1"] = "0.0.0.0",
    port: int = 8001,
    interval: float = 60.0,
    lookback: float = 24.0,
    log_level: LogLevel = "info",
) -> int:
    """Compare the images that a service received with the validation images of its model.

    'eurosat drift report' reads a prediction log once and writes drift.html and drift.json.
    'eurosat drift serve' reads the log again and again and answers at /drift (JSON), /drift/report
    (HTML) and /metrics (Prometheus). If the environment variable EUROSAT_API_KEY is set, /drift and
    /drift/report need the key, as the routes of 'eurosat serve' do.

    The reference is what the model computed for its validation images; 'eurosat export' writes the
    reference into the file if the model gives features (embeddings). At most one image of each
    request counts, because images of one request are often alike; if neighbouring requests are
    alike, too, only every n-th request counts. The log is cut into windows of --window images that
    count. Each window is compared with the reference by tests of input statistics, probabilities,
    predicted classes and embeddings (the input of the model's last layer). Drift in the two newest
    windows is an alarm; the exit code of a report is 0 with and without an alarm.

    Args:
        action: 'report' for one report, 'serve' for a service.
        reference: Model URI of the model file that the service runs, such as model.onnx or
            registry:production; or the .reference.npz file beside a checkpoint.
        log: Folder or URL of the prediction log, as given to 'eurosat serve --log_url'.
        output: Folder for drift.html and drift.json; 'report' only.
        since: Earliest time of the log's records, such as 2026-11-26T14:00 (UTC unless the time has
            an offset such as +01:00); 'report' only. Default: the start of the log.
        until: End of the period, a time as in --since; a record of exactly this time is left out;
            'report' only. Default: the end of the log.
        window: Number of images that count in a window, at least 100. A smaller window finds
            larger changes only.
        host: Address to listen on: 0.0.0.0 for all network interfaces, 127.0.0.1 for this machine
            only; 'serve' only.
        port: Port to listen on; 'serve' only.
        interval: Seconds between two readings of the log; 'serve' only.
        lookback: Age in hours of the oldest records that 'eurosat drift serve' reads at its
            start; 'serve' only.
        log_level: Lowest level of messages that are logged.
    """
    from eurosat.api_key import read_api_key
    from eurosat.errors import DriftError
    from eurosat.logs import Logs
    from eurosat.monitoring.drift.families import MIN_PICTURES
    from eurosat.monitoring.times import parse_time

    if window < MIN_PICTURES:
        raise DriftError(
            f"--window {window} is too few images to say anything: choose at least {MIN_PICTURES}"
        )
    if action == "serve" and not (interval > 0 and lookback > 0):
        raise DriftError("--interval and --lookback must be more than 0")
    period = parse_time("since", since), parse_time("until", until)
    api_key = read_api_key() if action == "serve" else None
    from eurosat.monitoring import reference_files, statistics
    from eurosat.registry.find import find_model

    with TemporaryDirectory() as folder:
        file = Path(reference)
        known = reference_files.read_reference(
            file if file.suffix == ".npz" else find_model(reference, Path(folder))
        )
    names = statistics.statistic_names(known.bands)
    with Logs(log_level):
        if action == "report":
            return _report(known, names, log, output, period, window)
        return _serve(known, names, log, (host, port), window, interval, lookback, api_key)


def _report(
    reference: "Reference",
    names: tuple[str, ...],
    log: str,
    output: Path,
    period: tuple[float | None, float | None],
    window: int,
) -> int:
    from eurosat.errors import DriftError
    from eurosat.files import writing_to
    from eurosat.monitoring.drift.assessment import assess
    from eurosat.monitoring.drift.page import write_assessment
    from eurosat.monitoring.drift.traffic import select
    from eurosat.monitoring.log.reader import read_log

    found = read_log(log, since=period[0], until=period[1])
    assessment = assess(reference, select(found, reference), names, size=window)
    with writing_to(output, DriftError):
        page = write_assessment(assessment, reference, output)
    print(assessment.sentence)
    for note in assessment.notes:
        print(note)
    print(f"report in {page}, drift.json")
    return 0


def _serve(
    reference: "Reference",
    names: tuple[str, ...],
    log: str,
    address: tuple[str, int],
    window: int,
    interval: float,
    lookback: float,
    api_key: str | None,
) -> int:
    from eurosat.monitoring.drift.server import make_server, serve_until_stopped
    from eurosat.monitoring.drift.watch import Watch
    from eurosat.monitoring.log.reader import LogReader

    host, port = address
    start = time.time() - lookback * 3600
    reader = LogReader(log)
    watch = Watch(
        reference, lambda since: reader.read(since=since), names, size=window, start=start
    )
    server = make_server(watch, host, port, api_key=api_key)
    shown = "localhost" if host == "0.0.0.0" else host
    print(f"drift of {reference.model_version}: http://{shown}:{port}/drift/report", flush=True)
    serve_until_stopped(watch, server, interval)
    return 0

"""Logging of the command line: text lines on the console, JSON lines in a file."""

import logging
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, Self, TextIO

LogLevel = Literal["debug", "info", "warning", "error"]
"""What ``--log_level`` takes."""

FAILURE = "failure"
"""The ``event`` of the log record that says why a run failed."""

_HEARD = ("eurosat", "lightning.pytorch", "lightning.fabric")
"""Loggers whose records are shown from level ``info`` on; other loggers' from ``warning`` on.

Level ``debug`` applies to this project's logger only, because Lightning logs every hook of every
step at ``debug``.
"""


class Logs:
    """Sends log records and Python's warnings to the console, and to a file if there is one.

    This context manager restores the earlier logging configuration when it exits. Inside the
    context the root logger has two handlers: the console handler, which rich styles on a terminal,
    and the file handler, which writes one JSON object per line. The libraries' own handlers are
    detached, so that no record appears twice. In a run of several processes, the first process
    logs every record; each other process logs only warnings and errors, with its rank.
    """

    def __init__(self, level: LogLevel = "info", rank: Callable[[], int] = lambda: 0) -> None:
        """Store the settings; logging changes when the context is entered.

        Args:
            level: Lowest level that the console shows.
            rank: Returns the global rank of this process; the rank may become known late.
        """
        self._level: LogLevel = level
        self._rank = rank
        self._console: logging.Handler | None = None
        self._files: dict[Path, logging.Handler] = {}
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        """Attach the console handler, and route Python's warnings to the log."""
        root = logging.getLogger()
        self._undo.callback(root.setLevel, root.level)
        root.setLevel(logging.WARNING)
        for name in ("lightning", *_HEARD):
            logger = logging.getLogger(name)
            self._undo.callback(_restore, logger, logger.level, logger.propagate, logger.handlers)
            logger.handlers, logger.propagate = [], True
            logger.setLevel(logging.INFO)
        make_record = logging.getLogRecordFactory()

        def record_once(name: str, *args: Any, **kwargs: Any) -> logging.LogRecord:
            self._detach_handlers(name)
            return make_record(name, *args, **kwargs)

        self._undo.callback(logging.setLogRecordFactory, make_record)
        logging.setLogRecordFactory(record_once)
        self._undo.callback(setattr, warnings, "showwarning", warnings.showwarning)
        warnings.showwarning = _log_warning
        self._console = _terminal_handler() if sys.stderr.isatty() else _plain_handler()
        self._console.addFilter(_is_news)
        self._add(self._console)
        self.set_level(self._level)
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files and restore the earlier logging configuration."""
        self._undo.close()
        self._console = None
        self._files.clear()

    def _detach_handlers(self, name: str) -> None:
        """Detach the console handlers of a logger whose records reach the root logger as well.

        A library may be imported, and attach its handler, at any time.
        """
        chain, logger = list[logging.Logger](), logging.getLogger(name)
        while logger.parent is not None:
            if not logger.propagate:
                return
            chain.append(logger)
            logger = logger.parent
        for logger in chain:
            for handler in list(logger.handlers):
                if type(handler) is logging.StreamHandler and handler.stream is not sys.stdout:
                    logger.removeHandler(handler)
                    self._undo.callback(logger.addHandler, handler)

    def set_level(self, level: LogLevel) -> None:
        """Set the lowest level that the console shows.

        A log file holds every record from ``info`` on, whatever the console shows, and the
        ``debug`` records where the console shows them.
        """
        if self._console is not None:
            self._console.setLevel(level.upper())
            logging.getLogger("eurosat").setLevel(min(logging.INFO, self._console.level))

    def write_to(self, path: Path) -> None:
        """Append all later records to a file as well, until the context exits.

        Every line is an object with ``time`` (UTC, ISO 8601), ``level``, ``logger``, ``message``
        and ``rank``, with the ``extra`` fields of the record, and with the ``traceback`` of an
        exception. Several processes of a machine may write to the same file.

        Args:
            path: The file; its folder is created. A second call with the same path changes nothing.
        """
        if path not in self._files:
            self._files[path] = _JSONLines(path)
            self._add(self._files[path])

    def _add(self, handler: logging.Handler) -> None:
        def speaks(record: logging.LogRecord) -> bool:
            rank = vars(record)["rank"] = self._rank()
            return rank == 0 or record.levelno >= logging.WARNING

        handler.addFilter(speaks)
        logging.getLogger().addHandler(handler)
        self._undo.callback(handler.close)
        self._undo.callback(logging.getLogger().removeHandler, handler)


class _JSONLines(logging.Handler):
    """Appends every record to a file with one system call.

    One system call per line keeps the lines of several processes apart. `logging.FileHandler`
    buffers, and its buffer splits long lines.
    """

    def __init__(self, path: Path) -> None:
        from pythonjsonlogger.json import JsonFormatter

        super().__init__()
        formatter = JsonFormatter(
            ["asctime", "levelname", "name", "message", "rank"],
            rename_fields={
                "asctime": "time",
                "levelname": "level",
                "name": "logger",
                "exc_info": "traceback",
            },
            json_default=str,
        )
        formatter.converter = time.gmtime
        formatter.default_time_format = "%Y-%m-%dT%H:%M:%S"
        formatter.default_msec_format = "%s.%03dZ"
        self.setFormatter(formatter)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        try:
            self._file.write(self.format(record).encode() + b"\n")
        except Exception:  # as in every handler: a failing log must not stop the run
            self.handleError(record)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


class _Lines(logging.Formatter):
    """Adds the rank to the message of every process but the first."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        if rank := vars(record).get("rank"):
            record.message = f"rank {rank}: {record.message}"
        return super().formatMessage(record)


def _plain_handler() -> logging.Handler:
    handler = logging.StreamHandler()
    handler.setFormatter(_Lines("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    return handler


def _terminal_handler() -> logging.Handler:
    import rich
    from rich.console import Console
    from rich.logging import RichHandler
    from tqdm import tqdm

    class AboveProgressBars(RichHandler):
        """Clears tqdm's progress bars while a line is written."""

        def emit(self, record: logging.LogRecord) -> None:
            with tqdm.external_write_mode(file=sys.stderr):
                super().emit(record)

    # Rich keeps log lines above its progress bars only on the console that draws the bars.
    console = rich.get_console() if sys.stdout.isatty() else Console(stderr=True)
    handler = AboveProgressBars(console=console, show_path=False, log_time_format="%H:%M:%S")
    handler.setFormatter(_Lines())
    return handler


def _is_news(record: logging.LogRecord) -> bool:
    """Whether the console should show a record; a failed command prints its own error."""
    return getattr(record, "event", None) != FAILURE


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Replacement for `warnings.showwarning`; the last two arguments are unused."""
    logging.getLogger("py.warnings").warning(
        "%s: %s (%s:%d)",
        category.__name__,
        message,
        filename,
        lineno,
        extra={"event": "warning", "category": category.__name__, "file": filename, "line": lineno},
    )


def _restore(logger: logging.Logger, level: int, propagate: bool, handlers: list[Any]) -> None:
    logger.setLevel(level)
    logger.propagate, logger.handlers = propagate, handlers

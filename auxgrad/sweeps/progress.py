"""Show the progress of a sweep: a line for each run that has ended, and a live line for all."""

from __future__ import annotations

import datetime
import time
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from auxgrad.execution.result import Failure, Outcome, Result


class Progress:
    """Prints the progress of a sweep, on a terminal with a live line below the others.

    Args:
        total: The number of runs.
        live: Whether a live line may be shown.
    """

    def __init__(self, total: int, live: bool) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._n_total = total
        self._running: set[int] = set()
        self._n_done = self._n_failed = 0
        # The time and the number of ended runs when the estimate begins. It leaves out the first
        # run of each worker, which includes imports, compilation and waiting in a queue.
        self._warm: tuple[float, int] | None = None
        self._slots = 0
        self._has_estimate = False
        self._live: Live | None = None
        if live and self._console.is_terminal:
            self._live = Live(
                get_renderable=self._line,
                console=self._console,
                refresh_per_second=2,
                transient=True,  # The line is removed at the end, where it would repeat older numbers.
            )

    def __enter__(self) -> Progress:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._remove_live_line()

    def _remove_live_line(self) -> None:
        if self._live:
            self._live.stop()

    def say(self, line: str) -> None:
        """Print a line."""
        self._console.print(Text(line))

    def finish(self, word: str, rest: str = "") -> None:
        """Remove the live line and print the numbers of runs that are done, failed and left.

        Args:
            word: The first word of the line.
            rest: The end of the line.
        """
        self._remove_live_line()
        left = self._n_total - self._n_done - self._n_failed
        self.say(f"{word:9} {self._n_done} done, {self._n_failed} failed, {left} left{rest}")

    def count_done(self, finished: int) -> None:
        """Count the runs that the store has as finished, of which some may not have been reported.

        Args:
            finished: Their number.
        """
        self._n_done = max(self._n_done, finished)

    def start(self, job: int) -> None:
        """Count a job as running."""
        self._running.add(job)
        if self._live:
            self._live.refresh()  # A run may end before the next refresh.

    def end(self, job: int, name: str, outcome: Outcome, final: bool) -> None:
        """Print a line for a run that has ended.

        Args:
            job: The number of the job.
            name: The name of the run.
            outcome: The outcome of the job.
            final: Whether the outcome is final; otherwise the run is tried again.
        """
        self._slots = max(self._slots, len(self._running))
        self._running.discard(job)
        if isinstance(outcome, Failure):
            if not outcome.is_failed_attempt and not final:
                self.say(f"later     {name}: {outcome.error}")
            else:
                self._n_failed += final
                again = "" if final else "; will be tried again"
                self.say(f"failed    {name}: {outcome.error}{again}")
            return
        self._n_done += 1
        if outcome.was_finished:
            self.say(f"done      {name}: finished in the meantime by another sweep")
            return
        self._say_done(name, outcome)

    def _say_done(self, name: str, result: Result) -> None:
        place = f"{self._n_done:>{len(str(self._n_total))}}/{self._n_total}"
        self.say(f"done {place}  {name}  test loss {result.test_loss:.4f}  {result.seconds:.1f} s")
        ended = self._n_done + self._n_failed
        if self._warm is None and ended >= self._slots:
            self._warm = time.monotonic(), ended
        if not self._has_estimate and ended >= 3 * self._slots and (left := self._seconds_left()):
            self._has_estimate = True
            until = datetime.datetime.now() + datetime.timedelta(seconds=left)
            self.say(f"time      about {duration(left)} more, until {until:%Y-%m-%d %H:%M}")

    def _seconds_left(self) -> float | None:
        ended = self._n_done + self._n_failed
        if self._warm is None or ended <= self._warm[1]:
            return None
        since, before = self._warm
        return (time.monotonic() - since) / (ended - before) * (self._n_total - ended)

    def _line(self) -> Text:
        waiting = self._n_total - self._n_done - self._n_failed - len(self._running)
        seconds = self._seconds_left()
        go = f"; {duration(seconds)} to go" if seconds is not None else ""
        filled = round(20 * self._n_done / self._n_total)
        bar = "━" * filled + "╌" * (20 - filled)
        return Text(
            f"{bar} {self._n_done} done, {len(self._running)} running, {self._n_failed} failed, "
            f"{waiting} waiting{go}",
            no_wrap=True,
        )


def print_failures(failures: list[tuple[str, Failure]]) -> None:
    """Print a table of failures.

    Args:
        failures: The names of the runs and their failures.
    """
    table = Table(title="Failed runs", title_justify="left")
    for heading in ("run", "error", "folder"):
        table.add_column(heading, overflow="fold")
    for name, outcome in failures:
        table.add_row(Text(name), Text(outcome.error), Text(outcome.folder))
    console = Console(highlight=False)
    console.print(table)


def duration(seconds: float) -> str:
    """Return a duration as text, in its two largest units.

    Args:
        seconds: The duration in seconds.

    >>> [duration(seconds) for seconds in (4.2, 75, 3600, 200_000)]
    ['4 s', '1 min 15 s', '1 h 0 min', '2 d 7 h']
    """
    whole = round(seconds)
    for unit, length, smaller, part in (
        ("d", 86400, "h", 3600),
        ("h", 3600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if whole >= length:
            return f"{whole // length} {unit} {whole % length // part} {smaller}"
    return f"{whole} s"

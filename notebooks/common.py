"""What the notebooks share: the log that they read, the words they end with, and how their plots look.

All reading of the log goes through `pipeline.log.reading.query.LogQuery`; nothing here knows its files' form.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

import matplotlib.dates as mdates
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from cycler import cycler
from IPython.display import Markdown, display
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))  # Jupyter starts in this folder

from pipeline.demo import sample
from pipeline.log.reading.query import LogQuery

BUCKETS = 96  # a day's are quarters of an hour
STEPS = (60, 300, 900, 3600, 3 * 3600, 6 * 3600, 86400)  # seconds

INK, FAINT, GRID = "#24292f", "#8c959f", "#d8dee4"
ACCEPTED, DEFERRED, FAILED = "#1a9e77", "#f0b429", "#d1495b"
COLOURS = {"delivered": ACCEPTED, "retry": DEFERRED, "fail": FAILED}
LABELS = {"delivered": "accepted", "retry": "put off", "fail": "given up"}
SERIES = ("#2f6fb0", "#e07b39", "#7a5aa6", "#3a9188", "#b5477a", "#7d8a2e", "#5b6470", "#c2a03a")
# Dark at the bad end: red and green alone are the same to one man in twelve.
SHARE = LinearSegmentedColormap.from_list("share", ["#7d1128", FAILED, DEFERRED, "#f4f1de", "#7cc6ae", ACCEPTED])
SHARE.set_bad("white")

plt.rcParams.update(
    {
        "figure.figsize": (11, 4.2),
        "figure.dpi": 110,
        "figure.constrained_layout.use": True,
        "axes.prop_cycle": cycler(color=SERIES),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": FAINT,
        "axes.labelcolor": INK,
        "axes.titlelocation": "left",
        "axes.titleweight": "bold",
        "axes.titlesize": 11,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": GRID,
        "grid.linewidth": 0.7,
        "xtick.color": INK,
        "ytick.color": INK,
        "text.color": INK,
        "font.size": 9.5,
        "legend.frameon": False,
    }
)


def open_log(path: str | None = None) -> LogQuery:
    """The delivery log to look at.

    Args:
        path: a folder with `send.jsonl` and `received.jsonl`, or a send-log. None: what MAILRACE_LOGS names, or, where
            it is not set, a day of the demo's log.
    """
    given = path or os.environ.get("MAILRACE_LOGS")
    if given is None:
        send = _sample()
    else:
        send = Path(given).expanduser()
        send = send / "send.jsonl" if send.is_dir() else send
    if not send.parent.is_dir():
        raise SystemExit(f"{send.parent}: there is no such folder; MAILRACE_LOGS names the one with send.jsonl")
    log = LogQuery(send, send.with_name("received.jsonl"))
    (attempts, first, last), *_ = log.sql("SELECT count(*), min(time), max(time) FROM attempts").fetchall()
    if not attempts:
        raise SystemExit(f"{send}: holds no attempts")
    whose = "The demo’s sample" if given is None else send
    print(f"{whose}: {attempts:,} attempts, {first:%F %H:%M} to {last:%F %H:%M} UTC")
    return log


def _sample() -> Path:
    """A day of the demo's log, one for all notebooks: written once, and anew where what writes it has changed."""
    sources = [*(HERE.parent / "pipeline").glob("demo/*.py"), *(HERE.parent / "pipeline").glob("log/*.py")]
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sorted(sources)))
    folder = HERE / ".sample" / digest.hexdigest()[:12]
    if not folder.exists():
        print("Writing a day of the demo’s log, for all notebooks: some seconds, once.")
        folder.parent.mkdir(exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=folder.parent))
        sample.write(part)
        try:
            part.rename(folder)
        except OSError:  # another notebook was faster
            shutil.rmtree(part)
    return folder / "send.jsonl"


def step(log: LogQuery) -> int:
    """Seconds of a bucket, so that a plot over the whole log has at most about BUCKETS of them."""
    ((span,),) = log.sql("SELECT epoch(max(time)) - epoch(min(time)) FROM attempts").fetchall()
    return next((seconds for seconds in STEPS if span / seconds <= BUCKETS), STEPS[-1])


def findings(*lines: str) -> None:
    """What this log says, in words."""
    display(Markdown("### What this log says\n\n" + "\n".join(f"- {line}" for line in lines)))


class TooLittle(SystemExit):
    """This log has too little for this notebook; its last words have said so."""

    def _render_traceback_(self) -> list[str]:
        return [f"This notebook ends here: {self}"]


def enough(there: object, missing: str) -> None:
    """Go on where there is something; else say what is missing, and end the notebook."""
    if not there:
        findings(f"**Too little for this notebook**: {missing}.")
        raise TooLittle(missing)


def needs(log: LogQuery, *columns: str) -> None:
    """End the notebook where the log says nothing of one of these: an old one, or one that another program wrote."""
    (counts,) = log.sql("SELECT " + ", ".join(f"count({name})" for name in columns) + " FROM attempts").fetchall()
    empty = [name for name, count in zip(columns, counts, strict=True) if not count]
    enough(not empty, f"no attempt of this log says {' or '.join(empty)}")


def time_axis(axes: Axes, most: int = 10) -> None:
    """Times without more digits than needed, at `most` ticks."""
    locator = mdates.AutoDateLocator(minticks=3, maxticks=most)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(mdates.ConciseDateFormatter(locator, show_offset=False))


def shares(axes: Axes, table: pd.DataFrame, title: str, text: bool = False) -> None:
    """A table of shares from 0 to 1 as a heat map: columns that are times get a time axis."""
    times = isinstance(table.columns, pd.DatetimeIndex)
    left = mdates.date2num(table.columns) if times else np.arange(table.shape[1])
    width = left[1] - left[0] if len(left) > 1 else 1
    edges = np.append(left, left[-1] + width) - (0 if times else width / 2)
    image = axes.pcolormesh(edges, np.arange(len(table) + 1) - 0.5, table.to_numpy(float), cmap=SHARE, vmin=0, vmax=1)
    axes.set(title=title, yticks=range(len(table)), yticklabels=table.index)
    axes.invert_yaxis()
    axes.grid(visible=False)
    if times:
        axes.xaxis_date()
        time_axis(axes)
    else:
        axes.set_xticks(left, table.columns)
    if text:
        for (row, column), value in np.ndenumerate(table.to_numpy(float)):
            if not np.isnan(value):
                ink = "white" if value < 0.15 else INK
                axes.text(column, row, f"{value:.0%}", ha="center", va="center", fontsize=8.5, color=ink)
    bar = axes.figure.colorbar(image, ax=axes, pad=0.01, aspect=30, format=lambda value, _: f"{value:.0%}")
    bar.outline.set_visible(False)

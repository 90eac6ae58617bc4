"""When a task will start and when it will end, from how the last ones of its kind waited and ran. Pure.

Nothing is assumed of how long tasks take. The next of n like values falls into each of the n + 1 cells between them
with the same chance (exchangeability: Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World", 2005),
which makes a quantile of the past one of the future. Beyond the largest there is no past: a value that has lasted so
long lasts x times as long with a chance of 1/x (Gott, "Implications of the Copernican principle", Nature 363, 1993).

Moments are Unix time and durations are seconds, as float.
"""

from __future__ import annotations

import datetime as dt
import itertools
import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import NamedTuple

import orjson

# Of fewer finished tasks nothing can be told.
SAMPLE_AT_LEAST = 5
# What is likely is told by so many equally likely values.
STEPS = 20
CHANCES = [(step + 0.5) / STEPS for step in range(STEPS)]
NORMAL = [NormalDist().inv_cdf(chance) for chance in CHANCES]
# Of starts one after another, at most this part of the history is looked at as a whole.
STRETCH = 4
# How far, by the logarithm, progress is from the time it takes: where half is done, a standard deviation. That is what
# some thirty items show whose costs differ as exponential ones do, with a while at the start that counts for nothing.
DOUBT = 0.5
DOUBT_AT_MOST = 2.0
# An almost finished task still has something to do.
SHARE_AT_MOST = 0.99
# What lies beyond the calendar is its end.
LAST_MOMENT = dt.datetime(9999, 1, 1, tzinfo=dt.UTC).timestamp()


class Run(NamedTuple):
    """A task that was started: its moments; `ended` is None while it runs."""

    created: float
    started: float
    ended: float | None


class Moments(NamedTuple):
    """Before which moment something happens, with a chance of 50 and of 90 in 100."""

    p50: float
    p90: float


class Forecast(NamedTuple):
    """What is expected of a task; None where it cannot be told. `sample`: from how many finished tasks."""

    position: int | None = None
    starts_at: Moments | None = None
    ends_at: Moments | None = None
    sample: int = 0

    @property
    def json(self) -> bytes:
        """As clients get it."""
        return orjson.dumps(
            {
                "position": self.position,
                "starts_at": _told(self.starts_at),
                "ends_at": _told(self.ends_at),
                "sample": self.sample,
            },
            option=orjson.OPT_UTC_Z,
        )


def _told(moments: Moments | None) -> dict[str, dt.datetime] | None:
    if moments is None:
        return None
    return {name: _moment(seconds) for name, seconds in moments._asdict().items()}


def _moment(seconds: float) -> dt.datetime:
    """To the millisecond."""
    return dt.datetime.fromtimestamp(round(min(seconds, LAST_MOMENT), 3), dt.UTC)


@dataclass(frozen=True)
class History:
    """How the last tasks of a kind waited and ran.

    `durations`: how long those that have ended ran, ascending. `heads`: how long each was the first in line before it
    started, in the order of starts; `last_start`: the moment of the last.
    """

    durations: Sequence[float]
    heads: Sequence[float]
    last_start: float

    @classmethod
    def of(cls, runs: Iterable[Run]) -> History:
        """Take in tasks, ended and running ones."""
        runs = sorted(runs, key=lambda run: run.started)
        durations = sorted(max(0.0, run.ended - run.started) for run in runs if run.ended is not None)
        heads = [max(0.0, run.started - max(run.created, before.started)) for before, run in itertools.pairwise(runs)]
        return cls(durations, heads, runs[-1].started if runs else -math.inf)

    @cached_property
    def likely_durations(self) -> list[float]:
        """Equally likely durations of the next task, ascending."""
        return _steps(self.durations)

    @property
    def is_enough(self) -> bool:
        """Whether anything can be told from it."""
        return len(self.durations) >= SAMPLE_AT_LEAST


def of_waiting(history: History, now: float, position: int, first_created: float) -> Forecast:
    """What is expected of a task that waits; the first in its line was created at that moment."""
    sample = len(history.durations)
    if not history.is_enough:
        return Forecast(position, sample=sample)
    waits = _waits(history, position, max(0.0, now - max(first_created, history.last_start)))
    ends = sorted(wait + duration for wait in waits for duration in history.likely_durations)
    return Forecast(position, _moments(now, waits), _moments(now, ends), sample)


def of_started(history: History, now: float, started: float, share: float) -> Forecast:
    """What is expected of a task that runs, of which a share from 0 to 1 is done."""
    sample = len(history.durations)
    if not history.is_enough:
        return Forecast(sample=sample)
    return Forecast(ends_at=_moments(now, _left(history, max(0.0, now - started), share)), sample=sample)


def has_changed(old: Forecast, new: Forecast, now: float) -> bool:
    """Whether one forecast differs from another by more than a tenth of what was left, or of the position."""
    if (old.position is None) != (new.position is None):
        return True
    if old.position and new.position and abs(new.position - old.position) > old.position / 10:
        return True
    return _moved(old.starts_at, new.starts_at, now) or _moved(old.ends_at, new.ends_at, now)


def _moved(old: Moments | None, new: Moments | None, now: float) -> bool:
    if old is None or new is None:
        return old is not new
    return any(abs(after - before) > max(1.0, before - now) / 10 for before, after in zip(old, new, strict=True))


def quantile(ascending: Sequence[float], chance: float, passed: float = 0.0) -> float:
    """What the next value stays below with a chance, given the values that were, and that it is more than `passed`."""
    beyond = ascending[bisect_right(ascending, passed) :]
    place = chance * (len(beyond) + 1)
    cell = int(place)
    lower = beyond[cell - 1] if cell else passed
    if cell == len(beyond):
        return lower / (1 - (place - cell))
    return lower + (place - cell) * (beyond[cell] - lower)


def _steps(ascending: Sequence[float], passed: float = 0.0) -> list[float]:
    """Equally likely values of the next one, ascending."""
    return [quantile(ascending, chance, passed) for chance in CHANCES]


def _moments(now: float, likely: Sequence[float]) -> Moments:
    """From equally likely durations, ascending."""
    middle, late = len(likely) // 2, len(likely) * 9 // 10
    return Moments(now + sum(likely[middle - 1 : middle + 1]) / 2, now + sum(likely[late - 1 : late + 1]) / 2)


def _left(history: History, passed: float, share: float) -> list[float]:
    """Equally likely durations until a task ends that has run for so long, and of which a share is done.

    A past duration counts for as much as it agrees with the task's own progress, by which the whole takes `passed /
    share` (Bayes' rule: a normal likelihood of its logarithm). One value more, of which only that progress tells,
    stands for a task like none before.
    """
    if share <= 0 or passed <= 0:
        return [total - passed for total in _steps(history.durations, passed)]
    share = min(share, SHARE_AT_MOST)
    whole, doubt = passed / share, min(DOUBT * math.sqrt((1 - share) / share), DOUBT_AT_MOST)
    weights = [
        (total, math.exp(-((math.log(total / whole) / doubt) ** 2) / 2))
        for total in history.durations[bisect_right(history.durations, passed) :]
    ]
    weights += [(max(passed, whole * math.exp(doubt * normal)), 1 / STEPS) for normal in NORMAL]
    weights.sort()
    sums = list(itertools.accumulate(weight for _, weight in weights))
    return [weights[bisect_left(sums, chance * sums[-1])][0] - passed for chance in CHANCES]


def _waits(history: History, position: int, passed: float) -> list[float]:
    """Equally likely durations until the start of a task, where the first in line has been there for so long.

    From stretches of the past of as many starts, each begun by a task that was first in line for longer than that. The
    past is taken as a circle (Politis and Romano, "A circular block-resampling procedure for stationary data", 1992).
    """
    heads, rest = history.heads, position - 1
    mean = sum(heads) / len(heads)
    reach = min(rest, max(1, len(heads) // STRETCH))
    sums = [0.0, *itertools.accumulate([*heads, *heads])]
    stretches = [sums[start + reach] - sums[start] for start in range(1, len(heads) + 1)]
    if reach:
        # A sum of independent stretches is as far from its mean; and the mean of a past is not that of the future.
        wider = math.sqrt(rest / reach * (1 + rest / len(heads)))
        stretches = [rest * mean + wider * (stretch - reach * mean) for stretch in stretches]
    waits = [head - passed + stretch for head, stretch in zip(heads, stretches, strict=True) if head > passed]
    if waits:
        return _steps(sorted(max(0.0, wait) for wait in waits))
    alike = zip(_steps([], passed), _steps(sorted(stretches)), strict=True)
    return [head - passed + stretch for head, stretch in alike]

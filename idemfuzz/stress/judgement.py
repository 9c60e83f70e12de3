"""The judgement: the same oracle as in a search, over all jobs at once, and told job by job."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from idemfuzz.checkers import Problem, State, compare
from idemfuzz.diagnose import CODES, summary_of
from idemfuzz.model import Difference, DifferenceKind, Note, Verdict
from idemfuzz.reporting.certificate import counted
from idemfuzz.stress.differences import Clean, code_of, is_certain, undone, without_order
from idemfuzz.stress.doings import STRANGER, behaviours, is_taken, never_done, strange_executions, why_lost
from idemfuzz.stress.ledger import Ledger
from idemfuzz.stress.owners import Arguments, Owners
from idemfuzz.stress.report import Behaviour, Story, StressFinding, StressReport
from idemfuzz.stress.settings import Settings
from idemfuzz.stress.storm import Storm
from idemfuzz.stress.story import cause_of, story_of

__all__ = ["Judgement"]

_STORIES_MAX = 3
_OF_STRESS = " A note of a stress run."
"""As a code's page has it; here that goes without saying."""
_DIFFERENCES_MAX = 5


@dataclass(slots=True)
class _Found:
    """One finding in the making: numbers, and a few examples."""

    summary: str = ""
    count: int = 0
    jobs: set[int] = field(default_factory=set)
    differences: list[Difference] = field(default_factory=list)
    stories: list[Story] = field(default_factory=list)
    causes: Counter[str] = field(default_factory=Counter)

    def tell(self, story: Story) -> None:
        """Keep the stories with a cause, and of these the short ones."""
        self.stories.append(story)
        self.stories.sort(key=lambda story: (story.cause == "", len(story.timeline)))
        del self.stories[_STORIES_MAX:]


@dataclass(slots=True)
class _Seen:
    """One of RQ's doings in the making."""

    count: int = 0
    ways: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    story: Story | None = None
    length: int = 0


class Judgement:
    """Takes one round after the other; `report` says what came of all of them.

    Invariant: what is kept of a round does not grow with its size, but for the numbers of the jobs.
    """

    def __init__(self, name: str, settings: Settings, arguments: Arguments) -> None:
        self._name = name
        self._settings = settings
        self._arguments = arguments
        self._found: dict[tuple[str, str, str], _Found] = {}
        self._lost: dict[tuple[str, str], _Found] = {}
        self._seen: dict[str, _Seen] = {}
        self._notes: dict[Note, None] = {}
        self._jobs: set[int] = set()
        self._rounds = 0
        self._overlapping = 0
        self._repeated = 0
        """Messages that were delivered more than once, and jobs of which copies were sent."""
        self._taken = 0
        """Messages that somebody else's worker has run."""
        self._strange = 0
        """Messages that nobody of the run's has sent."""
        self._crashes: Sequence[str] = ()
        self._replaced = 0
        self._interrupted = False
        self._unfinished = False

    @property
    def findings(self) -> int:
        """How many there are until now."""
        return len(self._found) + len(self._lost)

    def interrupt(self) -> None:
        """The run ends before everything was judged."""
        self._interrupted = True

    def take(self, clean: Clean, state: State, storm: Storm) -> None:
        """Judge a round whose storm left ``state``."""
        ledger = storm.ledger
        jobs = ledger.jobs
        self._rounds += 1
        self._jobs.update(jobs)
        self._interrupted |= storm.interrupted
        self._unfinished |= storm.unfinished
        self._crashes, self._replaced = storm.crashes, self._replaced + storm.replaced
        self._overlapping += sum(m.overlaps for m in ledger.messages.values())
        self._repeated += sum(m.queued + len(m.requeued) > 1 for m in ledger.messages.values())
        self._repeated += sum(len(messages) > 1 for messages in jobs.values())
        taken = {
            message.job_id
            for message in ledger.messages.values()
            if is_taken(message, storm.fate_of.get(message.job_id, {}))
        }
        self._taken += len(taken)
        self._strange += strange_executions(ledger)
        self._compare(clean, state, storm)
        self._note_lost(storm, taken)
        self._note_behaviours(storm, taken)

    def report(
        self, ledger: Ledger, *, stores: Sequence[str], seconds: float, storm_seconds: float
    ) -> StressReport:
        """All rounds together."""
        findings = [self._finding(key[0], found) for key, found in sorted(self._found.items())]
        findings += [self._finding(code, found, why) for (code, why), found in self._lost.items()]
        why = self._why_unknown(ledger)
        if self._crashes:
            text = f"{len(self._crashes)} workers ended by themselves; the first: {self._crashes[0]}"
            self._notes[Note("IDM901", text)] = None
        if self._strange:
            text = (
                f"{counted(self._strange, 'message')} were run that neither this run nor the body of a job has sent: something else (a "
                "callback, another producer) puts jobs into its queue, and what they did is in the state that was judged"
            )
            self._notes[Note("IDM901", text)] = None
        if ledger.counts["doubtful calls"]:
            text = (
                f"{ledger.counts['doubtful calls']} outside calls were under way when their process was killed; whether they "
                "took place is not known, and they are not counted"
            )
            self._notes[Note("IDM901", text)] = None
        return StressReport(
            self._name,
            Verdict.VIOLATED if findings else Verdict.UNKNOWN if why else Verdict.HOLDS,
            tuple(findings),
            tuple(self._behaviour(code, seen) for code, seen in sorted(self._seen.items())),
            tuple(self._notes),
            self._counts(ledger),
            dict(ledger.strikes),
            tuple(stores),
            _bounds(self._settings, self._rounds),
            self._settings.seed,
            seconds,
            storm_seconds,
            _percentiles(ledger.latencies),
            why,
        )

    # -- the state ---------------------------------------------------------------------------------------

    def _compare(self, clean: Clean, state: State, storm: Storm) -> None:
        """Find what differs and whose it is."""
        ledger = storm.ledger
        differences, notes = without_order(compare(clean.state, state, clean.noise).differences, clean)
        self._notes |= dict.fromkeys(notes)
        owners = Owners(self._arguments, clean.numbers, clean.noise)
        never_sent = set(clean.numbers) - set(ledger.jobs)
        owned = [(difference, owners.of(difference)) for difference in differences]
        left_undone = undone(owned, clean)
        unfinished = never_done(ledger)
        pending = ledger.pending() if storm.cut_short else set()
        kept: dict[tuple[str, str, str], list[tuple[Difference, int | None]]] = defaultdict(list)
        for difference, owner in owned:
            if owner in never_sent:
                continue
            code = code_of(difference, None if owner is None else ledger.of_job(owner))
            if code is None:
                continue
            if code == "IDM202" and owner in left_undone:
                code = "IDM201"
            if code.startswith("IDM4"):
                text = f"{difference.group} is left behind until it expires"
                self._notes[Note(code, text)] = None
                continue
            if (owner is None or owner in pending) and storm.cut_short and not is_certain(difference):
                continue
            if (
                unfinished
                and owner is None
                and difference.kind is DifferenceKind.CHANGED
                and not difference.twice
            ):
                text = (
                    f"{difference.store}: {difference.group} is made by several jobs, of which {len(unfinished)} were never "
                    "done: it was not judged"
                )
                self._notes[Note("IDM204", text)] = None
                continue
            kept[code, difference.store, difference.group].append((difference, owner))
        for key, found in kept.items():
            self._keep(key, found, ledger)

    def _keep(
        self,
        key: tuple[str, str, str],
        found: Sequence[tuple[Difference, int | None]],
        ledger: Ledger,
    ) -> None:
        kept = self._found.setdefault(key, _Found())
        first = found[0][0]
        kept.summary = kept.summary or summary_of(Problem(key[0], first.store, first.group, first))
        kept.count += len(found)
        kept.differences += [
            difference for difference, _ in found[: _DIFFERENCES_MAX - len(kept.differences)]
        ]
        if all(owner is None for _, owner in found):
            self._suspect(kept, ledger)
        for owner in dict.fromkeys(owner for _, owner in found if owner is not None):
            kept.jobs.add(owner)
            messages = ledger.of_job(owner)
            if cause := cause_of(messages):
                kept.causes[cause] += 1
            if len(kept.stories) < _STORIES_MAX or not kept.stories[-1].cause:
                kept.tell(story_of(owner, ledger, self._arguments))

    def _suspect(self, kept: _Found, ledger: Ledger) -> None:
        """Nobody's own, as a counter of all: the jobs that were run again are those that can have done it, first those that were cut."""
        runs_of = {
            job: [run for message in messages for run in message.runs]
            for job, messages in ledger.jobs.items()
        }
        for job in sorted(runs_of, key=lambda job: not any(run.struck for run in runs_of[job])):
            messages = ledger.of_job(job)
            if len(runs_of[job]) > 1 and (cause := cause_of(messages)):
                kept.causes[cause] += 1
                if len(kept.stories) < _STORIES_MAX:
                    kept.tell(story_of(job, ledger, self._arguments))

    def _finding(self, code: str, found: _Found, why: str = "") -> StressFinding:
        entry = CODES[code]
        causes = "; ".join(f"{count} × {cause}" for cause, count in found.causes.most_common(4))
        summary = found.summary
        if why:
            summary = f"{found.count} job{'s were' if found.count > 1 else ' was'} never done"
        return StressFinding(
            code,
            entry.title,
            summary,
            found.count,
            len(found.jobs),
            tuple(found.differences),
            tuple(found.stories),
            why or causes,
            entry.remedy,
        )

    # -- jobs never done ---------------------------------------------------------------------------------

    def _note_lost(self, storm: Storm, taken: set[str]) -> None:
        """Jobs of which no Execution ended well: given up by the queue, or never begun."""
        for job, messages in sorted(storm.ledger.jobs.items()):
            if any(m.succeeded or m.job_id in taken for m in messages) or not any(m.sent for m in messages):
                continue
            why = why_lost(messages, storm)
            # What the fault itself has taken away is no setting's doing; it is told message by message.
            if not why or (storm.ledger.strikes["restart"] and why.startswith("Redis came back")):
                continue
            code = "IDM301" if why.startswith("every execution fails") else "IDM204"
            found = self._lost.setdefault((code, why), _Found())
            found.count += 1
            found.jobs.add(job)
            if len(found.stories) < _STORIES_MAX:
                found.tell(story_of(job, storm.ledger, self._arguments))

    # -- what the queue did ------------------------------------------------------------------------------

    def _note_behaviours(self, storm: Storm, taken: set[str]) -> None:
        for message in storm.ledger.messages.values():
            if message.job < 0 or message.job_id in taken:
                continue
            for code in behaviours(message, cut_short=storm.cut_short):
                seen = self._seen.setdefault(code, _Seen())
                seen.count += 1
                seen.ways.update(path for _, path in message.requeued)
                if code == "IDM506":
                    seen.reasons[why_lost([message], storm)] += 1
                if seen.story is None or len(message.runs) < seen.length:
                    seen.story, seen.length = (
                        story_of(message.job, storm.ledger, self._arguments),
                        len(message.runs),
                    )

    @staticmethod
    def _behaviour(code: str, seen: _Seen) -> Behaviour:
        ways = ", ".join(f"{path} × {count}" for path, count in seen.ways.most_common())
        text = CODES[code].meaning.removesuffix(_OF_STRESS) + (
            f" (given out again: {ways})" if ways and code < "IDM504" else ""
        )
        if code == "IDM506":
            text = "; ".join(f"{count} × {why}" for why, count in seen.reasons.most_common(4))
        return Behaviour(code, CODES[code].title, seen.count, text, seen.story)

    # -- numbers -----------------------------------------------------------------------------------------

    def _counts(self, ledger: Ledger) -> dict[str, int]:
        counts = ledger.counts
        return {
            "jobs": len(self._jobs),
            "rounds": self._rounds,
            "messages": counts["sent"],
            "refused": counts["refused"],
            "executions": counts["started"],
            "ok": counts["ok"],
            "failed": counts["failed"],
            "killed": counts["killed"],
            "redelivered": counts["requeued"],
            "overlapping": self._overlapping,
            "effects": counts["effects"],
            "workers_replaced": self._replaced,
        }

    def _why_unknown(self, ledger: Ledger) -> str:
        settings = self._settings
        if self._interrupted:
            return "interrupted"
        if self._unfinished:
            return "the time was over before everything was done"
        if self._taken:
            return f"{counted(self._taken, 'message')} ran elsewhere: {STRANGER}"
        if not ledger.counts["ok"]:
            return "no execution ended well"
        if settings.kill_at is not None and not ledger.strikes:
            return f"no execution came to {settings.kill_at}; a finding's timeline shows the labels of a job's effects"
        if not self._repeated:
            return "nothing was delivered twice: no copy was sent, and no execution was cut"
        sent_all = ledger.counts["sent"] + ledger.counts["refused"] >= settings.deliveries
        return "" if sent_all else "the time was over before everything was sent; what was sent is right"


def _percentiles(latencies: Sequence[float]) -> dict[str, float]:
    if not latencies:
        return {}
    ordered = sorted(latencies)
    at = {
        name: ordered[min(len(ordered) - 1, int(len(ordered) * p))]
        for name, p in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
    }
    return {**at, "max": ordered[-1]}


def _bounds(settings: Settings, rounds: int) -> tuple[str, ...]:
    lease = "RQ's own times" if settings.lease_seconds is None else f"lease {settings.lease_seconds:g} s"
    return (
        f"{settings.workers} workers ({settings.worker_class}), {settings.producers} producers",
        _faults(settings),
        f"Retry(max={settings.retries})" if settings.retries else "no Retry",
        lease,
        f"sent as {', '.join(settings.sending)}",
        *([f"in {rounds} rounds, each judged in full from the same state on"] if rounds > 1 else []),
    )


def _faults(settings: Settings) -> str:
    if settings.kill_at is not None:
        return f"the first execution of each message struck {settings.kill_at} ({settings.faults[0]})"
    if not settings.kill_rate or not settings.faults:
        return "no faults"
    return f"{settings.kill_rate:.0%} of the executions struck by {', '.join(settings.faults)}"

"""The stable codes of findings, and what each means and asks for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Code:
    """One kind of finding. ``meaning`` and ``remedy`` are for `idemfuzz explain` and the documentation."""

    code: str
    title: str
    meaning: str
    remedy: str


_CLAIM = (
    "Claim the work atomically before doing it (INSERT under a unique key, SET NX), in the same transaction as the work "
    "where that is possible"
)
_KEY = (
    "Send an idempotency key that is derived from the job's arguments (not made anew on every run), so that the other "
    "side can recognise the repetition; or write the intent to an outbox in the job's own transaction"
)

CODES: dict[str, Code] = {
    entry.code: entry
    for entry in (
        Code(
            "IDM101",
            "row duplicated",
            "A further execution of the job inserts a row that one clean delivery inserts once.",
            "Add a unique constraint over the columns that say which row it is, and insert with ON CONFLICT DO NOTHING (or "
            "catch the violation). A SELECT before the INSERT does not help: two workers can both find nothing",
        ),
        Code(
            "IDM102",
            "update applied twice",
            "A further execution changes a row again: a counter or balance moves twice, a status goes on from a state that "
            "the job has already left.",
            "Make the update conditional on the state it starts from (UPDATE ... WHERE status = 'pending', an optimistic version), "
            "or record the job's key under a unique constraint in the same transaction and stop if it is there",
        ),
        Code(
            "IDM103",
            "Redis element or counter duplicated",
            "A further execution, or a command that the client silently sent again, adds an element or increments a counter twice.",
            "Use operations that can be repeated (SADD, HSET, ZADD, SET), or claim and apply in one Lua script or "
            "MULTI under a key derived from the job's arguments",
        ),
        Code(
            "IDM104",
            "mail sent twice",
            "A further execution hands the same mail over again.",
            "Mail has no transaction. "
            + _CLAIM
            + ", accept that a crash in between may lose or repeat one mail, or hand it "
            "over with a Message-ID (or provider key) derived from the job's arguments",
        ),
        Code(
            "IDM105",
            "HTTP call made twice",
            "A further execution makes a call that changes something on the other side again, without an idempotency key that "
            "stays the same.",
            _KEY,
        ),
        Code(
            "IDM106",
            "child job enqueued twice",
            "A further execution enqueues a follow-up job again.",
            "Enqueue with a job id derived from the arguments and unique=True, or write the follow-up to an outbox in the same "
            "transaction; and make the child idempotent, too",
        ),
        Code(
            "IDM107",
            "file written twice",
            "A further execution leaves a second file, or writes a file's content again behind the first.",
            "Write to a path derived from the job's arguments, whole: a temporary file, then os.replace",
        ),
        Code(
            "IDM108",
            "outside call made twice",
            "A further execution makes a call to the outside (here a mock or a recording list) again.",
            _KEY,
        ),
        Code(
            "IDM109",
            "the test's own assertion fails",
            "The stores look the same as after one clean delivery, but an assertion of the test fails under this plan.",
            "Read the assertion: it sees something that idemfuzz does not compare",
        ),
        Code(
            "IDM201",
            "work lost",
            "The queue thinks the job is done, and nothing of its work is there: a guard was set before the work, and the "
            "redelivery took it for the work itself; or an error was swallowed.",
            "Set the guard in the same transaction as the work. Where that cannot be, record 'started' and 'done' apart, and "
            "let a redelivery take a stale 'started' over",
        ),
        Code(
            "IDM202",
            "work torn",
            "Some of the job's work is there and some is not, and the queue thinks the job is done.",
            "Put what belongs together into one transaction, or make every part repeatable by itself so that the redelivery "
            "completes what is missing",
        ),
        Code(
            "IDM203",
            "rows refer to the wrong rows",
            "All rows are there, but they do not belong together as they do after one clean delivery.",
            "Look parents up by their own key inside the transaction that uses them; do not keep ids over a retry",
        ),
        Code(
            "IDM204",
            "job never done",
            "A message was accepted, and in the end no execution of the job had ended well: the queue gave it up, or lost it.",
            "Enqueue with retry=Retry(max=...), let each RQ worker listen on one queue, and have an outbox or a sweep enqueue "
            "again what is still owed: no queue delivers what it has forgotten",
        ),
        Code(
            "IDM301",
            "retry never succeeds",
            "After the fault, every redelivery fails and the work stays undone.",
            "Make the job start from whatever an earlier execution left: treat 'already there' as done and go on",
        ),
        Code(
            "IDM302",
            "lock left behind",
            "A killed execution leaves a lock or marker without an expiry, and the redelivery waits for it or gives up.",
            "Give the lock an expiry (SET key token NX EX seconds, redis-py's Lock with timeout=), or let the database hold it "
            "for the time of a transaction",
        ),
        Code(
            "IDM304",
            "delivery hangs",
            "An execution does not end within the time limit, though one clean delivery does.",
            "Look for a wait without a time limit: a lock held by a dead execution, a loop until success",
        ),
        Code(
            "IDM401",
            "duplicate raises",
            "The state is right, but the repeated delivery fails with an error: noise in the failed-job registry, perhaps an alarm "
            "at night. A note; an error with strict.",
            "Catch exactly this error and treat it as done",
        ),
        Code(
            "IDM402",
            "left behind for a while",
            "A crash leaves a key that expires, or a temporary file; or a duplicate that finds the work done does not give back the lease that it took. A note.",
            "Nothing, if nothing depends on it",
        ),
        Code(
            "IDM403",
            "left out when refused",
            "An error from a store is swallowed and something that expires by itself (a cache entry) is not written. A note.",
            "Nothing, if it is a cache",
        ),
        Code(
            "IDM501",
            "redelivered after a kill",
            "A worker or its horse was killed in the middle of a job, and RQ gave the job out again: at once if the worker lives, "
            "or when the lease of the dead worker is over. What RQ does, and no fault of the job. A note of a stress run.",
            "Nothing, if the job can be run twice",
        ),
        Code(
            "IDM502",
            "overlapped by its redelivery",
            "An execution was still at work (an orphaned horse, a paused machine) when RQ took it for lost and gave the job out again: "
            "both ran at the same time. A note of a stress run.",
            "Nothing, if two executions at once do no harm; a check before the work is not enough",
        ),
        Code(
            "IDM503",
            "run again after success",
            "The job's body had ended well, and RQ ran it again: its success callback raised, its result could not be "
            "stored, Redis came back with an older state, or an orphaned horse ended while its redelivery was queued. A note of a "
            "stress run.",
            "Nothing, if the job can be run twice; let success callbacks catch their own errors",
        ),
        Code(
            "IDM504",
            "one id queued several times",
            "RQ does not look whether a job with the same id is already queued: each enqueue is another delivery. A note of a stress run.",
            "Enqueue with unique=True, and let the job be safe all the same: it is accepted again when the first one's hash has expired",
        ),
        Code(
            "IDM505",
            "copy refused by unique=True",
            "RQ refused a message because a job with its id exists: another copy of it, or itself, where the reply was lost and the client "
            "sent it again. A note of a stress run.",
            'Nothing in the job. A producer takes DuplicateJobError for "it is queued", not for "somebody else\'s is"',
        ),
        Code(
            "IDM506",
            "message never done",
            "Of a message that the queue had accepted no execution ended well, though the job was done by another copy of it. A note of "
            "a stress run; where no copy did it, it is IDM204.",
            "See IDM204",
        ),
        Code(
            "IDM901",
            "nondeterministic",
            "The same plan from the same state gave different results, so nothing can be claimed. This is idemfuzz's doubt, not a verdict "
            "on the job.",
            "Look for randomness, threads, or time that decides what the job does; fix the seed, or leave that part out with ignore",
        ),
        Code(
            "IDM902",
            "no job was delivered",
            "The test ran, and none of its calls was recognised as a job.",
            "Name the job: @pytest.mark.idempotent(job=function), idemfuzz.register(function), or run it by an RQ Queue or Worker",
        ),
        Code(
            "IDM903",
            "no effect seen",
            "The job ran and nothing that idemfuzz watches changed. A pass would mean nothing.",
            "Hand in the store that the job writes to (a fixture, or stores=), and let the job's statements go through SQLAlchemy's "
            "Connection or Session: a raw cursor is not watched",
        ),
        Code(
            "IDM904",
            "a store was not given",
            "The job touched a database or Redis that no fixture hands in: it is neither compared nor restored.",
            "Hand it in with stores=, or leave it out of the job's test",
        ),
        Code(
            "IDM905",
            "overlap not possible",
            "Two overlapping executions used one connection, so what they would do in two workers cannot be seen.",
            "Let the job make its own Session (sessionmaker) or take it as an argument; or leave overlap out with faults=",
        ),
        Code(
            "IDM906",
            "fault never reached",
            "No fault of this kind came to pass: the points that the clean delivery showed were not reached again.",
            "Look for effects that depend on time or randomness",
        ),
        Code(
            "IDM907",
            "journal and tables disagree",
            "The journal of what each trial changed says that all is as it was, and a look at all rows says that it is not: something "
            "was written past the triggers, so what the trials compared is in doubt.",
            "Search with full_read_rows_max=1000000000, which reads all rows after each trial; and please report what the job does",
        ),
    )
}

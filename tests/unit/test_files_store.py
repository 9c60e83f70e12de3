"""The files store: which folders it takes, what it sees, that it restores exactly, and what a killed writer leaves."""

from __future__ import annotations

import _io
import builtins
import gc
import io
import os
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from idemfuzz.abc import JobCall, Options, Store, Unusable
from idemfuzz.adapters.files import FilesAdapter, FilesStore, refusal
from idemfuzz.engine import Trial, TrialGate, TrialResult
from idemfuzz.engine.clock import Clock
from idemfuzz.model import Access, EventKind, Fault, FaultKind, Plan, Point, Side

DOORS = (
    *((owner, "open") for owner in (builtins, io, _io)),
    *((os, n) for n in ("open", "write", "truncate", "rename", "replace", "remove", "unlink")),
    *((os, n) for n in ("mkdir", "rmdir", "link", "symlink")),
    (shutil, "rmtree"),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "reports"
    folder.mkdir()
    (folder / "kept.txt").write_text("old")
    (folder / "sub").mkdir()
    (folder / "sub" / "data.bin").write_bytes(b"\xff\x00")
    return folder


@pytest.fixture
def store(folder: Path) -> Iterator[FilesStore]:
    store = FilesStore("reports", folder)
    store.open(TrialGate())
    yield store
    store.close()


def deliver(store: Store | tuple[Store, ...], job: Callable[[], object], *faults: Fault) -> TrialResult:
    """One delivery, with ``faults`` and no redelivery."""
    stores = store if isinstance(store, tuple) else (store,)
    trial = Trial(
        Plan(faults=faults), Options(attempts=1), stores, Clock(lambda: None, lambda seconds, polls: None)
    )
    try:
        trial.deliver(JobCall("job", lambda identity, delivery: job() and None))
    except Exception:
        pass
    return trial.result()


def labels(result: TrialResult) -> list[str]:
    return [e.effect.label for e in result.history if e.kind is EventKind.EFFECT and e.effect is not None]


def killed(label: str, side: Side = Side.BEFORE, kind: FaultKind = FaultKind.KILL) -> Fault:
    return Fault(kind, Point(1, 1, label, 1), side)


def paths(facts: Any) -> list[str]:
    return [fact.fields["path"] for fact in facts]


def image(folder: Path) -> dict[str, Any]:
    """Everything below a folder, to compare: type, mode and content."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content: Any = None
        if path.is_symlink():
            content = os.readlink(path)
        elif path.is_file():
            content = (path.read_bytes(), status.st_mtime_ns)
        found[str(path.relative_to(folder))] = (stat.S_IFMT(status.st_mode), status.st_mode, content)
    return found


class TestAdopting:
    def test_folders_are_taken_and_nothing_else(self, folder: Path) -> None:
        adapter = FilesAdapter()
        store = adapter.adopt("reports", folder, Options())
        assert store is not None
        assert (store.name, store.kind) == ("reports", "files")
        for value in (str(folder), folder / "kept.txt", folder / "missing", 5):
            assert adapter.adopt("x", value, Options()) is None

    def test_the_same_folder_has_one_identity(self, folder: Path) -> None:
        link = folder.parent / "link"
        link.symlink_to(folder)
        one, other = FilesStore("a", folder), FilesStore("b", link / "." / "sub" / "..")
        assert one.identity == other.identity

    @pytest.mark.parametrize("path", ["/", "/usr", "~", ".", "..", tempfile.gettempdir()])
    def test_dangerous_folders_are_left_alone(self, path: str) -> None:
        """Silently so for a fixture that happens to return one; with the reason where the user named it."""
        value = Path(path).expanduser()
        assert FilesAdapter().adopt("x", value, Options()) is None
        with pytest.raises(Unusable, match="Hand in a folder"):
            FilesAdapter().adopt("x", value, Options(allow=("x",)))
        with pytest.raises(Unusable):
            FilesStore("x", value).open(TrialGate())

    def test_a_repository_and_too_large_a_folder_are_left_alone(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("idemfuzz.adapters.files.folder.FILES_MAX", 2)
        assert "more than 2 files" in (refusal(folder) or "")
        monkeypatch.undo()
        monkeypatch.setattr("idemfuzz.adapters.files.folder.BYTES_MAX", 4)
        assert "more than" in (refusal(folder) or "")
        monkeypatch.undo()
        assert refusal(folder) is None
        (folder / ".git").mkdir()
        assert "Git repository" in (refusal(folder) or "")


class TestState:
    def test_changes_are_facts(self, store: FilesStore, folder: Path) -> None:
        (folder / "kept.txt").write_text("new")
        (folder / "sub" / "data.bin").unlink()
        (folder / "sales-2024-05.csv").write_text("a,b\n")
        (folder / "empty").mkdir()
        (folder / "latest").symlink_to("sales-2024-05.csv")
        delta = store.changes()
        added = {fact.fields["path"]: fact for fact in delta.added}
        # "sub" is empty now, and so speaks for itself.
        assert sorted(added) == ["empty/", "kept.txt", "latest", "sales-2024-05.csv", "sub/"]
        assert sorted(paths(delta.removed)) == ["kept.txt", "sub/data.bin"]
        assert added["sales-2024-05.csv"].group == "sales-*.csv"
        assert added["sales-2024-05.csv"].fields["content"] == "a,b\n"
        assert added["sales-2024-05.csv"].identity == ("path",)
        assert added["latest"].fields["target"] == "sales-2024-05.csv"
        removed = {fact.fields["path"]: fact for fact in delta.removed}
        assert removed["sub/data.bin"].fields["content"] == b"\xff\x00"

    def test_restore_brings_everything_back(self, store: FilesStore, folder: Path) -> None:
        before = image(folder)
        outside = folder.parent / "outside.txt"
        outside.write_text("untouched")
        (folder / "kept.txt").write_text("new")
        (folder / "kept.txt").chmod(0o444)
        shutil.rmtree(folder / "sub")
        (folder / "sub").write_text("a file where a directory was")
        (folder / "deep" / "er").mkdir(parents=True)
        (folder / "deep" / "er" / "x.txt").write_text("x")
        (folder / "latest").symlink_to(outside)
        store.restore()
        assert image(folder) == before
        assert not store.changes()
        assert outside.read_text() == "untouched"

    def test_restore_brings_symlinks_and_modes_back(self, folder: Path) -> None:
        (folder / "latest").symlink_to("kept.txt")
        before = image(folder)
        store = FilesStore("reports", folder)
        store.open(TrialGate())
        (folder / "latest").unlink()
        (folder / "latest").symlink_to("sub")
        (folder / "kept.txt").chmod(0o600)
        assert paths(store.changes().added) == ["latest"]
        store.restore()
        assert image(folder) == before
        (folder / "latest").unlink()
        store.close()
        assert image(folder) == before

    def test_a_change_of_equal_size_right_after_a_restore_is_seen(
        self, store: FilesStore, folder: Path
    ) -> None:
        """The clock of a file system is coarse: time and size alone would not show this one."""
        for number in range(20):
            (folder / "kept.txt").write_text("new")
            assert paths(store.changes().added) == ["kept.txt"], number
            store.restore()
            (folder / "kept.txt").write_text("alt")
            assert paths(store.changes().added) == ["kept.txt"], number

    def test_unchanged_files_are_not_read_again(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        read: list[str] = []
        from idemfuzz.adapters.files import folder as reading

        content = reading._content
        monkeypatch.setattr(reading, "_RACY_NANOSECONDS", -(10**18))
        monkeypatch.setattr(reading, "_content", lambda path, size: read.append(path) or content(path, size))
        store = FilesStore("reports", folder)
        store.open(TrialGate())
        assert len(read) == 2
        (folder / "new.txt").write_text("x")
        store.changes()
        assert read[2:] == [str(folder / "new.txt")]
        store.close()

    def test_databases_are_the_sql_adapters(self, folder: Path) -> None:
        (folder / "shop.db").touch()
        with FilesStoreOpen(folder) as store:
            connection = sqlite3.connect(folder / "shop.db")
            connection.execute("pragma journal_mode=wal")
            connection.execute("create table t (x)")
            connection.execute("insert into t values (1)")
            connection.commit()
            (folder / "pgdata").mkdir()
            (folder / "pgdata" / "PG_VERSION").write_text("18")
            assert paths(store.changes().added) == []
            store.restore()
            assert connection.execute("select x from t").fetchall() == [(1,)]
            connection.close()

    def test_a_folder_in_a_folder_is_looked_after_once(self, folder: Path) -> None:
        with FilesStoreOpen(folder) as outer, FilesStoreOpen(folder / "sub", "sub") as inner:

            def job() -> None:
                (folder / "sub" / "data.bin").write_bytes(b"new")
                (folder / "kept.txt").write_text("new")

            result = deliver((outer, inner), job)
            assert paths(outer.changes().added) == paths(outer.changes().removed) == ["kept.txt"]
            assert paths(inner.changes().added) == ["data.bin"]
            stores = [e.effect.store for e in result.history if e.effect is not None]
            assert stores == ["sub", "sub", "reports", "reports"]
            outer.restore()
            assert paths(inner.changes().added) == ["data.bin"]
            inner.restore()
            assert paths(outer.changes().removed) == []
        assert (folder / "sub" / "data.bin").read_bytes() == b"\xff\x00"

    def test_a_folder_in_a_folder_may_be_opened_and_closed_first(self, folder: Path) -> None:
        before = image(folder)
        inner = FilesStoreOpen(folder / "sub", "sub")
        store = inner.__enter__()
        with FilesStoreOpen(folder) as outer:
            (folder / "sub" / "new.txt").write_text("x")
            assert not outer.changes()
            assert paths(store.changes().added) == ["new.txt"]
            inner.__exit__()
            assert not outer.changes()
        assert image(folder) == before


class FilesStoreOpen:
    """An open store for a ``with`` block."""

    def __init__(self, folder: Path, name: str = "reports") -> None:
        self.store = FilesStore(name, folder)

    def __enter__(self) -> FilesStore:
        self.store.open(TrialGate())
        return self.store

    def __exit__(self, *exc: object) -> None:
        self.store.close()


def by_with(path: Path) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write("content")


def by_refcount(path: Path) -> None:
    open(path, "w").write("content")  # noqa: SIM115


def by_print(path: Path) -> None:
    with path.open("a") as file:
        print("content", end="", file=file)


def by_write_bytes(path: Path) -> None:
    path.write_bytes(b"content")


def by_fdopen(path: Path) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT), "w") as file:
        file.write("content")


def by_exclusive(path: Path) -> None:
    with io.open(path, "x+b") as file:  # noqa: UP020
        file.write(b"content")


def by_text_buffer(path: Path) -> None:
    with open(path, "w") as file:
        file.buffer.write(b"content")


def by_relative_path(path: Path) -> None:
    with open(os.path.relpath(path), "w") as file:
        file.writelines(["con", "tent"])


WRITERS = (
    *(by_with, by_refcount, by_print, by_write_bytes, by_fdopen, by_exclusive, by_text_buffer),
    by_relative_path,
)
OPEN, WRITE = "reports.open.report-*.csv", "reports.write.report-*.csv"


class TestEffects:
    @pytest.mark.parametrize("write", WRITERS)
    def test_writing_a_file_is_an_open_and_a_write(
        self, write: Callable[[Path], None], store: FilesStore, folder: Path
    ) -> None:
        path = folder / "report-17.csv"
        result = deliver(store, lambda: write(path))
        assert labels(result) == [OPEN, WRITE]
        assert path.read_text() == "content"
        assert all(e.effect.access is Access.DURABLE for e in result.history if e.effect is not None)
        source = next(e.effect.source for e in result.history if e.effect is not None)
        assert source is not None
        assert source.function == write.__name__

    @pytest.mark.parametrize("write", WRITERS)
    @pytest.mark.parametrize(
        ("label", "side", "left"),
        [
            (OPEN, Side.BEFORE, None),
            (OPEN, Side.AFTER, ""),
            (WRITE, Side.BEFORE, ""),
            (WRITE, Side.AFTER, "content"),
        ],
    )
    def test_a_killed_writer_leaves_what_it_had_flushed(
        self,
        write: Callable[[Path], None],
        label: str,
        side: Side,
        left: str | None,
        store: FilesStore,
        folder: Path,
    ) -> None:
        path = folder / "report-17.csv"
        result = deliver(store, lambda: write(path), killed(label, side))
        gc.collect()
        assert result.unreached == ()
        assert (path.read_text() if path.exists() else None) == left

    @pytest.mark.parametrize("characters", [7, 100_000])
    @pytest.mark.parametrize("mode", ["w", "wb", "r+", "ab"])
    def test_a_kill_elsewhere_drops_what_is_buffered(
        self, mode: str, characters: int, store: FilesStore, folder: Path
    ) -> None:
        """The `with` block is unwound by a dead execution; only whole buffers had gone out before."""
        path = folder / "kept.txt"
        before = path.read_bytes() if mode in ("r+", "ab") else b""
        text = "x" * characters
        leaked: list[Any] = []

        def job() -> None:
            with open(path, mode) as file, open(path, "a") as other:
                leaked.append(open(folder / "leaked.txt", "w"))  # noqa: SIM115
                leaked[0].write("leaked")
                file.write(text.encode() if "b" in mode else text)
                other.write("other")
                os.mkdir(folder / "marker")

        deliver(store, job, killed("reports.mkdir.marker"))
        assert leaked[0].closed
        gc.collect()
        content = path.read_bytes()
        assert b"other" not in content
        assert (folder / "leaked.txt").read_text() == ""
        assert not (folder / "marker").exists()
        if characters == 7:
            assert content == before

    def test_a_writer_that_was_interrupted_lives_and_its_buffer_lands(
        self, store: FilesStore, folder: Path
    ) -> None:
        """A time limit is an exception, not a death: what was buffered reaches the file when it is closed."""
        deliver(
            store, lambda: by_with(folder / "report-17.csv"), killed(WRITE, Side.BEFORE, FaultKind.TIMEOUT)
        )
        gc.collect()
        assert (folder / "report-17.csv").read_text() == "content"

    def test_a_file_left_open_by_a_living_execution_lands(self, store: FilesStore, folder: Path) -> None:
        kept: list[Any] = []

        def job() -> None:
            kept.append(open(folder / "a.txt", "w"))  # noqa: SIM115
            kept[0].write("content")

        assert labels(deliver(store, job)) == ["reports.open.a.txt"]
        kept[0].close()
        assert (folder / "a.txt").read_text() == "content"

    def test_flush_truncate_and_descriptors_land(self, store: FilesStore, folder: Path) -> None:
        def job() -> None:
            with open(folder / "a.txt", "w+") as file:
                file.flush()
                file.write("one")
                file.flush()
                file.truncate(1)
            descriptor = os.open(folder / "b.txt", os.O_RDWR | os.O_CREAT)
            os.write(descriptor, b"two")
            os.close(descriptor)
            with open(folder / "c.txt", "wb", buffering=0) as raw:
                raw.write(b"three")
            os.truncate(folder / "c.txt", 2)

        assert labels(deliver(store, job)) == [
            *("reports.open.a.txt", "reports.write.a.txt", "reports.write.a.txt"),
            *("reports.open.b.txt", "reports.write.b.txt"),
            *("reports.open.c.txt", "reports.write.c.txt", "reports.truncate.c.txt"),
        ]
        assert (folder / "a.txt").read_text() == "o"
        assert (folder / "b.txt").read_text() == "two"
        assert (folder / "c.txt").read_text() == "th"

    def test_names_and_folders_are_effects(self, store: FilesStore, folder: Path) -> None:
        def job() -> None:
            os.makedirs(folder / "out" / "2024")
            (folder / "kept.txt").rename(folder / "moved.txt")
            os.replace(folder / "moved.txt", folder / "out" / "2024" / "a.txt")
            os.link(folder / "out" / "2024" / "a.txt", folder / "b.txt")
            os.symlink("b.txt", folder / "latest")
            (folder / "b.txt").unlink()
            os.remove(folder / "latest")
            shutil.rmtree(folder / "out")
            os.rmdir(folder.parent / "elsewhere")

        (folder.parent / "elsewhere").mkdir()
        result = deliver(store, job)
        assert labels(result) == [
            *(
                "reports.mkdir.out",
                "reports.mkdir.out/*",
                "reports.rename.moved.txt",
                "reports.rename.out/*/a.txt",
            ),
            *(
                "reports.link.b.txt",
                "reports.symlink.latest",
                "reports.remove.b.txt",
                "reports.remove.latest",
            ),
            "reports.remove.out",
        ]
        details = [e.text for e in result.history if e.kind is EventKind.EFFECT]
        assert details[3] == "rename moved.txt to out/2024/a.txt"

    def test_publishing_by_rename_survives_a_kill_at_each_point(
        self, store: FilesStore, folder: Path
    ) -> None:
        """The report is there whole, or not at all."""

        def job() -> None:
            with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as staged:
                staged.write("content")
            os.replace(staged.name, folder / "report.csv")

        clean = labels(deliver(store, job))
        assert clean == ["reports.open.*", "reports.write.*", "reports.rename.report.csv"]
        for label in clean:
            for side in Side:
                store.restore()
                assert deliver(store, job, killed(label, side)).unreached == ()
                report = folder / "report.csv"
                done = (label, side) == ("reports.rename.report.csv", Side.AFTER)
                assert report.exists() == done
                assert not done or report.read_text() == "content"

    def test_copies_and_temporary_files_are_seen(self, store: FilesStore, folder: Path) -> None:
        def job() -> None:
            shutil.copy2(folder / "kept.txt", folder / "copy.txt")
            descriptor, name = tempfile.mkstemp(dir=folder, suffix=".tmp")
            with os.fdopen(descriptor, "w") as file:
                file.write("x")
            os.unlink(name)
            with tempfile.TemporaryDirectory(dir=folder) as inner:
                (Path(inner) / "x").write_text("x")

        seen = labels(deliver(store, job))
        assert seen[0] == "reports.open.copy.txt"
        assert seen[-6:-4] == ["reports.write.*.tmp", "reports.remove.*.tmp"]
        assert (folder / "copy.txt").read_text() == "old"

    def test_reading_and_other_folders_are_no_effects(self, store: FilesStore, folder: Path) -> None:
        outside = folder.parent / "outside.txt"

        def job() -> None:
            assert (folder / "kept.txt").read_text() == "old"
            with open(outside, "w") as file:
                file.write("x")
            assert type(file) is io.TextIOWrapper
            os.rename(outside, folder.parent / "renamed.txt")
            with open(os.devnull, "wb") as sink:
                sink.write(b"x")

        assert labels(deliver(store, job)) == []

    def test_a_reused_descriptor_is_not_taken_for_a_file(self, store: FilesStore, folder: Path) -> None:
        def job() -> None:
            descriptor = os.open(folder / "a.txt", os.O_WRONLY | os.O_CREAT)
            os.close(descriptor)
            reading, writing = os.pipe()
            os.write(writing, b"x")
            os.mkdir(folder / "marker")
            pipes.extend((reading, writing))

        pipes: list[int] = []
        result = deliver(store, job, killed("reports.mkdir.marker", Side.AFTER))
        assert labels(result) == ["reports.open.a.txt", "reports.mkdir.marker"]

    def test_errors_are_as_ever(self, store: FilesStore, folder: Path) -> None:
        def job() -> None:
            with pytest.raises(FileExistsError):
                open(folder / "kept.txt", "x")  # noqa: SIM115
            with pytest.raises(ValueError):
                open(folder / "new.txt", "w", buffering=0)  # noqa: SIM115
            with pytest.raises(FileNotFoundError):
                open(folder / "missing" / "new.txt", "w")  # noqa: SIM115
            with pytest.raises(IsADirectoryError):
                open(folder, "w")  # noqa: SIM115

        assert deliver(store, job).job_errors == ()

    def test_file_objects_are_like_real_ones(self, store: FilesStore, folder: Path) -> None:
        def job() -> None:
            with open(folder / "a.txt", "w+", encoding="utf-16", newline="\r\n") as file:
                assert isinstance(file, io.TextIOWrapper)
                assert (file.mode, file.name, file.encoding) == ("w+", str(folder / "a.txt"), "utf-16")
                file.write("é\n")
                file.seek(0)
                assert file.read() == "é\r\n"
            with open(folder / "a.txt", "a", encoding="utf-16", newline="\r\n") as file:
                file.write("b\n")

        assert deliver(store, job).job_errors == ()
        assert (folder / "a.txt").read_bytes() == "é\r\nb\r\n".encode("utf-16")


def test_close_puts_everything_back(folder: Path) -> None:
    before = [getattr(owner, name) for owner, name in DOORS]
    one, other = FilesStore("a", folder), FilesStore("b", folder / "sub")
    one.open(TrialGate())
    other.open(TrialGate())
    assert builtins.open is not before[0]
    assert all(getattr(owner, name) == was for (owner, name), was in zip(DOORS, before, strict=True))
    one.close()
    assert builtins.open is not before[0]
    other.close()
    other.close()
    assert all(getattr(owner, name) is was for (owner, name), was in zip(DOORS, before, strict=True))

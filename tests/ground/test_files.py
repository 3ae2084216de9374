"""Atomic writes under faults: after any failure or kill, the old or the new file is complete."""

import errno
import os
import stat
import subprocess
import sys
import textwrap
import types
from pathlib import Path

import needs
import pytest
from places import ROOT

from gpucnn import files
from gpucnn.errors import FileError
from gpucnn.files import write_atomically

OLD, NEW = b"old" * 100, b"new" * 5000
CALLS = ("open", "write", "fsync", "replace", "unlink")


class Faults:
    """Make the n-th system call fail with `number`, once or from then on."""

    def __init__(self, monkeypatch, first, number, forever=False):
        self.first, self.number, self.forever, self.met = first, number, forever, 0
        for name in CALLS:
            monkeypatch.setattr(os, name, self.wrapped(getattr(os, name)))

    def wrapped(self, call):
        def perhaps(*args, **kwargs):
            self.met += 1
            if self.met == self.first or (self.forever and self.met > self.first):
                raise OSError(self.number, os.strerror(self.number))
            return call(*args, **kwargs)

        return perhaps


@needs.posix_here
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o444 | stat.S_IWUSR])
def test_a_file_keeps_its_mode_when_it_is_saved_anew(tmp_path, mode):
    path = tmp_path / "file"
    path.write_bytes(OLD)
    path.chmod(mode)
    write_atomically(path, lambda file: file.write(NEW))
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.read_bytes() == NEW


@needs.posix_here
def test_what_is_private_is_private_before_its_content_is_written(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(OLD)
    path.chmod(0o600)
    modes, write = [], os.write
    monkeypatch.setattr(os, "write", lambda fd, data: modes.append(os.fstat(fd).st_mode & 0o777) or write(fd, data))
    write_atomically(path, NEW)
    assert modes == [0o600]


@needs.posix_here
def test_a_new_file_has_the_mode_that_the_process_gives_its_files(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "file", NEW)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


@needs.posix_here
def test_a_new_folder_is_on_the_disk_with_those_above_it(tmp_path, monkeypatch):
    """Else a crash may leave nothing of a run whose files were all synced."""
    synced, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")) or fsync(fd))
    files.make_folder(tmp_path / "a" / "b")
    assert synced == [str(tmp_path), str(tmp_path / "a")]
    files.make_folder(tmp_path / "a" / "b")
    assert len(synced) == 2
    with pytest.raises(FileExistsError):
        files.make_folder(tmp_path / "a" / "b", exist_ok=False)


def temporary_files(folder):
    return [path for path in Path(folder).iterdir() if path.name.endswith(".gpucnn-tmp")]


@pytest.mark.parametrize("forever", [False, True], ids=["once", "from_then_on"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS, errno.EDQUOT])
def test_a_fault_in_any_call_leaves_the_old_or_the_new_file_and_one_line(tmp_path, monkeypatch, number, forever):
    path = tmp_path / "file"
    monkeypatch.setattr(files, "_AT_ONCE", 4000)
    failures, after = 0, b""
    for n in range(1, 100):
        with monkeypatch.context() as patched:
            path.write_bytes(OLD)
            faults = Faults(patched, n, number, forever)
            try:
                write_atomically(path, NEW)
            except FileError as error:
                failures += 1
                message = str(error)
                assert "\n" not in message
                assert str(path) in message
                assert (files._CAUSES.get(number) or os.strerror(number)) in message
            else:
                assert faults.met < n
                break
        assert path.read_bytes() in (OLD, NEW)
        assert forever or not temporary_files(tmp_path)
        after = path.read_bytes()
        write_atomically(path, NEW)
        assert not temporary_files(tmp_path)
    assert path.read_bytes() == NEW
    assert failures == n - 1 == 9  # open, 4 × write, fsync, replace; then open and fsync of the folder
    assert after == NEW  # the last fault came after the file had its name


def test_the_bytes_are_on_the_disk_before_the_name_and_the_name_before_the_return(tmp_path, monkeypatch):
    done = []
    for name in CALLS:
        call = getattr(os, name)

        def noted(*args, call=call, name=name, **kwargs):
            result = call(*args, **kwargs)
            what = result if name == "open" else args[0]
            folder = name in ("open", "fsync") and stat.S_ISDIR(os.fstat(what).st_mode)
            done.append(f"{name} folder" if folder else name)
            return result

        monkeypatch.setattr(os, name, noted)
    write_atomically(tmp_path / "file", NEW)
    assert done == ["open", "write", "fsync", "replace", "open folder", "fsync folder"]


DRIVER = textwrap.dedent(
    """
    import os, random, signal, sys, time
    from gpucnn import files

    path, how = sys.argv[1:]
    OLD, NEW = b"old" * 100, b"new" * 5000
    files._AT_ONCE = 4000
    CALLS = "open write fsync replace unlink close".split()

    def killed(work, after=None):
        child = os.fork()
        if not child:
            work()
            os._exit(0)
        if after is not None:
            time.sleep(after)
            os.kill(child, signal.SIGKILL)
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])

    def whole():
        with open(path, "rb") as file:
            assert file.read() in (OLD, NEW), "neither the old nor the new file"

    def dying_at(n, half):
        met = 0
        def wrapped(name, call):
            def perhaps(*args, **kwargs):
                nonlocal met
                met += 1
                if met == n:
                    if half and name == "write":
                        call(args[0], args[1][: len(args[1]) // 2])
                    elif half:
                        call(*args, **kwargs)
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*args, **kwargs)
            return perhaps
        def work():
            for name in CALLS:
                setattr(os, name, wrapped(name, getattr(os, name)))
            files.write_atomically(path, NEW)
        return work

    def restore():
        files.write_atomically(path, OLD)
        left = [name for name in os.listdir(os.path.dirname(path)) if name.endswith(".gpucnn-tmp")]
        assert not left, left

    restore()
    deaths = 0
    if how == "each call":
        for half in (False, True):
            n = 1
            while killed(dying_at(n, half)):
                whole()
                restore()
                deaths += 1
                n += 1
    else:
        rng = random.Random(0)
        def work():
            while True:
                files.write_atomically(path, NEW)
                files.write_atomically(path, OLD)
        for _ in range(200):
            deaths += killed(work, after=rng.uniform(0, 0.006))
            whole()
        restore()
    print(deaths)
    """
)


@needs.posix_here
@pytest.mark.parametrize(("how", "deaths"), [("each call", 2 * 11), ("random moments", 200)])
def test_a_kill_at_any_moment_leaves_the_old_or_the_new_file_and_no_permanent_leftovers(tmp_path, how, deaths):
    command = [sys.executable, "-c", DRIVER, str(tmp_path / "file"), how]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=600)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == deaths


@needs.posix_here
def test_a_file_that_outgrows_the_limit_of_the_system_leaves_the_old_one(tmp_path):
    code = """
    import resource, sys
    from gpucnn import files
    files.write_atomically(sys.argv[1], b"old")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    try:
        files.write_atomically(sys.argv[1], bytes(5000))
    except files.FileError as error:
        print(error)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "file")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == f"cannot write {tmp_path / 'file'}: File too large\n"
    assert (tmp_path / "file").read_bytes() == b"old"
    assert not temporary_files(tmp_path)


@needs.posix_here
def test_a_temporary_file_that_another_writer_still_uses_is_left_alone(tmp_path):
    alive, descriptor = files._create_temporary(tmp_path)
    dead = tmp_path / ".0123456789abcdef.gpucnn-tmp"
    dead.write_bytes(b"cut")
    mine = tmp_path / ".notes.tmp"
    mine.write_bytes(b"not ours")
    write_atomically(tmp_path / "file", NEW)
    assert temporary_files(tmp_path) == [alive]
    assert mine.exists()
    os.close(descriptor)
    write_atomically(tmp_path / "file", NEW)
    assert temporary_files(tmp_path) == []


@needs.posix_here
def test_a_temporary_file_removed_as_a_leftover_before_it_was_locked_is_created_again(tmp_path, monkeypatch):
    true_lock, taken = files.lock, []

    def late(descriptor):
        if not taken:
            taken.extend(temporary_files(tmp_path))
            taken[0].unlink()
        return true_lock(descriptor)

    monkeypatch.setattr(files, "lock", late)
    write_atomically(tmp_path / "file", NEW)
    assert len(taken) == 1
    assert (tmp_path / "file").read_bytes() == NEW


@needs.posix_here
def test_file_systems_without_locks_and_without_folder_sync_can_be_written(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    sync = os.fsync

    def no_folders(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        sync(descriptor)

    monkeypatch.setattr(files.fcntl, "flock", no_locks)
    monkeypatch.setattr(os, "fsync", no_folders)
    leftover = tmp_path / ".0123456789abcdef.gpucnn-tmp"
    leftover.write_bytes(b"perhaps in use")
    write_atomically(tmp_path / "file", NEW)
    assert (tmp_path / "file").read_bytes() == NEW
    assert leftover.exists()


def test_without_fcntl_the_functions_of_windows_are_used(tmp_path, monkeypatch):
    held = []

    def locking(descriptor, mode, count):
        if held:
            raise PermissionError(errno.EACCES, "held")
        held.append((descriptor, mode, count))

    monkeypatch.setattr(files, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", types.SimpleNamespace(locking=locking, LK_NBLCK=2))
    (tmp_path / ".0123456789abcdef.gpucnn-tmp").write_bytes(b"cut")
    closed, close, replace = [], os.close, os.replace
    monkeypatch.setattr(os, "close", lambda descriptor: (closed.append(descriptor), close(descriptor)))
    monkeypatch.setattr(os, "replace", lambda *paths: (replace(*paths), closed.append("replaced")))
    write_atomically(tmp_path / "file", NEW)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert closed[-1] == "replaced"  # Windows cannot rename an open file
    assert files.lock(0)
    assert not files.lock(1)
    assert held == [(0, 2, 1)]


def test_a_link_stays_a_link_and_its_target_is_written(tmp_path):
    (tmp_path / "far").mkdir()
    target, link = tmp_path / "far" / "target", tmp_path / "link"
    target.write_bytes(OLD)
    link.symlink_to(target)
    write_atomically(link, NEW)
    assert link.is_symlink()
    assert target.read_bytes() == NEW


def test_content_may_be_a_function_that_writes(tmp_path):
    write_atomically(tmp_path / "file", lambda file: file.write(NEW))
    assert (tmp_path / "file").read_bytes() == NEW


def test_a_function_that_fails_touches_nothing(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(OLD)

    def fail(file):
        file.write(NEW)
        raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        write_atomically(path, fail)
    assert path.read_bytes() == OLD


def test_an_interrupted_write_leaves_no_temporary_file(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file", NEW)
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_an_ordinary_writable_file_is_not_replaced(tmp_path, monkeypatch):
    folder, pipe, protected = tmp_path / "folder", tmp_path / "pipe", tmp_path / "protected"
    folder.mkdir()
    with pytest.raises(FileError, match=r"cannot write .*folder: it is a folder"):
        write_atomically(folder, NEW)
    if hasattr(os, "mkfifo"):
        os.mkfifo(pipe)
        with pytest.raises(FileError, match=r"cannot write .*pipe: it is not a regular file"):
            write_atomically(pipe, NEW)
        assert stat.S_ISFIFO(pipe.stat().st_mode)
    protected.write_bytes(OLD)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everything
    with pytest.raises(FileError, match=r"cannot write .*protected: permission denied"):
        write_atomically(protected, NEW)
    assert protected.read_bytes() == OLD


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileError, match=r"cannot write .*file: there is no folder .*missing; make it first"):
        write_atomically(tmp_path / "missing" / "file", NEW)


def test_a_lock_is_held_by_one_and_ends_with_its_process(tmp_path):
    path = tmp_path / "lock"
    code = """
import os, sys
from gpucnn import files
print(files.lock(os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)), flush=True)
input()
"""
    other = subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        assert other.stdout.readline() == "True\n"
        descriptor = os.open(path, os.O_RDWR)
        assert not files.lock(descriptor)
        other.kill()
        other.wait()
        assert files.lock(descriptor)
        os.close(descriptor)
    finally:
        other.kill()
        other.communicate()

"""Files that appear as a whole: for good, or not at all; and for their owner alone where they hold data."""

import os
import pathlib
import stat
import threading

import pytest

from tff_tx.core import files


@pytest.fixture(autouse=True, params=[0o000, 0o022])
def umask(request):
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_an_exception_leaves_what_was_there(tmp_path):
    (tmp_path / "x").write_text("before")
    with pytest.raises(ZeroDivisionError), files.atomic(str(tmp_path / "x")) as file:
        print("half", 1 / 0, file=file)
    assert (tmp_path / "x").read_text() == "before"
    assert os.listdir(tmp_path) == ["x"]


def test_what_is_private_is_its_owners_alone_whatever_was_there_before(tmp_path):
    (tmp_path / "x.tmp").touch(0o666)
    with files.atomic(str(tmp_path / "x"), "wb", private=True) as file:
        file.write(b"x")
    assert mode(tmp_path / "x") == 0o600
    files.write_directory(
        str(tmp_path), "d", lambda d: [os.mkdir(f"{d}/e"), open(f"{d}/e/f", "w").close()], private=True
    )
    assert [mode(tmp_path / name) for name in ("d", "d/e", "d/e/f")] == [0o700, 0o700, 0o600]
    files.make_private(str(tmp_path / "new" / "cache"))
    assert mode(tmp_path / "new" / "cache") == 0o700


def test_a_directory_that_is_written_again_is_never_missing(tmp_path):
    """Whoever reads it meanwhile finds that of before or the new one."""
    missing, has_ended = [], threading.Event()

    def write(number):
        files.write_directory(str(tmp_path), "d", lambda d: pathlib.Path(d, "f").write_text(str(number)))

    def look():
        while not has_ended.is_set():
            missing.extend([] if (tmp_path / "d").exists() else ["d"])

    write(0)
    looking = threading.Thread(target=look)
    looking.start()
    for number in range(1, 40):
        write(number)
    has_ended.set()
    looking.join()
    assert not missing
    assert (tmp_path / "d" / "f").read_text() == "39"
    assert os.listdir(tmp_path) == ["d"]

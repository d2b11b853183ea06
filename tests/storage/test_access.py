"""What replaces a file is for the same people, and a link stays a link."""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from vae_anomaly.storage.access import ACL
from vae_anomaly.storage.atomic import atomic_folder, atomic_write, check_writable, make_folder
from vae_anomaly.storage.resumable_table import companions, open_resumable_table
from vae_anomaly.storage.run_identity import RunIdentity

MODES = [0o600, 0o640, 0o644, 0o664, 0o444, 0o755, 0o400]


def any_folder(path: Path) -> None:
    """It may be replaced."""


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def write_file(path: Path) -> None:
    with atomic_write(path) as file:
        file.write(b"new")
        (part,) = (entry for entry in path.resolve().parent.iterdir() if entry.name.endswith(".part"))
        assert mode_of(part) == 0o600, "while it is written nobody else reads it"


def write_resumably(path: Path) -> None:
    with open_resumable_table(path, RunIdentity({})):
        assert mode_of(companions(path)[0]) == 0o600


def write_folder(path: Path) -> None:
    with atomic_folder(path, any_folder) as part:
        assert mode_of(part) == 0o700
        (part / "old").write_text("new")
        (part / "added").write_text("new")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("write", [write_file, write_resumably])
def test_a_replaced_file_keeps_its_mode(tmp_path: Path, mode: int, write: Callable[[Path], None]) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"old")
    path.chmod(mode)
    inode = path.stat().st_ino
    write(path)
    assert mode_of(path) == mode
    assert path.stat().st_ino != inode
    assert os.listdir(tmp_path) == ["a.csv"]


@pytest.mark.parametrize("mode", [0o700, 0o750, 0o755, 0o2775])
def test_a_replaced_folder_and_what_is_in_it_keep_their_modes(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").write_text("old")
    (path / "old").chmod(0o600)
    path.chmod(mode)
    write_folder(path)
    assert (mode_of(path), mode_of(path / "old")) == (mode, 0o600)


def test_a_new_file_has_the_mode_that_the_user_chose_or_is_private(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        for name, private, mode in (("a", False, 0o640), ("b", True, 0o600)):
            with atomic_write(tmp_path / name, private=private):
                pass
            assert mode_of(tmp_path / name) == mode
    finally:
        os.umask(before)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_root_keeps_the_owner(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    os.chown(path, 12345, 54321)
    path.chmod(0o640)
    write_file(path)
    assert (path.stat().st_uid, path.stat().st_gid, mode_of(path)) == (12345, 54321, 0o640)


def test_a_group_that_cannot_be_kept_gives_no_other_group_access(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(0o660)
    found = path.stat()
    real = Path.stat

    def of_another(entry: Path, **options: bool) -> os.stat_result:
        known = real(entry, **options)
        return os.stat_result([*known[:5], found.st_gid + 1, *known[6:]]) if entry == path else known

    def refuse(*arguments: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", of_another)
        patch.setattr(os, "chown", refuse)
        write_file(path)
    assert mode_of(path) == 0o600


def acl(group: int) -> bytes:
    """Read and write for user 12345 beside the owner: the mode then shows what that user may as the group's."""
    entries = [(1, 6, -1), (2, 6, 12345), (4, group, -1), (16, 6, -1), (32, 0, -1)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)


def test_what_single_users_were_granted_does_not_become_the_groups(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    try:
        os.setxattr(path, ACL, acl(group=0))
    except OSError:
        pytest.skip("this file system has no access lists")
    before = os.getxattr(path, ACL)
    write_file(path)
    assert os.getxattr(path, ACL) == before


@pytest.mark.parametrize("write", [write_resumably, write_file, write_folder])
@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_a_link_and_its_target_is_replaced(
    tmp_path: Path, write: Callable[[Path], None], *, there: bool
) -> None:
    for name in ("links", "targets"):
        (tmp_path / name).mkdir()
    target, first, second = tmp_path / "targets" / "t.csv", tmp_path / "links" / "l.csv", tmp_path / "links" / "m.csv"
    first.symlink_to("../targets/t.csv")  # relative, and a link to a link
    second.symlink_to("l.csv")
    if there and write is write_folder:
        target.mkdir()
        (target / "removed").touch()
    elif there:
        target.write_bytes(b"old")
    stale = tmp_path / "targets" / ".t.csv.01234abc.part"
    stale.touch()
    if there:
        write(second)
    else:  # a new file is not private
        with atomic_folder(second, any_folder) if write is write_folder else atomic_write(second):
            pass
    assert (os.readlink(first), os.readlink(second)) == ("../targets/t.csv", "l.csv")
    assert target.is_dir() == (write is write_folder)
    assert sorted(os.listdir(tmp_path / "links")) == ["l.csv", "m.csv"]
    left = {".t.csv.01234abc.part"} if there and write is write_resumably else set()
    assert set(os.listdir(tmp_path / "targets")) - left == {"t.csv"}
    if write is write_folder:
        assert not (target / "removed").exists()


def test_links_that_lead_nowhere_are_one_error(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "lost").symlink_to("no/where")
    for write in (write_file, check_writable, write_folder):
        with pytest.raises(OSError, match="symbolic links"):
            write(tmp_path / "loop")
        with pytest.raises(FileNotFoundError, match="lost cannot be written: there is no folder"):
            write(tmp_path / "lost")
    assert sorted(os.listdir(tmp_path)) == ["loop", "lost"]
    make_folder(tmp_path / "lost")
    assert (tmp_path / "no" / "where").is_dir()

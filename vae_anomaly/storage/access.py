"""Who may read and write a file, kept when another takes its place."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from pathlib import Path

ACL = "system.posix_acl_access"  # Linux's name for what is granted to single users and groups


def keep_access(old: Path, new: Path) -> None:
    """Give ``new`` the owner, group, access list and mode of ``old``, if there is one.

    Only root may give a file to somebody else. Where the group cannot be kept, no group may do anything: what was open
    to the members of one is never opened to those of another.
    """
    try:
        was = old.stat()
    except FileNotFoundError:
        return
    mode = stat.S_IMODE(was.st_mode)
    if sys.platform != "win32":
        for owner in (was.st_uid, -1):
            with contextlib.suppress(OSError):
                os.chown(new, owner, was.st_gid)
                break
        now = new.stat()
        if now.st_gid != was.st_gid:
            mode &= ~stat.S_IRWXG
        if (now.st_uid, now.st_gid) != (was.st_uid, was.st_gid):
            mode &= ~(stat.S_ISUID | stat.S_ISGID)
    if sys.platform == "linux":
        granted = access_list(old)
        if granted is not None:
            os.setxattr(new, ACL, granted)
        elif access_list(new) is not None:  # which the folder gives to new files
            os.removexattr(new, ACL)
    if stat.S_IMODE(new.stat().st_mode) != mode:
        os.chmod(new, mode)


if sys.platform == "linux":

    def access_list(path: Path) -> bytes | None:
        """What is granted beyond the mode; None if nothing is, or the file system knows no such lists."""
        try:
            return os.getxattr(path, ACL)
        except OSError:
            return None

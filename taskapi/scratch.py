"""A folder of a process's own in the temporary directory, which goes when nobody is left to remove it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from pathlib import Path

# A file in the folder, locked for as long as its process or one forked from it lives: whatever ends them, the kernel
# lets go.
SIGN = "in-use"


def make_folder(prefix: str) -> str:
    """Make a folder for this process and those it forks, and remove the ones like it whose processes have all died."""
    for sign in Path(tempfile.gettempdir()).glob(f"{prefix}*/{SIGN}"):
        with contextlib.suppress(OSError):  # in use, or removed by another process that starts
            _remove_if_abandoned(sign)
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    draft = folder / f"{SIGN}.draft"  # who sees the sign finds it locked
    fcntl.flock(os.open(draft, os.O_CREAT | os.O_RDONLY, 0o600), fcntl.LOCK_EX)
    draft.rename(folder / SIGN)
    return str(folder)


def _remove_if_abandoned(sign: Path) -> None:
    """Raises `OSError` if it is in use."""
    owner = sign.parent.lstat()
    if not stat.S_ISDIR(owner.st_mode) or owner.st_uid != os.geteuid():
        return  # everybody may put something there
    descriptor = os.open(sign, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(sign.parent)
    finally:
        os.close(descriptor)

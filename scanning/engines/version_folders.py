"""A folder of versions side by side, with links to the one in use and to the one before."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class VersionFolders:
    """Versions in `versions` below `root`; what has to hold of one is for the heirs to say."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._versions = root / "versions"

    def _point(self, link: str, target: Path) -> None:
        # A link cannot be rewritten in place, but it can be renamed over: no moment without a version.
        fresh = self.root / f".{link}.new"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(target.resolve().relative_to(self.root.resolve()), target_is_directory=True)
        fresh.replace(self.root / link)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One change at a time, whatever the number of processes."""
        self._versions.mkdir(parents=True, exist_ok=True)
        with (self.root / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

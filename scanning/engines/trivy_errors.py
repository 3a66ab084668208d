"""What went wrong in a Trivy run, read from its complaint: its exit code is 1 for nearly everything."""

from dataclasses import dataclass

from scanning.engines.process import Ended
from scanning.engines.protocol import (
    EngineCrash,
    EngineDatabaseError,
    EngineDiskFull,
    EngineError,
    EngineTimeout,
    ImageMalformed,
)


@dataclass(frozen=True, slots=True)
class _Cause:
    """Words that occur in a complaint, and the error they stand for."""

    words: tuple[str, ...]
    error: type[EngineError]
    reason: str
    remedy: str

    def explains(self, complaint: str) -> bool:
        return any(word in complaint for word in self.words)


# In the order of asking: the text of a full disk or of a broken database also speaks of layers.
_SCAN_CAUSES = (
    _Cause(
        ("no space left on device",),
        EngineDiskFull,
        "There was no room left for the scan's temporary files.",
        "Free space on the data directory's disk, then scan again.",
    ),
    _Cause(
        ("cannot allocate memory", "out of memory", "failed to reserve"),
        EngineCrash,
        "The scan engine needed more memory than it may use.",
        "Raise the engine's memory limit, or scan this image on a larger machine.",
    ),
    _Cause(
        ("DB error", "failed to open db", "invalid database", "DB schema", "Java DB", "bbolt"),
        EngineDatabaseError,
        "The scan engine cannot use its vulnerability database.",
        "Download the vulnerability database again or import a bundle of it.",
    ),
    _Cause(
        ("deadline exceeded", "context canceled"),
        EngineTimeout,
        "The scan engine gave up before it was done.",
        "Scan again when the machine is less busy.",
    ),
    _Cause(
        ("failed to analyze layer", "walk error", "unable to initialize container image", "tar header"),
        ImageMalformed,
        "The image's layers or its config cannot be read.",
        "Build and push the image again, then scan it again.",
    ),
)

_DOWNLOAD_CAUSES = (
    (("no such host",), "the server's name is not known", "Check the name, or use a mirror."),
    (
        ("connection refused", "i/o timeout", "network is unreachable"),
        "the server does not answer",
        "Check the network and the proxy, or import a bundle instead.",
    ),
    (
        ("UNAUTHORIZED", "DENIED", "401 Unauthorized", "403 Forbidden"),
        "the server refuses access",
        "Check TRIVY_DB_USERNAME and TRIVY_DB_PASSWORD, or use a repository that may be read freely.",
    ),
    (
        ("MANIFEST_UNKNOWN", "NAME_UNKNOWN", "NOT_FOUND", "404"),
        "there is no database in that repository",
        "Check the repository's name and tag.",
    ),
    (
        ("x509", "tls:"),
        "the server's certificate is not trusted",
        "Add its certificate authority to this machine.",
    ),
    (
        ("server gave HTTP response to HTTPS",),
        "the server speaks plain HTTP",
        "Allow an insecure repository, or use one with HTTPS.",
    ),
    (("TOOMANYREQUESTS", "429"), "the server asks for fewer requests", "Try again later, or use a mirror."),
    (("no space left on device",), "the disk is full", "Free space on the data directory's disk."),
)


def scan_failure(ended: Ended) -> EngineError:
    """The error that a failed scan stands for."""
    for cause in _SCAN_CAUSES:
        if cause.explains(ended.complaint):
            return cause.error(cause.reason, cause.remedy, detail=ended.complaint)
    if ended.exit_code < 0:
        return EngineCrash(
            f"The scan engine was ended by signal {-ended.exit_code}.",
            "If this repeats, the machine may be short of memory: see its system log.",
            detail=ended.complaint,
        )
    return EngineCrash(
        f"The scan engine failed with exit code {ended.exit_code}.",
        "Scan again; if it repeats, see the engine's last words in the worker's log.",
        detail=ended.complaint,
    )


def download_failure(repository: str, ended: Ended) -> EngineError:
    """The error that a failed download of the vulnerability database stands for."""
    for words, cause, remedy in _DOWNLOAD_CAUSES:
        if any(word in ended.complaint for word in words):
            return EngineDatabaseError(
                f"The database could not be fetched from {repository}: {cause}.",
                remedy,
                detail=ended.complaint,
            )
    return EngineDatabaseError(
        f"The database could not be fetched from {repository}.",
        "See the engine's last words in the log, or import a bundle instead.",
        detail=ended.complaint,
    )

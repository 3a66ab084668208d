"""What can be wrong with an image's content, as errors named for what the caller can do."""

from tcss.lifecycle import Failure


class ContentError(Exception):
    """An image's content cannot be used: a code of the console's list, the reason, and what to do."""

    def __init__(self, code: str, reason: str, remedy: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.failure = Failure(code, reason, remedy)


class WrongContentError(ContentError):
    """A source gave other bytes than were asked for; another source may have the right ones."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            "IMG_DIGEST", reason, "Check the registry's storage, push the image again, then scan it again."
        )


class UnusableContentError(ContentError):
    """The content is what was asked for and of no use; no source has it better."""


class NoRoomError(ContentError):
    """There is no room for the content now; there may be later."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            "DISK_FULL",
            reason,
            "Free space on the disk of the data directory, or let the blob store use more of it.",
        )


def malformed(reason: str) -> UnusableContentError:
    """The bytes are not what their kind says."""
    return UnusableContentError(
        "IMG_MALFORMED", reason, "Build the image again with a current builder and push it again."
    )


def unsupported(reason: str) -> UnusableContentError:
    """The bytes are of a kind that is not read."""
    return UnusableContentError(
        "IMG_UNSUPPORTED", reason, "Push the image with gzip, zstd or uncompressed layers, not encrypted."
    )


def bomb(reason: str) -> UnusableContentError:
    """The bytes unpack to more than any honest layer does."""
    return UnusableContentError(
        "IMG_BOMB",
        reason,
        "Look at what this layer holds: it may have been made to exhaust whoever opens it.",
    )


def too_large(reason: str) -> UnusableContentError:
    """The content is larger than the console may keep."""
    return UnusableContentError(
        "IMG_TOO_LARGE", reason, "Raise TCSS_BLOB_STORE_MB if images of this size are meant to be scanned."
    )

"""Names of content: strict digests and tags, parsed at the edge (OCI image specification, "Digests").

A digest from a registry becomes part of a path and of a URL, so nothing but its exact form gets in.
"""

import re

_SHA256 = re.compile(r"sha256:[0-9a-f]{64}\Z", re.ASCII)
_SHA512 = re.compile(r"sha512:[0-9a-f]{128}\Z", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z", re.ASCII)
# Path components of the distribution specification's <name>; Harbor allows runs of separators the same way.
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*\Z", re.ASCII)

DIGEST_LENGTH = 7 + 128
REPOSITORY_LENGTH = 255
TAG_LENGTH = 160
# cosign stored signatures, attestations and SBOMs under these tags before registries had referrers.
_COSIGN_TAG = re.compile(r"sha256-[0-9a-f]{64}(?:\.(?:sig|att|sbom))?\Z", re.ASCII)


class InvalidNameError(ValueError):
    """A digest, tag or repository name is not of its specification's form."""


def parse_digest(text: object) -> str:
    """``text`` if it is a sha256 or sha512 digest; raises InvalidNameError otherwise."""
    if isinstance(text, str) and (_SHA256.match(text) or _SHA512.match(text)):
        return text
    raise InvalidNameError("not a digest")


def parse_tag(text: object) -> str:
    """``text`` if it is a tag of the distribution specification; raises InvalidNameError otherwise."""
    if isinstance(text, str) and _TAG.match(text):
        return text
    raise InvalidNameError("not a tag")


def parse_repository(text: object) -> str:
    """``text`` if it is a repository name as the distribution specification has it, else InvalidNameError."""
    if isinstance(text, str) and len(text) <= REPOSITORY_LENGTH and _REPOSITORY.match(text):
        return text
    raise InvalidNameError("not a repository name")


def is_signature_tag(tag: str) -> bool:
    """Whether a tag is cosign's name for something that belongs to another manifest."""
    return _COSIGN_TAG.match(tag) is not None


def short(digest: str) -> str:
    """The first 12 hex digits, as people quote them."""
    return digest.partition(":")[2][:12]

"""Things planted for scanners to find: credentials that open nothing, and the anti-virus test file."""

from __future__ import annotations

import hashlib
import string


def letters(name: str, length: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    """Letters that look random and are always the same for a name: a credential that opens nothing."""
    numbers = hashlib.shake_128(f"demo credential {name}".encode()).digest(length)
    return "".join(alphabet[number % len(alphabet)] for number in numbers)


def private_key() -> str:
    """What a private key looks like, over random letters; put together here so that no file holds one."""
    body = "\n".join(letters(f"key line {line}", 64) for line in range(12))
    name = "RSA PRIVATE" + " KEY-----"
    return f"-----BEGIN {name}\n{body}\n-----END {name}\n"


def eicar() -> str:
    """The anti-virus test file of eicar.org, put together here so that this file is not taken for it."""
    return "X5O!P%@AP[4" + "\\PZX54(P^)7CC)7}$EICAR" + "-STANDARD-ANTIVIRUS-" + "TEST-FILE!$H+H*"

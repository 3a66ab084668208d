"""The one door through which outside text passes before it reaches a column.

PostgreSQL refuses NUL and lone surrogates in text and jsonb alike, so that one hostile file name would
lose a whole report; terminals and logs obey control characters. Both are made visible instead.
"""

import hashlib
import re

# C0, DEL, C1, and U+2028/2029, which many programs take for the end of a line. Tab and newline stay in
# multi-line text only.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_CONTROL_BUT_LINES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_HASH_LENGTH = 8


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _escape_surrogate(match: re.Match[str]) -> str:
    code = ord(match.group())
    # surrogateescape maps the undecodable byte 0xNN to U+DCNN.
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def clean_text(value: object, limit: int, *, multiline: bool = False) -> str:
    """``value`` as text a column of ``limit`` characters can hold: complete, or cut with a mark and a hash.

    Accepts str, bytes (decoded as UTF-8, bad bytes shown as ``\\xNN``) and None (empty); anything else is
    shown by str(). A cut text ends in ``…`` and eight hex digits of the original's SHA-256, so that two long
    texts that differ only in their tails stay different.
    """
    if value is None:
        return ""
    text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)
    # A hostile text may have a gigabyte; what is cut away need not be escaped first.
    head = text[: limit + 1]
    head = _SURROGATE.sub(_escape_surrogate, head)
    head = (_CONTROL_BUT_LINES if multiline else _CONTROL).sub(_escape, head)
    if len(text) <= limit and len(head) <= limit:
        return head
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_LENGTH]
    if limit <= _HASH_LENGTH + 1:
        return head[:limit]
    return f"{head[: limit - _HASH_LENGTH - 1]}…{digest}"

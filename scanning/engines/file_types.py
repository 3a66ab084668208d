"""What kind of file a content is, in a word or two, by its first bytes."""

_MAGIC = (
    (b"\x7fELF", "ELF program"),
    (b"MZ", "Windows program"),
    (b"#!", "Script"),
    (b"PK\x03\x04", "ZIP archive"),
    (b"PK\x05\x06", "ZIP archive"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"7z\xbc\xaf\x27\x1c", "7-Zip archive"),
    (b"Rar!\x1a\x07", "RAR archive"),
    (b"!<arch>\n", "ar archive"),
    (b"\xed\xab\xee\xdb", "RPM package"),
    (b"%PDF-", "PDF document"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Office document"),
    (b"{\\rtf", "RTF document"),
    (b"\xca\xfe\xba\xbe", "Java class"),
    (b"\xfe\xed\xfa", "macOS program"),
    (b"\xcf\xfa\xed\xfe", "macOS program"),
    (b"\x00asm", "WebAssembly"),
    (b"dex\n", "Android program"),
    (b"SQLite format 3\x00", "SQLite database"),
    (b"\x89PNG\r\n\x1a\n", "PNG image"),
    (b"\xff\xd8\xff", "JPEG image"),
    (b"GIF8", "GIF image"),
    (b"<?php", "PHP script"),
    (b"<?xml", "XML"),
    (b"<!DOCTYPE html", "HTML"),
    (b"<html", "HTML"),
)
_TAR = b"ustar"
_TAR_AT = 257
# Bytes that no text has.
_BINARY = frozenset(range(32)) - frozenset(b"\t\n\r\f\x1b")


def file_type(head: bytes) -> str:
    """The type's short name; "Text" or "Data" where no mark is known, nothing for an empty file."""
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    if head[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR:
        return "tar archive"
    if not head:
        return ""
    return "Data" if _BINARY & frozenset(head) else "Text"

"""YARA as an engine for viruses and trojans: our own small rule set, and the operators' rules."""

import hashlib
import mmap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yara

from scanning.engines.malware import ContentVerdict, MalwareKind, Signature, SignatureVersion
from scanning.engines.malware_names import kind_of
from scanning.engines.protocol import EngineCrash, EngineDatabaseError, EngineVersion, Severity
from tcss.text import clean_text

NAME = "yara"
OWN_RULES = Path(__file__).with_name("rules")
SUFFIXES = frozenset({".yar", ".yara"})

_MAX_FILE_BYTES = 8 * 2**20
_MAX_FILES = 2_000
_OWN = "own/"
_OPERATORS = "operator/"
_KIND_FIELDS = ("kind", "category", "malware_type", "type")
_SEVERITY_FIELDS = ("severity", "threat_level")


@dataclass(frozen=True, slots=True)
class Limits:
    """What judging one content may use: bytes that are looked at, and wall-clock seconds.

    A file is mapped, and what of it is in memory at a time counts as the process's own. A rule that counts
    how often a text occurs takes up to 200 MB more for each of its texts in a content made for that.
    """

    content_bytes: int = 2**29
    seconds: int = 60


@dataclass(frozen=True, slots=True)
class BadRuleFile:
    """An operators' file of rules that is not used, and why: a failure of the console's list."""

    name: str
    reason: str
    code: str = EngineDatabaseError.code
    remedy: str = "Correct the file or take it out of the folder; the other files' rules are in use."


@dataclass(frozen=True, slots=True)
class Yara:
    """Compiled rules. Usable from several threads at once.

    `bad_files` are the operators' files that could not be used; the rules of all others are in `rules`.
    """

    rules: Any
    version: SignatureVersion
    bad_files: tuple[BadRuleFile, ...]
    limits: Limits

    @classmethod
    def load(cls, operators_folder: Path | None = None, *, limits: Limits | None = None) -> "Yara":
        """Compile our own rules and those of the files `*.yar` and `*.yara` anywhere in a folder.

        Raises EngineDatabaseError when the folder cannot be read.
        """
        own = {_OWN + path.name: path.read_text() for path in sorted(OWN_RULES.glob("*.yar"))}
        texts, bad = _operators_texts(operators_folder) if operators_folder else ({}, [])
        try:
            rules = _compile(own | texts)
        except yara.Error:
            texts, refused = _usable(texts)
            bad = [*bad, *refused]
            rules = _compile(own | texts)
        return cls(rules, _version(own | texts, len(texts)), tuple(bad), limits or Limits())

    def judge(
        self, content: bytes | bytearray | memoryview | mmap.mmap, *, size: int | None = None
    ) -> ContentVerdict:
        """What the rules say of a content, which may be given up to the limit only; `size` is then all of it.

        Raises EngineCrash.
        """
        unscanned = []
        whole = len(content) if size is None else size
        with memoryview(content) as view, view[: self.limits.content_bytes] as seen:
            try:
                matches = self.rules.match(
                    data=seen,
                    fast=True,
                    timeout=self.limits.seconds,
                    # A text that a rule looks for and that is there a million times.
                    warnings_callback=lambda *_: unscanned.append("a rule's text is in it too often"),
                    console_callback=_say_nothing,
                )
            except yara.TimeoutError:
                matches = []
                unscanned.append(f"it took more than {self.limits.seconds} seconds")
            except yara.Error as error:
                raise EngineCrash(
                    "The YARA engine could not look at a file of the image.",
                    "Scan again; if it repeats, take the newest of your own rule files out of their folder.",
                    detail=str(error),
                ) from error
            if whole > len(seen):
                unscanned.append(f"only its first {_amount(len(seen))} of {_amount(whole)} were looked at")
        reason = f"YARA did not see all of it: {'; '.join(dict.fromkeys(unscanned))}." if unscanned else ""
        return ContentVerdict(NAME, tuple(_signatures(matches)), reason)

    def judge_file(self, path: Path) -> ContentVerdict:
        """What the rules say of a file, which is mapped, not read. Raises OSError and EngineCrash."""
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if not size:
                return self.judge(b"")
            seen = min(size, self.limits.content_bytes)
            with mmap.mmap(file.fileno(), seen, access=mmap.ACCESS_READ) as content:
                return self.judge(content, size=size)


def _compile(texts: Mapping[str, str]) -> Any:
    # One name space a file: equal names in two files do no harm, and a global rule binds its own file only.
    return yara.compile(sources=dict(texts), includes=False, error_on_warning=False)


def _operators_texts(folder: Path) -> tuple[dict[str, str], list[BadRuleFile]]:
    texts: dict[str, str] = {}
    bad: list[BadRuleFile] = []
    try:
        # A folder that cannot be listed looks like an empty one to a search below it.
        next(folder.iterdir(), None)
        paths = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES and path.is_file())
    except OSError as error:
        raise EngineDatabaseError(
            "The folder of your own YARA rules cannot be read.",
            "Create the folder or correct its permissions, or take its setting away.",
            detail=str(error),
        ) from error
    for path in paths:
        name = clean_text(str(path.relative_to(folder)), 200)
        try:
            if len(texts) >= _MAX_FILES:
                bad.append(BadRuleFile(name, f"There are more than {_MAX_FILES} files of rules."))
            elif path.stat().st_size > _MAX_FILE_BYTES:
                bad.append(BadRuleFile(name, f"The file is longer than {_amount(_MAX_FILE_BYTES)}."))
            else:
                text = path.read_text(encoding="utf-8-sig")
                # The compiler would stop there and leave out the rules behind it without a word.
                if "\0" in text:
                    bad.append(BadRuleFile(name, "The file holds a NUL character."))
                else:
                    texts[_OPERATORS + name] = text
        except OSError:
            bad.append(BadRuleFile(name, "The file cannot be read."))
        except UnicodeDecodeError:
            bad.append(BadRuleFile(name, "The file is not a text in UTF-8."))
    return texts, bad


def _usable(texts: Mapping[str, str]) -> tuple[dict[str, str], list[BadRuleFile]]:
    """The files that can be compiled, each tried by itself, and those that cannot."""
    good: dict[str, str] = {}
    bad = []
    for name, text in texts.items():
        try:
            _compile({name: text})
            good[name] = text
        except yara.Error as error:
            # The message is "own name space:line: what is wrong"; the file's name stands beside it anyway.
            complaint = str(error).removeprefix(name).lstrip(":( ")
            reason = clean_text(f"The rules cannot be used: {complaint}", 300)
            bad.append(BadRuleFile(name.removeprefix(_OPERATORS), reason))
    return good, bad


def _version(texts: Mapping[str, str], operators_files: int) -> SignatureVersion:
    digest = hashlib.sha256()
    for name, text in sorted(texts.items()):
        for part in (name, text):
            encoded = part.encode()
            digest.update(len(encoded).to_bytes(8, "big") + encoded)
    files = {0: "", 1: " with 1 file of yours"}.get(
        operators_files, f" with {operators_files} files of yours"
    )
    # The rules carry no date: their hash says whether they are the same.
    return SignatureVersion(EngineVersion(NAME, yara.__version__), digest.hexdigest()[:16] + files, None)


def _signatures(matches: Iterable[Any]) -> Iterable[Signature]:
    found: dict[str, Signature] = {}
    for match in matches:
        signature = signature_of(match.rule, match.meta, match.tags)
        known = found.get(signature.name)
        if known is None or signature.severity > known.severity:
            found[signature.name] = signature
    return found.values()


def signature_of(rule: str, meta: Mapping[str, object], tags: Iterable[str] = ()) -> Signature:
    """What a matching rule stands for.

    `kind` (or category, malware_type, type) and `severity` (or threat_level) of the rule's metadata count
    first, then its name, then its tags.
    """
    fields = {name.lower(): value for name, value in meta.items()}
    said = [str(fields[name]) for name in _KIND_FIELDS if name in fields]
    kind = next((kind for text in said if (kind := _kind(text)) is not MalwareKind.MALWARE), None)
    if kind is None:
        kind = next((k for text in (rule, *tags) if (k := kind_of(text)) is not MalwareKind.MALWARE), None)
    severity = next(
        (Severity.parse(text) for name in _SEVERITY_FIELDS if isinstance(text := fields.get(name), str)), None
    )
    description = fields.get("description", "")
    return Signature.of(rule, kind or MalwareKind.MALWARE, severity, str(description))


def _kind(text: str) -> MalwareKind:
    word = text.strip().lower().replace(" ", "_").replace("-", "_")
    return next((kind for kind in MalwareKind if kind.value == word), None) or kind_of(text)


def _amount(size: int) -> str:
    if size < 2**20:
        return f"{size} bytes"
    return f"{size // 2**20} MiB"


def _say_nothing(_message: str) -> None:
    """What a rule writes with the module `console` is for whoever tries it out."""

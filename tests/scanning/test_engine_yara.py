"""The YARA engine: each rule of ours, what it must not take for malware, operators' rules, and limits."""

import os
import re
import tarfile
import threading
from pathlib import Path

import pytest

from demo.catalog import Catalog
from scanning.engines.malware import ContentVerdict, MalwareKind, Outcome
from scanning.engines.malware_names import kind_of
from scanning.engines.protocol import EngineDatabaseError, Severity
from scanning.engines.yara import OWN_RULES, Limits, Yara
from tests.scanning.samples import BY_RULE, EICAR, zipped

ROOT = Path(__file__).resolve().parents[2]
OWN = Yara.load()


def rules_of(verdict: ContentVerdict) -> list[str]:
    return [signature.name for signature in verdict.signatures]


@pytest.mark.parametrize("rule", BY_RULE)
def test_a_rule_recognises_what_it_is_for_and_not_what_is_like_it(rule: str) -> None:
    malicious, harmless = BY_RULE[rule]
    assert rules_of(OWN.judge(malicious)) == [rule]
    assert OWN.judge(harmless) == ContentVerdict("yara")


def test_every_rule_has_a_sample_a_kind_and_a_description() -> None:
    texts = [path.read_text() for path in OWN_RULES.glob("*.yar")]
    assert {name for text in texts for name in re.findall(r"^rule (\w+)", text, re.MULTILINE)} == set(BY_RULE)
    for malicious, _ in BY_RULE.values():
        (signature,) = OWN.judge(malicious).signatures
        assert signature.kind is not MalwareKind.MALWARE
        assert signature.severity > Severity.UNKNOWN
        assert signature.description
        assert signature.kind.suggestion.endswith(".")


def test_our_own_files_are_not_taken_for_malware() -> None:
    found = {}
    for folder in ("scanning", "tests", "demo", "docs", "templates", "static"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix != ".pyc" and (hits := rules_of(OWN.judge_file(path))):
                found[path] = hits
    assert found == {}


def test_nothing_in_the_standard_library_is_taken_for_malware() -> None:
    paths = [path for path in Path(os.__file__).parent.glob("*.py") if path.stat().st_size]
    assert len(paths) > 100
    assert [path for path in paths if OWN.judge_file(path).outcome is not Outcome.CLEAN] == []


def test_only_the_test_files_in_the_sample_images_are_taken_for_malware(
    sample_images: tuple[Path, Catalog],
) -> None:
    directory, _ = sample_images
    seen, found = 0, {}
    for path in directory.rglob("*"):
        if not path.is_file() or path.read_bytes()[:2] != b"\x1f\x8b":
            continue
        try:
            with tarfile.open(path) as layer:
                for member in layer:
                    content = layer.extractfile(member).read() if member.isfile() else b""
                    seen += bool(content)
                    if hits := rules_of(OWN.judge(content)):
                        found[member.name] = hits
        except tarfile.TarError:
            continue  # a layer that is broken on purpose
    assert seen > 50
    assert found == {"var/www/html/wp-content/uploads/2021/12/invoice.com": ["Eicar_Test_File"]}


def test_the_test_file_is_told_from_malware() -> None:
    verdict = OWN.judge(EICAR)
    assert verdict.outcome is Outcome.INFECTED
    (signature,) = verdict.signatures
    assert (signature.kind, signature.severity) == (MalwareKind.TEST_FILE, Severity.LOW)
    assert signature.kind.label == "Test file"


def test_the_test_file_is_found_at_the_end_of_a_large_file_that_is_not_read_into_memory(
    tmp_path: Path,
) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.seek(64 * 2**20)
        file.write(EICAR)
    assert rules_of(OWN.judge_file(path)) == ["Eicar_Test_File"]


def test_a_content_beyond_the_limit_is_not_fully_scanned(tmp_path: Path) -> None:
    limited = Yara.load(limits=Limits(content_bytes=2**20))
    path = tmp_path / "large"
    path.touch()
    os.truncate(path, 3 * 2**30)
    for verdict in (limited.judge_file(path), limited.judge(bytes(2**20), size=3 * 2**30)):
        assert verdict.outcome is Outcome.NOT_FULLY_SCANNED
        assert verdict.unscanned == (
            "YARA did not see all of it: only its first 1 MiB of 3072 MiB were looked at."
        )


def test_what_is_found_in_the_part_that_was_seen_counts() -> None:
    verdict = Yara.load(limits=Limits(content_bytes=100)).judge(EICAR + bytes(1000))
    assert verdict.outcome is Outcome.INFECTED
    assert verdict.unscanned


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_contents_are_judged_from_any_buffer(wrap: type) -> None:
    assert rules_of(OWN.judge(wrap(EICAR))) == ["Eicar_Test_File"]
    assert OWN.judge(wrap(b"")).outcome is Outcome.CLEAN


def test_an_empty_file_is_clean(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert OWN.judge_file(tmp_path / "empty").outcome is Outcome.CLEAN


def test_archives_are_left_to_other_engines() -> None:
    assert OWN.judge(zipped(EICAR)).outcome is Outcome.CLEAN


def test_one_engine_serves_several_threads() -> None:
    answers = []

    def judge() -> None:
        answers.extend(OWN.judge(EICAR).outcome for _ in range(20))

    threads = [threading.Thread(target=judge) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [Outcome.INFECTED] * 80


OPERATORS = """
rule Internal_Leak : exploit {
    meta:
        severity = "Critical"
        category = "hack tool"
        description = "ours"
    strings: $a = "internal-only"
    condition: $a
}
"""


def test_operators_rules_stand_beside_ours(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "ours.yara").write_text(OPERATORS, encoding="utf-8-sig")
    (tmp_path / "README.md").write_text("not a rule")
    engine = Yara.load(tmp_path)
    assert engine.bad_files == ()
    (signature,) = engine.judge(b"this is internal-only").signatures
    assert (signature.name, signature.severity, signature.description) == (
        "Internal_Leak", Severity.CRITICAL, "ours",
    )  # fmt: skip
    assert signature.kind is MalwareKind.HACKTOOL
    assert rules_of(engine.judge(EICAR)) == ["Eicar_Test_File"]


def test_the_version_changes_with_the_rules_and_only_with_them(tmp_path: Path) -> None:
    (tmp_path / "ours.yar").write_text(OPERATORS)
    first = Yara.load(tmp_path).version
    assert first == Yara.load(tmp_path).version
    (tmp_path / "broken.yar").write_text("rule")
    assert Yara.load(tmp_path).version == first
    (tmp_path / "ours.yar").write_text(OPERATORS.replace("internal", "external"))
    changed = Yara.load(tmp_path).version
    assert len({first.signatures, changed.signatures, OWN.version.signatures}) == 3
    assert first.signatures.endswith(" with 1 file of yours")


BAD_FILES = {
    "syntax.yar": (b"rule x { condition: }", "syntax error"),
    "include.yar": (b'include "/etc/passwd"', "includes are disabled"),
    "external.yar": (b'rule x { condition: filename == "x" }', "undefined identifier"),
    "slow.yar": (b"rule x { strings: $a = /(/ condition: $a }", "regular expression"),
    "nul.yar": (b"rule a { condition: false }\0rule b { condition: true }", "NUL"),
    "binary.yar": (b"\xff\xfe\x00", "UTF-8"),
    "long.yar": (b"//" + b"x" * (9 * 2**20), "longer than 8 MiB"),
}


def test_a_bad_file_of_rules_is_named_and_the_others_are_used(tmp_path: Path) -> None:
    for name, (content, _) in BAD_FILES.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "ours.yar").write_text(OPERATORS)
    engine = Yara.load(tmp_path)
    assert sorted(bad.name for bad in engine.bad_files) == sorted(BAD_FILES)
    for bad in engine.bad_files:
        assert BAD_FILES[bad.name][1] in bad.reason
        assert (bad.code, str(tmp_path) in bad.reason) == ("ENG_DB", False)
        assert bad.remedy
    assert rules_of(engine.judge(b"internal-only")) == ["Internal_Leak"]
    assert rules_of(engine.judge(EICAR)) == ["Eicar_Test_File"]


def test_a_rule_of_the_same_name_and_a_global_rule_leave_ours_alone(tmp_path: Path) -> None:
    (tmp_path / "same.yar").write_text("rule Eicar_Test_File { condition: false }")
    (tmp_path / "global.yar").write_text("global rule Nothing { condition: false }")
    engine = Yara.load(tmp_path)
    assert engine.bad_files == ()
    assert rules_of(engine.judge(EICAR)) == ["Eicar_Test_File"]


def test_a_folder_of_rules_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EngineDatabaseError) as error:
        Yara.load(tmp_path / "absent")
    assert error.value.code == "ENG_DB"


def test_a_rule_that_takes_too_long_makes_the_content_not_fully_scanned(tmp_path: Path) -> None:
    (tmp_path / "slow.yar").write_text(
        "rule Slow { condition: for all i in (0 .. 9999999999) : (uint8(i % filesize) < 256) }"
    )
    verdict = Yara.load(tmp_path, limits=Limits(seconds=1)).judge(bytes(1000))
    assert verdict.outcome is Outcome.NOT_FULLY_SCANNED
    assert "it took more than 1 seconds" in verdict.unscanned


def test_a_text_that_is_there_a_million_times_makes_the_content_not_fully_scanned(tmp_path: Path) -> None:
    (tmp_path / "often.yar").write_text('rule Often { strings: $a = "zzzz" condition: #a > 999999999 }')
    verdict = Yara.load(tmp_path).judge(b"z" * 2_000_000)
    assert verdict.outcome is Outcome.NOT_FULLY_SCANNED
    assert "too often" in verdict.unscanned


def test_what_a_rule_prints_is_not_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "loud.yar").write_text('import "console"\nrule Loud { condition: console.log("heard") }')
    Yara.load(tmp_path).judge(b"content")
    assert capfd.readouterr() == ("", "")


def test_control_characters_of_a_description_are_shown(tmp_path: Path) -> None:
    (tmp_path / "odd.yar").write_text(
        'rule Odd_Miner { meta: description = "a\\tb<script>" condition: filesize == 3 }'
    )
    (signature,) = Yara.load(tmp_path).judge(b"abc").signatures
    assert signature.description == "a\\x09b<script>"
    assert signature.kind is MalwareKind.MINER


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Win.Trojan.Agent-1388596", MalwareKind.TROJAN),
        ("Unix.Malware.Agent-6774296-0", MalwareKind.MALWARE),
        ("Unix.Trojan.Mirai-7640640-0", MalwareKind.WORM),
        ("Unix.Coinminer.XMRig-6683890-0", MalwareKind.MINER),
        ("Multios.Coinminer.Miner-6781728-2", MalwareKind.MINER),
        ("Unix.Tool.Miner-6443173-0", MalwareKind.HACKTOOL),
        ("Php.Webshell.Generic-9952431-0", MalwareKind.WEB_SHELL),
        ("Php.Trojan.WebShell-5", MalwareKind.WEB_SHELL),
        ("Php.Shell.C99-1", MalwareKind.WEB_SHELL),
        ("Win.Ransomware.WannaCry-6313787-0", MalwareKind.RANSOMWARE),
        ("Unix.Rootkit.Agent-1", MalwareKind.ROOTKIT),
        ("Unix.Exploit.CVE_2016_5195-2", MalwareKind.EXPLOIT),
        ("Win.Virus.Sality-1067", MalwareKind.VIRUS),
        ("Win.Worm.Allaple-1", MalwareKind.WORM),
        ("Unix.Downloader.Rocke-1", MalwareKind.DOWNLOADER),
        ("PUA.Win.Adware.Softpulse", MalwareKind.ADWARE),
        ("PUA.Unix.Coinminer.XMRig-1", MalwareKind.MINER),
        ("PUA.Win.Packer.Upx-1", MalwareKind.PACKED),
        ("PUA.Doc.Something-1", MalwareKind.UNWANTED),
        ("Heuristics.Broken.Executable", MalwareKind.SUSPICIOUS),
        ("Eicar-Test-Signature", MalwareKind.TEST_FILE),
        ("Win.Test.EICAR_HDB-1", MalwareKind.TEST_FILE),
        ("Clamav.Test.File-6", MalwareKind.TEST_FILE),
        ("Test.Trojan.Agent", MalwareKind.TROJAN),
        ("YARA.Linux_Backdoor_Thing.UNOFFICIAL", MalwareKind.BACKDOOR),
        ("MAL_LinuxRansomware", MalwareKind.RANSOMWARE),
        ("{HEX}php.base64.v23au.185.UNOFFICIAL", MalwareKind.MALWARE),
        ("", MalwareKind.MALWARE),
        ("." * 100_000, MalwareKind.MALWARE),
    ],
)
def test_a_signatures_name_says_its_kind(name: str, kind: MalwareKind) -> None:
    assert kind_of(name) is kind


def test_every_kind_has_a_label_a_severity_and_a_suggestion() -> None:
    for kind in MalwareKind:
        assert kind.label
        assert kind.severity > Severity.UNKNOWN
        assert kind.suggestion.endswith(".")
        assert len(kind.value) <= 32

"""The Trivy adapter with the real Trivy: the same findings as by hand, clear errors, nothing left behind."""

import gzip
import hashlib
import io
import json
import os
import signal
import stat
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import pytest
import zstandard

from demo import images, vulnerability_db
from demo.blobs import BlobStore
from scanning.engines import process
from scanning.engines.layout import write_layout
from scanning.engines.protocol import (
    EngineCancelled,
    EngineCrash,
    EngineDatabaseError,
    EngineDiskFull,
    EngineTimeout,
    FixStatus,
    ImageMalformed,
    Severity,
)
from scanning.engines.trivy import REFUSED, Trivy, _write_empty_java_database, find_binary
from scanning.engines.trivy_errors import scan_failure
from scanning.engines.trivy_report import mask

BY_HAND = (
    *("--skip-db-update", "--skip-java-db-update", "--offline-scan", "--disable-telemetry"),
    *("--skip-version-check", "--quiet", "--format", "json", "--cache-backend", "memory"),
)

IMAGES = (
    "library/debian:12",
    "library/alpine:3.18",
    "library/python:3.11-slim",
    "library/nginx:1.24-alpine/amd64",
    "library/nginx:1.24-alpine/arm64",
    "shop/web:1.0.0",
    "shop/web:1.1.0",
    "shop/api:2.3.0",
    "shop/front:3.2.0",
    "shop/backend/orders:4.0.2",
    "shop/legacy-cms:2021.12",
    "payments/ledger:1.8.2",
    "payments/core/settlement:0.9.4",
    "platform/base/debian:approved-2024q1",
    "platform/redis:7.2.3-alpine",
    "platform/appliance:4.1",
    "platform/status-page:1.0",
)
CORRUPT = "payments/gateway:5.0.1"


class Registry:
    """The sample images, and layouts of them as a registry has them and as the scanner makes them."""

    def __init__(self, directory):
        self.directory = directory
        self.store = BlobStore(directory / "registry")
        self.catalog = images.build(self.store)
        self.database = directory / "db"
        vulnerability_db.write(self.database)

    def artifact(self, name):
        repository, _, reference = name.partition(":")
        tag, _, architecture = reference.partition("/")
        found = self.catalog.repository(repository).find(tag)
        for child in found.references:
            if child.platform.architecture == architecture:
                return self.catalog.repository(repository).find(child.digest)
        return found

    def compressed_layout(self, name, directory):
        artifact = self.artifact(name)
        descriptor = {
            "mediaType": artifact.manifest_media_type,
            "digest": artifact.digest,
            "size": self.store.size(artifact.digest),
        }
        directory.mkdir()
        (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [descriptor]}))
        (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        (directory / "blobs").symlink_to(self.store.directory / "blobs")
        return directory

    def raw_layout(self, name, directory):
        manifest = json.loads(self.store.read(self.artifact(name).digest))
        config = self.store.read(manifest["config"]["digest"])
        layers = []
        directory.mkdir()
        for number, layer in enumerate(manifest["layers"]):
            path = directory / f"{number}.tar"
            path.write_bytes(uncompressed(self.store.read(layer["digest"])))
            layers.append((json.loads(config)["rootfs"]["diff_ids"][number], path))
        write_layout(directory / "layout", config, layers)
        return directory / "layout"


def uncompressed(blob):
    if blob[:4] == b"\x28\xb5\x2f\xfd":
        return zstandard.ZstdDecompressor().decompressobj().decompress(blob)
    return gzip.decompress(blob)


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    return Registry(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def binary():
    return find_binary(os.environ.get("TRIVY_BINARY"))


@pytest.fixture
def trivy(binary, tmp_path):
    return Trivy(binary, tmp_path / "work")


@pytest.fixture
def scan(trivy, registry, tmp_path):
    def run(name, **options):
        options.setdefault("database", registry.database)
        return trivy.scan_layout(registry.raw_layout(name, tmp_path / "image"), **options)

    yield run
    assert list((tmp_path / "work").iterdir()) == []


def by_hand(binary, registry, name, directory):
    """The report of `trivy image --input` over the layout as a registry would have it, gzip and all."""
    cache = directory / "cache"
    _write_empty_java_database(cache / "java-db")
    (cache / "db").symlink_to(registry.database)
    layout = registry.compressed_layout(name, directory / "layout")
    command = [
        binary,
        "image",
        "--input",
        layout,
        "--cache-dir",
        cache,
        "--scanners",
        "vuln,secret",
        *BY_HAND,
    ]
    done = subprocess.run(
        command, check=True, capture_output=True, env={"HOME": str(directory)}, cwd=directory
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", IMAGES)
def test_findings_equal_those_of_trivy_run_by_hand(scan, binary, registry, tmp_path, name):
    (tmp_path / "hand").mkdir()
    hand = by_hand(binary, registry, name, tmp_path / "hand")
    expected = {
        (
            found["VulnerabilityID"],
            found["PkgName"],
            found["InstalledVersion"],
            found.get("FixedVersion", ""),
            Severity.parse(found["Severity"]),
            FixStatus.parse(found["Status"]),
            found["DataSource"]["ID"],
        )
        for result in hand.get("Results", ())
        for found in result.get("Vulnerabilities", ())
    }
    report = scan(name)
    packages = {package.identity: package for package in report.packages}
    found = {
        (
            match.vulnerability,
            packages[match.package_identity].name,
            packages[match.package_identity].version,
            match.fixed_version,
            match.severity,
            match.status,
            match.data_source,
        )
        for match in report.matches
    }
    assert found == expected
    assert bool(found) == (name != "platform/status-page:1.0")
    assert {match.vulnerability for match in report.matches} == {
        each.identifier for each in report.vulnerabilities
    }
    listed = [package for result in hand.get("Results", ()) for package in result.get("Packages", ())]
    assert len(report.packages) == len(listed)


def test_the_comparison_leaves_out_nothing_but_the_corrupt_image(registry):
    containers = {registry.artifact(name).digest for name in (*IMAGES, CORRUPT)}
    every = {
        artifact.digest
        for project in registry.catalog.projects
        for repository in project.repositories
        for artifact in repository.artifacts
        if (artifact.extra_attrs or {}).get("os") == "linux"
    }
    assert containers == every


def test_packages_carry_source_release_place_and_layer(scan):
    report = scan("shop/web:1.0.0")
    by_name = {package.name: package for package in report.packages}
    library = by_name["libssl3"]
    assert (library.source_name, library.version, library.kind) == ("openssl", "3.0.11-1~deb12u2", "debian")
    assert library.os_release == "debian 12.5"
    assert by_name["zlib1g"].version == "1:1.2.13.dfsg-1"
    assert by_name["libuuid1"].source_version == "2.38.1-5"
    django = by_name["Django"]
    assert django.path.endswith("Django-3.2.12.dist-info/METADATA")
    assert django.os_release == ""
    assert django.layer_diff_id != library.layer_diff_id != by_name["zlib1g"].layer_diff_id
    assert (report.os_family, report.os_name, report.os_supported) == ("debian", "12.5", True)


def test_a_vulnerability_comes_with_score_weakness_dates_and_references(scan):
    report = scan("shop/backend/orders:4.0.2")
    fact = next(each for each in report.vulnerabilities if each.identifier == "CVE-2021-44228")
    assert fact.severity is Severity.CRITICAL
    assert fact.cvss_score == 10.0
    assert fact.cvss_vector.startswith("CVSS:3.1/AV:N")
    assert "CWE-502" in fact.cwe_ids
    assert fact.published_at.year == 2021
    assert fact.published_at.tzinfo is not None
    assert any("log4j" in reference for reference in fact.references)
    assert "jndi" in fact.description


def test_an_ended_distribution_and_an_unknown_one_are_told_apart(scan, trivy, registry, tmp_path):
    assert scan("shop/legacy-cms:2021.12").os_supported is False
    layout = registry.raw_layout("platform/appliance:4.1", tmp_path / "unknown")
    unknown = trivy.scan_layout(layout, database=registry.database)
    assert (unknown.os_family, unknown.os_name, unknown.os_supported) == ("", "", None)
    assert unknown.matches


def test_secrets_are_found_in_files_and_configuration_and_only_masked(scan, registry):
    report = scan("shop/api:2.3.0")
    found = {secret.rule_id: secret for secret in report.secrets}
    assert set(found) == {
        "private-key",
        "aws-access-key-id",
        "aws-secret-access-key",
        "github-pat",
        "slack-access-token",
    }
    assert found["aws-access-key-id"].path == "/srv/api/.env"
    assert found["aws-access-key-id"].masked_match == "AWS_ACCESS_KEY_ID=********"
    assert found["aws-access-key-id"].layer_diff_id.startswith("sha256:")
    assert found["slack-access-token"].layer_diff_id is None
    assert found["slack-access-token"].path == "ENV SLACK_BOT_TOKEN"
    (environment,) = [
        line for line in registry.artifact("shop/api:2.3.0").extra_attrs["config"]["Env"] if "SLACK" in line
    ]
    for part in environment.partition("=")[2].split("-"):
        assert part not in repr(report)


@pytest.mark.parametrize(
    ("match", "masked"),
    [
        ("token=****************", "token=********"),
        ('  "password": "*****" and more', '"password": "********'),
        ("xoxb-**************-1234-tail", "********"),
        ("curl -u admin:hunter2 -H api_key: ****", "api_key: ********"),
        ("no stars at all", "********"),
        ("", "********"),
    ],
)
def test_a_match_keeps_its_name_and_loses_all_around_it(match, masked):
    assert mask(match) == masked


def test_without_a_database_packages_and_secrets_are_found_and_the_report_says_so(scan):
    report = scan("shop/api:2.3.0", database=None)
    assert not report.vulnerabilities_available
    assert report.matches == ()
    assert report.os_supported is None
    assert len(report.packages) > 90
    assert len(report.secrets) == 5


def test_sensitive_data_that_was_not_asked_for_is_not_reported(scan):
    report = scan("shop/api:2.3.0", sensitive_data=False)
    assert not report.secrets_available
    assert report.secrets == ()
    assert report.matches


def test_secrets_in_a_base_image_are_found_whatever_its_history_says(trivy, tmp_path):
    secret = ("password.txt", f"{'AK' + 'IA'}QWERTYUIOPASDFGH\n".encode())
    base, upper = tar_file(tmp_path / "base.tar", secret), tar_file(tmp_path / "upper.tar", ("new", b"x"))
    config = {
        "rootfs": {"type": "layers", "diff_ids": [base[0], upper[0]]},
        "history": [
            {"created_by": "ADD"},
            {"created_by": 'CMD ["sh"]', "empty_layer": True},
            {"created_by": "COPY"},
        ],
    }
    write_layout(tmp_path / "layout", json.dumps(config).encode(), [base, upper])
    report = trivy.scan_layout(tmp_path / "layout", database=None)
    assert [each.layer_diff_id for each in report.secrets] == [base[0]]


@pytest.mark.parametrize(
    "config",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"{" * 100_000,
        b'{"config": [], "history": {}, "rootfs": 7, "os": 3}',
        b'{"config": {"Env": "A=B", "Cmd": 5, "Labels": [1]}, "history": [null, {"created_by": 4}]}',
        b'{"created": "yesterday", "variant": 8}',
    ],
)
def test_a_strange_config_does_not_keep_good_layers_from_being_scanned(trivy, tmp_path, config):
    layer = tar_file(
        tmp_path / "layer.tar", ("app/package.json", b'{"name": "lodash", "version": "4.17.20"}')
    )
    write_layout(tmp_path / "layout", config, [layer])
    assert trivy.scan_layout(tmp_path / "layout", database=None).truncated == ()


def test_a_layer_used_twice_is_scanned(trivy, tmp_path):
    layer = tar_file(tmp_path / "layer.tar", ("etc/alpine-release", b"3.18.2\n"))
    write_layout(tmp_path / "layout", b"{}", [layer, layer])
    assert trivy.scan_layout(tmp_path / "layout", database=None).os_family == "alpine"


def test_layers_are_linked_and_not_copied(tmp_path):
    diff_id, path = tar_file(tmp_path / "layer.tar", ("file", b"content"))
    write_layout(tmp_path / "layout", b"{}", [(diff_id, path)])
    assert (tmp_path / "layout" / "blobs" / "sha256" / diff_id[7:]).samefile(path)


def tar_file(path, *files):
    with tarfile.open(path, "w") as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest(), path


def test_a_layer_that_is_no_archive_is_a_malformed_image(trivy, tmp_path):
    path = tmp_path / "layer.tar"
    path.write_bytes(b"\x7fno archive" * 1_000)
    write_layout(
        tmp_path / "layout", b"{}", [("sha256:" + hashlib.sha256(path.read_bytes()).hexdigest(), path)]
    )
    with pytest.raises(ImageMalformed) as error:
        trivy.scan_layout(tmp_path / "layout", database=None)
    assert error.value.code == "IMG_MALFORMED"
    assert error.value.detail


@pytest.mark.parametrize(
    ("content", "metadata"),
    [
        (b"", {"Version": 2}),
        (b"garbage" * 4_000, {"Version": 2}),
        (None, {"Version": 3}),
        (None, {"Version": 1}),
    ],
)
def test_a_broken_database_is_named_as_the_cause(scan, registry, tmp_path, content, metadata):
    broken = tmp_path / "broken"
    broken.mkdir()
    intact = (registry.database / "trivy.db").read_bytes()
    (broken / "trivy.db").write_bytes(intact if content is None else content)
    (broken / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(EngineDatabaseError) as error:
        scan("library/alpine:3.18", database=broken)
    assert error.value.code == "ENG_DB"
    assert error.value.remedy


def test_a_truncated_database_is_named_as_the_cause(scan, registry, tmp_path):
    broken = tmp_path / "broken"
    vulnerability_db.write(broken)
    whole = (broken / "trivy.db").read_bytes()
    (broken / "trivy.db").write_bytes(whole[: len(whole) // 4])
    with pytest.raises(EngineDatabaseError):
        scan("shop/web:1.0.0", database=broken)


@pytest.mark.parametrize(
    ("exit_code", "complaint", "error", "code"),
    [
        (1, "copy error: write /tmp/x: no space left on device", EngineDiskFull, "DISK_FULL"),
        (1, "pipeline error: semaphore acquire: context deadline exceeded", EngineTimeout, "ENG_TIMEOUT"),
        (2, "fatal error: runtime: cannot allocate memory", EngineCrash, "ENG_CRASH"),
        (1, "walk error: failed to extract the archive: unexpected EOF", ImageMalformed, "IMG_MALFORMED"),
        (1, "init error: DB error: database error: --skip-db-update", EngineDatabaseError, "ENG_DB"),
        (-9, "", EngineCrash, "ENG_CRASH"),
        (1, "something new", EngineCrash, "ENG_CRASH"),
    ],
)
def test_every_complaint_becomes_a_code_a_reason_and_a_remedy(exit_code, complaint, error, code):
    failure = scan_failure(process.Ended(exit_code, complaint))
    assert type(failure) is error
    assert (failure.code, failure.detail) == (code, complaint)
    assert failure.reason.endswith(".")
    assert failure.remedy.endswith(".")


def script(path, text):
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


DEAF = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = os.fork()
if child:
    with open({pids!r}, "w") as file:
        file.write(f"{{os.getpid()}} {{child}}")
    os.rename({pids!r}, {pids!r} + ".done")
time.sleep(600)
"""


def gone(pid):
    """Whether no such process runs any more; a zombie has stopped running."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def eventually(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        threading.Event().wait(0.05)
    return True


def deaf_trivy(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "GRACE_SECONDS", 0.3)
    pids = tmp_path / "pids"
    return Trivy(script(tmp_path / "deaf", DEAF.format(pids=str(pids))), tmp_path / "work"), Path(
        f"{pids}.done"
    )


def test_an_engine_that_hangs_is_ended_with_all_its_children(tmp_path, monkeypatch):
    engine, pids = deaf_trivy(tmp_path, monkeypatch)
    with pytest.raises(EngineTimeout) as error:
        engine.scan_layout(tmp_path, database=None, timeout_seconds=4)
    assert "4 seconds" in error.value.reason
    assert eventually(lambda: all(gone(int(pid)) for pid in pids.read_text().split()))
    assert list((tmp_path / "work").iterdir()) == []


def test_a_cancelled_scan_ends_at_once_and_leaves_nothing(tmp_path, monkeypatch):
    engine, pids = deaf_trivy(tmp_path, monkeypatch)
    started = time.monotonic()
    with pytest.raises(EngineCancelled):
        engine.scan_layout(tmp_path, database=None, timeout_seconds=300, keep_going=lambda: not pids.exists())
    assert time.monotonic() - started < 60
    assert eventually(lambda: all(gone(int(pid)) for pid in pids.read_text().split()))
    assert list((tmp_path / "work").iterdir()) == []


def test_an_error_in_the_callers_question_ends_the_engine_too(tmp_path, monkeypatch):
    engine, pids = deaf_trivy(tmp_path, monkeypatch)

    def lost_database():
        if pids.exists():
            raise ConnectionError
        return True

    with pytest.raises(ConnectionError):
        engine.scan_layout(tmp_path, database=None, timeout_seconds=300, keep_going=lost_database)
    assert eventually(lambda: all(gone(int(pid)) for pid in pids.read_text().split()))


def test_the_engine_dies_with_the_process_that_started_it(tmp_path):
    pids = tmp_path / "pids"
    sleeper = script(
        tmp_path / "sleeper",
        f"import os, time\nopen({str(pids)!r}, 'w').write(str(os.getpid()))\n"
        f"os.rename({str(pids)!r}, {str(pids)!r} + '.done')\ntime.sleep(600)\n",
    )
    code = (
        "import sys; from pathlib import Path; from scanning.engines.trivy import Trivy; "
        "Trivy(Path(sys.argv[1]), Path(sys.argv[2])).scan_layout(Path(sys.argv[2]), database=None)"
    )
    caller = subprocess.Popen(
        [sys.executable, "-c", code, sleeper, tmp_path / "work"], cwd=Path(__file__).parents[2]
    )
    done = Path(f"{pids}.done")
    eventually(done.exists)
    caller.send_signal(signal.SIGKILL)
    caller.wait()
    assert eventually(lambda: gone(int(done.read_text())))


def test_an_endless_answer_is_cut_off(tmp_path, monkeypatch):
    monkeypatch.setattr("scanning.engines.trivy.MAX_ANSWER_BYTES", 1_000_000)
    chatter = script(tmp_path / "chatter", "while True: print('x' * 10_000)\n")
    with pytest.raises(EngineCrash, match="longer than"):
        Trivy(chatter, tmp_path / "work").scan_layout(tmp_path, database=None, timeout_seconds=60)


def test_a_memory_limit_that_is_too_small_is_named(trivy, registry, tmp_path):
    layout = registry.raw_layout("library/debian:12", tmp_path / "image")
    with pytest.raises(EngineCrash, match="memory"):
        trivy.scan_layout(layout, database=registry.database, memory_bytes=40 * 2**20)


@pytest.mark.parametrize(
    "answer", ["", "[]", '{"SchemaVersion": 1}', '{"SchemaVersion": 2, "Results": [7]}', "[" * 50_000]
)
def test_an_answer_that_is_no_report_is_a_crash_of_the_engine(tmp_path, answer):
    (tmp_path / "answer").write_text(answer)
    engine = script(tmp_path / "engine", f"print(open({str(tmp_path / 'answer')!r}).read())\n")
    with pytest.raises(EngineCrash, match="cannot be read"):
        Trivy(engine, tmp_path / "work").scan_layout(tmp_path, database=None)


def test_the_engine_inherits_no_secret_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("TCSS_CANARY", "secret")
    engine = script(
        tmp_path / "engine",
        f"import os\nopen({str(tmp_path / 'seen')!r}, 'w').write(repr(dict(os.environ)))\nos._exit(1)\n",
    )
    with pytest.raises(EngineCrash):
        Trivy(engine, tmp_path / "work").scan_layout(tmp_path, database=None)
    seen = (tmp_path / "seen").read_text()
    assert "TMPDIR" in seen
    assert "CANARY" not in seen


def test_the_installed_trivy_says_its_version(trivy):
    assert trivy.version().name == "trivy"
    assert trivy.version().version.count(".") == 2


def test_a_configured_binary_goes_before_the_path_and_the_path_before_the_wheel(tmp_path, monkeypatch):
    configured = script(tmp_path / "mine", "")
    in_path = script(tmp_path / "trivy", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_binary(str(configured)) == configured
    assert find_binary(None) == in_path
    in_path.unlink()
    assert find_binary("") == (Path(sys.executable).parent / "trivy").resolve()


def test_a_binary_that_is_not_there_is_said_plainly(tmp_path):
    with pytest.raises(EngineCrash, match="not there") as error:
        find_binary(str(tmp_path / "nowhere"))
    assert "TRIVY_BINARY" in error.value.remedy


@pytest.mark.parametrize("version", sorted(REFUSED))
def test_a_release_with_malicious_code_is_refused_without_being_run(tmp_path, version):
    stamp = f"-X github.com/aquasecurity/trivy/pkg/version/app.ver={version}"
    bad = script(tmp_path / "trivy", f"# {stamp}\nopen({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(EngineCrash, match=version):
        find_binary(str(bad))
    assert not (tmp_path / "ran").exists()


def test_a_release_with_malicious_code_is_refused_by_what_it_says_too(tmp_path):
    bad = script(tmp_path / "trivy", "print('Version: 0.69.5')\n")
    with pytest.raises(EngineCrash, match="malicious"):
        Trivy(find_binary(str(bad)), tmp_path / "work").version()

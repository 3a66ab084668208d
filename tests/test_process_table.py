"""docker-compose.yml and the Dockerfile against the process table the supervisor runs."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.fernet import Fernet

from scanning.engines.clamav_configuration import configuration
from tcss.embedded.processes import TABLE, Process

ROOT = Path(__file__).resolve().parents[1]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
# They run once, to make the first account and to store a cloud account; the supervisor does it by itself.
ONLY_IN_CONTAINERS = {"administrator", "cloud-account"}
# The supervisor starts clamd where ClamAV is installed; in containers it is an image of its makers.
ENGINES = {"clamav"}
ONE_SHOT = {process.name for process in TABLE.processes if process.one_shot} | ONLY_IN_CONTAINERS
APPLICATION = [process.name for process in TABLE.processes] + sorted(ONLY_IN_CONTAINERS)


def with_defaults(text: str) -> str:
    """The text as compose reads it when nothing is set: ${NAME:-default} becomes default."""
    return re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", text)


def test_compose_runs_exactly_the_processes_of_the_supervisor() -> None:
    containers = {service.container for service in TABLE.services}
    processes = {process.name for process in TABLE.processes}
    assert set(SERVICES) == containers | processes | ONLY_IN_CONTAINERS | ENGINES


@pytest.mark.parametrize("process", TABLE.processes, ids=lambda process: process.name)
def test_a_container_runs_the_same_command_as_the_supervisor(process: Process) -> None:
    command = [with_defaults(word) for word in SERVICES[process.name]["command"]]
    values = {"data_dir": "/data", "scan_concurrency": "2"}
    assert command == [word.format_map(values) for word in process.command]


def test_every_queue_tasks_are_routed_to_has_a_worker(settings: Any) -> None:
    routed = {route["queue"] for route in settings.CELERY_TASK_ROUTES.values()}
    served = {process.queue for process in TABLE.processes if process.queue}
    assert routed | {settings.CELERY_TASK_DEFAULT_QUEUE} == served


@pytest.mark.parametrize("name", APPLICATION)
def test_a_container_gets_the_environment_of_the_table_and_secrets_by_file(name: str) -> None:
    service = SERVICES[name]
    environment = set(service["environment"])
    assert environment >= {*TABLE.environment, *TABLE.secret_files}
    for variable in (variable for variable in environment if variable.endswith("_FILE")):
        secret = service["environment"][variable].removeprefix("/run/secrets/")
        assert secret in service["secrets"]
        assert secret in COMPOSE["secrets"]
        assert variable.removesuffix("_FILE") not in environment


def test_every_setting_reaches_the_containers_and_is_explained() -> None:
    read = set(re.findall(r'environment\.\w+\(\s*"([A-Z_]+)"', (ROOT / "tcss/settings.py").read_text()))
    assert len(read) > 15
    explained = set(re.findall(r"^([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    given = {name.removesuffix("_FILE") for name in SERVICES["web"]["environment"]}
    # The image holds the engine; the other says that the supervisor started the process.
    assert read - given == {"TRIVY_BINARY", "TCSS_EMBEDDED"}
    assert read - explained == {"TCSS_EMBEDDED"}


def test_no_container_has_a_secret_in_its_environment_or_command() -> None:
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            assert variable.endswith("_FILE") or not re.search(
                "PASSWORD|SECRET|KEY|DATABASE_URL", variable
            ), name
            assert "@" not in str(value), name
        assert "password" not in " ".join(service.get("command", [])).lower()


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_has_no_more_rights_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["user"].split(":")[0] not in {"", "0", "root"}
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    for published in service.get("ports", []):
        assert published.startswith("127.0.0.1:")


@pytest.mark.parametrize("name", sorted(set(SERVICES) - ONE_SHOT))
def test_a_lasting_container_has_a_health_check_and_comes_back(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"
    assert SERVICES[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("process", TABLE.processes, ids=lambda process: process.name)
def test_a_container_waits_for_what_the_table_says_it_needs(process: Process) -> None:
    waits = SERVICES[process.name]["depends_on"]
    containers = {service.name: service.container for service in TABLE.services}
    for need in process.needs:
        wanted = "service_completed_successfully" if need in ONE_SHOT else "service_healthy"
        assert waits[containers.get(need, need)]["condition"] == wanted


def test_the_secrets_script_writes_every_secret_once(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    command = ["sh", str(ROOT / "tcss/embedded/compose-secrets"), str(folder)]
    subprocess.run(command, check=True)
    written = {file.name: file.read_text() for file in folder.iterdir()}
    subprocess.run(command, check=True)
    assert {file.name: file.read_text() for file in folder.iterdir()} == written
    assert folder.stat().st_mode & 0o777 == 0o700
    assert set(written) == set(COMPOSE["secrets"])
    Fernet(written["field-keys"])
    assert f":{written['database-password']}@postgres:" in written["database-url"]
    assert len(written["admin-password"]) >= 20


def test_containers_that_scan_share_the_folder_of_the_data() -> None:
    assert {tuple(SERVICES[name]["volumes"]) for name in APPLICATION} == {("data:/data",)}
    named = {volume.split(":")[0] for service in SERVICES.values() for volume in service["volumes"]}
    assert named == set(COMPOSE["volumes"])


def test_the_virus_engine_in_a_container_is_set_as_one_of_our_own() -> None:
    nowhere = Path("/nowhere")
    ours = configuration(nowhere, database=nowhere, temporary=nowhere, threads=4).splitlines()
    of_paths = {"LocalSocket", "LocalSocketMode", "FixStaleSocket", "DatabaseDirectory", "TemporaryDirectory"}
    wanted = {line for line in ours if line.split()[0] not in of_paths}
    assert wanted <= set(COMPOSE["configs"]["clamd"]["content"].splitlines())
    assert "ports" not in SERVICES["clamav"]
    default = re.search(r":-(.*)}", SERVICES["web"]["environment"]["TCSS_CLAMD_ADDRESS"])
    assert default
    assert default[1] == "clamav:3310"


def test_images_are_named_with_an_exact_version() -> None:
    named = [service["image"] for service in SERVICES.values() if "build" not in service]
    named += re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert len(named) == 5
    for image in named:
        assert re.search(r":\d+\.\d+((\.\d+)?-|\.\d+$)", image), image


def test_the_dockerfile_ends_as_an_ordinary_user_and_installs_only_what_the_lock_allows() -> None:
    last_stage = DOCKERFILE.split("\nFROM ")[-1]
    user = re.findall(r"^USER (\d+):", last_stage, re.MULTILINE)
    assert user == [SERVICES["web"]["user"].split(":")[0]]
    assert "--require-hashes --only-binary :all: -r requirements.lock" in DOCKERFILE
    command = re.search(r"^CMD \[(.*)\]$", last_stage, re.MULTILINE)
    assert command
    assert [word.strip('", ') for word in shlex.split(command[1])] == list(TABLE.process("web").command)

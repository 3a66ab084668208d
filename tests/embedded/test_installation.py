"""What the processes of an installation are told, and what they are not."""

import os
from pathlib import Path

import pytest

from tcss.embedded.data_directory import open_data_directory
from tcss.embedded.demo_registry import DemoCloud, DemoRegistry
from tcss.embedded.installation import Installation, read_options
from tcss.embedded.processes import TABLE
from tcss.embedded.services import Services

CANARY = "canary-9f2c"
GIVEN = {
    "PATH": os.environ["PATH"],
    **{
        name: f"{CANARY}-{name}"
        for name in ("TCSS_ADMIN_PASSWORD", "TCSS_SECRET_KEY", "TCSS_FIELD_KEYS", "DATABASE_URL", "REDIS_URL")
    },
}


@pytest.fixture
def installation(place: Path) -> Installation:
    return Installation(open_data_directory(place / "data"), read_options({}), dict(GIVEN))


def test_only_the_commands_of_the_start_know_the_passwords_of_the_first_accounts(
    installation: Installation,
) -> None:
    secrets = {}
    for server in (DemoRegistry, DemoCloud):
        server(installation)
        for variable, file in server.secrets.items():
            secrets[variable] = (installation.directory.secrets / file).read_text()
    known = installation.manage("create_administrator").environment
    assert known["TCSS_ADMIN_PASSWORD"] == GIVEN["TCSS_ADMIN_PASSWORD"]
    assert {variable: known[variable] for variable in secrets} == secrets
    assert len(secrets) == 4
    for process in TABLE.processes:
        environment = installation.launch(process).environment
        assert GIVEN["TCSS_ADMIN_PASSWORD"] not in environment.values(), process.name
        assert not set(secrets.values()) & set(environment.values()), process.name
        assert environment["TCSS_SECRET_KEY"] == GIVEN["TCSS_SECRET_KEY"]


def test_only_the_command_that_stores_it_knows_the_key_of_the_cloud_account(place: Path) -> None:
    given = {**GIVEN, "TCSS_TENCENT_SECRET_ID": "AKIDgiven", "TCSS_TENCENT_SECRET_KEY": "the-cloud-key"}
    installation = Installation(open_data_directory(place / "data"), read_options({}), given)
    assert installation.has_cloud_account
    assert "the-cloud-key" in installation.manage("set_cloud_account").environment.values()
    for process in TABLE.processes:
        assert "the-cloud-key" not in installation.launch(process).environment.values(), process.name


def test_the_servers_of_others_are_told_no_secret(installation: Installation) -> None:
    services = Services(installation.directory, dict(GIVEN))
    assert services.postgres is not None
    assert services.valkey is not None
    for launch in (services.postgres.launch(), services.valkey.launch()):
        assert CANARY not in str(launch.environment), launch.name
        assert launch.environment["PATH"] == GIVEN["PATH"]

"""The account that may read a private mirror, handed to a program without showing it in its arguments."""

import base64
import json
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Login:
    """A user's name and password at one registry."""

    username: str
    password: str = field(repr=False)


def write_docker_configuration(home: Path, repository: str, login: Login) -> None:
    """Write the file that Docker's clients and Trivy read accounts from, for the repository's server alone.

    Trivy's own variables for an account would split a password at its commas.
    """
    host = repository.partition("/")[0]
    if not any(mark in host for mark in ".:") and host != "localhost":
        host = "https://index.docker.io/v1/"
    account = base64.b64encode(f"{login.username}:{login.password}".encode()).decode()
    folder = home / ".docker"
    folder.mkdir(mode=0o700)
    file = folder / "config.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps({"auths": {host: {"auth": account}}}))

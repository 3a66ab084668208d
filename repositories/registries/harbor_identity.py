"""What server an address leads to, and whom it takes us for; both need to be asked in Harbor's way."""

from repositories.registries.answers import MalformedError, as_mapping, text
from repositories.registries.client import RegistryHTTP
from repositories.registries.failures import (
    AccessRefusedError,
    BadAnswerError,
    NotThereError,
    RegistryError,
)

API = "/api/v2.0"
_API_1 = "/api/systeminfo"


def log_in(http: RegistryHTTP) -> str:
    """Prove that Harbor knows the account, and say what it is: ``user`` or ``robot``.

    Raises AccessRefusedError for a wrong password. Only this question tells: to lists Harbor answers anybody.
    """
    try:
        http.get_json(f"{API}/users/current", headers=http.basic())
    except AccessRefusedError as error:
        # 412: the account is known, and is no person.
        if error.status == 412:
            return "robot"
        raise
    return "user"


def require_harbor_2(http: RegistryHTTP) -> None:
    """Raise BadAnswerError unless the server is Harbor 2; asked without the password."""
    try:
        answer = http.get_json("/api/version", headers={})
        version = text(as_mapping(answer.value), "version", limit=64)
    except (NotThereError, AccessRefusedError):
        raise _other_server(http) from None
    except MalformedError:
        version = ""
    if not version.startswith("v2"):
        raise BadAnswerError(
            "REG_PROTOCOL", "The server is no Harbor 2.x, or one this console does not know."
        )


def _other_server(http: RegistryHTTP) -> RegistryError:
    """Why a server without Harbor 2's version is what it is: Harbor 1 says its version elsewhere."""
    try:
        answer = http.get_json(_API_1, headers={})
        version = text(as_mapping(answer.value), "harbor_version", limit=64)
    except (BadAnswerError, NotThereError, AccessRefusedError, MalformedError):
        version = ""
    if version.lstrip("v").startswith("1."):
        return BadAnswerError(
            "REG_PROTOCOL", "This is Harbor 1.x, not Harbor 2.x.", "Choose the version V1 for this registry."
        )
    return BadAnswerError(
        "REG_PROTOCOL",
        "Something answers at this address, but it is not Harbor.",
        "Enter the address of the Harbor server itself, without a path.",
    )

"""What server an address leads to, and whom it takes us for; both need to be asked in Harbor's way."""

from repositories.registries.answers import MalformedError, as_mapping, text
from repositories.registries.client import RegistryHTTP, read_json
from repositories.registries.failures import (
    AccessRefusedError,
    BadAnswerError,
    NotThereError,
    TryLaterError,
)
from repositories.registries.statuses import NOT_KNOWN

API_1 = "/api"
API_2 = "/api/v2.0"
# Harbor 1.x has no other prefix; of Harbor 2.2 and later only the default is known.
_ROBOT = "robot$"

OIDC = f"{NOT_KNOWN} People log in there by single sign-on (OIDC), which this console cannot do."
OIDC_REMEDY = "Use a robot account: its name as the registry shows it, and its secret."
OIDC_REMEDY_1 = "Use the account admin: beside it, no account of this server has a password of its own."
ROBOT_1 = "This is a robot account: a robot of Harbor 1.x may pull, but cannot list projects and images."
ROBOT_1_REMEDY = "Use a person's account that is at least a guest of the projects."
OLD_ROBOT = (
    "This is a robot account: robots of Harbor before 2.2 may pull, but cannot list projects and images."
)
OLD_ROBOT_REMEDY = "Use a person's account that is at least a guest of the projects, or update Harbor."


def require_harbor_1(http: RegistryHTTP) -> None:
    """Raise BadAnswerError unless the server is Harbor 1; asked without the password."""
    try:
        version = _answered(http, f"{API_1}/systeminfo", "harbor_version")
    except (NotThereError, AccessRefusedError):
        # Harbor 2 has moved this page.
        version = ""
    if version.lstrip("v").startswith("1."):
        return
    if _asked_gently(http, "/api/version", "version").startswith("v2"):
        raise BadAnswerError(
            "REG_PROTOCOL", "This is Harbor 2.x, not Harbor 1.x.", "Choose the version V2 for this registry."
        )
    raise _not_harbor()


def require_harbor_2(http: RegistryHTTP) -> None:
    """Raise BadAnswerError unless the server is Harbor 2; asked without the password."""
    try:
        version = _answered(http, "/api/version", "version")
    except (NotThereError, AccessRefusedError):
        version = None
    if version is None:
        if _asked_gently(http, f"{API_1}/systeminfo", "harbor_version").lstrip("v").startswith("1."):
            raise BadAnswerError(
                "REG_PROTOCOL",
                "This is Harbor 1.x, not Harbor 2.x.",
                "Choose the version V1 for this registry.",
            )
        raise _not_harbor()
    if not version.startswith("v2"):
        raise BadAnswerError(
            "REG_PROTOCOL", "The server is no Harbor 2.x, or one this console does not know."
        )


def log_in_1(http: RegistryHTTP) -> str:
    """Prove that Harbor 1 knows the account, and say what it is: ``user`` or ``robot``.

    Raises AccessRefusedError for a wrong password. Only this question tells: to lists Harbor answers anybody.
    """
    if _is_robot(http):
        # A good robot is answered with a fault (500), so that asking again is of no use.
        url = f"{http.origin}{API_1}/users/current"
        with http.open(url, {"Accept": "application/json", **http.basic()}) as reply:
            if reply.status != 500:
                read_json(reply, limit=http.limits.body)
        return "robot"
    try:
        http.get_json(f"{API_1}/users/current", headers=http.basic())
    except AccessRefusedError as error:
        raise _explained(http, error, API_1, OIDC_REMEDY_1) from None
    return "user"


def log_in(http: RegistryHTTP) -> str:
    """Prove that Harbor 2 knows the account, and say what it is: ``user`` or ``robot``.

    Raises AccessRefusedError for a wrong password. Only this question tells: to lists Harbor answers anybody.
    """
    try:
        http.get_json(f"{API_2}/users/current", headers=http.basic())
    except AccessRefusedError as error:
        # 412: the account is known, and is no person.
        if error.status == 412:
            return "robot"
        raise _explained(http, error, API_2, OIDC_REMEDY) from None
    except TryLaterError as error:
        # Before 2.3 this question was still answered by the older handler, which stumbles over robots.
        if error.status != 500 or not _is_robot(http):
            raise
        version = _asked_gently(http, f"{API_2}/systeminfo", "harbor_version")
        if version.startswith(("v2.0.", "v2.1.")):
            raise AccessRefusedError("REG_FORBIDDEN", OLD_ROBOT, OLD_ROBOT_REMEDY) from None
        if version.startswith("v2.2."):
            return "robot"
        raise
    return "user"


def _is_robot(http: RegistryHTTP) -> bool:
    return http.connection.credentials()[0].startswith(_ROBOT)


def _explained(http: RegistryHTTP, error: AccessRefusedError, api: str, remedy: str) -> AccessRefusedError:
    """The refusal with its reason, where the server's way of logging in is the reason."""
    if error.status != 401:
        return error
    try:
        mode = _asked_gently(http, f"{api}/systeminfo", "auth_mode")
    except TryLaterError:
        return error
    return AccessRefusedError("REG_AUTH", OIDC, remedy) if mode == "oidc_auth" else error


def _answered(http: RegistryHTTP, path: str, key: str) -> str:
    """A word of an answer that anybody gets, empty where there is none in it; raises RegistryError."""
    answer = http.get_json(path, headers={})
    try:
        return text(as_mapping(answer.value), key, limit=64)
    except MalformedError:
        return ""


def _asked_gently(http: RegistryHTTP, path: str, key: str) -> str:
    """The same, but empty too where the server has no such answer; raises TryLaterError."""
    try:
        return _answered(http, path, key)
    except (BadAnswerError, NotThereError, AccessRefusedError):
        return ""


def _not_harbor() -> BadAnswerError:
    return BadAnswerError(
        "REG_PROTOCOL",
        "Something answers at this address, but it is not Harbor.",
        "Enter the address of the Harbor server itself, without a path.",
    )

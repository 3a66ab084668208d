"""Why Tencent Cloud's API refused a call: its error codes, each with the sentence for the operator.

The codes are those of the common and the TCR error lists of API version 2019-09-24. Their messages are never
shown: only which code it was decides.
"""

import email.utils
from datetime import UTC, datetime

from repositories.registries.failures import (
    AccessRefusedError,
    BadAnswerError,
    NoLoginError,
    NotThereError,
    NotTrustedError,
    RegistryError,
    TryLaterError,
)

# What this console calls, none of it changing anything; a CAM policy has to allow these.
ACTIONS = (
    "DescribeRegions",
    "DescribeInstances",
    "DescribeNamespaces",
    "DescribeRepositories",
    "DescribeImages",
    "DescribeExternalEndpointStatus",
    "DescribeInternalEndpoints",
    "DescribeSecurityPolicies",
    "CreateInstanceToken",
    "DescribeNamespacePersonal",
    "DescribeRepositoryOwnerPersonal",
    "DescribeImagePersonal",
)
POLICY_REMEDY = (
    "Grant the secret ID's user the policy of the Operation Guide; it needs tcr:Describe* "
    "(read-only), tcr:PullRepository* and tcr:CreateInstanceToken."
)
_CLOCKS = "%Y-%m-%d %H:%M:%S UTC"
_DATE_TOLERANCE_SECONDS = 60
# What the codes about money are called differs by product and has changed.
_ARREARS = ("arrear", "balance", "overdue", "tradefailed")


class WrongRegionError(NotThereError):
    """The region does not exist, or TCR is not in it."""

    default_remedy = "Correct the account's regions, or leave them empty to use every region TCR is in."


class NotInitializedError(NotThereError):
    """The personal edition was never used in this region: there is nothing to list."""

    default_remedy = (
        "Open Tencent Container Registry's personal edition in this region once, or leave it out."
    )


def of_code(code: str, action: str, region: str, date: str) -> RegistryError:
    """The error behind a code of the API; ``date`` is the answer's Date header, which shows its clock."""
    error = _of_code(code, action, region, date)
    # There was an answer, and asking once more would be answered alike.
    error.status = 200
    return error


def _of_code(code: str, action: str, region: str, date: str) -> RegistryError:
    family = code.partition(".")[0]
    if code.startswith("AuthFailure.SignatureExpire"):
        return _clocks(date)
    if any(word in code.lower() for word in _ARREARS):
        return AccessRefusedError(
            "REG_FORBIDDEN",
            "Tencent Cloud has stopped this service for the account: a payment is overdue.",
            "Pay the account's bill in Tencent Cloud's console; the images come back by themselves.",
        )
    if "UnauthorizedOperation" in code:
        return AccessRefusedError(
            "REG_FORBIDDEN", f"The account's CAM policy does not allow tcr:{action}.", POLICY_REMEDY
        )
    if family == "AuthFailure":
        return _not_known(code)
    if "RequestLimitExceeded" in code:
        return TryLaterError(
            "REG_RATE", "Tencent Cloud's API asks for fewer requests a second.", retry_after=1.0
        )
    if family in {"InternalError", "ServiceUnavailable"}:
        return TryLaterError(
            "REG_5XX",
            "Tencent Cloud's API reports a fault of its own.",
            "It is asked again by itself; if it lasts, look at Tencent Cloud's status page.",
        )
    if "UnsupportedRegion" in code:
        return WrongRegionError("REG_NOT_FOUND", f"TCR is not available in the region {region}.")
    if "ErrNoUserInitialized" in code:
        return NotInitializedError(
            "REG_NOT_FOUND", f"CCR, the personal edition, was never used in the region {region}."
        )
    if "InstanceNotRunning" in code:
        return not_running("")
    if family == "ResourceNotFound":
        return NotThereError("REG_NOT_FOUND", "Tencent Cloud does not have what was asked for.")
    return BadAnswerError(
        "REG_PROTOCOL",
        f"Tencent Cloud's API could not answer {action}.",
        "Try again later; if it lasts, ask Tencent Cloud's support about this action.",
    )


def _clocks(date: str) -> RegistryError:
    ours = datetime.now(UTC)
    reason = f"Tencent Cloud refuses the signature as expired: this console's clock says {ours:{_CLOCKS}}"
    try:
        theirs = email.utils.parsedate_to_datetime(date).astimezone(UTC)
    except (ValueError, OverflowError, TypeError):
        return NoLoginError("REG_AUTH", f"{reason}.", "Set this server's clock, best by NTP.")
    remedy = "Set this server's clock, best by NTP; five minutes of difference are too many."
    if abs((theirs - ours).total_seconds()) < _DATE_TOLERANCE_SECONDS:
        remedy = "The clocks agree now; if it happens again, look for a proxy that holds requests back."
    return NoLoginError("REG_AUTH", f"{reason} and Tencent Cloud's says {theirs:{_CLOCKS}}.", remedy)


def _not_known(code: str) -> RegistryError:
    if code.endswith(("SecretIdNotFound", "InvalidSecretId")):
        return AccessRefusedError(
            "REG_AUTH",
            "Tencent Cloud does not know this secret ID, or it was disabled.",
            "Look whether Tencent Cloud's CAM still has the key, and enter its secret ID and key again.",
        )
    if code.endswith("SignatureFailure"):
        return AccessRefusedError(
            "REG_AUTH",
            "The secret key is not the one that belongs to the secret ID.",
            "Enter secret ID and secret key again, both of the same pair.",
        )
    return AccessRefusedError(
        "REG_AUTH",
        "Tencent Cloud does not accept this secret ID and key.",
        "Look at the key in Tencent Cloud's CAM, and enter secret ID and key again.",
    )


_STATUSES = {
    "Pending": "The TCR instance is still being created.",
    "Deploying": "The TCR instance is still being created.",
    "Isolate": "The TCR instance is isolated, as it is when a payment is overdue.",
    "Deleting": "The TCR instance is being deleted.",
    "Unhealthy": "Tencent Cloud calls the TCR instance unhealthy.",
}


def not_running(status: str) -> RegistryError:
    """The error for an instance that exists and is of no use; ``status`` is Tencent Cloud's word for it."""
    remedy = "Look at the instance in Tencent Cloud's console; nothing listed before is lost."
    if status == "Isolate":
        remedy = "Renew the instance in Tencent Cloud's console; nothing listed before is lost."
    reason = _STATUSES.get(status, "The TCR instance is not running.")
    return AccessRefusedError("REG_FORBIDDEN", reason, remedy)


def of_status(error: RegistryError, host: str) -> RegistryError:
    """The error for a status that the API never answers with: it says in a 200 why it refuses a call."""
    status = error.status
    remedy = f"Look at the proxy or firewall between this server and {host}; it has to let the calls through."
    told: RegistryError
    if isinstance(error, TryLaterError):
        reason = "Tencent Cloud's API, or a proxy before it, reports a fault of its own."
        if error.code == "REG_RATE":
            reason = "Tencent Cloud's API, or a proxy before it, asks for fewer requests."
        told = TryLaterError(error.code, reason, remedy, retry_after=error.retry_after)
    else:
        told = BadAnswerError(
            "REG_PROTOCOL",
            f"Not Tencent Cloud's API answered, but something before it, with status {status}.",
            remedy,
        )
    told.status = status
    return told


def unreachable(error: RegistryError, host: str) -> RegistryError:
    """The error for a call that got no usable answer, told of the API's host and not of a registry's."""
    reach = f"Check that this server may reach {host} over HTTPS and that no firewall is in between."
    texts = {
        "REG_DNS": (
            "The host name of Tencent Cloud's API has no address in DNS.",
            f"Check that this server's DNS knows {host}.",
        ),
        "REG_CONNECT": ("Tencent Cloud's API could not be reached, or it closed the connection.", reach),
        "REG_TIMEOUT": ("Tencent Cloud's API did not answer in time.", reach),
        "REG_BLOCKED_ADDR": (
            "The address of Tencent Cloud's API leads into a network this console may not connect to.",
            "If it really is there, the installer can allow its network with TCSS_ALLOWED_NETWORKS.",
        ),
    }
    if error.code in texts:
        error.reason, error.remedy = texts[error.code]
    elif isinstance(error, NotTrustedError):
        error.remedy = f"Check that nothing between this server and {host} replaces certificates."
    return error

"""The demo Tencent API as a listening server: `POST /` with a TC3 signature, service `tcr`.

Every refusal is an HTTP 200 with `Response.Error` inside, as with the real one. What only a mistake in a
client can cause (an unknown action or version, a parameter that does not fit) also goes into `unexpected`.
Established: the codes, the limits by action, and the words for an exceeded limit and for a refused region.
Inferred: the order of the checks, and that a limit looks at the last second and refused calls do not count.
"""

from __future__ import annotations

import email.utils
import json
import re
import threading
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from demo.exchange import JSON, Answer, Request
from demo.faults import Fault
from demo.listener import Listener
from demo.tencent_calls import ACTIONS, ApiError, Call, read_call
from demo.tencent_model import CloudAccount
from demo.tencent_regions import BY_NAME, ELSEWHERE
from demo.tencent_signature import check

SERVICE = "tcr"
VERSION = "2019-09-24"
USUAL_RATE = 20
RATES = {
    "DescribeRepositories": 100,
    "DescribeImages": 100,
    "DescribeImageManifests": 10,
    "CreateInstanceToken": 100,
    "DescribeRepositoryOwnerPersonal": 100,
    "DescribeImagePersonal": 100,
}
"""Calls a second for one account, where they are not the usual twenty."""


@dataclass(frozen=True, slots=True)
class Called:
    """One call as it came in, right or wrong, and the code it was refused with; None when it was answered."""

    action: str
    region: str
    body: str
    error: str | None


class Limits:
    """Counts calls by action. Off until a test or the demo switches it `on`; `rates` may be changed."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.on = False
        self.rates = {action: RATES.get(action, USUAL_RATE) for action in ACTIONS}
        self._now = now
        self._lock = threading.Lock()
        self._recent: dict[str, deque[datetime]] = {action: deque() for action in ACTIONS}

    def count(self, action: str) -> None:
        """Count one call. Raises ApiError when there were too many within a second."""
        if not self.on:
            return
        with self._lock:
            now, recent = self._now(), self._recent[action]
            while recent and now - recent[0] >= timedelta(seconds=1):
                recent.popleft()
            times, most = len(recent) + 1, self.rates[action]
            if times > most:
                raise ApiError(
                    "RequestLimitExceeded",
                    f"Your current request times equals to `{times}` in a second, which exceeds the "
                    f"frequency limit `{most}` for a second. Please reduce the frequency of calls.",
                )
            recent.append(now)


class ApiFace(Listener):
    """Checks calls and lets `perform` answer those that are right."""

    def __init__(
        self,
        account: Callable[[], CloudAccount],
        perform: Callable[[Call], Mapping[str, Any]],
        now: Callable[[], datetime],
        *,
        port: int = 0,
        certificate: tuple[Path, Path] | None = None,
    ) -> None:
        super().__init__(port=port, certificate=certificate)
        self.limits = Limits(now)
        self.calls: list[Called] = []
        self._account = account
        self._perform = perform
        self._now = now

    def label(self, target: str, headers: Mapping[str, str], body: bytes) -> str:
        """The target, action, region and body of a call: `/ DescribeImages ap-guangzhou {...}`."""
        return f"{target} {_action(headers)} {headers.get('x-tc-region', '')} {body.decode(errors='replace')}"

    def answer(self, request: Request) -> Answer:
        """The answer to one call."""
        error: ApiError | None = None
        try:
            answered = self._answered(request)
        except ApiError as refusal:
            error, answered = refusal, _error(refusal.code, refusal.message)
        region, body = request.headers.get("x-tc-region", ""), request.body.decode(errors="replace")
        self.calls.append(Called(_action(request.headers), region, body, error.code if error else None))
        answer = _answer(answered, known=error is None or not error.unexpected)
        # The clock by which the signature was looked at.
        date = email.utils.format_datetime(self._now(), usegmt=True)
        return replace(answer, headers={**answer.headers, "Date": date})

    def _answered(self, request: Request) -> Mapping[str, Any]:
        headers = request.headers
        if (request.method, request.target, headers.get("content-type")) != ("POST", "/", JSON):
            raise ApiError("InvalidParameter", "Only POST / with JSON is served here.", unexpected=True)
        account = self._account()
        check(request, {account.secret_id: account.secret_key}, SERVICE, self._now())
        action, version = _action(headers), headers.get("x-tc-version", "")
        for name, value in (("Action", action), ("Version", version)):
            if not value:
                raise ApiError.missing(name)
        if version != VERSION:
            raise ApiError("NoSuchVersion", f"The version {version} does not exist.", unexpected=True)
        if action not in ACTIONS:
            raise ApiError("InvalidAction", f"The action {action} does not exist.", unexpected=True)
        region = _region(action, headers.get("x-tc-region"))
        if action in account.denied:
            reason = f"you are not authorized to perform operation ({SERVICE}:{action})"
            raise ApiError("AuthFailure.UnauthorizedOperation", reason)
        self.limits.count(action)
        return self._perform(read_call(action, region, request.body))


def refusal(match: str, code: str, message: str = "", *, times: int | None = 1, skip: int = 0) -> Fault:
    """A fault of the API: calls whose label matches are refused with this code."""
    return Fault(match=match, times=times, skip=skip, body=_body(_error(code, message or code)))


def _action(headers: Mapping[str, str]) -> str:
    return headers.get("x-tc-action", "")


def _region(action: str, region: str | None) -> str:
    """The region a call is for; only the list of regions needs none. Raises ApiError."""
    if region is None:
        if action == "DescribeRegions":
            return ""
        raise ApiError.missing("Region")
    if region in BY_NAME:
        return region
    if region in ELSEWHERE:
        raise ApiError("UnsupportedRegion", "The action not support this region.")
    reason = "A value specified in `X-TC-Region` is not valid, is unsupported, or cannot be used."
    raise ApiError("InvalidParameterValue", reason, unexpected=not re.fullmatch(r"[a-z]{2}-[a-z-]+", region))


def _error(code: str, message: str) -> Mapping[str, Any]:
    return {"Error": {"Code": code, "Message": message}}


def _body(response: Mapping[str, Any]) -> bytes:
    whole = {"Response": {**response, "RequestId": str(uuid.uuid4())}}
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()


def _answer(response: Mapping[str, Any], *, known: bool) -> Answer:
    # The SDK looks for an error only behind exactly this Content-Type.
    return Answer(200, {"Content-Type": JSON}, _body(response), cookies=False, known=known)

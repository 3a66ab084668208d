"""The username and password a TCR instance is pulled from with: a token of an hour, renewed in time."""

import threading
import time

from repositories.registries.answers import MalformedError, text
from repositories.registries.failures import BadAnswerError
from repositories.registries.tencent_api import TencentAPI

_LONGEST_LIFE_SECONDS = 24 * 60 * 60.0
_SHORTEST_LIFE_SECONDS = 1.0
# The end is told by Tencent Cloud's clock, from which ours may differ by five minutes.
_MARGIN_SECONDS = 10 * 60.0
_MARGIN_SHARE = 0.25


class InstanceToken:
    """The current temporary account of one TCR instance (CreateInstanceToken); for several threads."""

    def __init__(self, api: TencentAPI, region: str, instance_id: str) -> None:
        self._api = api
        self._region = region
        self._instance_id = instance_id
        self._lock = threading.Lock()
        self._pair = ("", "")
        self._good_until = 0.0

    def __repr__(self) -> str:
        return "InstanceToken(…)"

    def credentials(self) -> tuple[str, str]:
        """Username and password, new ones where those at hand are near their end; raises RegistryError."""
        with self._lock:
            if time.monotonic() >= self._good_until:
                self._renew()
            return self._pair

    def forget(self) -> bool:
        """They were refused: the next ones are new."""
        with self._lock:
            self._good_until = 0.0
        return True

    def _renew(self) -> None:
        answer = self._api.call(
            "CreateInstanceToken", self._region, RegistryId=self._instance_id, TokenType="temp"
        )
        try:
            pair = (text(answer, "Username"), text(answer, "Token", limit=64 * 1024))
        except MalformedError:
            pair = ("", "")
        # A colon would end the username in the header, and a sign that is not printable the header itself.
        if not all(word.isprintable() and word for word in pair) or ":" in pair[0]:
            raise BadAnswerError("REG_PROTOCOL", "Tencent Cloud gave no usable token for the instance.")
        self._pair = pair
        self._good_until = time.monotonic() + self._life(answer.get("ExpTime"))

    @staticmethod
    def _life(end: object) -> float:
        """Seconds a token may be used, from its end in milliseconds since 1970."""
        is_number = isinstance(end, int) and not isinstance(end, bool)
        left = end / 1000 - time.time() if is_number else 0.0  # type: ignore[operator]
        left = min(max(left, _SHORTEST_LIFE_SECONDS), _LONGEST_LIFE_SECONDS)
        return left - min(_MARGIN_SECONDS, left * _MARGIN_SHARE)

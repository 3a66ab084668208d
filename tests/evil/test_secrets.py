"""V14: a registry's password, a cloud's secret key and a webhook's token are found nowhere."""

import base64
import io
import json
import logging
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis
from django.conf import settings as console
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings

from demo import tencent, tencent_samples
from demo.blobs import BlobStore
from demo.catalog import Account, Catalog, Grant
from demo.evil import Evil, enchanted
from demo.evil_scenarios import named
from demo.faults import Fault
from demo.server import running
from repositories import cloud as accounts
from repositories.credentials import Secret
from repositories.models import CloudAccount, Registry
from repositories.registries import tencent_api
from tcss.lifecycle import State
from tcss.log import LineFormatter
from tcss.outbound import OutboundSession
from tests.evil.world import OPERATOR, update
from tests.fakes.hostile_server import hostile_server, http

SCENARIOS = (
    "C-R1-cut-json",
    "C-R15-other-protocol",
    "C-A2-refused-for-ever",
    "C-A5-other-port",
    "C-N6-login-to-elsewhere",
    "C-N6-token-to-elsewhere",
)


def written_forms(secret: str) -> set[bytes]:
    """The ways in which somebody may have written a secret, alone or within something longer."""
    raw = secret.encode()
    forms = {raw, quote(secret, safe="").encode(), json.dumps(secret)[1:-1].encode(), raw.hex().encode()}
    for before in range(3):
        # Base64 of something longer: what comes before shifts it by none, one or two bytes.
        encoded = base64.b64encode(b"\0" * before + raw)
        skip, rest = (0, 2, 3)[before], (before + len(raw)) % 3
        forms.add(encoded[skip : len(encoded) - (4 if rest else 0)])
    return forms


@dataclass
class Searched:
    """Texts from everywhere, by where they were found."""

    texts: list[tuple[str, bytes]] = field(default_factory=list)

    def add(self, where: str, text: str | bytes) -> None:
        self.texts.append((where, text if isinstance(text, bytes) else text.encode()))

    def holding(self, secret: str) -> set[str]:
        """Where the secret is, in any form."""
        forms = written_forms(secret)
        return {where for where, text in self.texts if any(form in text for form in forms)}


def processes() -> Iterator[tuple[str, bytes]]:
    """Command line and environment of every process that we may look at."""
    for directory in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ"):
            try:
                yield f"process {name}", (directory / name).read_bytes()
            except OSError:
                continue


def database() -> Iterator[tuple[str, bytes]]:
    """Every row of every table, as a dump writes it."""
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            dumped = io.BytesIO()
            cursor.copy_expert(f'COPY "{table}" TO STDOUT', dumped)
            yield f"table {table}", dumped.getvalue()


def broker() -> Iterator[tuple[str, bytes]]:
    """Every key of the broker with all it holds."""
    client = redis.Redis.from_url(console.REDIS_URL)
    readers: dict[bytes, Callable[[bytes], Any]] = {
        b"string": client.get,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"set": client.smembers,
        b"hash": client.hgetall,
        b"zset": lambda key: client.zrange(key, 0, -1),
    }
    for key in client.scan_iter():
        yield "broker", repr((key, readers[client.type(key)](key))).encode()


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """What is written to the log, down to the last detail, in the form in which workers write it."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter())
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture
def support(db: None) -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(User.objects.create_superuser("support", password="unused-but-strong-1"))
    return client


@pytest.fixture
def canary() -> str:
    """A password that nothing else holds, with signs that are written otherwise in URLs, HTML and JSON."""
    return f'canary-{secrets.token_hex(12)}:"&+/é'


@pytest.fixture
def guarded(evil_content: tuple[Path, Catalog], canary: str) -> Iterator[Evil]:
    """A registry whose password is the canary."""
    directory, catalog = evil_content
    account = Account(OPERATOR, canary, grants=(Grant("*", role_id=2),))
    with running(directory, replace(catalog, accounts=(account,))) as server, enchanted(server) as evil:
        yield evil


def pages(client: Client, *, with_admin: bool) -> Iterator[tuple[str, bytes]]:
    """Every page there is about what is stored, the admin's too, and the exports."""
    addresses = ["/images/", "/images/export/", "/registries/", "/registries/add/", "/scans/", "/licenses/"]
    addresses += ["/statusz", "/registries/guide/"]
    for pk in Registry.objects.values_list("pk", flat=True):
        addresses += [f"/registries/{pk}/{rest}" for rest in ("", "edit/", "delete/", "webhook/")]
    for model in admin.site._registry if with_admin else ():
        base = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        pks = list(model._base_manager.values_list("pk", flat=True)[:2])
        addresses += [base, *(f"{base}{pk}/change/" for pk in pks), *(f"{base}{pk}/history/" for pk in pks)]
    for address in addresses:
        answer = client.get(address)
        assert answer.status_code in {200, 302, 403}, address
        content = b"".join(answer.streaming_content) if answer.streaming else answer.content
        yield address, content + repr(answer.headers).encode()


def search(client: Client, logged: io.StringIO, *, with_admin: bool = False) -> Searched:
    """Look everywhere; in the admin, which shows what the database holds, only where that is said."""
    found = Searched()
    for where, text in (*processes(), *database(), *broker(), *pages(client, with_admin=with_admin)):
        found.add(where, text)
    found.add("log", logged.getvalue())
    return found


def entered(address: str, password: str, **words: str) -> dict[str, str]:
    form = {
        "name": f"Named {address}",
        "kind": "harbor",
        "version": "V2",
        "network": "public",
        "region": "default",
    }
    return {
        **form,
        "address": address,
        "username": OPERATOR,
        "password": password,
        "verify_tls": "on",
        **words,
    }


def test_v14_a_search_that_would_find_a_secret_finds_it(db: None) -> None:
    for written in (
        "canary-1/é",
        base64.b64encode("robot:canary-1/é".encode()).decode(),
        base64.b64encode("ro:canary-1/é".encode()).decode(),
        quote("canary-1/é", safe=""),
    ):
        found = Searched()
        found.add("here", f"x{written}y" if "=" not in written and ":" in written else written)
        assert found.holding("canary-1/é") == {"here"}
    User.objects.create_user("canary-in-a-table")
    assert any(b"canary-in-a-table" in text for _, text in database())


@pytest.mark.usefixtures("short_limits")
def test_v14_data_updates_of_every_kind_leave_the_password_nowhere(
    guarded: Evil,
    canary: str,
    connect: Callable[..., Registry],
    support: Client,
    logged: io.StringIO,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    seen = Searched()

    def look(answer: Any) -> Any:
        for where, text in processes():
            seen.add(where, text)
        return answer

    registry = connect(guarded.server.url, password=Secret.of(canary))
    guarded.server.faults.add(Fault(match="/api/", skip=3, change=look))
    # What cannot be pulled is tried anew each time, until it was pulled once.
    for title in SCENARIOS:
        guarded.lay(named(title)[0], elsewhere="http://127.0.0.1:1")
        with django_capture_on_commit_callbacks(execute=True):
            assert update(registry).state in {State.INCOMPLETE, State.FAILED}
        guarded.lift()
    with django_capture_on_commit_callbacks(execute=True):
        assert update(registry).state == State.SUCCEEDED
    assert seen.texts
    Registry.objects.update(password=Secret.of(canary + "x"))
    registry.refresh_from_db()
    assert update(registry).error_code == "REG_AUTH"
    guarded.lay(named("C-A8-retry-after-3600")[0])
    assert update(registry).error_code == "REG_RATE"
    assert any("authorization" in each.headers for each in guarded.server.requests)
    everywhere = search(support, logged, with_admin=True)
    everywhere.texts += seen.texts
    assert len(everywhere.texts) > 50
    assert everywhere.holding(canary) == set()
    assert everywhere.holding(canary.partition(":")[0]) == set()


@pytest.mark.usefixtures("short_limits")
def test_v14_a_registry_that_says_our_password_back_is_not_repeated(
    canary: str, connect: Callable[..., Registry], support: Client, logged: io.StringIO
) -> None:
    with hostile_server() as server:

        def echo(sock: Any) -> None:
            sent = server.asked[-1].headers.get("authorization", "")
            words = f"{sent} {canary}"
            sock.sendall(
                http(418 if "users" in server.asked[-1].target else 200, words.encode(), X_Echo=sent)
            )

        server.answers["/"] = echo
        update(connect(server.url, password=Secret.of(canary)))
        for action in ("test", "save-anyway"):
            form = entered(server.url, canary, action=action)
            answer = support.post("/registries/add/", form)
            assert canary.partition(":")[0] not in answer.content.decode()
    assert search(support, logged).holding(canary) == set()


def test_v14_the_page_of_a_fault_of_ours_and_its_log_hold_no_password(
    canary: str, support: Client, logged: io.StringIO, monkeypatch: pytest.MonkeyPatch, guarded: Evil
) -> None:
    def break_down(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(OutboundSession, "_send", break_down)
    answer = support.post("/registries/add/", entered(guarded.server.url, canary, action="test"))
    assert answer.status_code == 500
    assert "a fault of ours" in logged.getvalue()
    found = search(support, logged)
    found.add("the page of the fault", answer.content)
    assert found.holding(canary) == set()
    assert found.holding(canary.partition(":")[0]) == set()


def test_v14_a_webhooks_token_is_shown_once_and_kept_nowhere(
    connect: Callable[..., Registry], support: Client, logged: io.StringIO
) -> None:
    registry = connect("https://harbor.example.org")
    page = support.post(f"/registries/{registry.pk}/webhook/", {"action": "create"})
    token = page.context["token"]
    assert token in page.content.decode()
    registry.refresh_from_db()
    path = f"/webhooks/{registry.webhook_id}/"
    for body in ("{}", "nonsense"):
        sent = support.post(path, body, content_type="application/json", headers={"Authorization": token})
        assert sent.status_code in {202, 400}
        assert token not in sent.content.decode()
    assert support.post(path, "{}", content_type="application/json").status_code == 404
    assert search(support, logged).holding(token) == set()


@pytest.fixture(scope="module")
def cloud_content(tmp_path_factory: pytest.TempPathFactory) -> Any:
    directory = tmp_path_factory.mktemp("evil-cloud")
    return directory, tencent_samples.build(BlobStore(directory))


@pytest.mark.usefixtures("short_limits")
def test_v14_a_clouds_secret_key_and_its_temporary_passwords_are_nowhere(
    cloud_content: Any,
    db: None,
    support: Client,
    logged: io.StringIO,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tencent_api, "_rates", {})
    # The level of the console's own log; below it the cloud's library tells its every request.
    logging.getLogger().setLevel(logging.INFO)
    with tencent.running(*cloud_content) as cloud:
        settings.TENCENT_ENDPOINT = cloud.api_url
        known = cloud.account
        account = CloudAccount.objects.create(
            secret_id=known.secret_id,
            secret_key=Secret.of(known.secret_key),
            personal_username=known.uin,
            personal_password=Secret.of(known.personal_password),
            regions=["ap-singapore"],
        )
        accounts.discover(account)
        registry = Registry.objects.filter(account=account).order_by("pk")[0]
        update(registry)
        CloudAccount.objects.update(secret_key=Secret.of(f"{known.secret_key}x"))
        account.refresh_from_db()
        accounts.discover(account)
        found = search(support, logged)
        for secret in (known.secret_key, known.personal_password):
            assert found.holding(secret) == set()

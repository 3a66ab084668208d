"""The way in and out: where it leads, what it does to the session, and what guessing comes to."""

import pytest
from axes.models import AccessAttempt
from django.contrib.auth.models import Group, User
from django.http import HttpResponse
from django.test import Client
from pytest_django import Settings

pytestmark = pytest.mark.django_db


def leads_to_login(response: HttpResponse) -> bool:
    return response.status_code == 302 and response["Location"].startswith("/login/")


PASSWORD = "correct-horse-battery-9"


@pytest.fixture
def ada(settings: Settings) -> User:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    user = User.objects.create_user("ada", password=PASSWORD)
    user.groups.add(Group.objects.get(name="Viewer"))
    return user


def log_in(client: Client, password: str = PASSWORD, *, username: str = "ada", **fields: str) -> HttpResponse:
    return client.post("/login/", {"username": username, "password": password, **fields})


def test_logging_in_leads_back_to_where_one_wanted_to_go(client: Client, ada: User) -> None:
    wanted = client.get("/licenses/?older=7")
    assert wanted["Location"] == "/login/?next=/licenses/%3Folder%3D7"
    assert log_in(client, next="/licenses/?older=7")["Location"] == "/licenses/?older=7"


def test_a_post_without_login_leads_back_to_the_first_page(client: Client, ada: User) -> None:
    assert client.post("/licenses/")["Location"] == "/login/?next=/"


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example",
        "/\\evil.example",
        "https://evil.example/",
        "http:evil.example",
        "javascript:alert(1)",
        "///evil.example",
        "\thttps://evil.example",
        "https://testserver@evil.example",
    ],
)
def test_logging_in_never_leads_to_another_host(client: Client, ada: User, target: str) -> None:
    assert log_in(client, next=target)["Location"] == "/images/"


def test_who_is_logged_in_is_not_led_away_by_the_login_page(client: Client, ada: User) -> None:
    client.force_login(ada)
    assert client.get("/login/?next=//evil.example")["Location"] == "/images/"


def test_logging_in_changes_the_sessions_key_and_logging_out_ends_it(client: Client, ada: User) -> None:
    session = client.session
    session["planted"] = "before"
    session.save()
    client.cookies["sessionid"] = before = session.session_key
    log_in(client)
    after = client.cookies["sessionid"]
    assert after.value != before
    assert after["httponly"]
    assert after["samesite"] == "Lax"
    assert client.get("/licenses/").status_code == 200
    client.post("/logout/")
    client.cookies["sessionid"] = after.value
    assert leads_to_login(client.get("/licenses/"))


def test_a_new_password_ends_every_other_session(client: Client, ada: User) -> None:
    log_in(client)
    ada.set_password("another-good-password-7")
    ada.save()
    assert leads_to_login(client.get("/licenses/"))


def test_logging_out_by_a_link_is_not_possible(client: Client, ada: User) -> None:
    log_in(client)
    assert client.get("/logout/").status_code == 405
    assert client.get("/licenses/").status_code == 200


def test_guessing_a_password_is_stopped_even_if_the_last_guess_is_right(
    client: Client, ada: User, settings: Settings
) -> None:
    for _ in range(settings.AXES_FAILURE_LIMIT - 1):
        assert log_in(client, "wrong").status_code == 200
    assert log_in(client, "wrong").status_code == 429
    response = log_in(client)
    assert response.status_code == 429
    assert b"Wait 15 minutes" in response.content
    assert leads_to_login(client.get("/licenses/"))


def test_a_lock_holds_one_name_at_one_address_only(client: Client, ada: User, settings: Settings) -> None:
    other = User.objects.create_user("bob", password=PASSWORD)
    for _ in range(settings.AXES_FAILURE_LIMIT):
        log_in(client, "wrong")
    assert log_in(client, username=other.username).status_code == 302
    elsewhere = Client(REMOTE_ADDR="203.0.113.9")
    assert log_in(elsewhere).status_code == 302


def test_nobody_learns_which_names_exist(client: Client, ada: User, settings: Settings) -> None:
    def told(username: str) -> list[tuple[int, bytes]]:
        answers = []
        for _ in range(settings.AXES_FAILURE_LIMIT + 1):
            response = Client().post("/login/", {"username": username, "password": "wrong"})
            # The token first: by chance a name stands in it.
            token = str(response.context["csrf_token"]) if response.context else ""
            content = response.content.replace(token.encode() or b"TOKEN", b"TOKEN")
            answers.append((response.status_code, content.replace(username.encode(), b"NAME")))
        return answers

    inactive = User.objects.create_user("old", password=PASSWORD, is_active=False)
    assert told("ada") == told("eve") == told(inactive.username)


def test_a_fragment_asked_for_without_login_moves_the_whole_page(client: Client) -> None:
    response = client.get(
        "/licenses/", headers={"HX-Request": "true", "HX-Current-URL": "http://testserver/licenses/?older=3"}
    )
    assert response["HX-Redirect"] == "/login/?next=/licenses/%3Folder%3D3"
    assert b"password" not in response.content
    foreign = client.get(
        "/licenses/", headers={"HX-Request": "true", "HX-Current-URL": "https://evil.example/x"}
    )
    assert foreign["HX-Redirect"] == "/login/?next=/"


@pytest.mark.parametrize("page", ["http://[", "http://[::1", "http://a]b/", "\\", "//evil.example"])
def test_a_page_that_is_no_address_leads_to_the_first_page(client: Client, page: str) -> None:
    headers = {"HX-Request": "true", "HX-Current-URL": page}
    assert client.get("/licenses/", headers=headers)["HX-Redirect"] == "/login/?next=/"


def test_one_address_that_tries_many_names_is_stopped(client: Client, ada: User, settings: Settings) -> None:
    settings.ADDRESS_FAILURE_LIMIT = 30
    answers = [log_in(client, "wrong", username=f"name{number}").status_code for number in range(30)]
    assert answers == [200] * 29 + [429]
    assert log_in(client).status_code == 429
    assert log_in(Client(REMOTE_ADDR="203.0.113.9")).status_code == 302


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, "203.0.113.1", "127.0.0.1"),
        (1, "203.0.113.1", "203.0.113.1"),
        (1, "198.51.100.1, 203.0.113.1", "203.0.113.1"),
        (2, "198.51.100.1, 203.0.113.1, 10.0.0.1", "203.0.113.1"),
        (2, "203.0.113.1", "127.0.0.1"),
        (1, "<script>", "127.0.0.1"),
        (1, "2001:DB8::1", "2001:db8::1"),
        (1, "", "127.0.0.1"),
    ],
)
def test_a_forged_header_hides_nobody(
    client: Client, ada: User, settings: Settings, proxies: int, forwarded: str, address: str
) -> None:
    settings.TRUSTED_PROXY_COUNT = proxies
    client.post("/login/", {"username": "ada", "password": "wrong"}, headers={"X-Forwarded-For": forwarded})
    assert AccessAttempt.objects.get().ip_address == address

"""People who look at the pages."""

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client


def _client(role: str) -> Client:
    user = User.objects.create_user(role.lower())
    user.groups.add(Group.objects.get(name=role))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def viewer(db: None) -> Client:
    return _client("Viewer")


@pytest.fixture
def operator(db: None) -> Client:
    return _client("Operator")

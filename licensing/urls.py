"""Addresses of the licensing pages."""

app_name = "licensing"

urlpatterns: list[object] = []

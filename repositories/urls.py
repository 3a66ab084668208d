"""Addresses of the repositories pages."""

app_name = "repositories"

urlpatterns: list[object] = []

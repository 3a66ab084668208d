"""Addresses of the scanning pages."""

app_name = "scanning"

urlpatterns: list[object] = []

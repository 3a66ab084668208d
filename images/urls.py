"""Addresses of the images pages."""

app_name = "images"

urlpatterns: list[object] = []

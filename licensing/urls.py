"""Addresses of the licensing pages."""

from django.urls import path

from licensing import views

app_name = "licensing"

urlpatterns = [
    path("", views.entitlement_list, name="entitlement-list"),
]

"""Addresses of the repositories pages."""

from django.urls import path

from repositories import cloud_views, views, webhook_views

app_name = "repositories"

urlpatterns = [
    path("", views.registry_list, name="registry-list"),
    path("add/", views.registry_add, name="registry-add"),
    path("guide/", cloud_views.guide, name="guide"),
    path("sync/", views.registry_sync_all, name="registry-sync-all"),
    path("<int:pk>/", views.registry_detail, name="registry-detail"),
    path("<int:pk>/edit/", views.registry_edit, name="registry-edit"),
    path("<int:pk>/delete/", views.registry_delete, name="registry-delete"),
    path("<int:pk>/test/", views.registry_test, name="registry-test"),
    path("<int:pk>/sync/", views.registry_sync, name="registry-sync"),
    path("<int:pk>/cancel/", views.registry_cancel, name="registry-cancel"),
    path("<int:pk>/network/", cloud_views.registry_network, name="registry-network"),
    path("<int:pk>/confirm-removal/", views.registry_confirm_removal, name="registry-confirm-removal"),
    path("<int:pk>/webhook/", webhook_views.registry_webhook, name="registry-webhook"),
]

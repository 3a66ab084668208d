"""Addresses of the scanning pages."""

from django.urls import path

from scanning import views

app_name = "scanning"

urlpatterns = [
    path("scans/", views.task_list, name="task-list"),
    path("scans/new/", views.scan_new, name="scan-new"),
    path("scans/<int:pk>/", views.task_detail, name="task-detail"),
    path("scans/<int:pk>/cancel/", views.task_cancel, name="task-cancel"),
    path("scans/<int:pk>/retry/", views.task_retry, name="task-retry"),
]

"""Addresses of the Repository Images page and of one image version's details."""

from django.urls import path

from images import detail_views, views

app_name = "images"

urlpatterns = [
    path("", views.image_list, name="image-list"),
    path("panel/", views.image_panel, name="image-panel"),
    path("rows/", views.image_rows, name="image-rows"),
    path("export/", views.image_export, name="image-export"),
    path("license/", views.image_license, name="image-license"),
    path("scan/", views.image_scan, name="image-scan"),
    path("cancel/", views.image_cancel, name="image-cancel"),
    path("<int:tag_pk>/", detail_views.overview, name="image-detail"),
    path("<int:tag_pk>/status/", detail_views.status, name="image-status"),
    path("<int:tag_pk>/vulnerabilities/", detail_views.vulnerabilities, name="image-vulnerabilities"),
    path("<int:tag_pk>/malware/", detail_views.malware, name="image-malware"),
    path("<int:tag_pk>/sensitive/", detail_views.sensitive, name="image-sensitive"),
    path("<int:tag_pk>/packages/", detail_views.packages, name="image-packages"),
    path("<int:tag_pk>/history/", detail_views.history, name="image-history"),
]

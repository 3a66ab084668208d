"""The console's addresses."""

from django.contrib import admin
from django.urls import include, path

from repositories import webhook_views
from tcss import views

urlpatterns = [
    path("", views.home, name="home"),
    path("livez", views.livez, name="livez"),
    path("readyz", views.readyz, name="readyz"),
    path("statusz", views.statusz, name="statusz"),
    path("metrics", views.metrics, name="metrics"),
    path("login/", views.Login.as_view(), name="login"),
    path("logout/", views.Logout.as_view(), name="logout"),
    path("admin/", admin.site.urls),
    path("webhooks/<slug:webhook_id>/", webhook_views.webhook, name="webhook"),
    path("registries/", include("repositories.urls")),
    path("images/", include("images.urls")),
    path("", include("scanning.urls")),
    path("licenses/", include("licensing.urls")),
]

handler400 = "tcss.views.bad_request"
handler403 = "tcss.views.permission_denied"
handler404 = "tcss.views.page_not_found"
handler500 = "tcss.views.server_error"

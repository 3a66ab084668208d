"""Makes the first administrator, once: ``manage.py create_administrator``."""

import os
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from tcss.access import Role
from tcss.accounts import AccountError, create_account, generate_password, given_password


class Command(BaseCommand):
    """Makes an administrator where there is no account of that name; run again, it changes nothing."""

    help = (
        "Make the administrator's account. The password comes from --password-file, TCSS_ADMIN_PASSWORD or "
        "TCSS_ADMIN_PASSWORD_FILE; without one it is generated and printed once."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Name, and where the password is."""
        parser.add_argument("--username", default="admin")
        parser.add_argument("--password-file", help="A file that holds the password and nothing else.")

    def handle(self, **options: Any) -> None:
        """Make it, leave it, or say why not."""
        username = options["username"]
        if User.objects.filter(username=username).exists():
            self.stdout.write(f"{username} exists already; nothing was changed.")
            return
        try:
            given = given_password(options["password_file"], os.environ)
            password = given or generate_password()
            create_account(username, Role.ADMINISTRATOR, password)
        except AccountError as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"Administrator {username} was made.")
        if given is None:
            self.stdout.write(f"Password, shown this once: {password}")

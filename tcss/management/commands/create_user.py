"""Makes an account: ``manage.py create_user NAME --role operator``."""

import os
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from tcss.access import Role
from tcss.accounts import AccountError, create_account, generate_password, given_password


class Command(BaseCommand):
    """Makes an account with one role; a password that was not given is generated and shown once."""

    help = (
        "Make an account. The password comes from --password-file, TCSS_ADMIN_PASSWORD or "
        "TCSS_ADMIN_PASSWORD_FILE; without one it is generated and printed once."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Name, role and where the password is."""
        parser.add_argument("username")
        parser.add_argument("--role", choices=Role.values, default=Role.VIEWER)
        parser.add_argument("--password-file", help="A file that holds the password and nothing else.")
        parser.add_argument(
            "--if-absent", action="store_true", help="Leave an account of that name as it is."
        )

    def handle(self, **options: Any) -> None:
        """Make it, or say why not."""
        if options["if_absent"] and User.objects.filter(username=options["username"]).exists():
            self.stdout.write(f"{options['username']} exists already; nothing was changed.")
            return
        try:
            given = given_password(options["password_file"], os.environ)
            password = given or generate_password()
            user = create_account(options["username"], Role(options["role"]), password)
        except AccountError as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"{Role(options['role']).label} {user.get_username()} was made.")
        if given is None:
            self.stdout.write(f"Password, shown this once: {password}")

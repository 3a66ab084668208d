"""``manage.py set_cloud_account``: store the Tencent Cloud account that the environment names."""

import argparse
import os

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from repositories.cloud import account_changed
from repositories.cloud_forms import CloudAccountForm
from repositories.models import CloudAccount, CloudSite
from tcss.environment import SettingError, given_secret

_ID, _KEY = "TCSS_TENCENT_SECRET_ID", "TCSS_TENCENT_SECRET_KEY"


class Command(BaseCommand):
    """Stores an account, or does nothing where none is given."""

    help = (
        f"Store the Tencent Cloud account in {_ID} and {_KEY} (or the files named in {_ID}_FILE and "
        f"{_KEY}_FILE), with TCSS_TENCENT_REGIONS and TCSS_TENCENT_SITE (china or intl). An account with "
        "that secret ID is changed; so is the only one there is."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Whether one that is there is left alone."""
        parser.add_argument(
            "--if-absent", action="store_true", help="Do nothing where there is an account already."
        )

    def handle(self, *_: object, **options: object) -> None:
        """Store it, leave it, or say why not."""
        try:
            secret_id, secret_key = given_secret(_ID), given_secret(_KEY)
        except SettingError as error:
            raise CommandError(str(error)) from None
        if not secret_id and not secret_key:
            self.stdout.write("No Tencent Cloud account is given; nothing was changed.")
            return
        if not (secret_id and secret_key):
            raise CommandError(f"{_ID} and {_KEY} belong together: set both.")
        if options["if_absent"] and CloudAccount.objects.exists():
            self.stdout.write("There is a Tencent Cloud account already; nothing was changed.")
            return
        account = _known(secret_id)
        form = CloudAccountForm(
            {
                "site": os.environ.get("TCSS_TENCENT_SITE", "").strip() or CloudSite.CHINA,
                "secret_id": secret_id,
                "secret_key": secret_key,
                "regions": os.environ.get("TCSS_TENCENT_REGIONS", ""),
                "personal_username": account.personal_username if account else "",
            },
            instance=account,
        )
        if not form.is_valid():
            # What was given is not repeated: one of the texts is the key.
            fields = {"site": "TCSS_TENCENT_SITE", "secret_id": _ID, "regions": "TCSS_TENCENT_REGIONS"}
            said = [f"{fields.get(name, _KEY)}: {errors[0]}" for name, errors in form.errors.items()]
            raise CommandError(" ".join(said))
        with transaction.atomic():
            account_changed(form.save())
        self.stdout.write("The Tencent Cloud account was stored; a worker lists its instances.")


def _known(secret_id: str) -> CloudAccount | None:
    """The account to change: the one with that secret ID, or the only one."""
    accounts = list(CloudAccount.objects.order_by("pk"))
    same = [account for account in accounts if account.secret_id == secret_id]
    return next(iter(same or (accounts if len(accounts) == 1 else [])), None)

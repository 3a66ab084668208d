from django.conf import settings
from django.db import migrations


def create(apps, schema_editor):
    """The licenses a fresh installation comes with, so that nobody is stopped by paperwork."""
    entitlement = apps.get_model("licensing", "Entitlement")
    if settings.BUILT_IN_LICENSES:
        entitlement.objects.using(schema_editor.connection.alias).get_or_create(
            kind="built_in",
            defaults={"quantity": settings.BUILT_IN_LICENSES, "note": "Comes with the installation"},
        )


class Migration(migrations.Migration):

    dependencies = [("licensing", "0001_initial")]

    operations = [migrations.RunPython(create, migrations.RunPython.noop)]

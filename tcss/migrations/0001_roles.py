from django.db import migrations

# The models of the console when roles were made; a later model adds its permissions in its own migration.
MODELS = {
    "repositories": ["registry", "repository", "tag", "sync"],
    "images": ["image", "manifest", "platform", "manifestlayer", "layer", "imagelayer"],
    "scanning": [
        "scantask",
        "scan",
        "taskitem",
        "scancategory",
        "package",
        "inventory",
        "inventorypackage",
        "vulnerability",
        "match",
        "secretfinding",
        "malwarefinding",
    ],
    "licensing": ["entitlement", "licenseassignment"],
}
# Beyond seeing everything.
OPERATOR = [
    ("repositories", "registry", "add"),
    ("repositories", "registry", "change"),
    ("repositories", "registry", "delete"),
    ("repositories", "sync", "add"),
    ("scanning", "scan", "add"),
    ("scanning", "scan", "change"),
    ("licensing", "licenseassignment", "add"),
]


def create(apps, schema_editor):
    """Make the groups Viewer and Operator.

    Django writes permissions only after the last migration, so those a role needs are written here, under the
    names Django gives them: it finds them later and adds the rest.
    """
    alias = schema_editor.connection.alias
    content_types = apps.get_model("contenttypes", "ContentType").objects.using(alias)
    permissions = apps.get_model("auth", "Permission").objects.using(alias)
    groups = apps.get_model("auth", "Group").objects.using(alias)
    verbose_names = {
        "manifestlayer": "manifest layer",
        "imagelayer": "image layer",
        "scantask": "scan task",
        "taskitem": "task item",
        "scancategory": "scan category",
        "inventorypackage": "inventory package",
        "secretfinding": "secret finding",
        "malwarefinding": "malware finding",
        "licenseassignment": "license assignment",
    }

    def permission(app_label, model, verb):
        content_type, _ = content_types.get_or_create(app_label=app_label, model=model)
        found, _ = permissions.get_or_create(
            content_type=content_type,
            codename=f"{verb}_{model}",
            defaults={"name": f"Can {verb} {verbose_names.get(model, model)}"},
        )
        return found

    seen = [permission(app_label, model, "view") for app_label, models in MODELS.items() for model in models]
    groups.get_or_create(name="Viewer")[0].permissions.set(seen)
    groups.get_or_create(name="Operator")[0].permissions.set(
        [*seen, *(permission(app_label, model, verb) for app_label, model, verb in OPERATOR)]
    )


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [migrations.RunPython(create, migrations.RunPython.noop)]

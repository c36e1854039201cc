# SPDX-License-Identifier: Apache-2.0
"""A request to contacts never leaves an end, and its terms never change, whatever the code says (FAULTS R5, R14)."""

from django.db import migrations

TABLE = "recovery_contactrequest"
FIXED = "id tenant_id owner_id device_id request request_hash k opened_at not_before expires_at".split()
REFUSED = "(OLD.state <> 'open' AND NEW.state <> OLD.state) OR " + " OR ".join(
    f"NEW.{name} IS DISTINCT FROM OLD.{name}" for name in FIXED
)


def freeze(apps, schema_editor):
    if schema_editor.connection.vendor == "sqlite":
        refuse = "BEGIN SELECT RAISE(ABORT, 'a request does not change so'); END"
        schema_editor.execute(f"CREATE TRIGGER {TABLE}_fixed BEFORE UPDATE ON {TABLE} WHEN {REFUSED} {refuse}")
        return
    schema_editor.execute(
        f"""
        CREATE FUNCTION {TABLE}_fixed() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF {REFUSED} THEN RAISE EXCEPTION 'a request does not change so'; END IF;
            RETURN NEW;
        END $$
        """
    )
    schema_editor.execute(
        f"CREATE TRIGGER {TABLE}_fixed BEFORE UPDATE ON {TABLE} FOR EACH ROW EXECUTE FUNCTION {TABLE}_fixed()"
    )


def thaw(apps, schema_editor):
    if schema_editor.connection.vendor == "sqlite":
        schema_editor.execute(f"DROP TRIGGER {TABLE}_fixed")
        return
    schema_editor.execute(f"DROP TRIGGER {TABLE}_fixed ON {TABLE}")
    schema_editor.execute(f"DROP FUNCTION {TABLE}_fixed()")


class Migration(migrations.Migration):
    dependencies = [("recovery", "0003_contacts")]
    operations = [migrations.RunPython(freeze, thaw)]

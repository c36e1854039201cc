# SPDX-License-Identifier: Apache-2.0
"""A case never leaves a terminal state and never changes what was signed, whatever the code says (FAULTS R14, P4)."""

from django.db import migrations

TABLE = "recovery_case"
TERMINAL = ("closed", "denied", "vetoed", "expired", "cancelled", "held")
SIGNED = (
    "id tenant_id q statement subject_id requester_id recipient_device_id recipient_person_id purpose policy_hash "
    "opened_at notice_at not_before expiry"
).split()
_ENDED = ", ".join(f"'{state}'" for state in TERMINAL)
REFUSED = f"(OLD.state IN ({_ENDED}) AND NEW.state <> OLD.state) OR " + " OR ".join(
    f"NEW.{name} IS DISTINCT FROM OLD.{name}" for name in SIGNED
)


def freeze(apps, schema_editor):
    if schema_editor.connection.vendor == "sqlite":
        refuse = "BEGIN SELECT RAISE(ABORT, 'a case does not change so'); END"
        schema_editor.execute(f"CREATE TRIGGER {TABLE}_fixed BEFORE UPDATE ON {TABLE} WHEN {REFUSED} {refuse}")
        return
    schema_editor.execute(
        f"""
        CREATE FUNCTION {TABLE}_fixed() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF {REFUSED} THEN RAISE EXCEPTION 'a case does not change so'; END IF;
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
    dependencies = [("recovery", "0001_initial")]
    operations = [migrations.RunPython(freeze, thaw)]

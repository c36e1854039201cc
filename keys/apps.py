# SPDX-License-Identifier: Apache-2.0
from django.apps import AppConfig


class KeysConfig(AppConfig):
    name = "keys"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from keys import exporting, notices, records, tasks  # noqa: F401 — handlers register themselves
        from tenants.exporting import exports
        from tenants.factors import sealed_by
        from tenants.services import tell_by

        tell_by(notices.tell)
        sealed_by(records.seal_record, records.open_record)
        exports(*exporting.SOURCES)

# SPDX-License-Identifier: Apache-2.0
"""Files of people and mailed codes, each process with its own database rights and no others'."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core import mail as outbox
from django.db import ProgrammingError, connection, transaction

from kernel import queue
from kernel.actors import Actor
from kernel.clock import database_now
from kernel.scope import close_scope, tenant_scope
from tenants import codes
from tenants.imports import export, services
from tenants.models import EnrolmentCode, Import, ImportChunk, Mail, Person
from tenants.permissions import session_permissions
from tests.cast.database_roles import acting_as, database_users
from tests.cast.tenants import Cast, build_world

pytestmark = pytest.mark.postgres_only


def olivia(world: Cast) -> Actor:
    who = world.olivia
    permissions = session_permissions(who.role)
    return Actor(who.tenant_id, "person", who.pk, person_id=who.pk, role=who.role, permissions=permissions)


def test_web_process_reads_and_begins_and_the_worker_does_it(transactional_db: None) -> None:
    world = build_world()
    with database_users() as prefix:
        with acting_as("web", prefix=prefix), tenant_scope(world.acme.pk):
            services.read(text="Kim,kim@acme.test", actor=olivia(world))
            row = services.read(text="Ivy,ivy@acme.test\nJack,jack@acme.test\n,x", actor=olivia(world))
            with transaction.atomic():
                services.begin(row=services.import_of(row.pk, lock=True), actor=olivia(world))
            with pytest.raises(ProgrammingError), transaction.atomic():
                Import.objects.update(created=7)
            assert "Olivia" in "".join(export.begin(actor=olivia(world)))
        with acting_as("worker", prefix=prefix):
            assert queue.run_due("worker") == 1
            assert Person.unscoped.filter(email="ivy@acme.test").exists()
            with pytest.raises(ProgrammingError), transaction.atomic():
                Person.unscoped.update(role="owner")
        Import.unscoped.update(expires_at=database_now() - timedelta(seconds=1))
        with acting_as("worker", prefix=prefix):
            close_scope()
            assert services.sweep() == 1
    assert not ImportChunk.unscoped.exists()


def test_worker_makes_the_code_that_a_mail_brings(transactional_db: None) -> None:
    world = build_world()
    with database_users() as prefix:
        with acting_as("web", prefix=prefix), tenant_scope(world.acme.pk), transaction.atomic():
            codes.promise(person=world.bob, actor=olivia(world))
        with acting_as("worker", prefix=prefix):
            assert queue.run_due(queue.MAIL) >= 1
            with tenant_scope(world.acme.pk):
                mail = Mail.objects.get(kind=codes.MAIL_KIND)
                mail.attempts = 1
                assert codes.code_of(mail, olivia(world)) is not None
    assert "hf2." in str(outbox.outbox[0].body)
    open_ones = EnrolmentCode.unscoped.filter(expires_at__gt=database_now())
    assert (EnrolmentCode.unscoped.count(), open_ones.count()) == (2, 1)
    assert connection.vendor == "postgresql"

# SPDX-License-Identifier: Apache-2.0
"""Acts that wait for a second person, addresses that are told a while longer, and since when people count.

Whoever was active or suspended before counts since they were added: nothing says otherwise.
"""

import uuid

import django.db.models.deletion
import django.db.models.manager
from django.conf import settings
from django.db import migrations, models



def settle(apps, schema_editor):
    people = apps.get_model("tenants", "Person")._base_manager
    people.exclude(state="invited").update(active_since=models.F("created_at"))


class Migration(migrations.Migration):

    dependencies = [
        ('tenants', '0007_founding_codes'),
    ]

    operations = [
        migrations.AddField(
            model_name='person',
            name='active_since',
            field=models.DateTimeField(null=True),
        ),
        migrations.AlterField(
            model_name='person',
            name='role',
            field=models.CharField(choices=[('owner', 'Owner'), ('officer', 'Officer'), ('reviewer', 'Reviewer'), ('auditor', 'Auditor'), ('helpdesk', 'Helpdesk'), ('support', 'Support'), ('member', 'Member')], default='member', max_length=10),
        ),
        migrations.AlterField(
            model_name='person',
            name='state',
            field=models.CharField(choices=[('invited', 'Invited'), ('active', 'Active'), ('suspended', 'Suspended'), ('left', 'Left')], default='invited', max_length=10),
        ),
        migrations.RunPython(settle, migrations.RunPython.noop),
        migrations.CreateModel(
            name='FormerAddress',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('email', models.CharField(max_length=254)),
                ('told_until', models.DateTimeField(db_index=True)),
                ('person', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('tenant', models.ForeignKey(editable=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='tenants.tenant')),
            ],
            options={
                'abstract': False,
                'base_manager_name': 'unscoped',
                'default_manager_name': 'unscoped',
            },
            managers=[
                ('unscoped', django.db.models.manager.Manager()),
            ],
        ),
        migrations.CreateModel(
            name='PendingAct',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('act', models.CharField(max_length=40)),
                ('subject_id', models.UUIDField(null=True)),
                ('concerns_id', models.UUIDField(null=True)),
                ('given', models.JSONField(default=dict)),
                ('state', models.CharField(choices=[('proposed', 'Proposed'), ('confirmed', 'Confirmed'), ('withdrawn', 'Withdrawn')], default='proposed', max_length=10)),
                ('proposer_id', models.UUIDField()),
                ('second_id', models.UUIDField(null=True)),
                ('proposed_at', models.DateTimeField()),
                ('expires_at', models.DateTimeField()),
                ('ended_at', models.DateTimeField(null=True)),
                ('tenant', models.ForeignKey(editable=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='tenants.tenant')),
            ],
            options={
                'abstract': False,
                'base_manager_name': 'unscoped',
                'default_manager_name': 'unscoped',
                'indexes': [models.Index(fields=['tenant', 'state', 'proposed_at'], name='pending_act_waiting')],
            },
            managers=[
                ('unscoped', django.db.models.manager.Manager()),
            ],
        ),
    ]

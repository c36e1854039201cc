# SPDX-License-Identifier: Apache-2.0
"""Rows of the two Merkle logs of each tenant: entries, tiles, heads, checkpoints, roles; what is only counted; and
what is known of a backup that was put back.

PLATFORM "Audit". All but the counts are append-only by trigger: an entry moves once, unchanged, from those that wait to
its index, a tile and a head only grow, a checkpoint's root stands for ever. Whoever switches triggers off is found by
the proofs, not by the database.
"""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import models

from kernel.scope import ScopedManager, TenantModel


class Log(models.TextChoices):
    AUDIT = "audit"
    KEYS = "keys"


class _Columns(models.Model):
    """What the database holds of one leaf of a log."""

    tenant_id = models.UUIDField(editable=False)
    log = models.CharField(max_length=8, choices=Log.choices)
    leaf = models.BinaryField()
    # What follows repeats the leaf for searching and reading; the leaf is what is proven.
    tag = models.CharField(max_length=80)
    actor = models.CharField(max_length=80)
    person_id = models.UUIDField(null=True)
    subject = models.CharField(max_length=200)
    time = models.DateTimeField()
    body: models.JSONField[Any, Any] = models.JSONField(default=dict)

    unscoped: ClassVar[models.Manager[Any]] = models.Manager()
    objects: ClassVar[ScopedManager] = ScopedManager()

    class Meta:
        abstract = True
        default_manager_name = "unscoped"
        base_manager_name = "unscoped"

    def __str__(self) -> str:
        return f"{type(self).__name__} {self.pk}"


class Waiting(_Columns):
    """One leaf without an index: inserted in the transaction of its act, there until the sequencer numbers it.

    So an act writes three short indexes, whose pages are always at hand, and no row of a long table is ever rewritten.
    The database lets a row go only where the very same one stands among the numbered.
    """

    seq = models.BigAutoField(primary_key=True)  # by which the sequencer takes them in turn; never given twice
    id = models.UUIDField(unique=True, editable=False)
    # Why it never gets an index: a fixed word, of an entry that nobody entitled wrote. It stays here, outside the log,
    # for ever.
    refused = models.CharField(max_length=16, default="", db_default="")

    class Meta(_Columns.Meta):
        abstract = False
        indexes: ClassVar = [
            # What the sequencer still has to number is a short list, however many of one tenant wait or are refused.
            models.Index(fields=["tenant_id", "log", "seq"], condition=models.Q(refused=""), name="entry_waiting")
        ]


class Numbered(_Columns):
    """One leaf at its index. The sequencer inserts it, as it waited, and nothing of it ever changes."""

    seq = models.BigIntegerField(primary_key=True)
    id = models.UUIDField(unique=True, editable=False)
    leaf_index = models.BigIntegerField()

    class Meta(_Columns.Meta):
        abstract = False
        db_table = "audit_entry"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant_id", "log", "leaf_index"], name="entry_index_once")
        ]
        indexes: ClassVar = [
            models.Index(fields=["tenant_id", "tag"], name="entry_tag"),
            models.Index(fields=["tenant_id", "actor"], name="entry_actor"),
            models.Index(fields=["tenant_id", "subject"], name="entry_subject"),
            # By their place in the log, in which what is found is shown: nothing is sorted for a page of it.
            models.Index(
                fields=["tenant_id", "person_id", "leaf_index"],
                condition=models.Q(person_id__isnull=False),
                name="entry_person",
            ),
            models.Index(fields=["tenant_id", "log", "time", "leaf_index"], name="entry_time"),
        ]


class Entry(_Columns):
    """Every leaf, numbered or not, for reading: a view over both tables."""

    seq = models.BigIntegerField(primary_key=True)
    id = models.UUIDField(editable=False)
    leaf_index = models.BigIntegerField(null=True)
    refused = models.CharField(max_length=16)

    class Meta(_Columns.Meta):
        abstract = False
        managed = False
        db_table = "audit_entries"


class Tally(TenantModel):
    """How often one thing happened within an hour, of which only the first `listed` times are entries.

    digest: 32 bytes, of what counts as the same thing. A row becomes one entry when its hour is over, and goes.
    """

    hour = models.PositiveIntegerField(db_index=True)  # hours since 1970
    digest = models.BinaryField(max_length=32)
    tag = models.CharField(max_length=80)
    actor = models.CharField(max_length=80)
    subject = models.CharField(max_length=200)
    listed = models.PositiveIntegerField()
    count = models.PositiveIntegerField()

    class Meta(TenantModel.Meta):
        abstract = False
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant_id", "hour", "digest"], name="one_tally_per_hour")
        ]


class RolesStatement(TenantModel):
    """One version of the tenant root's word on whose keys write and sign its logs."""

    version = models.PositiveIntegerField()
    hash = models.BinaryField(max_length=32)
    statement = models.BinaryField()
    published_at = models.DateTimeField()

    class Meta(TenantModel.Meta):
        abstract = False
        constraints: ClassVar = [models.UniqueConstraint(fields=["tenant_id", "version"], name="roles_version_once")]


class Transcript(TenantModel):
    """What the operator's ceremonies did, as text, signed by the tenant root and the log key. A ceremony writes it.

    number: from 1 within a tenant. installation_lines, own_lines: up to which line of either file the text goes.
    """

    number = models.PositiveIntegerField()
    statement = models.BinaryField()
    text = models.BinaryField()
    hash = models.BinaryField(max_length=32)
    installation_lines = models.PositiveIntegerField()
    own_lines = models.PositiveIntegerField()
    made_at = models.DateTimeField()

    class Meta(TenantModel.Meta):
        abstract = False
        constraints: ClassVar = [models.UniqueConstraint(fields=["tenant_id", "number"], name="transcript_number_once")]


class Restored(TenantModel):
    """The mark that a tenant's database was put back: nothing is changed or signed until its officers accept it.

    by: who found it, the sequencer, the release process, or a client that showed a newer head. Any of them may set it,
    and only the ceremony of the operator, who owns the table, deletes it.
    """

    by = models.CharField(max_length=16)
    since = models.DateTimeField()

    class Meta(TenantModel.Meta):
        abstract = False
        constraints: ClassVar = [models.UniqueConstraint(fields=["tenant_id"], name="restored_once")]


class ShownHead(TenantModel):
    """The largest head of a log that a client showed and the stored log does not lead to, until it is accepted."""

    log = models.CharField(max_length=8, choices=Log.choices)
    size = models.BigIntegerField()
    note = models.TextField()

    class Meta(TenantModel.Meta):
        abstract = False
        constraints: ClassVar = [models.UniqueConstraint(fields=["tenant_id", "log"], name="shown_head_once")]


class AcceptedLog(TenantModel):
    """A resolution by which m officers accepted a restored backup, and on which a ceremony acted.

    hash: 32 bytes, of its payload. statement: all its signatures, an array of Sign1. audit_size, keys_size: how far
    each log goes that was accepted. at: when the ceremony acted; what the officers signed has a date of its own.
    """

    hash = models.BinaryField(max_length=32)
    statement = models.BinaryField()
    audit_size = models.BigIntegerField()
    keys_size = models.BigIntegerField()
    at = models.DateTimeField()

    class Meta(TenantModel.Meta):
        abstract = False
        constraints: ClassVar = [models.UniqueConstraint(fields=["tenant_id", "hash"], name="accepted_log_once")]


class LogExport(TenantModel):
    """An export of one log for whoever asked for it, as long as they may have it. done: how far the worker has come.

    owner: a person, or another actor, whose alone it is. note, vkey, roles, withheld: of the log as it was asked for:
    all pieces are of one file. octets: of the pieces, as they are stored.
    """

    owner = models.CharField(max_length=80)
    log = models.CharField(max_length=8, choices=Log.choices)
    size = models.BigIntegerField()
    vkey = models.CharField(max_length=400)
    note = models.TextField()
    roles = models.BinaryField(default=b"")
    withheld: models.JSONField[Any, Any] = models.JSONField(default=list)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)
    ready_at = models.DateTimeField(null=True)
    done = models.BigIntegerField(default=0)
    pieces = models.PositiveIntegerField(default=0)
    octets = models.BigIntegerField(default=0)

    class Meta(TenantModel.Meta):
        abstract = False
        indexes: ClassVar = [models.Index(fields=["tenant_id", "owner"], name="log_export_owner")]


class LogExportPiece(TenantModel):
    """Some thousand lines of an export, packed: a member of its gzip file. size: of `octets`, which are seldom read."""

    export = models.ForeignKey(LogExport, on_delete=models.PROTECT, related_name="+", db_index=False)
    number = models.PositiveIntegerField()
    octets = models.BinaryField()
    size = models.PositiveIntegerField()

    class Meta(TenantModel.Meta):
        abstract = False
        constraints: ClassVar = [models.UniqueConstraint(fields=["export", "number"], name="log_export_piece_once")]


class LogHead(TenantModel):
    """How far a log is sequenced, and its compact range; the row is the sequencer's lock."""

    log = models.CharField(max_length=8, choices=Log.choices)
    size = models.BigIntegerField(default=0)
    edge = models.BinaryField(default=b"")
    # Of the newest checkpoint: whose head is not signed yet is a short list, however many tenants are at rest.
    signed_size = models.BigIntegerField(default=0)

    class Meta(TenantModel.Meta):
        abstract = False
        constraints: ClassVar = [models.UniqueConstraint(fields=["tenant_id", "log"], name="one_head_per_log")]
        indexes: ClassVar = [
            models.Index(
                fields=["tenant_id"], condition=models.Q(size__gt=models.F("signed_size")), name="head_unsigned"
            )
        ]


class Tile(TenantModel):
    """Up to 256 hashes of one tree level, as C2SP tlog-tiles cuts it."""

    log = models.CharField(max_length=8, choices=Log.choices)
    level = models.PositiveSmallIntegerField()
    index = models.BigIntegerField()
    hashes = models.BinaryField()

    class Meta(TenantModel.Meta):
        abstract = False
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant_id", "log", "level", "index"], name="one_tile_per_place")
        ]


class Checkpoint(TenantModel):
    """A signed head. One root per size, for ever; signing the same size again renews only the time."""

    log = models.CharField(max_length=8, choices=Log.choices)
    size = models.BigIntegerField()
    root = models.BinaryField(max_length=32)
    note = models.TextField()
    # The key that the note names, for readers in processes that have no HSM; it anchors nothing.
    vkey = models.CharField(max_length=400)
    signed_at = models.DateTimeField()

    class Meta(TenantModel.Meta):
        abstract = False
        constraints: ClassVar = [models.UniqueConstraint(fields=["tenant_id", "log", "size"], name="one_root_per_size")]

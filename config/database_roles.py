# SPDX-License-Identifier: Apache-2.0
"""Which process may do what to which table of PostgreSQL: one table, and the statements that grant it.

Implements PLATFORM "Running it". Each process that runs has a database user of its own, which is granted what that
process does today and nothing else; the owner of the tables migrates and holds ceremonies. A model without a row here
fails a test; a view is read with its owner's rights. It asks no database: `manage.py database_roles` does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

# The processes that run. A ceremony, like a migration, is the owner's: nothing that runs has its account.
PROCESSES: Final = ("web", "worker", "sequencer", "release")
PREFIX: Final = "holdfast_"
# What PostgreSQL takes without quotes, with room for the process's name within its 63 bytes.
_PREFIX_FORM: Final = re.compile(r"[a-z_][a-z0-9_]{0,40}")

# r SELECT, i INSERT, u UPDATE, d DELETE; a dot is nothing. What stands a second time in `_COLUMNS` is for those columns
# only. Nobody who runs empties a table, or makes one.
_GRANTS: Final = """
table                           web   worker sequencer release
auth_group                      .     .      .         .
auth_group_permissions          .     .      .         .
auth_permission                 .     .      .         .
axes_accessattempt              riud  rd     .         .
axes_accessattemptexpiration    riud  rd     .         .
axes_accessfailurelog           .     .      .         .
axes_accesslog                  .     .      .         .
django_admin_log                .     .      .         .
django_content_type             .     .      .         .
django_migrations               r     r      r         r
kernel_heartbeat                riu   riu    riu       riu
kernel_job                      ri    riud   .         riu
kernel_replayableanswer         rid   rd     .         .
audit_acceptedlog               r     .      .         .
audit_checkpoint                r    r      riu       r
audit_entries                   r     r      r         r
audit_entry                     r     .      ri        r
audit_logexport                 riu   rud    .         .
audit_logexportpiece            r     rid    .         .
audit_loghead                   r     .      riu       r
audit_restored                  ri    r      ri        ri
audit_rolesstatement            r     r      r         r
audit_shownhead                 riu   .      .         .
audit_tally                     riu   riud   riu       riu
audit_tile                      r     r      riu       r
audit_transcript                r     .      .         .
audit_waiting                   ri    i      riud      ri
tenants_authenticator           riud  ru     .         .
tenants_consolesession          riud  rd     .         .
tenants_credential              riu   ru     .         .
tenants_enrolmentcode           riu   riu    .         .
tenants_formeraddress           ri    rd     .         .
tenants_exportpiece             r    rid    .         .
tenants_import                  riud  rud    .         .
tenants_importchunk             rid   rd     .         .
tenants_invitation              riu   riu    .         .
tenants_logtoken                riu  rd     .         .
tenants_mail                    ri    riud   .         .
tenants_nonce                   ri    rd     r         .
tenants_pendingact              riu   rd     .         .
tenants_passwordreset           ru    rid    .         .
tenants_person                  riu   ri     .         r
tenants_ratewindow              riu   rd     .         .
tenants_recoverycode            riud  .      .         .
tenants_serviceaccount          ri    .      .         .
tenants_signinplace             riud  rd     .         .
tenants_sponsorship             riu   riu    .         .
tenants_tenant                  ru    ru     r         r
tenants_tenantexport            ri   rud    .         .
tenants_tokenbucket             riu   rd     .         .
keys_chainentry                 ri    r      .         r
keys_chainfork                  ri    .      .         .
keys_chainhead                  riu   ru     .         r
keys_claim                      ri    rd     .         .
keys_claimbudget                riu   rd     .         .
keys_device                     riu   ru     .         r
keys_mailboxsize                riud  riud   .         .
keys_message                    riud  riud   .         .
keys_messagecontent             rid   rd     .         .
keys_onetimeprekey              riud  rd     .         .
keys_prekeybatch                ri    r      .         .
keys_signedprekey               riu   rd     .         .
keys_tenantmasterkey            r     r      .         r
keys_vault                      riu   rd     .         .
keys_vaultdoor                  riud  rd     .         .
escrow_consent                  ri    r      .         r
escrow_deposit                  ri    ru     .         r
escrow_escrowkey                ri    r      .         r
escrow_escrowkeyproposal        ru    .      .         .
escrow_officerkeystatement      ri   r      .         .
escrow_officerstatement         ri    r      .         r
escrow_policy                   riu   ru     .         ru
escrow_policyofficer            riu   r      .         r
escrow_policyproposal           riu   .      .         .
escrow_receipt                  r     r      .         ri
escrow_resolution               riu   r      .         r
recovery_approval               ri    r      .         r
recovery_attestation            ri    .      .         .
recovery_case                   riu   ru     r         ru
recovery_casedeposit            ri    r      .         r
recovery_contactanswer          riu   ru     .         .
recovery_contactrequest         riu   ru     .         .
recovery_contactset             riu   rd     .         .
recovery_notice                 ri    riu    .         ri
recovery_release                r     ru     .         riu
recovery_releasedshare          ru    rd     .         rid
recovery_sealedshare            rid   rd     .         rd
recovery_shredding              ri    ru     .         .
recovery_veto                   ri    r      .         r
operators_operator              r     .      .         .
operators_operatorsession       rid   rd     .         .
"""

# (table, verb): {process: its columns}. To lock a row takes the right to change a column of it, so some stand here for
# that alone: `id` of a policy, whose triggers refuse every change; times that nothing decides by; a proof that each
# reader checks.
_COLUMNS: Final[dict[tuple[str, str], dict[str, str]]] = {
    # All but `seq`, by which the sequencer takes entries in turn: a row cannot put itself before others, nor stand
    # where the next one would.
    ("audit_waiting", "i"): dict.fromkeys(PROCESSES, "id tenant_id log leaf tag actor person_id subject time body"),
    # What waits goes by a trigger only, once it is numbered.
    ("audit_waiting", "u"): {"sequencer": "refused"},
    ("audit_logexport", "u"): {"web": "expires_at", "worker": "done pieces octets ready_at"},
    ("audit_loghead", "u"): {"sequencer": "size edge signed_size"},
    ("audit_tile", "u"): {"sequencer": "hashes"},
    ("audit_checkpoint", "u"): {"sequencer": "note vkey signed_at"},
    ("audit_shownhead", "u"): {"web": "size note"},
    ("audit_tally", "u"): dict.fromkeys(PROCESSES, "count"),
    # The sequencer asks at its start whether a tenant was founded for development, and nothing else of them.
    ("tenants_tenant", "r"): {"sequencer": "slug is_development"},
    # The sequencer asks of which tenants a request came lately, for whom it signs anew, and not who sent it.
    ("tenants_nonce", "r"): {"sequencer": "tenant_id expires_at"},
    # An operator's acts and acts on the lock, and the worker that ends it in time. By the row's lock a tenant's acts
    # come one after another.
    ("tenants_tenant", "u"): {
        "web": "state locked_at unlock_at ends_at",
        "worker": "state locked_at unlock_at unlocked_at",
    },
    # Acts of administration, each behind a one-time code, and a person's own invitation. What the release process
    # believes of people stands in the log.
    ("tenants_person", "u"): {"web": "state active_since last_login password role name email email_key search"},
    ("tenants_pendingact", "u"): {"web": "state second_id ended_at"},
    # The worker makes the link when the mail is handed over, and ends the ones before; it uses none up.
    ("tenants_invitation", "u"): {"web": "used_at expires_at", "worker": "expires_at"},
    ("tenants_logtoken", "u"): {"web": "revoked_at last_used_on"},
    ("tenants_tenantexport", "u"): {"worker": "state ended_at file after pieces lines size"},
    ("tenants_mail", "u"): {"worker": "state why attempts settled_at"},
    ("tenants_recoverycode", "u"): {"web": "used_at is_waiting"},
    ("tenants_credential", "u"): {
        "web": "state last_used_on turn_mark turn_before turn_breaks turn_is_break turn_since",
        "worker": "state",
    },
    # The worker makes the code when its mail is handed over, and ends the one of a try before.
    ("tenants_enrolmentcode", "u"): {"web": "used_at confirmer_id expires_at", "worker": "expires_at"},
    ("tenants_sponsorship", "u"): {"web": "at", "worker": "at"},
    ("tenants_import", "u"): {
        "web": "by_id digest good bad roles state confirmed_at expires_at",
        "worker": "state done created ended_at",
    },
    ("keys_chainhead", "u"): {"web": "seq head state state_mac updated_at", "worker": "updated_at"},
    ("keys_device", "u"): {"web": "state activated_at revoked_at", "worker": "state revoked_at"},
    ("keys_message", "u"): {"web": "device_id", "worker": "received_at"},
    ("keys_onetimeprekey", "u"): {"web": "proof"},
    ("keys_signedprekey", "u"): {"web": "is_current retired_at"},
    ("escrow_deposit", "u"): {"worker": "flagged_at exposed_at sealed shredded_at"},
    ("escrow_escrowkeyproposal", "u"): {"web": "statement published_at"},
    ("escrow_policy", "u"): {"web": "id withdrawn_at", "worker": "id", "release": "id"},
    ("escrow_policyofficer", "u"): {"web": "state keys_lost_at"},
    ("escrow_policyproposal", "u"): {"web": "statement published_at withdrawn_at"},
    ("escrow_resolution", "u"): {"web": "statement passed_at"},
    # The sequencer asks whose log somebody waits for, and nothing else of cases.
    ("recovery_case", "r"): {"sequencer": "tenant_id state"},
    ("recovery_case", "u"): {
        "web": "state why why_since quorate_at release_at collected_at ended_at successor_key successor_head",
        "worker": "state why why_since quorate_at release_at ended_at renewed_at",
        "release": "state why why_since quorate_at release_at ended_at behind",
    },
    ("recovery_contactanswer", "u"): {"web": "sealed version answered_at collected_at", "worker": "sealed"},
    ("recovery_contactrequest", "u"): {"web": "state ended_at", "worker": "state ended_at"},
    # What was released is destroyed by whoever ends such a case; the web process only says that a share is wrong.
    ("recovery_release", "u"): {"worker": "half destroyed_at", "release": "half destroyed_at at"},
    ("recovery_releasedshare", "u"): {"web": "blamed_at"},
    ("recovery_shredding", "u"): {"worker": "done finished_at"},
    ("recovery_notice", "u"): {"worker": "state attempts settled_at"},
}
_VERBS: Final = {"r": "SELECT", "i": "INSERT", "u": "UPDATE", "d": "DELETE"}


def grants() -> Mapping[str, Mapping[str, str]]:
    """Return {table: {process: letters}} as they stand above; no letters for a process that has nothing to do there."""
    head, *rows = (line.split() for line in _GRANTS.split("\n") if line)
    return {
        table: {process: letters.strip(".") for process, letters in zip(head[1:], cells, strict=True)}
        for table, *cells in rows
    }


def columns(table: str, verb: str, process: str) -> list[str]:
    """Return the columns that a verb is limited to; none when it is for the whole table."""
    return _COLUMNS.get((table, verb), {}).get(process, "").split()


def role_name(process: str, *, prefix: str = PREFIX) -> str:
    """Return the database user of a process. Raises ValueError for a prefix that is not of small letters."""
    if not _PREFIX_FORM.fullmatch(prefix):
        raise ValueError("a prefix has small letters, digits and underscores, at most 41, and begins with no digit")
    return prefix + process


def statements(database: str, *, prefix: str = PREFIX) -> Iterator[str]:
    """Give the statements that grant exactly this, for the owner to run in one transaction, as often as they like.

    database: its name. Raises ValueError as `role_name` does.
    """
    names = {process: role_name(process, prefix=prefix) for process in PROCESSES}
    everybody = ", ".join(names.values())
    quoted = '"' + database.replace('"', '""') + '"'
    # Nobody is left with what PostgreSQL gives to all: temporary tables, and functions that others define.
    yield f"REVOKE ALL ON DATABASE {quoted} FROM PUBLIC"
    yield "REVOKE ALL ON SCHEMA public FROM PUBLIC"
    for kind in ("TABLES", "SEQUENCES", "FUNCTIONS"):
        # First all is taken back, also from columns: what a role was granted before, or by hand, does not stay.
        yield f"REVOKE ALL ON ALL {kind} IN SCHEMA public FROM PUBLIC, {everybody}"
    yield "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC"
    yield f"GRANT CONNECT ON DATABASE {quoted} TO {everybody}"
    yield f"GRANT USAGE ON SCHEMA public TO {everybody}"
    # No sequence: numbers are drawn by identity columns, for which the right to insert is enough.
    for table, cells in grants().items():
        for process, letters in cells.items():
            if letters:
                rights = ", ".join(_right(table, verb, process) for verb in letters)
                yield f"GRANT {rights} ON {table} TO {names[process]}"


def _right(table: str, verb: str, process: str) -> str:
    limited = columns(table, verb, process)
    return f"{_VERBS[verb]} ({', '.join(limited)})" if limited else _VERBS[verb]


# What the connected user may do in the end, be it by a grant of its own, to all, or to a role that it is a member of:
# one row for each column, with the verbs in the order r, i, u, d.
RIGHTS_OF_THE_USER: Final = """
SELECT c.relname, a.attname,
       has_column_privilege(c.oid, a.attnum, 'SELECT'), has_column_privilege(c.oid, a.attnum, 'INSERT'),
       has_column_privilege(c.oid, a.attnum, 'UPDATE'), has_table_privilege(c.oid, 'DELETE, TRUNCATE')
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
 WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v')
"""


def differing(process: str, rows: Iterable[tuple[str, str, bool, bool, bool, bool]]) -> list[str]:
    """List what a user lacks, or has and should not, as `lacks UPDATE on kernel_job`; nothing when all is as granted.

    rows: of RIGHTS_OF_THE_USER. A table that is not ours is nobody's business but its owner's: no right is due there.
    """
    wanted, found = grants(), set()
    for table, column, *rights in rows:
        letters = wanted.get(table, {}).get(process, "")
        for verb, is_granted in zip(_VERBS, rights, strict=True):
            limited = columns(table, verb, process)
            is_due = verb in letters and (not limited or column in limited)
            if is_due != is_granted:
                found.add(f"{'lacks' if is_due else 'has'} {_VERBS[verb]} on {table}")
    return sorted(found)

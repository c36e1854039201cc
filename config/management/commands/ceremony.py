# SPDX-License-Identifier: Apache-2.0
"""`manage.py ceremony …`: the operator's ceremonies. Each says what is missing, asks, does it, and can be repeated."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from config.ceremonies import CeremonyRefused, Step
from config.ceremonies import roles as of_roles
from config.ceremonies import tenant_keys as of_tenant_keys
from config.ceremonies.accepted import FirstReading, restored_steps
from config.ceremonies.root import root_of
from config.env import ENV
from config.roles import WRITING_ROLES, RoleKeyMissing
from holdfast.core.base.errors import HoldfastError
from holdfast.core.base.text import written_out
from holdfast.core.log.writers import Role
from hsm.errors import HsmError
from kernel.errors import DomainError
from tenants.models import Tenant

_KEY_ROLES = [*map(str, WRITING_ROLES)]


class Command(BaseCommand):
    help = (
        "Hold a ceremony of the operator. Stop the processes that it names first; the tokens' PINs have to be at hand."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        subcommands = parser.add_subparsers(dest="ceremony", required=True, metavar="CEREMONY")

        def add(name: str, said: str, steps: Callable[..., Iterable[Step]]) -> CommandParser:
            made: CommandParser = subcommands.add_parser(name, help=said, description=said)
            made.add_argument("slug", metavar="SLUG", help="the tenant's short name")
            made.add_argument("--yes", action="store_true", help="do not ask")
            made.set_defaults(steps=steps)
            return made

        said = "Bind tenants' master keys to their tenants: once, for an installation from before."
        bound: CommandParser = subcommands.add_parser("tenant-keys", help=said, description=said)
        bound.add_argument("--yes", action="store_true", help="do not ask")
        bound.add_argument(
            "--restored",
            action="store_true",
            help="a backup from before the upgrade was put back, of the database or of the HSM home: bind what it left",
        )
        bound.set_defaults(steps=_tenant_keys, slug=None)

        roles = add("roles", "Have the tenant root say whose keys write and sign its logs.", _roles)
        roles.add_argument(
            "--key",
            action="append",
            default=[],
            metavar="ROLE=FILE",
            help="a role's public key, as `manage.py role_key` printed it on that role's account",
        )
        roles.add_argument(
            "--end",
            action="append",
            default=[],
            nargs=2,
            metavar=("ROLE", "KID"),
            help="end a key, by its name in hex, at the log's present size; stop its process first",
        )

        for name, said, steps in (
            ("accept-log", "Date an existing log by its own entries, as the officers accepted it.", _accept_log),
            (
                "accept-restored",
                "Go on from a backup that was put back, as the officers accepted it.",
                _accept_restored,
            ),
        ):
            accept = add(name, said, steps)
            accept.add_argument("--resolution", type=Path, help="the officers' resolution, when no row has it")

    def handle(self, *args: Any, **options: Any) -> None:
        if ENV.role != "ceremony":
            raise CommandError("Run it with HOLDFAST_ROLE=ceremony: it opens tokens that no running process opens.")
        tenant = Tenant.objects.filter(slug=options["slug"]).first()
        if tenant is None and options["slug"] is not None:
            raise CommandError(f"There is no tenant {options['slug']}.")
        try:
            self._hold(list(options["steps"](tenant, options)), ask=not options["yes"])
        except (CeremonyRefused, RoleKeyMissing, HoldfastError, DomainError, HsmError) as error:
            raise CommandError(written_out(str(error))) from error

    def _hold(self, steps: list[Step], *, ask: bool) -> None:
        if not steps:
            self.stdout.write("Nothing is missing; nothing was changed.")
            return
        self.stdout.write("This will:")
        for number, step in enumerate(steps, start=1):
            self.stdout.write(written_out(f"  {number}. {step.says}"))
        if ask and input("Go on? Type yes: ").strip() != "yes":
            raise CommandError("Nothing was changed.")
        for number, step in enumerate(steps, start=1):
            report = step.take()
            self.stdout.write(f"  {number}. done")
            for line in report if isinstance(report, list) else ():
                self.stdout.write(written_out(f"     {line}"))


def _roles(tenant: Tenant, options: dict[str, Any]) -> Iterable[Step]:
    given = {}
    for one in options["key"]:
        name, _, path = one.partition("=")
        if name not in _KEY_ROLES or not path:
            raise CeremonyRefused(f"--key {one}: write ROLE=FILE, with a role of {', '.join(_KEY_ROLES)}.")
        given[Role(name)] = of_roles.read_key(Role(name), Path(path))
    ended = []
    for name, kid in options["end"]:
        try:
            ended.append((Role(name), bytes.fromhex(kid)))
        except ValueError:
            raise CeremonyRefused(f"--end {name} {kid}: write a role, and its key's name in hex.") from None
    return of_roles.RolesCeremony(tenant, given=given, ended=ended).steps()


def _tenant_keys(_tenant: Tenant | None, options: dict[str, Any]) -> Iterable[Step]:
    return of_tenant_keys.steps(restored=options["restored"])


def _accept_log(tenant: Tenant, options: dict[str, Any]) -> Iterable[Step]:
    return FirstReading(tenant, root_of(tenant), resolution=options["resolution"]).steps()


def _accept_restored(tenant: Tenant, options: dict[str, Any]) -> Iterable[Step]:
    return restored_steps(tenant, root_of(tenant), resolution=options["resolution"])

# SPDX-License-Identifier: Apache-2.0
"""`manage.py ceremony …`: the operator's ceremonies. Each says what is missing, asks, does it, and can be repeated."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit import access as audit_access
from audit import services as audit
from config.ceremonies import CeremonyRefused, CeremonyUnderWay, Step, installation, only_ceremony, transcript
from config.ceremonies import accounts as of_accounts
from config.ceremonies import end as of_end
from config.ceremonies import escrow_key as of_escrow_key
from config.ceremonies import roles as of_roles
from config.ceremonies import tenant as of_tenant
from config.ceremonies import tenant_keys as of_tenant_keys
from config.ceremonies.accepted import FirstReading, restored_steps
from config.ceremonies.founding import FoundingCeremony
from config.ceremonies.pin import PinChange
from config.ceremonies.root import root_of
from config.database_roles import PROCESSES
from config.env import ENV
from config.hsm import pin_file, take_pins
from config.roles import WRITING_ROLES, RoleKeyMissing
from holdfast.core.base.errors import HoldfastError
from holdfast.core.base.text import written_out
from holdfast.core.crypto.keys import PublicKey
from holdfast.core.identity.policy import SignedPolicy
from holdfast.core.log.writers import Role
from holdfast.files import in_words
from hsm.config import TOKENS, PinDescriptor
from hsm.errors import HsmError
from kernel.actors import system_actor
from kernel.errors import DomainError
from kernel.files import write_durably
from kernel.scope import tenant_scope
from tenants import names
from tenants.models import Tenant
from tenants.states import TenantState

_KEY_ROLES = [*map(str, WRITING_ROLES)]
# How often `found` looks for what people have done meanwhile: they take minutes.
LOOK_EVERY_SECONDS: Final = 5
# What a ceremony is refused for: said in a sentence, without a trace.
_REFUSALS = (CeremonyRefused, RoleKeyMissing, HoldfastError, DomainError, HsmError)


class Command(BaseCommand):
    # What answers in place of the terminal, where another command of ours holds the ceremony.
    stealth_options = ("answer",)
    help = (
        "Hold a ceremony of the operator. Stop the processes that it names first; the tokens' PINs have to be at hand."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        subcommands = parser.add_subparsers(dest="ceremony", required=True, metavar="CEREMONY")

        def plain(name: str, said: str, hold: Callable[..., None]) -> CommandParser:
            made: CommandParser = subcommands.add_parser(name, help=said, description=said)
            made.add_argument("--yes", action="store_true", help="do not ask")
            made.add_argument(
                "--pin-fd",
                action="append",
                default=[],
                metavar="TOKEN=N",
                help="read the token's PIN from this open descriptor; one in no file is asked for at the terminal",
            )
            made.set_defaults(hold=hold)
            return made

        def of_a_tenant(name: str, said: str, hold: Callable[..., None]) -> CommandParser:
            made = plain(name, said, hold)
            made.add_argument("slug", metavar="SLUG", help="the tenant's short name")
            return made

        def existing(name: str, said: str, steps: Callable[..., Iterable[Step]]) -> CommandParser:
            made = of_a_tenant(name, said, self._of_existing)
            made.set_defaults(steps=steps)
            return made

        init = plain("init", "Make the HSM tokens, or pin a vendor's, and the installation's own keys.", self._init)
        init.add_argument(
            "--adopt",
            action="append",
            default=[],
            metavar="TOKEN=SERIAL",
            help=f"a vendor's token by its serial, for each of {', '.join(TOKENS)}",
        )

        made = of_a_tenant("tenant", "Begin a tenant: its root and keys, its first owner, its officers.", self._tenant)
        made.add_argument("--name", default="", help="the tenant's name, as people read it")
        made.add_argument("--owner", default="", metavar="E-MAIL", help="the first owner, who gets a link by mail")
        made.add_argument(
            "--officer",
            action="append",
            default=[],
            metavar="E-MAIL",
            help="an officer: a link by mail, a code in a file",
        )
        made.add_argument("--resend", action="store_true", help="new links for those who have not used theirs")
        made.add_argument("--abandon", action="store_true", help="end the founding for ever")

        said = "Take up what the founders signed: hear them, make the escrow key, publish, let the tenant begin."
        found = of_a_tenant("found", said, self._found)
        found.add_argument("--no-wait", action="store_true", help="say who is waited for, and end")
        found.set_defaults(waits=True)

        existing("escrow-key", "Make the next escrow key, and ask the officers to sign it.", _escrow_key)

        written = plain(
            "transcript", "Sign what the ceremonies did, write it out, and show it to the tenant.", self._transcript
        )
        written.add_argument("slug", metavar="SLUG", nargs="?", help="the tenant's short name")
        written.add_argument("--all", action="store_true", help="of every tenant")
        written.add_argument("--out", type=Path, default=Path(), metavar="DIRECTORY", help="where the files go")

        handed = plain(
            "hand-out", "Give each role's account its own keys and tokens, and nobody else's.", self._hand_out
        )
        handed.add_argument("directory", type=Path, help="where each role has, or gets, a directory of its own")
        handed.add_argument(
            "--account", action="append", default=[], metavar="ROLE=USER", help="a role's account, if not holdfast-ROLE"
        )

        existing("end", "End a tenant whose 30 days are over: destroy its keys.", _end)

        pin = plain("pin", "Change the PIN of a token.", self._pin)
        pin.add_argument("token", choices=TOKENS, metavar="TOKEN", help=", ".join(TOKENS))
        pin.add_argument("--file", type=Path, metavar="FILE", help="where its PIN lies, if not where the settings say")
        pin.add_argument(
            "--new-pin-fd", type=int, metavar="N", help="read the new PIN from this open descriptor; or it is typed"
        )

        said = "Bind tenants' master keys to their tenants: once, for an installation from before."
        bound = plain("tenant-keys", said, self._tenant_keys)
        bound.add_argument(
            "--restored",
            action="store_true",
            help="a backup from before the upgrade was put back, of the database or of the HSM home: bind what it left",
        )

        roles = existing("roles", "Have the tenant root say whose keys write and sign its logs.", _roles)
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
            accept = existing(name, said, steps)
            accept.add_argument("--resolution", type=Path, help="the officers' resolution, when no row has it")

    def handle(self, *args: Any, **options: Any) -> None:
        if ENV.role != "ceremony":
            raise CommandError("Run it with HOLDFAST_ROLE=ceremony: it opens tokens that no running process opens.")
        try:
            files = {options["token"]: options["file"]} if options.get("file") else {}
            take_pins(_numbered("--pin-fd", options["pin_fd"]), files)
            # One that waits for people lets others be held meanwhile.
            with nullcontext() if options.get("waits") else only_ceremony():
                options["hold"](options)
        except _REFUSALS as error:
            raise CommandError(written_out(str(error))) from error
        except OSError as error:
            # A full disk, a directory of another account: what was done before it is done, and found so.
            said = in_words(error)
            raise CommandError(written_out(f"{said} {said.way_out}".strip())) from error
        except EOFError:
            # At whatever it asked: a question, a word, a PIN.
            raise CommandError("It ended where it asks, since nobody answers here. What it said was done is.") from None

    # The ceremonies.

    def _init(self, options: dict[str, Any]) -> None:
        self._take(list(installation.steps(_named("--adopt", options["adopt"]))), options)

    def _tenant(self, options: dict[str, Any]) -> None:
        # As its row has it: by another spelling nothing of it would be found again.
        slug = names.slug(options["slug"])
        if options["abandon"]:
            self._take(list(of_tenant.abandon_steps(slug)), options, slug=slug)
            return
        wanted = of_tenant.Wanted(
            slug=slug,
            name=options["name"],
            owner=options["owner"],
            officers=options["officer"],
            # What SoftHSM makes is for development, and a rehearsal says so on every page.
            is_development=ENV.hsm_softhsm,
            resend=options["resend"],
        )
        self._take(list(of_tenant.TenantCeremony(wanted).steps()), options, slug=slug)
        tenant = self._existing(slug)
        self.stdout.write(
            f"The root of {slug} in words: {' '.join(of_tenant.root_words(tenant, root_of(tenant).public))}"
        )

    def _found(self, options: dict[str, Any]) -> None:
        shown = ""
        while True:
            try:
                with only_ceremony():
                    ceremony = FoundingCeremony(self._existing(options["slug"]))
                    if (now := _table(ceremony)) != shown:
                        shown = now
                        self.stdout.write(written_out(shown, keep="\n"))
                    if self._found_further(ceremony, options):
                        return
            except CeremonyUnderWay:
                # It lets others be held while it waits, and looks again when they have ended. The first look says so.
                if options["no_wait"] or not shown:
                    raise
            if options["no_wait"]:
                return
            time.sleep(LOOK_EVERY_SECONDS)

    def _found_further(self, ceremony: FoundingCeremony, options: dict[str, Any]) -> bool:
        """Do what can be done now, and tell whether the tenant works."""
        signed = None if ceremony.is_done else ceremony.founders_policy()
        if signed is not None:
            self._hear(ceremony, signed, options)
            # What follows becomes possible by what was done before it.
            while steps := list(ceremony.steps(signed)):
                self._take(steps, options, slug=ceremony.slug)
                ceremony.look_again()
        if ceremony.is_done:
            self.stdout.write(f"{ceremony.slug} is founded.")
        return ceremony.is_done

    def _hear(self, ceremony: FoundingCeremony, signed: SignedPolicy, options: dict[str, Any]) -> None:
        hearings = ceremony.hearings(signed)
        if not hearings:
            return
        answer = options.get("answer") or input
        self.stdout.write("Call every officer. Read the root's words out to each:")
        self.stdout.write(f"  {' '.join(ceremony.root_words)}")
        for hearing in hearings:
            places = list(hearing.words)
            asked = f"Words {_listed(places)} of {hearing.person.name} <{hearing.person.email}>, as you hear them: "
            if answer(written_out(asked)).lower().split() != list(hearing.words.values()):
                raise CeremonyRefused(
                    f"These are not the words of {hearing.person.email} for this root and this policy. Nothing was "
                    "signed. Stop: they read another policy or another root than the ones here, or you misheard."
                )

    def _hand_out(self, options: dict[str, Any]) -> None:
        accounts = dict(one.split("=", 1) for one in options["account"] if "=" in one)
        unknown = [one for one in options["account"] if one.partition("=")[0] not in PROCESSES or "=" not in one]
        if unknown:
            raise CeremonyRefused(f"--account {unknown[0]}: write ROLE=USER, with a role of {', '.join(PROCESSES)}.")
        self._take(list(of_accounts.steps(options["directory"], accounts)), options)

    def _pin(self, options: dict[str, Any]) -> None:
        token, given = options["token"], options["new_pin_fd"]
        new = None if given is None else PinDescriptor(given)
        self._take(list(PinChange(token, file=options["file"] or pin_file(token), new=new).steps()), options)

    def _tenant_keys(self, options: dict[str, Any]) -> None:
        self._take(list(of_tenant_keys.steps(restored=options["restored"])), options)

    def _of_existing(self, options: dict[str, Any]) -> None:
        tenant = self._existing(options["slug"])
        self._take(list(options["steps"](tenant, options)), options, slug=tenant.slug)

    def _transcript(self, options: dict[str, Any]) -> None:
        if bool(options["slug"]) == options["all"]:
            raise CeremonyRefused("Name one tenant, or say --all.")
        if options["all"]:
            # One that was killed before its root was made has nothing to sign with.
            chosen = [one for one in Tenant.objects.order_by("slug") if transcript.Transcript(one.pk).read()]
        else:
            chosen = [self._existing(options["slug"])]
        for tenant in chosen:
            root, made = root_of(tenant), transcript.written(tenant)
            said = made.text
            signed = transcript.sign(tenant, root, said)
            for ending, body in (("txt", said.encode()), ("pdf", transcript.pdf(said)), ("signed", signed)):
                path = options["out"] / f"transcript-{tenant.slug}.{ending}"
                write_durably(path, body)
                self.stdout.write(str(path))
            self._publish(tenant, root.public, made, signed)

    def _publish(self, tenant: Tenant, root_key: PublicKey, made: transcript.Written, signed: bytes) -> None:
        """Keep a signed transcript where the tenant's console shows it, unless the newest there says the same."""
        if tenant.state == TenantState.ENDED:
            return  # nobody signs in there any more
        with tenant_scope(tenant.pk):
            if audit_access.newest_roles() is None:
                self.stdout.write(f"Not kept for the console: the founding of {tenant.slug} has not come so far.")
                return
            row = audit.publish_transcript(
                statement=signed,
                text=made.text.encode(),
                lines=(made.installation, made.own),
                root_key=root_key,
                actor=system_actor(tenant.pk, "ceremony"),
            )
        said = "The console shows it" if row else "The console shows it already: no line was added since"
        self.stdout.write(f"{said} ({settings.HOLDFAST_PUBLIC_URL}/console/ceremonies/).")

    def _existing(self, said: str) -> Tenant:
        slug = names.slug(said)
        tenant = of_tenant.tenant_row(slug)
        if tenant is None:
            raise CeremonyRefused(f"There is no tenant {slug}.")
        return tenant

    def _take(self, steps: Sequence[Step], options: dict[str, Any], *, slug: str = "") -> None:
        """Say what is missing, ask, and do it, each step with its line in the transcript."""
        if not steps:
            self.stdout.write("Nothing is missing; nothing was changed.")
            return
        self.stdout.write("This will:")
        for number, step in enumerate(steps, start=1):
            self.stdout.write(written_out(f"  {number}. {step.says}"))
        if not options["yes"] and input("Go on? Type yes: ").strip() != "yes":
            raise CommandError("Nothing was changed.")
        for number, step in enumerate(steps, start=1):
            report = step.take()
            told = [str(line) for line in report] if isinstance(report, list) else []
            tenant_id = _tenant_id(slug)
            transcript.Transcript(tenant_id).write(options["ceremony"], step.says, () if step.is_private else told)
            self.stdout.write(f"  {number}. done")
            for line in told:
                self.stdout.write(written_out(f"     {line}"))


def _table(ceremony: FoundingCeremony) -> str:
    """Say who is waited for, a line for each officer of the proposed roster."""
    rows = ceremony.waited_for()
    if not rows:
        return "" if ceremony.is_done else "Waiting for an owner or officer to propose the policy."
    lines = [f"{'officer':<40} {'policy':<10} escrow key"]
    for row in rows:
        policy, key = ("signed" if done else "waited for" for done in (row.policy, row.escrow_key))
        lines.append(f"{row.person.email:<40} {policy:<10} {key}")
    return "\n".join(lines)


def _listed(places: Sequence[int]) -> str:
    *first, last = map(str, places)
    return f"{', '.join(first)} and {last}"


def _tenant_id(slug: str) -> UUID | None:
    tenant = of_tenant.tenant_row(slug) if slug else None
    return tenant.pk if tenant else None


def _named(option: str, given: Iterable[str]) -> dict[str, str]:
    """Read TOKEN=VALUE of an option, each token once. Raises CeremonyRefused."""
    found: dict[str, str] = {}
    for one in given:
        name, _, value = one.partition("=")
        if name not in TOKENS or not value or name in found:
            raise CeremonyRefused(f"{option} {one}: write TOKEN=VALUE, once for each of {', '.join(TOKENS)}.")
        found[name] = value
    return found


def _numbered(option: str, given: Iterable[str]) -> dict[str, int]:
    named = _named(option, given)
    wrong = [f"{name}={value}" for name, value in named.items() if not value.isascii() or not value.isdigit()]
    if wrong:
        raise CeremonyRefused(f"{option} {wrong[0]}: write the number of an open descriptor.")
    return {name: int(value) for name, value in named.items()}


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


def _end(tenant: Tenant, options: dict[str, Any]) -> Iterable[Step]:
    return of_end.steps(tenant)


def _escrow_key(tenant: Tenant, _options: dict[str, Any]) -> Iterable[Step]:
    return of_escrow_key.steps(tenant)


def _accept_log(tenant: Tenant, options: dict[str, Any]) -> Iterable[Step]:
    return FirstReading(tenant, root_of(tenant), resolution=options["resolution"]).steps()


def _accept_restored(tenant: Tenant, options: dict[str, Any]) -> Iterable[Step]:
    return restored_steps(tenant, root_of(tenant), resolution=options["resolution"])

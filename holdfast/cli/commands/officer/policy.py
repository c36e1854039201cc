# SPDX-License-Identifier: Apache-2.0
"""`holdfast officer policy` and `holdfast officer key`: the next policy version proposed, read, heard and signed.

Implements ESCROW "Policy and officers" at the officer's keyboard: all that is signed is shown in words before it is
asked for. Does not believe the server's summary; its word on people is shown last and in quotes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from holdfast.cli.asking import Yes
from holdfast.cli.exits import Exit
from holdfast.cli.given import text_file
from holdfast.cli.hearing import ask_words, parse_word
from holdfast.cli.later import later
from holdfast.cli.page import command, group
from holdfast.cli.people import PERSON, named, person
from holdfast.cli.shell import Shell, date, day, numbered, plain, quoted, shell_of, shown

if TYPE_CHECKING:
    from holdfast.client.officers.proposals import KeyProposal, Proposal
    from holdfast.client.profile.account import Account
    from holdfast.core.identity.policy import Officer

with later():
    from holdfast.client.officers import answers as policy_answers
    from holdfast.client.officers import hearing, officer_keys, proposals, whole_policy
    from holdfast.core.identity import policy as policies
    from holdfast.core.identity import policy_change

policy = group(text="The next policy, and your signature on it.")
key = group(text="The escrow key that a ceremony made.")

_NOT_SAID: Final = "nobody said yes: nothing was signed"
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SPAN: Final = re.compile(r"(\d{1,9})([smhd])", re.ASCII)
_GIVEN_UP: Final = re.compile(r"(\d{1,15}):([0-9a-f]{64})", re.ASCII)
_SPAN_HELP: Final = "As 90m, 48h or 14d."


class From(StrEnum):
    """Where approvals may come from."""

    CLI = "cli"
    ANY = "any"


class Rule(StrEnum):
    """Which generations are deposited."""

    OPTIONAL = "optional"
    FROM_CONSENT = "from-consent"
    ALL = "all"


Name = Annotated[
    str,
    typer.Argument(
        metavar="[HASH]", help="The first four or more hex digits of its hash; left out when only one is open."
    ),
]
Heard = Annotated[
    list[str] | None,
    typer.Option(
        "--word",
        help="A word as heard, with the number of the person's row and the place: 4:3=apple. Asked for when left out.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add these commands to `holdfast officer`."""
    app.add_typer(policy, name="policy")
    app.add_typer(key, name="key")


@command(
    policy,
    "show",
    examples=[
        ("holdfast officer policy show", "Read what is proposed, and who has signed."),
        ("holdfast officer policy show --all", "And what was published, replaced, taken back or has expired."),
    ],
)
def show(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="Also those that are not open any more.")] = False,
) -> None:
    """List proposed policies: what each changes.

    Says from when, which guards it lowers, who signed, and until when the rest can.

    All of it is read from the proposed bytes themselves, over the versions that your pin leads to. Where a row of it is
    yours and new, your eight words are shown: read those out that the others ask you for.

    With --json, policy is the newest version as a whole, and so is policy of each proposal: what propose --file takes.
    """
    shell = shell_of(context)
    with shell.account() as account:
        found = proposals.list_proposals(account, everything=everything)
        lines = [line for one in found for line in _lines(account, one)]
        documents = [_document(account, one) for one in found]
        newest = whole_policy.document(account.trusted.newest.policy) if account.policies else None
    shell.show({"policy": newest, "proposals": documents}, *lines, *([] if found else ["No policy is proposed."]))


@command(
    policy,
    "propose",
    asks="a yes, unless --yes is given.",
    changes="the officers who have to sign it are told, and nothing else until enough of them have signed.",
    exits={
        Exit.ASK_PERSON: "nobody said yes: nothing was sent",
        Exit.REFUSED: "it cannot be published so, another version came first, or you have proposed too many",
    },
    examples=[
        (
            "holdfast officer policy propose --add 3f2b8c1e-1c1b-4a53-8f0a-6f2d1c9e7a11",
            "Take in one more officer, or give one of the roster the keys that they have now.",
        ),
        ("holdfast officer policy propose --officer grace.json", "The same, by a file with the public keys."),
        ("holdfast officer policy propose --remove 2 --m 2", "Take officer 2 off the roster."),
        ("holdfast officer policy propose --delay 48h --cooling-off 7d", "Change terms."),
        (
            "holdfast officer policy show --json > next.json",
            "Write the newest version into a file, to edit its policy.",
        ),
        ("holdfast officer policy propose --file next.json", "Propose the policy in the file."),
    ],
)
def propose(  # noqa: PLR0917 — options by name, for typer
    context: typer.Context,
    m: Annotated[int | None, typer.Option("--m", help="How many officers have to approve.", min=2, max=15)] = None,
    officer: Annotated[
        list[Path] | None,
        typer.Option(
            help="A file with the public keys that holdfast officer init --json printed: a new officer, or other keys "
            "of one of the roster."
        ),
    ] = None,
    add: Annotated[
        list[str] | None,
        typer.Option(
            metavar=PERSON,
            parser=named,
            help="A person, by id or e-mail address, with the officer's keys that their own account states: a new "
            "officer, or other keys of one.",
        ),
    ] = None,
    remove: Annotated[
        list[str] | None,
        typer.Option(metavar="OFFICER", help="An officer to take out, by number, id or e-mail address."),
    ] = None,
    delay: Annotated[str | None, typer.Option(help=f"From quorum to release. {_SPAN_HELP}")] = None,
    notice_delay: Annotated[str | None, typer.Option(help=f"How late a subject may be told. {_SPAN_HELP}")] = None,
    cooling_off: Annotated[
        str | None, typer.Option(help=f"Before a new officer counts and a lowered guard holds. {_SPAN_HELP}")
    ] = None,
    undelivered_delay: Annotated[
        str | None, typer.Option(help=f"Instead of the delay when notice fails. {_SPAN_HELP}")
    ] = None,
    purpose: Annotated[
        list[str] | None, typer.Option(help="What a case may be opened for: all of them, one option each.")
    ] = None,
    approve_with: Annotated[From | None, typer.Option(help="Where approvals may come from.")] = None,
    deposits: Annotated[Rule | None, typer.Option(help="Which generations are deposited.")] = None,
    consent_binds: Annotated[
        str | None,
        typer.Option(
            metavar="SPAN|while-it-stands",
            help="For how long a yes cannot be taken back; 0s for not at all. " + _SPAN_HELP,
        ),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(help='What to tell members, in a box below the consent: one paragraph; "" for nothing any more.'),
    ] = None,
    ends_in: Annotated[str, typer.Option(help=f"When the version runs out; never when left out. {_SPAN_HELP}")] = "",
    give_up: Annotated[
        str,
        typer.Option(
            metavar="NUMBER:ROOT",
            help="Deposits that nobody could ever release under it, exactly as a refusal named them.",
        ),
    ] = "",
    release_keys: Annotated[
        Path | None,
        typer.Option(help="A file with the release process's signing_key and sealing_key, in JSON and hexadecimal."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help="A JSON file with the whole policy, as holdfast officer policy show --json prints it. No other option "
            "stands beside it but --give-up."
        ),
    ] = None,
    yes: Yes = False,
) -> None:
    """Propose the next policy version.

    It is the newest version, but for what the options change. Nothing changes until m officers of that version, and m
    of the one in force, have signed: you as well, by holdfast officer policy sign. The first version names everything,
    is signed by all its officers, and is published by the operator's ceremony.

    Whoever gets a new row reads eight words to you and to the other officers, from holdfast officer policy show on
    their own machine. A version under which deposits could be released no more is refused, and says how many.
    """
    shell = shell_of(context)
    given = proposals.Wanted(
        m=m,
        rows=[proposals.row_of(text_file(path)) for path in officer or ()],
        remove=remove or (),
        delay=_span(delay, "--delay"),
        max_notice_delay=_span(notice_delay, "--notice-delay"),
        cooling_off=_span(cooling_off, "--cooling-off"),
        undelivered_delay=_span(undelivered_delay, "--undelivered-delay"),
        purposes=frozenset(purpose) if purpose else None,
        approve_with=None if approve_with is None else policies.ApproveWith[approve_with.name],
        deposits=None if deposits is None else policies.DepositRule[deposits.name],
        consent_binds=policies.NEVER
        if consent_binds == whole_policy.FOR_EVER
        else _span(consent_binds, "--consent-binds"),
        text=text,
        ends_in=_span(ends_in or None, "--ends-in") or 0,
        release_keys=proposals.release_keys_of(text_file(release_keys)) if release_keys else None,
    )
    wanted = given
    if file is not None:
        if given != proposals.Wanted(rows=[]) or add:
            raise typer.BadParameter(
                "the file says the whole policy: give no other option but --give-up", param_hint="--file"
            )
        wanted = whole_policy.read(text_file(file))
    wanted = replace(wanted, given_up=_given_up(give_up))
    with shell.account() as account:
        added = [person(shell, account, who, is_trusted=True) for who in add or ()]
        rows = [*wanted.rows, *(proposals.stated_row(account, one) for one in added)]
        made = proposals.draft(account, replace(wanted, rows=rows))
        shell.note("You are about to propose:")
        for line in _change_lines(account, made):
            shell.note(line)
        shell.confirm("Propose this to the officers?", is_given=yes)
        made = proposals.submit(account, made)
        document = _document(account, made)
    shell.show(
        document,
        f"[bold green]✓[/] Proposed as {made.hash.hex()[:8]}. {made.missing} signatures are needed.",
        *_touched(made),
        f"  You and the other officers run: holdfast officer policy sign {made.hash.hex()[:8]}",
    )


@command(
    policy,
    "sign",
    asks="three words of every new row's person, as they read them to you; then a yes.",
    changes="your signature counts; the last one that is needed publishes the version.",
    exits={
        Exit.ASK_PERSON: "a word is wrong or missing, or nobody said yes: nothing was signed",
        Exit.REFUSED: "you are not asked, do not count as an officer now, or the proposal is over",
        Exit.UNTRUSTED: "the proposal is not what it says, or holds keys in your row that are not yours",
    },
    examples=[
        ("holdfast officer policy sign", "Read the open proposal, hear the new officers, sign."),
        (
            "holdfast officer policy sign 3fa9c2e1 --json --word 4:2=apple --word 4:5=river --word 4:8=stone --yes",
            "The same in a script, for a proposal whose fourth row is new.",
        ),
    ],
)
def add_signature(context: typer.Context, prefix: Name = "", word: Heard = None, yes: Yes = False) -> None:
    """Sign a proposed policy, after hearing its new officers.

    Call each person whose row is new, at a number that you know, and have the three words read to you that this profile
    asks for. They stand for the person's keys and for the whole proposal. No screen of yours shows them, so that nobody
    can put keys of their own into another's row.

    Speak with the officers first: your signature may be the last that is needed.
    """
    shell = shell_of(context)
    with shell.account() as account:
        proposal = proposals.find_proposal(account, prefix)
        proposals.require_own_row(account, proposal)
        unstated = proposals.require_stated(account, proposal)
        if not shell.is_json:
            shell.note("You are about to sign:")
            for line in _lines(account, proposal):
                shell.note(line)
            for one in unstated:
                shell.note(
                    f"  [bold yellow]No statement of officer {one.index}'s account bears their keys out: only what you "
                    "hear does.[/]"
                )
        given = _by_row(word or ())
        heard = {
            one.person: _heard(shell, account, proposal, one, given) for one in proposals.to_hear(account, proposal)
        }
        shell.confirm("Sign this policy?", is_given=yes)
        done = proposals.sign_proposal(account, proposal, heard=heard)
    shell.show(
        {"hash": proposal.hash.hex(), "version": proposal.policy.version, "state": done.state, "missing": done.missing},
        f"[bold green]✓[/] You signed. {_done(proposal, done)}",
    )


def _done(proposal: Proposal, done: proposals.Signed) -> str:
    if done.state == "published":
        return f"Version {proposal.policy.version} is published."
    if done.missing:
        return f"{done.missing} more {'is' if done.missing == 1 else 'are'} needed."
    return "All have signed: the operator's ceremony publishes it."


@command(
    policy,
    "cancel",
    asks="a yes, unless --yes is given.",
    changes="nobody can sign the proposal any more.",
    exits={Exit.ASK_PERSON: "nobody said yes: nothing was changed", Exit.REFUSED: "it is another's, or over"},
    examples=[("holdfast officer policy cancel 3fa9c2e1", "Take back what you proposed.")],
)
def cancel(context: typer.Context, prefix: Name = "", yes: Yes = False) -> None:
    """Take back a policy that you proposed.

    A version that is published and waits is withdrawn by officers together: holdfast officer resolve withdraw-version.
    """
    shell = shell_of(context)
    with shell.account() as account:
        proposal = proposals.find_proposal(account, prefix)
        shell.confirm(f"Take back the proposal {proposal.hash.hex()[:8]}?", is_given=yes)
        proposals.cancel(account, proposal)
    shell.show({"hash": proposal.hash.hex(), "state": "withdrawn"}, "[bold green]✓[/] The proposal is taken back.")


@command(
    policy,
    "answers",
    examples=[("holdfast officer policy answers", "See who has agreed to the newest version, and who never answered.")],
)
def answers(context: typer.Context) -> None:
    """Say who has answered the newest policy.

    Each person was told once, by mail and on their devices. Whoever has not answered keeps what is in escrow under the
    version before; keys made since are not in escrow.
    """
    shell = shell_of(context)
    with shell.account() as account:
        found = policy_answers.read(account)
    shell.show(
        {
            "version": found.version,
            "until": found.until,
            "people": found.people,
            "agreed": found.agreed,
            "refused": found.refused,
            "older": found.older,
            "none": found.none,
            "answers": [{"person_id": one.person_id, "answer": one.answer, "at": one.at} for one in found.answers],
        },
        f"Version {found.version}, by the server's word: {found.agreed} of {found.people} people agreed, "
        f"{found.refused} refused, {found.older} answered an older version, {found.none} never did.",
        f"They were asked to answer until {day(found.until)}.",
        *(
            f"  {one.person_id}  {_ANSWERS[one.answer]:<24} {quoted(one.name)}"
            for one in found.answers
            if one.answer != "agreed"
        ),
    )


_ANSWERS: Final = {
    "agreed": "agreed",
    "refused": "refused",
    "older": "answered an older version",
    "none": "never answered",
}


@command(
    key,
    "sign",
    asks="a yes, unless --yes is given.",
    changes="your signature counts; the last one that is needed publishes the escrow key.",
    exits={
        Exit.ASK_PERSON: _NOT_SAID,
        Exit.UNTRUSTED: "the pinned root has not signed it, or it follows another key than the known one",
    },
    examples=[("holdfast officer key sign", "Compare the key's words with the ceremony's, then sign.")],
)
def sign_key(
    context: typer.Context,
    prefix: Annotated[str, typer.Argument(metavar="[HASH]", help="The beginning of its hash, of several.")] = "",
    yes: Yes = False,
) -> None:
    """Sign an escrow key that a ceremony made.

    Only a key that the tenant's pinned root has signed is shown. Have the operator read the eight words to you, from
    the ceremony's screen: what is deposited from then on is sealed to this key.
    """
    shell = shell_of(context)
    with shell.account() as account:
        proposal = proposals.find_key(account, prefix)
        shell.note("You are about to sign an escrow key:")
        for line in _key_lines(proposal):
            shell.note(line)
        shell.confirm("Are these the words of the ceremony, and do you sign?", is_given=yes)
        done = proposals.sign_key(account, proposal)
    shell.show(
        {"hash": proposal.hash.hex(), "words": list(proposal.words), "state": done.state, "missing": done.missing},
        "[bold green]✓[/] You signed. The escrow key is published."
        if done.state == "published"
        else f"[bold green]✓[/] You signed. {done.missing} more needed.",
    )


def _key_lines(proposal: KeyProposal) -> list[str]:
    made = proposal.key
    return [
        f"  Words:   {shown(proposal.words)}",
        f"  Key:     version {made.version}, {made.algorithm}, made {date(made.header.issued_at)}",
        f"  Ends:    {day(made.header.expires_at) if made.header.expires_at else 'never'}",
        f"  Policy:  version {proposal.policy.policy.version}",
        "  The pinned root has signed it.",
    ]


# What is shown


def _lines(account: Account, proposal: Proposal) -> list[str]:
    signers = [f"officer {one.index}{' (you)' if one.person == account.user else ''}" for one in proposal.signers]
    return [
        f"[bold]{proposal.hash.hex()[:8]}[/]  policy version {proposal.policy.version}, {_state(proposal)}",
        *_change_lines(account, proposal),
        f"  Signed:  {', '.join(signers) or 'nobody yet'}",
        *_own_lines(account, proposal),
        *_told_lines(proposal),
    ]


def _state(proposal: Proposal) -> str:
    if proposal.is_undone:
        return "published, and withdrawn by officers since"
    if proposal.state != "open":
        return f"{quoted(proposal.state)} by the server's word"
    needs = f"{proposal.missing} more to sign" if proposal.missing else "signed by all"
    return f"{needs}, until {date(proposal.ends_at, '%Y-%m-%d %H:%M UTC')}"


def _change_lines(account: Account, proposal: Proposal) -> list[str]:
    change = proposal.change
    lines = [f"  {plain(line)}" for line in policy_change.in_words(change, at=account.api.clock.now())]
    if change.lowered or proposal.policy.given_up:
        lines[-1] = f"[bold yellow]{lines[-1]}[/]"
    if change.before is None or change.before.terms.text != change.after.terms.text:
        lines += [f"  {plain(line)}" for line in policy_change.text_box(change.after.terms)]
    leaves = any(one.person == account.user for one in change.left)
    return [*lines, *(["  [yellow]You go by it. With your own signature you go at once.[/]"] if leaves else [])]


def _own_lines(account: Account, proposal: Proposal) -> list[str]:
    if proposal.state != "open" or not officer_keys.has_keys(account):
        return []
    words = proposals.own_words(account, proposal)
    rows = [f"    {line}" for line in numbered(words)]
    return ["  Your words for it, to read out to the other officers who call you:", *rows] if words else []


def _told_lines(proposal: Proposal) -> list[str]:
    """The server's word on the people of new rows, in quotes: who was made and promoted by whom shows here."""
    lines = [
        f"  The server says of officer {one.index}: {quoted(told.name)}, known since {day(told.since)}, "
        f"{_let_in(told.let_in_by)}."
        for one in proposal.change.fresh
        if (told := proposal.told.get(one.person)) is not None
    ]
    return [
        *lines,
        *_touched(proposal),
        *([f"  The server says it was proposed by {proposal.proposer}."] if proposal.proposer else []),
    ]


def _touched(proposal: Proposal) -> list[str]:
    if proposal.touches < 0:
        return []
    return [f"  The server says: it changes for {proposal.touches} deposits who, or how many, could release them."]


def _let_in(people: Sequence[object]) -> str:
    return f"let in by {', '.join(map(str, people))}" if people else "let in by nobody within 90 days"


def _document(account: Account, proposal: Proposal) -> dict[str, object]:
    change = proposal.change
    words = (
        proposals.own_words(account, proposal) if proposal.state == "open" and officer_keys.has_keys(account) else ()
    )
    return {
        "hash": proposal.hash.hex(),
        "version": proposal.policy.version,
        "state": proposal.state,
        "missing": proposal.missing,
        "m": proposal.policy.m,
        "n": proposal.policy.n,
        "policy": whole_policy.document(proposal.policy),
        "changes": policy_change.in_words(change, at=account.api.clock.now()),
        "lowers": list(change.lowered),
        "in_force_from": change.in_force_from,
        "given_up": proposal.policy.given_up.number if proposal.policy.given_up else 0,
        "touches": proposal.touches,
        "signed_by": [one.index for one in proposal.signers],
        "new_rows": [one.index for one in change.fresh],
        "own_words": list(words),
        "ends_at": proposal.ends_at,
    }


# What is asked


def _heard(
    shell: Shell, account: Account, proposal: Proposal, officer: Officer, given: dict[int, dict[int, str]]
) -> dict[int, str]:
    if officer.index in given:
        return given[officer.index]
    places = proposals.asked(account, proposal, officer)
    if not shell.has_person():
        raise hearing.needed(places, row=officer.index)
    return ask_words(shell, places, whom=f"the person of row {officer.index}")


def _by_row(words: Sequence[str]) -> dict[int, dict[int, str]]:
    found: dict[int, dict[int, str]] = {}
    for text in words:
        row, sign, rest = text.partition(":")
        if not (sign and row.isascii() and row.isdigit()):
            raise typer.BadParameter("a row, a place and a word, as 4:3=apple", param_hint="--word")
        place, word = parse_word(rest)
        found.setdefault(int(row), {})[place] = word
    return found


def _span(text: str | None, option: str) -> int | None:
    if text is None:
        return None
    found = _SPAN.fullmatch(text)
    if found is None:
        raise typer.BadParameter("a number and its unit, as 90m, 48h or 14d", param_hint=option)
    return int(found[1]) * _SECONDS[found[2]]


def _given_up(text: str) -> policies.GivenUp | None:
    if not text:
        return None
    found = _GIVEN_UP.fullmatch(text)
    if found is None:
        raise typer.BadParameter("a number and 64 hex digits, as the refusal named them", param_hint="--give-up")
    return policies.GivenUp(int(found[1]), bytes.fromhex(found[2]))

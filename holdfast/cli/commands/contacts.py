# SPDX-License-Identifier: Apache-2.0
"""`holdfast contacts`: the people one writes to, how to make sure of them, and what one keeps for them.

Implements PROTOCOL sections 5 and 6 for peers at the keyboard: after a re-genesis a human confirms, never a program.
Does not show what is not verified.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final
from uuid import UUID

import typer

from holdfast.cli.asking import Yes
from holdfast.cli.commands.chain import document, lines
from holdfast.cli.exits import Exit
from holdfast.cli.later import later
from holdfast.cli.page import command, group
from holdfast.cli.people import PERSON, named, person
from holdfast.cli.shell import day, one_word, plain, shell_of, shown

if TYPE_CHECKING:
    from holdfast.client.identity.contacts import KnownContact

with later():
    from holdfast.client.identity import addresses, contacts
    from holdfast.client.messages import letters
    from holdfast.client.vault import share_requests, trusted

app = group()

_PEER: Final = "3f2b8c1e-1c1b-4a53-8f0a-6f2d1c9e7a11"
_REQUEST: Final = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
Person = Annotated[str, typer.Argument(metavar=PERSON, parser=named, help="The contact: their id or e-mail address.")]
Request = Annotated[UUID, typer.Argument(help="The request.")]


@command(app, "list", online=False, examples=[("holdfast contacts list", "See whom this profile knows.")])
def list_contacts(context: typer.Context) -> None:
    """List the people this profile has met, and what it knows of each. Works without the server.

    verified: you compared safety numbers, and the account has not begun again since. anchored: what the server shows of
    the person is in the log that everybody sees.
    """
    shell = shell_of(context)
    with shell.account(online=False) as account:
        found = contacts.list_contacts(account)
    shell.show(
        {"contacts": [_known(contact) for contact in found]},
        *(line for contact in found for line in _lines(contact)),
        *(["Nobody yet."] if not found else []),
    )


def _known(contact: KnownContact) -> dict[str, object]:
    return {
        "user_id": contact.user,
        "identity_words": list(contacts.identity_words(contact.state)),
        "devices": len(contact.state.devices),
        "verified": contact.is_verified,
        "waiting": contact.is_waiting,
        "anchor": contact.anchor.value,
    }


def _lines(contact: KnownContact) -> list[str]:
    mark = "[bold red]![/]" if contact.is_waiting else "[bold green]✓[/]" if contact.is_verified else "○"
    standing = (
        "began again: holdfast contacts confirm"
        if contact.is_waiting
        else "verified"
        if contact.is_verified
        else "not compared"
    )
    return [
        f"{mark} {contact.user}  {standing}, {contact.anchor.value}",
        f"    {shown(contacts.identity_words(contact.state))}",
    ]


@command(
    app,
    "show",
    changes="this profile pins a person it has not met before.",
    exits={Exit.ASK_PERSON: "the person's account was begun again: holdfast contacts confirm"},
    examples=[
        (f"holdfast contacts show {_PEER}", "Show the safety number, to compare it by voice."),
        ("holdfast contacts show bob@acme.test", "The same, of whoever has this address in your organisation."),
    ],
)
def show(context: typer.Context, user_id: Person) -> None:
    """Show a person's account, and your safety number.

    Compare the twelve groups of five digits by voice or side by side. If they are the same, nobody stands between you;
    then say so with holdfast contacts verify.
    """
    shell = shell_of(context)
    with shell.account() as account, shell.working("Fetching"):
        user = person(shell, account, user_id).bytes
        state = contacts.refresh(account, user)
        number = contacts.safety_number(account, user)
        is_verified = bool(account.state.contacts[user].verified)
    shell.show(
        {**document(state), "safety_number": list(number), "verified": is_verified},
        *lines(state),
        f"  Safety number: [bold]{' '.join(number[:6])}[/]",
        f"                 [bold]{' '.join(number[6:])}[/]  ({'verified' if is_verified else 'not compared yet'})",
    )


@command(
    app,
    "verify",
    asks="the safety number as the person reads it to you, unless --number gives it.",
    changes="this profile remembers that you compared.",
    exits={Exit.ASK_PERSON: "this is not the number seen here: somebody may stand between you"},
    examples=[(f"holdfast contacts verify {_PEER}", "Type the number as you hear it.")],
)
def verify(
    context: typer.Context,
    user_id: Person,
    number: Annotated[str | None, typer.Option(help="The 12 groups of five digits, in quotes.")] = None,
) -> None:
    """Say that the safety number was the same.

    The command asks for the number and does not show it, so that nobody confirms by pressing a key. The mark stays when
    the person rotates keys, and is gone when their account begins again.
    """
    shell = shell_of(context)
    typed = number if number is not None else shell.ask("The safety number, as the person reads it", option="--number")
    with shell.account() as account, shell.working("Comparing"):
        user = person(shell, account, user_id)
        state = contacts.verify(account, user.bytes, number=[typed])
    shell.show({**document(state), "verified": True}, f"[bold green]✓[/] {user} is verified.")


@command(
    app,
    "confirm",
    asks="the 8 words of the contact's new key, as you hear them from the person, unless --words gives them.",
    changes="whom you trust: this profile takes the contact's new key from now on.",
    exits={Exit.ASK_PERSON: "these are not the words of the new key: trust nothing under it, and tell your officers"},
    examples=[(f"holdfast contacts confirm {_PEER}", "Ask for the words, then confirm.")],
)
def confirm(
    context: typer.Context,
    user_id: Person,
    words: Annotated[
        str | None, typer.Option(help="The 8 words of the contact's new key, as heard from the person.")
    ] = None,
) -> None:
    """Trust a contact again whose account was begun again.

    After a recovery through officers an account has a new key, and nothing of the old one vouches for it. Until you say
    otherwise, it belongs to another person. Call the person, and have the words of the new key read to you. Do not take
    them from a message.
    """
    shell = shell_of(context)
    typed = words if words is not None else shell.ask("The 8 words, as the person reads them to you", option="--words")
    with shell.account() as account:
        user = person(shell, account, user_id)
        state = contacts.confirm(account, user.bytes, words=(typed,))
    shell.show(document(state), f"[bold green]✓[/] You trust {user} again, under a new key.", *lines(state))


@command(app, "pinned", online=False, examples=[("holdfast contacts pinned", "See who is who by address.")])
def list_addresses(context: typer.Context) -> None:
    """List the e-mail addresses looked up, and whom each is of.

    An address stays with the person whom it first named to this profile. Works without the server.
    """
    shell = shell_of(context)
    with shell.account(online=False) as account:
        pinned = addresses.list_pinned(account)
    shell.show(
        {"addresses": [{"address": address, "user_id": user} for address, user in pinned.items()]},
        *(f"{user}  {plain(address)}" for address, user in pinned.items()),
        *(["None yet."] if not pinned else []),
    )


@command(
    app,
    "forget",
    asks="a yes, unless --yes is given.",
    changes="the next answer of your organisation's server for this address is taken.",
    online=False,
    exits={Exit.ASK_PERSON: "nobody said yes", Exit.INPUT: "the address is pinned to nobody"},
    examples=[("holdfast contacts forget bob@acme.test", "The address has another owner, and you know it.")],
)
def forget(
    context: typer.Context,
    address: Annotated[str, typer.Argument(help="The e-mail address.")],
    yes: Yes = False,
) -> None:
    """Forget whom an e-mail address is pinned to.

    An address stays with the person whom it first named here, so that no server can put somebody else in their place.
    Do this only when you have heard, not from the server, that the address has changed hands. What you know of the
    person themselves stays.
    """
    shell = shell_of(context)
    shell.confirm(f"Take another person for {plain(address)}, if the server names one?", is_given=yes)
    with shell.account(online=False) as account:
        addresses.forget(account, address)
    shell.show({"address": address}, f"[bold green]✓[/] {plain(address)} is asked for anew when you next name it.")


@command(
    app,
    "held",
    changes="takes the shares that have come for you.",
    examples=[("holdfast contacts held", "See for whom you keep a share.")],
)
def held(context: typer.Context) -> None:
    """List the people whose recovery share you keep.

    One share says nothing about them. When one of them calls you after losing everything: holdfast contacts give.
    """
    shell = shell_of(context)
    with shell.account() as account, shell.working("Fetching"):
        letters.fetch(account)
        found = trusted.take_shares(account)
    shell.show(
        {
            "shares": [
                {"owner": UUID(bytes=share.owner), "needed": share.k, "of": share.n, "made_at": share.made_at,
                 "current": share.is_current}
                for share in found
            ]
        },
        *(
            f"{UUID(bytes=share.owner)}  {share.k} of {share.n} needed, since {day(share.made_at)}"
            + ("" if share.is_current else "  (not the newest)")
            for share in found
        ),
        *(["You keep nobody's share."] if not found else []),
    )  # fmt: skip


@command(app, "requests", examples=[("holdfast contacts requests", "See who asks for a share, also in your own name.")])
def requests(context: typer.Context) -> None:
    """List who asks for shares, also in your own name.

    A request in your own name that you did not make is somebody else's attempt to become you: holdfast contacts veto.
    """
    shell = shell_of(context)
    with shell.account() as account:
        asked, own = share_requests.list_requests(account), share_requests.requests(account)
    shell.show(
        {
            "of_you": [
                {"request_id": request.request_id, "owner": UUID(bytes=request.owner), "state": request.state,
                 "expires_at": request.expires_at, "you_hold_the_share": request.holds_share}
                for request in asked
            ],
            "in_your_name": [
                {"request_id": request.request_id, "device": UUID(bytes=request.device), "state": request.state,
                 "answered": request.answered, "not_before": request.not_before, "expires_at": request.expires_at}
                for request in own
            ],
        },
        *(
            f"{request.request_id}  {one_word(request.state):<9} {UUID(bytes=request.owner)} asks for your share"
            for request in asked
        ),
        *(
            f"{request.request_id}  {one_word(request.state):<9} "
            f"[bold yellow]device {UUID(bytes=request.device)} asks in your name[/], {request.answered} answered"
            for request in own
        ),
        *(["Nobody asks."] if not asked and not own else []),
    )  # fmt: skip


@command(
    app,
    "give",
    asks="the code, six groups of five digits, as the person reads it to you, unless --code-heard gives it.",
    changes="the device that asks gets your share, sealed to it alone.",
    exits={Exit.ASK_PERSON: "these are not the digits of the request: somebody else asks in that name"},
    examples=[(f"holdfast contacts give {_REQUEST}", "Type the code as you hear it.")],
)
def give(
    context: typer.Context,
    request_id: Request,
    code_heard: Annotated[str | None, typer.Option(help="The six groups of five digits, in quotes.")] = None,
) -> None:
    """Give somebody the share that you keep for them.

    First speak with the person: by a call at a number that you know, or face to face, and be sure that you recognise
    them. Whoever gets enough shares becomes them. Do not take the digits from a message.
    """
    shell = shell_of(context)
    typed = (
        code_heard
        if code_heard is not None
        else shell.ask("The code, as the person reads it to you", option="--code-heard")
    )
    with shell.account() as account, shell.working("Giving the share"):
        share_requests.give(account, request_id, code=[typed])
    shell.show({"request_id": request_id}, "[bold green]✓[/] Your share is on its way to that device.")


@command(
    app,
    "veto",
    asks="a yes, unless --yes is given.",
    changes="that request hands out no share any more.",
    exits={Exit.ASK_PERSON: "nobody said yes"},
    examples=[(f"holdfast contacts veto {_REQUEST}", "Stop a request in your name that you did not make.")],
)
def veto(context: typer.Context, request_id: Request, yes: Yes = False) -> None:
    """Stop a request for shares in your own name.

    You can do this from any device of yours, until the shares are collected."""
    shell = shell_of(context)
    shell.confirm("Stop this request?", is_given=yes)
    with shell.account() as account:
        share_requests.veto(account, request_id)
    shell.show({"request_id": request_id, "state": "vetoed"}, "[bold green]✓[/] It is stopped. Tell your officers.")

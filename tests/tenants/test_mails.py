# SPDX-License-Identifier: Apache-2.0
"""Mails over a real SMTP server: both parts, escaping, headers, a server that is away or refuses, links kept nowhere.

What a notice of a recovery case counts for is tested in `tests/recovery`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.core import mail as django_mail
from django.db import ProgrammingError, transaction
from django.test import Client
from django.utils import timezone

from audit.models import Entry
from kernel import queue
from kernel.actors import Actor, system_actor
from kernel.errors import LimitReached, Unavailable
from kernel.models import Job, JobState
from kernel.scope import tenant_scope
from tenants import access, administration, invitations, mails, services
from tenants.models import FormerAddress, Invitation, Mail, Person
from tenants.states import MailState
from tests.cast.browsers import signed_in, text_of
from tests.cast.database_roles import acting_as, database_users
from tests.cast.mail_server import MailServer, mail_server, text_and_page
from tests.cast.phones import audit_away
from tests.cast.tenants import Cast, build_world

VALUES: dict[str, dict[str, str]] = {
    "address-changed": {"old": "bob@acme.test", "new": "robert@acme.test"},
    "ending": {"until": "2026-12-31 10:00 UTC"},
    "tenant-unlocking": {"until": "2026-12-14 10:00 UTC"},
    "role-changed": {"before": "member", "after": "officer"},
    "pending-act": {"what": "Reset Bob’s second factor", "until": "2026-12-01 10:00 UTC", "page": "/console/people/"},
}
HOSTILE = "<script>alert(1)</script>\r\nBcc: mallory@evil.test\r\n\r\n    https://evil.test/"


@pytest.fixture
def server(settings: Any) -> Iterator[MailServer]:
    with mail_server(settings) as running:
        yield running


def olivia(world: Cast) -> Actor:
    who = world.olivia
    return Actor(who.tenant_id, "person", who.pk, person_id=who.pk, role=who.role)


def promised(world: Cast, kind: str = "suspended", **more: Any) -> Mail:
    with tenant_scope(world.acme.pk), transaction.atomic():
        told = {"to": world.bob, "actor": olivia(world), "values": VALUES.get(kind), **more}
        return mails.promise(kind=kind, **told)


def invited(world: Cast, name: str = "ivy") -> Person:
    with tenant_scope(world.acme.pk):
        person = services.create_person(email=f"{name}@acme.test", name=name.title(), actor=olivia(world))
        with transaction.atomic():
            invitations.promise(person=person, actor=olivia(world))
    return person


def due_again() -> int:
    Job.unscoped.update(run_at=timezone.now() - timedelta(seconds=1))
    return queue.run_due(queue.MAIL)


def state(mail: Mail) -> tuple[str, str]:
    row = Mail.unscoped.get(pk=mail.pk)
    return row.state, row.why


def told(world: Cast, person: Person, viewer: str = "olivia") -> str:
    return text_of(signed_in(world.people[viewer]).get(f"/console/people/{person.pk}/"))


def links(server: MailServer) -> list[str]:
    return [re.findall(r"http\S+/console/invitation/\S+", text_and_page(one)[0])[0] for one in server.mails]


def opened(link: str) -> Any:
    return Client().get("/console/" + link.split("/console/", 1)[1])


@pytest.mark.parametrize("kind", sorted(mails.KINDS.keys() - {"invitation", "password-reset"}))
def test_every_kind_says_the_same_as_text_and_as_html(kind: str, world: Cast, server: MailServer) -> None:
    mail = promised(world, kind)
    assert queue.run_due(queue.MAIL) == 1
    (sent,) = server.mails
    text, page = text_and_page(sent)
    assert (sent["To"], server.recipients) == ("bob@acme.test", ["bob@acme.test"])
    assert sent["Subject"]
    assert "\n" not in sent["Subject"]
    assert sent["Auto-Submitted"] == "auto-generated"
    assert "{" not in text + page.split("</style>")[1], "nothing of the template is left"
    words = re.sub(r"\s+", " ", re.sub(r"<pre[^>]*>|</pre>|<[^>]+>", " ", page.split("</head>")[1]))
    for line in filter(None, (line.strip() for line in text.split("\n"))):
        plain = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        assert re.sub(r"\s+", " ", plain) in words, line
    assert all(value in text for name, value in VALUES.get(kind, {}).items())
    # By a link that its person asked for themselves, the other two.
    assert kind.startswith("password-") or kind == "restored" or "Olivia <olivia@acme.test>" in text, "who did it"
    assert state(mail) == (MailState.HANDED_OVER, "")
    entry = Entry.unscoped.get(tag="tenants:mail:hand-over")
    assert (entry.subject, entry.body) == (str(world.bob.pk), {"kind": kind, "mail": str(mail.pk)})


def test_no_mail_loads_anything_or_carries_a_script(world: Cast, server: MailServer) -> None:
    for kind in VALUES:
        promised(world, kind)
    queue.run_due(queue.MAIL)
    for one in server.mails:
        page = text_and_page(one)[1]
        assert not re.search(r"<(img|script|iframe|link|object|form|video|audio)\b|src=|url\(|@import", page)
        assert set(re.findall(r'href="([^"]+)"', page)) <= {"http://testserver/console/people/"}


def test_names_are_escaped_in_the_page_and_make_no_header_and_no_line(world: Cast, server: MailServer) -> None:
    world.bob.name = world.acme.name = HOSTILE[:100]
    # As only somebody can write them who writes to the database.
    world.bob.save()
    world.acme.save()
    promised(world, "pending-act", values={"what": HOSTILE, "until": "then", "page": "/console/"})
    promised(world, "suspended")
    assert queue.run_due(queue.MAIL) == 2
    assert server.recipients == ["bob@acme.test", "bob@acme.test"]
    for one in server.mails:
        page = text_and_page(one)[1]
        assert set(one.keys()) == {
            *("Content-Type", "MIME-Version", "Subject", "From", "To", "Date", "Message-ID", "Auto-Submitted")
        }
        assert "<script" not in page
        assert "&lt;script&gt;" in page
        assert 'href="https://evil.test' not in page
    text = text_and_page(server.mails[0])[0]
    assert "<U+000D><U+000A>Bcc: mallory@evil.test" in text, "a value stays in its line"


@pytest.mark.parametrize("address", ["bob@acme.test\r\nBcc: mallory@evil.test", "bob@acme.test\nX: y", ""])
def test_address_that_is_none_is_refused_and_reaches_nobody(address: str, world: Cast, server: MailServer) -> None:
    Person.unscoped.filter(pk=world.bob.pk).update(email=address)
    mail = promised(world)
    assert queue.run_due(queue.MAIL) == 1
    assert (server.recipients, server.mails) == ([], [])
    assert state(mail) == (MailState.FAILED, "refused")


@pytest.mark.parametrize(
    ("kind", "values"),
    [("suspended", {"more": "x"}), ("role-changed", {"before": "x"}), ("no-such-kind", {}),
     ("pending-act", {**VALUES["pending-act"], "page": "https://evil.test/console/"}), ("password-reset", {})],
)  # fmt: skip
def test_promise_takes_the_values_of_its_kind_alone(kind: str, values: dict[str, str], world: Cast) -> None:
    with pytest.raises(ValueError, match=r"mail|link"):
        promised(world, kind, values=values)
    assert Mail.unscoped.count() == Job.unscoped.count() == 0


@pytest.mark.postgres
def test_mail_waits_while_the_server_is_away_and_is_handed_over_when_it_is_back(
    world: Cast, server: MailServer
) -> None:
    server.down()
    ivy = invited(world)
    assert "The invitation is about to be handed over" in told(world, ivy)
    assert [queue.run_due(queue.MAIL), due_again(), due_again()] == [0, 0, 0]
    assert "The invitation waits: the mail server is away." in told(world, ivy)
    assert Invitation.unscoped.count() == 0, "no link is made that nobody takes"
    assert Job.unscoped.get().state == JobState.READY
    server.up()
    assert due_again() == 1
    assert "The invitation was handed over" in told(world, ivy)
    (link,) = links(server)
    assert opened(link).status_code == 200
    assert due_again() == 0
    assert len(server.mails) == 1


def test_mail_is_given_up_after_about_two_days_and_the_page_says_so(
    world: Cast, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert timedelta(hours=47) < mails.patience_after(1) < timedelta(hours=49)
    monkeypatch.setattr(mails, "MAX_ATTEMPTS", 25)  # beyond the twenty after which a job is dead
    server.down()
    mail = promised(world)
    for _ in range(24):
        assert due_again() == 0
    assert state(mail) == (MailState.WAITING, "away")
    assert due_again() == 1
    assert state(mail) == (MailState.FAILED, "away")
    assert Entry.unscoped.get(tag="tenants:mail:fail").subject == str(world.bob.pk)
    assert "could not be delivered: the mail server was away for about two days." in told(world, world.bob)


@pytest.mark.parametrize(
    ("answers", "becomes"),
    [
        ({"bob@acme.test": "550 5.1.1 No such user"}, (MailState.FAILED, "refused")),
        ({"bob@acme.test": "450 4.2.0 Greylisted"}, (MailState.WAITING, "away")),
        ({"DATA": "554 5.7.1 Policy"}, (MailState.FAILED, "refused")),
        ({"DATA": "451 4.3.0 Later"}, (MailState.WAITING, "away")),
    ],
)
def test_what_is_refused_for_good_fails_at_once_and_what_is_not_waits(
    answers: dict[str, str], becomes: tuple[str, str], world: Cast, server: MailServer
) -> None:
    server.answers = answers
    mail = promised(world)
    queue.run_due(queue.MAIL)
    assert state(mail) == becomes
    assert server.mails == []
    failed = becomes[0] == MailState.FAILED
    assert Entry.unscoped.filter(tag="tenants:mail:fail").count() == failed
    page = told(world, world.bob)
    assert ("could not be delivered: the mail server refused this address" in page) == failed
    assert "to bob@acme.test" in page


def test_mail_that_fails_keeps_no_other_waiting(world: Cast, server: MailServer) -> None:
    server.answers = {"bob@acme.test": "450 4.2.0 Later"}
    promised(world)
    broken = promised(world)
    Mail.unscoped.filter(pk=broken.pk).update(kind="no-such-template")
    promised(world, to=world.alice)
    assert queue.run_due(queue.MAIL) == 1
    assert server.recipients == ["alice@acme.test"]


def test_link_is_in_no_row_of_the_database(world: Cast, server: MailServer) -> None:
    invited(world)
    assert queue.run_due(queue.MAIL) == 1
    (link,) = links(server)
    token = link.rstrip("/").rpartition("/")[2]
    rows = [*Job.unscoped.values(), *Mail.unscoped.values(), *Invitation.unscoped.values(), *Entry.unscoped.values()]
    assert len(token) == 22
    assert token not in json.dumps(
        rows, default=lambda value: repr(bytes(value) if isinstance(value, memoryview) else value)
    )
    page = text_and_page(server.mails[0])[1]
    assert f'href="{link}"' in page
    assert "Set password and authenticator" in page


def test_link_that_is_mailed_again_ends_the_one_before(world: Cast, server: MailServer) -> None:
    ivy = invited(world)
    server.answers = {"DATA": "451 4.3.0 Later"}
    assert queue.run_due(queue.MAIL) == 0
    first = Invitation.unscoped.get()
    server.answers = {}
    assert due_again() == 1
    assert Invitation.unscoped.get(pk=first.pk).expires_at <= timezone.now()
    with tenant_scope(world.acme.pk), transaction.atomic():
        invitations.promise(person=ivy, actor=olivia(world))
    assert opened(links(server)[0]).status_code != 200, "ended by the act itself, before the next is mailed"
    assert queue.run_due(queue.MAIL) == 1
    assert [opened(link).status_code == 200 for link in links(server)] == [False, True]


def test_of_two_invitations_that_wait_the_newer_is_mailed(world: Cast, server: MailServer) -> None:
    ivy = invited(world)
    with tenant_scope(world.acme.pk), transaction.atomic():
        invitations.promise(person=ivy, actor=olivia(world))
    assert queue.run_due(queue.MAIL) == 2
    (link,) = links(server)
    assert opened(link).status_code == 200
    assert sorted(Mail.unscoped.values_list("state", flat=True)) == ["handed-over", "needless"]
    assert Entry.unscoped.filter(tag="tenants:mail:drop").count() == 1


def test_invitation_goes_to_nobody_who_was_suspended_or_has_used_one_meanwhile(world: Cast, server: MailServer) -> None:
    ivy, jack = invited(world), invited(world, "jack")
    Invitation.unscoped.create(
        tenant=world.acme, person=ivy, token_hash=b"h" * 32, expires_at=timezone.now(), used_at=timezone.now()
    )
    with tenant_scope(world.acme.pk):
        services.suspend_person(person=jack, actor=olivia(world))
    assert queue.run_due(queue.MAIL) == 2
    assert (server.mails, Invitation.unscoped.count()) == ([], 1)


@pytest.mark.postgres
def test_act_and_mail_are_promised_together_or_not_at_all(world: Cast, server: MailServer) -> None:
    with audit_away(), pytest.raises(Unavailable):
        invited(world)
    assert (Mail.unscoped.count(), Job.unscoped.count()) == (0, 0)


@pytest.mark.postgres
def test_mail_without_its_entry_is_not_said_to_be_handed_over(world: Cast, server: MailServer) -> None:
    mail = promised(world)
    with audit_away():
        assert queue.run_due(queue.MAIL) == 0
    assert state(mail) == (MailState.WAITING, "")
    assert due_again() == 1
    assert state(mail) == (MailState.HANDED_OVER, "")


@pytest.mark.postgres_only
@pytest.mark.django_db(transaction=True)
def test_web_process_promises_and_the_worker_gives_each_with_its_own_rights(
    transactional_db: None, server: MailServer
) -> None:
    world = build_world()
    with tenant_scope(world.acme.pk):
        invitations.invite(person=world.bob, actor=olivia(world))
    with database_users() as prefix:
        with acting_as("web", prefix=prefix), tenant_scope(world.acme.pk), transaction.atomic():
            invitations.promise(person=world.bob, actor=olivia(world))
        with acting_as("worker", prefix=prefix):
            assert queue.run_due(queue.MAIL) == 1
            Mail.unscoped.update(settled_at=timezone.now() - 2 * mails.KEPT)
            assert mails.sweep() == 1
        with acting_as("web", prefix=prefix):
            assert opened(links(server)[0]).status_code == 200
            with pytest.raises(ProgrammingError), transaction.atomic():
                Mail.unscoped.update(state=MailState.HANDED_OVER)


def test_what_became_of_mails_is_told_by_person_and_by_act(
    world: Cast, server: MailServer, django_assert_num_queries: Any
) -> None:
    act = str(uuid4())
    server.answers = {"carol@acme.test": "550 No such user"}
    for name in ("carol", "dan"):
        promised(world, "pending-act", to=world.people[name], act=act)
    promised(world, "pending-act", to=world.dan)
    promised(world, to=world.bob)
    queue.run_due(queue.MAIL)
    with tenant_scope(world.acme.pk):
        with django_assert_num_queries(1):
            assert [(one.person.name, one.state) for one in mails.of_act(act)] == [
                ("Carol", "failed"),
                ("Dan", "handed-over"),
            ]
        with django_assert_num_queries(1):
            found = mails.newest([world.carol.pk, world.dan.pk, world.bob.pk], kind="pending-act")
        assert {pk: one.act for pk, one in found.items()} == {world.carol.pk: act, world.dan.pk: ""}
        assert len(mails.of_person(world.dan.pk, limit=1)) == 1
    with tenant_scope(world.other.pk):
        assert (mails.of_act(act), mails.newest([world.dan.pk], kind="pending-act")) == ([], {})


def test_changed_address_is_told_to_both(world: Cast, server: MailServer) -> None:
    with tenant_scope(world.acme.pk), transaction.atomic():
        for address in VALUES["address-changed"].values():
            mails.promise(
                kind="address-changed", to=world.bob, actor=olivia(world), address=address,
                values=VALUES["address-changed"],
            )  # fmt: skip
    queue.run_due(queue.MAIL)
    assert server.recipients == ["bob@acme.test", "robert@acme.test"]


def test_mails_are_kept_for_a_month_after_they_were_settled(world: Cast) -> None:
    over, recent, waits = promised(world), promised(world), promised(world)
    queue.run_one(Job.unscoped.get(payload__mail=str(over.pk)).pk)
    queue.run_one(Job.unscoped.get(payload__mail=str(recent.pk)).pk)
    assert len(django_mail.outbox) == 2
    Mail.unscoped.filter(pk=over.pk).update(settled_at=timezone.now() - mails.KEPT - timedelta(minutes=1))
    Mail.unscoped.filter(pk=waits.pk).update(created_at=timezone.now() - 2 * mails.KEPT)
    assert mails.sweep() == 1
    assert set(Mail.unscoped.values_list("pk", flat=True)) == {recent.pk, waits.pk}


def test_mail_of_the_operators_ceremony_names_the_operator(world: Cast, server: MailServer) -> None:
    promised(world, actor=system_actor(world.acme.pk, "ceremony"))
    queue.run_due(queue.MAIL)
    assert "By:   the operator of Acme" in text_and_page(server.mails[0])[0]


def test_old_address_is_told_as_well_for_thirty_days(world: Cast, server: MailServer) -> None:
    """FAULTS R3: whoever changed an address has to keep what follows from its owner for a month."""
    with tenant_scope(world.acme.pk):
        administration.change_address(person=world.bob, email="mallory@acme.test", actor=olivia(world))
    promised(world)
    due_again()
    assert server.recipients == ["mallory@acme.test", "bob@acme.test"]
    FormerAddress.unscoped.update(told_until=timezone.now() - timedelta(seconds=1))
    promised(world, "resumed")
    due_again()
    assert server.recipients[2:] == ["mallory@acme.test"]


def test_link_that_lets_in_goes_to_no_old_address(world: Cast, server: MailServer) -> None:
    ivy = invited(world)
    with tenant_scope(world.acme.pk):
        administration.change_address(person=ivy, email="ivy.new@acme.test", actor=olivia(world))
        with transaction.atomic():
            invitations.promise(person=ivy, actor=olivia(world))
    due_again()
    assert server.recipients == ["ivy.new@acme.test"]


def test_old_address_that_refuses_fails_nothing(world: Cast, server: MailServer) -> None:
    with tenant_scope(world.acme.pk):
        administration.change_address(person=world.bob, email="robert@acme.test", actor=olivia(world))
    server.answers["bob@acme.test"] = "550 no such mailbox"
    mail = promised(world)
    due_again()
    assert Mail.unscoped.get(pk=mail.pk).state == MailState.HANDED_OVER


def test_addresses_of_before_are_told_of_five_and_none_is_given_up_for_a_newer(world: Cast) -> None:
    with tenant_scope(world.acme.pk):
        for number in range(administration.MAX_FORMER):
            administration.change_address(person=world.bob, email=f"bob-{number}@acme.test", actor=olivia(world))
        with pytest.raises(LimitReached) as refused:
            administration.change_address(person=world.bob, email="bob-again@acme.test", actor=olivia(world))
        assert refused.value.field == "email"
        told = access.former_addresses(world.bob.pk)
    assert len(told) == administration.MAX_FORMER
    assert "bob@acme.test" in told
    assert Person.unscoped.get(pk=world.bob.pk).email == "bob-4@acme.test"

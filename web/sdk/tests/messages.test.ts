// SPDX-License-Identifier: Apache-2.0
/** Messages as a developer sends and receives them: any size, in order, once, and not lost by an interruption. */
import { describe, expect, test, vi } from "vitest";
import { type Bytes, EMPTY, equal, hex, utf8 } from "../src/core/base/bytes.js";
import { b64u, unb64u } from "../src/core/base/encoding.js";
import type { SecretBytes } from "../src/core/base/secret.js";
import { uuidText } from "../src/core/base/uuids.js";
import { Suite } from "../src/core/crypto/suites.js";
import { randomBytes } from "../src/core/crypto/webcrypto.js";
import { MAX_LARGE, openLarge, sealLarge } from "../src/core/messages/content.js";
import { readMessage } from "../src/core/messages/wire.js";
import { Client } from "../src/client/client.js";
import { AnswerRefused, NotPossible, NotYet, Problem } from "../src/client/errors.js";
import * as peers from "../src/client/identity/peers.js";
import * as letters from "../src/client/messages/letters.js";
import * as messages from "../src/client/messages/messages.js";
import { ReportKind, TooLarge } from "../src/client/messages/messages.js";
import * as prekeys from "../src/client/messages/prekeys.js";
import type { Account } from "../src/client/profile/account.js";
import * as sessions from "../src/client/sessions/sessions.js";
import { CutStore, Moments, reopened, type Scene, sweep } from "./cast/cuts.js";
import { ALICE, BOB, CAROL, DAY, KINDS, Members } from "./cast/members.js";
import { refused, TENANT } from "./cast/server.js";
import { type Json } from "./vectors.js";

// At full length, which takes many minutes: `make soak PART=web-messages`.
const isWhole = process.env["HOLDFAST_EVERY_MOMENT"] !== undefined;
if (isWhole) vi.setConfig({ testTimeout: 3_000_000 });

const PATH = (user: Bytes): string => `users/${idText(user)}/messages`;
const idText = (id: Bytes): string => hex(id).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
const text = (body: Bytes): string => new TextDecoder().decode(body);
const at = (account: Account): sessions.Address => ({ user: account.user, device: account.device.id });

// Made once, and copied for each test: to make keys takes longer than a test does.
const made = (async () => {
  const world = new Members(), alice = await world.published(ALICE), bob = await world.published(BOB);
  return [world, alice, bob, await world.published(CAROL), await world.another(bob)] as const;
})();

/** Alice, bob and carol, each with one device. */
async function members(): Promise<[Members, Account, Account, Account]> {
  const [first, ...people] = await made, [world, alice, bob, carol] = await first.again(...people);
  // Without bob's second device, which the others have not met.
  world.server.chains.set(idText(BOB), (world.server.chains.get(idText(BOB)) as Bytes[]).slice(0, 2));
  (bob as Account).state.chain = (bob as Account).state.chain.slice(0, 2);
  await (bob as Account).save();
  return [world, alice, bob, carol] as [Members, Account, Account, Account];
}

/** The same, with a tablet of bob's. */
async function withTablet(): Promise<[Members, Account, Account, Account]> {
  const [first, ...people] = await made, [world, alice, bob, , tablet] = await first.again(...people);
  return [world, alice, bob, tablet] as [Members, Account, Account, Account];
}

/** Receive and take everything. */
async function received(account: Account): Promise<string[]> {
  const found = await messages.receive(account);
  for (const one of found) await one.done();
  return found.map((one) => text(one.body));
}

/** The same, and see that nothing had to be reported. */
async function bodies(account: Account): Promise<string[]> {
  const found = await received(account);
  expect((await messages.reports(account)).map((one) => one.text)).toEqual([]);
  return found;
}

async function idsOf(account: Account, peer: Account): Promise<string[]> {
  return (await sessions.places(account.store, at(peer))).map((place) => hex(place.id));
}

test.each([0, 1, 4096, 4097, 100_000, MAX_LARGE])("content of %i bytes arrives byte for byte", async (size) => {
  const [world, alice, bob, tablet] = await withTablet(), content = new Uint8Array(size).map((_, at) => at * 7);
  await messages.send(alice, BOB, content);
  for (const account of [bob, tablet]) {
    const [one] = (await messages.receive(account)) as [messages.Received];
    expect(equal(one.body, content)).toBe(true);
  }
  const posted = world.server.posted(PATH(BOB));
  expect(posted.map((body) => "content" in body)).toEqual([size > 4096]);
});

test("content above a mailbox is refused with the way out", async () => {
  const [world, alice] = await members();
  const refusal = await messages.send(alice, BOB, new Uint8Array(MAX_LARGE + 1)).catch((error: unknown) => error);
  expect(refusal).toBeInstanceOf(TooLarge);
  expect((refusal as TooLarge).message).toBe("A message holds at most 1,000,000 bytes; this has 1,000,001.");
  expect((refusal as TooLarge).wayOut).toMatch(/sealLarge/);
  expect(world.server.posted(PATH(BOB))).toEqual([]);
});

test("a reference to the app's own storage opens what was sealed", async () => {
  const [, alice, bob] = await members(), [reference, ciphertext] = await sealLarge(utf8("a film"));
  await messages.sendReference(alice, BOB, reference);
  const [one] = (await messages.receive(bob)) as [messages.Received];
  expect(one.body.length).toBe(0);
  expect(text(await openLarge(ciphertext, one.reference as NonNullable<typeof one.reference>))).toBe("a film");
});

test("a message is handed out until the app says done", async () => {
  const [, alice, bob] = await members();
  await messages.send(alice, BOB, utf8("one"));
  const [first] = (await messages.receive(bob)) as [messages.Received];
  expect([hex(first.sender), hex(first.device), hex(first.conversation), first.isCopy]).toEqual(
    [ALICE, alice.device.id, ALICE].map(hex).concat([false as never]),
  );
  await messages.send(alice, BOB, utf8("two"));
  expect((await messages.receive(bob)).map((one) => text(one.body))).toEqual(["one", "two"]);
  await first.done();
  await first.done();
  const [second] = (await messages.receive(bob)) as [messages.Received];
  expect(text(second.body)).toBe("two");
  await second.done();
  expect(await messages.receive(bob)).toEqual([]);
});

test("a mailbox of more than a page is read to its end", async () => {
  const [, alice, bob] = await members(), wanted = Array.from({ length: 130 }, (_, number) => `${number}`);
  for (const one of wanted) await messages.send(alice, BOB, utf8(one));
  expect(await received(bob)).toEqual(wanted);
});

test("a person without keys cannot be written to, and the reason is said", async () => {
  const [world, alice] = await members();
  world.server.bundles.clear();
  const refusal = await messages.send(alice, BOB, utf8("one")).catch((error: unknown) => error);
  expect(refusal).toBeInstanceOf(NotPossible);
  expect((refusal as NotPossible).wayOut).toMatch(/client\.maintain\(\)/);
  await expect(messages.send(alice, utf8("nobody----------"), utf8("one"))).rejects.toThrow(/no account/);
});

test("a message goes to all devices of both people, and says to whom", async () => {
  const [world, alice, bob, tablet] = await withTablet(), phone = await world.another(alice);
  await messages.send(alice, BOB, utf8("to all"));
  expect(await bodies(bob)).toEqual(["to all"]);
  expect(await bodies(tablet)).toEqual(["to all"]);
  const [copy] = (await messages.receive(phone)) as [messages.Received];
  expect([copy.isCopy, hex(copy.conversation), text(copy.body)]).toEqual([true, hex(BOB), "to all"]);
  await messages.send(phone, ALICE, utf8("a note"));
  expect(await bodies(alice)).toEqual(["a note"]);
});

test.each(Object.values(Suite))("the first message begins one session that both ends name alike: suite %i", async (suite) => {
  const world = new Members(), alice = await world.published(ALICE, suite), bob = await world.published(BOB, suite);
  await messages.send(alice, BOB, utf8("one"));
  expect(await bodies(bob)).toEqual(["one"]);
  await messages.send(bob, ALICE, utf8("two"));
  expect(await bodies(alice)).toEqual(["two"]);
  expect(await idsOf(alice, bob)).toEqual(await idsOf(bob, alice));
  expect((await idsOf(alice, bob)).length).toBe(1);
});

test("the first message opens after both identities were rotated on its way", async () => {
  const [world, alice, bob] = await members();
  await messages.send(alice, BOB, utf8("one"));
  await world.renew(alice);
  await world.renew(bob);
  expect(await bodies(bob)).toEqual(["one"]);
  await messages.send(bob, ALICE, utf8("two"));
  expect(await bodies(alice)).toEqual(["two"]);
});

test("the initial part repeats until the other end has answered, and uses one key up", async () => {
  const [world, alice, bob] = await members(), before = (await bob.store.keys("one-time-pre-key")).length;
  for (const one of ["0", "1", "2"]) await messages.send(alice, BOB, utf8(one));
  const sent = world.server.box(bob.deviceText).map((row) => readMessage(unb64u(row.message)));
  expect(new Set(sent.map((one) => hex(one.initialBytes))).size).toBe(1);
  expect(sent[0]?.isInitial).toBe(true);
  expect(await bodies(bob)).toEqual(["0", "1", "2"]);
  expect((await bob.store.keys("one-time-pre-key")).length).toBe(before - 1);
  await messages.flush(bob);
  await messages.receive(alice);
  await messages.send(alice, BOB, utf8("3"));
  expect(readMessage(unb64u(world.server.box(bob.deviceText).at(-1).message)).isInitial).toBe(false);
});

test("handshakes from both sides at once leave both sessions and one favourite", async () => {
  const [world, alice, bob] = await members();
  await messages.send(alice, BOB, utf8("from alice"));
  // What waits for bob is still on its way meanwhile: whom they write to they would have read first.
  const waiting = world.server.box(bob.deviceText).splice(0);
  await messages.send(bob, ALICE, utf8("from bob"));
  world.server.box(bob.deviceText).push(...waiting);
  expect(await bodies(alice)).toEqual(["from bob"]);
  expect(await bodies(bob)).toEqual(["from alice"]);
  for (const [from, to, body] of [[alice, bob, "a"], [bob, alice, "b"], [alice, bob, "c"]] as const) {
    await messages.send(from, to.user, utf8(body));
    expect(await bodies(to)).toEqual([body]);
  }
  expect((await idsOf(alice, bob)).length).toBe(2);
  expect((await idsOf(alice, bob))[0]).toBe((await idsOf(bob, alice))[0]);
});

test("no more than four sessions are kept with a device", async () => {
  const [, alice, bob] = await members();
  for (let number = 0; number < 6; number++) {
    await messages.greet(alice, [BOB]);
    await messages.send(alice, BOB, utf8(`${number}`));
    expect(await bodies(bob)).toEqual([`${number}`]);
    expect(await bodies(alice)).toEqual([]);
  }
  expect([(await idsOf(alice, bob)).length, (await idsOf(bob, alice)).length]).toEqual([4, 4]);
  expect((await bob.store.keys("session")).length).toBe(4);
  await messages.send(bob, ALICE, utf8("still"));
  expect(await bodies(alice)).toEqual(["still"]);
});

test("a new handshake is made after seven days", async () => {
  const [world, alice, bob] = await members();
  await messages.send(alice, BOB, utf8("one"));
  await bodies(bob);
  world.now += 7 * DAY;
  for (const account of [alice, bob]) await prekeys.publish(account);
  await messages.send(alice, BOB, utf8("two"));
  expect(await bodies(bob)).toEqual(["two"]);
  expect((await idsOf(alice, bob)).length).toBe(2);
});

test("a device without one-time keys is marked at both ends", async () => {
  const [world, alice, bob] = await members();
  world.server.batches.set(bob.deviceText, []);
  const sent = await messages.send(alice, BOB, utf8("one"));
  expect(sent.lastResort.map(hex)).toEqual([hex(bob.device.id)]);
  const [one] = (await messages.receive(bob)) as [messages.Received];
  expect(one.isLastResort).toBe(true);
  await messages.send(bob, ALICE, utf8("two"));
  const [back] = (await messages.receive(alice)) as [messages.Received];
  expect(back.isLastResort).toBe(true);
});

test("a device added since the last look gets the message after a 409", async () => {
  const [world, alice, bob] = await members();
  await messages.send(alice, BOB, utf8("one"));
  expect(await received(bob)).toEqual(["one"]);
  const phone = await world.another(bob), sent = await messages.send(alice, BOB, utf8("two"));
  expect(new Set(sent.devices.map(hex))).toEqual(new Set([bob, phone].map((one) => hex(one.device.id))));
  expect(await received(bob)).toEqual(["two"]);
  expect(await received(phone)).toEqual(["two"]);
});

test("a revoked device gets nothing new, and what it sent before still arrives", async () => {
  const [world, alice, bob, tablet] = await withTablet();
  await messages.send(alice, BOB, utf8("one"));
  await messages.send(tablet, ALICE, utf8("before"));
  expect(await bodies(bob)).toEqual(["one", "before"]);
  await world.revoke(bob, tablet.device.id);
  expect((await messages.send(alice, BOB, utf8("two"))).devices.map(hex)).toEqual([hex(bob.device.id)]);
  expect(await bodies(alice)).toEqual(["before"]);
  expect(await idsOf(alice, tablet)).toEqual([]);
  // It read what waited before it wrote.
  expect(world.server.box(tablet.deviceText)).toEqual([]);
  expect(await bodies(bob)).toEqual(["two"]);
});

test("a contact is told that the account has moved, and a greeting shows nobody anything", async () => {
  const [world, alice, bob] = await members();
  await messages.send(alice, BOB, utf8("one"));
  await bodies(bob);
  await world.renew(alice);
  expect((await messages.announce(alice)).map(hex)).toEqual([hex(BOB)]);
  expect(await bodies(bob)).toEqual([]);
  const chain = bob.state.contacts.get(hex(ALICE));
  expect(chain?.entries.length).toBe(alice.state.chain.length);
  const before = await idsOf(bob, alice);
  await messages.greet(alice, [BOB]);
  expect(await bodies(bob)).toEqual([]);
  expect((await idsOf(bob, alice)).length).toBe(before.length + 1);
});

// Servers that are away, full or refuse

test("an unreachable server leaves the message to be sent later as it was", async () => {
  const [world, alice, bob] = await members();
  await messages.send(alice, BOB, utf8("zero"));
  world.server.lost.add(`POST ${PATH(BOB)}`);
  expect((await messages.send(alice, BOB, utf8("one"))).isSent).toBe(false);
  world.server.lost.clear();
  const flushed = await messages.flush(alice);
  expect([flushed.sent.size, flushed.waiting.length, flushed.refused.size]).toEqual([1, 0, 0]);
  // The act was done though its answer was lost: asked again under its key, the server does it once.
  expect(await received(bob)).toEqual(["zero", "one"]);
  const documents = world.server.posted(PATH(BOB)).slice(1).map((one) => JSON.stringify(one));
  expect(documents.length).toBeGreaterThan(1);
  expect(new Set(documents).size).toBe(1);
});

test("a message written without a server goes to the devices there are when it is back", async () => {
  const [world, alice, bob, tablet] = await withTablet();
  await messages.send(alice, BOB, utf8("zero"));
  world.now += peers.FRESH_SECONDS;
  world.server.lost.add(".*");
  expect((await messages.send(alice, BOB, utf8("from the mountains"))).isSent).toBe(false);
  world.server.lost.clear();
  await world.revoke(bob, tablet.device.id);
  const waiting = world.server.box(tablet.deviceText).length;
  // Even a server that would take it for the old devices is not given it for them.
  world.server.log.length = 0;
  expect([...(await messages.flush(alice)).sent.values()].flat().map(hex)).toEqual([hex(bob.device.id)]);
  const named = world.server.posted(PATH(BOB)).flatMap((body) => body.envelopes.map((one: Json) => one.device_id));
  expect(named).toEqual([bob.deviceText]);
  expect(world.server.box(tablet.deviceText).length).toBe(waiting);
  expect(await received(bob)).toEqual(["zero", "from the mountains"]);
});

test("the next message sends what waited before it", async () => {
  const [world, alice, bob] = await members();
  await messages.send(alice, BOB, utf8("zero"));
  world.server.instead.set(`POST ${PATH(BOB)}`, () => refused(503, "hsm-unavailable"));
  for (const body of ["one", "two"]) expect((await messages.send(alice, BOB, utf8(body))).isSent).toBe(false);
  world.server.instead.clear();
  expect((await messages.send(alice, BOB, utf8("three"))).isSent).toBe(true);
  expect(await received(bob)).toEqual(["zero", "one", "two", "three"]);
});

test.each<[number, string]>([[422, "invalid"], [400, "malformed-request"], [413, "too-large"]])(
  "a refusal for good is thrown, and nothing is left waiting: %i %s",
  async (status, code) => {
    const [world, alice] = await members();
    await messages.send(alice, BOB, utf8("zero"));
    world.server.instead.set(`POST ${PATH(BOB)}`, () => refused(status, code));
    await expect(messages.send(alice, BOB, utf8("one"))).rejects.toThrow(code);
    expect(await alice.store.keys("outbox")).toEqual([]);
    expect((await messages.unconfirmed(alice)).length, "kept by its report alone").toBe(1);
    const [report] = (await messages.reports(alice)) as [messages.Report];
    expect(report.kind).toBe(ReportKind.NOT_SENT);
    await report.done();
    expect(await messages.reports(alice)).toEqual([]);
  },
);

test.each<[number, string]>([[403, "denied"], [404, "not-found"], [422, "something-new"], [409, "mailbox-full"]])(
  "what is refused by something that passes is kept, and goes out when it has passed: %i %s",
  async (status, code) => {
    const [world, alice, bob] = await members();
    await messages.send(alice, BOB, utf8("zero"));
    world.server.instead.set(`POST ${PATH(BOB)}`, () => refused(status, code));
    const sent = await messages.send(alice, BOB, utf8("one")).catch((error: unknown) => error);
    if (status === 409) expect((sent as messages.Sent).isSent).toBe(false);
    else expect(sent).toBeInstanceOf(Problem);
    world.server.instead.clear();
    expect((await messages.flush(alice)).sent.size).toBe(1);
    expect(await received(bob)).toEqual(["zero", "one"]);
  },
);

test("an answer to a device without pre-keys waits, and accuses nobody", async () => {
  const [world, alice, bob] = await members();
  await messages.send(alice, BOB, utf8("one"));
  await messages.receive(bob);
  // An older program wrote before it had published, or the server lost the keys.
  world.server.bundles.delete(alice.deviceText);
  await expect(messages.send(bob, ALICE, utf8("answer"))).rejects.toBeInstanceOf(NotYet);
  expect(await messages.reports(bob)).toEqual([]);
  expect((await messages.flush(bob)).waiting.length).toBe(1);
  await prekeys.publish(alice);
  expect((await messages.flush(bob)).sent.size).toBe(1);
  expect(await received(alice)).toEqual(["answer"]);
});

test("a lost acknowledgement repeats nothing", async () => {
  const [world, alice, bob] = await members();
  await messages.send(alice, BOB, utf8("one"));
  world.server.instead.set("POST messages/ack", () => refused(503, "unavailable"));
  await expect(messages.receive(bob)).rejects.toBeInstanceOf(Problem);
  world.server.instead.clear();
  expect(await received(bob)).toEqual(["one"]);
  expect(await bodies(bob)).toEqual([]);
  expect(world.server.box(bob.deviceText)).toEqual([]);
});

test("letters and notices are kept for those who read them", async () => {
  const [world, alice, bob] = await members();
  await letters.send(alice, bob.device.id, letters.LetterKind.SYNC, utf8("a letter"));
  world.server.notice(idText(BOB), { event: "door-read", kind: "password" });
  await messages.send(alice, BOB, utf8("one"));
  expect(await bodies(bob)).toEqual(["one"]);
  expect((await letters.waiting(bob, letters.LetterKind.SYNC)).map((one) => text(one.message))).toEqual(["a letter"]);
  expect((await letters.notices(bob)).map((one) => one.event)).toEqual(["door-read"]);
});

test("a message that is never sent leaves no key used twice", async () => {
  const [world, alice, bob] = await members();
  await messages.send(alice, BOB, utf8("zero"));
  const kept = await Promise.all(
    (await alice.store.keys("session")).map(async (key) => [key, await alice.store.get("session", key)] as const),
  );
  await messages.send(alice, BOB, utf8("one"));
  for (const [key, value] of kept) await alice.store.put("session", key, value as SecretBytes);
  await messages.send(alice, BOB, utf8("two"));
  // A state from before, restored, encrypts other bytes under another key: the salt is fresh.
  expect(new Set(world.server.box(bob.deviceText).map((row) => row.message)).size).toBe(3);
});

test("an answer outside the protocol ends in a refusal", async () => {
  const [world, alice] = await members();
  world.server.lies.set("GET messages", (answer) => ({ ...answer, messages: [{ message_id: "no id" }] }));
  await expect(messages.receive(alice)).rejects.toThrow(AnswerRefused);
});

test.each([0, 1, 15, 17, 32])("a message id of %i bytes is refused before anything is asked for or queued", async (size) => {
  const [world, alice] = await members(), messageId = new Uint8Array(size), before = world.server.log.length;
  const [reference] = await sealLarge(utf8("dear bob"));
  for (const act of [
    () => messages.send(alice, BOB, utf8("hello"), { messageId }),
    () => messages.send(alice, BOB, new Uint8Array(5000), { messageId }),
    () => messages.sendReference(alice, BOB, reference, { messageId }),
  ])
    await expect(act()).rejects.toThrow(RangeError);
  expect(world.server.log.length).toBe(before);
  expect(await alice.store.keys("outbox")).toEqual([]);
});

test("nothing is kept that is of a kind this cast would not copy", async () => {
  const [world, alice, bob] = await members();
  await messages.send(alice, BOB, utf8("one"));
  await received(bob);
  await messages.flush(bob);
  await messages.receive(alice);
  for (const account of [alice, bob]) {
    const again = await world.opened(await world.copied(account));
    expect(await messages.receive(again)).toEqual([]);
    for (const kind of KINDS)
      expect((await again.store.keys(kind)).length, kind).toBe((await account.store.keys(kind)).length);
  }
});

// What an app does while a call is under way

test("a message goes out under the id that it was given, whatever becomes of the bytes", async () => {
  const [, alice] = await members(), client = new Client(alice), ids: Bytes[] = [], sends: Promise<unknown>[] = [];
  const id = new Uint8Array(16), content = new Uint8Array(3);
  for (let number = 1; number <= 3; number++) {
    content.fill(number);
    sends.push(client.send(uuidText(BOB), content, { messageId: id.fill(number) }));
    ids.push(id.slice());
  }
  id.fill(9);
  content.fill(9);
  await Promise.all(sends);
  expect((await client.unconfirmed()).map((one) => hex(one.id))).toEqual(ids.map(hex));
});

test("a report is put away in its turn, also after another page has written", async () => {
  const [world, alice, bob] = await members(), client = new Client(bob);
  await messages.send(alice, BOB, utf8("one"));
  const [row] = world.server.box(bob.deviceText) as [Json];
  row.message = b64u(utf8("nothing that opens"));
  await client.receive();
  const [report] = (await client.reports()) as [messages.Report], { store } = bob, order: string[] = [];
  const locked = store.locked.bind(store);
  store.locked = (work, wait) => locked(() => work().finally(() => order.push("a call")), wait);
  const other = client.reports(), done = report.done().then(() => order.push("put away"));
  await Promise.all([other, done]);
  expect(order).toEqual(["a call", "a call", "put away"]);
  expect(await client.reports()).toEqual([]);
});

// Messages that somebody changed

test("thousands of changed messages leave a client able to read what was sent", async () => {
  const [world, alice, bob] = await members(), count = isWhole ? 10_000 : 60;
  const reader = new Client(bob);
  await messages.send(alice, BOB, utf8("zero"));
  expect((await reader.receive()).map((one) => one.text)).toEqual(["zero"]);
  for (const one of await reader.receive()) await one.done();
  // What confirms it tells alice that the session is there.
  await messages.confirm(bob);
  await messages.receive(alice);
  for (const body of ["one", "two"]) await messages.send(alice, BOB, utf8(body));
  const rows = world.server.box(bob.deviceText).splice(0) as Json[];
  let seed = 7;
  const any = (below: number): number => (seed = (seed * 48_271) % 2_147_483_647) % below;
  for (let number = 0; number < count; number++) {
    const row = rows[any(rows.length)] as Json, message = unb64u(row.message), at = any(message.length);
    const cut = any(4) === 0 ? message.slice(0, at) : message.slice();
    if (cut.length === message.length) cut[at] = (cut[at] as number) ^ (1 << any(8));
    world.server.box(bob.deviceText).push({ ...row, message_id: uuidText(randomBytes(16)), message: b64u(cut) });
  }
  expect(await reader.receive()).toEqual([]);
  expect(world.server.box(bob.deviceText), "all of it was taken").toEqual([]);
  const told = await reader.reports();
  expect(new Set(told.map((one) => one.kind))).toEqual(new Set([ReportKind.UNDECRYPTABLE]));
  expect(told.length, "junk fills no more than its share").toBeLessThanOrEqual(50);
  world.server.box(bob.deviceText).push(...rows.reverse());
  expect((await reader.receive()).map((one) => one.text).sort()).toEqual(["one", "two"]);
  await reader.send(alice.userText, "back");
  expect(await received(alice)).toEqual(["back"]);
});

// A tab that is killed

describe("cut at any moment", () => {
  /** Of the moments one in so many, unless it is the whole. */
  const oneIn = (many: number): number => (isWhole ? 1 : many);
  const wanted = new Map([[hex(randomBytes(16)), "message 0"], [hex(randomBytes(16)), "large ".repeat(1000)]]);

  /** The same people; who acts has a store that can be cut. */
  async function scene(...people: readonly Account[]): Promise<[Members, ...Account[]]> {
    const [first] = await made, found = await first.again(...people), [world] = found as [Members, Account];
    const cut: Account[] = [];
    for (const [at, account] of (found.slice(1) as Account[]).entries())
      cut.push(at === 0 ? await cuttable(world, account) : account);
    return [world, ...cut];
  }

  async function cuttable(world: Members, account: Account): Promise<Account> {
    const store = new CutStore({ tenant: TENANT, user: account.user });
    for (const kind of KINDS)
      for (const key of await account.store.keys(kind))
        await store.put(kind, key, (await account.store.get(kind, key)) as SecretBytes);
    return world.opened(store);
  }

  test("sending loses and repeats nothing", async () => {
    const [, alice, bob, , tablet] = await made;
    const count = await sweep(
      async (): Promise<Scene> => {
        const [world, account, ...others] = (await scene(alice, bob, tablet)) as [Members, Account, Account, Account];
        return { world, account, others };
      },
      async (account) => {
        // The first of the two goes by a fresh handshake, the second by the session; both to two devices.
        for (const [id, body] of wanted)
          await messages.send(account, BOB, utf8(body), { messageId: unhexed(id) });
        expect(await account.store.keys("outbox")).toEqual([]);
      },
      async ({ others }) => {
        for (const account of others) {
          const found = await messages.receive(account);
          expect(new Map(found.map((one) => [hex(one.id), text(one.body)]))).toEqual(wanted);
          expect((await messages.receive(account)).length).toBe(2);
          expect(await messages.reports(account)).toEqual([]);
        }
      },
      oneIn(3),
    );
    expect(count).toBeGreaterThanOrEqual(20);
  });

  test("receiving loses and repeats nothing", async () => {
    const [, alice, bob, carol] = await made;
    let handed = new Map<string, string>();
    const count = await sweep(
      async (): Promise<Scene> => {
        handed = new Map();
        const [world, account, one, other] = (await scene(bob, alice, carol)) as [Members, Account, Account, Account];
        // The first sender has a one-time key, the second has none left.
        world.server.batches.set(account.deviceText, (world.server.batches.get(account.deviceText) as Json[]).slice(0, 1));
        await messages.send(one, BOB, utf8("one"));
        await messages.send(one, BOB, utf8("two"));
        await messages.send(other, BOB, utf8("large ".repeat(1000)));
        return { world, account, others: [one] };
      },
      async (account) => {
        for (const one of await messages.receive(account)) {
          expect(handed.get(hex(one.id)) ?? text(one.body)).toBe(text(one.body));
          handed.set(hex(one.id), text(one.body));
          await one.done();
        }
      },
      async ({ world, account, others }) => {
        const again = await reopened(world, account, new Moments());
        expect([...handed.values()]).toEqual(["one", "two", "large ".repeat(1000)]);
        expect(await bodies(again)).toEqual([]);
        await messages.send(again, ALICE, utf8("and back"));
        expect(await received(others[0] as Account)).toEqual(["and back"]);
      },
      oneIn(3),
    );
    expect(count).toBeGreaterThanOrEqual(20);
  });

  test("a stale answer reaches every device once", async () => {
    const [, alice, bob] = await made;
    const count = await sweep(
      async (): Promise<Scene> => {
        const [world, account, other] = (await scene(bob, alice)) as [Members, Account, Account];
        await messages.send(account, ALICE, utf8("zero"));
        world.server.instead.set(`POST ${PATH(ALICE)}`, () => refused(503, "unavailable"));
        await messages.send(account, ALICE, utf8("one"));
        world.server.instead.clear();
        return { world, account, others: [other, await world.another(other)] };
      },
      async (account) => {
        await messages.flush(account);
        expect(await account.store.keys("outbox")).toEqual([]);
      },
      async ({ others: [one, phone] }) => {
        expect(await bodies(one as Account)).toEqual(["zero", "one"]);
        expect(await bodies(phone as Account)).toEqual(["one"]);
      },
      oneIn(6),
    );
    expect(count).toBeGreaterThanOrEqual(10);
  });

  test("the care of pre-keys leaves nothing published without its private half", async () => {
    const [, alice] = await made;
    const count = await sweep(
      async (): Promise<Scene> => {
        const [world, account] = (await scene(alice)) as [Members, Account];
        world.server.batches.set(account.deviceText, (world.server.batches.get(account.deviceText) as Json[]).slice(90));
        world.now += 8 * DAY;
        return { world, account, others: [] };
      },
      async (account) => void (await prekeys.publish(account)),
      async ({ world, account }) => {
        const again = await reopened(world, account, new Moments());
        const held = await prekeys.fetchHeld(again);
        expect(held.keyIds.size).toBe(110);
        for (const keyId of held.keyIds) expect(await prekeys.oneTime(again, keyId)).toBeDefined();
        expect((await again.store.keys("signed-pre-key")).length).toBe(2);
        expect((await again.store.keys("one-time-pre-key")).length).toBe(200);
        expect((await prekeys.publish(again)).warnings).toEqual([]);
      },
      oneIn(5),
    );
    expect(count).toBeGreaterThanOrEqual(15);
  });
});

function unhexed(id: string): Bytes {
  return Uint8Array.from(id.match(/../g) ?? [], (octets) => parseInt(octets, 16));
}

test("the cut store itself undoes what was not committed, and keeps what was", async () => {
  const store = new CutStore({ tenant: TENANT, user: ALICE }), [, alice] = await made;
  const value = (await alice.store.get("state", EMPTY)) as SecretBytes;
  store.moments = new Moments(1);
  await expect(store.put("row", utf8("a"), value)).rejects.toThrow();
  store.moments = new Moments(2);
  await expect(store.put("row", utf8("b"), value)).rejects.toThrow();
  store.moments = new Moments();
  expect((await store.keys("row")).map(text)).toEqual(["b"]);
});

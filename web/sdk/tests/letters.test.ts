// SPDX-License-Identifier: Apache-2.0
/** Junk in the mailbox takes nobody's place, and a letter is kept until it was read, once. */
import { expect, test } from "vitest";
import { type Bytes, EMPTY, hex, utf8 } from "../src/core/base/bytes.js";
import { b64u } from "../src/core/base/encoding.js";
import { choice, layout, octets, sealRow, uint } from "../src/core/base/rows.js";
import { uuidText } from "../src/core/base/uuids.js";
import { randomBytes } from "../src/core/crypto/webcrypto.js";
import { Suite } from "../src/core/crypto/suites.js";
import { PeerChanged, TrustRefused } from "../src/client/errors.js";
import * as letters from "../src/client/messages/letters.js";
import { LetterKind } from "../src/client/messages/letters.js";
import * as reports from "../src/client/messages/reports.js";
import type { Account } from "../src/client/profile/account.js";
import { ALICE, MALLORY, Members } from "./cast/members.js";
import { RECEIVED_AT } from "./cast/server.js";
import type { Json } from "./vectors.js";

const VETO = { event: "contacts-request", request_id: uuidText(randomBytes(16)), owner: uuidText(ALICE) };
const KINDS = Object.values(LetterKind);

async function enrolled(): Promise<[Members, Account]> {
  const world = new Members();
  return [world, await world.enrolled(ALICE, Suite.CLASSICAL)];
}

function row(kind: string, message: Bytes, user: Bytes): Json {
  const isNotice = kind === LetterKind.NOTICE, device = uuidText(user.slice().reverse());
  return {
    message_id: uuidText(randomBytes(16)),
    kind,
    sender_user: isNotice ? null : uuidText(user),
    sender_device: isNotice ? null : device,
    to_device: device,
    message: b64u(message),
    has_content: false,
    received_at: RECEIVED_AT,
  };
}

/** Letters of a kind that nobody can open; of notices, those that a member can cause about themselves. */
function junk(kind: string, count: number, sender: () => Bytes): Json[] {
  return Array.from({ length: count }, () => {
    const user = sender(), said = utf8(JSON.stringify({ event: "contacts-request", owner: uuidText(user) }));
    return row(kind, kind === LetterKind.NOTICE ? said : randomBytes(40), user);
  });
}

async function fetchAll(account: Account): Promise<void> {
  while ((await letters.fetch(account)) > 0);
}

async function kept(account: Account): Promise<number> {
  let count = 0;
  for (const kind of KINDS) count += (await letters.waiting(account, kind)).length;
  return count;
}

async function vetoes(account: Account): Promise<number> {
  const found = await letters.notices(account);
  return found.filter((one) => one.said.has("request_id") && one.said.text("request_id") === VETO.request_id).length;
}

test.each(KINDS.flatMap((kind) => [[kind, "one sender", () => MALLORY], [kind, "many senders", () => randomBytes(16)]] as const))(
  "a notice about oneself is there after a flood of %s letters of %s",
  async (kind, _, sender) => {
    const [world, alice] = await enrolled(), box = world.server.box(alice.deviceText);
    box.push(...junk(kind, 600, sender));
    world.server.notice(alice.userText, VETO);
    box.push(...junk(kind, 600, sender));
    await fetchAll(alice);
    expect(await vetoes(alice)).toBe(1);
    expect(await kept(alice)).toBeLessThanOrEqual(1001);
  },
);

test("a letter of an own device is there after junk of its kind", async () => {
  const [world, alice] = await enrolled(), phone = await world.another(alice), box = world.server.box(alice.deviceText);
  box.push(...junk(LetterKind.SYNC, 300, () => randomBytes(16)));
  await letters.send(phone, alice.device.id, LetterKind.SYNC, utf8("the vault's new key"));
  box.push(...junk(LetterKind.SYNC, 300, () => randomBytes(16)));
  await fetchAll(alice);
  const found = await letters.waiting(alice, LetterKind.SYNC);
  expect(found.length).toBeLessThanOrEqual(101);
  const own = found.filter((one) => hex(one.senderUser) === hex(ALICE));
  expect(own.map((one) => new TextDecoder().decode(one.message))).toEqual(["the vault's new key"]);
  expect(hex(own[0]?.senderDevice as Bytes)).toBe(hex(phone.device.id));
});

test("a letter that was put away comes no second time", async () => {
  const [world, alice] = await enrolled();
  world.server.notice(alice.userText, VETO);
  const before = [...world.server.box(alice.deviceText)];
  expect(await letters.fetch(alice)).toBe(1);
  expect(await vetoes(alice)).toBe(1);
  await letters.putAway(alice, await letters.notices(alice));
  // As a lost acknowledgement brings it again, and a server that was put back from a backup.
  world.server.mailboxes.set(alice.deviceText, before);
  expect(await letters.fetch(alice)).toBe(1);
  expect(await letters.notices(alice)).toEqual([]);
  expect(world.server.box(alice.deviceText)).toEqual([]);
});

test("messages of sessions stay in the mailbox", async () => {
  const [world, alice] = await enrolled();
  world.server.box(alice.deviceText).push(row("message", utf8("not a letter"), MALLORY));
  world.server.notice(alice.userText, VETO);
  expect(await letters.fetch(alice)).toBe(1);
  expect(world.server.box(alice.deviceText).map((one) => one.kind)).toEqual(["message"]);
});

test.each<[string, string]>([
  ["no JSON", "{"],
  ["no object", '["door-read"]'],
  ["without an event", '{"kind":"door-read"}'],
  ["with an event that is no text", '{"event":7}'],
  ["that says its event twice", '{"event":"door-read","event":"code-issued"}'],
  ["nested too deeply", `{"event":"door-read","x":${"[".repeat(40)}${"]".repeat(40)}}`],
  ["above 4 KiB", JSON.stringify({ event: "door-read", x: "x".repeat(4096) })],
])("a notice %s is dropped when it comes", async (_, message) => {
  const [world, alice] = await enrolled();
  world.server.box(alice.deviceText).push(row(LetterKind.NOTICE, utf8(message), MALLORY));
  expect(await letters.fetch(alice)).toBe(1);
  expect(await letters.notices(alice)).toEqual([]);
  expect(await kept(alice)).toBe(0);
  expect(world.server.box(alice.deviceText)).toEqual([]);
});

test("names of a notice reach no prototype", async () => {
  const [world, alice] = await enrolled();
  const message = '{"event":"door-read","__proto__":{"isOwner":true},"constructor":"x","owner":{"a":1}}';
  world.server.box(alice.deviceText).push(row(LetterKind.NOTICE, utf8(message), MALLORY));
  await letters.fetch(alice);
  const [notice] = await letters.notices(alice);
  expect(notice?.event).toBe("door-read");
  expect(notice?.said.has("isOwner")).toBe(false);
  expect(({} as Json).isOwner).toBeUndefined();
  await letters.putAway(alice, [notice as letters.Notice]);
  expect(await letters.notices(alice)).toEqual([]);
});

test("letters kept by an earlier version are still read and put away", async () => {
  const [, alice] = await enrolled(), kinds = choice(LetterKind, "LetterKind");
  const old = layout<Omit<letters.Letter, "id">>("kept letter", {
    kind: kinds, senderUser: octets([0, 16]), senderDevice: octets([0, 16]), message: octets(), receivedAt: uint(),
  });
  for (const [kind, message] of [[LetterKind.SYNC, "old"], [LetterKind.NOTICE, '{"event":"door-read"}']] as const) {
    const of = { kind, senderUser: EMPTY, senderDevice: EMPTY, message: utf8(message), receivedAt: 1 };
    await alice.store.put(letters.LETTER, randomBytes(16), sealRow(old, of));
  }
  const [sync] = (await letters.waiting(alice, LetterKind.SYNC)) as [letters.Letter];
  expect(new TextDecoder().decode(sync.message)).toBe("old");
  expect((await letters.notices(alice)).map((one) => one.event)).toEqual(["door-read"]);
  await letters.putAway(alice, [sync, ...(await letters.notices(alice))]);
  expect(await alice.store.keys(letters.LETTER)).toEqual([]);
});

test("a letter that waits is told once for each reason, and no more once it is put away", async () => {
  const [world, alice] = await enrolled(), phone = await world.another(alice);
  await letters.send(phone, alice.device.id, LetterKind.SYNC, utf8("key"));
  await letters.fetch(alice);
  const [letter] = (await letters.waiting(alice, LetterKind.SYNC)) as [letters.Letter];
  for (let again = 0; again < 3; again++) {
    await letters.hold(alice, letter, new TrustRefused("The chain is hidden."));
    await letters.hold(alice, letter, new PeerChanged("The account was begun again."));
  }
  expect((await reports.listReports(alice)).map((one) => one.kind).sort()).toEqual(["in-doubt", "waiting"]);
  await letters.putAway(alice, [letter]);
  expect(await reports.listReports(alice)).toEqual([]);
});

test("a share letter that does not parse, or is too long, is dropped", async () => {
  const [world, alice] = await enrolled();
  world.server.box(alice.deviceText).push(row(LetterKind.SHARE, randomBytes(300), MALLORY));
  world.server.box(alice.deviceText).push(row(LetterKind.SHARE, randomBytes(9000), MALLORY));
  expect(await letters.fetch(alice)).toBe(2);
  expect(await letters.waiting(alice, LetterKind.SHARE)).toEqual([]);
});

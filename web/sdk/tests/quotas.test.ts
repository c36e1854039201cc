// SPDX-License-Identifier: Apache-2.0
/** Who may fill how much of what a device keeps: by kind and by sender. */
import { expect, test } from "vitest";
import { type Bytes, concat, hex } from "../src/core/base/bytes.js";
import { SecretBytes } from "../src/core/base/secret.js";
import { randomBytes } from "../src/core/crypto/webcrypto.js";
import { type Quota, trim } from "../src/client/messages/quotas.js";
import * as reports from "../src/client/messages/reports.js";
import { ReportKind } from "../src/client/messages/reports.js";
import { MemoryStore } from "../src/client/profile/store.js";
import { ALICE, BOB, MALLORY, Members } from "./cast/members.js";
import { TENANT } from "./cast/server.js";

async function storeOf(senders: string): Promise<MemoryStore> {
  const store = new MemoryStore({ tenant: TENANT, user: ALICE });
  for (const [at, sender] of [...senders].entries()) {
    const key = concat(new Uint8Array(16).fill(sender.charCodeAt(0)), Uint8Array.of(0, at));
    await store.put("row", key, new SecretBytes(Uint8Array.of(1)));
  }
  return store;
}

test.each<[string, Quota, string, string]>([
  ["aab", { ofOne: 2, ofAll: 9 }, "", "a0a1b2"],
  ["aaaab", { ofOne: 2, ofAll: 9 }, "", "a2a3b4"],
  ["baaa", { ofOne: 9, ofAll: 3 }, "", "b0a2a3"],
  ["abcd", { ofOne: 9, ofAll: 2 }, "", "a0b1"],
  ["abcd", { ofOne: 9, ofAll: 2 }, "d", "a0d3"],
  ["aaabc", { ofOne: 9, ofAll: 2 }, "a", "a1a2"],
  ["dbca", { ofOne: 9, ofAll: 3 }, "dbca", "d0b1c2"],
  ["", { ofOne: 1, ofAll: 1 }, "", ""],
])("of %s under %j, known: %j, stay %s", async (senders, quota, known, expected) => {
  const store = await storeOf(senders);
  const isKnown = (sender: Bytes): boolean => known.includes(String.fromCharCode(sender[0] as number));
  await trim(store, "row", quota, { isKnown });
  const left = (await store.keys("row")).map((key) => String.fromCharCode(key[0] as number) + key[17]);
  expect(left.join("")).toBe(expected);
});

test("a report of one kind or person is evicted by no other", async () => {
  const alice = await new Members().enrolled(ALICE);
  await alice.store.transaction(async () => {
    await reports.add(alice, ReportKind.SPLIT_VIEW, "two heads", { wayOut: "" });
    await reports.add(alice, ReportKind.UNDECRYPTABLE, "bob's", { wayOut: "", user: BOB });
    for (let number = 0; number < 700; number++) {
      const user = number % 2 ? MALLORY : randomBytes(16);
      await reports.add(alice, ReportKind.UNDECRYPTABLE, `junk ${number}`, { wayOut: "", user });
    }
  });
  const found = await reports.listReports(alice), texts = found.map((report) => report.text);
  expect(texts).toContain("two heads");
  expect(texts).toContain("bob's");
  expect(found.length).toBeLessThanOrEqual(501);
  for (const report of found) await report.done();
  expect(await reports.listReports(alice)).toEqual([]);
});

test("the same thing found again is one report, and a reason is told once also after it was read", async () => {
  const alice = await new Members().enrolled(ALICE), said = { wayOut: "Wait.", user: BOB };
  for (let again = 0; again < 3; again++) {
    await reports.add(alice, ReportKind.NOT_SENT, "the same", said);
    await reports.addOnce(alice, BOB, ReportKind.IN_DOUBT, "held", said);
  }
  expect((await reports.listReports(alice)).map((report) => report.text).sort()).toEqual(["held", "the same"]);
  for (const report of await reports.listReports(alice)) await report.done();
  await reports.addOnce(alice, BOB, ReportKind.IN_DOUBT, "held", said);
  expect(await reports.listReports(alice)).toEqual([]);
  await reports.addOnce(alice, BOB, ReportKind.IN_DOUBT, "another reason", { wayOut: "", user: BOB });
  expect((await reports.listReports(alice))[0]?.wayOut).toMatch(/opens by itself/);
  await alice.store.transaction(() => reports.forgetTold(alice, BOB));
  expect(await reports.listReports(alice)).toEqual([]);
  await reports.addOnce(alice, BOB, ReportKind.IN_DOUBT, "held", said);
  expect((await reports.listReports(alice)).length).toBe(1);
});

test("no more than eight reasons are told of one thing, and a long text is cut to what is read again", async () => {
  const alice = await new Members().enrolled(ALICE);
  for (let number = 0; number < 20; number++)
    await reports.addOnce(alice, BOB, ReportKind.IN_DOUBT, `reason ${number}`, { wayOut: "", user: BOB });
  expect((await reports.listReports(alice)).length).toBe(8);
  // A sign of two UTF-16 units counts as one character, as it does for whoever reads the row.
  await reports.add(alice, ReportKind.NOT_SENT, "\u{1f98a}".repeat(3000), { wayOut: "w".repeat(3000) });
  const long = (await reports.listReports(alice)).find((report) => report.kind === ReportKind.NOT_SENT);
  expect([...(long?.text ?? "")].length).toBe(2048);
  expect(long?.wayOut.length).toBe(1024);
  expect(long?.sender).toBe("the server");
  expect(hex(long?.id.slice(0, 16) as Bytes)).toBe("00".repeat(16));
});

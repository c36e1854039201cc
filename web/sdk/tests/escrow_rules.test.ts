// SPDX-License-Identifier: Apache-2.0
/** Custody manifests, receipts, locks, sponsors, and who could release: every refusal of theirs. */
import { describe, expect, test } from "vitest";
import { type Bytes, concat, hex, utf8 } from "../src/core/base/bytes.js";
import { InvalidSignature, Malformed, Untrusted } from "../src/core/base/errors.js";
import { SigningKey } from "../src/core/crypto/keys.js";
import { sha256 } from "../src/core/crypto/hashing.js";
import * as custody from "../src/core/escrow/custody.js";
import { Locks } from "../src/core/escrow/locks.js";
import { type Receipt, receiptFromPayload, receiptToPayload, verifyReceipt } from "../src/core/escrow/receipt.js";
import { releasable } from "../src/core/escrow/releasable.js";
import { lettingIn, stillBehind, WITHIN_SECONDS } from "../src/core/escrow/sponsors.js";
import { caseFromPayload, disclosedUntil } from "../src/core/identity/cases.js";
import { type History, historyOf, type Officer, type Policy, type SignedPolicy } from "../src/core/identity/policy.js";
import { sign, type Sign1 } from "../src/core/signed/cose.js";
import { Custody, DAY, hashOf, newFounder, NOW, rowOf } from "./custody_cast.js";
import { type Json, octets, refused, vectors } from "./vectors.js";

const world = await Custody.make();
const ENDS = NOW + 30 * DAY;
const FILES = ["a letter", "a plan", "a photograph"].map(utf8);

/** A file's lines, each ended, as a reader of files gives them. */
function* linesOf(file: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < file.length; ) {
    const end = file.indexOf(10, at) < 0 ? file.length : file.indexOf(10, at) + 1;
    yield file.subarray(at, end);
    at = end;
  }
}

describe("published custody manifests", () => {
  const all = vectors("custody"), file = utf8(all.manifest);

  test("the manifest names its files and is closed", async () => {
    const read = await custody.readManifest(linesOf(file));
    expect(read.files.map((one) => [hex(one.digest), one.time, one.size])).toEqual(
      all.files.map((one: Json) => [hex(sha256(octets(one.octets))), one.time, octets(one.octets).length]),
    );
    expect([read.isClosed, hex(read.signedCase.payloadHash), hex(read.asked.subject)]).toEqual([true, all.q, all.subject]);
    expect(disclosedUntil(read.asked)).toBe(all.disclosure_ends);
    expect(hex(concat(...read.toLines()))).toBe(hex(file));
  });

  test.each<Json>(all.refused)("refuses a manifest: $why", async (row) => {
    await refused(() => custody.readManifest(linesOf(octets(row.octets))));
  });

  const lines = vectors("statements");
  test.each<Json>(lines.statements.filter((one: Json) => one.purpose === "custody"))("$name", (one) => {
    expect(hex(custody.custodyToPayload(custody.custodyFromPayload(octets(one.payload))))).toBe(one.payload);
  });

  const names = ["custody", "first custody line", "closing custody line"];
  const wrong = lines.refused_payloads.filter((one: Json) => names.includes(one.name));
  test.each<Json>(wrong)("refuses $name: $why", async (one) => {
    await refused(() => custody.custodyFromPayload(octets(one.octets)));
  });
  test("some lines are to be refused", () => expect(wrong.length).toBeGreaterThan(20));
});

describe("a manifest", async () => {
  const asked = await world.signCase({ disclosureEnds: ENDS });
  const read = (statements: readonly Sign1[], of: { device?: Sign1; asked?: Sign1 } = {}) =>
    custody.readManifest(custody.writeManifest(of.device ?? world.device, of.asked ?? asked, statements));

  test("is open until the closing line", async () => {
    const whole = await read(await world.custodyLines(asked, FILES, true));
    expect([whole.isClosed, whole.files.length]).toEqual([true, 3]);
    expect((await read(await world.custodyLines(asked, FILES))).isClosed).toBe(false);
    expect((await read([])).files).toEqual([]);
  });

  type Change = (lines: Bytes[]) => Uint8Array[];
  const changes: Record<string, Change> = {
    "the first line is missing": (lines) => lines.toSpliced(3, 1),
    "a line is missing": (lines) => lines.toSpliced(4, 1),
    "two lines are exchanged": (lines) => lines.toSpliced(4, 2, lines[5] as Bytes, lines[4] as Bytes),
    "a line comes twice": (lines) => [...lines.slice(0, 5), ...lines.slice(4)],
    "a line comes after the last": (lines) => [...lines, lines[3] as Bytes],
    "the end of a line is missing": (lines) => [...lines.slice(0, -1), (lines.at(-1) as Bytes).subarray(0, -1)],
    "the device is missing": (lines) => lines.toSpliced(1, 1),
    "the case is missing": (lines) => lines.toSpliced(2, 1),
    "an empty line": (lines) => [...lines, utf8("\n")],
    "a line that never ends": (lines) => [...lines, utf8("A".repeat(custody.MAX_TEXT))],
    "no ASCII": (lines) => [...lines, Uint8Array.of(255, 10)],
  };
  test.each(Object.entries(changes))("does not verify when %s", async (_, change) => {
    const whole = [...custody.writeManifest(world.device, asked, await world.custodyLines(asked, FILES, true))];
    const error = await refused(() => custody.readManifest(change(whole)));
    expect(error).toBeInstanceOf(Untrusted);
    expect(error.message).toMatch(/^line \d+: /);
  });

  test.each(["", "holdfast/v1/custody-manifest", "holdfast/v2/custody-manifest\n"])("is none that begins with %j", async (first) => {
    const rest = [...custody.writeManifest(world.device, asked, [])].slice(1);
    expect(await refused(() => custody.readManifest([utf8(first), ...rest]))).toBeInstanceOf(Malformed);
  });

  const edit = (line: Sign1, changes: Partial<custody.CustodyLine>) =>
    world.signLine({ ...custody.custodyFromPayload(line.payload), ...changes });

  test("takes lines of its own device and case alone", async () => {
    const [one, two] = (await world.custodyLines(asked, FILES)) as [Sign1, Sign1];
    const strangers = await sign(two.payload, "custody", await SigningKey.generate());
    await expect(read([one, strangers])).rejects.toThrow(/^line 5: /);
    const other = await world.signCase({ disclosureEnds: ENDS });
    await expect(read(await world.custodyLines(other, FILES))).rejects.toThrow("another case");
  });

  test("takes no file that was opened after the disclosure ended", async () => {
    const [line] = (await world.custodyLines(asked, FILES)) as [Sign1];
    const { header, files } = custody.custodyFromPayload(line.payload);
    const at = (time: number) =>
      edit(line, { header: { ...header, issuedAt: time }, files: [{ ...(files[0] as custody.OpenedFile), time }] });
    expect((await read([await at(ENDS - 1)])).files.length).toBe(1);
    await expect(read([await at(ENDS)])).rejects.toThrow("after the disclosure ended");
  });

  test("takes no line that is dated before the one it follows, or comes after the closing one", async () => {
    const [one, two] = (await world.custodyLines(asked, FILES)) as [Sign1, Sign1];
    const { header } = custody.custodyFromPayload(two.payload);
    const early = await edit(two, { files: [], header: { ...header, issuedAt: NOW } });
    await expect(read([one, early])).rejects.toThrow("before the line");
    const lines = await world.custodyLines(asked, FILES.slice(0, 1), true);
    const previous = (lines.at(-1) as Sign1).payloadHash;
    const after = await edit(lines[0] as Sign1, { seq: 3, previous, header: { ...header, issuedAt: NOW + 9 } });
    await expect(read([...lines, after])).rejects.toThrow("closed");
  });

  test("is headed by a disclosure to the device that signs", async () => {
    const other = await Custody.make();
    await expect(read([], { device: other.device })).rejects.toThrow(/^line 3: /);
    const elsewhere = await world.signCase({ recipientDeviceHash: new Uint8Array(32) });
    await expect(read([], { asked: elsewhere })).rejects.toThrow("another device");
    const own = await world.signCase({ subject: world.rita, disclosureEnds: 0 });
    await expect(read([], { asked: own })).rejects.toThrow("themselves");
  });

  test("of a case from before there was an end lasts until its expiry", async () => {
    const old = caseFromPayload(world.case.payload);
    expect([old.disclosureEnds, disclosedUntil(old)]).toEqual([undefined, old.expiry]);
    expect((await read(await world.custodyLines(world.case, FILES), { asked: world.case })).files.length).toBe(3);
  });
});

describe("a receipt", () => {
  const deposit = world.only, recordHash = sha256(deposit.toRecord());
  const said: Receipt = {
    header: world.tenantHeader(),
    depositId: deposit.header.depositId,
    recordHash,
    halfHash: deposit.halfHash,
    index: 7,
  };
  const of = { policy: world.policy.policy, recordHash };
  const verify = async (changes: Partial<Receipt>, key = world.releaseSigning): Promise<Receipt> =>
    verifyReceipt(await sign(receiptToPayload({ ...said, ...changes }), "receipt", key), deposit, of);

  test("is the release key's word about this half of this deposit", async () => {
    expect(await verify({})).toEqual(said);
    const wrong: Partial<Receipt>[] = [
      { depositId: new Uint8Array(16) },
      { recordHash: new Uint8Array(32) },
      { halfHash: new Uint8Array(32) },
      { header: { ...said.header, tenant: new Uint8Array(16) } },
    ];
    for (const changes of wrong) await expect(verify(changes)).rejects.toThrow(Untrusted);
    await expect(verify({}, await SigningKey.generate())).rejects.toThrow(InvalidSignature);
  });

  test("names nobody in the tenant", async () => {
    const header = { ...said.header, user: new Uint8Array(16) };
    expect(() => receiptToPayload({ ...said, header })).toThrow(RangeError);
    await refused(() => receiptFromPayload(receiptToPayload(said).slice(0, -1)));
  });
});

describe("locks", () => {
  type Mark = readonly ["lock" | "ask" | "unlock", number];
  function locked(...marks: readonly Mark[]): Locks {
    const locks = new Locks();
    for (const [word, at] of marks) {
      if (word === "lock") locks.lock(at);
      else if (word === "ask") locks.ask(at, 100);
      else locks.unlock(at);
    }
    return locks;
  }
  const when = (locks: Locks, ...at: number[]): boolean[] => at.map((one) => locks.isLocked(one));

  test("a lock lasts until the delay of two owners' word is over", () => {
    expect([new Locks().isLocked(10), new Locks().lockedBetween(0, 10)]).toEqual([false, 0]);
    const locks = locked(["lock", 10], ["ask", 20], ["unlock", 130]);
    expect(when(locks, 10, 129, 130)).toEqual([true, true, false]);
    expect([[0, 200], [50, 60], [130, 200]].map(([from, to]) => locks.lockedBetween(from as number, to as number))).toEqual([
      120, 10, 0,
    ]);
    expect(when(locked(["lock", 10], ["ask", 20], ["unlock", 21]), 21, 119, 120)).toEqual([true, true, false]);
    expect(when(locked(["lock", 10], ["ask", 20], ["ask", 90], ["unlock", 95]), 119, 120)).toEqual([true, false]);
  });

  test("an unlocking that nobody asked for ends nothing", () => {
    for (const marks of [[["lock", 10]], [["ask", 5], ["lock", 10]], [["lock", 10], ["ask", 20], ["lock", 50]]] as Mark[][]) {
      const locks = locked(...marks);
      expect(locks.unlock(200)).toBe(false);
      expect(locks.isLocked(10 ** 9)).toBe(true);
    }
    expect(locked(["lock", 10], ["ask", 20]).isLocked(10 ** 9)).toBe(true);
  });

  test("locking again ends an unlocking on its way, and each lock counts once", () => {
    const again = locked(["lock", 10], ["ask", 20], ["unlock", 21], ["lock", 110]);
    expect([again.isLocked(10 ** 9), again.lockedBetween(0, 500)]).toEqual([true, 490]);
    const twice = locked(["lock", 10], ["ask", 10], ["unlock", 110], ["lock", 200], ["ask", 200], ["unlock", 300]);
    expect([twice.lockedBetween(0, 1000), ...when(twice, 299, 300)]).toEqual([200, true, false]);
  });

  test("the time for a delay never runs backwards", () => {
    let seed = 7;
    const draw = (below: number): number => (seed = (seed * 48271) % 2147483647) % below;
    for (let run = 0; run < 200; run++) {
      const marks: Mark[] = [];
      let at = 0;
      for (let left = 1 + draw(11); left > 0; left--)
        marks.push([(["lock", "ask", "unlock"] as const)[draw(3)] as "lock", (at += 1 + draw(79))]);
      const locks = locked(...marks), passed = (end: number): number => end - locks.lockedBetween(0, end);
      for (let end = at; end < at + 300; end += 7) {
        expect(passed(end + 7)).toBeGreaterThanOrEqual(passed(end));
        if (locks.isLocked(end)) expect(passed(end + 1)).toBe(passed(end));
      }
    }
  });
});

describe("sponsors", () => {
  function acts(...done: readonly (readonly [person: string, by: string, day: number])[]) {
    const known = new Map<string, Map<string, number>>();
    for (const [person, by, day] of done)
      for (const one of lettingIn([by], known, NOW + day * DAY)) {
        const behind = known.get(person) ?? new Map<string, number>();
        known.set(person, behind.set(one, NOW + day * DAY));
      }
    return (person: string, day = 0): string[] => [...stillBehind(known.get(person) ?? new Map(), NOW + day * DAY)].sort();
  }

  test("those behind a sponsor come along, for ninety days from the act", () => {
    expect([...lettingIn([], new Map([["a", new Map([["b", NOW]])]]), NOW)]).toEqual([]);
    expect([...lettingIn(["a"], new Map(), NOW)]).toEqual(["a"]);
    const behind = acts(["c", "d", -251], ["b", "c", -160], ["a", "b", -80]);
    expect([behind("a"), behind("b")]).toEqual([["b", "c"], []]);
    for (const [ago, found] of [[0, ["b"]], [WITHIN_SECONDS, ["b"]], [WITHIN_SECONDS + 1, []]] as const) {
      const since = new Map([["b", NOW - ago]]);
      expect([...stillBehind(since, NOW)]).toEqual(found);
      expect([...lettingIn(["a"], new Map([["a", since]]), NOW)]).toEqual(["a", ...found]);
    }
  });

  test("what a sponsor comes to afterwards had no part in their act", () => {
    expect(acts(["a", "b", -1], ["b", "c", 0])("a")).toEqual(["b"]);
  });

  test("people who let each other in stand behind each other", () => {
    const days = Array.from({ length: 10 }, (_, day) => [["a", "b", day], ["b", "a", day]] as const).flat();
    const behind = acts(...days);
    expect([behind("a", 9), behind("b", 9)]).toEqual([["a", "b"], ["a", "b"]]);
  });
});

describe("who could release", async () => {
  const { policy } = world.policy, [carol, dan, erin] = policy.roster as [Officer, Officer, Officer];
  const fourth = rowOf(await newFounder(), 4);
  const everybody = [...policy.roster, fourth].map((one) => hex(one.person));
  const present = new Set(everybody), without = (...out: Officer[]): Set<string> =>
    new Set(everybody.filter((one) => !out.some((officer) => hex(officer.person) === one)));
  const founded = historyOf([world.policy], [0]);
  const all = world.policy.signers;

  function followedBy(changes: Partial<Policy>, signers: ReadonlySet<string> = all): History {
    const links = { version: 2, predecessor: world.policy.hash, heldInForce: world.policy.hash };
    const second: SignedPolicy = { policy: { ...policy, ...links, ...changes }, hash: hashOf("second"), signers };
    return historyOf([world.policy, second], [0, NOW]);
  }
  const ask = (history: History = founded, changes: Partial<Parameters<typeof releasable>[1]> = {}) =>
    releasable(world.policy, { history, at: NOW, present, ...changes });

  test("officers are counted by the indices of the deposit's own policy", () => {
    const found = ask();
    expect([found.indices, found.needed, found.isOpen, found.isAlarming]).toEqual([[1, 2, 3], 2, true, false]);
    const moved = followedBy({ roster: [{ ...dan, index: 1 }, { ...carol, index: 2 }, { ...fourth, index: 3 }] });
    expect(ask(moved).indices).toEqual([1, 2]);
  });

  test("whoever is not present, or is excluded, does not count", () => {
    const alarming = ask(founded, { present: without(carol) });
    expect([alarming.indices, alarming.isOpen, alarming.isAlarming]).toEqual([[2, 3], true, true]);
    const closed = ask(founded, { present: without(carol), excluded: new Set([hex(dan.person)]) });
    expect([closed.indices, closed.isOpen]).toEqual([[3], false]);
    expect(ask(founded, { present: new Set() }).indices).toEqual([]);
  });

  test("whom a version takes out counts until it is in force", () => {
    const signers = new Set([carol, dan].map((one) => hex(one.signingKey.kid)));
    const history = followedBy({ roster: [carol, dan, { ...fourth, index: 3 }] }, signers);
    expect([DAY - 1, DAY].map((later) => ask(history, { at: NOW + later }).indices)).toEqual([[1, 2, 3], [1, 2]]);
  });

  test("an officer with other keys has no share to hand over", () => {
    const { sealingKey, signingKey } = fourth;
    for (const row of [{ ...erin, sealingKey }, { ...erin, signingKey }]) {
      const history = followedBy({ roster: [carol, dan, row] });
      expect(history.counting(NOW).map((one) => hex(one.person))).toContain(hex(erin.person));
      expect(ask(history).indices).toEqual([1, 2]);
    }
  });

  test("a raised quorum binds older deposits even while the version waits", () => {
    for (const terms of [policy.terms, { ...policy.terms, delaySeconds: 0 }]) {
      const found = ask(followedBy({ roster: [...policy.roster, fourth], m: 3, terms }));
      expect([found.indices, found.needed, found.isOpen, found.isAlarming]).toEqual([[1, 2, 3], 3, true, true]);
    }
  });

  test("a case is decided by the officers of its own policy", () => {
    const other: Policy = { ...policy, roster: [carol, dan, { ...fourth, index: 3 }] };
    expect(ask(founded, { askedUnder: [other] }).indices).toEqual([1, 2]);
    expect(ask(founded, { askedUnder: [{ ...policy, m: 3, roster: [...policy.roster, fourth] }] }).needed).toBe(3);
  });

  test("a new officer counts for deposits of their own version after the cooling-off", () => {
    const history = followedBy({ roster: [...policy.roster, fourth] });
    const found = [0, DAY - 1, DAY].map((later) => releasable(history.newest, { history, at: NOW + later, present }).indices);
    expect(found).toEqual([[1, 2, 3], [1, 2, 3], [1, 2, 3, 4]]);
  });
});

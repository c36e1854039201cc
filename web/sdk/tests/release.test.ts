// SPDX-License-Identifier: Apache-2.0
/** Counting and judging: who counts, from when, what ends a case, and what rows and signatures may disagree about. */
import { describe, expect, test } from "vitest";
import { type Bytes, EMPTY, hex } from "../src/core/base/bytes.js";
import { HoldfastError, InvalidSignature, QuorumNotMet, Untrusted, UnwrapFailed } from "../src/core/base/errors.js";
import { SecretBytes } from "../src/core/base/secret.js";
import { SigningKey } from "../src/core/crypto/keys.js";
import { oaepHash, wrapRsa } from "../src/core/crypto/rsa.js";
import * as approvals from "../src/core/escrow/approvals.js";
import { Deposit } from "../src/core/escrow/deposit.js";
import * as release from "../src/core/escrow/release.js";
import { type Approval, approvalFromPayload, approvalToPayload, caseToPayload, ClientKind } from "../src/core/identity/cases.js";
import { ApproveWith, type Officer, type SignedPolicy } from "../src/core/identity/policy.js";
import { sign, Sign1 } from "../src/core/signed/cose.js";
import type { Header } from "../src/core/signed/payloads.js";
import { Custody, DAY, type Founder, HSM_KEY, NOW, numbered, RECIPIENT_KEY } from "./custody_cast.js";

const { Ended, judge, NotYet, NOTICE_SLACK_SECONDS } = release;
const world = await Custody.make();

function denial(of: Custody, index: number, asked: Sign1 = of.case): Promise<Sign1> {
  return approvals.deny(asked, of.approver(index), of.policy, "it was not the voice");
}

async function later(work: Promise<unknown>): Promise<release.NotYet> {
  const error: unknown = await work.then(() => undefined, (refusal: unknown) => refusal);
  expect(error).toBeInstanceOf(NotYet);
  return error as release.NotYet;
}

async function countingOf(of: Custody, facts: release.ReleaseFacts): Promise<number[]> {
  const orders = await judge(facts);
  expect(orders.map((order) => hex(order.deposit.header.depositId))).toEqual([...of.deposits.keys()]);
  return [...(orders[0] as release.Rewrap).shareHashes.keys()].sort();
}

/** Officer `index` signs an approval in which something was changed. */
async function resigned(of: Custody, index: number, changes: Partial<Omit<Approval, "header">> & { header?: Partial<Header> }) {
  const read = approvalFromPayload((await of.approval(index)).payload), header = { ...read.header, ...changes.header };
  return sign(approvalToPayload({ ...read, ...changes, header }), "approval", (of.officers[index - 1] as Founder).signing);
}

describe("a quorum", () => {
  async function counted(of: Custody, statements: readonly Sign1[], excluded: Partial<approvals.Excluded> = {}) {
    const by = { policy: of.policy, excluded: of.excluded(excluded), m: 2 };
    const shares = await approvals.requireQuorum(of.case, statements, by);
    return Math.min(...[...shares.values()].map((row) => row.size));
  }
  const short = (work: Promise<number>, why: string | RegExp = "1 of 2"): Promise<void> =>
    expect(work).rejects.toThrow(why);

  test("is of m distinct officers", async () => {
    const [one, three] = [await world.approval(1), await world.approval(3)];
    expect(await counted(world, [one, three])).toBe(2);
    await short(counted(world, [one]));
    await short(counted(world, [one, one, await world.approval(1)]));
  });

  test.each(["coolingOff", "suspended", "away", "keysLost", "behind"] as const)("leaves out whoever is: %s", async (why) => {
    const out = { [why]: new Set([hex((world.officers[1] as Founder).person)]) };
    await short(counted(world, [await world.approval(1), await world.approval(2)], out), /1 of 2.*officer 2 /);
  });

  test.each(["requester", "subject", "recipient"] as const)("leaves out the %s", async (role) => {
    const out = { [role]: hex((world.officers[0] as Founder).person) };
    await short(counted(world, [await world.approval(1), await world.approval(2)], out), /officer 1 /);
  });

  test("leaves out what is about another case, of another tenant, in another's name or by a stranger", async () => {
    const one = await world.approval(1), person = (world.officers[2] as Founder).person;
    expect(await counted(world, [one, await resigned(world, 2, {})])).toBe(2);
    const shares = approvalFromPayload((await world.approval(2)).payload).shares;
    const wrong = [
      await resigned(world, 2, { header: { user: person } }),
      await resigned(world, 2, { header: { tenant: new Uint8Array(16) } }),
      await resigned(world, 2, { policyHash: new Uint8Array(32) }),
      await resigned(world, 2, { caseHash: new Uint8Array(32) }),
      await resigned(world, 2, { shares: [[new Uint8Array(16), 2, new Uint8Array(32)]] }),
      await resigned(world, 2, { shares: shares.map(([id, , hash]) => [id, 1, hash]) }),
      await world.approval(2, { asked: await world.signCase({ reason: "Another case." }) }),
      await world.approval(2, { clientKind: ClientKind.BROWSER }),
      await sign(one.payload, "approval", await SigningKey.generate()),
    ];
    for (const statement of wrong) await short(counted(world, [one, statement]));
  });

  test("leaves out a denial, and whoever denies", async () => {
    await short(counted(world, [await world.approval(1), await denial(world, 2)]), "officer 2 denies");
    await short(counted(world, [await world.approval(1), await world.approval(2), await denial(world, 2)]), "officer 2 denies");
  });

  test("is refused over a signature that does not hold", async () => {
    const two = await world.approval(2), forged = new Sign1(two.header, two.payload, (await world.approval(1)).signature);
    await expect(counted(world, [await world.approval(1), forged])).rejects.toThrow(InvalidSignature);
    const facts = await world.facts([1]);
    const logged = [...facts.approvals, { statement: forged, at: NOW + 2 }];
    await expect(judge({ ...facts, approvals: logged })).rejects.toThrow(InvalidSignature);
  });

  test("counts each deposit by its own shares", async () => {
    const two = await Custody.make({ deposits: 2 });
    const { shares } = approvalFromPayload((await two.approval(2)).payload);
    const half = await resigned(two, 2, { shares: shares.slice(0, 1) });
    await short(counted(two, [await two.approval(1), half]));
    expect(await counted(two, [await two.approval(1), half, await two.approval(3)])).toBe(2);
  });

  test("that was there once stays, whoever counts today", async () => {
    const of = { policy: world.policy, m: 2 }, [one, two] = [await world.approval(1), await world.approval(2)];
    expect(await approvals.hadQuorum(world.case, [one, two], of)).toBe(true);
    expect(await approvals.hadQuorum(world.case, [one, one, await denial(world, 2)], of)).toBe(false);
    const party = await world.signCase({ requester: (world.officers[0] as Founder).person });
    const again = [await world.approval(1, { asked: party }), await world.approval(2, { asked: party })];
    expect(await approvals.hadQuorum(party, again, of)).toBe(false);
  });
});

describe("judge", () => {
  test("orders one re-wrap for each deposit", async () => {
    const two = await Custody.make({ deposits: 2 });
    const orders = await judge(await two.facts([1, 2]));
    expect(orders.length).toBe(2);
    expect(orders.every((order) => order.recipient.equals(RECIPIENT_KEY.public))).toBe(true);
    expect(await countingOf(two, await two.facts([1, 2]))).toEqual([1, 2]);
    expect([...(await release.judgeShares(await two.facts([1]))).values()].map((row) => [...row.keys()])).toEqual([[1], [1]]);
  });

  test("waits for the delay after the quorum, and for not-before", async () => {
    await expect(judge(await world.facts([1]))).rejects.toThrow(QuorumNotMet);
    expect((await later(judge(await world.facts([1, 2], { now: NOW + 61 })))).at).toBe(NOW + 2 + 60);
    expect(await judge(await world.facts([1, 2], { now: NOW + 62 }))).toHaveLength(1);
    const other = await Custody.make();
    other.case = await other.signCase({ notBefore: NOW + 5000 });
    expect((await later(judge(await other.facts([1, 2])))).at).toBe(NOW + 5000);
  });

  test("waits until the subject was told, and long where they could not be", async () => {
    expect((await later(judge(await world.facts([1, 2], { notice: {} })))).at).toBeUndefined();
    const at = async (changes: Partial<release.ReleaseFacts>) => (await later(judge(await world.facts([1, 2], changes)))).at;
    expect(await at({ notice: { failedAt: NOW + 1 } })).toBe(NOW + 2 + 14 * DAY);
    expect(await at({ notice: { failedAt: NOW + 500 } })).toBe(NOW + 500 + 14 * DAY);
    expect(await at({ notice: { handedOverAt: NOW + 990 } })).toBe(NOW + 990 + 60);
    expect(await at({ isHeard: false })).toBe(NOW + 2 + 14 * DAY);
    expect(await at({ objectedAt: NOW + 500 })).toBe(NOW + 500 + 14 * DAY);
    expect(await at({ objectedAt: NOW - 500 })).toBe(NOW + 2 + 14 * DAY);
  });

  test("ends a vetoed, an expired and a misused case", async () => {
    for (const changes of [{ isVetoed: true }, { now: NOW + DAY }])
      await expect(judge(await world.facts([1, 2], changes))).rejects.toThrow(Ended);
    const purposeless = await Custody.make({ terms: { purposes: ["legal"] } });
    await expect(judge(await purposeless.facts([1, 2]))).rejects.toThrow(Ended);
    expect((await later(judge(await world.facts([1, 2], { latest: NOW + DAY })))).message).toContain("one of this machine's clocks");
  });

  test("ends a case that delays notice longer than allowed", async () => {
    const other = await Custody.make();
    for (const noticeAt of [NOW + 3600, NOW + NOTICE_SLACK_SECONDS + 1]) {
      other.case = await other.signCase({ noticeAt });
      await expect(judge(await other.facts([1, 2]))).rejects.toThrow("notice");
    }
    const patient = await Custody.make({ terms: { maxNoticeDelaySeconds: 3600 } });
    patient.case = await patient.signCase({ noticeAt: NOW + 3600 });
    expect(await judge(await patient.facts([1, 2], { notice: {} }))).toHaveLength(1);
  });

  test.each([1, 60, NOTICE_SLACK_SECONDS])("bears clocks that are %i seconds apart", async (early) => {
    expect(await judge(await world.facts([1, 2], { openedAt: NOW - early }))).toHaveLength(1);
  });

  test.each([[0, 3], [0, NOTICE_SLACK_SECONDS], [3600, 60]])("lets no clock release before the notice: %i, %i", async (allowed, ahead) => {
    const terms = { delaySeconds: 0, undeliveredDelaySeconds: 0, maxNoticeDelaySeconds: allowed };
    const other = await Custody.make({ terms });
    other.case = await other.signCase({ noticeAt: NOW + allowed + ahead, notBefore: NOW });
    const due = { openedAt: NOW, now: NOW + allowed + 2 };
    expect((await later(judge(await other.facts([1, 2], { ...due, notice: {} })))).message).toContain("not been told");
    expect(await judge(await other.facts([1, 2], { ...due, notice: { handedOverAt: NOW + 2 } }))).toHaveLength(1);
  });

  test("counts no officer who also denies, and runs the delay from those who still approve", async () => {
    const facts = await world.facts([1, 2, 3]), no = await denial(world, 2);
    const both = [...facts.approvals, { statement: no, at: NOW + 500 }];
    expect(await countingOf(world, { ...facts, approvals: both })).toEqual([1, 3]);
    const late = [...both.slice(0, 2), { statement: no, at: NOW + 10 }, { statement: await world.approval(3), at: NOW + 990 }];
    expect((await later(judge({ ...facts, approvals: late }))).at).toBe(NOW + 990 + 60);
  });

  test("does not count an approval past its own expiry, nor a browser's once the policy forbids it", async () => {
    const { header } = world.approver(2), brief = await world.approval(2, { header: { ...header, expiresAt: NOW + 900 } });
    const facts = await world.facts([1]), logged = [...facts.approvals, { statement: brief, at: NOW + 2 }];
    expect(await judge({ ...facts, approvals: logged, now: NOW + 899 })).toHaveLength(1);
    await expect(judge({ ...facts, approvals: logged, now: NOW + 900 })).rejects.toThrow(QuorumNotMet);
    await later(judge({ ...facts, approvals: logged, now: NOW + 899, latest: NOW + 900 }));
    const open = await Custody.make({ terms: { approveWith: ApproveWith.ANY } });
    const pages = [];
    for (const at of [1, 2]) pages.push({ statement: await open.approval(at, { clientKind: ClientKind.BROWSER }), at: NOW + at });
    expect(await judge(await open.facts([], { approvals: pages }))).toHaveLength(1);
    const policyNow = await open.successor({ terms: { approveWith: ApproveWith.CLI } });
    await expect(judge(await open.facts([], { approvals: pages, policyNow }))).rejects.toThrow(QuorumNotMet);
  });

  test("does not count an officer whose key was replaced or who left, and asks one more after a third veto", async () => {
    const four = await Custody.make({ n: 4 }), roster = four.policy.policy.roster;
    const signingKey = (await SigningKey.generate()).public;
    const rekeyed = await four.successor({ roster: roster.map((one) => (one.index === 2 ? { ...one, signingKey } : one)) });
    const without = await four.successor({ roster: numbered(roster.filter((one) => one.index !== 2)) });
    for (const policyNow of [rekeyed, without]) {
      await expect(judge(await four.facts([1, 2], { policyNow }))).rejects.toThrow("suspended or removed");
      expect(await countingOf(four, await four.facts([1, 2, 3], { policyNow }))).toEqual([1, 3]);
    }
    await expect(judge(await four.facts([1, 2], { extraOfficers: 1 }))).rejects.toThrow("2 of 3");
    expect(await judge(await four.facts([1, 2, 3], { extraOfficers: 1 }))).toHaveLength(1);
  });

  test("takes the strictest m of deposit, request and now", async () => {
    const five = await Custody.make({ n: 5 }), policyNow = await five.successor({ m: 3 });
    await expect(judge(await five.facts([1, 2], { policyNow }))).rejects.toThrow("2 of 3");
    expect(await judge(await five.facts([1, 2, 3], { policyNow }))).toHaveLength(1);
    const strict = await Custody.make({ m: 3, n: 5 }), lowered = await strict.successor({ m: 2 });
    await expect(judge(await strict.facts([1, 2], { policyNow: lowered }))).rejects.toThrow("2 of 3");
    strict.case = await strict.signCase({ policyHash: lowered.hash });
    const logged = async (...indices: number[]) => {
      const rows = [];
      for (const at of indices) rows.push({ statement: await strict.approval(at, { policy: lowered }), at: NOW + at });
      return strict.facts([], { approvals: rows, policyAtRequest: lowered, policyNow: lowered });
    };
    await expect(judge(await logged(1, 2))).rejects.toThrow("2 of 3");
    expect(await judge(await logged(1, 2, 3))).toHaveLength(1);
  });

  test("refuses what rows and signatures disagree about", async () => {
    const other = await Custody.make(), [id] = [...world.deposits.keys()] as [string];
    const edited = new Sign1(world.case.header, caseToPayload(world.casePayload({ subject: new Uint8Array(16) })), world.case.signature);
    const wrong: Partial<release.ReleaseFacts>[] = [
      { case: edited },
      { case: other.case },
      { case: await sign(world.case.payload, "case", await SigningKey.generate()) },
      { case: new Sign1(world.case.header, world.case.payload, new Uint8Array(64)) },
      { recipient: other.device },
      { tenant: new Uint8Array(16) },
      { records: new Map([[id, other.only.toRecord()]]) },
      { records: new Map() },
      { halfOwners: new Map() },
      { halfOwners: new Map([[hex(world.only.halfHash), new Uint8Array(16)]]) },
      { policiesAtDeposit: new Map() },
      { policyAtRequest: other.policy },
      { policyAtRequest: await world.successor({}) },
      { excluded: world.excluded({ subject: "00".repeat(16) }) },
      { excluded: world.excluded({ requester: "00".repeat(16) }) },
      { excluded: world.excluded({ recipient: "00".repeat(16) }) },
    ];
    for (const changes of wrong) {
      const error: unknown = await judge(await world.facts([1, 2], changes)).catch((refusal: unknown) => refusal);
      expect(error).toSatisfy((one) => one instanceof Untrusted || one instanceof InvalidSignature || one instanceof QuorumNotMet);
    }
  });

  test("refuses a recipient device of another tenant or user", async () => {
    for (const name of ["tenant", "user"] as const) {
      const header = { ...world.deviceHeader(), [name]: new Uint8Array(16) }, key = await SigningKey.generate();
      const device = await world.signDevice(header, key);
      const asked = await world.signCase({ recipientDeviceHash: device.payloadHash }, key);
      await expect(judge(await world.facts([1, 2], { case: asked, recipient: device }))).rejects.toThrow("another device");
    }
  });

  function moved(of: Deposit, header: Partial<Deposit["header"]>): Deposit {
    return new Deposit({ ...of.header, ...header }, new Uint8Array(32), new Uint8Array(48), of.sealedHalf, of.boxes);
  }

  test("refuses a deposit of somebody else, or with a lower m than its policy", async () => {
    const other = await Custody.make({ m: 3, n: 5 }), { only } = other;
    for (const [changes, why] of [[{ user: new Uint8Array(16) }, "subject's"], [{ m: 2 }, "another number of officers"]] as const) {
      const changed = moved(only, changes);
      other.deposits = new Map([[hex(changed.header.depositId), changed]]);
      other.case = await other.signCase();
      await expect(judge(await other.facts([]))).rejects.toThrow(why);
    }
  });
});

describe("after an officer has left and the others are numbered anew", async () => {
  const four = await Custody.make({ n: 4 }), before = four.policy.policy;
  const after = await four.successor({ roster: numbered(before.roster.slice(1)) });
  const asked = await four.signCase({ policyHash: after.hash });
  // Their row of the new roster: the founders' second is its first.
  function approve(index: number, policies: ReadonlyMap<string, SignedPolicy> = new Map([[hex(four.policy.hash), four.policy]]), officer = after.policy.roster[index - 1] as Officer) {
    const ground = { policy: after, policies, releaseKey: after.policy.terms.releaseSealingKey };
    return approvals.approve(asked, four.deposits, { ...four.approver(index + 1), officer }, ground, "seen in person");
  }

  test("shares keep the index of the deposit's policy", () => {
    expect(after.policy.roster.map((one) => approvals.shareIndex(one, before))).toEqual([2, 3, 4]);
    expect(approvals.shareIndex(before.roster[0] as Officer, after.policy)).toBeUndefined();
  });

  test("an older deposit is approved, judged and opened", async () => {
    const { depositId } = four.only.header, logged = [], sealed = new Map<number, Bytes>();
    const answers = new Map<number, approvals.OuterShare[]>();
    for (const [at, old] of [[1, 2], [3, 4]] as const) {
      const [statement, outers] = await approve(at);
      logged.push({ statement, at: NOW + at });
      answers.set(old, outers);
    }
    const facts = await four.facts([], { case: asked, approvals: logged, policyAtRequest: after, policyNow: after });
    const [order] = (await judge(facts)) as [release.Rewrap];
    expect([...order.shareHashes.keys()]).toEqual([2, 4]);
    for (const [index, outers] of answers) {
      const of = { q: asked.payloadHash, depositId, index, expectedHash: order.shareHashes.get(index) as Bytes };
      const { outer } = outers[0] as approvals.OuterShare;
      sealed.set(index, await approvals.takeOffOuter(outer, four.releaseSealing, of));
      for (const changes of [{ q: new Uint8Array(32) }, { index: 1 }, { expectedHash: new Uint8Array(32) }])
        await expect(approvals.takeOffOuter(outer, four.releaseSealing, { ...of, ...changes })).rejects.toThrow(UnwrapFailed);
    }
    const hash = oaepHash("oaep-sha1"), half = await HSM_KEY.unwrap(four.only.sealedHalf, { hash });
    const wrapped = await wrapRsa(RECIPIENT_KEY.public, half, { hash, label: EMPTY });
    const sealedShares = new Map([...sealed, [0, EMPTY], [5, EMPTY], [-70000, EMPTY]] as [number, Bytes][]);
    const released = { half: wrapped, sealedShares, algorithm: "oaep-sha1" };
    const keys = { rsa: RECIPIENT_KEY, sealing: four.recipientSealing };
    const back = await approvals.combine(asked, four.only, released, keys);
    expect(back.archiveKey.equals(four.archiveKeys[0] as SecretBytes)).toBe(true);
    expect(back.blamed).toEqual([-70000, 0, 5]);
    // A share of one case does not open in another, and one officer's in another's place is laid to its number.
    const elsewhere = await four.signCase({ policyHash: after.hash, reason: "another" });
    await expect(approvals.combine(elsewhere, four.only, released, keys)).rejects.toThrow(UnwrapFailed);
    const swapped = new Map([[2, sealed.get(2) as Bytes], [3, sealed.get(2) as Bytes]]);
    const error = await approvals.combine(asked, four.only, { ...released, sealedShares: swapped }, keys).catch((one: unknown) => one);
    expect(error).toBeInstanceOf(approvals.ShareBlamed);
    expect((error as approvals.ShareBlamed).indices).toEqual([3]);
  });

  test("a deposit whose policy is not known, or gave no share, is not approved", async () => {
    await expect(approve(1, new Map())).rejects.toThrow("not known");
    const newcomer = { ...(after.policy.roster[0] as Officer), person: new Uint8Array(16) };
    await expect(approve(1, undefined, newcomer)).rejects.toThrow("holds no share");
  });
});

/** Every order of approvals, denials, removals, policies, vetoes and time gives the verdict of a model of plain sets. */
test("judge agrees with a model in any order of events", async () => {
  const five = await Custody.make({ n: 5 }), roster = five.policy.policy.roster, indices = [1, 2, 3, 4, 5];
  const other = await five.signCase({ reason: "another" });
  const said = await Promise.all(
    indices.map(async (at) => [await five.approval(at), await five.approval(at, { asked: other }), await denial(five, at)] as const),
  );
  const policies: [SignedPolicy, number, number[]][] = [
    [five.policy, 2, indices],
    [await five.successor({ m: 3 }), 3, indices],
    [await five.successor({ roster: numbered(roster.slice(1)) }), 2, [2, 3, 4, 5]],
    [await five.successor({ roster: numbered(roster.filter((one) => one.index !== 2)) }), 2, [1, 3, 4, 5]],
  ];
  let seed = 20;
  const draw = (below: number): number => (seed = (seed * 48271) % 2147483647) % below;
  const verdicts = new Map<string, number>();
  for (let run = 0; run < 9; run++) {
    const log: release.LoggedApproval[] = [], approvedAt = new Map<number, number>(), denied = new Set<number>();
    const out = { suspended: new Set<number>(), away: new Set<number>(), coolingOff: new Set<number>() };
    let policy = 0, extra = 0, isVetoed = false, toldAt: number | undefined, now = NOW + 1;
    for (let step = 0; step < 16; step++) {
      const act = draw(11), at = 1 + draw(5), [yes, crossed, no] = said[at - 1] as (typeof said)[number];
      const how = (["suspended", "away", "coolingOff"] as const)[draw(3)] as "away";
      if (act < 4) {
        log.push({ statement: yes, at: now });
        if (!approvedAt.has(at)) approvedAt.set(at, now);
      } else if (act === 4) log.push({ statement: crossed, at: now });
      else if (act === 5 && draw(2) === 0) log.push({ statement: no, at: now }), denied.add(at);
      else if (act === 6) out[how].add(at);
      else if (act === 7) out[how].clear();
      else if (act === 8) policy = draw(policies.length);
      else if (act === 9) draw(6) === 0 ? (isVetoed = true) : draw(3) === 0 ? (extra = 1) : (toldAt ??= now);
      else now += [1, 30, 59, 61, 3600][draw(5)] as number;
      const [policyNow, least, members] = policies[policy] as (typeof policies)[number];
      const counting = [...approvedAt.keys()]
        .filter((one) => members.includes(one) && !denied.has(one) && !Object.values(out).some((set) => set.has(one)))
        .sort();
      const needed = Math.max(2, least) + extra;
      const quorumAt = counting.map((one) => approvedAt.get(one) as number).sort((a, b) => a - b)[needed - 1];
      const expected = isVetoed
        ? "Ended"
        : quorumAt === undefined
          ? "QuorumNotMet"
          : toldAt === undefined || now < Math.max(quorumAt, toldAt) + 60
            ? "NotYet"
            : counting.join();
      const persons = (set: Set<number>): Set<string> => new Set([...set].map((one) => hex((five.officers[one - 1] as Founder).person)));
      const excluded = five.excluded(
        { suspended: persons(out.suspended), away: persons(out.away), coolingOff: persons(out.coolingOff) });
      const notice = toldAt === undefined ? {} : { handedOverAt: toldAt };
      const facts = await five.facts([], { approvals: log, policyNow, excluded, notice, isVetoed, extraOfficers: extra, now });
      const found = await countingOf(five, facts).then(
        (counted) => counted.join(),
        (error: unknown) => (error instanceof HoldfastError ? error.name : String(error)),
      );
      expect(found).toBe(expected);
      const kind = /^\d/.test(found) ? "release" : found;
      verdicts.set(kind, (verdicts.get(kind) ?? 0) + 1);
    }
  }
  expect([...verdicts.keys()].sort()).toEqual(["Ended", "NotYet", "QuorumNotMet", "release"]);
});

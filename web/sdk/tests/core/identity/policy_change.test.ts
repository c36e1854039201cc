// SPDX-License-Identifier: Apache-2.0
/** What a version changes, in words: the terms, the officers, from when, and which guards it lowers. */
import { describe, expect, test } from "vitest";
import { hex } from "../../../src/core/base/bytes.js";
import { SigningKey } from "../../../src/core/crypto/keys.js";
import {
  ApproveWith, DepositRule, findLowered, NEVER, type Officer, type Policy, policyFromPayload, type SignedPolicy, type Terms,
} from "../../../src/core/identity/policy.js";
import {
  changedTerms, changeOf, type ChangeBasis, freshOf, historyWith, inWords, type PolicyChange, textBox,
} from "../../../src/core/identity/policy_change.js";
import { DAY, hashOf, idOf, nextPolicy, NOW, OFFICERS, POLICY, RITA, SIGNED_POLICY, TERMS } from "../../cast/statements.js";
import { type Json, octets, vectors } from "../../vectors.js";

const [CAROL, DAN, ERIN] = OFFICERS.map((officer) => hex(officer.signingKey.kid)) as [string, string, string];
const fresh = async (index: number, person: Officer["person"]): Promise<Officer> => ({
  index,
  person,
  signingKey: (await SigningKey.generate()).public,
  sealingKey: OFFICERS[0].sealingKey,
});
const FOURTH = await fresh(4, RITA), THIRD = { ...FOURTH, index: 3 };
const known = { versions: [SIGNED_POLICY], published: [NOW - DAY], at: NOW };

function change(
  after: Policy,
  signers: string[] = [],
  given: Partial<ChangeBasis & { since: Policy }> = {},
): PolicyChange {
  return changeOf(after, { ...known, signers: new Set(signers), ...given });
}

const words = (after: Policy, signers: string[] = []): string => inWords(change(after, signers), { at: NOW }).join("\n");
const terms = (changes: Partial<Terms>): Policy => nextPolicy({ terms: { ...TERMS, ...changes } });

test("a version that raises a guard is in force at once and says so", () => {
  const found = change(terms({ delaySeconds: 5 * DAY })), said = words(terms({ delaySeconds: 5 * DAY }));
  expect([found.lowered, found.inForceFrom]).toEqual([[], NOW]);
  expect(found.terms).toEqual([{ name: "Delay", before: "3 days", after: "5 days" }]);
  expect(said).toContain("Delay: 3 days \u2192 5 days");
  expect(said).toContain("In force at once if it is published now. It lowers no guard.");
});

test.each<[string, Partial<Terms>, string]>([
  ["delay_seconds", { delaySeconds: 0 }, "the delay"],
  ["max_notice_delay_seconds", { maxNoticeDelaySeconds: 31 * DAY }, "how soon a subject is told"],
  ["cooling_off_seconds", { coolingOffSeconds: 0 }, "the cooling-off"],
  ["undelivered_delay_seconds", { undeliveredDelaySeconds: 0 }, "the delay when notice fails"],
  ["approve_with", { approveWith: ApproveWith.ANY }, "where approvals come from"],
  ["purposes", { purposes: ["curiosity", ...TERMS.purposes] }, "the purposes"],
  ["deposits", { deposits: DepositRule.OPTIONAL }, "which generations are deposited"],
])("%s that falls is named, and the wait with it", (guard, changes, said) => {
  const found = change(terms(changes));
  expect([found.lowered, found.inForceFrom]).toEqual([[guard], NOW + DAY]);
  expect(words(terms(changes))).toContain(`(1 day from now) if it is published now. It lowers ${said}.`);
});

test("the terms of a consent are said, and the tenant's text has a box of its own", () => {
  const after = terms({ consentBindsSeconds: 30 * DAY, text: "In force at once. It lowers no guard." }), found = words(after);
  expect(found).toContain("can be taken back at any time \u2192 can be taken back 30 days after it was given, and not before");
  expect(found).toContain("Text to members: none \u2192 37 characters, ");
  expect(found).not.toContain(after.terms.text);
  expect(textBox(after.terms)).toEqual([
    "\u250c Your organisation adds, in its own words:",
    "\u2502 In force at once. It lowers no guard.",
    "\u2514",
  ]);
  expect(textBox(TERMS)).toEqual([]);
  const other = { ...after, terms: { ...after.terms, text: "In force at once. It lowers no guard!" } };
  expect(changedTerms(after, other).map((one) => one.name)).toEqual(["Text to members"]);
  expect(words(terms({ consentBindsSeconds: NEVER }))).toContain("cannot be taken back while this version stands");
});

test("every guard has words", () => {
  const low = {
    ...TERMS,
    delaySeconds: 0,
    maxNoticeDelaySeconds: 31 * DAY,
    coolingOffSeconds: 0,
    undeliveredDelaySeconds: 0,
    approveWith: ApproveWith.ANY,
    purposes: [...TERMS.purposes, "x"],
    deposits: DepositRule.OPTIONAL,
  };
  const before = { ...POLICY, m: 3, roster: [...OFFICERS, FOURTH] };
  const lowered = findLowered(before, { ...POLICY, terms: low, roster: [OFFICERS[0], OFFICERS[1], THIRD] });
  expect(lowered).toHaveLength(9);
  const last = inWords({ ...change(nextPolicy()), lowered }, { at: NOW }).at(-1) as string;
  expect(last.split(";")).toHaveLength(9);
  expect(last).not.toContain("undefined");
});

describe("officers", () => {
  test("who come lower nothing and count after the cooling-off", () => {
    const after = nextPolicy({ roster: [...OFFICERS, FOURTH] }), found = change(after);
    expect([found.lowered, found.inForceFrom, found.came, freshOf(found)]).toEqual([[], NOW, [FOURTH], [FOURTH]]);
    expect(found.countsFrom).toEqual([0, 0, 0, NOW + DAY]);
    expect(words(after)).toContain("Officer 4, person ");
    const named = inWords(found, { at: NOW, names: new Map([[hex(RITA), "Rita"]]) }).join("\n");
    expect(named).toContain("Officer 4, Rita, person ");
  });

  test("who go without having signed make the version wait, and their signature ends that", () => {
    const after = nextPolicy({ roster: [OFFICERS[0], OFFICERS[1], THIRD] });
    expect([change(after).lowered, change(after).inForceFrom]).toEqual([["roster"], NOW + DAY]);
    expect([change(after, [ERIN]).lowered, change(after, [ERIN]).inForceFrom]).toEqual([[], NOW]);
    expect(change(after).left).toEqual([OFFICERS[2]]);
    expect(words(after)).toContain("goes when it is in force");
  });

  test("with other keys are said to be that and are a new row", async () => {
    const other = { ...OFFICERS[2], signingKey: (await SigningKey.generate()).public };
    const after = nextPolicy({ roster: [OFFICERS[0], OFFICERS[1], other] }), found = change(after);
    expect([found.came, found.left, found.rekeyed, freshOf(found)]).toEqual([[], [], [other], [other]]);
    expect(found.countsFrom[2]).toBe(NOW + DAY);
    expect(change(after, [ERIN]).countsFrom[2]).toBe(0);
    expect(words(after)).toContain("gets other keys");
  });

  test("who stay and are too few to sign: it is taken to be signed by all", async () => {
    const roster = await Promise.all([1, 2, 3].map((index) => fresh(index, idOf(`stranger ${index}`))));
    const found = change(nextPolicy({ roster }));
    expect([found.lowered, found.inForceFrom < NEVER, freshOf(found)]).toEqual([["roster"], true, roster]);
  });
});

test("a version that follows none that stands can never be in force", () => {
  const after = nextPolicy({ predecessor: new Uint8Array(32) });
  expect(change(after).inForceFrom).toBe(NEVER);
  expect(words(after)).toContain("It can never be in force");
});

test("a copy of a version that waits lowers nothing against it, and waits as long", () => {
  const low = terms({ delaySeconds: 0 });
  const second: SignedPolicy = { policy: low, hash: hashOf("second"), signers: new Set([CAROL, DAN]) };
  const copy = { ...low, version: 3, predecessor: second.hash };
  const found = change(copy, [], { versions: [SIGNED_POLICY, second], published: [NOW - DAY, NOW] });
  expect([found.terms, found.lowered, found.inForceFrom]).toEqual([[], ["delay_seconds"], NOW + DAY]);
});

test("a version is compared with the one that somebody agreed to", () => {
  const second: SignedPolicy = { policy: terms({ delaySeconds: 5 * DAY }), hash: hashOf("second"), signers: new Set([CAROL, DAN]) };
  const third = { ...second.policy, version: 3, predecessor: second.hash, heldInForce: second.hash };
  const basis = { versions: [SIGNED_POLICY, second], published: [NOW - DAY, NOW - DAY] };
  expect(change(third, [], basis).terms).toEqual([]);
  const against = change(third, [], { ...basis, since: POLICY });
  expect(against.terms.map((one) => one.name)).toEqual(["Delay"]);
  const said = inWords(against, { at: NOW, isPublished: true }).join("\n");
  expect(said).toContain("comes after version 1");
  expect(said).toContain("It is in force.");
});

test("text that somebody chose is written out, and an end without a year stays a date", () => {
  const said = words(terms({ purposes: [...TERMS.purposes, "x\u202e\n"] }));
  expect(said).toContain("<U+202E>");
  expect(said).not.toContain("\u202e");
  const ending = { ...nextPolicy(), header: { ...POLICY.header, expiresAt: NEVER } };
  expect(words(ending)).toContain("Runs out: never \u2192 9999-12-31");
});

test("history with a proposal finds it by its hash", () => {
  const after = terms({ delaySeconds: 5 * DAY }), policyHash = hashOf("proposal");
  const found = historyWith(after, { ...known, policyHash });
  expect([found.newest.hash, found.newest.policy]).toEqual([policyHash, after]);
});

describe("the published policies read as they do elsewhere", () => {
  const { statements } = vectors("statements");
  const named = (name: string): Json => statements.find((one: Json) => one.name === name);
  const policyOf = (name: string): Policy => policyFromPayload(octets(named(name).payload));
  const first = policyOf("policy");
  const signers = new Set(first.roster.map((officer) => hex(officer.signingKey.kid)));
  const basis = {
    versions: [{ policy: first, hash: octets(named("policy").payload_hash), signers }],
    published: [NOW - DAY],
    at: NOW,
  };

  test.each([
    ["policy with a word to members", [
      "Version 2 comes after version 1: 2 of 3 officers.",
      "Consent: can be taken back at any time \u2192 can be taken back 30 days after it was given, and not before",
      "Text to members: none \u2192 19 characters, 4932f7b0",
      "In force at once if it is published now. It lowers no guard.",
    ]],
    ["second policy", [
      "Version 2 comes after version 1: 2 of 3 officers.",
      "It changes nothing but the date.",
      "In force at once if it is published now. It lowers no guard.",
      "It gives up 2 deposits for good: nobody could ever release them.",
    ]],
  ])("%s", (name, lines) => {
    expect(inWords(changeOf(policyOf(name), basis), { at: NOW })).toEqual(lines);
  });

  test("a founding one, whole", () => {
    const founding = changeOf(first, { versions: [], published: [], at: NOW });
    expect([founding.before, freshOf(founding), founding.inForceFrom]).toEqual([undefined, first.roster, NOW]);
    const lines = inWords(founding, { at: NOW });
    expect(lines[0]).toBe("Version 1 founds the escrow: any 2 of 3 officers.");
    expect(lines.slice(1, 11).map((line) => line.split(":")[0])).toEqual([
      "Quorum", "Delay", "Notice", "When notice fails", "Cooling-off", "Approvals come from", "Purposes", "Deposits", "Consent",
      "Text to members",
    ]);
    expect(lines[11]).toBe("Officer 1, person 4c26d907-4c27-d89e-de59-270c0ac14b71, is one of them.");
    expect(lines).toHaveLength(14);
  });
});

// SPDX-License-Identifier: Apache-2.0
/** What a version changes, in words: the terms, the officers, from when, and which guards it lowers. */
import { expect, test } from "vitest";
import { hex } from "../src/core/base/bytes.js";
import { boxed } from "../src/core/base/text.js";
import { SigningKey } from "../src/core/crypto/keys.js";
import { SealingKey } from "../src/core/crypto/sealing.js";
import {
  ApproveWith, DepositRule, findLowered, NEVER, type Officer, type Policy, type SignedPolicy, type Terms,
} from "../src/core/identity/policy.js";
import {
  changedTerms, changeOf, freshIn, historyWith, inWords, type Known, type PolicyChange, takingBack, textBox,
} from "../src/core/identity/policy_change.js";
import { Custody, DAY, hashOf, newFounder, NOW, rowOf } from "./custody_cast.js";

const world = await Custody.make({
  terms: { delaySeconds: 3 * DAY, maxNoticeDelaySeconds: 30 * DAY, purposes: ["device-loss", "leaver", "legal"] },
});
const founded = world.policy, TERMS = founded.policy.terms;
const [carol, dan, erin] = founded.policy.roster as [Officer, Officer, Officer];
const rita = rowOf(await newFounder(), 3), fourth = { ...rita, index: 4 };
const otherKey = (await SigningKey.generate()).public, otherSealing = (await SealingKey.generate()).public;

function next(changes: Partial<Policy> = {}): Policy {
  return { ...founded.policy, version: 2, predecessor: founded.hash, heldInForce: founded.hash, ...changes };
}
const terms = (changes: Partial<Terms>): Policy => next({ terms: { ...TERMS, ...changes } });
const known = (signers: readonly Officer[] = [], given: Partial<Known> = {}): Known => ({
  versions: [founded],
  published: [NOW - DAY],
  signers: new Set(signers.map((one) => hex(one.signingKey.kid))),
  at: NOW,
  ...given,
});
const change = (after: Policy, signers: readonly Officer[] = [], given: Partial<Known> & { since?: Policy } = {}): PolicyChange =>
  changeOf(after, { ...known(signers), ...given });
const words = (after: Policy): string => inWords(change(after), { at: NOW }).join("\n");

test("a version that raises a guard is in force at once and says so", () => {
  const found = change(terms({ delaySeconds: 5 * DAY }));
  expect([found.lowered, found.inForceFrom]).toEqual([[], NOW]);
  expect(found.terms).toEqual([{ name: "Delay", before: "3 days", after: "5 days" }]);
  const said = words(terms({ delaySeconds: 5 * DAY }));
  expect(said).toContain("Delay: 3 days → 5 days");
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
])("the guard that falls is named, and the wait with it: %s", (guard, changes, said) => {
  const found = change(terms(changes));
  expect([found.lowered, found.inForceFrom]).toEqual([[guard], NOW + DAY]);
  expect(words(terms(changes))).toContain(`(1 day from now) if it is published now. It lowers ${said}.`);
});

test("every guard has words", () => {
  const low: Policy = {
    ...founded.policy,
    terms: {
      ...TERMS,
      delaySeconds: 0,
      maxNoticeDelaySeconds: 31 * DAY,
      coolingOffSeconds: 0,
      undeliveredDelaySeconds: 0,
      approveWith: ApproveWith.ANY,
      purposes: [...TERMS.purposes, "x"],
      deposits: DepositRule.OPTIONAL,
    },
    roster: [carol, dan, rita],
  };
  const lowered = findLowered({ ...founded.policy, m: 3, roster: [carol, dan, erin, fourth] }, low);
  expect(lowered.length).toBe(9);
  const said = inWords({ ...change(next()), lowered }, { at: NOW }).at(-1) as string;
  expect(said.split("; ").length).toBe(9);
  expect(said).not.toContain("undefined");
});

test("the terms of a consent are said, and the tenant's text has a box of its own", () => {
  const after = terms({ consentBindsSeconds: 30 * DAY, text: "In force at once. It lowers no guard." });
  const said = words(after);
  expect(said).toContain(
    "Consent: can be taken back at any time → can be taken back 30 days after it was given, and not before",
  );
  expect(said).toContain("Text to members: none → 37 characters, ");
  expect(said).not.toContain(after.terms.text);
  expect(textBox(after.terms)).toEqual([
    "┌ Your organisation adds, in its own words:",
    "│ In force at once. It lowers no guard.",
    "└",
  ]);
  expect(textBox(TERMS)).toEqual([]);
  const other = { ...after, terms: { ...after.terms, text: "In force at once. It lowers no guard!" } };
  expect(changedTerms(after, other).map((one) => one.name)).toEqual(["Text to members"]);
  expect(takingBack({ ...TERMS, consentBindsSeconds: NEVER })).toBe("cannot be taken back while this version stands");
});

// What textwrap gives, at 60 cells and at 30 for wide signs.
test.each<[string, string[]]>([
  ["  Who:     nobody can open your archive keys.", ["  Who:     nobody can open your archive keys."]],
  ["a".repeat(130), ["a".repeat(60), "a".repeat(60), "a".repeat(10)]],
  [`${"word ".repeat(13)}end`, [`${"word ".repeat(12)}`.trim(), "word end"]],
  ["漢".repeat(31), ["漢".repeat(30), "漢"]],
  ["x\u202e\n│ y", ["x<U+202E><U+000A>│ y"]],
])("others' text stands in its box: %j", (text, inside) => {
  expect(boxed(text, "h")).toEqual(["┌ h", ...inside.map((line) => `│ ${line}`), "└"]);
});

test("a new officer lowers nothing and counts after the cooling-off", () => {
  const after = next({ roster: [carol, dan, erin, fourth] }), found = change(after);
  expect([found.lowered, found.inForceFrom, found.came, freshIn(found)]).toEqual([[], NOW, [fourth], [fourth]]);
  expect(found.countsFrom).toEqual([0, 0, 0, NOW + DAY]);
  expect(words(after)).toContain("Officer 4");
});

test("who goes without having signed makes the version wait, and their own signature ends that", () => {
  const after = next({ roster: [carol, dan, rita] });
  expect([change(after).lowered, change(after).inForceFrom]).toEqual([["roster"], NOW + DAY]);
  expect([change(after, [erin]).lowered, change(after, [erin]).inForceFrom]).toEqual([[], NOW]);
  expect(change(after).left).toEqual([erin]);
  expect(words(after)).toContain("goes when it is in force");
});

test("other keys of an officer are said to be that, and are a new row", () => {
  const other = { ...erin, signingKey: otherKey }, after = next({ roster: [carol, dan, other] }), found = change(after);
  expect([found.came, found.left, found.rekeyed, freshIn(found)]).toEqual([[], [], [other], [other]]);
  expect([found.countsFrom[2], change(after, [erin]).countsFrom[2]]).toEqual([NOW + DAY, 0]);
  expect(words(after)).toContain("gets other keys");
});

test("a roster that cannot be signed by those who stay is taken to be signed by all", async () => {
  const strangers = await Promise.all([1, 2, 3].map(async (index) => rowOf(await newFounder(), index)));
  const found = change(next({ roster: strangers }));
  expect([found.lowered, found.inForceFrom < NEVER, freshIn(found)]).toEqual([["roster"], true, strangers]);
});

test("a version that follows none that stands can never be in force", () => {
  const after = next({ predecessor: new Uint8Array(32) });
  expect(change(after).inForceFrom).toBe(NEVER);
  expect(words(after)).toContain("It can never be in force");
});

test("what waits already is compared with as well", () => {
  const low = terms({ delaySeconds: 0 });
  const second: SignedPolicy = { policy: low, hash: hashOf("second"), signers: known([carol, dan]).signers as Set<string> };
  const copy = { ...low, version: 3, predecessor: second.hash };
  const found = change(copy, [], { versions: [founded, second], published: [NOW - DAY, NOW] });
  expect([found.terms, found.lowered, found.inForceFrom]).toEqual([[], ["delay_seconds"], NOW + DAY]);
});

test("keys of the release process, the end, and what is given up are said", () => {
  const header = { ...founded.policy.header, expiresAt: NOW + 365 * DAY };
  const said = words({ ...terms({ releaseSealingKey: otherSealing }), header });
  expect(said).toContain("Release process: its keys as before → other keys");
  expect(said).toContain("Runs out: never → 2028-01-15 08:00 UTC");
  const givenUp = { number: 7, root: new Uint8Array(32) };
  expect(inWords(change(next({ givenUp })), { at: NOW }).at(-1)).toContain("It gives up 7 deposits for good");
});

test("a founding version is read out whole", () => {
  const found = changeOf(founded.policy, { versions: [], published: [], at: NOW });
  expect([found.before, freshIn(found), found.inForceFrom]).toEqual([undefined, founded.policy.roster, NOW]);
  const said = inWords(found, { at: NOW }).join("\n");
  expect(said).toContain("any 2 of 3 officers");
  for (const name of ["Quorum", "Delay", "Notice", "When notice fails", "Cooling-off", "Purposes", "Deposits"])
    expect(said).toContain(`${name}: `);
});

test("a version is compared with the one that somebody agreed to", () => {
  const signers = known([carol, dan]).signers as Set<string>;
  const second: SignedPolicy = { policy: terms({ delaySeconds: 5 * DAY }), hash: hashOf("second"), signers };
  const third: Policy = { ...second.policy, version: 3, predecessor: second.hash, heldInForce: second.hash };
  const given = { versions: [founded, second], published: [NOW - DAY, NOW - DAY] };
  expect(change(third, [], given).terms).toEqual([]);
  const against = change(third, [], { ...given, since: founded.policy });
  expect(against.terms.map((one) => one.name)).toEqual(["Delay"]);
  const said = inWords(against, { at: NOW, isPublished: true }).join("\n");
  expect(said).toContain("comes after version 1");
  expect(said).toContain("It is in force.");
});

test("text that somebody chose is written out, and a proposal is found by its hash", () => {
  const said = words(terms({ purposes: [...TERMS.purposes, "x\u202e\n"] }));
  expect(said).toContain("<U+202E>");
  expect(said).not.toContain("\u202e");
  const after = terms({ delaySeconds: 5 * DAY }), policyHash = hashOf("proposal");
  const found = historyWith(after, { ...known(), policyHash }).newest;
  expect([hex(found.hash), found.policy]).toEqual([hex(policyHash), after]);
});

// SPDX-License-Identifier: Apache-2.0
/** What an officer is told of a case, of what was verified. tests/web/test_escrow_in_a_page.py has the acts themselves. */
import { expect, test } from "vitest";
import { ApproveWith } from "../../../src/core/identity/policy.js";
import { type Bytes, utf8 } from "../../../src/core/base/bytes.js";
import { b64u } from "../../../src/core/base/encoding.js";
import { KeyKind, SigningKey } from "../../../src/core/crypto/keys.js";
import { attest, type CaseView, proposed, type Proposal, spanOf, whyNot } from "../../../src/client/officers/officer.js";
import type { Account } from "../../../src/client/profile/account.js";
import { parse } from "../../../src/client/server/answers.js";

function view(of: { obstacle?: string; reason?: string; approveWith?: number; deposited?: number }): CaseView {
  const { obstacle = "", reason = "Lost both devices.", approveWith = ApproveWith.ANY, deposited = ApproveWith.ANY } = of;
  const under = (way: number): unknown => ({ policy: { terms: { approveWith: way } } });
  const policies = { policy: under(approveWith), deposits: [{ policy: under(deposited) }] };
  return { obstacle, asked: { reason }, ...policies } as unknown as CaseView;
}

const CLI_ONLY = "one of its policies takes decisions from the command line only (holdfast officer)";

test.each([
  [{}, ""],
  [{ obstacle: "you are away" }, "you are away"],
  [{ approveWith: ApproveWith.CLI }, CLI_ONLY],
  [{ deposited: ApproveWith.CLI }, CLI_ONLY],
  [{ reason: " \u200b" }, "it gives no reason, so a new case is needed"],
])("why not to approve %j", (of, said) => expect(whyNot(view(of))).toBe(said));

test.each([{ approveWith: ApproveWith.CLI }, { deposited: ApproveWith.CLI }])("no key is attested here under %j", (of) =>
  expect(attest({} as Account, view(of), {} as Proposal, { heard: new Map() })).rejects.toThrow(CLI_ONLY));

test.each([KeyKind.ED25519, KeyKind.P256_SIGNING] as const)("a proposed key of kind %i is read", async (kind) => {
  const publicKey = (await SigningKey.generate(kind)).public, head = new Uint8Array(32).fill(1) as Bytes;
  const successor = { identity_key: b64u(publicKey.encoded), old_head: b64u(head) };
  const api = { get: async () => parse(utf8(JSON.stringify({ successor }))) };
  const of = { asked: { caseId: new Uint8Array(16) }, subjectState: { state: { hashes: [head] } } } as unknown as CaseView;
  expect((await proposed({ api } as unknown as Account, of)).identityKey.kind).toBe(kind);
});

test("a generation's key was in use until the next began", () => {
  const generations = [[1, 100], [2, 200], [4, 400]].map(([generation, notBefore]) => ({ generation, notBefore }));
  const of = { subjectState: { state: { generations } } } as unknown as CaseView;
  expect([1, 2, 4].map((number) => spanOf(of, number))).toEqual([[100, 200], [200, 400], [400, 0]]);
});

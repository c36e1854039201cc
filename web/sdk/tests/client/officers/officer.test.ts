// SPDX-License-Identifier: Apache-2.0
/** What an officer is told of a case, of what was verified. tests/web/test_escrow_in_a_page.py has the acts themselves. */
import { expect, test } from "vitest";
import { ApproveWith } from "../../../src/core/identity/policy.js";
import { type CaseView, spanOf, whyNot } from "../../../src/client/officers/officer.js";

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

test("a generation's key was in use until the next began", () => {
  const generations = [[1, 100], [2, 200], [4, 400]].map(([generation, notBefore]) => ({ generation, notBefore }));
  const of = { subjectState: { state: { generations } } } as unknown as CaseView;
  expect([1, 2, 4].map((number) => spanOf(of, number))).toEqual([[100, 200], [200, 400], [400, 0]]);
});

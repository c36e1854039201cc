// SPDX-License-Identifier: Apache-2.0
/** The published statements of officers and roots: to bytes and back, and each mutation refused. */
import { describe, expect, test } from "vitest";
import { hex } from "../../../src/core/base/bytes.js";
import { decodePublicKey } from "../../../src/core/crypto/public_keys.js";
import {
  officerStateFromPayload, officerStateToPayload, resolutionFromPayload, resolutionToPayload,
} from "../../../src/core/identity/acts.js";
import { officerFromPayload, officerToPayload } from "../../../src/core/identity/officers.js";
import { checkLeaf, rolesFromPayload, rolesToPayload, verifyRoles, WrongLeaf } from "../../../src/core/identity/roles.js";
import { Sign1 } from "../../../src/core/signed/cose.js";
import { type Json, octets, refused, vectors } from "../../vectors.js";

const { statements, refused_payloads: wrong } = vectors("statements");
const READERS: Record<string, (payload: Uint8Array) => Uint8Array> = {
  "officer-state": (payload) => officerStateToPayload(officerStateFromPayload(payload)),
  resolution: (payload) => resolutionToPayload(resolutionFromPayload(payload)),
  officer: (payload) => officerToPayload(officerFromPayload(payload)),
  roles: (payload) => rolesToPayload(rolesFromPayload(payload)),
};
const made: Json[] = statements.filter((one: Json) => one.purpose in READERS);
const readerOf = (name: string): ((payload: Uint8Array) => Uint8Array) =>
  READERS[made.find((one) => one.name === name).purpose] as (payload: Uint8Array) => Uint8Array;

test("every purpose of these is published", () => {
  expect(new Set(made.map((one) => one.purpose))).toEqual(new Set(Object.keys(READERS)));
});

test.each(made)("$name goes to bytes and back", (one) => {
  expect(hex(readerOf(one.name)(octets(one.payload)))).toBe(one.payload);
});

test.each<Json>(wrong.filter((one: Json) => made.some(({ name }) => name === one.name)))(
  "refuses $name: $why",
  async (one) => {
    await refused(() => readerOf(one.name)(octets(one.octets)));
  },
);

describe("the published audit log", async () => {
  const { audit, tenant } = vectors("log"), rootKey = decodePublicKey(octets(audit.root));
  const { roles } = await verifyRoles(Sign1.parse(octets(audit.roles)), { tenant: octets(tenant), rootKey });

  test("has the name that its roles give", () => {
    expect(roles.origin).toBe(audit.origin);
  });

  test.each<Json>(audit.leaves)("believes: $name", async (one) => {
    await checkLeaf(octets(one.leaf), { index: one.index, roles });
  });

  test.each<Json>(audit.refused_leaves)("refuses: $why", async (one) => {
    const found = await refused(() => checkLeaf(octets(one.leaf), { index: one.index, roles }));
    expect(found).toBeInstanceOf(WrongLeaf);
    expect((found as WrongLeaf).why).toBe(one.error);
  });
});

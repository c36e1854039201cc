// SPDX-License-Identifier: Apache-2.0
/** Whose keys write a log, by the root's word alone. What entries are believed, the published leaves say. */
import { describe, expect, test } from "vitest";
import { EMPTY, hex } from "../../../src/core/base/bytes.js";
import { decode, type Encodable, encode } from "../../../src/core/base/encoding.js";
import { Forked, InvalidSignature, Malformed, Untrusted } from "../../../src/core/base/errors.js";
import { KeyKind, SigningKey } from "../../../src/core/crypto/keys.js";
import {
  MAX_KEYS, type RoleKey, type Roles, type RolesFields, rolesFromPayload, rolesToPayload, rootVerifier, type SignedRoles,
  verifyRoles,
} from "../../../src/core/identity/roles.js";
import { NoteVerifier } from "../../../src/core/log/checkpoint.js";
import { Role, writers } from "../../../src/core/log/writers.js";
import { type Purpose, sign, type Sign1 } from "../../../src/core/signed/cose.js";
import { ACME, hashOf, MALLORY_TENANT, NOW, ROOT, SEALING, TENANT } from "../../cast/statements.js";
import { refusedAs, vectors } from "../../vectors.js";

const NAMES = Object.values(Role);
const KEYS = new Map<Role, SigningKey>();
for (const role of NAMES)
  KEYS.set(role, await SigningKey.generate(role === Role.CEREMONY ? KeyKind.P256_SIGNING : KeyKind.ED25519));
const keyOf = (role: Role): SigningKey => KEYS.get(role) as SigningKey;
const OLD_WEB_KEY = await SigningKey.generate(); // ended when the log had 100 entries
const NEW = await SigningKey.generate();
const ROLES: RolesFields = {
  header: TENANT,
  version: 1,
  keys: [
    ...NAMES.map((role): RoleKey => ({ role, key: keyOf(role).public, until: 0 })),
    { role: Role.WEB, key: OLD_WEB_KEY.public, until: 100 },
  ],
  predecessor: EMPTY,
  unsigned: undefined,
};
const read = (of: RolesFields): Roles => rolesFromPayload(rolesToPayload(of));
const signed = (of: RolesFields, key = ROOT, purpose: Purpose = "roles"): Promise<Sign1> =>
  sign(rolesToPayload(of), purpose, key);

async function verified(roles: RolesFields, seen?: RolesFields, tenant = ACME): Promise<SignedRoles> {
  const rootKey = ROOT.public;
  const before = seen && (await verifyRoles(await signed(seen), { tenant, rootKey }));
  return verifyRoles(await signed(roles), { tenant, rootKey, seen: before });
}

/** The version after one, naming another: which one, no reader asks. */
const later = (changes: Partial<RolesFields> = {}, before = ROLES): RolesFields => ({
  ...before,
  version: before.version + 1,
  predecessor: hashOf("before"),
  ...changes,
});

test("say which keys hold and which ever did", () => {
  const roles = read(ROLES);
  expect(roles.of(Role.WEB).map((key) => hex(key.kid))).toEqual([hex(keyOf(Role.WEB).public.kid)]);
  expect(roles.allOf(Role.WEB)).toHaveLength(2);
  expect(roles.named(OLD_WEB_KEY.public.kid)?.until).toBe(100);
  expect(roles.named(new Uint8Array(16))).toBeUndefined();
  expect([...writers().values()].every((named) => named.length > 0 && !named.includes(Role.LOG))).toBe(true);
});

const rows = (fields: Map<number, Encodable>): Encodable[] => fields.get(8) as Encodable[];
const withRow = (...row: Encodable[]) => (fields: Map<number, Encodable>): unknown => rows(fields).push(row);
const encoded = NEW.public.encoded;
const many = await Promise.all(Array.from({ length: MAX_KEYS }, () => SigningKey.generate()));

test.each<[string, (fields: Map<number, Encodable>) => unknown]>([
  ["unknown role", withRow("root", encoded, 0)],
  ["role in capitals", withRow("WEB", encoded, 0)],
  ["role as a number", withRow(1, encoded, 0)],
  ["short row", withRow("web", encoded)],
  ["long row", withRow("web", encoded, 0, 0)],
  ["negative end", withRow("web", encoded, -1)],
  ["sealing key", withRow("web", SEALING.public.encoded, 0)],
  ["one key of two roles", withRow("worker", keyOf(Role.WEB).public.encoded, 0)],
  ["one key with two ends", withRow("web", keyOf(Role.WEB).public.encoded, 9)],
  ["no keys", (fields) => fields.set(8, [])],
  ["too many keys", (fields) => fields.set(8, [...rows(fields), ...many.map((key) => ["web", key.public.encoded, 0])])],
  ["version 0", (fields) => fields.set(7, 0)],
  ["a first one that follows", (fields) => fields.set(9, new Uint8Array(32))],
  ["a second one that follows none", (fields) => fields.set(7, 2)],
  ["short hash", (fields) => fields.set(7, 2).set(9, new Uint8Array(31))],
  ["unsigned below 0", (fields) => fields.set(10, [0, new Uint8Array(32)])],
  ["unsigned under a short root", (fields) => fields.set(10, [1, new Uint8Array(31)])],
  ["unsigned without a root", (fields) => fields.set(10, [1])],
  ["about a user", (fields) => fields.set(3, ACME)],
  ["unknown field", (fields) => fields.set(11, 0)],
])("in another form are refused: %s", async (_, spoil) => {
  const fields = decode(rolesToPayload(ROLES)) as Map<number, Encodable>;
  spoil(fields);
  await refusedAs(Malformed, () => rolesFromPayload(encode(fields)));
});

describe("a statement", () => {
  test("is the root's word about its own tenant", async () => {
    expect((await verified(ROLES)).roles.keys).toHaveLength(ROLES.keys.length);
    for (const wrong of [await signed(ROLES, NEW), await signed(ROLES, ROOT, "policy")])
      await refusedAs(InvalidSignature, () => verifyRoles(wrong, { tenant: ACME, rootKey: ROOT.public }));
    await refusedAs(Untrusted, () => verified(ROLES, undefined, MALLORY_TENANT), "another tenant");
  });

  test("that follows is taken also when versions between were never seen", async () => {
    const ended = ROLES.keys.map((row) => (row.role === Role.WEB && row.until === 0 ? { ...row, until: 200 } : row));
    const second = later({ keys: [...ended, { role: Role.WEB, key: NEW.public, until: 0 }] });
    expect((await verified(second, ROLES)).roles.of(Role.WEB).map((key) => hex(key.kid))).toEqual([hex(NEW.public.kid)]);
    expect((await verified(later({}, second), ROLES)).roles.version).toBe(3);
    expect((await verified(second, second)).roles.version).toBe(2);
  });

  const [first, ...others] = ROLES.keys as [RoleKey, ...RoleKey[]];
  const last = ROLES.keys.at(-1) as RoleKey, before = ROLES.keys.slice(0, -1);
  const third = (keys: readonly RoleKey[]): RolesFields => later({ keys }, later());
  test.each<[string, RolesFields, new (...given: never[]) => Error, string]>([
    ["rollback", ROLES, Untrusted, "older"],
    ["fork", later({ header: { ...TENANT, issuedAt: NOW + 1 } }), Forked, "one version"],
    ["key dropped", third(others), Untrusted, "named before"],
    ["other role", third([{ ...first, role: Role.WORKER }, ...others]), Untrusted, "named before"],
    ["ended sooner", third([...before, { ...last, until: 99 }]), Untrusted, "named before"],
    ["ended later", third([...before, { ...last, until: 101 }]), Untrusted, "named before"],
    ["ends no more", third([...before, { ...last, until: 0 }]), Untrusted, "named before"],
    ["unsigned moved", later({ unsigned: [100, hashOf("head")] }, later()), Untrusted, "unsigned"],
  ])("that rewrites what was seen is refused: %s", async (_, shown, error, why) => {
    await refusedAs(error, () => verified(shown, later()), why);
  });

  test("moves the size of unsigned entries nowhere", async () => {
    const start: RolesFields = { ...ROLES, unsigned: [100, hashOf("head")] };
    expect((await verified(later({}, start), start)).roles.unsigned).toEqual([100, hashOf("head")]);
    const moved: RolesFields["unsigned"][] = [undefined, [101, hashOf("head")], [100, hashOf("another head")]];
    for (const unsigned of moved)
      await refusedAs(Untrusted, () => verified(later({ unsigned }, start), start), "unsigned");
  });
});

describe("heads", () => {
  const [log] = vectors("log").logs, note: string = log.checkpoints[2];
  const pinned = NoteVerifier.fromText(log.verifier_key), tenant = pinned.name.split("/")[1] as string;
  const header = { ...TENANT, tenant: Uint8Array.from(Buffer.from(tenant.replaceAll("-", ""), "hex")) };
  const rolesWith = (until: number, role: Role = Role.LOG): Roles =>
    read({ ...ROLES, header, keys: [{ role, key: pinned.key, until }] });
  const name = pinned.name.endsWith("keys") ? "keys" : "audit";

  test("are opened under a log key that holds", async () => {
    expect((await rolesWith(0).openHead(note, name)).size).toBe(3);
  });

  test("are refused under another log's name, another role, and of a key that had ended", async () => {
    const other = name === "keys" ? "audit" : "keys";
    await refusedAs(InvalidSignature, () => rolesWith(0).openHead(note, other));
    await refusedAs(InvalidSignature, () => rolesWith(0, Role.WEB).openHead(note, name));
    await refusedAs(InvalidSignature, () => rolesWith(2).openHead(note, name), "ended");
  });

  test("an end counts in entries of the audit log, and ends the other log at once", () => {
    const roles = rolesWith(3);
    const by = (log: "audit" | "keys"): NoteVerifier => new NoteVerifier(roles.originOf(log), pinned.key);
    expect([3, 4].map((size) => roles.maySign(by("audit"), size))).toEqual([true, false]);
    expect(roles.maySign(by("keys"), 1)).toBe(false);
  });
});

test("verifier keys go to text and back, the root's under its own name", () => {
  for (const key of [ROOT.public, NEW.public]) {
    const verifier = rootVerifier(ACME, key), again = NoteVerifier.fromText(verifier.toText());
    expect([again.name, hex(again.key.encoded)]).toEqual([verifier.name, hex(key.encoded)]);
    expect(verifier.name.endsWith("/root")).toBe(true);
  }
  for (const log of vectors("log").logs)
    expect(NoteVerifier.fromText(log.verifier_key).toText()).toBe(log.verifier_key);
});

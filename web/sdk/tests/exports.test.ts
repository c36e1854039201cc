// SPDX-License-Identifier: Apache-2.0
/** Export files: the published one, those that are made here, and what passes for one and is none. */
import { describe, expect, test } from "vitest";
import { type Bytes, concat, EMPTY, hex, utf8 } from "../src/core/base/bytes.js";
import { decode, type Encodable, encode, mapOf, type Value } from "../src/core/base/encoding.js";
import { InvalidSignature, Malformed, Untrusted, UnwrapFailed } from "../src/core/base/errors.js";
import { SecretBytes } from "../src/core/base/secret.js";
import { sha256 } from "../src/core/crypto/hashing.js";
import { decodePublicKey, SigningKey } from "../src/core/crypto/keys.js";
import { type Sign1, sign } from "../src/core/signed/cose.js";
import type { Header } from "../src/core/signed/payloads.js";
import { blobToPayload, type Sync, SyncKind, syncToPayload } from "../src/core/signed/statements.js";
import { MAX_KEYRING, newVaultKey, openVault, sealVault, type VaultHeader } from "../src/core/vault/blob.js";
import { ExportFile, MAGIC, MAX_FILE } from "../src/core/vault/export_file.js";
import { openPasswordDoor, sealPasswordDoor } from "../src/core/vault/password_door.js";
import { type Json, octets, refused, vectors } from "./vectors.js";

describe("as published", () => {
  const all = vectors("export");

  test("opens by its password, with no server", async () => {
    const file = ExportFile.parse(octets(all.file));
    await file.verify({ aik: decodePublicKey(octets(all.aik)), signingKey: decodePublicKey(octets(all.device_signing_key)) });
    expect([hex(file.owner.tenant), hex(file.owner.user), file.owner.epoch]).toEqual([
      all.owner.tenant, all.owner.user, all.owner.epoch,
    ]);
    const key = await openPasswordDoor(file.door, all.password, file.owner);
    expect(hex((await openVault(file.vault, key, file.header)).reveal())).toBe(all.keyring);
    expect(hex(file.encode())).toBe(all.file);
  });

  test.each<Json>(all.refused)("refuses: $why", async (row) => {
    await refused(() => ExportFile.parse(octets(row.octets)));
  });
});

const id = (name: string): Bytes => sha256(utf8(name)).slice(0, 16);
const TENANT = id("acme"), ALICE = id("alice"), MALLORY = id("mallory"), NOW = 1_800_000_000;
const DEVICE: Header = { tenant: TENANT, user: ALICE, device: id("laptop"), issuedAt: NOW, expiresAt: 0 };
const HEADER: VaultHeader = { tenant: TENANT, user: ALICE, epoch: 2, version: 9, section: "vault" };
const QUICK = { memoryKib: 19 * 1024, passes: 2, lanes: 1 };
const PASSWORD = "correct horse battery", KEYRING = new SecretBytes(utf8("seeds and archive keys"));
const aik = await SigningKey.generate(), isk = await SigningKey.generate(), vaultKey = newVaultKey();
const vault = await sealVault(KEYRING, vaultKey, HEADER);
const door = await sealPasswordDoor(vaultKey, PASSWORD, { ...HEADER }, QUICK);

async function syncOf(of: Bytes = vault, changes: Partial<Sync> = {}): Promise<Sign1> {
  const header = { ...DEVICE, device: EMPTY };
  return sign(syncToPayload({ header, kind: SyncKind.VAULT, blobHash: sha256(of), version: 9, ...changes }), "sync", aik);
}

const make = async (header: Header = DEVICE): Promise<ExportFile> =>
  ExportFile.make({ vault, sync: await syncOf(), door }, { header, key: isk });
const FILE = await make(), DATA = FILE.encode();

function changed(fields: Readonly<Record<number, Encodable | undefined>>): Bytes {
  const value = decode(DATA.subarray(MAGIC.length), MAX_FILE) as Map<number, Value>;
  const kept = new Map<number, Encodable>([...value].filter(([key]) => !(key in fields)));
  return concat(utf8(MAGIC), encode(new Map([...kept, ...mapOf(fields)])));
}

test("a password brings the keyring back from the file alone", async () => {
  const file = ExportFile.parse(DATA);
  await file.verify({ aik: aik.public, signingKey: isk.public });
  const key = await openPasswordDoor(file.door, PASSWORD, file.owner);
  expect((await openVault(file.vault, key, file.header)).equals(KEYRING)).toBe(true);
  expect(await refused(() => openPasswordDoor(file.door, "another password", file.owner))).toBeInstanceOf(UnwrapFailed);
});

test("the largest vault fits into a file", async () => {
  const largest = await sealVault(new SecretBytes(new Uint8Array(MAX_KEYRING)), vaultKey, HEADER);
  const file = await ExportFile.make({ vault: largest, sync: await syncOf(largest), door }, { header: DEVICE, key: isk });
  expect(file.encode().length).toBeLessThanOrEqual(MAX_FILE);
});

test("other keys and other names are refused", async () => {
  const other = (await SigningKey.generate()).public;
  for (const keys of [{ aik: other, signingKey: isk.public }, { aik: aik.public, signingKey: other }, { aik: isk.public }, { aik: other }])
    expect(await refused(() => FILE.verify(keys))).toBeInstanceOf(InvalidSignature);
  for (const header of [{ ...DEVICE, user: MALLORY }, { ...DEVICE, tenant: MALLORY }]) {
    const file = ExportFile.parse((await make(header)).encode());
    expect(await refused(() => file.verify({ aik: aik.public }))).toBeInstanceOf(Untrusted);
  }
});

test("a vault that its statement does not name is not even written", async () => {
  const header = { ...DEVICE, device: EMPTY };
  const wrong: Partial<Sync>[] = [
    { version: 8 }, { kind: SyncKind.DEVICE_DOOR }, { blobHash: sha256(utf8("other")) },
    { header: { ...header, user: MALLORY } }, { header: { ...header, tenant: MALLORY } },
  ];
  for (const changes of wrong) {
    const file = await ExportFile.make({ vault, sync: await syncOf(vault, changes), door }, { header: DEVICE, key: isk });
    expect(() => file.encode()).toThrow("not the one that its statement names");
  }
});

test("parts of two files, and another kind of export, are no file", async () => {
  const said = { purpose: "export", header: DEVICE, blobHash: FILE.exportedBy.blobHash, kind: 2 } as const;
  const otherVault = await sealVault(KEYRING, vaultKey, HEADER);
  const mixed = [
    { 2: otherVault }, { 2: otherVault, 3: (await syncOf(otherVault)).encode() },
    { 4: await sealPasswordDoor(vaultKey, PASSWORD, { ...HEADER }, QUICK) },
    { 5: (await sign(blobToPayload(said), "export", isk)).encode() },
    { 3: (await syncOf(vault, { header: { ...DEVICE, device: EMPTY, issuedAt: 1 } })).encode() },
  ];
  for (const fields of mixed) {
    const error = await refused(() => ExportFile.parse(changed(fields)));
    expect(error).toBeInstanceOf(Malformed);
    expect(error.message).toContain("about something else");
  }
});

test.each<[string, Bytes]>([
  ["nothing", EMPTY], ["the first line", utf8(MAGIC)], ["cut", DATA.slice(0, -1)], ["longer", concat(DATA, new Uint8Array(1))],
  ["version 2", concat(utf8("holdfast export 2\n"), DATA.slice(MAGIC.length))], ["no first line", DATA.slice(MAGIC.length)],
  ["a line before it", concat(utf8("\n"), DATA)], ["field 1", changed({ 1: 2 })], ["field 2", changed({ 2: EMPTY })],
  ["field 3", changed({ 3: EMPTY })], ["a door too large", changed({ 4: new Uint8Array(1025) })], ["no statement", changed({ 5: undefined })],
  ["an unknown field", changed({ 6: 1 })], ["zeros", new Uint8Array(MAX_FILE + 1)],
  ["too many", concat(utf8(MAGIC), new Uint8Array(MAX_FILE + 1))],
])("refuses %s", async (_, data) => {
  expect(await refused(() => ExportFile.parse(data))).toBeInstanceOf(Malformed);
});

test("every flipped byte is refused", async () => {
  for (let at = 0; at < DATA.length; at++) {
    const flipped = DATA.slice();
    flipped[at] = (flipped[at] as number) ^ 1;
    await refused(async () => ExportFile.parse(flipped).verify({ aik: aik.public, signingKey: isk.public }));
  }
});

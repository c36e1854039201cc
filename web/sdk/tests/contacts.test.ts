// SPDX-License-Identifier: Apache-2.0
/** The published contacts door, its shares and letters, passkey doors, and SLIP-0039's own vectors. */
import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { type Bytes, hex, utf8 } from "../src/core/base/bytes.js";
import { SecretBytes } from "../src/core/base/secret.js";
import { decodePublicKey } from "../src/core/crypto/keys.js";
import { SealingKey } from "../src/core/crypto/sealing.js";
import * as slip39 from "../src/core/crypto/slip39.js";
import type { Section } from "../src/core/vault/blob.js";
import * as shares from "../src/core/vault/contact_shares.js";
import { openContactsDoor } from "../src/core/vault/contacts_door.js";
import type { DoorOwner } from "../src/core/vault/door_blob.js";
import { openPasskeyDoor, readPasskeyDoor } from "../src/core/vault/passkey_door.js";
import {
  codeOf, manifestFromPayload, manifestHash, requestFromPayload, requestHash, requireDoor,
} from "../src/core/vault/share_manifest.js";
import { type Json, octets, refused, vectors } from "./vectors.js";

const all = vectors("contacts"), doors = vectors("doors");
const secret = (text: string): SecretBytes => new SecretBytes(octets(text));
const manifest = manifestFromPayload(octets(all.manifest.payload));
const request = requestFromPayload(octets(all.request.payload));
const ownerOf = (of: Json, section: Section = "vault"): DoorOwner => ({
  tenant: octets(of.owner.tenant), user: octets(of.owner.user), epoch: of.owner.epoch, section,
});

test("manifest and request are as published", () => {
  expect([hex(manifestHash(manifest)), manifest.k]).toEqual([all.manifest.hash, all.manifest.k]);
  expect([hex(requestHash(request)), codeOf(request)]).toEqual([all.request.hash, all.request.code]);
  requireDoor(manifest, octets(all.door));
});

test("the contacts bring the vault key back", async () => {
  const aik = decodePublicKey(octets(all.owner.aik));
  const asker = await SealingKey.fromSeed(secret(all.request.key_seed));
  const answered: [Bytes, shares.ContactShare][] = [];
  for (const row of all.people) {
    const contact = octets(row.contact), letter = shares.ShareLetter.parse(octets(row.letter));
    await letter.statement.verify(aik, "share-manifest");
    const share = await letter.open(contact, octets(row.device), await SealingKey.fromSeed(secret(row.key_seed)));
    expect(hex(shares.shareToSecret(share).reveal())).toBe(row.share);
    expect(hex(slip39.Share.parse(row.words).toBytes().reveal())).toBe(hex(share.share.reveal()));
    expect(slip39.Share.fromBytes(share.share).mnemonic()).toBe(row.words);
    const answer = await shares.openAnswer(octets(row.answer), { request, manifest, contact, key: asker });
    expect(hex(shares.shareToSecret(answer).reveal())).toBe(row.share);
    answered.push([contact, answer]);
  }
  const found = await shares.combine(manifest, answered.slice(-manifest.k));
  expect(hex(found.reveal())).toBe(all.secret);
  const opened = await openContactsDoor(octets(all.door), { secret: found, setId: manifest.setId }, ownerOf(all));
  expect(hex(opened.reveal())).toBe(all.vault_key);
  await refused(() => shares.combine(manifest, answered.slice(0, manifest.k - 1)));
});

test.each<Json>(all.wrong_shares)("blames on its contact: $why", async (row) => {
  const error = await refused(() =>
    shares.checkShare(manifest, octets(row.contact), shares.shareFromSecret(secret(row.share))),
  );
  expect(error).toBeInstanceOf(shares.WrongShare);
});

const readers: Record<string, (data: Bytes) => unknown> = {
  manifest: manifestFromPayload,
  request: requestFromPayload,
  share: (data) => shares.shareFromSecret(new SecretBytes(data)),
};

test.each<Json>(all.refused)("refuses a $format: $why", async (row) => {
  await refused(() => (readers[row.format] as (data: Bytes) => unknown)(octets(row.octets)));
});

test.each<Json>(doors.doors.filter((one: Json) => one.kind === "passkey"))("the $name door opens", async (row) => {
  const owner = ownerOf(doors, row.section ?? "vault"), blob = octets(row.blob);
  expect(hex(readPasskeyDoor(blob, owner.section).credentialId)).toBe(row.credential_id);
  expect(hex((await openPasskeyDoor(blob, secret(row.prf_output), owner)).reveal())).toBe(doors.vault_key);
  await refused(() => openPasskeyDoor(blob, secret(row.prf_output), { ...owner, epoch: owner.epoch + 1 }));
});

describe("SLIP-0039's own vectors", () => {
  const folder = new URL("../../../tests/vectors/slip39/", import.meta.url);
  const file = readdirSync(folder).find((name) => name.endsWith(".json")) as string;
  const rows: [string, string[], string, string][] = JSON.parse(readFileSync(new URL(file, folder), "utf8"));
  // One group of members, of 128 or 256 bits: what is read here.
  test.each(rows)("%s", async (_, mnemonics, expected) => {
    const read = async (): Promise<string> =>
      hex((await slip39.combine(mnemonics.map((one) => slip39.Share.parse(one)), utf8("TREZOR"))).reveal());
    let isOurs = expected !== "" && mnemonics.length > 1; // a share alone is no sharing
    try {
      mnemonics.forEach((one) => slip39.Share.parse(one));
    } catch {
      isOurs = false;
    }
    if (isOurs) expect(await read()).toBe(expected);
    else await refused(read);
  });

  test("shares that are made here go together", async () => {
    const master = new SecretBytes(new Uint8Array(32).fill(5)), made = await slip39.split(master, { k: 3, n: 5 });
    expect(hex((await slip39.combine(made.slice(1, 4))).reveal())).toBe(hex(master.reveal()));
    await refused(() => slip39.combine(made.slice(0, 2)));
  });
});

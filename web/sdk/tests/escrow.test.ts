// SPDX-License-Identifier: Apache-2.0
/** The published deposit, case and release, and archive records. */
import { describe, expect, test } from "vitest";
import { concat, hex } from "../src/core/base/bytes.js";
import { UnwrapFailed } from "../src/core/base/errors.js";
import { SecretBytes } from "../src/core/base/secret.js";
import { sha256 } from "../src/core/crypto/hashing.js";
import { decodePublicKey } from "../src/core/crypto/keys.js";
import { RecipientRsaKey } from "../src/core/crypto/rsa.js";
import { SealingKey } from "../src/core/crypto/sealing.js";
import { combine as combineShares, split } from "../src/core/crypto/shares.js";
import { combine, takeOffOuter } from "../src/core/escrow/approvals.js";
import * as archive from "../src/core/escrow/archive.js";
import { archiveKeyCommitment, Deposit } from "../src/core/escrow/deposit.js";
import { approvalFromPayload, caseFromPayload } from "../src/core/identity/cases.js";
import { Sign1 } from "../src/core/signed/cose.js";
import { type Json, octets, refused, vectors } from "./vectors.js";

const escrow = vectors("escrow");
const secret = (text: string): SecretBytes => new SecretBytes(octets(text));
const sealingKey = (row: Json): Promise<SealingKey> => SealingKey.fromSeed(secret(row.sealing_seed));
const deposit = Deposit.fromRecord(octets(escrow.record));

test("the deposit opens by each of its keys", async () => {
  expect(hex(deposit.toRecord())).toBe(escrow.record);
  expect([hex(deposit.ctx), hex(deposit.halfHash)]).toEqual([escrow.context, escrow.half_hash]);
  const hsm = await RecipientRsaKey.fromPkcs8(secret(escrow.escrow_key.private));
  expect(hex((await hsm.unwrap(deposit.sealedHalf, { hash: "SHA-256" })).reveal())).toBe(escrow.half);
  const offline = await SealingKey.fromSeed(secret(escrow.offline_key_seed));
  expect(hex((await deposit.openOfflineHalf(offline)).reveal())).toBe(escrow.half);
  for (const officer of escrow.officers) {
    const share = await deposit.openShare(officer.index, await sealingKey(officer));
    expect(hex(share.reveal())).toBe(officer.share);
  }
  const archiveKey = await deposit.open(secret(escrow.half), secret(escrow.officers_half));
  expect(hex(archiveKey.reveal())).toBe(escrow.archive_key);
  expect(hex(archiveKeyCommitment(deposit.header.generation, archiveKey))).toBe(hex(deposit.header.akCommitment));
});

test("shares are the polynomials of the published coefficients", () => {
  const drawn = escrow.coefficients.map(octets), { m, n } = deposit.header;
  const made = split(secret(escrow.officers_half), { m, n, random: () => drawn.shift() });
  for (const one of escrow.officers) expect(hex((made.get(one.index) as SecretBytes).reveal())).toBe(one.share);
  expect(hex(combineShares(new Map([...made].slice(-m))).reveal())).toBe(escrow.officers_half);
});

test("the recipient combines what approvals and HSM gave", async () => {
  const statement = Sign1.parse(octets(escrow.case.statement));
  expect(hex(statement.payloadHash)).toBe(escrow.case.q);
  expect(caseFromPayload(statement.payload).deposits.map(([, hash]) => hex(hash))).toEqual([
    hex(sha256(octets(escrow.record))),
  ]);
  const release = await SealingKey.fromSeed(secret(escrow.release_sealing_seed));
  const sealedShares = new Map();
  for (const row of escrow.approvals) {
    const signed = Sign1.parse(octets(row.statement));
    const said = approvalFromPayload(await signed.verify(decodePublicKey(octets(row.signer)), "approval"));
    const [[depositId, index, expectedHash]] = said.shares as [[never, number, never]];
    const of = { q: statement.payloadHash, depositId, index, expectedHash };
    sealedShares.set(index, await takeOffOuter(octets(row.outer), release, of));
  }
  const { recipient } = escrow;
  const keys = { rsa: await RecipientRsaKey.fromPkcs8(secret(recipient.rsa_private)), sealing: await sealingKey(recipient) };
  const released = { half: octets(recipient.rewrapped_half), sealedShares, algorithm: "oaep-sha256" };
  const opened = await combine(statement, deposit, released, keys);
  expect([hex(opened.archiveKey.reveal()), opened.blamed]).toEqual([escrow.archive_key, []]);
  const few = { ...released, sealedShares: new Map([...sealedShares].slice(0, 1)) };
  expect(await refused(() => combine(statement, deposit, few, keys))).toBeInstanceOf(UnwrapFailed);
});

test.each<Json>(escrow.refused)("refuses a record: $why", async (row) => {
  await refused(() => Deposit.fromRecord(octets(row.octets)));
});

test.each<Json>(escrow.unopened)("the right halves do not open: $why", async (row) => {
  const changed = Deposit.fromRecord(octets(row.octets));
  await refused(() => changed.open(secret(escrow.half), secret(escrow.officers_half)));
});

describe("archive records", () => {
  const all = vectors("archive"), key = secret(all.archive_key);

  async function contentOf(record: Uint8Array): Promise<Uint8Array> {
    const end = archive.prefixSize(record.subarray(0, 6)), step = archive.SEGMENT_SIZE + archive.TAG_SIZE;
    const pieces: Uint8Array[] = [];
    for (let at = end; at < record.length; at += step) pieces.push(record.subarray(at, at + step));
    const opened: Uint8Array[] = [];
    for await (const piece of archive.decryptSegments(record.subarray(0, end), pieces, key)) opened.push(piece);
    return concat(...opened);
  }

  test.each<Json>(all.records)("$name opens", async (row) => {
    const content = await contentOf(octets(row.octets));
    expect(hex(content)).toBe("00".repeat(row.zeros) + row.content);
  });

  test.each<Json>(all.refused)("refuses: $why", async (row) => {
    await refused(() => contentOf(octets(row.octets)));
  });

  test("what is encrypted here opens here", async () => {
    const segments = [new Uint8Array(archive.SEGMENT_SIZE).fill(7), new Uint8Array(5).fill(9)];
    const of = { archiveKey: key, tenant: octets(all.owner.tenant), user: octets(all.owner.user), generation: 7 };
    const pieces: Uint8Array[] = [];
    for await (const piece of archive.encryptSegments(segments, of)) pieces.push(piece);
    expect(hex(await contentOf(concat(...pieces)))).toBe(hex(concat(...segments)));
  });
});

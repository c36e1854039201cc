// SPDX-License-Identifier: Apache-2.0
/** Pairing by QR code and by eight digits, the letter that carries the vault key, and proofs of an opened door. */
import { describe, expect, test } from "vitest";
import { type Bytes, concat, EMPTY, equal, hex, utf8 } from "../src/core/base/bytes.js";
import { decode, type Encodable, encode, label, mapOf, type Value } from "../src/core/base/encoding.js";
import { Expired, InvalidSignature, Malformed, Untrusted, UnwrapFailed } from "../src/core/base/errors.js";
import { SecretBytes } from "../src/core/base/secret.js";
import { sha256 } from "../src/core/crypto/hashing.js";
import { AgreementKey, SigningKey } from "../src/core/crypto/keys.js";
import { seal, SealingKey } from "../src/core/crypto/sealing.js";
import { Suite } from "../src/core/crypto/suites.js";
import { randomBytes } from "../src/core/crypto/webcrypto.js";
import { Sign1, sign } from "../src/core/signed/cose.js";
import type { Header } from "../src/core/signed/payloads.js";
import * as statements from "../src/core/signed/statements.js";
import { SyncKind } from "../src/core/signed/statements.js";
import * as proofs from "../src/core/vault/door_proof.js";
import {
  CODE_DIGITS, ExistingDevice, NewDevice, newPairingRequest, type PairingRequest, pairingRequestFromBytes,
  pairingRequestHash, pairingRequestToBytes, pairingText, parsePairingText, requireShown, shortCode,
} from "../src/core/vault/pairing.js";
import {
  type DeviceSync, deviceSyncFromSecret, deviceSyncToSecret, sealSync, SyncLetter,
} from "../src/core/vault/sync_letter.js";
import { type Json, octets, refused, vectors } from "./vectors.js";

const all = vectors("pairing");
const NOW = 1_800_000_000;
const id = (name: string): Bytes => sha256(utf8(name)).slice(0, 16);
const ACME = id("acme"), OTHERS = id("mallory's tenant"), ALICE = id("alice"), MALLORY = id("mallory");
const LAPTOP = id("laptop"), PHONE = id("phone");
const existing = statements.deviceFromPayload(octets(all.existing_device));
const ISK = await SigningKey.generate(), KEY = await SealingKey.generate();

async function device(name: Bytes, of: { tenant?: Bytes; user?: Bytes } = {}): Promise<statements.DeviceStatement> {
  return {
    header: { tenant: of.tenant ?? ACME, user: of.user ?? ALICE, device: name, issuedAt: NOW, expiresAt: 0 },
    suite: Suite.HYBRID, person: id("person"), name: "a device", enrolmentHash: EMPTY,
    signingKey: (await SigningKey.generate()).public, agreementKey: (await AgreementKey.generate()).public,
    sealingKey: (await SealingKey.generate()).public,
  };
}

const OLD = await device(LAPTOP), NEW = await device(PHONE), STRANGE = await device(id("mallory's machine"));
const REQUEST = newPairingRequest(NEW), TEXT = pairingText(REQUEST);

function changed(data: Uint8Array, fields: Readonly<Record<number, Encodable>>): Bytes {
  const value = decode(data, 1 << 20) as Map<number, Value>;
  return encode(new Map<number, Encodable>([...value, ...mapOf(fields)]));
}

describe("as published", () => {
  test("the request and its text", () => {
    const request = parsePairingText(all.request.text);
    const written = [pairingRequestToBytes(request), pairingRequestHash(request)].map(hex);
    expect([...written, pairingText(request)]).toEqual([all.request.octets, all.request.hash, all.request.text]);
    requireShown(request, statements.deviceFromPayload(octets(all.new_device)));
  });

  test("the three messages and the code", () => {
    const [commitment, answer, reveal] = all.messages.map(octets);
    const side = new NewDevice(pairingRequestFromBytes(octets(all.request.octets)));
    expect(hex(side.commitment)).toBe(hex(commitment));
    expect(hex(side.answer(answer))).toBe(hex(reveal));
    expect(side.code).toBe(all.code);
  });

  async function opened(row: Json, data: Bytes): Promise<DeviceSync> {
    const key = await SealingKey.fromSeed(new SecretBytes(octets(all.key_seed)));
    const letter = await SyncLetter.open(data, { key, requestHash: octets(row.request_hash) });
    expect(hex(letter.head)).toBe(row.head);
    return letter.verify(existing.signingKey, { kind: row.kind, nonce: octets(row.nonce) });
  }

  test.each<Json>(all.letters)("the letter of kind $kind opens", async (row) => {
    expect(hex(deviceSyncToSecret(await opened(row, octets(row.octets))).reveal())).toBe(row.contents);
  });

  test.each<Json>(all.refused)("refuses a $format: $why", async (row) => {
    const waiting = new ExistingDevice(existing);
    waiting.receiveCommitment(octets(all.messages[0]));
    const readers: Record<string, (data: Bytes) => unknown> = {
      request: pairingRequestFromBytes,
      "message 1": (data) => new ExistingDevice(existing).receiveCommitment(data),
      "message 2": (data) => new NewDevice(parsePairingText(all.request.text)).answer(data),
      "message 3": (data) => waiting.receiveReveal(data),
      letter: (data) => opened(all.letters[0], data),
    };
    await refused(() => (readers[row.format] as (data: Bytes) => unknown)(octets(row.octets)));
  });

  test.each<string>(all.refused_texts)("refuses the text %s", async (text) => {
    await refused(() => parsePairingText(text));
  });
});

describe("the code that is shown", () => {
  test("is read as scanned, copied and typed", () => {
    for (const text of [TEXT, ` ${TEXT}\n`, TEXT.toLowerCase(), TEXT.replace(/(.{20})/g, "$1\n  ")])
      expect(pairingText(parsePairingText(text))).toBe(TEXT);
    requireShown(parsePairingText(TEXT), NEW);
    expect(new Set(Array.from({ length: 50 }, () => pairingText(newPairingRequest(NEW)))).size).toBe(50);
  });

  test("is of no other device, and of no other account", async () => {
    const others = [STRANGE, await device(PHONE), { ...NEW, name: "another name" }, { ...NEW, sealingKey: STRANGE.sealingKey }];
    for (const other of others)
      expect(await refused(() => requireShown(REQUEST, other))).toBeInstanceOf(Untrusted);
    for (const whose of [{ tenant: OTHERS }, { user: MALLORY }])
      expect(await refused(() => requireShown({ ...REQUEST, ...whose }, NEW))).toBeInstanceOf(Untrusted);
  });

  test("every changed character is refused or another request", async () => {
    for (let at = 0; at < TEXT.length; at++) {
      const other = TEXT.slice(0, at) + (TEXT[at] === "A" ? "B" : "A") + TEXT.slice(at + 1);
      let read: PairingRequest | undefined;
      try {
        read = parsePairingText(other);
      } catch (error) {
        expect(error).toBeInstanceOf(Malformed);
      }
      if (read === undefined) continue;
      expect(pairingText(read)).toBe(other);
      const asked = equal(read.nonce, REQUEST.nonce) ? read : { ...read, user: MALLORY };
      await refused(() => requireShown(asked, NEW));
    }
  });
});

function meet(side: NewDevice, other: ExistingDevice): void {
  other.receiveReveal(side.answer(other.receiveCommitment(side.commitment)));
}

describe("eight digits", () => {
  test("two honest devices show the same and agree", () => {
    for (let turn = 0; turn < 20; turn++) {
      const side = new NewDevice(newPairingRequest(NEW)), other = new ExistingDevice(OLD);
      meet(side, other);
      expect(side.code).toMatch(/^[0-9]{8}$/);
      expect(other.code).toBe(side.code);
      expect(pairingText(other.confirm(` ${side.code.slice(0, 4)} ${side.code.slice(4)} `))).toBe(pairingText(side.request));
    }
  });

  test.each(["", "0", "00000000", "12 34", "\ud800"])("confirm takes one try: %j", async (wrong) => {
    const other = new ExistingDevice(OLD);
    meet(new NewDevice(newPairingRequest(NEW)), other);
    const right = other.code;
    expect(await refused(() => other.confirm(wrong === right ? "1" : wrong))).toBeInstanceOf(Untrusted);
    expect(() => other.confirm(right)).toThrow(RangeError);
  });

  test("one commitment, one reveal, one answer", async () => {
    const side = new NewDevice(REQUEST), other = new ExistingDevice(OLD);
    expect(() => side.code).toThrow(RangeError);
    const answer = other.receiveCommitment(side.commitment), reveal = side.answer(answer);
    await refused(() => other.receiveCommitment(new NewDevice(newPairingRequest(STRANGE)).commitment));
    other.receiveReveal(reveal);
    await refused(() => other.receiveReveal(reveal));
    expect(() => side.answer(answer)).toThrow(RangeError);
  });

  test("what was not committed to ends the pairing", async () => {
    for (const shown of [STRANGE, NEW]) {
      const other = new ExistingDevice(OLD), answer = other.receiveCommitment(new NewDevice(REQUEST).commitment);
      const reveal = new NewDevice(newPairingRequest(shown)).answer(answer);
      expect((await refused(() => other.receiveReveal(reveal))).message).toContain("not the one that began");
      await refused(() => other.receiveReveal(new NewDevice(REQUEST).answer(answer)));
      expect(() => other.code).toThrow(RangeError);
    }
  });

  test("another account's device is refused", async () => {
    for (const of of [{ user: MALLORY }, { tenant: OTHERS }]) {
      const side = new NewDevice(newPairingRequest(await device(PHONE, of)));
      expect((await refused(() => meet(side, new ExistingDevice(OLD)))).message).toContain("another account");
    }
  });

  test("a server that plays each to the other gets one guess", () => {
    const attacks = 1000;
    let wins = 0;
    for (let turn = 0; turn < attacks; turn++) {
      // Two digits, so that a thousand attacks say something; the server commits before it sees the nonce that decides.
      const side = new NewDevice(REQUEST, 2), other = new ExistingDevice(OLD, 2);
      side.answer(new ExistingDevice(STRANGE).receiveCommitment(side.commitment));
      const played = new NewDevice({ ...REQUEST, statementHash: sha256(utf8("hers")), nonce: randomBytes(16) }, 2);
      meet(played, other);
      wins += Number(other.code === side.code);
    }
    // One in 100: 10 are expected, with a deviation of 3.1.
    expect(wins).toBeLessThan(30);
  });

  test("leading zeros are shown", () => {
    const codes = Array.from({ length: 400 }, (_, at) => shortCode(utf8(String(at))));
    expect(codes.every((code) => code.length === CODE_DIGITS)).toBe(true);
    expect(codes.some((code) => code.startsWith("0"))).toBe(true);
  });
});

describe("the letter with the vault key", () => {
  const HEAD = sha256(utf8("head")), BY_LAPTOP: Header = OLD.header, requestHash = pairingRequestHash(REQUEST);
  const contents: DeviceSync = {
    vaultKey: new SecretBytes(Uint8Array.from({ length: 32 }, (_, at) => at)), epoch: 4, version: 17,
    checkpoint: "log.example/acme/keys\n7\nroot\n", nonce: REQUEST.nonce,
  };
  const written = deviceSyncToSecret(contents).reveal();

  const letter = (said: DeviceSync = contents, of: Partial<Parameters<typeof sealSync>[1]> = {}): Promise<Bytes> =>
    sealSync(said, { header: BY_LAPTOP, kind: SyncKind.DEVICE_DOOR, key: ISK, to: KEY.public, requestHash, head: HEAD, ...of });

  async function take(data: Bytes, kind: SyncKind = SyncKind.DEVICE_DOOR): Promise<DeviceSync> {
    const read = await SyncLetter.open(data, { key: KEY, requestHash });
    return read.verify(ISK.public, { kind, nonce: REQUEST.nonce });
  }

  test("gives the device what it needs to carry on", async () => {
    const read = await SyncLetter.open(await letter(), { key: KEY, requestHash });
    expect([hex(read.head), hex(read.header.device)]).toEqual([hex(HEAD), hex(LAPTOP)]);
    expect(hex(deviceSyncToSecret(await take(await letter())).reveal())).toBe(hex(written));
    const officers = { key: new SecretBytes(new Uint8Array(32).fill(7)), epoch: 2, version: 3 };
    const took = await take(await letter({ ...contents, officers }));
    expect([took.officers?.key.equals(officers.key), took.officers?.epoch, took.officers?.version]).toEqual([true, 2, 3]);
  });

  test("opens for no other key, request or head, alike", async () => {
    const sent = await letter(), other = await SealingKey.generate(), messages = new Set<string>();
    const sealed = (decode(sent) as Map<number, Value>).get(3) as Bytes;
    for (const [data, key, hash] of [
      [sent, other, requestHash], [sent, KEY, pairingRequestHash(newPairingRequest(NEW))],
      [changed(sent, { 2: sha256(utf8("another")) }), KEY, requestHash], [changed(sent, { 3: sealed.slice(0, -1) }), KEY, requestHash],
    ] as const) {
      const error = await refused(() => SyncLetter.open(data, { key, requestHash: hash }));
      expect(error).toBeInstanceOf(UnwrapFailed);
      messages.add(error.message);
    }
    expect(messages.size).toBe(1);
  });

  test("is believed from its device alone, and of its kind alone", async () => {
    const forged = await letter(contents, { key: await SigningKey.generate() });
    expect(await refused(() => take(forged))).toBeInstanceOf(InvalidSignature);
    const kinds = Object.values(SyncKind);
    for (const sent of kinds)
      for (const wanted of kinds)
        if (sent !== wanted)
          expect(await refused(async () => take(await letter(contents, { kind: sent }), wanted))).toBeInstanceOf(Untrusted);
  });

  async function resealed(statement: Bytes, inner: Bytes): Promise<Bytes> {
    const plaintext = new SecretBytes(encode(mapOf({ 1: statement, 2: inner })));
    return encode(mapOf({ 1: 1, 2: HEAD, 3: await seal(plaintext, KEY.public, label("sync", requestHash, HEAD)) }));
  }

  async function signed(version: number, of: Bytes): Promise<Bytes> {
    const sync = { header: BY_LAPTOP, kind: SyncKind.DEVICE_DOOR, blobHash: sha256(of), version };
    return (await sign(statements.syncToPayload(sync), "sync", ISK)).encode();
  }

  test("another receiver cannot pass it on, and nobody changes what was signed", async () => {
    const tablets = deviceSyncToSecret({ ...contents, nonce: utf8("tablet's nonce..") }).reveal();
    const passedOn = await resealed(await signed(17, tablets), tablets);
    expect((await refused(() => take(passedOn))).message).toContain("another device or another pairing");
    const other = deviceSyncToSecret({ ...contents, vaultKey: new SecretBytes(new Uint8Array(32)) }).reveal();
    expect((await refused(async () => take(await resealed(await signed(17, written), other)))).message).toContain("not the sync");
    expect((await refused(async () => take(await resealed(await signed(18, written), written)))).message).toContain("two versions");
    await take(await resealed(await signed(17, written), written));
  });

  test("nobody's name is refused by its writer", async () => {
    for (const header of [{ ...BY_LAPTOP, device: EMPTY }, { ...BY_LAPTOP, user: EMPTY }])
      await expect(letter(contents, { header })).rejects.toThrow(RangeError);
  });

  test.each([{ 1: 2 }, { 2: new Uint8Array(31) }, { 3: "4" }, { 4: EMPTY }, { 5: EMPTY }, { 5: "x".repeat(4097) },
    { 6: new Uint8Array(15) }, { 7: 1 }, { 7: [] }, { 7: [new Uint8Array(31), 2, 3] }, { 7: [new Uint8Array(32), 0, 3] },
    { 7: [new Uint8Array(32), 2, 0] }, { 7: [new Uint8Array(32), 2] }, { 8: 0 }])("refuses contents %#", async (fields) => {
    const error = await refused(() => deviceSyncFromSecret(new SecretBytes(changed(written, fields))));
    expect(error).toBeInstanceOf(Malformed);
  });

  test("flipped bytes are refused", async () => {
    const sent = await letter();
    // Every seventh: each costs a decapsulation.
    for (let at = 0; at < sent.length; at += 7) {
      const flipped = sent.slice();
      flipped[at] = (flipped[at] as number) ^ 1;
      await refused(() => take(flipped));
    }
  });
});

describe("a proof of an opened door", () => {
  const blobHash = sha256(utf8("door"));

  async function prove(
    of: { at?: number; key?: SigningKey; kind?: string; blobHash?: Bytes; user?: Bytes; tenant?: Bytes } = {},
  ): Promise<proofs.DoorProof> {
    const header = { ...OLD.header, tenant: of.tenant ?? ACME, user: of.user ?? ALICE, issuedAt: of.at ?? NOW };
    const proof = { header, kind: of.kind ?? "officers-phrase", blobHash: of.blobHash ?? blobHash };
    const said = await sign(proofs.doorProofToPayload(proof), "door-proof", of.key ?? ISK);
    const expected = { aik: ISK.public, tenant: ACME, user: ALICE, kind: "officers-phrase", blobHash, at: NOW };
    return proofs.verifyDoorProof(Sign1.parse(said.encode()), expected);
  }

  test("is of this door, by this account and of now", async () => {
    expect((await prove()).kind).toBe("officers-phrase");
    await prove({ at: NOW - proofs.MAX_AGE_SECONDS });
    for (const wrong of [{ kind: "phrase" }, { blobHash: new Uint8Array(32) }, { user: MALLORY }, { tenant: OTHERS }])
      expect(await refused(() => prove(wrong))).toBeInstanceOf(Untrusted);
    expect(await refused(async () => prove({ key: await SigningKey.generate() }))).toBeInstanceOf(InvalidSignature);
    for (const at of [NOW - proofs.MAX_AGE_SECONDS - 1, NOW + 301])
      expect(await refused(() => prove({ at }))).toBeInstanceOf(Expired);
    await expect(prove({ kind: "x".repeat(33) })).rejects.toThrow(RangeError);
  });

  test("the published one is read, and its mutations are not", async () => {
    const { statements: made, refused_payloads: wrong } = vectors("statements");
    const payload = octets(made.find((one: Json) => one.name === "door proof").payload);
    expect(hex(proofs.doorProofToPayload(proofs.doorProofFromPayload(payload)))).toBe(hex(payload));
    const rows = wrong.filter((one: Json) => one.name === "door proof");
    expect(rows.length).toBeGreaterThan(5);
    for (const row of rows) await refused(() => proofs.doorProofFromPayload(octets(row.octets)));
  });
});

test("messages are joined by their step", async () => {
  const side = new NewDevice(REQUEST), other = new ExistingDevice(OLD), answer = other.receiveCommitment(side.commitment);
  const attempts: [(data: Bytes) => unknown, Bytes][] = [
    [(data) => new ExistingDevice(OLD).receiveCommitment(data), side.commitment],
    [(data) => new NewDevice(REQUEST).answer(data), answer],
    [(data) => other.receiveReveal(data), side.answer(answer)],
  ];
  for (const [take, message] of attempts) {
    const step = (decode(message) as Map<number, Value>).get(2) as number;
    const wrong = [{ 1: 2 }, { 2: 4 }, { 2: (step % 3) + 1 }, { 3: EMPTY }, { 3: 1 }, { 9: 0 }].map((fields) => changed(message, fields));
    for (const data of [...wrong, EMPTY, message.slice(0, -1), concat(message, new Uint8Array(1)), new Uint8Array(300)])
      expect(await refused(() => take(data))).toBeInstanceOf(Malformed);
  }
});

// SPDX-License-Identifier: Apache-2.0
/** The published vectors of content, requests, statements, typed text and doors. */
import { describe, expect, test } from "vitest";
import { hex, utf8 } from "../src/core/base/bytes.js";
import { SecretBytes } from "../src/core/base/secret.js";
import * as typed from "../src/core/base/typed.js";
import { areWords, asTyped } from "../src/core/base/words.js";
import { decodePublicKey, verify } from "../src/core/crypto/keys.js";
import { ownNumber, pairNumber } from "../src/core/crypto/safety.js";
import { Stretching } from "../src/core/crypto/stretching.js";
import { decodeContent, encodeContent, openLarge } from "../src/core/messages/content.js";
import { Sign1 } from "../src/core/signed/cose.js";
import { contentDigest, parseSignature } from "../src/core/signed/requests.js";
import * as cases from "../src/core/identity/cases.js";
import { policyFromPayload, policyToPayload } from "../src/core/identity/policy.js";
import * as statements from "../src/core/signed/statements.js";
import { openVault, type Section } from "../src/core/vault/blob.js";
import { Door, type DoorOwner } from "../src/core/vault/door_blob.js";
import { openPasswordDoor, signInProof } from "../src/core/vault/password_door.js";
import { type Json, octets, refused, vectors } from "./vectors.js";

describe("content", () => {
  const { contents, refused: wrong, large, safety_number: safety } = vectors("content");

  test.each(Object.entries<string>(contents))("%s goes to bytes and back", (_, octetsOf) => {
    expect(hex(encodeContent(decodeContent(octets(octetsOf))))).toBe(octetsOf);
  });

  test.each(Object.entries<string>(wrong))("refuses: %s", async (_, octetsOf) => {
    await refused(() => decodeContent(octets(octetsOf)));
  });

  test("large content opens by its reference and by no other", async () => {
    const reference = { key: new SecretBytes(octets(large.key)), hash: octets(large.hash), size: large.size };
    const ciphertext = octets(large.ciphertext);
    expect(hex(await openLarge(ciphertext, reference))).toBe(large.plaintext);
    await refused(() => openLarge(ciphertext, { ...reference, size: large.size + 1 }));
    ciphertext[9] = (ciphertext[9] as number) ^ 1;
    await refused(() => openLarge(ciphertext, reference));
  });

  test("safety numbers", () => {
    const halves: string[][] = safety.people.map((one: Json) => {
      const half = ownNumber({
        tenant: octets(safety.tenant),
        user: octets(one.user),
        aik: decodePublicKey(octets(one.aik)),
      });
      expect(half).toEqual(one.half);
      return half;
    });
    expect(pairNumber(halves[1] as string[], halves[0] as string[])).toEqual(safety.number);
  });
});

describe("requests", () => {
  const { requests, refused: wrong } = vectors("requests");

  test.each<Json>(requests)("$method $target_uri", async (one) => {
    const [parameters, signature] = parseSignature(one.method, one["Signature-Input"], one.Signature, one["Holdfast-Turn"] ?? "");
    const digest = one.method === "GET" || one.method === "HEAD" ? "" : contentDigest(octets(one.body));
    const base = parameters.base(one.target_uri, digest);
    expect(new TextDecoder().decode(base)).toBe(one.base);
    await verify(decodePublicKey(octets(one.signer)), signature, base);
    expect(parameters.fields(signature)).toMatchObject({
      "Signature-Input": one["Signature-Input"],
      Signature: one.Signature,
    });
  });

  test.each<Json>(wrong)("refuses: $why", async (one) => {
    await refused(() => parseSignature(one.method, one["Signature-Input"], one.Signature, one["Holdfast-Turn"] ?? ""));
  });
});

describe("statements", () => {
  const { statements: made } = vectors("statements");
  const readers: Record<string, (payload: Uint8Array) => Uint8Array> = {
    device: (payload) => statements.deviceToPayload(statements.deviceFromPayload(payload)),
    sync: (payload) => statements.syncToPayload(statements.syncFromPayload(payload)),
    consent: (payload) => statements.consentToPayload(statements.consentFromPayload(payload)),
    deposit: (payload) => statements.depositToPayload(statements.depositFromPayload(payload)),
    archive: (payload) => statements.blobToPayload(statements.blobFromPayload(payload, "archive")),
    export: (payload) => statements.blobToPayload(statements.blobFromPayload(payload, "export")),
    policy: (payload) => policyToPayload(policyFromPayload(payload)),
    case: (payload) => cases.caseToPayload(cases.caseFromPayload(payload)),
    approval: (payload) => cases.approvalToPayload(cases.approvalFromPayload(payload)),
    veto: (payload) => cases.vetoToPayload(cases.vetoFromPayload(payload)),
    attestation: (payload) => cases.attestationToPayload(cases.attestationFromPayload(payload)),
    "escrow-key": (payload) => statements.tenantKeyToPayload(statements.tenantKeyFromPayload(payload, "escrow-key")),
    "offline-key": (payload) => statements.tenantKeyToPayload(statements.tenantKeyFromPayload(payload, "offline-key")),
  };

  test.each<Json>(made)("$name verifies for its purpose and for no other", async (one) => {
    if (one.purpose === "chain" || !one.statement) return;
    const signed = Sign1.parse(octets(one.statement), 65536);
    const signer = decodePublicKey(octets(one.signer));
    expect(hex(await signed.verify(signer, one.purpose))).toBe(one.payload);
    expect(hex(signed.payloadHash)).toBe(one.payload_hash);
    await refused(() => signed.verify(signer, one.purpose === "veto" ? "case" : "veto"));
    const read = readers[one.purpose as string];
    if (read) expect(hex(read(octets(one.payload)))).toBe(one.payload);
  });

  const known = vectors("statements").refused_payloads.filter((one: Json) => one.name in readers);
  test.each<Json>(known)("refuses $name: $why", async (one) => {
    await refused(() => (readers[one.name] as (payload: Uint8Array) => Uint8Array)(octets(one.octets)));
  });

  test.each<Json>(vectors("statements").refused_statements)("refuses a statement: $why", async (one) => {
    await refused(async () => {
      const of = made.find((other: Json) => other.name === one.name);
      await Sign1.parse(octets(one.octets)).verify(decodePublicKey(octets(of.signer)), of.purpose);
    });
  });
});

describe("typed", () => {
  const { passwords, words, numbers } = vectors("typed");
  test.each<Json>(passwords)("password $typed", (one) => expect(typed.password(one.typed)).toBe(one.canonical));
  test.each<Json>(words)("words $typed", (one) => expect(typed.words(one.typed, "words")).toEqual(one.words));
  test("eight words are the same however they are typed", () => {
    const said = ["abandon", "zoo", "zero", "youth", "young", "you", "yellow", "year"];
    expect(asTyped(["1. Abandon, ZOO zero\u00a0youth", "young you", " yellow\u200byear. "])).toEqual(said);
    expect(areWords(said, [said.join(" ").toUpperCase()])).toBe(true);
    for (const wrong of [[], said.slice(1), [...said, "zoo"], [...said].reverse(), [said.join("")]])
      expect(areWords(said, wrong)).toBe(false);
  });
  test.each<Json>(numbers)("number $typed", (one) => expect(typed.ungrouped(one.typed)).toBe(one.ungrouped));
});

describe("doors", () => {
  const all = vectors("doors");
  const { tenant, user, epoch } = all.owner;
  const owner = (section: Section): DoorOwner => ({ tenant: octets(tenant), user: octets(user), epoch, section });
  const vaultKey = new SecretBytes(octets(all.vault_key));

  test.each<[Section, Json]>([["vault", all.vault], ["officers", all.officers_section]])("the %s section opens", async (section, one) => {
    const expected = { ...owner(section), version: one.version };
    const opened = await openVault(octets(one.blob), vaultKey, expected);
    expect(hex(opened.reveal())).toBe(one.keyring);
    await refused(() => openVault(octets(one.blob), vaultKey, { ...expected, version: one.version + 1 }));
  });

  test.each<[Section, Json]>([
    ...all.refused_vaults.map((one: Json) => ["vault", one]),
    ...all.refused_sections.map((one: Json) => ["officers", one]),
  ])("refuses a %s section: $1.why", async (section, one) => {
    const { version } = section === "vault" ? all.vault : all.officers_section;
    await refused(() => openVault(octets(one.octets), vaultKey, { ...owner(section), version }));
  });

  test.each<Json>(all.doors.filter((one: Json) => one.password))("the $name door opens", async (one) => {
    const section: Section = one.name.includes("officers") ? "officers" : "vault";
    const opened = await openPasswordDoor(octets(one.blob), one.password, owner(section));
    expect(hex(opened.reveal())).toBe(all.vault_key);
    await refused(() => openPasswordDoor(octets(one.blob), one.password, { ...owner(section), epoch: epoch + 1 }));
  });

  test("the proof of sign-in comes of the door's own stretching", async () => {
    const { password, of_door: name, proof } = all.sign_in_proof;
    const door = Door.parse(octets(all.doors.find((one: Json) => one.name === name).blob), "password");
    const stretching = Stretching.fromMap(door.method, "door");
    const made = await signInProof(password, { stretching, tenant: octets(tenant), user: octets(user) });
    expect(hex(made.reveal())).toBe(proof);
  });

  test.each<Json>(all.refused.filter((one: Json) => one.name === "password"))("refuses a password door: $why", async (one) => {
    const of = all.doors.find((other: Json) => other.name === "password");
    await refused(() => openPasswordDoor(octets(one.octets), of.password, owner("vault")));
  });
});

test("a secret leaves by reveal alone", () => {
  const secret = new SecretBytes(utf8("nobody sees this"));
  expect(String(secret.toString())).not.toContain("nobody");
  expect(() => JSON.stringify({ secret })).toThrow(TypeError);
  expect(() => `${secret as unknown as string}`).toThrow(TypeError);
  expect(Object.keys(secret)).toEqual([]);
});

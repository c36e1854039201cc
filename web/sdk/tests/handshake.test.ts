// SPDX-License-Identifier: Apache-2.0
/** Every handshake of the published vectors, derived by the responder, and each message to refuse. */
import { describe, expect, test } from "vitest";
import { hex } from "../src/core/base/bytes.js";
import { SecretBytes } from "../src/core/base/secret.js";
import { AgreementKey, decodePublicKey, KemKey } from "../src/core/crypto/keys.js";
import { agreementKind, isSuite, type Suite } from "../src/core/crypto/suites.js";
import { Session } from "../src/core/messages/session.js";
import { readMessage } from "../src/core/messages/wire.js";
import { type OwnPreKey, Party } from "../src/core/messages/x3dh.js";
import { deviceFromPayload } from "../src/core/signed/statements.js";
import { type Json, octets, refused, vectors } from "./vectors.js";

const { cases, refused: wrong } = vectors("handshake");

function party(of: Json): Party {
  const statement = octets(of.statement);
  return new Party(statement, deviceFromPayload(statement), decodePublicKey(octets(of.aik)), octets(of.head));
}

async function preKey(of: Json, suite: Suite): Promise<OwnPreKey> {
  return {
    keyId: of.id,
    dh: await AgreementKey.fromSeed(agreementKind(suite), new SecretBytes(octets(of.dh_seed))),
    kem: of.kem_seed ? await KemKey.fromSeed(new SecretBytes(octets(of.kem_seed))) : undefined,
    statement: octets(of.statement),
  };
}

async function respond(of: Json, message: string): Promise<[Session, Uint8Array]> {
  if (!isSuite(of.suite)) throw new Error("suite");
  const seed = new SecretBytes(octets(of.responder.agreement_seed));
  return Session.respond(readMessage(octets(message)), {
    me: party(of.responder),
    agreement: await AgreementKey.fromSeed(agreementKind(of.suite), seed),
    initiator: party(of.initiator),
    signed: await preKey(of.signed_pre_key, of.suite),
    oneTime: of.one_time_pre_key ? await preKey(of.one_time_pre_key, of.suite) : undefined,
    now: 1_800_000_000,
  });
}

describe.each<[number, Json]>(cases.map((one: Json, at: number) => [at, one]))("handshake %i", (_, one) => {
  test("the responder derives what the vector says, and reads the first message", async () => {
    const [session, plaintext] = await respond(one, one.message);
    expect(hex(session.transcript)).toBe(one.transcript);
    expect(hex(plaintext)).toBe(one.plaintext);
    expect(session.isLastResort).toBe(!one.one_time_pre_key);
  });
});

const mutations: [string, string][] = wrong.messages.map((one: Json) => [one.why, one.message]);

describe.each(mutations)("refused: %s", (_, message) => {
  test("begins no session", async () => {
    await refused(() => respond(cases[wrong.case], message));
  });
});

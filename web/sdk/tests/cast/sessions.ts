// SPDX-License-Identifier: Apache-2.0
/** Two devices that have a session with each other, without a server and without a store. */
import { type Bytes, concat, hex, utf8 } from "../../src/core/base/bytes.js";
import { decode, MAX_VAULT } from "../../src/core/base/encoding.js";
import { AgreementKey, KemKey, SigningKey } from "../../src/core/crypto/keys.js";
import { SealingKey } from "../../src/core/crypto/sealing.js";
import { agreementKind, signingKind, type Suite } from "../../src/core/crypto/suites.js";
import { randomBytes } from "../../src/core/crypto/webcrypto.js";
import { inclusionProof, leafHash } from "../../src/core/log/merkle.js";
import { buildBatch, generatePreKey, oneTimeStatement, verifyBundle } from "../../src/core/messages/bundle.js";
import { signedPreKeyToPayload } from "../../src/core/messages/prekeys.js";
import { Session } from "../../src/core/messages/session.js";
import { readMessage } from "../../src/core/messages/wire.js";
import { type OwnPreKey, Party, type VerifiedBundle } from "../../src/core/messages/x3dh.js";
import { sign, type Sign1 } from "../../src/core/signed/cose.js";
import { type DeviceStatement, deviceToPayload } from "../../src/core/signed/statements.js";
import { NOW, TENANT } from "./server.js";

/** One device. */
export interface End {
  readonly party: Party;
  readonly statement: DeviceStatement;
  readonly signed: Sign1;
  readonly signing: SigningKey;
  readonly agreement: AgreementKey;
}

const SEALING = await SealingKey.generate();

async function endOf(name: string, suite: Suite): Promise<End> {
  const signing = await SigningKey.generate(signingKind(suite)), user = utf8(name.padEnd(16, "-"));
  const agreement = await AgreementKey.generate(agreementKind(suite)), device = randomBytes(16);
  const statement: DeviceStatement = {
    header: { tenant: TENANT, user, device, issuedAt: NOW, expiresAt: 0 },
    suite,
    signingKey: signing.public,
    agreementKey: agreement.public,
    sealingKey: SEALING.public,
    person: user,
    name,
    enrolmentHash: randomBytes(32),
  };
  const signed = await sign(deviceToPayload(statement), "device", signing);
  const party = new Party(signed.payload, statement, (await SigningKey.generate()).public, randomBytes(32));
  return { party, statement, signed, signing, agreement };
}

/** Two devices, of which the first is about to begin a session with the second. */
export interface Meeting {
  readonly alice: End;
  readonly bob: End;
  /** Bob's, with the first of his one-time keys, as alice has verified it. */
  readonly bundle: VerifiedBundle;
  /** Begin a session as alice. bundle: another copy of bob's. */
  readonly begin: (bundle?: VerifiedBundle) => Promise<Session>;
  /** Answer a first message as bob. */
  readonly answer: (message: Uint8Array) => Promise<[session: Session, plaintext: Bytes]>;
}

/** Return two devices of a suite that have never met. */
export async function meetingOf(suite: Suite): Promise<Meeting> {
  const alice = await endOf("alice", suite), bob = await endOf("bob", suite), { header } = bob.statement;
  const [own, published] = await generatePreKey(1, suite);
  const lasting = { ...header, expiresAt: NOW + 86_400 };
  const payload = signedPreKeyToPayload({ header: lasting, suite, ...published });
  const batch = await buildBatch(header, { suite, firstKeyId: 2, size: 1, signingKey: bob.signing });
  const leaves = decode(batch.leaves, MAX_VAULT) as [Bytes], proof = concat(...inclusionProof(leaves.map(leafHash), 0));
  const bundle = await verifyBundle(
    {
      suite,
      chainHead: bob.party.head,
      deviceStatement: bob.signed,
      signedPreKey: await sign(payload, "prekey", bob.signing),
      oneTime: { batch: batch.statement, leaf: leaves[0], index: 0, proof },
    },
    {
      chain: { tenant: TENANT, user: header.user, devices: new Map([[hex(header.device), bob.signed.payloadHash]]) },
      device: header.device,
      now: NOW,
    },
  );
  const kept = async (keyId: number, of: typeof own, statement: Bytes): Promise<OwnPreKey> => ({
    keyId,
    dh: await AgreementKey.fromSeed(agreementKind(suite), of.dh),
    kem: of.kem && (await KemKey.fromSeed(of.kem)),
    statement,
  });
  const [privateKey] = batch.privateKeys as [typeof own];
  const signed = await kept(1, own, payload);
  const oneTime = await kept(2, privateKey, oneTimeStatement(batch.statement.payload, leaves[0]));
  const begin = (of = bundle): Promise<Session> =>
    Session.initiate({
      me: alice.party, deviceStatement: alice.signed, agreement: alice.agreement, peer: bob.party, bundle: of, now: NOW,
    });
  const { party: me, agreement } = bob, initiator = alice.party;
  const answer = (message: Uint8Array): Promise<[Session, Bytes]> =>
    Session.respond(readMessage(message), { me, agreement, initiator, signed, oneTime, now: NOW });
  return { alice, bob, bundle, begin, answer };
}

/** Return both ends of a session that begins with a one-time key, after its first message was read. */
export async function sessionsOf(suite: Suite): Promise<[alice: Session, bob: Session]> {
  const { begin, answer } = await meetingOf(suite), first = await begin();
  const [second] = await answer(await first.encrypt(utf8("first")));
  return [first, second];
}

/** Return a session as it is read from a store. */
export function stored(session: Session): Session {
  const kept = Session.fromSecret(session.toSecret());
  kept.restoreSkipped(session.skippedToSecret());
  return kept;
}

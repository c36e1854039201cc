// SPDX-License-Identifier: Apache-2.0
/** What is measured of the SDK, with all that a step needs made beforehand, and how: see steps.mjs. */
import { PublicKey } from "../../web/sdk/src/core/crypto/keys.js";
import { Suite } from "../../web/sdk/src/core/crypto/suites.js";
import { buildBatch } from "../../web/sdk/src/core/messages/bundle.js";
import { Session } from "../../web/sdk/src/core/messages/session.js";
import { Party } from "../../web/sdk/src/core/messages/x3dh.js";
import { NOW } from "../../web/sdk/tests/cast/server.js";
import { meetingOf, sessionsOf } from "../../web/sdk/tests/cast/sessions.js";

export const ROUNDS = 3;
export const random = size => crypto.getRandomValues(new Uint8Array(size));
export const PLAINTEXT = random(1024);

/** Return each step's least seconds a call. `before` is not timed. */
async function best(steps, { turns, per, before = async () => {} }) {
  const least = steps.map(() => Infinity);
  for (let turn = 0; turn < turns; turn++)
    for (const [which, step] of steps.entries()) {
      await before(per);
      const begun = performance.now();
      for (let time = 0; time < per; time++) await step();
      least[which] = Math.min(least[which], (performance.now() - begun) / per / 1000);
    }
  return least;
}

/** Return what `best` gives in each of the rounds of a row, step by step. */
export async function compared(steps, how) {
  await best(steps, how); // what is loaded at first, and compiled once more when it has run often
  const rounds = [];
  for (let round = 0; round < ROUNDS; round++) rounds.push(await best(steps, how));
  return steps.map((_, which) => rounds.map(round => round[which]));
}

const meeting = await meetingOf(Suite.HYBRID), { alice, bob, bundle } = meeting;
const copy = key => new PublicKey(key.kind, key.raw);
const copied = of => ({ ...of, dh: copy(of.dh), kem: copy(of.kem) });

/** Return what begins a session with keys that WebCrypto has not met, as every stranger's are. Made beforehand. */
export function strangers() {
  const waiting = [];
  const before = async per => {
    waiting.length = 0;
    for (let at = 0; at < per; at++) {
      const device = { ...bundle.device, agreementKey: copy(bundle.device.agreementKey) };
      const fresh = { ...bundle, device, signedPreKey: copied(bundle.signedPreKey), oneTime: copied(bundle.oneTime) };
      waiting.push([fresh, new Party(bob.party.statement, device, bob.party.aik, bob.party.head)]);
    }
  };
  const begin = () => {
    const [fresh, peer] = waiting.pop();
    return Session.initiate({
      me: alice.party, deviceStatement: alice.signed, agreement: alice.agreement, peer, bundle: fresh, now: NOW,
    });
  };
  return [before, begin];
}

/** Return what prepares so many messages, and what decrypts the next of them. */
export function inOrder([hers, his]) {
  const waiting = [];
  const before = async per => {
    while (waiting.length > 0) await his.decrypt(waiting.pop(), NOW);
    for (let at = 0; at < per; at++) waiting.unshift(await hers.encrypt(PLAINTEXT));
  };
  return [before, () => his.decrypt(waiting.pop(), NOW)];
}

/** Return both ends of a session in which each has answered: no message carries the handshake any more. */
export async function pair() {
  const [hers, his] = await sessionsOf(Suite.HYBRID);
  await hers.decrypt(await his.encrypt(PLAINTEXT), NOW);
  await his.decrypt(await hers.encrypt(PLAINTEXT), NOW);
  return [hers, his];
}

/** Make 100 one-time keys. */
export const batch = () =>
  buildBatch(bob.statement.header, { suite: Suite.HYBRID, firstKeyId: 1, size: 100, signingKey: bob.signing });

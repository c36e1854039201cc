// SPDX-License-Identifier: Apache-2.0
/**
 * The SDK's steps in a page, each beside the bare sum of its own primitives: WebCrypto's and noble's, one after the other.
 *
 * One message is 1 KiB, and suites are hybrid. Ours and the floor take turns; the best of each counts, since a page is told
 * wall time only. `measure(name)` returns seconds a call, for each round: [[ours, …], [floor, …]].
 */
import { hkdf } from "@noble/hashes/hkdf.js";
import { hmac } from "@noble/hashes/hmac.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { ml_kem768 } from "@noble/post-quantum/ml-kem.js";
import { argon2id } from "hash-wasm";
import { pad } from "../../web/sdk/src/core/base/padding.js";
import { SecretBytes } from "../../web/sdk/src/core/base/secret.js";
import { DEFAULT_COST } from "../../web/sdk/src/core/crypto/stretching.js";
import { newVaultKey, openVault, sealVault } from "../../web/sdk/src/core/vault/blob.js";
import { openPasswordDoor, sealPasswordDoor } from "../../web/sdk/src/core/vault/password_door.js";
import { TENANT } from "../../web/sdk/tests/cast/server.js";
import { batch, compared, inOrder, pair, PLAINTEXT, random, strangers } from "./ours.mjs";

const { subtle } = crypto;
const PASSWORD = "correct horse battery";

// The floors

const INFO = random(17), CHAIN = random(32), PREFIX = random(4), HEADER = random(41), AAD = random(105);
const SALT = random(12), PADDED = pad(PLAINTEXT), TRANSCRIPT = random(6800), INITIAL = random(2700);
const ONE = Uint8Array.of(1), TWO = Uint8Array.of(2), ROOT = random(18);
const PKCS8 = Uint8Array.from([48, 46, 2, 1, 0, 48, 5, 6, 3, 43, 101, 110, 4, 34, 4, 32]);
const gcm = (iv, additionalData) => ({ name: "AES-GCM", iv, additionalData, tagLength: 128 });
const gcmKey = raw => subtle.importKey("raw", raw, "AES-GCM", false, ["encrypt", "decrypt"]);
const x25519 = (key, peer) => subtle.deriveBits({ name: "X25519", public: peer }, key, 256);
const x25519Public = raw => subtle.importKey("raw", raw, "X25519", true, []);
const BASE = await x25519Public(Uint8Array.from({ length: 32 }, (_, at) => (at === 0 ? 9 : 0)));
const HEADER_KEY = await gcmKey(random(32));
const SEALED_HEADER = await subtle.encrypt(gcm(SALT, PREFIX), HEADER_KEY, HEADER);

function bodyKey(salt) {
  const okm = hkdf(sha256, hmac(sha256, CHAIN, ONE), salt, INFO, 44);
  return [okm.slice(0, 32), okm.slice(32)];
}
const [BODY_KEY, BODY_NONCE] = bodyKey(SALT);
const BODY = await subtle.encrypt(gcm(BODY_NONCE, AAD), await gcmKey(BODY_KEY), PADDED);

/** Two HMACs, HKDF, both GCMs, a key for the second, and 12 random bytes. */
async function encryptPrimitives() {
  const salt = random(12), [raw, nonce] = bodyKey(salt), key = await gcmKey(raw);
  await subtle.encrypt(gcm(salt, PREFIX), HEADER_KEY, HEADER);
  await subtle.encrypt(gcm(nonce, AAD), key, PADDED);
  hmac(sha256, CHAIN, TWO);
}

async function decryptPrimitives() {
  await subtle.decrypt(gcm(SALT, PREFIX), HEADER_KEY, SEALED_HEADER);
  const [raw, nonce] = bodyKey(SALT);
  await subtle.decrypt(gcm(nonce, AAD), await gcmKey(raw), BODY);
  hmac(sha256, CHAIN, TWO);
}

/** A key whose seed and public half are known, and that WebCrypto does not give out. */
async function freshKey() {
  const pkcs8 = new Uint8Array(48);
  pkcs8.set(PKCS8);
  pkcs8.set(random(32), 16);
  const key = await subtle.importKey("pkcs8", pkcs8, "X25519", false, ["deriveBits"]);
  return [key, new Uint8Array(await x25519(key, BASE))];
}

const [IDENTITY] = await freshKey(), PEERS = [];
for (let which = 0; which < 3; which++) PEERS.push((await freshKey())[1]);
const KEM = ml_kem768.keygen(random(64));

/** Two fresh keys, three of the peer's read, five DHs, an encapsulation, two KDFs, two hashes. */
async function initiatePrimitives() {
  const [ephemeral] = await freshKey(), peers = [];
  for (const raw of PEERS) peers.push(await x25519Public(raw));
  await x25519(IDENTITY, peers[1]);
  for (const peer of peers) await x25519(ephemeral, peer);
  ml_kem768.encapsulate(KEM.publicKey);
  sha256(TRANSCRIPT);
  hkdf(sha256, CHAIN, CHAIN, ROOT, 96);
  sha256(INITIAL);
  const [ratchet] = await freshKey();
  await x25519(ratchet, peers[1]);
  hkdf(sha256, CHAIN, CHAIN, ROOT, 96);
}

/** 100 pairs of keys, all begun at once, and the hash of each leaf. */
function batchPrimitives() {
  const one = async () => {
    await freshKey();
    ml_kem768.keygen(random(64));
    sha256(AAD_LEAF);
  };
  return Promise.all(Array.from({ length: 100 }, one));
}
const AAD_LEAF = random(1230);

const OWNER = { tenant: TENANT, user: random(16), epoch: 1 }, EXPECT = { ...OWNER, version: 1, section: "vault" };
const VAULT_KEY = newVaultKey(), KEYRING = random(4096);
const BLOB = await sealVault(new SecretBytes(KEYRING), VAULT_KEY, EXPECT);
const SEALED_KEYRING = await subtle.encrypt(gcm(SALT, AAD), HEADER_KEY, KEYRING);

/** HKDF for a key and what commits to it, an HMAC, and one GCM. */
async function vaultPrimitives() {
  hkdf(sha256, CHAIN, SALT, AAD, 64);
  hmac(sha256, CHAIN, ONE);
  const key = await gcmKey(CHAIN);
  await subtle.decrypt(gcm(SALT, AAD), key, SEALED_KEYRING).catch(() => {});
}

function argon2() {
  const { memoryKib, passes, lanes } = DEFAULT_COST;
  return argon2id({
    password: PASSWORD, salt: random(16), hashLength: 32, iterations: passes, parallelism: lanes, memorySize: memoryKib,
    outputType: "binary",
  });
}

const STEPS = {
  async initiate() {
    const [before, begin] = strangers();
    return compared([begin, initiatePrimitives], { turns: 25, per: 5, before });
  },
  async encrypt() {
    const [hers] = await pair();
    return compared([() => hers.encrypt(PLAINTEXT), encryptPrimitives], { turns: 80, per: 50 });
  },
  async decrypt() {
    const [before, open] = inOrder(await pair());
    return compared([open, decryptPrimitives], { turns: 80, per: 50, before });
  },
  batch: () => compared([batch, batchPrimitives], { turns: 10, per: 1 }),
  vault: () => compared([() => openVault(BLOB, VAULT_KEY, EXPECT), vaultPrimitives], { turns: 80, per: 50 }),
  async password() {
    const door = await sealPasswordDoor(VAULT_KEY, PASSWORD, OWNER);
    const open = async () => openVault(BLOB, await openPasswordDoor(door, PASSWORD, OWNER), EXPECT);
    return compared([open, argon2], { turns: 3, per: 1 });
  },
};

globalThis.measure = name => STEPS[name]();

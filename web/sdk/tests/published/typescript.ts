// SPDX-License-Identifier: Apache-2.0
/**
 * What TypeScript writes for others to read: an export file, both kinds of sync letter and a proof of an opened door.
 *
 * Prints JSON; `tests/published/typescript.py` puts it among the published vectors, and Python's tests replay it.
 */
import { EMPTY, hex, utf8 } from "../../src/core/base/bytes.js";
import { SecretBytes } from "../../src/core/base/secret.js";
import { sha256 } from "../../src/core/crypto/hashing.js";
import { AgreementKey, SigningKey } from "../../src/core/crypto/keys.js";
import { SealingKey } from "../../src/core/crypto/sealing.js";
import { Suite } from "../../src/core/crypto/suites.js";
import { sign } from "../../src/core/signed/cose.js";
import type { Header } from "../../src/core/signed/payloads.js";
import { type DeviceStatement, deviceToPayload, SyncKind, syncToPayload } from "../../src/core/signed/statements.js";
import { newVaultKey, sealVault, type VaultHeader } from "../../src/core/vault/blob.js";
import { doorProofToPayload } from "../../src/core/vault/door_proof.js";
import { ExportFile } from "../../src/core/vault/export_file.js";
import { newPairingRequest, pairingRequestHash, pairingText } from "../../src/core/vault/pairing.js";
import { sealPasswordDoor } from "../../src/core/vault/password_door.js";
import { deviceSyncToSecret, sealSync } from "../../src/core/vault/sync_letter.js";

const id = (name: string) => sha256(utf8(name)).slice(0, 16);
const tenant = id("acme"), user = id("alice"), NOW = 1_800_000_000;
const OF_USER: Header = { tenant, user, device: EMPTY, issuedAt: NOW, expiresAt: 0 };
const OF_DEVICE: Header = { ...OF_USER, device: id("laptop") };
const QUICK = { memoryKib: 19 * 1024, passes: 2, lanes: 1 }, PASSWORD = "correct horse é";
const aik = await SigningKey.generate(), isk = await SigningKey.generate(), sealing = await SealingKey.generate();
const vaultKey = newVaultKey(), keyring = new SecretBytes(utf8("what only the user's devices read"));

async function exported() {
  const header: VaultHeader = { tenant, user, epoch: 3, version: 9, section: "vault" };
  const vault = await sealVault(keyring, vaultKey, header), said = { kind: SyncKind.VAULT, version: 9 };
  const sync = await sign(syncToPayload({ header: OF_USER, blobHash: sha256(vault), ...said }), "sync", aik);
  const door = await sealPasswordDoor(vaultKey, PASSWORD, header, QUICK);
  const file = await ExportFile.make({ vault, sync, door }, { header: OF_DEVICE, key: isk });
  return { password: PASSWORD, keyring: hex(keyring.reveal()), vault_key: hex(vaultKey.reveal()), file: hex(file.encode()) };
}

const phone: DeviceStatement = {
  header: { ...OF_DEVICE, device: id("phone") }, suite: Suite.HYBRID, person: user, name: "phone", enrolmentHash: EMPTY,
  signingKey: (await SigningKey.generate()).public, agreementKey: (await AgreementKey.generate()).public,
  sealingKey: sealing.public,
};

async function paired() {
  const request = newPairingRequest(phone), own = sha256(deviceToPayload(phone)), head = sha256(utf8("alice's chain"));
  const letters = [];
  for (const [kind, requestHash, nonce] of [
    [SyncKind.DEVICE_DOOR, pairingRequestHash(request), request.nonce],
    [SyncKind.DEVICE_TO_DEVICE, own, own.slice(0, 16)],
  ] as const) {
    const officers = { key: newVaultKey(), epoch: 2, version: 3 };
    const contents = { vaultKey, epoch: 3, version: 9, checkpoint: "log.example/acme/keys\n7\nroot\n", nonce, officers };
    const of = { header: OF_DEVICE, kind, key: isk, to: sealing.public, requestHash, head };
    letters.push({
      kind, request_hash: hex(requestHash), nonce: hex(nonce), head: hex(head),
      contents: hex(deviceSyncToSecret(contents).reveal()), octets: hex(await sealSync(contents, of)),
    });
  }
  return { text: pairingText(request), device: hex(deviceToPayload(phone)), key_seed: hex(sealing.seed().reveal()), letters };
}

async function proven() {
  const kind = "officers-phrase", blobHash = sha256(utf8("a door"));
  const statement = await sign(doorProofToPayload({ header: OF_DEVICE, kind, blobHash }), "door-proof", aik);
  return { kind, blob_hash: hex(blobHash), at: NOW, statement: hex(statement.encode()) };
}

process.stdout.write(
  JSON.stringify({
    page: "docs/formats/README.md",
    owner: { tenant: hex(tenant), user: hex(user), epoch: 3 },
    aik: hex(aik.public.encoded),
    device_signing_key: hex(isk.public.encoded),
    export: await exported(),
    pairing: await paired(),
    door_proof: await proven(),
  }),
);

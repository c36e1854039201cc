// SPDX-License-Identifier: Apache-2.0
/**
 * The same steps by `@matrix-org/matrix-sdk-crypto-wasm`: Olm between two devices, with its store in memory.
 *
 * It encrypts no headers, pads nothing, and its handshake is not hybrid; it keeps what it makes in its store, and speaks JSON.
 */
import {
  DecryptionSettings, DeviceId, DeviceLists, initAsync, OlmMachine, RequestType, TrustRequirement, UserId,
} from "@matrix-org/matrix-sdk-crypto-wasm";

const ANY = "signed_curve25519";
await initAsync("/matrix.wasm");

const settings = () => new DecryptionSettings(TrustRequirement.Untrusted);
const synced = (machine, events, left) =>
  machine.receiveSyncChanges(JSON.stringify(events), new DeviceLists(), new Map([[ANY, left]]), undefined, settings());
const text = octets => btoa(String.fromCharCode(...octets));

let made = 0;

/** One device, with the keys that it has published. */
async function device(name) {
  const user = `@${name}${++made}:bench.test`, id = `DEVICE${made}`;
  const machine = await OlmMachine.initialize(new UserId(user), new DeviceId(id));
  const requests = await machine.outgoingRequests();
  const upload = requests.find(one => one.type === RequestType.KeysUpload), keys = JSON.parse(upload.body);
  const answer = { one_time_key_counts: { [ANY]: Object.keys(keys.one_time_keys).length } };
  await machine.markRequestAsSent(upload.id, RequestType.KeysUpload, JSON.stringify(answer));
  return { user, id, machine, statement: keys.device_keys, oneTime: Object.entries(keys.one_time_keys) };
}

/** Have a device know others, as their server lists them. */
async function meet({ machine }, others) {
  const query = machine.queryKeysForUsers(others.map(({ user }) => new UserId(user)));
  const listed = Object.fromEntries(others.map(({ user, id, statement }) => [user, { [id]: statement }]));
  const answer = JSON.stringify({ device_keys: listed, failures: {} });
  await machine.markRequestAsSent(query.id, RequestType.KeysQuery, answer);
}

/** Begin a session with each of them, by a one-time key. */
async function begin({ machine }, others) {
  const claim = await machine.getMissingSessions(others.map(({ user }) => new UserId(user)));
  const one = ({ user, id, oneTime }) => [user, { [id]: Object.fromEntries([oneTime.pop()]) }];
  const answer = { one_time_keys: Object.fromEntries(others.map(one)), failures: {} };
  await machine.markRequestAsSent(claim.id, RequestType.KeysClaim, JSON.stringify(answer));
}

const deviceOf = ({ machine }, { user, id }) => machine.getDevice(new UserId(user), new DeviceId(id));

async function encrypted(to, plaintext) {
  return JSON.parse(await to.encryptToDeviceEvent("m.bench", { body: text(plaintext) }));
}

/** Return what encrypts for another device, what that one decrypts with, and what makes 100 one-time keys. */
export async function matrixPair() {
  const alice = await device("alice"), bob = await device("bob");
  await meet(alice, [bob]);
  await meet(bob, [alice]);
  await begin(alice, [bob]);
  const hers = await deviceOf(alice, bob), his = await deviceOf(bob, alice);
  const event = (sender, content) => ({ type: "m.room.encrypted", sender: sender.user, content });
  const opened = async (by, sender, content) => {
    const [found] = await synced(by.machine, [event(sender, content)], 50);
    if (found.type !== 0) throw new Error("it was not decrypted");
  };
  // An answer, so that no message carries the handshake any more.
  await opened(bob, alice, await encrypted(hers, Uint8Array.of(1)));
  await opened(alice, bob, await encrypted(his, Uint8Array.of(1)));
  return {
    encrypt: plaintext => encrypted(hers, plaintext),
    decrypt: content => opened(bob, alice, content),
    async hundredKeys() {
      for (let half = 0; half < 2; half++) {
        await synced(bob.machine, [], 0);
        const upload = (await bob.machine.outgoingRequests()).find(one => one.type === RequestType.KeysUpload);
        if (Object.keys(JSON.parse(upload.body).one_time_keys).length !== 50) throw new Error("not 50 keys");
        const answer = JSON.stringify({ one_time_key_counts: { [ANY]: 50 } });
        await bob.machine.markRequestAsSent(upload.id, RequestType.KeysUpload, answer);
      }
    },
  };
}

/** Return what begins a session with each of so many devices and encrypts for it: milliseconds for one. */
export async function matrixTargets(count) {
  const alice = await device("alice"), others = [];
  for (let at = 0; at < count; at++) others.push(await device("bob"));
  await meet(alice, others);
  return async plaintext => {
    const begun = performance.now();
    await begin(alice, others);
    for (const other of others) await encrypted(await deviceOf(alice, other), plaintext);
    return (performance.now() - begun) / count;
  };
}

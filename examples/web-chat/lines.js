// SPDX-License-Identifier: Apache-2.0
/**
 * What was said, kept in this browser: the SDK hands a message out until the app has kept it, and keeps none itself.
 *
 * Each line is encrypted under a key that no script can read out. Lines of a lost device do not come back.
 */
const asked = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

export class Lines {
  #database;
  #key;

  static async open(name) {
    const made = new Lines(), request = indexedDB.open(`${name}-lines`, 1);
    request.onupgradeneeded = () => ["lines", "keys"].forEach((store) => request.result.createObjectStore(store));
    made.#database = await asked(request);
    const fresh = await crypto.subtle.generateKey({ name: "AES-GCM", length: 256 }, false, ["encrypt", "decrypt"]);
    const keys = made.#database.transaction("keys", "readwrite").objectStore("keys");
    made.#key = (await asked(keys.get("lines"))) ?? fresh;
    if (made.#key === fresh) await asked(keys.put(fresh, "lines"));
    return made;
  }

  /** Keep a line; one that is kept already, under its id, stays one. */
  async put({ body, ...said }) {
    const iv = crypto.getRandomValues(new Uint8Array(12));
    const plain = new Uint8Array([...new TextEncoder().encode(JSON.stringify(said)), 0, ...body]);
    const sealed = await crypto.subtle.encrypt({ name: "AES-GCM", iv }, this.#key, plain);
    const work = this.#database.transaction("lines", "readwrite", { durability: "strict" });
    // A sender chooses the id: another's message under the same one is another line.
    work.objectStore("lines").put({ iv, sealed }, `${said.peer} ${said.isOwn} ${said.id}`);
    // Kept is what the transaction has written, not what it was asked for.
    await new Promise((resolve, reject) => Object.assign(work, { oncomplete: resolve, onabort: () => reject(work.error) }));
  }

  async #all() {
    const rows = await asked(this.#database.transaction("lines").objectStore("lines").getAll());
    const opened = rows.map(async ({ iv, sealed }) => {
      const plain = new Uint8Array(await crypto.subtle.decrypt({ name: "AES-GCM", iv }, this.#key, sealed));
      const end = plain.indexOf(0);
      return { ...JSON.parse(new TextDecoder().decode(plain.subarray(0, end))), body: plain.slice(end + 1) };
    });
    return (await Promise.all(opened)).sort((one, other) => one.at - other.at);
  }

  /** The lines of one conversation, oldest first. */
  async of(peer) {
    return (await this.#all()).filter((line) => line.peer === peer);
  }

  /** With whom there is a conversation. */
  async peers() {
    return new Set((await this.#all()).map((line) => line.peer));
  }
}

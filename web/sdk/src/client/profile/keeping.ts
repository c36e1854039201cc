// SPDX-License-Identifier: Apache-2.0
/**
 * Whether the browser keeps what it was given: asked for when a profile is made, and told to the person.
 *
 * Storage Standard, section 4: data of a page is "best effort" until the person or the browser grants "persistent". No page
 * is told that it runs in a private window, so what is told is what holds there, too. Does not keep anything itself.
 */

/** How this browser keeps the data of this page. */
export interface Keeping {
  /** Whether it is removed by nobody but the person; else also by the browser, when it wants the room. */
  readonly isPersistent: boolean;
  /**
   * Bytes of this page's data, and how many there may be, as the browser estimates them; undefined when it says nothing.
   * Not to be counted on: Chromium names 10 GiB more than are used, whatever room there is.
   */
  readonly used: number | undefined;
  readonly most: number | undefined;
  /** What it means that this page's data is not kept for good, and what its person does; empty when it is. */
  readonly said: string;
  readonly wayOut: string;
}

const SAID =
  "The browser may remove this profile: when it wants the room, after weeks without a visit, or, in a private window, when " +
  "that is closed.";
const WAY_OUT =
  "Set up a way back now (client.backup), or enrol a second device. Leave a private window; elsewhere install this page as " +
  "an app or allow it to keep data, and the browser keeps it.";

/** Ask the browser to keep this page's data for good; returns whether it does. Some browsers ask the person. */
export async function askToKeep(): Promise<boolean> {
  const storage = globalThis.navigator?.storage as StorageManager | undefined;
  return (await asked(() => storage?.persist())) ?? false; // in a worker nobody may ask
}

/** Return how this browser keeps the data of this page. */
export async function keeping(): Promise<Keeping> {
  const storage = globalThis.navigator?.storage as StorageManager | undefined;
  const isPersistent = await asked(() => storage?.persisted()), room = await asked(() => storage?.estimate());
  const words = isPersistent ? { said: "", wayOut: "" } : { said: SAID, wayOut: WAY_OUT };
  return { isPersistent: isPersistent ?? false, used: room?.usage, most: room?.quota, ...words };
}

async function asked<T>(ask: () => Promise<T> | undefined): Promise<T | undefined> {
  try {
    return await ask();
  } catch {
    return undefined; // where the page may not ask
  }
}

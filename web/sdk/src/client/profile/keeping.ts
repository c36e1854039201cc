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
}

/** Ask the browser to keep this page's data for good; returns whether it does. Some browsers ask the person. */
export async function askToKeep(): Promise<boolean> {
  const storage = globalThis.navigator?.storage as StorageManager | undefined;
  try {
    return (await storage?.persist()) ?? false;
  } catch {
    return false; // in a worker, or where the page may not ask
  }
}

/** Return how this browser keeps the data of this page. */
export async function keeping(): Promise<Keeping> {
  const storage = globalThis.navigator?.storage as StorageManager | undefined;
  try {
    const [isPersistent, { usage, quota }] = await Promise.all([
      storage?.persisted() ?? false,
      storage?.estimate() ?? ({} as StorageEstimate),
    ]);
    return { isPersistent, used: usage, most: quota };
  } catch {
    return { isPersistent: false, used: undefined, most: undefined };
  }
}

/** Say what it means that this page's data is not kept for good, and what its person does; undefined when it is. */
export function wordsOf({ isPersistent }: Keeping): [said: string, wayOut: string] | undefined {
  if (isPersistent) return undefined;
  return [
    "The browser may remove this profile: when it wants the room, after weeks without a visit, or, in a private window, " +
      "when that is closed.",
    "Set up a way back now (client.backup), or enrol a second device. Leave a private window; elsewhere install this page " +
      "as an app or allow it to keep data, and the browser keeps it.",
  ];
}

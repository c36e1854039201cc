// SPDX-License-Identifier: Apache-2.0
/** Moments in the reader's time zone, and the days that a filter names in it. */
import { utc } from "./entries.js";

const LAST = 8.64e12; // seconds: the last moment that a Date can hold

/** Name the reader's time zone. */
export function zone(): string {
  return new Intl.DateTimeFormat().resolvedOptions().timeZone;
}

/** Return a moment in the reader's zone, with how far it is from UTC: 2026-11-24 10:05:00 +01:00. */
export function local(seconds: number): string {
  if (seconds > LAST) return utc(seconds);
  const at = new Date(seconds * 1000), two = (number: number): string => String(number).padStart(2, "0");
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  const east = -at.getTimezoneOffset(), far = Math.abs(east);
  const offset = `${east < 0 ? "−" : "+"}${two(Math.floor(far / 60))}:${two(far % 60)}`;
  return `${day} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())} ${offset}`;
}

/** Return the second at which a day of a form's field begins here, or the day after it; undefined of none. */
export function dayStart(text: string, later = 0): number | undefined {
  const [year, month, day] = text.split("-").map(Number);
  if (year === undefined || month === undefined || day === undefined) return undefined;
  // By its parts: a text alone would be taken for UTC. A day later is not always 24 hours later.
  const at = new Date(2000, 0, 1);
  at.setFullYear(year, month - 1, day + later);
  const seconds = at.getTime() / 1000;
  return Number.isNaN(seconds) ? undefined : seconds;
}

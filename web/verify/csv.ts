// SPDX-License-Identifier: Apache-2.0
/** Lines of a CSV file (RFC 4180) that no spreadsheet takes for formulas: the rule of `tenants/imports/cells.py`. Pure. */

// What begins a formula in the spreadsheets people use, also in the full width that some keyboards type, behind what
// Python calls white space; and what some of them split a cell at, or read anew.
const FORMULA = /^(?:[\t\r\n]|[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]*[=+\-@\uff1d\uff0b\uff0d\uff20])/u;

/** Return a cell as it goes out: with an apostrophe before it when a spreadsheet would take it for a formula. */
export function escaped(cell: string): string {
  return FORMULA.test(cell.replace(/^'+/, "")) ? `'${cell}` : cell;
}

/** Return one line, each cell escaped. */
export function csvLine(cells: readonly string[]): string {
  return `${cells.map((cell) => quoted(escaped(cell))).join(",")}\r\n`;
}

function quoted(cell: string): string {
  return /[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell;
}

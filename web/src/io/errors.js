// The one error that a file can cause, and helpers that make text fit for a sentence.

/** A file that cannot be decoded into a slice; its message is a sentence, without the file's name. */
export class UnreadableImage extends Error {}

/**
 * Make text of others safe for a message: one line, no markup, at most `limit` characters.
 * @param {string} text @param {number} [limit]
 */
export function printable(text, limit = 60) {
  const kept = [...text].map((sign) => (/^(?:[^\p{C}\p{Z}]| )$/u.test(sign) && !"<>&\"'`[]*|\\".includes(sign) ? sign : "?"));
  const tail = Math.floor(limit / 3);
  if (kept.length <= limit) return kept.join("");
  return `${kept.slice(0, limit - tail - 1).join("")}…${kept.slice(-tail).join("")}`;
}

/** Write a number with commas. @param {number} number */
export function count(number) {
  return number.toLocaleString("en-US");
}

/** Put a number before its noun. @param {number} number @param {string} noun */
export function pluralise(number, noun) {
  return `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
}

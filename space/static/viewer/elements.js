// Small helpers that write the page; every word goes in as text, never as HTML.

/** Make an element: `make("p", {class: "hint"}, "words", otherElement)`. Handlers are properties as `onclick`. */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element[key] = value;
    else if (value === true) element.setAttribute(key, key.startsWith("aria-") ? "true" : "");
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

/** A probability in whole per cent; none is ever 0 or 100. */
export function percent(share) {
  if (share >= 0.005 && share < 0.995) return `${Math.round(100 * share)} %`;
  return share < 0.5 ? "< 1 %" : "> 99 %";
}

/** Log-odds with their sign. */
export function signed(value) {
  const words = value.toFixed(2);
  return value >= 0 ? `+${words === "-0.00" ? "0.00" : words}` : words.replace("-", "−");
}

/** A sentence of the library in the words of the page: files and code say BT, people say CT. */
export function plain(words) {
  return words.replaceAll("BT (CT)", "CT").replace(/\bBT\b/g, "CT");
}

/** Numbers of slices from 1, runs as "19–23": `list([18, 19, 20])` is "19–21". */
export function listNumbers(indices) {
  const runs = [];
  for (const index of [...indices].sort((a, b) => a - b)) {
    const last = runs.at(-1);
    if (last && index === last[1] + 1) last[1] = index;
    else runs.push([index, index]);
  }
  return runs.map(([from, to]) => (from === to ? `${from + 1}` : `${from + 1}–${to + 1}`)).join(", ");
}

// A click on a heading sorts the column, ascending and then descending; rows without a value stay last.
element.addEventListener("click", (event) => {
  const head = event.target.closest("th button")?.parentElement;
  if (!head) return;
  const heads = [...head.parentElement.children];
  const column = heads.indexOf(head);
  const down = head.getAttribute("aria-sort") === "ascending";
  heads.forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const body = element.querySelector("tbody");
  const read = (row) => row.children[column].textContent.trim();
  const compare = (a, b) => {
    const [x, y] = [read(a), read(b)];
    if (!x || !y) return x ? -1 : y ? 1 : 0;
    return (down ? -1 : 1) * x.localeCompare(y, "en", { numeric: !x.startsWith("0.") });
  };
  body.append(...[...body.children].sort(compare));
});

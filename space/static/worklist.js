// The worklist sorts by a heading and filters by state and name, without a request; "Open" tells which row.
const rows = (body) => [...body.rows].filter((row) => row.dataset.state);

function sort(head) {
  const heads = [...head.parentElement.children];
  const column = heads.indexOf(head);
  const was = head.getAttribute("aria-sort");
  // what counts is read from the highest, names from A
  const body = element.querySelector("tbody.sorted");
  const counts = Boolean(body.rows[0]?.children[column].dataset.value);
  const down = was ? was === "ascending" : counts;
  heads.forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const read = (row) => row.children[column].dataset.value ?? row.children[column].firstChild?.textContent.trim() ?? "";
  const compare = (a, b) => (counts ? read(a) - read(b) : read(a).localeCompare(read(b), "en", { numeric: true }));
  body.append(...rows(body).sort((a, b) => (down ? -compare(a, b) : compare(a, b))));
}

function filter() {
  const state = element.querySelector("[data-filter][aria-pressed=true]").dataset.filter;
  const words = element.querySelector("input[type=search]").value.trim().toLowerCase();
  let found = 0;
  for (const body of element.querySelectorAll("tbody")) {
    let here = 0;
    for (const row of rows(body)) {
      row.hidden = (state && row.dataset.state !== state) || !row.dataset.name.toLowerCase().includes(words);
      here += !row.hidden;
    }
    body.hidden = !here;
    found += here;
  }
  element.querySelector(".found").textContent = state || words ? `${found.toLocaleString("en")} shown` : "";
}

element.addEventListener("click", ({ target }) => {
  const button = target.closest("button");
  if (!button) return;
  if (button.dataset.row) trigger("click", { row: Number(button.dataset.row) });
  else if (button.dataset.filter !== undefined) {
    for (const other of element.querySelectorAll("[data-filter]")) other.setAttribute("aria-pressed", other === button);
    filter();
  } else if (button.closest("th")) sort(button.parentElement);
});
element.addEventListener("input", ({ target }) => {
  if (target.type === "search") filter();
});

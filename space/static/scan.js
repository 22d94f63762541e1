// A slice is chosen by its button, or by its place in the chart.
let chosen = 0;
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-slice]"), chart = event.target.closest("svg[data-count]");
  if (button) {
    chosen = Number(button.dataset.slice);
    trigger("click", { slice: chosen });
  } else if (chart) {
    const box = chart.getBoundingClientRect(), count = Number(chart.dataset.count);
    const place = Math.floor(((event.clientX - box.left) / box.width) * count);
    trigger("click", { slice: Math.min(Math.max(place, 0), count - 1) + 1 });
  }
});
watch("value", () => { // the page is written anew: who chose by keyboard stays where they were
  if (chosen) element.querySelector(`button[data-slice="${chosen}"]`)?.focus({ preventScroll: true });
  chosen = 0;
});

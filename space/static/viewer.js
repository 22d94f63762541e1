// Colours and opacity are applied here, from bytes that were sent once: no request, no further forward pass.
const find = (query) => element.querySelector(query);
const decode = (text) => Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
const tables = Object.fromEntries(
  Object.entries(TABLES).map(([name, text]) => [name, decode(text)])
);
const radios = [...element.querySelectorAll("input.layer")];
const group = "layer-" + Math.random().toString(36).slice(2); // radios belong together by their name
radios.forEach((radio) => { radio.name = group; });
let shown = null, study = "";

// As in Explanation.overlay: colour and opacity grow with strength; a signed map starts halfway to each end.
function paint(canvas, layer, opacity) {
  const image = new ImageData(shown.width, shown.height);
  const table = tables[layer === "fused" ? "RdBu_r" : find(".colours").value];
  const levels = shown.maps[layer]?.data;
  for (let i = 0; i < shown.width * shown.height; i++) {
    const grey = shown.original[i];
    let strength = 0, place = 0;
    if (levels && layer === "fused") {
      const signed = (levels[i] - 128) / 127;
      strength = Math.abs(signed);
      place = 0.5 + Math.sign(signed) * (0.25 + 0.25 * strength);
    } else if (levels) {
      strength = place = levels[i] / 255;
    }
    const cover = opacity * strength ** 0.7;
    const colour = 3 * Math.min(255, Math.floor(place * 256));
    for (let band = 0; band < 3; band++)
      image.data[4 * i + band] = Math.round(grey * (1 - cover) + table[colour + band] * cover);
    image.data[4 * i + 3] = 255;
  }
  canvas.width = shown.width;
  canvas.height = shown.height;
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function paintRamps() {
  for (const canvas of element.querySelectorAll(".ramp")) {
    const name = canvas.dataset.table;
    const table = tables[name === "colours" ? find(".colours").value : name];
    const image = new ImageData(256, 1);
    for (let i = 0; i < 256; i++) {
      const place = name !== "RdBu_r" ? i : i < 128 ? i / 2 : 128 + i / 2; // the half that the map uses
      const strength = name === "RdBu_r" ? Math.abs(i - 127.5) / 127.5 : i / 255;
      const start = 3 * Math.floor(place);
      image.data.set([...table.slice(start, start + 3), 255 * strength ** 0.7], 4 * i); // as laid on black
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
  }
}

function draw() {
  if (!shown) return;
  const percent = Number(find(".opacity").value);
  find(".opacity").setAttribute("aria-valuetext", `${percent} per cent`);
  find(".tools output").textContent = `${percent} %`;
  for (const canvas of element.querySelectorAll(".maps canvas[data-layer]"))
    paint(canvas, canvas.dataset.layer, percent / 100);
  const layer = radios.find((radio) => radio.checked).value;
  paint(find("[data-layer=below]"), "original", 0);
  paint(find("[data-layer=above]"), layer, percent / 100);
  find("[data-layer=above]").setAttribute("aria-label", shown.maps[layer].alt);
  paintRamps();
  cut();
}

function cut() {
  const place = find(".cut").value;
  find("[data-layer=above]").style.clipPath = `inset(0 0 0 ${place}%)`;
  find(".edge").style.left = `${place}%`;
}

function take() {
  const value = props.value;
  if (!value || !value.width) { shown = null; return; }
  const maps = Object.fromEntries(Object.entries(value.maps).map(([layer, map]) => [layer, { ...map, data: decode(map.data) }]));
  shown = { ...value, original: decode(value.original), maps };
  find("[data-layer=original]").setAttribute("aria-label", "The slice");
  for (const [layer, map] of Object.entries(maps)) {
    const canvas = find(`.maps [data-layer=${layer}]`);
    canvas.setAttribute("aria-label", map.alt);
    canvas.parentElement.querySelector(".remark").textContent = map.remark;
  }
  element.querySelectorAll(".scale span").forEach((span, i) => { span.textContent = value.scale[i]; });
  find(".unit").textContent = `${value.cell}; ${value.carried}`;
  find(".words").textContent =
    "ResNet and ViT: brighter regions matter more to that branch. Fused: red speaks for " +
    `${value.target}, blue against it. Each map is scaled to its own maximum, so compare places between maps, ` +
    "not strengths.";
  draw();
  if (value.study !== study && innerWidth < 720) // on a phone the answer lies below what was touched
    document.querySelector(".scan, .result")?.scrollIntoView({ behavior: "smooth" });
  study = value.study;
}

find(".opacity").addEventListener("input", draw);
find(".colours").addEventListener("change", draw);
find(".cut").addEventListener("input", cut);
radios.forEach((radio) => radio.addEventListener("change", draw));
watch("value", take);
take();

// The room in the demo's page: messages of the server go in, wishes for slices and downloads go out.
const host = element.querySelector(".room-host");
const base = `${(window.gradio_config?.root ?? "").replace(/\/$/, "")}/viewer/`;
const decode = (text) => Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
const KINDS = { int16: Int16Array, float32: Float32Array, uint8: Uint8Array, int8: Int8Array };
let room = null, study = null;

async function inflate(text, kind) {
  const stream = new Blob([decode(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new KINDS[kind](await new Response(stream).arrayBuffer());
}

async function unpack(slice) {
  const maps = {};
  for (const [layer, map] of Object.entries(slice.maps))
    maps[layer] = { ...map, data: map.silent ? null : await inflate(map.data, "int8") };
  return { ...slice, maps, values: await inflate(slice.values, slice.type),
    outline: slice.outline ? await inflate(slice.outline, "uint8") : null };
}

const started = Promise.all([import(`${base}reading_room.js`), import(`${base}colours.js`)]).then(([{ ReadingRoom }, { setTable }]) => {
  setTable(decode(GIVEN.colours));
  room = new ReadingRoom(host, {
    need: (slices) => trigger("select", { study, slices }),
    download: (kind, index) => trigger("click", { study, kind, slice: index }),
    downloads: GIVEN.downloads,
    shown: (index) => { host.dataset.index = index; },
  });
  host.room = room;
});

let queue = started; // messages are taken one after the other: inflating takes a moment
async function take(value) {
  if (!value) {
    study = null;
    room.close();
  } else if (value.kind === "study") {
    study = value.id;
    room.open(value);
    if (value.asked && innerWidth < 900) host.scrollIntoView({ behavior: "smooth" }); // the answer lies below what was touched
    for (const slice of value.given) room.add(await unpack(slice));
    room.ask();
  } else if (value.kind === "slices" && value.study === study) {
    for (const slice of value.given) room.add(await unpack(slice));
    room.ask();
  }
}
function hear() {
  const value = props.value;
  queue = queue.then(() => take(value)).catch(() => {
    const words = "This browser cannot show the answer; reload the page, or take a browser of 2023 or newer.";
    if (!host.querySelector("[role=alert]")) host.insertAdjacentHTML("afterbegin", `<p class="room-notice" role="alert">${words}</p>`);
  });
}
watch("value", hear);
hear();

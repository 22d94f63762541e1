// The service worker: it keeps the page's own files, so that it works without a network, and asks for nothing else.

const scope = /** @type {any} */ (self); // the types of a page lack those of a service worker
const CACHE = "stroke-hub";
/** Also for the workers of onnxruntime, which the page's own policy does not reach; and threads need isolation. */
const HEADERS = {
  "Content-Security-Policy":
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'; img-src 'self' blob: data:; " +
    "style-src 'self'; worker-src 'self' blob:; base-uri 'none'; form-action 'none'",
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
};

scope.addEventListener("install", (/** @type {any} */ event) => {
  event.waitUntil(store().then(() => scope.skipWaiting()));
});
scope.addEventListener("activate", (/** @type {any} */ event) => event.waitUntil(scope.clients.claim()));
scope.addEventListener("fetch", (/** @type {any} */ event) => {
  const url = new URL(event.request.url);
  if (event.request.method === "GET" && url.origin === location.origin) event.respondWith(answer(event.request));
  else event.respondWith(Response.error());
});

async function store() {
  const cache = await caches.open(CACHE);
  const files = Object.keys(await (await fetch("files.json", { cache: "no-cache" })).json());
  await cache.addAll(["./", "files.json", ...files]);
}

/** The newest file where there is a network, else the one that was kept. @param {Request} request */
async function answer(request) {
  const cache = await caches.open(CACHE);
  let found;
  try {
    found = await fetch(request);
    if (found.ok) await cache.put(request, found.clone());
  } catch {
    found = await cache.match(request, { ignoreSearch: true });
  }
  if (!found || !found.body) return found ?? Response.error();
  const headers = new Headers(found.headers);
  for (const [name, value] of Object.entries(HEADERS)) headers.set(name, value);
  return new Response(found.body, { status: found.status, statusText: found.statusText, headers });
}

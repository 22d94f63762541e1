"""Serve web/dist on this machine, with the headers that let WebAssembly use threads: `make web`."""

import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

DIST = Path(__file__).parent / "dist"
ISOLATED = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}


class Handler(SimpleHTTPRequestHandler):
    """Files of one folder, fresh at each load."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | {
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def end_headers(self) -> None:
        """Add what every answer has."""
        for name, value in ISOLATED.items() if self.server.isolated else ():  # type: ignore[attr-defined]
            self.send_header(name, value)
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing: no name of a file is kept."""


def make_server(folder: Path, *, port: int = 0, isolated: bool = True) -> ThreadingHTTPServer:
    """Make a server of a folder on the loopback address; port 0 takes a free one."""
    server = ThreadingHTTPServer(("127.0.0.1", port), partial(Handler, directory=str(folder)))
    server.isolated = isolated  # type: ignore[attr-defined]
    return server


if __name__ == "__main__":
    if not (DIST / "index.html").is_file():
        sys.exit("error: web/dist is not built; run `npm ci && npm run build` in web/.")
    with make_server(DIST, port=int(sys.argv[1]) if len(sys.argv) > 1 else 7861) as serving:
        print(f"http://127.0.0.1:{serving.server_port}/  (Ctrl-C ends it)")
        try:
            serving.serve_forever()
        except KeyboardInterrupt:
            sys.exit(0)

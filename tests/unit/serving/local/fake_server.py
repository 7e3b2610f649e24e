"""Answers like the model server, starts in a moment, and does as files in its model's folder say.

``broken``: ends with an error instead of starting. A row's ``wish`` is granted: ``slow`` (0.5 s), ``late`` (10 s),
``fail`` (500), ``refuse`` (400), ``hang up``. Run as a script.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser()
    for option in ("--model-name", "--storage-uri", "--host"):
        parser.add_argument(option)
    parser.add_argument("--http-port", type=int)
    given, _ = parser.parse_known_args()
    version = os.environ["UPKEEP_VERSION"]
    if (Path(given.storage_uri.removeprefix("file://")) / "broken").exists():
        sys.exit("error: the model's bytes are broken")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(200, {"name": given.model_name, "ready": True})

        def do_POST(self) -> None:
            rows = json.loads(self.rfile.read(int(self.headers["content-length"])))["instances"]
            wish = rows[0].get("wish") if rows else None
            if wish == "slow":
                time.sleep(0.5)
            elif wish == "late":
                time.sleep(10)
            elif wish == "hang up":
                self.close_connection = True
                return
            if wish == "fail":
                self._answer(500, {"error": "as you wish"})
            elif wish == "refuse" or not all("a" in row for row in rows):
                self._answer(400, {"error": "a row has no column a"})
            else:
                self._answer(200, {"predictions": [{"label": True} for _ in rows]})

        def _answer(self, status: int, value: object) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.send_header("x-upkeep-version", version)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    ThreadingHTTPServer((given.host, given.http_port), Handler).serve_forever()


if __name__ == "__main__":
    main()

"""A server for the acceptance run: says who asked, and writes to its volume if it has one."""

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Hello(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        volume = Path("/data/visits")
        if volume.parent.is_dir():
            with volume.open("a") as visits:
                visits.write("visit\n")
        count = len(volume.read_text().splitlines()) if volume.exists() else 0
        body = f"hello {os.uname().nodename} from {self.client_address[0]} visit {count}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    print("serving", flush=True)
    ThreadingHTTPServer(("", 8080), Hello).serve_forever()

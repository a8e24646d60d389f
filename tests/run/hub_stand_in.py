"""A stand-in of the Hugging Face hub's HTTP interface, as far as uploads go, that keeps what it gets in memory."""

import base64
import contextlib
import http.server
import json
import re
import threading


class Hub:
    """Repositories by name: their files by path, and whether they are private; tokens that were sent."""

    def __init__(self):
        self.files, self.private, self.tokens, self.large = {}, {}, set(), {}
        self.refuses = False


@contextlib.contextmanager
def hub():
    """A running hub, and its address."""
    found = Hub()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(found))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield found, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(hub):
    class Handler(http.server.BaseHTTPRequestHandler):
        def _body(self):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def _answer(self, value, code=200):
            content = json.dumps(value).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

        def do_PUT(self):
            hub.large[self.path.rpartition("/")[2]] = self._body()
            self._answer({})

        def do_GET(self):
            name = self.path.removeprefix("/api/models/").partition("/revision")[0]
            self._answer({"id": name}, 200 if name in hub.files else 404)

        def do_POST(self):
            hub.tokens.add(self.headers.get("Authorization"))
            body, here = self._body(), f"http://{self.headers['Host']}"
            if hub.refuses:
                self._answer({"error": "You are not allowed to write here"}, 403)
            elif self.path == "/api/repos/create":
                asked = json.loads(body)
                name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
                hub.private.setdefault(name, asked["private"])
                hub.files.setdefault(name, {})
                self._answer({"url": f"{here}/{name}"})
            elif self.path.endswith("/preupload/main"):
                files = [
                    {
                        "path": f["path"],
                        "uploadMode": "lfs" if f["path"].endswith(".safetensors") else "regular",
                        "shouldIgnore": False,
                        "oid": None,
                    }
                    for f in json.loads(body)["files"]
                ]
                self._answer({"files": files})
            elif self.path.endswith("/info/lfs/objects/batch"):
                objects = [
                    {**o, "actions": {"upload": {"href": f"{here}/large/{o['oid']}"}}}
                    for o in json.loads(body)["objects"]
                ]
                self._answer({"transfer": "basic", "objects": objects})
            elif found := re.fullmatch(r"/api/models/(.+)/commit/main", self.path.partition("?")[0]):
                for line in map(json.loads, body.splitlines()):
                    value = line["value"]
                    if line["key"] == "file":
                        hub.files[found[1]][value["path"]] = base64.b64decode(value["content"])
                    elif line["key"] == "lfsFile":
                        hub.files[found[1]][value["path"]] = hub.large[value["oid"]]
                self._answer({"commitUrl": f"{here}/{found[1]}/commit/1", "commitOid": "1", "success": True})
            else:
                self._answer({"errors": [], "warnings": []})

    return Handler

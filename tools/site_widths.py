"""Opens all pages of site/ in headless Chromium, as wide as a desk's and a phone's screen, and names those that scroll
sideways.

    python tools/site_widths.py [site] [--screenshots DIRECTORY]
"""

import argparse
import functools
import http.server
import json
import pathlib
import queue
import shutil
import subprocess
import sys
import threading

WIDTHS = (1280, 390)
_MEASURE = """<body><script>
(async () => {
  const found = [];
  for (const page of %s) for (const width of %s) {
    const frame = document.createElement("iframe");
    frame.style.cssText = `width:${width}px;height:900px;border:0`;
    frame.src = page;
    document.body.append(frame);
    await new Promise(done => frame.onload = done);
    const root = frame.contentDocument.documentElement;
    found.push([page, width, root.scrollWidth, !!frame.contentDocument.querySelector("h1")]);
    frame.remove();
  }
  await fetch("/found", {method: "POST", body: JSON.stringify(found)});
})();
</script></body>"""
_FRAME = '<body style="margin:0"><iframe src="{}" style="width:{}px;height:1400px;border:0"></iframe></body>'


class _Handler(http.server.SimpleHTTPRequestHandler):
    pages = {}
    found = queue.Queue()

    def do_GET(self):
        content = self.pages.get(self.path)
        if content is None:
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(content.encode())

    def do_POST(self):
        self.found.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        """Nothing."""


def chromium(*arguments):
    """Starts Chromium without a screen."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        sys.exit("Chromium is not installed: install it to look at the site.")
    command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def measure(site, port):
    """Page, width, width of its content, and whether it has a heading; for all pages and widths."""
    pages = ["/" + str(path.relative_to(site)) for path in sorted(site.rglob("*.html"))]
    _Handler.pages["/measure"] = _MEASURE % (json.dumps(pages), json.dumps(WIDTHS))
    browser = chromium("--window-size=1400,1000", "--remote-debugging-port=0", f"http://127.0.0.1:{port}/measure")
    try:
        return _Handler.found.get(timeout=300)
    finally:
        browser.kill()
        browser.wait()


def photograph(page, port, directory):
    """Pictures of a page: both widths, light and dark."""
    for width in WIDTHS:
        for name, scheme in (("light", 1), ("dark", 0)):
            _Handler.pages["/frame"] = _FRAME.format(page, width)
            target = pathlib.Path(directory, f"{page.strip('/').replace('/', '_')[:-5]}_{width}_{name}.png")
            chromium(
                f"--window-size={max(width, 500)},1400",
                f"--blink-settings=preferredColorScheme={scheme}",
                "--virtual-time-budget=5000",
                f"--screenshot={target}",
                f"http://127.0.0.1:{port}/frame",
            ).wait(60)


def main():
    """Ends with a sentence if a page scrolls sideways."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site", nargs="?", default="site", type=pathlib.Path)
    parser.add_argument("--screenshots", help="directory for pictures of the pages given by --page")
    parser.add_argument("--page", action="append", default=[], help="such as /gallery.html")
    arguments = parser.parse_args()
    handler = functools.partial(_Handler, directory=str(arguments.site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for page in arguments.page:
            photograph(page, server.server_port, arguments.screenshots)
        found = measure(arguments.site, server.server_port)
        server.shutdown()
    wide = [f"{page} is {content} wide at {width}" for page, width, content, _ in found if content > width]
    empty = sorted({page for page, _, _, has_heading in found if not has_heading and page != "/404.html"})
    if wide or empty:
        sys.exit("\n".join([*wide, *(f"{page} has no heading" for page in empty)]))
    print(f"{len(found)} views of {len(found) // len(WIDTHS)} pages: none scrolls sideways.")


if __name__ == "__main__":
    main()

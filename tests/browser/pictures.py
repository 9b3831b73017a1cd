"""The pictures in docs/images, all by one command, after `cargo build --release`:

    python tests/browser/pictures.py target/release/negstream

It runs the demo and a comparison in a folder of its own, on free ports, and looks at their pages. The Python needs what .ci/requirements.txt
lists for the browser, and there has to be a Chromium.
"""

import json
import pathlib
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
import zlib

from chromium import Chromium, wait_for

IMAGES = pathlib.Path(__file__).resolve().parents[2] / "docs" / "images"
MOST_BYTES = 150_000


def demo(program, folder):
    """A demo that goes on for longer than pictures take, and its address."""
    command = [program, "demo", "--events", "3000000", "--dir", "demo", "--set", "http.listen=127.0.0.1:0"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    for line in process.stdout:
        if line.startswith("Page: "):
            return process, line.split()[1]
    raise RuntimeError("the demo has no page")


def status(url):
    with urllib.request.urlopen(url + "status") as answer:
        return json.load(answer)


def ask(page):
    page.wait("document.querySelector('#item-found button') && document.querySelector('#user-found button')", "names")
    page.run("document.querySelector('#item-found button').click(); document.querySelector('#user-found button').click()")
    page.wait("document.querySelector('#near-list li') && document.querySelector('#next-list tr')", "answers")


def show_map(page):
    # Nothing is drawn, and so nothing is seen to be in sight, of a page behind others.
    page.send("Page.bringToFront")
    page.run("document.querySelector('#map-section').scrollIntoView()")
    page.wait("map.items.length > 200", "a map")
    # The model moves on: the newest map is the one to show.
    time.sleep(9)
    page.run("scrollTo(0, 0)")


def take(page, name, *parts):
    """A picture of the page from the first of these parts to the last; of its top without any."""
    path = IMAGES / f"{name}.png"
    if parts:
        boxes = [page.box(part) for part in parts]
        left, top = min(box["x"] for box in boxes) - 12, min(box["y"] for box in boxes) - 12
        right = max(box["x"] + box["width"] for box in boxes) + 12
        bottom = max(box["y"] + box["height"] for box in boxes) + 12
        page.picture(path, clip={"x": left, "y": top, "width": right - left, "height": bottom - top})
    else:
        page.picture(path, whole=False)
    size = path.stat().st_size
    if size > MOST_BYTES:
        size = shrink(path)
    print(f"{path.relative_to(IMAGES.parents[1])}: {size} bytes")
    if size > MOST_BYTES:
        raise AssertionError(f"{name} has {size} bytes, more than {MOST_BYTES}")


def shrink(path):
    """Writes a picture that is too large anew, with its most common colours for all."""
    import numpy

    data = path.read_bytes()
    width, height, depth, kind = struct.unpack(">IIBB", data[16:26])
    if (depth, kind) not in ((8, 2), (8, 6)):
        return len(data)
    packed, place = b"", 8
    while place < len(data):
        length, name = struct.unpack(">I4s", data[place:place + 8])
        packed += data[place + 8:place + 8 + length] if name == b"IDAT" else b""
        place += 12 + length
    n = 3 if kind == 2 else 4
    raw = numpy.frombuffer(zlib.decompress(packed), numpy.uint8).reshape(height, 1 + n * width)
    rows = numpy.zeros((height, width, n), numpy.int32)
    above = numpy.zeros((width, n), numpy.int32)
    for number, line in enumerate(raw):
        row = line[1:].reshape(width, n).astype(numpy.int32)
        if line[0] == 1:
            row = numpy.cumsum(row, axis=0) & 255
        elif line[0] == 2:
            row = (row + above) & 255
        elif line[0] in (3, 4):
            left = corner = numpy.zeros(n, numpy.int32)
            for column in range(width):
                up = above[column]
                if line[0] == 3:
                    guess = (left + up) // 2
                else:
                    guess = left + up - corner
                    ways = [abs(guess - left), abs(guess - up), abs(guess - corner)]
                    guess = numpy.where((ways[0] <= ways[1]) & (ways[0] <= ways[2]), left, numpy.where(ways[1] <= ways[2], up, corner))
                left, corner = (row[column] + guess) & 255, up
                row[column] = left
        rows[number], above = row, row
    colours = rows[:, :, :3].reshape(-1, 3)
    keys = (colours[:, 0] << 16) | (colours[:, 1] << 8) | colours[:, 2]
    found, inverse, counts = numpy.unique(keys, return_inverse=True, return_counts=True)
    best = found[numpy.argsort(-counts)[:256]]
    palette = numpy.stack([best >> 16, (best >> 8) & 255, best & 255], axis=1)
    others = numpy.stack([found >> 16, (found >> 8) & 255, found & 255], axis=1)
    nearest = numpy.concatenate([
        ((part[:, None, :] - palette[None, :, :]) ** 2).sum(axis=2).argmin(axis=1) for part in numpy.array_split(others, max(1, len(others) // 2_000))
    ]).astype(numpy.uint8)
    picture = nearest[inverse].reshape(height, width)
    lines = numpy.concatenate([numpy.zeros((height, 1), numpy.uint8), picture], axis=1).tobytes()

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"PLTE", palette.astype(numpy.uint8).tobytes())
        + chunk(b"IDAT", zlib.compress(lines, 9)) + chunk(b"IEND", b"")
    )
    return path.stat().st_size


def main():
    program = str(pathlib.Path(sys.argv[1]).resolve())
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, Chromium() as browser:
        process, url = demo(program, folder)
        try:
            wide, dark, phone = browser.page(1100, 760), browser.page(1100, 760, dark=True), browser.page(390, 844)
            for page in (wide, dark, phone):
                page.open(url)
            wait_for(lambda: status(url)["events"]["read"] > 150_000, "the demo learns", 120)
            for page in (wide, dark, phone):
                page.wait("document.querySelector('#plots .curve')", "a plot")
            take(wide, "page")
            take(dark, "page-dark")
            take(phone, "page-phone")
            ask(wide)
            take(wide, "ask", "#ask")
            show_map(wide)
            take(wide, "map", "#map-section")
        finally:
            process.terminate()
            process.wait()
        run = [program, "synth", "--events", "40000", "-o", "log.parquet"]
        subprocess.run(run, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        run = [program, "compare", "log.parquet", "--variant", "wide: model.dim=128", "--html", "compare.html"]
        subprocess.run(run, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        run = [program, "replay", "log.parquet", "--report", "run.html", "--set", "checkpoint.dir=replayed"]
        subprocess.run(run, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for name in ("compare", "run"):
            page = browser.page(900, 900)
            page.open(pathlib.Path(folder, f"{name}.html").as_uri())
            take(page, f"{name}-report")


if __name__ == "__main__":
    main()

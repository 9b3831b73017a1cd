"""What a browser sees of the pages: `check.py JOB`, a JSON object with what is to be done.

    {"page": "http://127.0.0.1:PORT/", "hostile": ["<script>…", …], "reports": ["…/report.html", …]}

The page is opened at three widths, in light and dark; it has to follow the stream, find and ask for items and users, draw the map, be used
by keyboard, show hostile names as text, and please axe. Lines on standard output tell the test what to do meanwhile, and it answers on
standard input: `restart` asks for another worker at the same address. Whatever a page complains about is a failure.
"""

import json
import pathlib
import sys

from chromium import Chromium

WIDTHS = {"wide": (1280, 900), "tablet": (800, 1000), "phone": (390, 844)}


def demand(condition, why):
    if not condition:
        raise AssertionError(why)


def tell(word):
    print(word, flush=True)
    return sys.stdin.readline().strip()


def silent(page, what):
    demand(not page.complaints, f"{what} complains: {page.complaints}")


def pleases_axe(page, what):
    found = page.axe()
    demand(not found, f"{what}: {json.dumps(found, indent=1)}")


def is_there(page):
    """Waits until everything of the page is drawn."""
    page.wait("document.querySelector('#health').dataset.condition !== 'unknown'", "a diagnosis")
    page.wait("document.querySelector('#plots .curve')", "a plot")
    page.wait("document.querySelector('#item-found button') && document.querySelector('#user-found button')", "names")


def widths(browser, url):
    for name, (width, height) in WIDTHS.items():
        for dark in (False, True):
            what = f"{name}, {'dark' if dark else 'light'}"
            # One at a time: a browser has six connections for an address, and each page holds one.
            with browser.page(width, height, dark) as page:
                page.open(url)
                is_there(page)
                page.run("document.querySelector('#item-found button').click(); document.querySelector('#user-found button').click()")
                page.wait("document.querySelector('#near-list li') && document.querySelector('#next-list tr')", "answers")
                page.run("document.querySelector('#map-section').scrollIntoView()")
                page.wait("map.items.length > 0", "a map")
                demand(not page.is_too_wide(), f"{what}: it has to be scrolled sideways")
                pleases_axe(page, what)
                silent(page, what)


def updates(page):
    page.wait("series.tiers.length && series.tiers[0].points.length", "a series")
    newest = page.run("series.tiers[0].points.at(-1)[0]")
    page.wait(f"series.tiers[0].points.at(-1)[0] > {newest}", "a newer point, without anybody asking")
    sentence = page.text("#sentence")
    demand(sentence.endswith(".") and len(sentence) > 20, sentence)


def searches(page):
    item = page.run("document.querySelector('#item-found button').textContent")
    page.run("document.querySelector('#item').focus()")
    page.type(item[:-1])
    page.wait(f"[...document.querySelectorAll('#item-found button')].some(button => button.textContent === {json.dumps(item)})", "the item")
    page.type(item[-1])
    page.key("Enter")
    page.wait(f"document.querySelector('#near-of').textContent === {json.dumps(item)}", "its neighbours")
    page.wait("document.querySelectorAll('#near-list li').length > 3", "a list")
    user = page.run("document.querySelector('#user-found button').textContent")
    page.run("document.querySelector('#user').focus()")
    page.type(user)
    page.key("Enter")
    page.wait(f"document.querySelector('#next-of').textContent === {json.dumps(user)}", "their list")
    reasons = page.run("[...document.querySelectorAll('#next-list .words')].map(cell => cell.textContent)")
    demand(len(reasons) > 3 and all(reasons) and any("like " in reason for reason in reasons), reasons)


def keyboard(page):
    page.run("document.querySelector('#map').focus()")
    page.key("ArrowRight")
    page.wait("map.chosen >= 0", "an item is chosen")
    first = page.run("map.chosen")
    for key in ("ArrowRight", "ArrowLeft", "ArrowUp", "ArrowDown"):
        page.key(key)
    demand(page.run("document.querySelector('#map-said').textContent.includes('events')"), "it is named")
    zoom = page.run("map.zoom")
    page.key("+")
    demand(page.run("map.zoom") > zoom, "it zooms")
    page.key("Enter")
    page.wait("document.querySelector('#near-of').textContent === visible(map.items[map.chosen].item_id)", f"what is like item {first}")
    page.run("document.querySelector('.chart').focus()")
    page.key("ArrowLeft")
    demand(page.run("!document.querySelector('.chart .tip').hidden"), "a plot says what it shows")


def hostile(page, names):
    """Names that would be markup stay text."""
    for name in names:
        found = page.run(f"api('/v1/items?k=1&prefix=' + encodeURIComponent({json.dumps(name)}))")
        demand(found and found["items"], f"{name!r} is not there")
        page.run(f"chooseItem({json.dumps(name)})")
        page.wait(f"document.querySelector('#near-of').textContent === visible({json.dumps(name)})", f"{name!r} is shown")
        page.run("document.querySelector('#item').value = ''; searchItems()")
    page.wait("map.items.length > 0", "a map")
    page.run("document.querySelector('#map-details').open = true; listMap()")
    demand(page.run("typeof injected === 'undefined'"), "a name was run")
    demand(page.run("document.querySelectorAll('script, style').length === 2 && !document.querySelector('img, iframe, object')"), "a name became an element")
    demand(page.run("!/[\\u0000-\\u0008\\u202e]/.test(document.body.textContent)"), "a name reorders or hides text")


def restarts(page):
    """The worker goes, and comes again at the same address."""
    before = page.run("series.tiers[0].points[0][0]")
    process = page.run("process")
    tell("stop")
    page.wait("!document.querySelector('#stale').hidden", "it says that what it shows is old")
    demand("does not answer" in page.text("#sentence"), page.text("#sentence"))
    tell("restart")
    page.wait(f"process !== {json.dumps(process)} && document.querySelector('#stale').hidden", "it finds the worker again")
    page.wait(f"series.tiers[0].points.length > 1 && series.tiers[0].points[0][0] === {before}", "the past is still there")
    page.wait("document.querySelector('#health').dataset.condition !== 'unknown' && !document.querySelector('#ask-note').textContent", "it answers again")
    # That nobody answers, or that a worker which begins does not yet (503), is said on the console, too.
    page.complaints = [said for said in page.complaints if "ERR_" not in said and "503" not in said]


def main():
    job = json.loads(sys.argv[1])
    with Chromium() as browser:
        if "page" in job:
            widths(browser, job["page"])
            page = browser.page()
            page.open(job["page"])
            is_there(page)
            updates(page)
            searches(page)
            page.run("document.querySelector('#map-section').scrollIntoView()")
            page.wait("map.items.length > 0", "a map")
            keyboard(page)
            hostile(page, job["hostile"])
            silent(page, "the page")
            restarts(page)
            silent(page, "the page after a restart")
        for report in job.get("reports", []):
            for dark in (False, True):
                page = browser.page(900, 900, dark)
                page.open(pathlib.Path(report).absolute().as_uri())
                pleases_axe(page, report)
                page.resize(390, 844)
                demand(not page.is_too_wide(), f"{report} has to be scrolled sideways")
                silent(page, report)
    print("done", flush=True)


if __name__ == "__main__":
    main()

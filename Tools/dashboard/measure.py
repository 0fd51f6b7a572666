#!/usr/bin/env python3
"""How long the dashboard takes to load and to draw: a page of `atoll replay --html` with the records of an hour of 256 peers instead of its own.

    atoll replay Topologies/three-homes.yaml --job Topologies/jobs/demo.yaml --steps 6 --html page.html
    Tools/dashboard/measure.py page.html [PEERS] [CHROMIUM]

Needs playwright (PyPI) and a Chromium.
"""
import json
import random
import sys

from playwright.sync_api import sync_playwright


def records(peers, draw=random.Random(1), depth=4, inner=8, every=10.0, hour=3600.0):
    places = [(draw.random(), draw.random()) for _ in range(peers)]
    out = [["m", 0, {"title": "an hour", "stage": "training", "steps": 2880, "step": 0, "round": 0, "text": ["A job."] * 8}]]
    for i in range(peers):
        out.append(["p", 0, i, {"name": f"peer-{i}", "standing": "joined", "rank": i // depth, "stage": i % depth, "stages": depth,
                                "gflops": 1 + 9 * draw.random(), "rtt": round(100 * draw.random(), 1), "sent": 0}])
    links = []
    for i in range(peers):
        for j in draw.sample(range(peers), 16):
            (a, b), (c, d) = places[i], places[j]
            links.append([i, j, round(100 * ((a - c) ** 2 + (b - d) ** 2) ** 0.5 + 1, 2)])
    out.append(["l", 0, links])
    spans = [[r, s, "fw" if k % 2 else "bw", k * 0.05, k * 0.05 + 0.04] for r in range(peers // depth) for s in range(depth) for k in range(16)]
    out.append(["g", 0, {"epoch": 1, "round": every, "validation": 0.5, "trained": 8, "inner": inner, "steps": [0.9] * (peers // depth),
                         "end": 1.0, "spans": spans}])
    told = 0
    for n in range(int(hour / every)):
        t = n * every
        for i in range(peers):
            for k in range(3):
                out.append(["a", round(t + 3 * k, 2), i, ["validating", f"step {n % inner}/{inner}", "exchanging"][k]])
        out.append(["m", t + 9, {"round": n, "step": 8 * n, "left": hour - t}])
        out.append(["r", t + every, {"round": n, "steps": 8, "loss": 5 / (1 + n / 50), "validation": 5.1 / (1 + n / 50), "seconds": every, "predicted": 9.5}])
        for _ in range(2):
            told += 1
            out.append(["k", t + every, "peer_lost", f"peer-{told % peers}", f"✗ lost peer-{told % peers}: silent", "down", "{}"])
    return sorted(out, key=lambda r: r[1])


def main():
    page = open(sys.argv[1], encoding="utf-8").read()
    peers = int(sys.argv[2]) if len(sys.argv) > 2 else 256
    chromium = sys.argv[3] if len(sys.argv) > 3 else "/usr/bin/chromium"
    mark = 'id="records">'
    begin = page.index(mark) + len(mark)
    end = page.index("</script>", begin)
    all_records = records(peers)
    path = sys.argv[1] + ".measured.html"
    with open(path, "w", encoding="utf-8") as file:
        file.write(page[:begin] + json.dumps(all_records, ensure_ascii=False).replace("<", "\\u003c") + page[end:])
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        problems = []
        tab.on("pageerror", lambda e: problems.append(str(e)))
        tab.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
        loads = []
        for _ in range(3):
            tab.goto("file://" + __import__("os").path.abspath(path))
            tab.wait_for_function("document.documentElement.dataset.drawn")
            loads.append(tab.evaluate("performance.getEntriesByType('navigation')[0].domComplete"))
        first = float(tab.evaluate("document.documentElement.dataset.drawn").split()[1])
        frames = []
        for i in range(60):
            tab.evaluate("i => { const s = document.getElementById('slider'); s.value = 300 + i * 10; s.dispatchEvent(new Event('input')) }", i)
            tab.evaluate("() => new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))")
            frames.append(float(tab.evaluate("document.documentElement.dataset.drawn").split()[1]))
        frames.sort()
        tab.screenshot(path=sys.argv[1] + ".png", full_page=True)
        browser.close()
    print(f"{peers} peers, {len(all_records)} records: load {min(loads):.0f} ms, first drawing {first:.1f} ms, "
          f"then median {frames[30]:.1f} ms, 95 % {frames[56]:.1f} ms, most {frames[-1]:.1f} ms a frame")
    if problems:
        sys.exit("the page complains: " + problems[0])


main()

#!/usr/bin/env python3
"""How long the dashboard takes to load and to draw: a page of `atoll replay --html` with the records of an hour of 256 peers instead of its own.

    atoll replay Topologies/three-homes.yaml --job Topologies/jobs/demo.yaml --steps 6 --html page.html
    Tools/dashboard/measure.py page.html [PEERS] [CHROMIUM]

Needs playwright (PyPI) and a Chromium. On a machine that is busy with something else these are the other's times: `chrt --rr 10 Tools/…` (as root)
goes first.
"""
import json
import os
import random
import sys

from playwright.sync_api import sync_playwright


def records(peers, draw=random.Random(1), depth=4, together=32, inner=8, every=10.0, hour=3600.0):
    places = [(draw.random(), draw.random()) for _ in range(peers)]
    out = [["m", 0, {"title": "an hour", "stage": "training", "steps": 2880, "step": 0, "round": 0, "text": ["A job."] * 8}]]
    for i in range(peers):
        out.append(["p", 0, i, {"name": f"peer-{i}", "standing": "joined", "rank": i // depth, "stage": i % depth, "stages": depth,
                                "gflops": 1 + 9 * draw.random()}])
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
        for group in range(0, peers, together):
            # Pipelines are not in step with each other.
            for k in range(3):
                out.append(["a", round(t + 3 * k + group / together * 0.1, 2), ["validating", f"step {n % inner}/{inner}", "exchanging"][k],
                            list(range(group, min(peers, group + together)))])
        out.append(["v", t + 9, [[i, round(100 * draw.random()), n * 100_000] for i in range(peers)]])
        out.append(["m", t + 9, {"round": n, "step": 8 * n, "left": hour - t}])
        out.append(["r", t + every, {"round": n, "steps": 8, "loss": 5 / (1 + n / 50), "validation": 5.1 / (1 + n / 50), "seconds": every, "predicted": 9.5}])
        for _ in range(2):
            told += 1
            out.append(["k", t + every, "peer_lost", f"peer-{told % peers}", f"✗ lost peer-{told % peers}: silent", "down", "{}"])
    return sorted(out, key=lambda r: r[1])


# The main thread's time of every frame in which the page draws: from the frame's first callback (this one is asked for before the page's own) to the
# first message that is handled after it was painted.
WATCH = """
    window.__frames = [];
    const channel = new MessageChannel();
    let began = 0, was;
    channel.port1.onmessage = () => {
        const now = document.documentElement.dataset.drawn;
        if (now !== was) window.__frames.push(performance.now() - began);
        was = now;
    };
    const turn = () => { began = performance.now(); channel.port2.postMessage(0); requestAnimationFrame(turn); };
    requestAnimationFrame(turn);
"""


def measured(tab, path, height):
    """Milliseconds: until it is loaded, until all that is seen is drawn, the longest frame until then; and of each frame in which something is drawn
    while the slider moves: its script, and the layout after it; and the longest of those frames, painting and all."""
    tab.set_viewport_size({"width": 1280, "height": height})
    loads, firsts, longest = [], [], []
    for _ in range(3):
        tab.goto("about:blank")
        tab.goto("file://" + path)
        tab.wait_for_selector("html[data-settled]", state="attached")
        loads.append(tab.evaluate("performance.getEntriesByType('navigation')[0].domComplete"))
        firsts.append(float(tab.evaluate("document.documentElement.dataset.settled")))
        longest.append(tab.evaluate("Math.max(...window.__frames.splice(0))"))
    frames = tab.evaluate("""async () => {
        const slider = document.getElementById('slider'), frames = [], marks = document.documentElement.dataset;
        for (let i = 0; i < 60; i++) {
            slider.value = 300 + i * 10;
            slider.dispatchEvent(new Event('input'));
            for (let seen = marks.drawn, k = 0; k < 12; k++) {
                await new Promise(requestAnimationFrame);
                if (marks.drawn === seen) continue;
                seen = marks.drawn;
                const began = performance.now();
                document.body.offsetHeight;
                frames.push([Number(seen.split(' ')[1]), performance.now() - began]);
            }
        }
        return frames;
    }""")
    return min(loads), min(firsts), min(longest), frames, tab.evaluate("Math.max(...window.__frames)")


def part(values, share):
    return sorted(values)[int(share * (len(values) - 1))]


def main():
    page = open(sys.argv[1], encoding="utf-8").read()
    peers = int(sys.argv[2]) if len(sys.argv) > 2 else 256
    chromium = sys.argv[3] if len(sys.argv) > 3 else "/usr/bin/chromium"
    mark = 'id="records">'
    begin = page.index(mark) + len(mark)
    end = page.index("</script>", begin)
    all_records = records(peers)
    path = os.path.abspath(sys.argv[1] + ".measured.html")
    data = json.dumps(all_records, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    with open(path, "w", encoding="utf-8") as file:
        file.write(page[:begin] + data + page[end:])
    changes = sum(len(r[3]) for r in all_records if r[0] == "a")
    print(f"{peers} peers, {changes} changes of what they do in {len(all_records)} records, {os.path.getsize(path) / 1e6:.1f} MB")
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page()
        tab.add_init_script(WATCH)
        problems = []
        tab.on("pageerror", lambda e: problems.append(str(e)))
        tab.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
        for what, height in [("a screen", 900), ("all of it in sight", 3600)]:
            load, first, longest, frames, painted = measured(tab, path, height)
            script, both = [f[0] for f in frames], [f[0] + f[1] for f in frames]
            print(f"{what}: load {load:.0f} ms, first drawing {first:.0f} ms, its longest frame {longest:.1f} ms; a frame: script {part(script, .5):.1f} ms, 95 % {part(script, .95):.1f}, most "
                  f"{max(script):.1f}; with layout {part(both, .5):.1f} ms, 95 % {part(both, .95):.1f}, most {max(both):.1f} ({len(frames)} frames), "
                  f"with painting, most {painted:.1f} ms")
            tab.screenshot(path=f"{sys.argv[1]}.{height}.png", full_page=True)
        browser.close()
    if problems:
        sys.exit("the page complains: " + problems[0])


main()

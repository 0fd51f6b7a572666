extension DashboardPage {
    /// Light and dark, wide and narrow. No colour alone says anything: shapes and words say it, too.
    static let style = #"""
        :root { color-scheme: light dark; --ground: #f6f7f9; --card: #fff; --ink: #1c2430; --faint: #6b7686; --line: #d8dee7;
          --go: #1f7a4d; --bad: #b3261e; --warm: #a15c00; --cold: #2459a9; --plan: #b9c3d1; }
        @media (prefers-color-scheme: dark) { :root { --ground: #12161c; --card: #1a2029; --ink: #e6ebf2; --faint: #93a0b2;
          --line: #313b49; --go: #5ec28f; --bad: #ff8a80; --warm: #f0b45a; --cold: #8ab4f8; --plan: #475467; } }
        * { box-sizing: border-box; }
        body { margin: 0; background: var(--ground); color: var(--ink); font: 14px/1.45 system-ui, sans-serif; }
        header { padding: 14px 20px 10px; background: var(--card); border-bottom: 1px solid var(--line); position: sticky; top: 0; z-index: 2; }
        h1 { font-size: 18px; margin: 0 0 2px; overflow-wrap: anywhere; }
        h2 { font-size: 14px; margin: 0 0 8px; }
        h2 small { color: var(--faint); font-weight: normal; }
        .faint { color: var(--faint); }
        .bad { color: var(--bad); }
        #bar { height: 6px; border-radius: 3px; background: var(--line); margin-top: 8px; overflow: hidden; }
        #fill { height: 100%; width: 0; background: var(--go); }
        #time { display: flex; gap: 12px; align-items: center; margin-top: 8px; }
        #time[hidden] { display: none; }
        #axis { flex: 1; }
        #slider { width: 100%; margin: 0; }
        #marked { display: flex; justify-content: space-between; font-size: 11px; }
        main { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(460px, 100%), 1fr)); gap: 14px; padding: 14px 20px; }
        section { contain: content; background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 12px 14px; min-width: 0; }
        section.wide { grid-column: 1 / -1; }
        section p { margin: 0 0 6px; overflow-wrap: anywhere; }
        svg { width: 100%; height: auto; display: block; }
        .scroll { overflow: auto; max-height: 420px; }
        text { font: 11px system-ui, sans-serif; fill: var(--ink); }
        text.faint { fill: var(--faint); }
        .axis { stroke: var(--line); fill: none; }
        .train { stroke: var(--cold); fill: none; stroke-width: 2; }
        .undone { stroke: var(--plan); fill: none; stroke-width: 1.5; stroke-dasharray: 3 3; }
        .valid { fill: var(--warm); }
        .up { stroke: var(--go); } .down { stroke: var(--bad); stroke-dasharray: 4 2; } .change { stroke: var(--warm); stroke-dasharray: 1 2; }
        .link { stroke: var(--line); fill: none; } .pipe { stroke: var(--cold); fill: none; stroke-width: 2; opacity: .7; }
        .relayed { stroke: var(--warm); fill: none; stroke-dasharray: 4 3; }
        .peer { stroke: var(--card); stroke-width: 1.5; } .spare { fill: var(--plan); }
        .gone { fill: none; stroke: var(--bad); stroke-dasharray: 2 2; } .here { stroke: var(--ink); stroke-width: 2.5; }
        .pv { fill: var(--plan); opacity: .55; } .ps { fill: var(--plan); } .pt { fill: var(--plan); opacity: .8; } .px { fill: var(--plan); opacity: .35; }
        .mv { fill: var(--warm); opacity: .7; } .ms { fill: var(--go); } .mt { fill: var(--go); opacity: .65; } .mx { fill: var(--cold); }
        .mw { fill: var(--line); } .mf { fill: var(--bad); opacity: .6; }
        .fw { fill: var(--cold); } .bw { fill: var(--go); } .uw { fill: var(--warm); }
        .pf { fill: var(--cold); opacity: .45; } .pb { fill: var(--go); opacity: .45; } .pu { fill: var(--warm); opacity: .45; }
        .measured { fill: var(--cold); } .predicted { stroke: var(--warm); fill: none; stroke-width: 1.5; }
        /* Of fixed widths: else one cell that differs has all of them measured. */
        table { border-collapse: collapse; width: 100%; min-width: 640px; table-layout: fixed; font-size: 13px; }
        th { width: 22%; } th:nth-child(3) { width: 16%; } th:nth-child(n+5) { width: 9%; }
        tbody tr { height: 24px; }
        th, td { text-align: left; padding: 2px 10px 2px 0; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
        th { color: var(--faint); font-weight: normal; position: sticky; top: 0; background: var(--card); }
        th:nth-child(n+5) { text-align: right; }
        td.number { text-align: right; font-variant-numeric: tabular-nums; }
        #why details { border-bottom: 1px solid var(--line); padding: 3px 0; overflow-wrap: anywhere; }
        #why summary { cursor: pointer; }
        #why pre { white-space: pre-wrap; margin: 4px 0 6px; font-size: 12px; color: var(--faint); }
        input, button { font: inherit; color: inherit; background: var(--ground); border: 1px solid var(--line); border-radius: 5px; padding: 2px 8px; }
        button[aria-pressed=true] { border-color: var(--cold); }
        .key { color: var(--faint); font-size: 12px; margin-top: 6px; }
        """#

    /// What is filled in by the script; without a script it says so.
    static let body = #"""
        <header>
        <h1 id="title">Atoll</h1>
        <div id="said" class="faint" role="status">Nothing has been heard yet.</div>
        <div id="bar"><div id="fill"></div></div>
        <div id="time" hidden><button id="play" type="button">Play</button>
        <div id="axis"><input id="slider" type="range" min="0" max="1000" value="1000" list="marks" aria-label="Moment"><datalist id="marks"><option value="0"><option value="250"><option value="500"><option value="750"><option value="1000"></datalist>
        <div id="marked" class="faint"><span id="tick0"></span><span id="tick1"></span><span id="tick2"></span><span id="tick3"></span><span id="tick4"></span></div></div><span id="moment"></span></div>
        </header>
        <noscript><p>This page is drawn by its script. The same in a terminal: <code>atoll status</code>, <code>atoll top</code>, <code>atoll why</code>.</p></noscript>
        <main>
        <section><h2>Now</h2><div id="now"></div></section>
        <section><h2>Peers by latency <small id="mapnote"></small></h2><svg id="map" viewBox="0 0 640 420" role="img" aria-label="Map of peers by latency"></svg>
        <div class="key">filled: holds layers, a colour a pipeline · grey: spare · dashed ring: lost · bold lines: pipelines · dashed lines: relayed</div></section>
        <section><h2>Loss <small id="lossnote"></small></h2><svg id="loss" viewBox="0 0 640 240" role="img" aria-label="Loss"></svg>
        <div class="key">line: training · dots: validation · green: came · red dashed: lost · dotted: planned anew</div></section>
        <section><h2>Seconds a step <small id="pacenote"></small></h2><svg id="pace" viewBox="0 0 640 200" role="img" aria-label="Seconds a step"></svg>
        <div class="key">dots: measured, from seal to seal · line: predicted by the plan in force</div></section>
        <section class="wide"><h2>Stages <small id="stagenote"></small> <button id="asround" type="button" aria-pressed="true">round</button>
        <button id="asstep" type="button" aria-pressed="false">one step</button></h2><div class="scroll"><svg id="gantt" role="img" aria-label="Stages over time"></svg></div>
        <div class="key" id="ganttkey"></div></section>
        <section class="wide"><h2>Members <small id="membernote"></small></h2><div class="scroll"><table><thead><tr><th>name</th><th>place</th><th>path</th><th>now</th>
        <th>GFLOP/s</th><th>sent</th></tr></thead><tbody id="members"></tbody></table></div></section>
        <section id="bytescard"><h2>Exchange and bytes</h2><div id="bytes"></div></section>
        <section id="limitscard" hidden><h2>Limits</h2><div id="limits"></div></section>
        <section class="wide"><h2>What happened, and why <small id="whynote"></small> <input id="filter" placeholder="words" aria-label="Only with these words"></h2>
        <div class="scroll" id="why"></div></section>
        </main>
        """#
}

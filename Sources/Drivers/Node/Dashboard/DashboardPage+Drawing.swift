extension DashboardPage {
    /// The header, sentences, the map, members, events.
    static let drawingScript = #"""
        function drawHead(s) {
          const m = s.m;
          const title = m.title || 'Atoll';
          say(byId('title'), title);
          if (document.title !== title + ' · Atoll') document.title = title + ' · Atoll';
          let said = [];
          if (m.stage) said.push(m.stage);
          if (m.steps > 0) said.push('round ' + m.round + ', step ' + m.step + ' of ' + m.steps);
          if (m.left !== undefined && m.left !== null) said.push('about ' + span(m.left) + ' left');
          if (m.tokensPerSecond > 0) said.push(Math.round(m.tokensPerSecond).toLocaleString('en').replace(/,/g, ' ') + ' tokens/s');
          if (s.lost) said = ['The program does not answer any more; what it said last is below'];
          const place = byId('said');
          say(place, said.join(' · ') || 'Nothing has been heard yet.');
          place.className = s.lost ? 'bad' : 'faint';
          byId('fill').style.width = (m.steps > 0 ? Math.min(100, 100 * m.step / m.steps) : 0) + '%';
        }
        function paragraphs(place, texts) {
          fill(place, texts.length, parent => node('p', parent), (line, i) => say(line, texts[i]));
        }
        function drawNow(s) {
          paragraphs(byId('now'), s.m.text || []);
          const limits = s.m.limits || [];
          byId('limitscard').hidden = !limits.length;
          paragraphs(byId('limits'), limits);
        }
        function drawBytes(s) {
          const m = s.m, texts = [];
          if (m.plan) texts.push(m.plan);
          if (m.sent > 0 && m.plain > 0) texts.push('All members together sent ' + bytes(m.sent) + '. Gradients in fp32 at every step would be ' + bytes(m.plain)
            + ': ' + fixed(m.plain / m.sent, m.plain / m.sent < 10 ? 1 : 0) + ' times as much.');
          if (Number.isFinite(m.out)) texts.push('This process sent ' + bytes(m.out) + ' and received ' + bytes(m.in) + '.');
          byId('bytescard').hidden = !texts.length;
          paragraphs(byId('bytes'), texts);
        }

        /// Places by latency: pairs are drawn towards their distance one at a time, with ever smaller steps (stress by stochastic descent, Zheng,
        /// Pawar and Goodman 2018); always in the same order, so the same pool looks the same.
        let placed = { links: null, count: -1, places: [] }, placing = null;
        /// Null while it is not done: then another call goes on with it.
        function layout(s) {
          const count = s.peers.length;
          if (placed.links === s.links && placed.count === count) return placed.places;
          if (!placing || placing.links !== s.links || placing.count !== count) placing = begin(s, count);
          const { x, y, pairs, goal, turns } = placing, began = performance.now();
          for (; placing.turn < turns; placing.turn++) {
            if (performance.now() - began > share) return null;
            const rate = Math.exp(-4 * placing.turn / turns);
            for (let k = 0; k < pairs.length; k++) {
              const [a, b] = pairs[k], dx = x[a] - x[b], dy = y[a] - y[b];
              const length = Math.sqrt(dx * dx + dy * dy) || 1e-6, w = Math.min(1, rate / (goal[k] * goal[k]) * .1);
              const move = w * (length - goal[k]) / length / 2;
              x[a] -= move * dx; y[a] -= move * dy; x[b] += move * dx; y[b] += move * dy;
            }
          }
          placed = { links: s.links, count, places: apart(x, y, count) };
          placing = null;
          return placed.places;
        }
        /// On a spiral, and what distances are to become.
        function begin(s, count) {
          const x = [], y = [], golden = 2.399963;
          for (let i = 0; i < count; i++) { const radius = Math.sqrt(i + .5); x.push(radius * Math.cos(i * golden)); y.push(radius * Math.sin(i * golden)); }
          const pairs = s.links.filter(l => l[0] < count && l[1] < count && l[0] !== l[1]);
          const longest = Math.max(1e-6, ...pairs.map(l => l[2]));
          // Distances below a twentieth of the longest are one heap: they get room to be told apart.
          const goal = pairs.map(l => .08 + .92 * Math.sqrt(Math.max(0, l[2]) / longest));
          const scale = Math.max(1, Math.sqrt(count));
          for (let i = 0; i < count; i++) { x[i] /= scale; y[i] /= scale; }
          return { links: s.links, count, x, y, pairs, goal, turns: pairs.length ? 60 : 0, turn: 0 };
        }
        /// Nobody lies on somebody else; and all of it in the picture.
        function apart(x, y, count) {
          const near = .6 / Math.max(1, Math.sqrt(count));
          for (let turn = 0; turn < 4; turn++) for (let a = 0; a < count; a++) for (let b = a + 1; b < count; b++) {
            const dx = x[a] - x[b], dy = y[a] - y[b], length = Math.sqrt(dx * dx + dy * dy);
            if (length >= near) continue;
            const push = (near - length) / 2 / (length || 1), px = length ? dx * push : near / 2, py = length ? dy * push : 0;
            x[a] += px; y[a] += py; x[b] -= px; y[b] -= py;
          }
          const least = list => Math.min(0, ...list), top = list => Math.max(0, ...list);
          const [x0, x1, y0, y1] = [least(x), top(x), least(y), top(y)];
          const k = Math.min(560 / Math.max(1e-6, x1 - x0), 340 / Math.max(1e-6, y1 - y0));
          return x.map((_, i) => [320 + k * (x[i] - (x0 + x1) / 2), 205 + k * (y[i] - (y0 + y1) / 2)]);
        }
        /// So many of a list are made in one go.
        const piece = 40;
        const more = (place, count) => isWhole ? count : Math.min(count, place.childNodes.length + piece);
        let mapped = {};
        /// Who is linked with whom: only when somebody has come, or has another place.
        function drawLines(s, places) {
          mapped = { places, stamp: s.places, links: s.links };
          const at = i => fixed(places[i][0], 1) + ' ' + fixed(places[i][1], 1);
          const line = (a, b) => 'M' + at(a) + 'L' + at(b);
          let links = '', relayed = '', pipes = '';
          const byPlace = new Map(), centre = s.peers.findIndex(p => p && p.self);
          s.peers.forEach((p, i) => { if (p && p.rank !== undefined) byPlace.set(p.rank + '/' + p.stage, i); });
          const shown = s.links.length > 1500 ? s.links.slice().sort((a, b) => a[2] - b[2]).slice(0, 1500) : s.links;
          for (const l of shown) if (places[l[0]] && places[l[1]]) links += line(l[0], l[1]);
          s.peers.forEach((p, i) => {
            if (!p) return;
            if (p.via && centre >= 0) relayed += line(centre, i);
            const next = p.rank !== undefined ? byPlace.get(p.rank + '/' + (p.stage + 1)) : undefined;
            if (next !== undefined) pipes += line(i, next);
          });
          set(byId('map-link'), 'd', links); set(byId('map-relayed'), 'd', relayed); set(byId('map-pipe'), 'd', pipes);
          const far = s.links.reduce((most, l) => Math.max(most, l[2]), 0);
          const holding = s.peers.filter(p => p && p.rank !== undefined).length;
          say(byId('mapnote'), s.peers.length ? s.peers.length + (s.peers.length === 1 ? ' machine' : ' machines') + (holding ? ', ' + holding + (holding === 1 ? ' holds' : ' hold') + ' layers' : '') + (far ? ', up to ' + fixed(far, far < 10 ? 1 : 0) + ' ms apart' : '') : '');
        }
        /// What is said of a peer under the pointer, made when it is asked for.
        byId('map').addEventListener('pointerover', event => {
          const circle = event.target.closest('circle');
          if (!circle) return;
          const p = state.peers[Array.prototype.indexOf.call(circle.parentNode.childNodes, circle)] || {};
          say(circle.firstChild, [p.name, placeOf(p), pathOf(p), p.doing, p.why].filter(Boolean).join(' · '));
        });
        function drawMap(s) {
          const map = byId('map'), places = layout(s);
          if (!places) return true;
          if (!map.firstChild) {
            for (const cls of ['link', 'relayed', 'pipe']) shape('path', map, { class: cls, id: 'map-' + cls });
            shape('g', map, { id: 'map-peers' }); shape('g', map, { id: 'map-names' });
          }
          if (mapped.places !== places || mapped.stamp !== s.places || mapped.links !== s.links) drawLines(s, places);
          const most = s.peers.reduce((most, p) => Math.max(most, p && p.gflops || 0), 1e-9);
          const base = s.peers.length > 100 ? 4 : s.peers.length > 30 ? 6 : 9;
          const circles = more(byId('map-peers'), s.peers.length);
          fill(byId('map-peers'), circles, parent => shape('title', shape('circle', parent, {})), (circle, i) => {
            const key = s.stamps[i] + ' ' + most + ' ' + base;
            if (circle.drawn === key && circle.places === places) return;
            circle.drawn = key; circle.places = places;
            const p = s.peers[i] || {}, gone = p.standing === 'lost', works = p.rank !== undefined && !gone;
            set(circle, 'cx', fixed(places[i][0], 1)); set(circle, 'cy', fixed(places[i][1], 1));
            set(circle, 'r', fixed(base * (.6 + .6 * Math.sqrt((p.gflops || 0) / most)), 1));
            set(circle, 'class', 'peer' + (gone ? ' gone' : works ? '' : ' spare') + (p.self ? ' here' : ''));
            set(circle, 'fill', works ? hue(p.rank) : '');
          });
          const named = s.peers.length <= 24 ? s.peers.length : 0;
          fill(byId('map-names'), named, parent => shape('text', parent, { 'text-anchor': 'middle' }), (text, i) => {
            set(text, 'x', fixed(places[i][0], 1)); set(text, 'y', fixed(places[i][1] + base * 1.2 + 12, 1));
            say(text, (s.peers[i] || {}).name);
          });
          return circles < s.peers.length;
        }
        function placeOf(p) {
          if (p.standing === 'lost') return 'lost';
          if (p.rank !== undefined) return 'stage ' + (p.stage + 1) + ' of ' + p.stages + ' in pipeline ' + (p.rank + 1);
          return p.self ? 'here' : p.standing === 'joined' ? 'no layers' : p.standing === 'found' ? 'in the pool, not in this job' : p.standing || '';
        }
        function pathOf(p) {
          const time = Number.isFinite(p.rtt) ? fixed(p.rtt, p.rtt < 10 ? 1 : 0) + ' ms' : '';
          return p.via ? 'relayed by ' + p.via + (time ? ', ' + time : '') : time;
        }
        function drawMembers(s) {
          const body = byId('members');
          const order = s.peers.map((_, i) => i).filter(i => s.peers[i] && !s.peers[i].outside);
          order.sort((a, b) => rankOf(s.peers[a]) - rankOf(s.peers[b]) || a - b);
          const rows = more(body, order.length);
          fill(body, rows, parent => { const row = node('tr', parent); for (let i = 0; i < 6; i++) node('td', row, i > 3 ? 'number' : ''); }, (row, k) => {
            if (row.drawn === s.stamps[order[k]] || !isNear('members', 24 * k, 24 * k + 24)) return;
            row.drawn = s.stamps[order[k]];
            const p = s.peers[order[k]], cells = row.childNodes;
            say(cells[0], p.name); say(cells[1], placeOf(p)); say(cells[2], pathOf(p)); say(cells[3], p.why || p.doing);
            say(cells[4], p.gflops ? fixed(p.gflops, 1) + (p.measured ? ' → ' + fixed(p.measured, 1) : '') : '');
            say(cells[5], Number.isFinite(p.sent) ? bytes(p.sent) : '');
          });
          const here = s.peers.filter(p => p && p.standing === 'joined').length;
          const all = order.filter(i => s.peers[i].standing !== 'found').length;
          say(byId('membernote'), here ? here + ' of ' + all + ' are here' : '');
          return rows < order.length;
        }
        const rankOf = p => p.rank === undefined ? 1e9 : p.rank * 1e4 + p.stage;

        let shownMarks = { last: null, words: null };
        /// The newest first. What is there stays as it is, opened or not.
        function drawWhy(s) {
          const words = byId('filter').value.trim().toLowerCase(), last = s.marks[s.marks.length - 1];
          if (shownMarks.last === last && shownMarks.words === words) return;
          let made = 0;
          const found = s.marks.filter(k => !words || words.split(/ +/).every(w => (k[2] + ' ' + k[4]).toLowerCase().includes(w)));
          const want = found.slice(-200).reverse(), wanted = new Set(want), list = byId('why');
          let at = list.firstChild;
          const skip = () => { while (at && !wanted.has(at.mark)) { const gone = at; at = at.nextSibling; list.removeChild(gone); } };
          for (const k of want) {
            skip();
            if (at && at.mark === k) { at = at.nextSibling; continue; }
            // What comes after it stays until this is done.
            if (made++ === piece && !isWhole) return true;
            const box = document.createElement('details');
            box.mark = k;
            say(node('summary', box), moment(k[1]) + '  ' + k[4]);
            list.insertBefore(box, at);
          }
          while (at) { const gone = at; at = at.nextSibling; list.removeChild(gone); }
          shownMarks = { last, words };
          say(byId('whynote'), want.length < s.marks.length ? want.length + ' of ' + s.marks.length : '');
        }
        // The line of an event is made when it is opened.
        byId('why').addEventListener('toggle', event => {
          const box = event.target;
          if (box.open && box.mark && box.childNodes.length < 2) say(node('pre', box), box.mark[6] || box.mark[2]);
        }, true);
        """#
}

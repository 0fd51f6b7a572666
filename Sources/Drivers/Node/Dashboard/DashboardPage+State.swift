extension DashboardPage {
    /// The page's state, folded from records (docs/DASHBOARD.md), and where they come from: a stream, or the page itself. Whatever others
    /// wrote gets into the page as text of a node, never as markup.
    static let stateScript = #"""
        const byId = id => document.getElementById(id);
        const space = 'http://www.w3.org/2000/svg';
        const most = { rounds: 5000, marks: 1000, acts: 400, peers: 1024 };

        function fresh() {
          return { m: {}, peers: [], acts: [], rounds: [], marks: [], links: [], plan: null, t: 0, version: 0, layout: 0, marked: 0 };
        }
        function fold(s, r) {
          const [kind, t] = r;
          if (kind === 'z') { Object.assign(s, fresh(), { version: s.version + 1, layout: s.layout + 1, marked: s.marked + 1 }); return; }
          if (typeof t === 'number' && t > s.t) s.t = t;
          s.version++;
          switch (kind) {
            case 'm': Object.assign(s.m, r[2]); break;
            case 'p': if (r[2] < most.peers) {
              if (!s.peers[r[2]]) { s.peers[r[2]] = {}; s.acts[r[2]] = []; s.layout++; }
              s.peers[r[2]] = Object.assign({}, r[3]); } break;
            case 'a': if (s.acts[r[2]]) { const list = s.acts[r[2]]; list.push([t, r[3]]); if (list.length > most.acts) list.shift(); } break;
            case 'r': s.rounds.push(Object.assign({ at: t }, r[2])); if (s.rounds.length > most.rounds) s.rounds.shift(); break;
            case 'u': for (const round of s.rounds) if (round.round >= r[2]) round.undone = true; break;
            case 'k': s.marks.push(r); s.marked++; if (s.marks.length > most.marks) s.marks.shift(); break;
            case 'l': s.links = r[2]; s.layout++; break;
            case 'g': s.plan = r[2]; break;
          }
        }

        function node(tag, parent, cls) {
          const made = document.createElement(tag);
          if (cls) made.className = cls;
          if (parent) parent.appendChild(made);
          return made;
        }
        function shape(tag, parent, attributes) {
          const made = document.createElementNS(space, tag);
          for (const name in attributes) made.setAttribute(name, attributes[name]);
          if (parent) parent.appendChild(made);
          return made;
        }
        // Only what differs is written: layout is dear.
        function say(place, text) { text = text === undefined || text === null ? '' : String(text); if (place.textContent !== text) place.textContent = text; }
        function set(place, name, value) { value = String(value); if (place.getAttribute(name) !== value) place.setAttribute(name, value); }
        /// Makes a list of so many children of a kind, and hands each over.
        function fill(parent, count, make, each) {
          while (parent.childNodes.length > count) parent.removeChild(parent.lastChild);
          while (parent.childNodes.length < count) make(parent, parent.childNodes.length);
          for (let i = 0; i < count; i++) each(parent.childNodes[i], i);
        }

        const fixed = (x, digits) => Number.isFinite(x) ? x.toFixed(digits) : '–';
        function span(x) { return !Number.isFinite(x) ? '–' : x < 90 ? fixed(x, 0) + ' s' : x < 5400 ? fixed(x / 60, 0) + ' min' : fixed(x / 3600, 1) + ' h'; }
        function moment(x) {
          const two = n => String(Math.floor(n)).padStart(2, '0');
          return x < 3600 ? two(x / 60) + ':' + two(x % 60) : Math.floor(x / 3600) + ':' + two(x / 60 % 60) + ':' + two(x % 60);
        }
        function bytes(x) {
          if (!Number.isFinite(x)) return '';
          const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
          let place = 0;
          while (x >= 1024 && place < 4) { x /= 1024; place++; }
          return fixed(x, place ? 1 : 0) + ' ' + units[place];
        }
        const hue = rank => 'hsl(' + (rank * 137.5 + 210) % 360 + ' 55% 52%)';

        let state = fresh();
        let wanted = false;
        function soon() {
          if (wanted) return;
          wanted = true;
          requestAnimationFrame(() => {
            wanted = false;
            const began = performance.now();
            draw(state);
            note(performance.now() - began);
          });
        }
        /// How long drawing takes is left in the page, for whoever measures it.
        const drawn = [];
        function note(milliseconds) {
          drawn.push(milliseconds);
          if (drawn.length > 1000) drawn.shift();
          document.documentElement.dataset.drawn = drawn.length + ' ' + milliseconds.toFixed(2) + ' ' + Math.max(...drawn).toFixed(2);
        }

        function live() {
          const source = new EventSource('/stream');
          source.onmessage = event => { for (const record of JSON.parse(event.data)) fold(state, record); state.lost = false; soon(); };
          source.onerror = () => { state.lost = true; soon(); };
        }
        function replay(records) {
          const slider = byId('slider'), play = byId('play');
          let last = 0;
          for (const r of records) if (typeof r[1] === 'number' && r[1] > last) last = r[1];
          let next = 0, at = -1, timer = null;
          function go(to) {
            if (to < at) { const kept = state; state = fresh(); state.version = kept.version + 1; state.layout = kept.layout + 1; state.marked = kept.marked + 1; next = 0; }
            while (next < records.length && !(records[next][1] > to)) fold(state, records[next++]);
            at = to;
            state.t = to;
            state.version++;
            say(byId('moment'), moment(to) + ' of ' + moment(last));
            soon();
          }
          slider.addEventListener('input', () => go(last * slider.value / 1000));
          play.addEventListener('click', () => {
            if (timer) { clearInterval(timer); timer = null; say(play, 'Play'); return; }
            if (Number(slider.value) >= 1000) slider.value = 0;
            say(play, 'Stop');
            timer = setInterval(() => {
              slider.value = Math.min(1000, Number(slider.value) + 2);
              go(last * slider.value / 1000);
              if (Number(slider.value) >= 1000) { clearInterval(timer); timer = null; say(play, 'Play'); }
            }, 100);
          });
          byId('time').hidden = false;
          const asked = /^#t=([0-9.]+)$/.exec(location.hash);
          if (asked && last > 0) slider.value = Math.min(1000, 1000 * Number(asked[1]) / last);
          go(last * slider.value / 1000);
        }
        """#
}

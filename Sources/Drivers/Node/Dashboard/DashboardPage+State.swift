extension DashboardPage {
    /// The page's state, folded from records (docs/DASHBOARD.md), and where they come from: a stream, or the page itself. Whatever others
    /// wrote gets into the page as text of a node, never as markup.
    static let stateScript = #"""
        const byId = id => document.getElementById(id);
        const space = 'http://www.w3.org/2000/svg';
        const most = { rounds: 5000, marks: 1000, acts: 400, peers: 1024 };

        function fresh() {
          return { m: {}, peers: [], acts: [], stamps: [], places: 0, rounds: [], marks: [], links: [], plan: null, traces: [], t: 0 };
        }
        /// Another number whenever something is said of a peer, so that it is known what is drawn already; never the same again.
        let stamp = 0;
        function fold(s, r) {
          const [kind, t] = r;
          if (kind === 'z') { Object.assign(s, fresh()); return; }
          if (typeof t === 'number' && t > s.t) s.t = t;
          switch (kind) {
            case 'm': Object.assign(s.m, r[2]); break;
            case 'p': if (r[2] < most.peers) {
              const was = s.peers[r[2]];
              if (!was) s.acts[r[2]] = [];
              s.peers[r[2]] = Object.assign(was && !r[3].outside ? { doing: was.doing, rtt: was.rtt, sent: was.sent } : {}, r[3]);
              s.stamps[r[2]] = s.places = ++stamp;
            } break;
            case 'v': for (const [i, rtt, sent] of r[2]) if (s.peers[i]) { Object.assign(s.peers[i], { rtt, sent }); s.stamps[i] = ++stamp; } break;
            case 'a': for (const i of r[3]) {
              const list = s.acts[i];
              if (!list) continue;
              list.push([t, r[2]]);
              if (list.length > 2 * most.acts) list.splice(0, list.length - most.acts);
              s.peers[i].doing = r[2];
              s.stamps[i] = ++stamp;
            } break;
            case 'b': if (s.peers[r[2]]) s.traces[r[2]] = { step: r[3], at: r[4], spans: r[5] }; break;
            case 'r': s.rounds.push(Object.assign({ at: t }, r[2])); if (s.rounds.length > most.rounds) s.rounds.shift(); break;
            case 'u': for (const round of s.rounds) if (round.round >= r[2]) round.undone = true; break;
            case 'k': s.marks.push(r); if (s.marks.length > most.marks) s.marks.shift(); break;
            case 'l': s.links = r[2]; break;
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
        function span(x) { return !Number.isFinite(x) ? '–' : x < 90 ? fixed(x, 0) + ' s' : x < 5400 ? fixed(x / 60, 0) + ' min' : x < 172800 ? fixed(x / 3600, 1) + ' h' : fixed(x / 86400, 0) + ' days'; }
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
        /// What is to be drawn, in turn: of a frame not more than a part of it is taken, and what nobody sees waits until somebody does.
        const parts = [], due = new Set();
        let wanted = false, since = 0;
        const share = 6;
        /// - isLast: what is laid out again for it is so much that it is the last of its frame.
        function part(card, drawIt, isLast) { parts.push({ card: byId(card).closest('section, header'), drawIt, isLast, seen: true }); }
        function watch() {
          if (!window.IntersectionObserver) return;
          const observer = new IntersectionObserver(entries => {
            for (const entry of entries) for (const one of parts) if (one.card === entry.target) one.seen = entry.isIntersecting;
            ask();
          }, { rootMargin: '200px' });
          for (const card of new Set(parts.map(one => one.card))) observer.observe(card);
        }
        /// Of a list that is longer than its box only what is near the box's middle is drawn.
        let isWhole = false;
        const view = { gantt: [0, 700], members: [0, 700], width: 600 };
        function scrolls(id) {
          const box = byId(id).closest('.scroll'), mine = parts.filter(one => one.card.contains(box));
          const look = () => {
            const was = view[id].join() + view.width;
            view[id] = [box.scrollTop - 250, box.scrollTop + box.clientHeight + 250];
            view.width = box.clientWidth;
            if (was === view[id].join() + view.width) return;
            for (const one of mine) due.add(one);
            ask();
          };
          box.addEventListener('scroll', look);
          if (window.ResizeObserver) new ResizeObserver(look).observe(box); else isWhole = true;
        }
        /// Whether what is so high up in its list is seen, or nearly.
        const isNear = (id, top, bottom) => isWhole || bottom >= view[id][0] && top <= view[id][1];
        function soon() {
          if (!due.size) since = performance.now();
          for (const one of parts) due.add(one);
          ask();
        }
        function ask() {
          if (wanted) return;
          for (const one of due) if (one.seen) { wanted = true; requestAnimationFrame(frame); return; }
        }
        function frame() {
          wanted = false;
          const began = performance.now();
          for (const one of Array.from(due)) {
            if (!one.seen && !one.card.hidden) continue;
            due.delete(one);
            // What is long is made in pieces: it says that there is more.
            if (one.drawIt(state)) due.add(one);
            if (one.isLast || performance.now() - began > share) break;
          }
          note(performance.now() - began);
          ask();
        }
        // Whoever prints it wants all of it.
        window.addEventListener('beforeprint', () => { isWhole = true; for (const one of parts) while (one.drawIt(state)); isWhole = !window.ResizeObserver; due.clear(); });
        /// How long a frame's drawing takes is left in the page, for whoever measures it, and how long it took until all that is seen was drawn.
        const drawn = [];
        function note(milliseconds) {
          drawn.push(milliseconds);
          if (drawn.length > 1000) drawn.shift();
          const marks = document.documentElement.dataset;
          marks.drawn = drawn.length + ' ' + milliseconds.toFixed(2) + ' ' + Math.max(...drawn).toFixed(2);
          for (const one of due) if (one.seen) return;
          marks.settled = (performance.now() - since).toFixed(2);
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
          for (let i = 0; i <= 4; i++) say(byId('tick' + i), moment(last * i / 4));
          function go(to) {
            if (to < at) { state = fresh(); next = 0; }
            while (next < records.length && !(records[next][1] > to)) fold(state, records[next++]);
            at = to;
            state.t = to;
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

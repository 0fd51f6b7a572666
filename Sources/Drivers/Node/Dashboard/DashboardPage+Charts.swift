extension DashboardPage {
    /// Loss, pace, stages over time.
    static let chartScript = #"""
        function axes(place, x0, x1, y0, y1, xText, yText) {
          const [width, height, left, bottom] = [640, place.viewBox.baseVal.height, 46, 24];
          const X = x => left + (width - left - 10) * (x - x0) / Math.max(1e-9, x1 - x0);
          const Y = y => height - bottom - (height - bottom - 12) * (y - y0) / Math.max(1e-9, y1 - y0);
          let group = place.querySelector('.axes');
          if (!group) { group = shape('g', place, { class: 'axes' }); shape('path', group, { class: 'axis' }); shape('g', group, {}); }
          let lines = '', texts = [];
          for (let i = 0; i <= 4; i++) {
            const x = x0 + (x1 - x0) * i / 4, y = y0 + (y1 - y0) * i / 4;
            lines += 'M' + left + ' ' + fixed(Y(y), 1) + 'H' + (width - 10);
            texts.push([left - 6, Y(y) + 4, 'end', yText(y)], [X(x), height - 6, i === 0 ? 'start' : i === 4 ? 'end' : 'middle', xText(x)]);
          }
          set(group.firstChild, 'd', lines);
          fill(group.lastChild, texts.length, parent => shape('text', parent, { class: 'faint' }), (text, i) => {
            set(text, 'x', fixed(texts[i][0], 1)); set(text, 'y', fixed(texts[i][1], 1)); set(text, 'text-anchor', texts[i][2]); say(text, texts[i][3]);
          });
          return [X, Y];
        }
        function layer(place, cls, tag) {
          let found = place.querySelector('.layer-' + cls);
          if (!found) found = shape(tag || 'path', place, { class: (tag ? '' : cls + ' ') + 'layer-' + cls });
          return found;
        }
        function thinned(list, most) {
          if (list.length <= most) return list;
          const step = list.length / most, out = [];
          for (let i = 0; i < most; i++) out.push(list[Math.floor(i * step)]);
          out.push(list[list.length - 1]);
          return out;
        }
        function range(values) {
          let [low, high] = [Math.min(...values), Math.max(...values)];
          if (!(high > low)) { const pad = Math.abs(low) * .05 || 1; low -= pad; high += pad; }
          return [low, high];
        }
        function dots(points, X, Y) {
          let d = '';
          for (const [x, y] of points) d += 'M' + fixed(X(x) - 2.5, 1) + ' ' + fixed(Y(y), 1) + 'a2.5 2.5 0 1 0 5 0a2.5 2.5 0 1 0 -5 0';
          return d;
        }

        function drawLoss(s) {
          const place = byId('loss'), rounds = thinned(s.rounds.filter(r => Number.isFinite(r.loss)), 600);
          say(byId('lossnote'), s.m.computed === false ? 'not computed: the replay charged the time of arithmetic and did none (--real does it)' : rounds.length ? fixed(rounds[rounds.length - 1].loss, 3) + (s.m.validation ? ', validation ' + fixed(s.m.validation, 3) : '') : 'none is known');
          if (!rounds.length) return fill(place, 0);
          const [low, high] = range(rounds.map(r => r.loss).concat(rounds.filter(r => Number.isFinite(r.validation)).map(r => r.validation)));
          const [x0, x1] = [Math.min(rounds[0].at - (rounds[0].seconds || 0), s.t), Math.max(s.t, rounds[rounds.length - 1].at)];
          const [X, Y] = axes(place, x0, x1, low, high, moment, y => fixed(y, high - low < .1 ? 3 : 2));
          for (const cls of ['up', 'down', 'change']) {
            let d = '';
            for (const k of thinned(s.marks.filter(k => k[5] === cls && k[1] >= x0 && k[1] <= x1), 200)) d += 'M' + fixed(X(k[1]), 1) + ' 8V' + fixed(Y(low), 1);
            set(layer(place, cls), 'd', d);
          }
          let train = '', undone = '', joined = false, was = null;
          for (const r of rounds) {
            const point = fixed(X(r.at), 1) + ' ' + fixed(Y(r.loss), 1);
            if (r.undone) { undone += (undone && was ? 'L' : 'M') + point; was = true; joined = false; continue; }
            train += (joined ? 'L' : 'M') + point;
            joined = true; was = null;
          }
          set(layer(place, 'train'), 'd', train); set(layer(place, 'undone'), 'd', undone);
          set(layer(place, 'valid'), 'd', dots(rounds.filter(r => Number.isFinite(r.validation)).map(r => [r.at - (r.seconds || 0), r.validation]), X, Y));
        }
        function drawPace(s) {
          const place = byId('pace'), rounds = thinned(s.rounds.filter(r => r.steps > 0 && r.seconds > 0), 600);
          const note = s.m.stepSeconds ? fixed(s.m.stepSeconds, 2) + ' s of late' + (s.m.predicted ? ', predicted ' + fixed(s.m.predicted, 2) + ' s' : '') : '';
          say(byId('pacenote'), note);
          if (!rounds.length) return fill(place, 0);
          const measured = rounds.map(r => [r.at, r.seconds / r.steps]), predicted = rounds.filter(r => r.predicted > 0).map(r => [r.at, r.predicted / r.steps]);
          // One round that waited for somebody does not make the others a line at the bottom.
          const sorted = measured.map(p => p[1]).sort((a, b) => a - b), usual = sorted[Math.floor(.95 * (sorted.length - 1))] * 1.3,
            // A prediction that is far off is at the upper edge.
            high = Math.max(usual, Math.min(3 * usual, ...[Math.max(0, ...predicted.map(p => p[1] * 1.1))]));
          const [X, Y] = axes(place, rounds[0].at - rounds[0].seconds, Math.max(s.t, rounds[rounds.length - 1].at), 0, high, moment, y => fixed(y, high < 1 ? 3 : high < 10 ? 2 : 1));
          set(layer(place, 'measured'), 'd', dots(measured.map(p => [p[0], Math.min(high, p[1])]), X, Y));
          let d = '';
          predicted.forEach((p, i) => { d += (i ? 'L' : 'M') + fixed(X(p[0]), 1) + ' ' + fixed(Y(Math.min(high, p[1])), 1); });
          set(layer(place, 'predicted'), 'd', d);
        }

        let asStep = false;
        const kinds = [['validat', 'mv'], ['step', 'ms'], ['encod', 'mx'], ['exchang', 'mx'], ['outer', 'mx'], ['fetch', 'mf'], ['text', 'mf'], ['wait', 'mw']];
        function kindOf(text) {
          for (const [word, cls] of kinds) if (text.startsWith(word)) return cls === 'ms' && Number(text.slice(5).split('/')[0]) % 2 ? 'mt' : cls;
          return '';
        }
        const round1 = x => Math.round(x * 10) / 10;
        const bar = (x0, x1, y, h) => box(round1(x0), round1(x1 - x0), y, h);
        const box = (x, width, y, h) => width > 0 ? 'M' + x + ' ' + y + 'h' + width + 'v' + h + 'h-' + width + 'z' : '';
        function drawGantt(s) {
          const place = byId('gantt');
          const lanes = s.peers.map((_, i) => i).filter(i => s.peers[i] && s.peers[i].rank !== undefined && s.peers[i].standing !== 'lost');
          lanes.sort((a, b) => rankOf(s.peers[a]) - rankOf(s.peers[b]));
          if (!lanes.length) { say(byId('stagenote'), 'nobody holds layers yet'); return fill(place, 0); }
          const step = asStep && (s.plan && s.plan.spans || s.traces.length), each = lanes.length > 64 ? 8 : lanes.length > 16 ? 14 : 22, left = 150, width = 1200, height = lanes.length * each + 34;
          set(place, 'viewBox', '0 0 ' + width + ' ' + height);
          if (place.dataset.mode !== (step ? 'step' : 'round')) { fill(place, 0); place.dataset.mode = step ? 'step' : 'round'; }
          const d = {}, add = (cls, path) => { d[cls] = (d[cls] || '') + path; };
          const y = k => 26 + k * each;
          const end = step ? drawStep(s, lanes, left, width, each, y, add) : drawRound(s, lanes, left, width, each, y, add);
          for (const cls of step ? ['fw', 'bw', 'uw', 'pf', 'pb', 'pu'] : ['pv', 'ps', 'pt', 'px', 'mv', 'ms', 'mt', 'mx', 'mf', 'mw']) {
            layer(place, cls).setAttribute('d', d[cls] || '');
          }
          let ticks = '';
          for (let i = 0; i <= 4; i++) ticks += 'M' + round1(left + (width - left - 10) * i / 4) + ' 20V' + height;
          set(layer(place, 'axis'), 'd', ticks);
          fill(layer(place, 'ticks', 'g'), 5, parent => shape('text', parent, { class: 'faint', y: 14 }), (text, i) => {
            set(text, 'x', round1(left + (width - left - 10) * i / 4)); set(text, 'text-anchor', i === 4 ? 'end' : 'start');
            say(text, end.text(i / 4));
          });
          const every = each < 12 ? 2 : 1, names = lanes.filter((_, k) => k % every === 0);
          fill(layer(place, 'names', 'g'), names.length, parent => shape('text', parent, { x: 4 }), (text, k) => {
            const p = s.peers[names[k]];
            set(text, 'y', round1(y(k * every) + each * .5 + 4));
            say(text, (p.rank + 1) + '.' + (p.stage + 1) + ' ' + (p.name.length > 18 ? p.name.slice(0, 17) + '…' : p.name));
          });
          say(byId('stagenote'), end.note);
          say(byId('ganttkey'), end.key);
        }
        const isLaneNear = (k, each) => isNear('gantt', (26 + k * each) * view.width / 1200, (26 + k * each + each) * view.width / 1200);
        /// The newest sealed round and the one under way: of each stage above what was predicted, below what it said that it did.
        function drawRound(s, lanes, left, width, each, y, add) {
          const sealed = s.rounds.filter(r => !r.undone), last = sealed[sealed.length - 1], plan = s.plan;
          const usual = plan && plan.round || last && last.seconds || 10;
          const from = last ? last.at - last.seconds : Math.max(0, s.t - usual), mid = last ? last.at : from;
          const to = Math.max(s.t, mid + usual);
          const X = t => left + (width - left - 10) * (Math.max(from, Math.min(to, t)) - from) / Math.max(1e-9, to - from);
          const half = round1(each * .42);
          const predicted = new Map();
          lanes.forEach((i, k) => {
            if (!isLaneNear(k, each)) return;
            const p = s.peers[i], top = round1(y(k) + each * .06), below = round1(y(k) + each * .52), stepSeconds = plan && plan.steps[p.rank];
            if (stepSeconds) {
              // The same for all stages of a pipeline, but for their height.
              if (!predicted.has(p.rank)) predicted.set(p.rank, predictedBars(plan, stepSeconds, last ? [from, mid] : [mid], last ? mid : to, to, X));
              for (const [cls, x, wide] of predicted.get(p.rank)) add(cls, box(x, wide, top, half));
            }
            const acts = s.acts[i] || [];
            for (let n = acts.length - 1; n >= 0; n--) {
              const [t, text] = acts[n], ends = n + 1 < acts.length ? acts[n + 1][0] : s.t, cls = kindOf(text);
              if (ends < from) break;
              if (cls) add(cls, bar(X(t), X(ends), below, half));
            }
          });
          const round = last ? last.round : -1;
          return {
            text: part => '+' + (to - from < 60 ? fixed(part * (to - from), to - from < 10 ? 2 : 1) + ' s' : span(part * (to - from))),
            note: (last ? 'round ' + round + (last.predicted ? ' took ' + fixed(last.seconds, 1) + ' s, predicted ' + fixed(last.predicted, 1) + ' s' : ' took ' + fixed(last.seconds, 1) + ' s') + '; then round ' + (round + 1) : 'the first round') + (plan ? '' : '; no prediction is known here'),
            key: 'of each stage above: predicted (light: validation and exchange, in turn: steps); below, as each says it about once a second: orange validation, green steps, blue exchange, red fetching, grey waiting',
          };
        }
        function predictedBars(plan, stepSeconds, begins, firstEnd, to, X) {
          const bars = [];
          begins.forEach((begin, turn) => {
            const close = Math.min(begin + plan.round, turn === 0 && begins.length > 1 ? firstEnd : to), clip = t => Math.min(close, t);
            const start = Math.max(0, Math.min(plan.validation, plan.trained - stepSeconds * plan.inner)), count = Math.min(plan.inner, 64);
            const push = (cls, t0, t1) => { const x = round1(X(clip(t0))), wide = round1(X(clip(t1)) - x); if (wide > 0) bars.push([cls, x, wide]); };
            push('pv', begin, begin + start);
            for (let n = 0; n < count; n++)
              push(n % 2 ? 'pt' : 'ps', begin + start + stepSeconds * plan.inner * n / count, begin + start + stepSeconds * plan.inner * (n + 1) / count);
            push('px', begin + start + stepSeconds * plan.inner, begin + plan.round);
          });
          return bars;
        }
        /// One step of every pipeline: forwards and backwards of micro-batches, above as they were planned, below as they were.
        function drawStep(s, lanes, left, width, each, y, add) {
          const newest = s.traces.reduce((most, one) => Math.max(most, one ? one.step : -1), -1), begins = new Map(), row = new Map();
          const traceOf = i => { const one = s.traces[i]; return one && one.step === newest ? one : null; };
          for (const i of lanes) { const one = traceOf(i), rank = s.peers[i].rank; if (one) begins.set(rank, Math.min(one.at, begins.has(rank) ? begins.get(rank) : Infinity)); }
          let end = s.plan && s.plan.spans && s.plan.end || 0;
          const planned = end > 0, measured = begins.size > 0;
          for (const i of lanes) { const one = traceOf(i); if (one) for (const span of one.spans) end = Math.max(end, one.at - begins.get(s.peers[i].rank) + span[2]); }
          end = end || 1;
          const X = t => left + (width - left - 10) * t / end, high = round1(each * (planned && measured ? .4 : .75));
          const piece = (cls, from, to, top) => add(cls, bar(X(from), Math.max(X(from) + .5, X(to) - .4), round1(top), high));
          lanes.forEach((i, k) => { if (isLaneNear(k, each)) row.set(s.peers[i].rank + '/' + s.peers[i].stage, k); });
          if (planned) for (const [rank, stage, kind, from, to] of s.plan.spans) {
            const k = row.get(rank + '/' + stage);
            if (k !== undefined) piece(measured ? { fw: 'pf', bw: 'pb', uw: 'pu' }[kind] : kind, from, to, y(k) + each * .08);
          }
          lanes.forEach((i, k) => {
            const one = traceOf(i);
            if (one && isLaneNear(k, each)) for (const [kind, from, to] of one.spans) {
              const shift = one.at - begins.get(s.peers[i].rank);
              piece(kind, shift + from, shift + to, y(k) + each * (planned ? .5 : .08));
            }
          });
          return { text: part => fixed(part * end, 3) + ' s',
            note: measured ? 'step ' + (newest + 1) + (planned ? ', as planned and as it was' : ', as it was') : 'one step, as planned',
            key: (planned && measured ? 'of each stage above: planned (light), below: as it was; ' : '') + 'blue: forward · green: backward · orange: optimizer · empty: idle (the bubble)' };
        }
        """#

    /// Ends the script: what the page listens to, and where its records come from.
    static let startScript = #"""
        for (const [card, drawIt] of [['title', drawHead], ['now', drawNow], ['limits', drawNow], ['map', drawMap], ['loss', drawLoss], ['pace', drawPace],
          ['bytes', drawBytes], ['gantt', drawGantt], ['members', drawMembers], ['why', drawWhy]]) part(card, drawIt, /members|why/.test(card));
        watch();
        scrolls('gantt');
        scrolls('members');
        byId('filter').addEventListener('input', soon);
        for (const [id, value] of [['asround', false], ['asstep', true]]) byId(id).addEventListener('click', () => {
          asStep = value;
          byId('asround').setAttribute('aria-pressed', String(!value));
          byId('asstep').setAttribute('aria-pressed', String(value));
          soon();
        });
        const data = byId('records');
        if (data) replay(JSON.parse(data.textContent)); else live();
        """#
}

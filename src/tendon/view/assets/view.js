'use strict';
// One script for all pages of `tendon view`: small pieces first, then the pages. Nothing here asks another host for anything.

var EMBEDDED = JSON.parse(document.getElementById('embedded').textContent);
var COLOURS = 7;
var DASHES = ['', '7 3', '2 3', '9 3 2 3', '4 2', '1 2.5', '12 4'];

// ------------------------------------------------------------------------------------------------------------ pieces

function el(tag, attributes) {
  var node = document.createElement(tag);
  fill(node, attributes, Array.prototype.slice.call(arguments, 2));
  return node;
}

function svg(tag, attributes) {
  var node = document.createElementNS('http://www.w3.org/2000/svg', tag);
  fill(node, attributes, Array.prototype.slice.call(arguments, 2));
  return node;
}

function fill(node, attributes, children) {
  Object.keys(attributes || {}).forEach(function (name) {
    var value = attributes[name];
    if (name.slice(0, 2) === 'on') { node.addEventListener(name.slice(2), value); }
    else if (value === true) { node.setAttribute(name, ''); }
    else if (value !== false && value !== null && value !== undefined) { node.setAttribute(name, value); }
  });
  children.forEach(function add(child) {
    if (Array.isArray(child)) { child.forEach(add); }
    else if (child !== null && child !== undefined && child !== false) {
      node.appendChild(child instanceof Node ? child : document.createTextNode(String(child)));
    }
  });
}

function put(node) {
  while (node.firstChild) { node.removeChild(node.firstChild); }
  fill(node, null, Array.prototype.slice.call(arguments, 1));
}

function load(path) {
  if (EMBEDDED.answers) {
    return path in EMBEDDED.answers ? Promise.resolve(EMBEDDED.answers[path])
      : Promise.reject(new Error('this page was written without it'));
  }
  return fetch(path).then(function (answer) {
    return answer.json().then(function (value) {
      if (!answer.ok) { throw new Error(value.error || answer.statusText); }
      return value;
    });
  });
}

function media(path) { return EMBEDDED.answers ? EMBEDDED.media[path] || '' : path; }

function short(value) {
  if (value === null || value === undefined || !isFinite(value)) { return '–'; }
  var size = Math.abs(value);
  if (size === 0) { return '0'; }
  if (size < 1e-3 || size >= 1e6) { return value.toExponential(1); }
  if (size >= 1000) { return value.toLocaleString('en', {maximumFractionDigits: 0}); }
  return String(Number(value.toPrecision(3)));
}

function many(number, noun) { return number.toLocaleString('en') + ' ' + noun + (number === 1 ? '' : 's'); }

function debounced(work, ms) {
  var timer = 0;
  return function () { clearTimeout(timer); timer = setTimeout(work, ms); };
}

function isTyping(event) {
  var tag = event.target.tagName;
  return (tag === 'INPUT' && event.target.type !== 'range' && event.target.type !== 'checkbox') || tag === 'SELECT' ||
    tag === 'TEXTAREA' || event.ctrlKey || event.metaKey || event.altKey;
}

// a rate with its interval on a line from 0 to 1
function rateBar(low, value, high) {
  var W = 130, x = function (share) { return 4 + share * (W - 8); };
  return svg('svg', {viewBox: '0 0 ' + W + ' 16', 'class': 'bar90', preserveAspectRatio: 'xMinYMid meet', 'aria-hidden': 'true'},
    svg('line', {x1: x(0), x2: x(1), y1: 8, y2: 8, 'class': 'g'}),
    svg('line', {x1: x(0), x2: x(0), y1: 4, y2: 12, 'class': 'a'}), svg('line', {x1: x(1), x2: x(1), y1: 4, y2: 12, 'class': 'a'}),
    svg('line', {x1: x(low), x2: x(high), y1: 8, y2: 8, 'class': 'w thick s0'}),
    svg('circle', {cx: x(value), cy: 8, r: 3.4, 'class': 'm s0'}));
}

function niceTicks(low, high, about) {
  if (!(high > low)) { return [low]; }
  var rough = (high - low) / about, power = Math.pow(10, Math.floor(Math.log10(rough)));
  var step = [1, 2, 5, 10].map(function (k) { return k * power; }).filter(function (s) { return s >= rough * (1 - 1e-9); })[0];
  var ticks = [];
  for (var k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k += 1) { ticks.push(Number((k * step).toPrecision(12))); }
  return ticks;
}

// A long list of which only what is seen is drawn; arrow keys move in it.
function longList(label, draw, choose) {
  var HEIGHT = 34, space = el('div'), rows = [], on = -1;
  var box = el('div', {'class': 'list', tabindex: '0', role: 'listbox', 'aria-label': label, onscroll: paint, onkeydown: keys}, space);
  function paint() {
    space.style.height = rows.length * HEIGHT + 'px';
    var first = Math.max(0, Math.floor(box.scrollTop / HEIGHT) - 4);
    var last = Math.min(rows.length, Math.ceil((box.scrollTop + box.clientHeight) / HEIGHT) + 4);
    var items = [];
    for (var k = first; k < last; k += 1) {
      items.push(el('div', {'class': 'item' + (k === on ? ' on' : ''), style: 'top:' + k * HEIGHT + 'px', role: 'option',
        id: 'item-' + k, 'aria-selected': k === on ? 'true' : 'false', 'aria-posinset': k + 1, 'aria-setsize': rows.length,
        onclick: function (at) { return function () { go(at); }; }(k)}, draw(rows[k])));
    }
    put(space, items);
    if (on >= 0) { box.setAttribute('aria-activedescendant', 'item-' + on); }
  }
  function go(k) {
    if (!rows.length) { return; }
    on = Math.min(rows.length - 1, Math.max(0, k));
    if (on * HEIGHT < box.scrollTop) { box.scrollTop = on * HEIGHT; }
    if ((on + 1) * HEIGHT > box.scrollTop + box.clientHeight) { box.scrollTop = (on + 1) * HEIGHT - box.clientHeight; }
    paint();
    choose(rows[on]);
  }
  function keys(event) {
    var moves = {ArrowDown: on + 1, ArrowUp: on - 1, PageDown: on + 10, PageUp: on - 10, Home: 0, End: rows.length - 1};
    if (event.key in moves) { event.preventDefault(); event.stopPropagation(); go(moves[event.key]); }
  }
  window.addEventListener('resize', paint);
  return {node: box, go: go, next: function (d) { go(on + d); }, paint: paint, at: function () { return on; },
    show: function (found, chosen) { rows = found; on = rows.indexOf(chosen); paint(); }, rows: function () { return rows; }};
}

// Lines over steps; a cursor that follows the player, and moves it where the panel is pointed at.
function panel(feature, length, stride, ranges, seek) {
  var W = 520, H = 132, left = 46, right = W - 6, top = 8, bottom = H - 20;
  var dims = feature.values.slice(0, COLOURS), low = Infinity, high = -Infinity;
  feature.values.forEach(function (line) {
    line.forEach(function (v) { if (v !== null && v < low) { low = v; } if (v !== null && v > high) { high = v; } });
  });
  if (!(high >= low)) { low = 0; high = 1; }
  var pad = high > low ? 0.05 * (high - low) : Math.abs(high) * 0.1 || 1, y0 = low - pad, y1 = high + pad;
  function x(step) { return left + (length > 1 ? step / (length - 1) : 0.5) * (right - left); }
  function y(value) { return bottom - (value - y0) / (y1 - y0) * (bottom - top); }
  var ticks = niceTicks(y0, y1, 3), times = niceTicks(0, Math.max(1, length - 1), 5);
  var paths = feature.values.map(function (line, d) {
    var path = '', pen = false;
    line.forEach(function (v, k) {
      if (v === null) { pen = false; return; }
      path += (pen ? 'L' : 'M') + x(Math.min(length - 1, k * stride)).toFixed(1) + ' ' + y(v).toFixed(1);
      pen = true;
    });
    return d < COLOURS ? svg('path', {d: path, fill: 'none', 'class': 'l s' + d, 'stroke-dasharray': DASHES[d]})
      : svg('path', {d: path, fill: 'none', 'class': 'l thin s6'});
  });
  var cursor = svg('line', {y1: top, y2: bottom, 'class': 'cursor'});
  var flags = ranges.map(function (r) {
    return svg('rect', {x: x(r[0]), width: Math.max(2, x(r[1]) - x(r[0])), y: top, height: bottom - top, 'class': 'flag'});
  });
  var picture = svg('svg', {viewBox: '0 0 ' + W + ' ' + H, role: 'img',
    'aria-label': feature.key + ', from ' + short(low) + ' to ' + short(high) + ' over ' + length + ' steps', 'font-size': 11},
    flags,
    ticks.map(function (t) {
      return [svg('line', {x1: left, x2: right, y1: y(t), y2: y(t), 'class': 'g'}),
        svg('text', {x: left - 7, y: y(t) + 4, 'class': 't', 'text-anchor': 'end'}, short(t))];
    }),
    times.map(function (t) { return svg('text', {x: x(t), y: H - 5, 'class': 't', 'text-anchor': 'middle'}, short(t)); }),
    paths, cursor);
  function pointed(event) {
    if (event.type === 'pointermove' && !event.buttons) { return; }
    var box = picture.getBoundingClientRect(), at = (event.clientX - box.left) / box.width * W;
    seek(Math.round((at - left) / (right - left) * (length - 1)));
  }
  picture.addEventListener('pointerdown', pointed);
  picture.addEventListener('pointermove', pointed);
  var shown = dims.map(function () { return el('b'); });
  var legend = dims.map(function (line, d) {
    var name = feature.names[d] || (feature.values.length > 1 ? '[' + d + ']' : '');
    return el('span', {'class': 'legend'}, el('i', {style: 'border-color:var(--s' + d + ');border-top-style:' + (d ? 'dashed' : 'solid')}),
      name, shown[d]);
  });
  var more = feature.values.length - dims.length;
  return {
    node: el('div', {'class': 'panel'}, el('h3', null, feature.key, legend), picture,
      more > 0 && el('p', {'class': 'rest'}, 'and ' + many(more, 'dimension') + ' more, in grey')),
    at: function (step) {
      cursor.setAttribute('x1', x(step)); cursor.setAttribute('x2', x(step));
      dims.forEach(function (line, d) { shown[d].textContent = short(line[Math.min(line.length - 1, Math.round(step / stride))]); });
    }
  };
}

function choice(label, options, change) {
  return el('select', {'aria-label': label, onchange: change}, options.map(function (o) {
    return el('option', {value: o[0]}, o[1]);
  }));
}

function facts(pairs) {
  return el('div', {'class': 'facts'}, pairs.filter(function (p) { return p[1] !== '' && p[1] !== null && p[1] !== undefined; })
    .map(function (p) { return el('span', null, el('b', null, p[0]), ' ', p[1]); }));
}

function keysHelp(pairs) {
  return el('p', {'class': 'help'}, pairs.map(function (p) {
    return [p[0].map(function (k) { return [el('kbd', null, k), ' ']; }), p[1], ' \u00a0 '];
  }));
}

function failed(node) { return function (error) { put(node, el('p', {'class': 'error say'}, String(error.message || error))); }; }

// ----------------------------------------------------------------------------------------------- a dataset's episodes

function datasetPage(root) {
  var about = null, findings = {}, chosen = -1, current = null, playing = 0, token = 0;
  var search = el('input', {type: 'search', placeholder: 'episode or task', 'aria-label': 'search episodes', oninput: debounced(filter, 120)});
  var split, outcome, task, flagged, order, count = el('span', {'class': 'count'});
  var detail = el('div', {'class': 'detail', 'aria-live': 'polite'}, el('p', {'class': 'empty'}, 'Loading.'));
  var list = longList('episodes', item, function (n) { open(n); });

  function item(n) {
    var found = findings[about.ids[n]];
    return [el('span', {'class': 'dot ' + ({1: 'success', 0: 'failure'}[about.success[n]] || ''),
      title: {1: 'success', 0: 'failure'}[about.success[n]] || 'success is not recorded'}),
      el('span', {'class': 'id'}, about.ids[n]), found && el('span', {'class': 'mark', title: found.length + ' findings'}, '!'),
      el('span', {'class': 'dim'}, about.lengths[n].toLocaleString('en'))];
  }

  function filter() {
    var words = search.value.trim().toLowerCase(), rows = [];
    for (var n = 0; n < about.ids.length; n += 1) {
      if (words && about.ids[n].toLowerCase().indexOf(words) < 0 &&
          about.tasks[about.task[n]].toLowerCase().indexOf(words) < 0) { continue; }
      if (split.value && about.splits_of[n].indexOf(Number(split.value)) < 0) { continue; }
      if (outcome && outcome.value && String(about.success[n]) !== outcome.value) { continue; }
      if (task && task.value && String(about.task[n]) !== task.value) { continue; }
      if (flagged.checked && !findings[about.ids[n]]) { continue; }
      rows.push(n);
    }
    if (order.value) {
      var sign = order.value === 'long' ? -1 : 1;
      rows.sort(function (a, b) { return sign * (about.lengths[a] - about.lengths[b]) || a - b; });
    }
    count.textContent = rows.length.toLocaleString('en') + ' of ' + about.ids.length.toLocaleString('en');
    list.show(rows, chosen);
  }

  function open(n) {
    chosen = n;
    stop();
    var mine = token += 1;
    try { history.replaceState(null, '', '#' + encodeURIComponent(about.ids[n])); } catch (error) { /* a page from a file */ }
    load('api/episode/' + n).then(function (episode) { if (mine === token) { draw(n, episode); } }, failed(detail));
  }

  function draw(n, episode) {
    var found = findings[episode.id] || [], ranges = found.filter(function (f) { return f.frames; }).map(function (f) { return f.frames; });
    var step = 0, length = episode.length, shown = episode.frames;
    function frameOf(t) {
      if (!shown) { return t; }
      return shown.reduce(function (best, f) { return Math.abs(f - t) < Math.abs(best - t) ? f : best; }, shown[0]);
    }
    function path(camera, t) { return media('frame/' + n + '/' + encodeURIComponent(camera) + '/' + frameOf(t) + '.jpg'); }
    var cameras = about.cameras.map(function (c) {
      return {name: c.name, image: el('img', {'class': 'frame', alt: c.name + ' at this step', style: '--ratio:' + c.width / c.height})};
    });
    var now = el('span', {'class': 'now'}), told = el('p', {'class': 'told'});
    var slider = el('input', {type: 'range', min: 0, max: Math.max(0, length - 1), value: 0, 'aria-label': 'step',
      oninput: function () { stop(); seek(Number(slider.value)); }});
    var play = el('button', {'class': 'key', onclick: function () { if (playing) { stop(); } else { start(); } }}, 'play');
    var plots = episode.features.map(function (f) { return panel(f, length, episode.stride, ranges, function (t) { stop(); seek(t); }); });
    var strip = [];
    if (cameras.length) {
      var num = Math.min(12, length);
      for (var k = 0; k < num; k += 1) {
        strip.push(function (t) {
          return {t: t, node: el('button', {'aria-label': 'step ' + t, onclick: function () { stop(); seek(t); }},
            el('img', {src: path(cameras[0].name, t), loading: 'lazy', alt: '', style: '--ratio:' + about.cameras[0].width / about.cameras[0].height}))};
        }(Math.round(k * (length - 1) / Math.max(1, num - 1))));
      }
    }
    function seek(t) {
      step = Math.min(length - 1, Math.max(0, t));
      slider.value = step;
      now.textContent = 'step ' + step.toLocaleString('en') + ' of ' + (length - 1).toLocaleString('en') + ', ' + (step / about.fps).toFixed(2) + ' s';
      cameras.forEach(function (c) { c.image.src = path(c.name, step); });
      plots.forEach(function (p) { p.at(step); });
      var text = episode.texts.map(function (t) { return t[Math.min(t.length - 1, step)]; }).filter(Boolean);
      told.textContent = text.length ? '“' + text.join('”, “') + '”' : '';
      strip.forEach(function (s, k) {
        var next = k + 1 < strip.length ? strip[k + 1].t : length;
        s.node.className = step >= s.t && step < next ? 'on' : '';
      });
    }
    function start() {
      var begun = performance.now(), from = step >= length - 1 ? 0 : step, mine = playing = (playing || 0) + 1, id = token;
      play.textContent = 'pause';
      function tick() {
        if (playing !== mine || id !== token) { return; }
        var t = from + Math.floor((performance.now() - begun) / 1000 * about.fps);
        seek(t);
        if (t >= length - 1) { stop(); return; }
        requestAnimationFrame(tick);
      }
      tick();
    }
    current = {seek: seek, step: function () { return step; }, toggle: function () { play.click(); }, stopped: function () { play.textContent = 'play'; }};
    put(detail,
      el('div', {'class': 'title'}, el('h2', null, episode.id), el('div', {'class': 'steps'},
        el('button', {'class': 'key', onclick: function () { list.next(-1); }}, 'previous'),
        el('button', {'class': 'key', onclick: function () { list.next(1); }}, 'next'))),
      facts([['steps', length.toLocaleString('en')], ['lasts', (length / about.fps).toFixed(1) + ' s'],
        ['success', {true: 'yes', false: 'no'}[episode.success] || 'not recorded'], ['splits', episode.splits.join(', ')],
        ['shard', episode.shard], ['with it', episode.extras.join(', ')]]),
      told,
      found.length > 0 && el('div', {'class': 'found', role: 'note'}, el('b', null, many(found.length, 'finding')), el('ul', null, found.map(function (f) {
        return el('li', null, f.kind.replace(/_/g, ' ') + ': ' + f.message + ' ', f.frames && el('button', {onclick: function () { stop(); seek(f.frames[0]); }},
          'steps ' + f.frames[0] + ' to ' + (f.frames[1] - 1)), f.picture && el('code', null, f.picture));
      }))),
      cameras.length > 0 && el('div', {'class': 'cameras'}, cameras.map(function (c) {
        return el('figure', null, c.image, el('figcaption', null, c.name));
      })),
      el('div', {'class': 'player'}, play, slider, now),
      strip.length > 0 && el('div', {'class': 'strip', 'aria-label': 'film strip'}, strip.map(function (s) { return s.node; })),
      el('div', {'class': 'plots'}, plots.map(function (p) { return p.node; })),
      keysHelp([[['↑', '↓'], 'episode'], [['←', '→'], 'step'], [['space'], 'play'], [['/'], 'search'], [['f'], 'next with findings']]));
    seek(0);
    cameras.forEach(function (c) {  // the next frames are asked for before they are needed
      for (var t = 1; t < Math.min(length, 24) && !EMBEDDED.answers; t += 1) { new Image().src = path(c.name, t); }
    });
  }

  function stop() { playing = 0; if (current) { current.stopped(); } }

  document.addEventListener('keydown', function (event) {
    if (!about || isTyping(event)) { return; }
    var key = event.key;
    if (key === '/') { search.focus(); }
    else if (key === 'ArrowDown' || key === 'j') { list.next(1); }
    else if (key === 'ArrowUp' || key === 'k') { list.next(-1); }
    else if (key === 'f') {
      var rows = list.rows();
      for (var d = 1; d <= rows.length; d += 1) {
        var at = (list.at() + d + rows.length) % rows.length;
        if (findings[about.ids[rows[at]]]) { list.go(at); break; }
      }
    }
    else if (current && key === ' ' && event.target.tagName !== 'BUTTON') { current.toggle(); }
    else if (current && event.target.type !== 'range' && (key === 'ArrowRight' || key === 'ArrowLeft')) {
      stop(); current.seek(current.step() + (key === 'ArrowRight' ? 1 : -1) * (event.shiftKey ? 10 : 1));
    }
    else { return; }
    event.preventDefault();
  });

  load('api/dataset').then(function (value) {
    about = value;
    split = choice('split', [['', 'all splits']].concat(about.splits.map(function (s, k) { return [k, s]; })), filter);
    var known = {};
    about.success.forEach(function (s) { known[s] = true; });
    outcome = known[0] || known[1] ? choice('outcome', [['', 'any outcome'], ['1', 'success'], ['0', 'failure'], ['-1', 'not recorded']], filter) : null;
    task = about.tasks.length > 1 && about.tasks.length <= 200 ? choice('task', [['', 'all tasks']].concat(about.tasks.map(function (t, k) { return [k, t || '(no text)']; })), filter) : null;
    flagged = el('input', {type: 'checkbox', onchange: filter});
    order = choice('order', [['', 'as recorded'], ['long', 'longest first'], ['short', 'shortest first']], filter);
    put(root, facts(about.facts), about.note && el('p', {'class': 'note'}, about.note), el('div', {'class': 'browser'},
      el('div', {'class': 'side'}, el('div', {'class': 'tools'}, search, split, outcome, task, order,
        el('label', {'class': 'count'}, flagged, ' with findings'), count), list.node), detail));
    filter();
    var wanted = about.ids.indexOf(decodeURIComponent(location.hash.slice(1)));
    list.go(Math.max(0, wanted));
    load('api/findings').then(function (value) {
      findings = value.by_episode;
      filter();
      if (value.general.length) {
        root.insertBefore(el('div', {'class': 'found'}, el('ul', null, value.general.map(function (f) { return el('li', null, f); }))), root.lastChild);
      }
      if (findings[about.ids[chosen]]) { open(chosen); }
    }, function () { /* without findings the page is whole */ });
  }, failed(root));
}

// -------------------------------------------------------------------------------------------- an evaluation's episodes

function evaluationPage(root) {
  var about = null, chosen = null, token = 0;
  var list = longList('episodes', item, open), detail = el('div', {'class': 'detail', 'aria-live': 'polite'}), status, order, search;
  var count = el('span', {'class': 'count'});
  function item(row) {
    return [el('span', {'class': 'dot ' + row.status, title: row.status}), el('span', {'class': 'id'}, 'seed ' + row.seed),
      row.video && el('span', {'class': 'dim'}, 'clip'), el('span', {'class': 'dim'}, row.status + ', ' + row.steps)];
  }
  function filter() {
    var words = search.value.trim();
    var rows = about.rows.filter(function (row) {
      return (!status.value || row.status === status.value) && (!words || String(row.seed).indexOf(words) >= 0 ||
        (row.told || '').toLowerCase().indexOf(words.toLowerCase()) >= 0);
    });
    if (order.value === 'steps') { rows.sort(function (a, b) { return b.steps - a.steps; }); }
    if (order.value === 'reward') { rows.sort(function (a, b) { return a.sum_reward - b.sum_reward; }); }
    count.textContent = rows.length + ' of ' + about.rows.length;
    list.show(rows, chosen);
  }
  function open(row) {
    chosen = row;
    var mine = token += 1, film = el('div', {'class': 'clip'}), plots = el('div', {'class': 'plots'});
    try { history.replaceState(null, '', '#' + row.seed); } catch (error) { /* a page from a file */ }
    function play(path) {
      put(film, el('video', {controls: true, autoplay: !EMBEDDED.answers, loop: true, muted: true, playsinline: true, src: path,
        'aria-label': 'seed ' + row.seed + ', ' + row.status, onerror: function () {
          load('api/clip/' + row.seed).then(function () {}, failed(film));
        }}));
    }
    if (row.video) { play(media('clip/' + row.seed + '.mp4')); }
    else if (row.can_draw && !EMBEDDED.answers) {
      put(film, el('button', {'class': 'key', onclick: function () {
        put(film, el('p', {'class': 'empty'}, 'Played again in the simulator, from its recorded actions.'));
        play('clip/' + row.seed + '.mp4');
      }}, 'draw it'));
    }
    else { put(film, el('p', {'class': 'empty'}, 'This episode was not recorded.')); }
    put(detail, el('div', {'class': 'title'}, el('h2', null, 'Seed ' + row.seed + ': ' + row.status), el('div', {'class': 'steps'},
      el('button', {'class': 'key', onclick: function () { list.next(-1); }}, 'previous'),
      el('button', {'class': 'key', onclick: function () { list.next(1); }}, 'next'))),
      facts([['steps', row.steps], ['sum of rewards', short(row.sum_reward)], ['largest reward', short(row.max_reward)],
        ['took', row.wall_s.toFixed(1) + ' s'], ['attempt', row.attempt > 1 ? row.attempt : '']]),
      row.told && el('p', {'class': 'told'}, '“' + row.told + '”'),
      row.error && el('pre', {'class': 'error'}, row.error), film, plots,
      keysHelp([[['↑', '↓'], 'episode'], [['space'], 'play'], [['/'], 'search']]));
    load('api/rollout/' + row.seed).then(function (found) {
      if (mine !== token || !found.features.length) { return; }
      put(plots, found.features.map(function (f) {
        var p = panel(f, found.length, found.stride, [], function (t) { p.at(Math.min(found.length - 1, Math.max(0, t))); });
        p.at(0);
        return p.node;
      }));
    }, function () { /* the actions were not kept */ });
  }
  document.addEventListener('keydown', function (event) {
    if (!about || isTyping(event)) { return; }
    var video = detail.querySelector('video');
    if (event.key === '/') { search.focus(); }
    else if (event.key === 'ArrowDown' || event.key === 'j') { list.next(1); }
    else if (event.key === 'ArrowUp' || event.key === 'k') { list.next(-1); }
    else if (event.key === ' ' && video && event.target.tagName !== 'BUTTON') { if (video.paused) { video.play(); } else { video.pause(); } }
    else { return; }
    event.preventDefault();
  });
  load('api/evaluation').then(function (value) {
    about = value;
    search = el('input', {type: 'search', placeholder: 'seed or instruction', 'aria-label': 'search episodes', oninput: filter});
    status = choice('outcome', [['', 'any outcome'], ['success', 'success'], ['failure', 'failure'], ['crashed', 'crashed']], filter);
    order = choice('order', [['', 'by seed'], ['steps', 'longest first'], ['reward', 'least reward first']], filter);
    put(root, el('div', {'class': 'summary'}, el('span', {'class': 'big'}, about.rate.toFixed(2)), rateBar(about.low, about.rate, about.high),
      el('p', null, about.sentence)), facts(about.facts), about.note && el('p', {'class': 'note'}, about.note),
      el('div', {'class': 'browser'}, el('div', {'class': 'side'}, el('div', {'class': 'tools'}, search, status, order, count), list.node), detail));
    filter();
    var wanted = about.rows.filter(function (row) { return String(row.seed) === location.hash.slice(1); })[0];
    list.go(Math.max(0, list.rows().indexOf(wanted)));
  }, failed(root));
}

// ------------------------------------------------------------------------------------------------ all runs of a store

function indexPage(root) {
  load('api/index').then(function (about) {
    var picked = [], order = 'rate', words = '', table = el('div', {'class': 'groups'}), pair = el('div');
    function key(run) {
      return {rate: -(run.n ? run.rate : -1), at: -run.at, name: 0}[order];
    }
    function sorted(a, b) {
      if (order === 'name') { return a.name < b.name ? -1 : 1; }
      return key(a) - key(b) || (b.low || 0) - (a.low || 0) || b.at - a.at;
    }
    function pick(run, on) {
      picked = picked.filter(function (one) { return one !== run; });
      if (on) { picked = picked.concat([run]).slice(-2); }
      draw();
      drawPair();
      if (picked.length === 2) { pair.scrollIntoView({block: 'start'}); }
    }
    function heading(name, label, more) {
      return el('th', {scope: 'col', 'class': more, 'aria-sort': order === name ? 'descending' : null}, el('button', {onclick: function () { order = name; draw(); }}, label));
    }
    function row(run, place) {
      return el('tr', {'class': picked.indexOf(run) >= 0 ? 'on' : ''},
        el('td', {'class': 'pickcell'}, el('input', {type: 'checkbox', checked: picked.indexOf(run) >= 0, 'aria-label': 'compare ' + run.name,
          onchange: function (event) { pick(run, event.target.checked); }})),
        el('td', {'class': 'num hide'}, order === 'rate' && run.n ? place + 1 : ''),
        el('td', {'class': 'what named'}, EMBEDDED.answers ? run.name : el('a', {href: '/run/' + run.id + '/'}, run.name),
          el('span', {'class': 'sub'}, [run.champion ? 'champion' : '', run.policies.length > 1 ? run.policies.join(', ') : '', run.num_trials > 1 ? run.num_trials + ' trials' : ''].filter(Boolean).join(' · '))),
        el('td', {'class': 'rated nowrap'}, run.n ? run.rate.toFixed(2) : '', run.n > 0 && el('span', {'class': 'dim'}, ' ' + run.low.toFixed(2) + '–' + run.high.toFixed(2))),
        el('td', {'class': 'barred'}, run.n > 0 && rateBar(run.low, run.rate, run.high)),
        el('td', {'class': 'num hide'}, run.n ? run.successes + '/' + run.n : ''),
        el('td', {'class': 'nowrap more'}, run.when.slice(0, 16).replace('T', ' ')),
        el('td', {'class': 'more what', title: run.verdict}, decision(run.verdict)));
    }
    function decision(verdict) {  // what was decided; its rate stands beside it
      var last = verdict.slice(verdict.lastIndexOf(': ') + 2);
      return verdict.indexOf(': ') > 0 && last.length < 40 ? last : verdict;
    }
    function draw() {
      var runs = about.runs.filter(function (run) {
        return !words || (run.name + ' ' + run.task + ' ' + run.policies.join(' ') + ' ' + run.verdict).toLowerCase().indexOf(words) >= 0;
      });
      var tasks = [];
      runs.forEach(function (run) { if (tasks.indexOf(run.task) < 0) { tasks.push(run.task); } });
      put(table, tasks.map(function (task) {
        var own = runs.filter(function (run) { return run.task === task; }).sort(sorted);
        return el('section', null, el('h2', null, task || 'Task unknown'), el('p', {'class': 'lede'}, many(own.length, 'run') +
          '; rates of winners on confirmation seeds, with 95 % intervals.'),
          el('table', {'class': 'runs'}, el('thead', null, el('tr', null, el('th', {scope: 'col'}, ''), el('th', {scope: 'col', 'class': 'num'}, ''), heading('name', 'run'),
            heading('rate', 'success, 95 %'), el('th', {scope: 'col'}, ''), el('th', {scope: 'col', 'class': 'num'}, 'n'), heading('at', 'when (UTC)'), el('th', {scope: 'col'}, 'verdict'))),
            el('tbody', null, own.map(row))));
      }), !runs.length && el('p', {'class': 'empty'}, 'No run fits.'));
    }
    function side(run, k) {
      return el('div', {'class': 'rate'}, el('p', {'class': 'who'}, run.name), run.n > 0 && rateBar(run.low, run.rate, run.high),
        el('p', null, run.n ? run.sentence : 'no rate yet'), el('p', {'class': 'count'}, run.verdict));
    }
    function drawPair() {
      if (picked.length < 2) { put(pair, picked.length === 1 && el('p', {'class': 'note'}, 'Choose a second run to see what changed.')); return; }
      var a = picked[0], b = picked[1], groups = [['Data', 'data'], ['Configuration', 'config'], ['Code', 'code']];
      put(pair, el('section', {id: 'pair'}, el('h2', null, 'What changed'), el('div', {'class': 'pair'}, side(a), side(b)),
        a.n > 0 && b.n > 0 && el('p', {'class': 'note'}, 'Intervals of two runs say little about their difference: ', el('code', null, 'tendon compare'),
          ' plays both on the same fresh seeds.'),
        el('div', {'class': 'scroll'}, el('table', {'class': 'changes'}, el('tbody', null, groups.map(function (g) {
          var names = Object.keys(a[g[1]]).concat(Object.keys(b[g[1]])).filter(function (n, k, all) { return all.indexOf(n) === k; }).sort();
          var changed = names.filter(function (n) { return a[g[1]][n] !== b[g[1]][n]; });
          return [el('tr', null, el('th', {'class': 'group', colspan: 3, scope: 'rowgroup'}, g[0] + (changed.length ? ': ' + many(changed.length, 'change') : ': the same'))),
            changed.map(function (n) {
              return el('tr', null, el('td', {'class': 'name'}, n), el('td', null, a[g[1]][n] === undefined ? '–' : a[g[1]][n]), el('td', null, b[g[1]][n] === undefined ? '–' : b[g[1]][n]));
            })];
        }))))));
    }
    put(root, facts(about.facts),
      about.champions.length > 0 && el('section', null, el('h2', null, 'Champions over time'), el('div', {'class': 'history'}, about.champions.map(championHistory))),
      el('div', {'class': 'tools', style: 'border:0;padding:18px 0 0'}, el('input', {type: 'search', placeholder: 'run, task or policy', 'aria-label': 'search runs', oninput: function (event) {
        words = event.target.value.trim().toLowerCase(); draw();
      }}), el('span', {'class': 'count'}, 'mark two runs to compare them')), pair, table);
    draw();
  }, failed(root));
}

function championHistory(champion) {
  var W = 480, H = 170, left = 40, right = W - 14, top = 12, bottom = H - 34, points = champion.points;
  var first = points[0].at, last = Math.max(points[points.length - 1].at, first + 60), span = last - first;
  function x(at) { return points.length === 1 ? (left + right) / 2 : left + 12 + (at - first) / span * (right - left - 24); }
  function y(rate) { return bottom - rate * (bottom - top); }
  var path = points.map(function (p, k) { return (k ? 'H' + x(p.at).toFixed(1) + 'V' : 'M' + x(p.at).toFixed(1) + ' ') + y(p.rate).toFixed(1); }).join('') + 'H' + right;
  return el('figure', null, el('figcaption', null, el('b', null, champion.name), ': ' + champion.sentence),
    svg('svg', {viewBox: '0 0 ' + W + ' ' + H, role: 'img', 'font-size': 12, 'aria-label': 'success rate of champion ' + champion.name + ' over time'},
      [0, 0.5, 1].map(function (t) {
        return [svg('line', {x1: left, x2: right, y1: y(t), y2: y(t), 'class': 'g'}), svg('text', {x: left - 8, y: y(t) + 4, 'class': 't', 'text-anchor': 'end'}, t)];
      }),
      svg('path', {d: path, fill: 'none', 'class': 'l s0'}),
      points.map(function (p) {
        return [svg('line', {x1: x(p.at), x2: x(p.at), y1: y(p.low), y2: y(p.high), 'class': 'w s0'}),
          svg('circle', {cx: x(p.at), cy: y(p.rate), r: 4, 'class': 'm s0'}, svg('title', null, p.when.slice(0, 10) + ': ' + p.rate.toFixed(2) + ' (' + p.policy + ')'))];
      }),
      svg('text', {x: points.length === 1 ? x(first) : left, y: H - 12, 'class': 't', 'text-anchor': points.length === 1 ? 'middle' : 'start'}, points[0].when.slice(0, 10)),
      points.length > 1 && svg('text', {x: right, y: H - 12, 'class': 't', 'text-anchor': 'end'}, points[points.length - 1].when.slice(0, 10))));
}

({dataset: datasetPage, evaluation: evaluationPage, index: indexPage})[EMBEDDED.kind](document.getElementById('view'));

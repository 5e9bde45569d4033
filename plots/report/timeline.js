/* Timelines on a canvas: a row for each track, time to the right. Drag or arrow keys move, wheel
   with Ctrl, pinch, buttons and + - zoom; the pointer or N and P select an operation and show its
   layer, expert and cause. Data: eight numbers for each operation (track, name, cause, start and
   length in ns, layer, expert, slot; -1: none). */
"use strict";
(function() {
var FIELDS = 8, ROW = 30, AXIS = 26, GAP = 4, LEFT = 6, HEAD = 15;
var colours = {
    hit: "--hit",
    "in-flight hit": "--hit",
    miss: "--miss",
    "late fill": "--wait",
    "on demand": "--wait",
    prefetch: "--copy",
    fill: "--copy",
    attend: "--gpu",
    head: "--gpu",
    combine: "--gpu",
    "state down": "--state",
    "state up": "--state"
};

function element(name, parent, text) {
    var e = document.createElement(name);
    if (text !== undefined)
        e.textContent = text;
    if (parent)
        parent.appendChild(e);
    return e;
}
function showTime(ns) {
    var unit = ns < 1e3   ? [1, "ns"]
               : ns < 1e6 ? [1e3, "\u00b5s"]
               : ns < 1e9 ? [1e6, "ms"]
                          : [1e9, "s"];
    return String(Number((ns / unit[0]).toPrecision(4))) + " " + unit[1];
}
/* 1, 2 or 5 times a power of ten, at least `least`. */
function niceStep(least) {
    var power = Math.pow(10, Math.floor(Math.log10(least)));
    return [1, 2, 5, 10]
        .map(function(m) { return m * power; })
        .find(function(s) { return s >= least; });
}

/* The operations of each track, in the order of their starts. */
function arrange(data) {
    var e = data.events,
        tracks = data.tracks.map(function(name) { return {name: name, ops: [], longest: 0}; });
    for (var i = 0; i + FIELDS <= e.length; i += FIELDS) {
        tracks[e[i]].ops.push({
            name: data.words[e[i + 1]],
            cause: data.words[e[i + 2]],
            start: e[i + 3],
            length: e[i + 4],
            layer: e[i + 5],
            expert: e[i + 6],
            slot: e[i + 7]
        });
        tracks[e[i]].longest = Math.max(tracks[e[i]].longest, e[i + 4]);
    }
    tracks = tracks.filter(function(t) { return t.ops.length; });
    tracks.forEach(function(t) { t.ops.sort(function(a, b) { return a.start - b.start; }); });
    return tracks;
}
function firstFrom(ops, time) {
    var low = 0, high = ops.length;
    while (low < high) {
        var middle = (low + high) >> 1;
        if (ops[middle].start < time)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}
function describe(track, op) {
    var parts = [track.name + ": " + op.name];
    if (op.cause !== op.name)
        parts.push(op.cause);
    if (op.layer >= 0)
        parts.push("layer " + op.layer);
    if (op.expert >= 0)
        parts.push("expert " + op.expert);
    if (op.slot >= 0)
        parts.push("slot " + op.slot);
    return parts.join(", ") + ", " + showTime(op.length) + " from " + showTime(op.start);
}

function Viewer(box) {
    var data = JSON.parse(box.querySelector("script").textContent);
    this.box = box;
    this.tracks = arrange(data);
    this.end = 1;
    this.tracks.forEach(function(t) {
        t.ops.forEach(function(op) { this.end = Math.max(this.end, op.start + op.length); }, this);
    }, this);
    if (!this.tracks.length)
        return;
    this.track = 0;
    this.op = -1;
    this.pointers = new Map();
    this.build();
    this.listen();
    this.fit();
    box.classList.add("on");
    this.resize();
}
Viewer.prototype.build = function() {
    var tools = element("div", this.box), self = this;
    tools.className = "tools";
    [["\u2212", "Zoom out", function() { self.zoom(2); }],
     ["+", "Zoom in", function() { self.zoom(.5); }],
     ["\u2190", "Earlier", function() { self.pan(-.25); }],
     ["\u2192", "Later", function() { self.pan(.25); }],
     ["All", "Show all", function() { self.fit(); }]]
        .forEach(function(t) {
            var b = element("button", tools, t[0]);
            b.type = "button";
            b.setAttribute("aria-label", t[1]);
            b.addEventListener("click", t[2]);
        });
    this.range = element("span", tools);
    this.view = element("div", this.box);
    this.view.className = "view";
    this.canvas = element("canvas", this.view);
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "application");
    this.canvas.setAttribute("aria-label", "Timeline; the table below tells the same by track");
    this.tip = element("div", this.view);
    this.tip.className = "tip";
    this.tip.hidden = true;
    this.told = element("output", this.box);
    this.told.setAttribute("aria-live", "polite");
    var keys = "Drag, arrow keys: move. + \u2212, Ctrl and wheel, pinch: zoom. ";
    keys += "N, P: next and previous operation; up, down: track; Home: all.";
    element("p", this.box, keys).className = "keys";
    this.legend = element("ul", this.box);
    this.legend.className = "legend";
};
Viewer.prototype.colour = function(
    op) { return colours[op.name === "expert" ? op.cause : op.name] || "--other"; };
Viewer.prototype.fillLegend = function() {
    var seen = new Map();
    this.tracks.forEach(function(t) {
        t.ops.forEach(function(op) {
            var label = op.cause === op.name ? op.name : op.name + ", " + op.cause;
            if (seen.size < 16 && !seen.has(label))
                seen.set(label, this.colour(op));
        }, this);
    }, this);
    this.legend.textContent = "";
    seen.forEach(function(colour, label) {
        var item = element("li", this.legend);
        element("i", item).style.background = "var(" + colour + ")";
        item.appendChild(document.createTextNode(label));
    }, this);
};
Viewer.prototype.listen = function() {
    var self = this, c = this.canvas;
    c.addEventListener("pointerdown", function(e) { self.down(e); });
    c.addEventListener("pointermove", function(e) { self.move(e); });
    ["pointerup", "pointercancel"].forEach(function(
        n) { c.addEventListener(n, function(e) { self.pointers.delete(e.pointerId); }); });
    c.addEventListener("pointerleave", function() { self.tip.hidden = true; });
    c.addEventListener("dblclick", function(e) { self.zoom(.4, self.time(e.offsetX)); });
    c.addEventListener("wheel", function(e) { self.wheel(e); }, {passive: false});
    c.addEventListener("keydown", function(e) { self.key(e); });
    document.addEventListener("report-colours", function() { self.draw(); });
    new ResizeObserver(function() { self.resize(); }).observe(this.view);
};
Viewer.prototype.time = function(
    x) { return this.from + (x - LEFT) / (this.width - 2 * LEFT) * (this.to - this.from); };
Viewer.prototype.show = function(from, to) {
    var span = Math.min(Math.max(to - from, 50), this.end);
    this.from = Math.min(Math.max(from, 0), this.end - span);
    this.to = this.from + span;
    this.range.textContent = showTime(this.from) + " to " + showTime(this.to);
    this.draw();
};
Viewer.prototype.fit = function() { this.show(0, this.end); };
Viewer.prototype.pan = function(share) {
    var by = (this.to - this.from) * share;
    this.show(this.from + by, this.to + by);
};
Viewer.prototype.zoom = function(factor, around) {
    var at = around === undefined ? (this.from + this.to) / 2 : around;
    this.show(at - (at - this.from) * factor, at + (this.to - at) * factor);
};
Viewer.prototype.find = function(x, y) {
    var row = Math.floor((y - AXIS) / (ROW + HEAD)), track = this.tracks[row];
    if (!track || y - AXIS - row * (ROW + HEAD) < HEAD)
        return null;
    var time = this.time(x), near = 2 * (this.to - this.from) / this.width;
    for (var i = firstFrom(track.ops, time + near) - 1; i >= 0; i--) {
        var op = track.ops[i];
        if (op.start + track.longest < time - near)
            break;
        if (op.start + op.length >= time - near)
            return {row: row, i: i};
    }
    return null;
};
Viewer.prototype.choose = function(row, i) {
    this.track = row;
    this.op = i;
    this.told.textContent = describe(this.tracks[row], this.tracks[row].ops[i]);
    this.draw();
};
Viewer.prototype.hover = function(e) {
    var found = this.find(e.offsetX, e.offsetY);
    this.tip.hidden = !found;
    if (!found)
        return;
    this.tip.textContent = describe(this.tracks[found.row], this.tracks[found.row].ops[found.i]);
    this.tip.style.left =
        Math.max(0, Math.min(e.offsetX + 12, this.width - this.tip.offsetWidth)) + "px";
    this.tip.style.top = e.offsetY + 14 + "px";
};
Viewer.prototype.down = function(e) {
    this.pointers.set(e.pointerId, e.offsetX);
    this.canvas.setPointerCapture(e.pointerId);
    var found = this.find(e.offsetX, e.offsetY);
    if (found)
        this.choose(found.row, found.i);
};
Viewer.prototype.move = function(e) {
    var last = this.pointers.get(e.pointerId),
        scale = (this.to - this.from) / (this.width - 2 * LEFT);
    if (last === undefined)
        return this.hover(e);
    this.tip.hidden = true;
    if (this.pointers.size === 1) {
        this.show(this.from - (e.offsetX - last) * scale, this.to - (e.offsetX - last) * scale);
    } else if (this.pointers.size === 2) {
        var other = 0;
        this.pointers.forEach(function(x, id) {
            if (id !== e.pointerId)
                other = x;
        });
        var before = Math.max(Math.abs(last - other), 8),
            after = Math.max(Math.abs(e.offsetX - other), 8);
        this.zoom(before / after, this.time(other));
    }
    this.pointers.set(e.pointerId, e.offsetX);
};
Viewer.prototype.wheel = function(e) {
    var sideways = Math.abs(e.deltaX) > Math.abs(e.deltaY) ? e.deltaX : e.shiftKey ? e.deltaY : 0;
    if (!e.ctrlKey && !e.metaKey && !sideways)
        return;
    e.preventDefault();
    if (sideways)
        this.pan(sideways / this.width);
    else
        this.zoom(Math.pow(1.0015, e.deltaY), this.time(e.offsetX));
};
Viewer.prototype.step = function(by) {
    var ops = this.tracks[this.track].ops;
    var i = this.op < 0 ? firstFrom(ops, this.from) : this.op + by;
    i = Math.min(Math.max(i, 0), ops.length - 1);
    var op = ops[i], span = this.to - this.from;
    if (op.start < this.from || op.start + op.length > this.to)
        this.show(op.start - span / 4, op.start + span * 3 / 4);
    this.choose(this.track, i);
};
Viewer.prototype.walk = function(by) {
    this.track = (this.track + by + this.tracks.length) % this.tracks.length;
    this.op = -1;
    this.step(0);
};
Viewer.prototype.key = function(e) {
    var self = this, actions = {
        ArrowLeft: function() { self.pan(-.1); },
        ArrowRight: function() { self.pan(.1); },
        ArrowUp: function() { self.walk(-1); },
        ArrowDown: function() { self.walk(1); },
        "+": function() { self.zoom(.5); },
        "=": function() { self.zoom(.5); },
        "-": function() { self.zoom(2); },
        Home: function() { self.fit(); },
        n: function() { self.step(1); },
        p: function() { self.step(-1); }
    };
    var action = e.ctrlKey || e.metaKey || e.altKey ? null : actions[e.key];
    if (!action)
        return;
    e.preventDefault();
    action();
};
Viewer.prototype.resize = function() {
    var ratio = window.devicePixelRatio || 1, width = this.view.clientWidth;
    var height = AXIS + this.tracks.length * (ROW + HEAD);
    if (!width || (width === this.width && ratio === this.ratio))
        return;
    this.width = width;
    this.ratio = ratio;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.canvas.style.height = height + "px";
    this.draw();
};
Viewer.prototype.drawAxis = function(g, style) {
    var scale = (this.width - 2 * LEFT) / (this.to - this.from), step = niceStep(90 / scale);
    g.font = "12px system-ui, 'DejaVu Sans', sans-serif";
    g.textBaseline = "middle";
    for (var t = Math.ceil(this.from / step) * step; t <= this.to; t += step) {
        var x = LEFT + (t - this.from) * scale, label = showTime(t);
        g.fillStyle = style.getPropertyValue("--line");
        g.fillRect(Math.round(x), AXIS - 6, 1, this.canvas.height);
        g.fillStyle = style.getPropertyValue("--faint");
        g.textAlign = x > this.width - 40 ? "right" : x < 40 ? "left" : "center";
        g.fillText(label, x, 10);
    }
    g.textAlign = "left";
};
Viewer.prototype.drawTrack = function(g, row, paint, chosen) {
    var track = this.tracks[row], scale = (this.width - 2 * LEFT) / (this.to - this.from);
    var y = AXIS + row * (ROW + HEAD) + HEAD, drawn = -1, last = "";
    for (var i = firstFrom(track.ops, this.from - track.longest); i < track.ops.length; i++) {
        var op = track.ops[i], x = LEFT + (op.start - this.from) * scale, w = op.length * scale;
        if (op.start > this.to)
            break;
        if (op.start + op.length < this.from)
            continue;
        var left = Math.max(x, 0), right = Math.min(x + w, this.width), colour = this.colour(op);
        if (right < drawn && colour === last)
            continue; /* a larger one covers it already */
        g.fillStyle = paint(colour);
        g.fillRect(left, y, Math.max(right - left - (w > 4 ? 1 : 0), 1), ROW - GAP);
        drawn = Math.ceil(Math.max(right, left + 1));
        last = colour;
        if (w > 30) {
            var label = op.expert >= 0  ? "L" + op.layer + " E" + op.expert
                        : op.layer >= 0 ? op.name + " L" + op.layer
                                        : op.name;
            g.fillStyle = colour === "--gpu" ? "#fff" : "#000";
            if (g.measureText(label).width + 8 <= right - left) /* only labels that fit whole */
                g.fillText(label, left + 4, y + (ROW - GAP) / 2 + 1);
        }
        if (row === this.track && i === this.op)
            chosen(left, y, Math.max(right - left, 3));
    }
};
Viewer.prototype.draw = function() {
    if (!this.width)
        return;
    var g = this.canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
    var cache = {}, mark = null;
    function paint(name) { return cache[name] || (cache[name] = style.getPropertyValue(name)); }
    if (!this.legend.firstChild)
        this.fillLegend();
    g.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    g.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.drawAxis(g, style);
    for (var row = 0; row < this.tracks.length; row++) {
        this.drawTrack(g, row, paint, function(x, y, w) { mark = [x, y, w]; });
        g.fillStyle = paint("--text");
        g.fillText(this.tracks[row].name, LEFT, AXIS + row * (ROW + HEAD) + HEAD / 2);
    }
    if (mark) {
        g.strokeStyle = paint("--text");
        g.lineWidth = 2.5;
        g.strokeRect(mark[0], mark[1] - 1, mark[2], ROW - GAP + 2);
    }
};
document.querySelectorAll(".timeline").forEach(function(box) { new Viewer(box); });
})();

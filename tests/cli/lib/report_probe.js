/* tests/cli/report_browser.sh appends this to a report. It uses the page as a reader does and sends
   a line "ok: ..." or "BAD: ..." for every expectation to the page that frames it. */
"use strict";
addEventListener("load", function() {
    var lines = [];
    function check(what, good) { lines.push((good ? "ok: " : "BAD: ") + what); }
    function all(selector, from) {
        return Array.from((from || document).querySelectorAll(selector));
    }

    /* Tables: the first one of a file speeds.tsv. */
    var table =
        all("table").find(function(t) { return t.caption.textContent.startsWith("speeds.tsv"); });
    var heads = Array.from(table.tHead.rows[0].cells);
    function column(title) {
        var c = heads.findIndex(function(h) { return h.title === title; });
        return Array.from(table.tBodies[0].rows)
            .map(function(r) { return r.cells[c].textContent; })
            .join("|");
    }
    function click(title) {
        heads.find(function(h) { return h.title === title; }).querySelector("button").click();
        return column(title);
    }
    var speeds = column("tokens_per_s"),
        head = heads.find(function(h) { return h.title === "tokens_per_s"; });
    check("as in the file: " + speeds, speeds === "9.5|10.25|\u2013|best 100.1|2.5");
    check("the column tells its unit: " + head.textContent,
          head.querySelector(".unit").textContent === "tokens/s");
    check("numbers stand right",
          getComputedStyle(table.tBodies[0].rows[0].cells[heads.indexOf(head)]).textAlign ===
              "right");
    speeds = click("tokens_per_s");
    check("largest first: " + speeds, speeds === "best 100.1|10.25|9.5|2.5|\u2013");
    check("the sort is told", head.getAttribute("aria-sort") === "descending");
    check("rows stay whole: " + column("note"), column("note") === "delta|alpha|beta|gamma|\u2013");
    speeds = click("tokens_per_s");
    check("smallest first, none last: " + speeds, speeds === "2.5|9.5|10.25|best 100.1|\u2013");
    speeds = click("tokens_per_s");
    check("as in the file again: " + speeds, speeds === "9.5|10.25|\u2013|best 100.1|2.5");
    check("text from a: " + click("note"), column("note") === "alpha|beta|delta|gamma|\u2013");
    check("only one column sorts",
          all("[aria-sort]", table).length === 1 && !head.hasAttribute("aria-sort"));
    click("note");

    /* The timeline, with keys. */
    var box = document.querySelector(".timeline"), canvas = box.querySelector("canvas"),
        told = box.querySelector("output");
    function key(name) {
        canvas.dispatchEvent(
            new KeyboardEvent("keydown", {key: name, bubbles: true, cancelable: true}));
    }
    function range() { return box.querySelector(".tools span").textContent; }
    check("all at first: " + range(), range() === "0 ns to 2 ms");
    key("n");
    check("an operation: " + told.textContent,
          told.textContent === "GPU compute: attend, layer 3, 600 \u00b5s from 0 ns");
    key("ArrowDown");
    check("the next track: " + told.textContent,
          told.textContent === "<\/script><b>CPU: expert, miss, layer 3, expert 5, slot 1, " +
                                   "400 \u00b5s from 600 \u00b5s");
    key("n");
    check("the next operation: " + told.textContent,
          told.textContent.endsWith("hit, layer 4, expert 6, 1 ms from 1 ms"));
    key("+");
    check("zoomed: " + range(), range() === "500 \u00b5s to 1.5 ms");
    key("ArrowLeft");
    check("moved: " + range(), range() === "400 \u00b5s to 1.4 ms");
    all("button", box).find(function(b) { return b.textContent === "All"; }).click();
    check("all again: " + range(), range() === "0 ns to 2 ms");
    var rect = canvas.getBoundingClientRect();
    function pointer(kind, x, y) {
        canvas.dispatchEvent(new PointerEvent(
            kind, {pointerId: 1, clientX: rect.left + x, clientY: rect.top + y, bubbles: true}));
    }
    pointer("pointermove", rect.width / 10, 55);
    var tip = box.querySelector(".tip");
    check("a tip: " + tip.textContent,
          !tip.hidden && tip.textContent.startsWith("GPU compute: attend"));
    canvas.dispatchEvent(new WheelEvent("wheel", {
        deltaY: -400,
        ctrlKey: true,
        clientX: rect.left + 6,
        clientY: rect.top + 50,
        cancelable: true
    }));
    check("wheel zooms at the pointer: " + range(), /^0 ns to 1\.0\d+ ms$/.test(range()));
    var pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    check("something is drawn", pixels.some(function(p) { return p > 0; }));

    /* Touch: one finger drags, two pinch. (Synthetic pointers cannot be captured.) */
    canvas.setPointerCapture = function() {};
    function finger(kind, id, x) {
        canvas.dispatchEvent(new PointerEvent(kind, {
            pointerId: id,
            pointerType: "touch",
            clientX: rect.left + x,
            clientY: rect.top + 55,
            bubbles: true
        }));
    }
    all("button", box).find(function(b) { return b.textContent === "All"; }).click();
    key("+");
    var inner = rect.width - 12, before = range();
    finger("pointerdown", 1, 6 + inner / 2);
    finger("pointermove", 1, 6 + inner / 4);
    check("dragged from " + before + ": " + range(), range() === "750 \u00b5s to 1.75 ms");
    finger("pointerdown", 2, 6);
    finger("pointermove", 1, 6 + inner / 2);
    check("pinched: " + range(), range() === "750 \u00b5s to 1.25 ms");
    finger("pointerup", 1, 6);
    finger("pointerup", 2, 6);
    check("a finger chose: " + told.textContent, told.textContent !== "");

    /* The page. */
    check("no part is wider than the window: " + document.documentElement.scrollWidth + " in " +
              innerWidth,
          document.documentElement.scrollWidth <= innerWidth);
    check("one heading of the first order, none left out",
          all("h1").length === 1 && all("h1,h2,h3").every(function(h, i, list) {
              return !i || h.tagName[1] - list[i - 1].tagName[1] < 2;
          }));
    check("pictures are named",
          all("img").every(function(i) { return i.alt; }) && all("svg").every(function(s) {
              return s.getAttribute("role") === "img" && s.querySelector("title").textContent;
          }));
    check("controls are named",
          all("button,a").every(function(b) { return b.textContent.trim(); }));
    check("ids are one each",
          new Set(all("[id]").map(function(e) { return e.id; })).size === all("[id]").length);
    check("links lead somewhere", all("a[href^='#']").every(function(a) {
        return document.getElementById(a.getAttribute("href").slice(1));
    }));
    all("a,button,summary,[tabindex]").forEach(function(e) {
        e.focus();
        if (document.activeElement === e && getComputedStyle(e).outlineStyle === "none")
            check("focus shows on " + e.outerHTML.slice(0, 60), false);
    });

    /* Contrast of text with its background by WCAG 2: at least 4.5. */
    function rgb(css) { return (css.match(/[\d.]+/g) || []).map(Number); }
    function light(c) {
        return c.slice(0, 3)
            .map(function(v) {
                v /= 255;
                return v <= .04045 ? v / 12.92 : Math.pow((v + .055) / 1.055, 2.4);
            })
            .reduce(function(sum, v, i) {
                return sum + v * [.2126, .7152, .0722][i];
            }, 0);
    }
    function behind(e) {
        for (; e; e = e.parentElement) {
            var style = getComputedStyle(e), bar = style.backgroundImage.match(/rgba?\([^)]*\)/);
            if (bar)
                return rgb(bar[0]);
            if (rgb(style.backgroundColor)[3] !== 0)
                return rgb(style.backgroundColor);
        }
        return [255, 255, 255];
    }
    function contrasts(theme) {
        var worst = 99, where = "";
        all("body *:not(script):not(svg *)").forEach(function(e) {
            var own = Array.from(e.childNodes)
                          .some(function(n) { return n.nodeType === 3 && n.data.trim(); });
            if (!own || !e.getClientRects().length)
                return;
            var a = light(rgb(getComputedStyle(e).color)), b = light(behind(e));
            var ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
            if (ratio < worst) {
                worst = ratio;
                where = e.outerHTML.slice(0, 80);
            }
        });
        check("contrast " + theme + ": " + worst.toFixed(2) + " " + where, worst >= 4.5);
    }
    var button = document.querySelector("button.theme"), page = document.documentElement;
    var dark = matchMedia("(prefers-color-scheme: dark)").matches;
    check("the system is " + (dark ? "dark" : "light"),
          (light(behind(document.body)) < .5) === dark);
    all("details").forEach(function(d) { d.open = true; });
    ["light", "dark"].forEach(function(theme) {
        button.click();
        check("the switch: " + button.textContent, page.dataset.theme === theme);
        check(theme + " is " + theme, (light(behind(document.body)) > .5) === (theme === "light"));
        contrasts(theme);
    });
    button.click();
    check("as the system again", !page.dataset.theme);

    dispatchEvent(new Event("beforeprint"));
    check("print is light", light(behind(document.body)) > .5);
    dispatchEvent(new Event("afterprint"));
    check("and afterwards as before", !page.dataset.theme);

    check("nothing was fetched", performance.getEntriesByType("resource")
                                     .every(function(r) { return r.name.startsWith("data:"); }));
    check("no errors: " + window.probe_errors, window.probe_errors.length === 0);
    check("end", true);
    parent.postMessage("\n" + lines.join("\n") + "\n", "*");
});

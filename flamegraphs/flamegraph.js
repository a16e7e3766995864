/* SPDX-License-Identifier: MIT
 * The flame graph's behaviour: zoom, search, keys, and the address that brings a view back.
 * Everything is computed from data-x and data-n (samples) of the boxes; names are read from their titles. */
(function () {
    "use strict";
    var SVG = "http://www.w3.org/2000/svg", XHTML = "http://www.w3.org/1999/xhtml";
    var PAD = 16, TEXT_PAD = 4, ROW = 19, MIN_WIDTH = 720, MIN_BOX = 0.1;
    var here = document.currentScript;
    var svg = (here && here.ownerSVGElement) || document.documentElement;
    var group = find("frames"), controls = find("controls"), matchedText = find("matched"), details = find("details");
    var all = Number(group.getAttribute("data-samples")), rows = Number(group.getAttribute("data-rows")), rowsShown = rows;
    var icicle = group.classList.contains("icicle"), fileHeight = Number(svg.getAttribute("height"));
    var boxes = [], root = null, zoomed = null, width = 1200, column = 7.23;
    var title = svg.querySelector("title").textContent, pattern = "", ignoreCase = false, matches = [], input = null, shown = null;

    function find(id) {
        return svg.querySelector("#" + id);
    }

    function make(tag, parent) {
        return parent.appendChild(document.createElementNS(SVG, tag));
    }

    function percent(part, whole) {
        return part === whole ? "100%" : (100 * part / whole).toFixed(2) + "%";
    }

    /* ---- the boxes: they come depth first, so the last one seen on the row below is the parent ---- */

    function read() {
        var last = [], elements = group.querySelectorAll("g"), i;
        for (i = 0; i < elements.length; i++) {
            var g = elements[i], rect = g.querySelector("rect"), lines = g.querySelector("title").textContent.split("\n");
            var box = { g: g, rect: rect, text: g.querySelector("text"), y: Number(rect.getAttribute("y")), lines: lines,
                x: Number(g.getAttribute("data-x")), n: Number(g.getAttribute("data-n")), children: [], parent: null,
                name: lines[0].replace(/ \([\d,]+ samples, [\d.]+%\)$/, ""), index: i, match: false };
            boxes.push(box);
            g.bnprofBox = box;
        }
        root = zoomed = boxes[0] || null;
        boxes.forEach(function (box) {
            var depth = box.depth = Math.round(Math.abs(box.y - root.y) / ROW);
            last[depth] = box;
            if (box !== root) {
                box.parent = last[depth - 1];
                box.parent.children.push(box);
            }
        });
    }

    /* ---- drawing ---- */

    /* Characters of the far east and pictures take two columns. */
    function cut(name, room) {
        var chars = Array.from(name), used = 0, i;
        function columns(c) {
            return c.codePointAt(0) >= 0x1100 ? 2 : 1;
        }
        var total = chars.reduce(function (sum, c) { return sum + columns(c); }, 0);
        if (total <= room) {
            return name;
        }
        for (i = 0; i < chars.length && used + columns(chars[i]) <= room - 1; i++) {
            used += columns(chars[i]);
        }
        return chars.slice(0, i).join("") + "…";
    }

    function setClass(element, name, on) {
        if (element.classList.contains(name) !== on) {
            element.classList.toggle(name, on);
        }
    }

    function place(box, x, w, isParent) {
        var visible = w >= MIN_BOX, room = Math.floor((w - 2 * TEXT_PAD) / column);
        setClass(box.g, "hide", !visible);
        setClass(box.g, "parent", isParent);
        if (!visible) {
            return;
        }
        box.rect.setAttribute("x", x.toFixed(2));
        box.rect.setAttribute("width", (w - (w < 2.5 ? 0.3 * w : 0.75)).toFixed(2));
        if (!box.text && room >= 3) {
            box.text = make("text", box.g);
            box.text.setAttribute("y", box.y + 13);
        }
        if (box.text) {
            box.text.setAttribute("x", (x + TEXT_PAD).toFixed(2));
            box.text.textContent = room >= 3 ? cut(box.name, room) : "";
        }
    }

    function isAround(box) {
        return box.index < zoomed.index && box.x <= zoomed.x && box.x + box.n >= zoomed.x + zoomed.n;
    }

    /* Of boxes over the same samples, the outer ones come first. */
    function isInside(box) {
        return box.index >= zoomed.index && box.x >= zoomed.x && box.x + box.n <= zoomed.x + zoomed.n;
    }

    /* Rows that hold less than a two hundredth of the view stay folded away, unless a match stands in them. */
    function countRows() {
        var sums = [], deepest = rows - 1;
        boxes.forEach(function (box) {
            if (isInside(box)) {
                sums[box.depth] = (sums[box.depth] || 0) + box.n;
                deepest = box.match ? Math.max(deepest, box.depth) : deepest;
            }
        });
        sums.forEach(function (sum, depth) {
            deepest = sum >= zoomed.n / 200 ? Math.max(deepest, depth) : deepest;
        });
        return deepest + 1;
    }

    /* The picture grows with its rows; the root stays where it is in the window. */
    function setRows(count) {
        var more = (count - rows) * ROW;
        group.setAttribute("transform", icicle || more === 0 ? "" : "translate(0," + more + ")");
        find("foot").setAttribute("transform", more === 0 ? "" : "translate(0," + more + ")");
        svg.setAttribute("height", fileHeight + more);
        if (!icicle && count !== rowsShown && svg === document.documentElement) {
            window.scrollBy(0, (count - rowsShown) * ROW);
        }
        rowsShown = count;
        follow();
    }

    function draw() {
        var plot = width - 2 * PAD, count = countRows();
        boxes.forEach(function (b) {
            if (isAround(b)) {
                place(b, PAD, plot, true);
            } else if (isInside(b) && b.depth < count) {
                place(b, PAD + plot * (b.x - zoomed.x) / zoomed.n, plot * b.n / zoomed.n, false);
            } else {
                setClass(b.g, "hide", true);
            }
        });
        setRows(count);
        setClass(find("unzoom"), "hide", zoomed === root);
        showMatched();
    }

    /* As wide as the window; the file's own size is for renderers without scripts. */
    function layOut() {
        var inPage = svg !== document.documentElement, available;
        svg.removeAttribute("viewBox");
        svg.setAttribute("width", "100%");
        available = inPage ? svg.getBoundingClientRect().width : document.documentElement.getBoundingClientRect().width;
        width = Math.max(MIN_WIDTH, Math.floor(available) || 1200);
        svg.setAttribute("width", available < MIN_WIDTH ? String(MIN_WIDTH) : "100%");
        controls.setAttribute("transform", "translate(" + width + ",0)");
        find("help").setAttribute("x", width - PAD);
        find("title").textContent = cut(title, Math.floor((width - 420) / 10));
        if (root) {
            draw();
        }
        follow();
    }

    function measure() {
        var probe = make("text", group);
        probe.textContent = "MMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMM";
        column = probe.getComputedTextLength() / 40 || column; /* not laid out: the estimate stays */
        group.removeChild(probe);
    }

    /* The line with the details stays in sight when the graph is taller than the window. */
    function follow() {
        var bottom = svg.getBoundingClientRect().top + Number(svg.getAttribute("height")) - 26;
        var over = details.textContent === " " ? 0 : bottom - window.innerHeight;
        find("status").setAttribute("transform", over > 0 ? "translate(0," + -over + ")" : "");
    }

    /* ---- details ---- */

    function describe(box) {
        var text = box ? box.lines.join("  ·  ") : "";
        if (box && zoomed !== root && box !== root) {
            text += "  ·  " + percent(box.n, zoomed.n) + " of " + zoomed.name;
        }
        shown = box;
        details.textContent = cut(text, Math.floor((width - 2 * PAD) / column)) || " ";
        follow();
    }

    /* ---- zoom ---- */

    function zoom(box, keepAddress) {
        if (!box || box === zoomed && keepAddress !== true) {
            return;
        }
        zoomed = box;
        draw();
        describe(shown);
        if (!keepAddress) {
            writeAddress(true);
        }
    }

    function focus(box) {
        boxes.forEach(function (b) {
            if (b.g.getAttribute("tabindex") === "0" && b !== box) {
                b.g.setAttribute("tabindex", "-1");
            }
        });
        box.g.setAttribute("tabindex", "0");
        box.g.focus({ preventScroll: false });
        describe(box);
    }

    /* ---- search ---- */

    function compile(text) {
        try {
            return new RegExp(text, ignoreCase ? "i" : "");
        } catch (e) {
            return null;
        }
    }

    function search(text, keepAddress) {
        var re = text === "" ? null : compile(text);
        pattern = text;
        matches = [];
        boxes.forEach(function (box) {
            box.match = re !== null && re.test(box.name);
            setClass(box.g, "match", box.match);
            if (box.match) {
                matches.push(box);
            }
        });
        setClass(find("ignorecase"), "on", ignoreCase);
        if (input && input.value !== text) {
            input.value = text;
        }
        if (root) {
            draw();
        }
        if (!keepAddress) {
            writeAddress(false);
        }
    }

    /* Samples below `top` in matched boxes, a column counted once however many boxes of it match. */
    function matchedBelow(top) {
        var sum = 0, todo = [top], box, i;
        while (todo.length > 0) {
            box = todo.pop();
            if (box.match) {
                sum += box.n;
                continue;
            }
            for (i = 0; i < box.children.length; i++) {
                todo.push(box.children[i]);
            }
        }
        return sum;
    }

    function showMatched() {
        var text = " ", inView;
        if (pattern !== "" && compile(pattern) === null) {
            text = "not a regular expression";
        } else if (pattern !== "" && root) {
            text = "matched " + percent(matchedBelow(root), all) + " in " + matches.length +
                (matches.length === 1 ? " box" : " boxes");
            if (zoomed !== root) {
                inView = zoomed.match || boxes.some(function (b) { return b.match && isAround(b); }) ? zoomed.n : matchedBelow(zoomed);
                text += ", " + percent(inView, zoomed.n) + " of this view";
            }
        }
        matchedText.textContent = text;
    }

    /* The next match that is in sight, from the focused box on, round the end. */
    function step(direction) {
        var seen = matches.filter(function (b) { return !b.g.classList.contains("hide"); });
        var active = document.activeElement, from = active && active.bnprofBox ? active.bnprofBox.index : -1, i;
        if (seen.length === 0) {
            return;
        }
        if (direction > 0) {
            for (i = 0; i < seen.length && seen[i].index <= from; i++) { }
            focus(seen[i % seen.length]);
        } else {
            for (i = seen.length - 1; i >= 0 && (from < 0 || seen[i].index >= from); i--) { }
            focus(seen[(i + seen.length) % seen.length]);
        }
    }

    function makeInput() {
        var field = find("search").querySelector("rect"), holder = make("foreignObject", controls);
        ["x", "y", "width", "height"].forEach(function (a) { holder.setAttribute(a, field.getAttribute(a)); });
        input = holder.appendChild(document.createElementNS(XHTML, "input"));
        input.setAttribute("type", "text");
        input.setAttribute("spellcheck", "false");
        input.setAttribute("placeholder", "Search (regular expression)");
        input.setAttribute("aria-label", "Search names by regular expression");
        input.setAttribute("tabindex", "-1");
        input.addEventListener("input", function () { search(input.value); });
        input.addEventListener("blur", function () { setClass(holder, "hide", pattern === ""); });
        setClass(holder, "hide", true);
    }

    function openSearch() {
        setClass(input.parentNode, "hide", false);
        input.focus();
        input.select();
    }

    function toggleCase() {
        ignoreCase = !ignoreCase;
        search(pattern);
    }

    function clearSearch() {
        search("");
        setClass(input.parentNode, "hide", document.activeElement !== input);
    }

    /* ---- address: #p=main/decode/…&s=REGEX&i=1 ---- */

    function path(box) {
        var names = [];
        for (; box && box !== root; box = box.parent) {
            names.unshift(encodeURIComponent(box.name));
        }
        return names.join("/");
    }

    function writeAddress(isStep) {
        var parts = [], address;
        if (zoomed !== root) {
            parts.push("p=" + path(zoomed));
        }
        if (pattern !== "") {
            parts.push("s=" + encodeURIComponent(pattern));
        }
        if (ignoreCase) {
            parts.push("i=1");
        }
        address = parts.length > 0 ? "#" + parts.join("&") : "#";
        if (svg !== document.documentElement || address === (location.hash || "#")) {
            return; /* inside a page the address is the page's */
        }
        try {
            history[isStep ? "pushState" : "replaceState"](null, "", address);
        } catch (e) {
            location.hash = address;
        }
    }

    function decode(text) {
        try {
            return decodeURIComponent(text);
        } catch (e) {
            return text;
        }
    }

    /* As deep as the path's names are found: a link survives a new recording. */
    function byPath(text) {
        var box = root;
        text.split("/").map(decode).every(function (name) {
            var next = box.children.filter(function (child) { return child.name === name; })[0];
            box = next || box;
            return next !== undefined;
        });
        return box;
    }

    function readAddress() {
        var parts = {};
        location.hash.replace(/^#/, "").split("&").forEach(function (part) {
            var at = part.indexOf("=");
            if (at > 0) {
                parts[part.slice(0, at)] = part.slice(at + 1);
            }
        });
        ignoreCase = parts.i === "1";
        zoom(byPath(parts.p || ""), true);
        search(decode(parts.s || ""), true);
        setClass(input.parentNode, "hide", pattern === "" && document.activeElement !== input);
    }

    /* ---- events ---- */

    function boxOf(event) {
        var g = event.target.closest ? event.target.closest("#frames > g") : null;
        return g ? g.bnprofBox : null;
    }

    function neighbour(box, direction) {
        var row = boxes.filter(function (b) { return b.depth === box.depth && !b.g.classList.contains("hide"); });
        return row[row.indexOf(box) + direction];
    }

    function heaviestChild(box) {
        return box.children.filter(function (b) { return !b.g.classList.contains("hide"); })
            .sort(function (a, b) { return b.n - a.n; })[0];
    }

    function move(box, key) {
        var outwards = icicle ? "ArrowUp" : "ArrowDown", next;
        if (key === "ArrowLeft" || key === "ArrowRight") {
            next = neighbour(box, key === "ArrowLeft" ? -1 : 1);
        } else {
            next = key === outwards ? box.parent : heaviestChild(box);
        }
        if (next) {
            focus(next);
        }
    }

    function onInputKey(event) {
        if (event.key === "Enter") {
            step(event.shiftKey ? -1 : 1);
        } else if (event.key === "Escape") {
            input.blur();
            clearSearch();
        } else {
            return false;
        }
        return true;
    }

    function onButtonKey(event) {
        var button = event.target.closest ? event.target.closest(".button, .field") : null;
        if (!button || (event.key !== "Enter" && event.key !== " ")) {
            return false;
        }
        button.dispatchEvent(new MouseEvent("click", { bubbles: true }));
        return true;
    }

    function onKey(event) {
        var box = boxOf(event), control = event.ctrlKey || event.metaKey;
        if (control && event.key === "f" || event.key === "F3" || event.key === "/" && !control) {
            openSearch();
        } else if (control && event.key === "i") {
            toggleCase();
        } else if (control || event.altKey) {
            return false;
        } else if (event.key === "Escape") {
            zoom(root);
            clearSearch();
        } else if (event.key === "n" || event.key === "N") {
            step(event.key === "n" ? 1 : -1);
        } else if (/^Arrow/.test(event.key) && root) {
            move(box || zoomed, event.key);
        } else if (box && (event.key === "Enter" || event.key === " ")) {
            zoom(box);
        } else {
            return onButtonKey(event);
        }
        return true;
    }

    function listen() {
        svg.addEventListener("click", function (event) {
            var box = boxOf(event);
            if (box) {
                zoom(box);
                focus(box);
            }
        });
        svg.addEventListener("mouseover", function (event) { describe(boxOf(event)); });
        svg.addEventListener("focusin", function (event) { describe(boxOf(event)); });
        find("unzoom").addEventListener("click", function () { zoom(root); });
        find("search").addEventListener("click", openSearch);
        find("ignorecase").addEventListener("click", toggleCase);
        (svg === document.documentElement ? window : svg).addEventListener("keydown", function (event) {
            if (event.target === input && !(event.ctrlKey && event.key === "i") ? onInputKey(event) : onKey(event)) {
                event.preventDefault();
            }
        });
        window.addEventListener("resize", layOut);
        window.addEventListener("scroll", follow);
    }

    read();
    svg.classList.add("running");
    svg.setAttribute("role", "group");
    find("help").textContent = "click or Enter: zoom · arrows: move · / search · n, N: next, previous match · Esc: reset";
    boxes.forEach(function (box) {
        box.g.setAttribute("role", "button");
        box.g.setAttribute("tabindex", box === root ? "0" : "-1");
    });
    makeInput();
    measure();
    layOut();
    listen();
    if (root && svg === document.documentElement) {
        window.addEventListener("hashchange", readAddress);
        window.addEventListener("popstate", readAddress);
        readAddress();
    }
}());

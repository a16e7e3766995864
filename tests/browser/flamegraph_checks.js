/* SPDX-License-Identifier: MIT
 * Checks of the flame graph's script, run inside the picture itself: put in by test_flamegraph.sh as the last script.
 * Which checks run is told by the script element's data-checks; the results are TAP lines in <desc id="tap">. */
(async function () {
    "use strict";
    const svg = document.documentElement, which = document.currentScript.getAttribute("data-checks");
    const lines = [], errors = [];
    const $ = (id) => document.getElementById(id);
    const pause = () => new Promise((done) => setTimeout(done, 50));
    window.addEventListener("error", (event) => errors.push(event.message));

    function check(name, got, want) {
        const good = JSON.stringify(got) === JSON.stringify(want);
        lines.push((good ? "ok - " : "not ok - ") + name);
        if (!good) {
            lines.push("#   got " + JSON.stringify(got) + ", expected " + JSON.stringify(want));
        }
    }

    const all = Array.from(document.querySelectorAll("#frames > g"));
    const nameOf = (g) => g.querySelector("title").textContent.split("\n")[0].replace(/ \([\d,]+ samples, [\d.]+%\)$/, "");
    const box = (name) => all.find((g) => nameOf(g) === name);
    const isShown = (g) => getComputedStyle(g).display !== "none";
    const shown = () => all.filter(isShown).map(nameOf);
    const label = (g) => (g.querySelector("text") || { textContent: "" }).textContent;
    const number = (g, a) => Number(g.querySelector("rect").getAttribute(a));
    const near = (a, b) => Math.abs(a - b) <= 1;
    const widthOf = () => svg.getBoundingClientRect().width;
    const input = () => document.querySelector("#controls input");
    const matched = () => $("matched").textContent;
    const matches = () => all.filter((g) => g.classList.contains("match")).map(nameOf);
    const focused = () => (document.activeElement && all.includes(document.activeElement) ? nameOf(document.activeElement) : null);
    const geometry = () => all.map((g) => [isShown(g), number(g, "x"), number(g, "width"), label(g)]);
    const fills = (g) => near(number(g, "x"), 16) && near(number(g, "width"), widthOf() - 32);

    function click(element) {
        element.dispatchEvent(new MouseEvent("click", { bubbles: true, cancelable: true }));
    }
    function key(name, more) {
        const event = new KeyboardEvent("keydown", Object.assign({ key: name, bubbles: true, cancelable: true }, more));
        (document.activeElement || svg).dispatchEvent(event);
        return event.defaultPrevented;
    }
    function type(text) {
        key("/");
        input().value = text;
        input().dispatchEvent(new Event("input", { bubbles: true }));
    }

    const main = {
        start() {
            check("every box of the file is shown", shown().length, all.length);
            check("the picture is as wide as the window", widthOf(), window.innerWidth);
            check("the root fills it", fills(box("all")), true);
            check("nothing is zoomed", isShown($("unzoom")), false);
            check("nothing is matched", [matched(), matches()], [" ", []]);
            check("one box can be reached by Tab", all.filter((g) => g.getAttribute("tabindex") === "0").map(nameOf), ["all"]);
            check("names are in titles only", document.querySelectorAll("script")[0].textContent.includes("gemv_avx2"), false);
            check("the first box is whole", label(box("main")), "main");
            check("controls can be seen", [isShown($("search")), isShown($("help"))], [true, true]);
        },
        zoom() {
            const before = geometry();
            click(box("decode").querySelector("rect"));
            check("click zooms", fills(box("decode")), true);
            check("callers stay, faded and full", [fills(box("main")), box("main").classList.contains("parent"),
                box("decode").classList.contains("parent")], [true, true, false]);
            check("the rest is gone", [isShown(box("load")), isShown(box("memcpy"))], [false, false]);
            check("widths are shares of the zoomed box",
                near(number(box("ffn"), "width"), (widthOf() - 32) * 650 / 940), true);
            check("labels are cut anew", label(box("quant")), "quant");
            check("the address holds the path", location.hash, "#p=main/decode");
            click(box("ffn").querySelector("rect"));
            check("click zooms on", location.hash, "#p=main/decode/ffn");
            click(box("main").querySelector("rect"));
            check("click on a caller zooms out", [location.hash, isShown(box("load"))], ["#p=main", true]);
            check("Reset is offered", isShown($("unzoom")), true);
            click($("unzoom"));
            check("Reset brings the first picture back", geometry(), before);
            check("Reset empties the address", [location.hash, isShown($("unzoom"))], ["", false]);
        },
        search() {
            type("gemv");
            check("search counts samples", matched(), "matched 85.00% in 2 boxes");
            check("search marks boxes", matches(), ["gemv_avx2", "gemv_avx2"]);
            check("the address holds the pattern", location.hash, "#s=gemv");
            type("decode|gemv|softmax");
            check("a column counts once", matched(), "matched 94.00% in 4 boxes");
            type("^(quant|load)$");
            check("regular expressions work", [matched(), matches()], ["matched 10.50% in 2 boxes", ["quant", "load"]]);
            type("(");
            check("a broken pattern says so", [matched(), matches()], ["not a regular expression", []]);
            type("nobody");
            check("no match is zero", matched(), "matched 0.00% in 0 boxes");
            type("gemv");
            click(box("attention").querySelector("rect"));
            check("zoomed, both shares are given", matched(), "matched 85.00% in 2 boxes, 86.21% of this view");
            click($("unzoom"));
            type("main");
            click(box("attention").querySelector("rect"));
            check("a match around the view is all of it", matched(), "matched 99.50% in 1 box, 100% of this view");
            document.activeElement.blur();
            key("Escape");
            check("Escape resets zoom and search", [matched(), matches(), location.hash, isShown($("unzoom"))], [" ", [], "", false]);
        },
        letters() {
            type("GEMV");
            check("case counts", matched(), "matched 0.00% in 0 boxes");
            click($("ignorecase"));
            check("Aa ignores case", [matched(), $("ignorecase").classList.contains("on")], ["matched 85.00% in 2 boxes", true]);
            check("the address holds that too", location.hash, "#s=GEMV&i=1");
            check("Ctrl-I is taken", key("i", { ctrlKey: true }), true);
            check("Ctrl-I turns it off", matched(), "matched 0.00% in 0 boxes");
            input().focus();
            key("Escape");
            check("Escape in the field clears it", [matched(), input().value, document.activeElement === input()], [" ", "", false]);
        },
        keys() {
            box("all").focus();
            key("ArrowUp");
            check("up goes to the callee", focused(), "main");
            key("ArrowUp");
            check("to the heaviest one", focused(), "decode");
            key("ArrowRight");
            check("right goes to the neighbour", focused(), "load");
            key("ArrowRight");
            key("ArrowRight");
            check("and stays at the last one", focused(), "load");
            key("ArrowLeft");
            key("ArrowDown");
            check("down goes to the caller", focused(), "main");
            key("ArrowUp");
            check("Enter is taken", key("Enter"), true);
            check("Enter zooms", [fills(box("decode")), location.hash], [true, "#p=main/decode"]);
            check("details describe the focused box", $("details").textContent.startsWith("decode (940 samples, 94.00%)"), true);
            key("Escape");
            box("load").focus();
            key(" ");
            check("Space zooms", fills(box("load")), true);
            key("Escape");
            check("Escape resets", isShown($("unzoom")), false);
            type("gemv");
            key("Enter");
            check("Enter in the field goes to the first match", focused(), "gemv_avx2");
            const first = document.activeElement;
            key("n");
            check("n goes to the next", [focused(), document.activeElement !== first], ["gemv_avx2", true]);
            key("n");
            check("and round the end", document.activeElement === first, true);
            key("N", { shiftKey: true });
            check("N goes back", document.activeElement !== first, true);
            key("Escape");
            check("Ctrl-F is taken and opens the field", [key("f", { ctrlKey: true }), document.activeElement === input()], [true, true]);
            input().blur();
            $("ignorecase").focus();
            key("Enter");
            check("buttons obey the keyboard", $("ignorecase").classList.contains("on"), true);
            key(" ");
            check("other keys are left to the browser", [key("a"), key("f", { altKey: true }), key("Tab")], [false, false, false]);
        },
        hover() {
            box("quant").querySelector("rect").dispatchEvent(new MouseEvent("mouseover", { bubbles: true }));
            check("details describe the box under the pointer", $("details").textContent.startsWith("quant (50 samples, 5.00%)  ·  self 5.00%"), true);
        },
        async address() {
            click(box("odd/name&p=x#y%z").querySelector("rect"));
            const hash = location.hash;
            check("names are encoded", hash, "#p=odd%2Fname%26p%3Dx%23y%25z");
            click($("unzoom"));
            location.hash = hash;
            await pause();
            check("and found again", fills(box("odd/name&p=x#y%z")), true);
            history.back();
            await pause();
            check("Back undoes", isShown($("unzoom")), false);
            location.hash = "#p=main/decode/gone/quant&s=%E0%A4%A";
            await pause();
            check("a path is followed as far as it goes", fills(box("decode")), true);
            location.hash = "#p&&=&s";
            await pause();
            check("nonsense is ignored", [isShown($("unzoom")), matched()], [false, " "]);
        },
    };
    const fragment = {
        restore() {
            check("the address zooms", [fills(box("decode")), isShown(box("load"))], [true, false]);
            check("and searches", matched(), "matched 85.00% in 2 boxes, 90.43% of this view");
            check("and ignores case", $("ignorecase").classList.contains("on"), true);
            check("the field shows the pattern", [input().value, isShown(input())], ["GEMV", true]);
            check("the address stays", location.hash, "#p=main/decode&s=GEMV&i=1");
        },
    };
    const wide = {
        width() {
            check("a wide window is used", [widthOf(), fills(box("all"))], [1900, true]);
        },
    };
    const narrow = {
        width() {
            check("a narrow one scrolls", [svg.getAttribute("width"), number(box("all"), "width") > 680], ["720", true]);
        },
    };
    const icicle = {
        keys() {
            box("all").focus();
            key("ArrowDown");
            check("in an icicle, down goes to the callee", focused(), "main");
            key("ArrowUp");
            check("and up to the caller", focused(), "all");
            click(box("decode").querySelector("rect"));
            check("it zooms", [fills(box("decode")), isShown(box("load"))], [true, false]);
        },
    };
    const deep = {
        rows() {
            const height = () => Number(svg.getAttribute("height")), before = height();
            const top = (g) => g.querySelector("rect").getBoundingClientRect().top;
            check("rows of next to nothing are folded away", shown(), ["all", "main", "a", "b"]);
            type("deepest");
            check("a match unfolds its row", [isShown(box("deepest")), height() - before], [true, 3 * 19]);
            check("inside the picture", top(box("deepest")) >= top(box("all")) - 5 * 19 - 1 && top(box("deepest")) > 0, true);
            key("n");
            input().focus();
            key("Escape");
            check("and folds it again", [isShown(box("deepest")), height()], [false, before]);
            click(box("b").querySelector("rect"));
            check("zoom unfolds", [isShown(box("deepest")), fills(box("deepest"))], [true, true]);
            click($("unzoom"));
            check("and Reset folds", [shown(), height()], [["all", "main", "a", "b"], before]);
        },
    };
    const empty = {
        nothing() {
            key("Escape");
            key("ArrowUp");
            type("x");
            click($("unzoom"));
            check("an empty picture keeps still", [all.length, matched()], [0, " "]);
        },
    };

    await pause();
    const groups = { main, fragment, wide, narrow, icicle, deep, empty }[which];
    for (const name of Object.keys(groups)) {
        try {
            await groups[name]();
        } catch (error) {
            lines.push("not ok - " + name + " threw " + error);
        }
    }
    check(which + ": no script errors", errors, []);
    const desc = svg.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "desc"));
    desc.id = "tap";
    desc.textContent = "\n" + lines.join("\n") + "\n# end of " + which + "\n";
}());

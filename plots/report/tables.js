/* Sorts tables by a button in every column's head. First click: numbers from the largest, text from
   A; second click: reversed; third: the order of the file. Cells without a value are always last. */
"use strict";
(function() {
function value(row, column) {
    var cell = row.cells[column];
    return "v" in cell.dataset ? cell.dataset.v : cell.lastChild ? cell.lastChild.data.trim() : "";
}
function compare(a, b, numeric) {
    if (!numeric)
        return a < b ? -1 : a > b ? 1 : 0;
    return Number(a) - Number(b);
}
function missing(text, numeric) {
    return numeric ? text === "" || isNaN(Number(text)) : text === "\u2013" || text === "";
}
function sort(table, rows, column, numeric, direction) {
    var keyed = rows.map(function(row, i) { return {row: row, i: i, key: value(row, column)}; });
    if (direction)
        keyed.sort(function(a, b) {
            var none = missing(a.key, numeric) - missing(b.key, numeric);
            return none || direction * compare(a.key, b.key, numeric) || a.i - b.i;
        });
    keyed.forEach(function(k) { table.tBodies[0].appendChild(k.row); });
}
function prepare(table) {
    var rows = Array.from(table.tBodies[0].rows);
    var heads = Array.from(table.tHead.rows[0].cells);
    heads.forEach(function(head, column) {
        var numeric = head.classList.contains("n"), first = numeric ? -1 : 1, turn = 0;
        var button = document.createElement("button");
        button.type = "button";
        var arrow = document.createElement("span");
        arrow.className = "arrow";
        arrow.setAttribute("aria-hidden", "true");
        while (head.firstChild)
            button.appendChild(head.firstChild);
        button.insertBefore(arrow, button.querySelector(".unit"));
        head.appendChild(button);
        button.addEventListener("click", function() {
            turn = head.hasAttribute("aria-sort") ? (turn + 1) % 3 : 1;
            var direction = [0, first, -first][turn];
            heads.forEach(function(h) { h.removeAttribute("aria-sort"); });
            if (direction)
                head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
            sort(table, rows, column, numeric, direction);
        });
    });
}
document.querySelectorAll("table.sortable").forEach(function(table) {
    if (table.tBodies[0].rows.length > 1)
        prepare(table);
});
})();

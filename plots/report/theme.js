/* A button in the header chooses light, dark, or the system's setting. Print is always light and
   shows folded parts. */
"use strict";
(function() {
var names = {auto: "as the system", light: "light", dark: "dark"};
var order = ["auto", "light", "dark"], now = "auto";
var button = document.createElement("button");
function show() {
    if (now === "auto")
        document.documentElement.removeAttribute("data-theme");
    else
        document.documentElement.setAttribute("data-theme", now);
    button.textContent = "Colours: " + names[now];
    document.dispatchEvent(new Event("report-colours"));
}
button.type = "button";
button.className = "theme";
button.addEventListener("click", function() {
    now = order[(order.indexOf(now) + 1) % order.length];
    show();
});
document.querySelector("header").appendChild(button);
show();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
addEventListener("beforeprint", function() {
    document.querySelectorAll("details").forEach(function(d) { d.open = true; });
    document.documentElement.setAttribute("data-theme", "light");
    document.dispatchEvent(new Event("report-colours"));
});
addEventListener("afterprint", show);
})();

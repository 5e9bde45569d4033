#!/usr/bin/env bash
# A report in a real browser: no errors, nothing fetched, tables sort, timelines zoom, the layout
# holds on wide and narrow screens, text can be read in light and dark.
. tests/cli/lib/check.bash
. tests/cli/lib/results.bash
if ! command -v chromium >/dev/null; then
    echo "skipped: no chromium here (Debian: apt-get install chromium)"
    exit 77
fi
probe=tests/cli/lib/report_probe.js
make_results "$folder/results"
expect 0 "tables 4" "$moelab" report "$folder/results" -o "$folder/page.html"

# The page with a handler of errors in front and the probe at the end.
listen='<script>window.probe_errors = [];
function hear(e) { probe_errors.push(e.message || e.blockedURI); }
addEventListener("error", hear);
addEventListener("securitypolicyviolation", hear);</script>'
while IFS= read -r line; do
    [[ $line != "</body>" ]] || { echo "<script>" && cat "$probe" && echo "</script>"; }
    printf '%s\n' "$line"
    [[ $line != "<head>" ]] || printf '%s\n' "$listen"
done <"$folder/page.html" >"$folder/probed.html"

# browse OPTION...: runs chromium with a profile of its own and without network.
browse() {
    timeout 120 chromium --headless=new --no-sandbox --disable-gpu --hide-scrollbars \
        --no-first-run --disable-background-networking --disable-component-update \
        --proxy-server=127.0.0.1:9 --user-data-dir="$folder/profile" --virtual-time-budget=5000 \
        "$@" 2>"$folder/browser.log"
}

# A window is at least 500 pixels wide, a frame can be as narrow as a phone. So the page is shown in
# a frame, and the page around it writes down what the probe sends.
for width in 1280 360; do
    cat >"$folder/frame.html" <<HTML
<!DOCTYPE html><body style="margin:0"><pre></pre>
<iframe src="probed.html" width="$width" height="900" style="border:0"></iframe>
<script>addEventListener("message", function (e) {
    document.querySelector("pre").textContent = e.data;
});</script></body>
HTML
    for colours in light=1 dark=0; do
        browse --window-size="1400,1000" --blink-settings="preferredColorScheme=${colours#*=}" \
            --dump-dom "file://$folder/frame.html" >"$folder/dom.html" ||
            failed "chromium: $(tail -n 3 "$folder/browser.log")"
        for line in "no part is wider than the window: $width in $width" \
            "the system is ${colours%=*}" end; do
            holds "$width ${colours%=*}: no line '$line'" grep -qx "ok: $line" "$folder/dom.html"
        done
        n_passed=$((n_passed + $(grep -c '^ok: ' "$folder/dom.html")))
        while IFS= read -r line; do
            failed "$width ${colours%=*}: $line"
        done < <(grep '^BAD: ' "$folder/dom.html")
    done
done

# The page can be read without scripts: the security policy of this copy forbids them.
sed "s/script-src 'unsafe-inline'/script-src 'none'/" "$folder/page.html" >"$folder/plain.html"
browse --dump-dom "file://$folder/plain.html" >"$folder/dom.html"
holds "tables without scripts" grep -q '</span> 100.1</td>' "$folder/dom.html"
holds "no buttons without scripts" test "$(grep -c '<button' "$folder/dom.html")" = 0
finish

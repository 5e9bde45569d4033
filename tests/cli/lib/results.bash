# Makes a folder of results for the tests of `moelab report`: numbers that are easy to check, and
# names that would run as scripts if they were not escaped. Needs check.bash.

# A white picture of 2 x 2 pixels.
png_base64=iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAAAAABX3VL4AAAACklEQVR4nGNgAAMAAAQAAbLFSWcAAAAASUVORK5CYII=

# make_results FOLDER
make_results() {
    local d=$1 name
    mkdir -p "$d/more/in <i>" "$d/.hidden"
    ln -s .. "$d/more/loop" # must not be followed
    printf 'a\tb\n1\n' >"$d/.hidden/broken.tsv"
    {
        printf 'point\tstatus\tpolicy\tgeometry\ttokens_per_s\n'
        printf 'b0\tok\tlru\t7x8\t3.5\nb1\tok\topt\t7x8\t4.5\nb2\tok\tlru\t14x4\t4\n'
    } >"$d/more/future.tsv"
    printf '# How <b>it</b> was run\n\n<script>hurt(5)</script> %s\n' \
        "$(printf 'wide%.0s' {1..80})" >"$d/more/in <i>/README.md"
    {
        printf '# program: moelab 0.1.0\n# experiment: speeds\n# title: Speeds <script>hurt(1)</script>\n'
        printf '# trace: synth:x (SYNTHETIC, "m")\n# synthetic: yes\n'
        printf 'point\tstatus\trouting\tmodel\tplatform\tgeometry\tthreads\ttokens_per_s'
        printf '\tms_per_token\tbound_ms_per_token\tshare_of_bound_percent\tnote\n'
        printf 'a0\tok\tSYNTHETIC\tm<b>x</b>\tp\t7x8\t2\t9.5\t105.26\t50\t47.5\tbeta\n'
        printf 'a1\tok\tSYNTHETIC\tm<b>x</b>\tp\t14x4\t2\t10.25\t97.56\t50\t51.25\talpha\n'
        printf 'a2\tno room\tSYNTHETIC\tm<b>x</b>\tp\t29x2\t2\tnan\tnan\tnan\tnan\tnan\n'
        printf 'a3\tok\tSYNTHETIC\tm<b>x</b>\tp\t7x8\t24\t100.123456\t9.988\t5\t50.06\tdelta\n'
        printf 'a4\tok\tSYNTHETIC\tm<b>x</b>\tp\t14x4\t24\t2.5\t400\t50\t12.5\tgamma\n'
    } >"$d/speeds.tsv"
    {
        printf '# program: moelab 0.1.0\n# command: moelab run --device host\n# device: host\n'
        printf 'model\tplatform\ttokens_per_s\tms_p50\nreal\tthis one\t3.5\t280\n'
    } >"$d/one.tsv"
    printf '# command: moelab bench sim\ncase\tvalue\nx"><img src=x onerror=hurt(2)>\t1\ny\t2\n' \
        >"$d/x\"><img src=y onerror=hurt(3)>.tsv"
    printf '<?xml version="1.0"?>\n<svg width="400" height="200"><title>no</title><rect width="400"
height="200" fill="#fff"/><circle id="c" cx="90" cy="90" r="50"/><use xlink:href="#c"/></svg>\n' \
        >"$d/speeds-bars.svg"
    base64 -d <<<"$png_base64" >"$d/speeds-bars.png"
    base64 -d <<<"$png_base64" >"$d/loose.png"
    {
        printf '{"displayTimeUnit":"ns","traceEvents":[\n'
        for name in 'GPU compute' '</script><b>CPU'; do
            printf '{"name":"thread_name","ph":"M","pid":1,"tid":%d,"args":{"name":"%s"}},\n' \
                "${#name}" "$name"
        done
        printf '{"name":"attend","cat":"attend","ph":"X","pid":1,"tid":11,"ts":0,"dur":600,'
        printf '"args":{"layer":3}},\n'
        printf '{"name":"expert","cat":"miss","ph":"X","pid":1,"tid":15,"ts":600,"dur":400,'
        printf '"args":{"layer":3,"expert":5,"slot":1}},\n'
        printf '{"name":"expert","cat":"hit","ph":"X","pid":1,"tid":15,"ts":1000,"dur":1000,'
        printf '"args":{"layer":4,"expert":6}},\n'
        printf '{"name":"process_name","ph":"M","args":{"name":"A <run> & more"}}\n]}\n'
    } >"$d/steps.json"
}

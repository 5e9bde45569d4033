#include "base/svg.h"

#include "base/html.h"
#include "base/utf8.h"

#include <stdarg.h>
#include <stdbool.h>
#include <string.h>

/* A piece of the file. */
struct piece {
    const char *at;
    size_t n;
};

struct attribute {
    struct piece name, value;
};

struct cleaner {
    const char *name, *prefix, *title;
    const char *start, *next, *end;
    FILE *out;
    struct piece open[MOE_SVG_DEPTH_MAX];
    size_t depth, hidden; /* hidden: depth of the left-out element under way, or 0 */
    bool begun;
};

/* What draws. An element or attribute outside these lists is refused. */
static const char shapes[] =
    " svg g defs symbol use path rect circle ellipse line polyline polygon text tspan image "
    "clipPath linearGradient radialGradient stop pattern marker filter feFlood feComposite ";
static const char attributes[] =
    " clip-path clip-rule clipPathUnits color cx cy d dominant-baseline dx dy fill fill-opacity "
    "fill-rule filter filterUnits flood-color flood-opacity font-family font-size font-style "
    "font-weight fx fy gradientTransform gradientUnits height in in2 letter-spacing marker-end "
    "marker-mid marker-start markerHeight markerUnits markerWidth offset opacity operator orient "
    "patternTransform patternUnits points preserveAspectRatio r refX refY result rx ry "
    "shape-rendering stop-color stop-opacity stroke stroke-dasharray stroke-dashoffset "
    "stroke-linecap stroke-linejoin stroke-miterlimit stroke-opacity stroke-width text-anchor "
    "textLength transform viewBox width x x1 x2 y y1 y2 ";
static const char texts[] = " text tspan ";

/* Known, without effect on the drawing, and left out. */
static const char silent_elements[] = " title desc metadata ";
static const char silent_attributes[] = " class version xmlns xml:lang xmlns:xlink xml:space ";

/* Functions that a value may hold; url() is looked at apart, and others may load something. */
static const char functions[] = " matrix rgb rgba rotate scale skewX skewY translate ";

static const char name_bytes[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                 "0123456789-_.:";

static enum moe_status fail(const struct cleaner *c, const char *at, struct moe_err *err,
                            const char *format, ...) __attribute__((format(printf, 4, 5)));

static enum moe_status fail(const struct cleaner *c, const char *at, struct moe_err *err,
                            const char *format, ...)
{
    char why[160];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    size_t line = 1;
    for (const char *from = c->start; from < at; from++)
        line += *from == '\n';
    return moe_fail(err, MOE_ERR_INPUT, "'%.250s':%zu: %s", c->name, line, why);
}

#define SHOWN(piece) (int)((piece).n < 40 ? (piece).n : 40), (piece).at

static bool equals(struct piece p, const char *text)
{
    return strlen(text) == p.n && memcmp(p.at, text, p.n) == 0;
}

/* Is the word among the words of a list, which has blanks around each? */
static bool is_among(struct piece word, const char *list)
{
    for (const char *at = list; word.n && (at = strchr(at, ' ')) && *++at;)
        if (strncmp(at, word.at, word.n) == 0 && at[word.n] == ' ')
            return true;
    return false;
}

static bool begins(const struct cleaner *c, const char *text)
{
    size_t n = strlen(text);
    return (size_t)(c->end - c->next) >= n && memcmp(c->next, text, n) == 0;
}

static void skip_blanks(struct cleaner *c)
{
    while (c->next < c->end && strchr(" \t\r\n", *c->next))
        c->next++;
}

static struct piece take_name(struct cleaner *c)
{
    struct piece name = {c->next, 0};
    while (c->next < c->end && *c->next && strchr(name_bytes, *c->next))
        c->next++;
    name.n = (size_t)(c->next - name.at);
    return name;
}

static bool is_quoting(struct piece value)
{
    for (size_t i = 0; i < value.n; i++)
        if (strchr("<&\"", value.at[i]))
            return true;
    return false;
}

/* name = "value"; the value holds neither quotes nor entities, so that it means what it reads. */
static enum moe_status take_attribute(struct cleaner *c, struct attribute *a, struct moe_err *err)
{
    a->name = take_name(c);
    skip_blanks(c);
    if (!a->name.n || c->next == c->end || *c->next != '=')
        return fail(c, c->next, err, "expected an attribute");
    c->next++;
    skip_blanks(c);
    char quote = 0;
    if (c->next < c->end)
        quote = *c->next++;
    const char *close =
        quote == '"' || quote == '\'' ? memchr(c->next, quote, (size_t)(c->end - c->next)) : NULL;
    if (!close)
        return fail(c, c->next, err, "attribute '%.*s' has no quoted value", SHOWN(a->name));
    a->value = (struct piece){c->next, (size_t)(close - c->next)};
    c->next = close + 1;
    if (is_quoting(a->value))
        return fail(c, a->value.at, err, "'<', '\"' or an entity in the attribute '%.*s'",
                    SHOWN(a->name));
    return MOE_OK;
}

static bool is_id(struct piece p)
{
    for (size_t i = 0; i < p.n; i++)
        if (!p.at[i] || !strchr(name_bytes, p.at[i]))
            return false;
    return p.n > 0;
}

/* The id inside before...after, e.g. "url(#" and ")". */
static bool take_reference(struct piece value, const char *before, const char *after,
                           struct piece *id)
{
    size_t head = strlen(before), tail = strlen(after);
    if (value.n < head + tail || memcmp(value.at, before, head) != 0 ||
        memcmp(value.at + value.n - tail, after, tail) != 0)
        return false;
    *id = (struct piece){value.at + head, value.n - head - tail};
    return is_id(*id);
}

/* A picture inside the file. */
static bool is_png_data(struct piece value)
{
    static const char start[] = "data:image/png;base64,";
    static const char base64[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\r\n";
    size_t n = sizeof start - 1;
    if (value.n <= n || memcmp(value.at, start, n) != 0)
        return false;
    for (size_t i = n; i < value.n; i++)
        if (!value.at[i] || !strchr(base64, value.at[i]))
            return false;
    return true;
}

static void put(const struct cleaner *c, struct piece p)
{
    fwrite(p.at, 1, p.n, c->out);
}

static enum moe_status put_reference(struct cleaner *c, struct piece element,
                                     const struct attribute *a, struct moe_err *err)
{
    struct piece id;
    if (equals(element, "image") && is_png_data(a->value)) {
        fputs(" href=\"", c->out);
        put(c, a->value);
        fputs("\"", c->out);
        return MOE_OK;
    }
    if (equals(element, "image") || !take_reference(a->value, "#", "", &id))
        return fail(c, a->value.at, err, "reference '%.*s' points outside the file",
                    SHOWN(a->value));
    fprintf(c->out, " href=\"#%s-", c->prefix);
    put(c, id);
    fputs("\"", c->out);
    return MOE_OK;
}

static bool has_known_functions(struct piece value)
{
    for (size_t i = 0; i < value.n; i++) {
        struct piece word = {value.at + i, 0};
        while (word.at > value.at && word.at[-1] && strchr(name_bytes, word.at[-1]))
            word.at--;
        word.n = (size_t)(value.at + i - word.at);
        if (value.at[i] == '(' && !is_among(word, functions))
            return false;
    }
    return true;
}

static enum moe_status put_attribute(struct cleaner *c, struct piece element,
                                     const struct attribute *a, struct moe_err *err)
{
    struct piece id;
    if (equals(a->name, "href") || equals(a->name, "xlink:href"))
        return put_reference(c, element, a, err);
    if (is_among(a->name, silent_attributes))
        return MOE_OK;
    bool is_name = equals(a->name, "id");
    if (!is_name && !is_among(a->name, attributes))
        return fail(c, a->name.at, err, "attribute '%.*s' is not allowed in a plot",
                    SHOWN(a->name));
    bool refers = !is_name && take_reference(a->value, "url(#", ")", &id);
    if (is_name ? !is_id(a->value) : !refers && !has_known_functions(a->value))
        return fail(c, a->value.at, err,
                    "value '%.*s' of the attribute '%.*s' is not allowed in a plot",
                    SHOWN(a->value), SHOWN(a->name));
    fputc(' ', c->out);
    put(c, a->name);
    fprintf(c->out, "=\"%s%s%s", refers ? "url(#" : "", refers || is_name ? c->prefix : "",
            refers || is_name ? "-" : "");
    put(c, refers ? id : a->value);
    fputs(refers ? ")\"" : "\"", c->out);
    return MOE_OK;
}

static bool is_length(struct piece p)
{
    for (size_t i = 0; i < p.n; i++)
        if (!strchr("0123456789.", p.at[i]))
            return false;
    return p.n > 0 && p.n < 12;
}

/* The attributes of the outermost element: its size, and what makes it scale. */
struct frame {
    struct piece width, height;
    bool view_box;
};

static enum moe_status frame_attribute(struct cleaner *c, const struct attribute *a,
                                       struct frame *frame, struct moe_err *err)
{
    if (equals(a->name, "width") || equals(a->name, "height")) {
        *(equals(a->name, "width") ? &frame->width : &frame->height) = a->value;
        return MOE_OK;
    }
    if (equals(a->name, "x") || equals(a->name, "y") || equals(a->name, "id"))
        return MOE_OK;
    frame->view_box |= equals(a->name, "viewBox");
    return put_attribute(c, (struct piece){"svg", 3}, a, err);
}

static void end_frame(struct cleaner *c, const struct frame *f)
{
    bool known = is_length(f->width) && is_length(f->height);
    if (known)
        fprintf(c->out, " width=\"%.*s\" height=\"%.*s\"", (int)f->width.n, f->width.at,
                (int)f->height.n, f->height.at);
    if (known && !f->view_box)
        fprintf(c->out, " viewBox=\"0 0 %.*s %.*s\"", (int)f->width.n, f->width.at,
                (int)f->height.n, f->height.at);
}

static enum moe_status take_attributes(struct cleaner *c, struct piece element, struct moe_err *err)
{
    struct frame frame = {0};
    bool outermost = c->depth == 0;
    for (;;) {
        skip_blanks(c);
        if (c->next < c->end && (*c->next == '>' || *c->next == '/'))
            break;
        struct attribute a;
        enum moe_status s = take_attribute(c, &a, err);
        if (!s && outermost)
            s = frame_attribute(c, &a, &frame, err);
        else if (!s && !c->hidden)
            s = put_attribute(c, element, &a, err);
        if (s)
            return s;
    }
    if (outermost)
        end_frame(c, &frame);
    return MOE_OK;
}

static void put_title(const struct cleaner *c)
{
    fputs("<title>", c->out);
    moe_html_text(c->title, c->out);
    fputs("</title>", c->out);
}

static enum moe_status begin_element(struct cleaner *c, struct moe_err *err)
{
    const char *at = c->next++;
    struct piece name = take_name(c);
    bool hide = is_among(name, silent_elements);
    if (c->depth == 0 && (c->begun || !equals(name, "svg")))
        return fail(c, at, err, "'%.*s' where one element 'svg' was expected", SHOWN(name));
    if (!c->hidden && !hide && !is_among(name, shapes))
        return fail(c, at, err, "element '%.*s' is not allowed in a plot", SHOWN(name));
    if (c->depth == MOE_SVG_DEPTH_MAX)
        return fail(c, at, err, "elements nested deeper than %d", MOE_SVG_DEPTH_MAX);
    if (hide && !c->hidden)
        c->hidden = c->depth + 1;
    if (!c->hidden)
        fprintf(c->out, "<%.*s%s", (int)name.n, name.at, c->depth ? "" : " role=\"img\"");
    enum moe_status s = take_attributes(c, name, err);
    if (s)
        return s;
    if (!c->hidden)
        fputc('>', c->out);
    if (c->depth == 0)
        put_title(c);
    c->begun = true;
    c->open[c->depth++] = name;
    return MOE_OK;
}

static void end_element(struct cleaner *c)
{
    c->depth--;
    if (!c->hidden)
        fprintf(c->out, "</%.*s>", (int)c->open[c->depth].n, c->open[c->depth].at);
    if (c->hidden == c->depth + 1)
        c->hidden = 0;
}

/* At '<' of a start tag; the tag may end the element at once. */
static enum moe_status take_start(struct cleaner *c, struct moe_err *err)
{
    enum moe_status s = begin_element(c, err);
    if (s)
        return s;
    bool ends = *c->next++ == '/';
    if (ends && (c->next == c->end || *c->next++ != '>'))
        return fail(c, c->next, err, "'/' inside a tag");
    if (ends)
        end_element(c);
    return MOE_OK;
}

static enum moe_status take_end(struct cleaner *c, struct moe_err *err)
{
    c->next += 2;
    struct piece name = take_name(c);
    skip_blanks(c);
    struct piece open = c->depth ? c->open[c->depth - 1] : (struct piece){"", 0};
    if (c->next == c->end || *c->next != '>' || open.n != name.n || !name.n ||
        memcmp(open.at, name.at, name.n) != 0)
        return fail(c, c->next, err, "'/%.*s' closes '%.*s'", SHOWN(name), SHOWN(open));
    c->next++;
    end_element(c);
    return MOE_OK;
}

/* "&lt;" and the like, or a number: at '&'. */
static bool take_entity(struct cleaner *c)
{
    static const char *const known[] = {"&lt;", "&gt;", "&amp;", "&quot;", "&apos;"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (begins(c, known[i])) {
            c->next += strlen(known[i]);
            return true;
        }
    }
    if (!begins(c, "&#"))
        return false;
    const char *at = c->next + 2;
    const char *digits = "0123456789";
    if (at < c->end && *at == 'x') {
        at++;
        digits = "0123456789abcdefABCDEF";
    }
    const char *first = at;
    while (at < c->end && at - first < 6 && *at && strchr(digits, *at))
        at++;
    c->next = at + 1;
    return at > first && at < c->end && *at == ';';
}

/* Text up to the next tag: shown where text may stand, and blanks elsewhere. */
static enum moe_status take_text(struct cleaner *c, struct moe_err *err)
{
    bool shown = c->depth && !c->hidden && is_among(c->open[c->depth - 1], texts);
    while (c->next < c->end && *c->next != '<') {
        const char *at = c->next;
        if (*at == '&' && !take_entity(c))
            return fail(c, at, err, "unknown entity");
        if (*at != '&')
            c->next++;
        if (shown && *at == '>')
            fputs("&gt;", c->out);
        else if (shown)
            fwrite(at, 1, (size_t)(c->next - at), c->out);
        else if (!c->hidden && !strchr(" \t\r\n", *at))
            return fail(c, at, err, "text outside of an element 'text'");
    }
    return MOE_OK;
}

/* "<!-- ... -->" and the declaration before the root are left out. */
static enum moe_status skip_until(struct cleaner *c, const char *end, struct moe_err *err)
{
    const char *at = c->next;
    while (c->next < c->end && !begins(c, end))
        c->next++;
    if (c->next == c->end)
        return fail(c, at, err, "'%.4s' is not closed", at);
    c->next += strlen(end);
    return MOE_OK;
}

static enum moe_status take_next(struct cleaner *c, struct moe_err *err)
{
    if (*c->next != '<')
        return take_text(c, err);
    if (begins(c, "<!--"))
        return skip_until(c, "-->", err);
    if (begins(c, "<?xml ") && !c->begun)
        return skip_until(c, "?>", err);
    if (begins(c, "</"))
        return take_end(c, err);
    if (begins(c, "<!") || begins(c, "<?"))
        return fail(c, c->next, err, "'%.2s' begins what is not allowed in a plot", c->next);
    return take_start(c, err);
}

static enum moe_status check_text(const struct cleaner *c, struct moe_err *err)
{
    size_t n = moe_utf8_prefix(c->next, (size_t)(c->end - c->next));
    for (const char *at = c->next; at < c->next + n; at++)
        if (((unsigned char)*at < ' ' && !strchr("\t\r\n", *at)) || !*at)
            return fail(c, at, err, "control character 0x%02x", (unsigned)*at);
    if (c->next + n < c->end)
        return fail(c, c->next + n, err, "not UTF-8");
    return MOE_OK;
}

enum moe_status moe_svg_write(const char *name, const char *text, size_t size, const char *prefix,
                              const char *title, FILE *out, struct moe_err *err)
{
    struct cleaner c = {.name = name,
                        .prefix = prefix,
                        .title = title,
                        .start = text,
                        .next = text,
                        .end = text + size,
                        .out = out};
    enum moe_status s = check_text(&c, err);
    while (!s && c.next < c.end)
        s = take_next(&c, err);
    if (!s && (c.depth || !c.begun))
        s = fail(&c, c.end, err, c.begun ? "'%.*s' is not closed" : "no element 'svg'%.*s",
                 c.depth ? (int)c.open[c.depth - 1].n : 0, c.depth ? c.open[c.depth - 1].at : "");
    return s;
}

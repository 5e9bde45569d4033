/* base/svg.h and base/html.h: plots pass unchanged; whatever could run or load something is
 * refused. */
#include "base/svg.h"

#include "base/html.h"
#include "tests/unit/run_suite.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static struct moe_err err;

/* What a writer of text makes of it, as a heap string. */
static char *with(void (*write)(const char *, FILE *), const char *text)
{
    char *made = NULL;
    size_t size;
    FILE *f = open_memstream(&made, &size);
    ck_assert_ptr_nonnull(f);
    write(text, f);
    fclose(f);
    return made;
}

static char *draw(const char *svg, enum moe_status expected)
{
    char *made = NULL;
    size_t size;
    FILE *f = open_memstream(&made, &size);
    ck_assert_ptr_nonnull(f);
    ck_assert_msg(moe_svg_write("x.svg", svg, strlen(svg), "p1", "a < b", f, &err) == expected,
                  "%s: %s", svg, err.text);
    fclose(f);
    return made;
}

START_TEST(text_is_escaped)
{
    static const struct {
        const char *text, *html, *json;
    } cases[] = {
        {"a", "a", "\"a\""},
        {"<script>alert('1')</script>", "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;",
         "\"\\u003cscript\\u003ealert('1')\\u003c/script\\u003e\""},
        {"\"&\\", "&quot;&amp;\\", "\"\\u0022\\u0026\\u005c\""},
        {"\xc3\xa4\xff!", "\xc3\xa4\xef\xbf\xbd!", "\"\xc3\xa4\\ufffd!\""},
        {"\x01\x1b[0m", "\xef\xbf\xbd\xef\xbf\xbd[0m", "\"\\ufffd\\ufffd[0m\""},
        {"cut \xe2\x82", "cut \xef\xbf\xbd\xef\xbf\xbd", "\"cut \\ufffd\\ufffd\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *html = with(moe_html_text, cases[i].text);
        char *json = with(moe_html_json_text, cases[i].text);
        ck_assert_str_eq(html, cases[i].html);
        ck_assert_str_eq(json, cases[i].json);
        free(html);
        free(json);
    }
}
END_TEST

static void as_data(const char *text, FILE *out)
{
    moe_html_data_uri("text/x", text, strlen(text), out);
}

/* The test vectors of RFC 4648. */
START_TEST(base64)
{
    static const char *const cases[][2] = {
        {"", ""},        {"f", "Zg=="},        {"fo", "Zm8="},
        {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"foobar", "Zm9vYmFy"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *made = with(as_data, cases[i][0]);
        ck_assert_int_eq(strncmp(made, "data:text/x;base64,", 19), 0);
        ck_assert_str_eq(made + 19, cases[i][1]);
        free(made);
    }
}
END_TEST

START_TEST(a_plot)
{
    char *made = draw("<?xml version=\"1.0\"?>\n<!-- made by hand -->\n"
                      "<svg width=\"9\" height='7.5' xmlns=\"http://www.w3.org/2000/svg\">\n"
                      "<title>Gnuplot</title><desc>by <b onclick=\"x()\">hand</b></desc>\n"
                      "<defs><circle id='dot' r='1'/></defs>\n"
                      "<g class=\"gridline\" fill=\"url(#shade)\" transform=\"rotate(9) scale(2)\">"
                      "<use xlink:href='#dot' fill='rgb(1, 2,3)'/>"
                      "<text x=\"1\">1 &lt; 2 &#38; > \xc3\xa4</text></g>\n</svg>\n",
                      MOE_OK);
    ck_assert_str_eq(made, "<svg role=\"img\" width=\"9\" height=\"7.5\" viewBox=\"0 0 9 7.5\">"
                           "<title>a &lt; b</title>"
                           "<defs><circle id=\"p1-dot\" r=\"1\"></circle></defs>"
                           "<g fill=\"url(#p1-shade)\" transform=\"rotate(9) scale(2)\">"
                           "<use href=\"#p1-dot\" fill=\"rgb(1, 2,3)\"></use>"
                           "<text x=\"1\">1 &lt; 2 &#38; &gt; \xc3\xa4</text></g></svg>");
    free(made);
    made = draw("<svg viewBox='0 0 1 1'><image href='data:image/png;base64,AA+/='/></svg>", MOE_OK);
    ck_assert_ptr_nonnull(strstr(made, "<image href=\"data:image/png;base64,AA+/=\">"));
    free(made);
}
END_TEST

/* Each inside <svg>...</svg>, or whole where it begins with '!'. */
static const char *const hostile[][2] = {
    {"<script>alert(1)</script>", "'x.svg':1: element 'script'"},
    {"<g>\n\n<SCRIPT/></g>", "'x.svg':3: element 'SCRIPT'"},
    {"<foreignObject><body/></foreignObject>", "element 'foreignObject'"},
    {"<style>@import 'x'</style>", "element 'style'"},
    {"<a href='#x'/>", "element 'a'"},
    {"<animate/>", "element 'animate'"},
    {"<set attributeName='href'/>", "element 'set'"},
    {"<feImage href='#x'/>", "element 'feImage'"},
    {"<g onclick='x()'/>", "attribute 'onclick'"},
    {"<g style='fill:url(x)'/>", "attribute 'style'"},
    {"<g xml:base='http://x/'/>", "attribute 'xml:base'"},
    {"<use href='http://x/y.svg#z'/>", "reference 'http://x/y.svg#z' points outside the file"},
    {"<use xlink:href='y.svg#z'/>", "points outside the file"},
    {"<use href='javascript:x()'/>", "points outside the file"},
    {"<use href='#'/>", "points outside the file"},
    {"<use href='data:image/svg+xml;base64,AA'/>", "points outside the file"},
    {"<image href='x.png'/>", "points outside the file"},
    {"<image href='#x'/>", "points outside the file"},
    {"<image href='data:image/svg+xml;base64,AA'/>", "points outside the file"},
    {"<image href='data:image/png;base64,A\\'/>", "points outside the file"},
    {"<g fill='url(http://x/)'/>", "value 'url(http://x/)' of the attribute 'fill'"},
    {"<g fill='red url(#a) url(//x)'/>", "of the attribute 'fill'"},
    {"<g fill='url(#a)b url(#c)'/>", "of the attribute 'fill'"},
    {"<g fill='URL(x)'/>", "of the attribute 'fill'"},
    {"<g filter='src(x)'/>", "of the attribute 'filter'"},
    {"<g fill='\\75rl(x)'/>", "of the attribute 'fill'"},
    {"<g fill=' (x)'/>", "of the attribute 'fill'"},
    {"<g id='a b'/>", "of the attribute 'id'"},
    {"<g fill='&#117;rl(x)'/>", "entity in the attribute 'fill'"},
    {"<g fill='a\"onclick=\"'/>", "in the attribute 'fill'"},
    {"<g fill='<g>'/>", "in the attribute 'fill'"},
    {"<g fill=red/>", "attribute 'fill' has no quoted value"},
    {"<g fill/>", "expected an attribute"},
    {"<g fill='red/></svg>", "attribute 'fill' has no quoted value"},
    {"<g/ onclick='x'>", "'/' inside a tag"},
    {"<text>&nbsp;</text>", "unknown entity"},
    {"<text>&lt</text>", "unknown entity"},
    {"<text>&#x;</text>", "unknown entity"},
    {"<text>&#1114112;</text>", "unknown entity"},
    {"words", "text outside of an element 'text'"},
    {"<![CDATA[<script>]]>", "'<!' begins what is not allowed in a plot"},
    {"<?php x ?>", "'<?' begins"},
    {"<!-- no end", "'<!--' is not closed"},
    {"<g></svg>", "'/svg' closes 'g'"},
    {"</g>", "'/g' closes 'svg'"},
    {"<g", "expected an attribute"},
    {"<svg:script/>", "element 'svg:script'"},
    {"<title><script></title>", "'/title' closes 'script'"},
    {"!", "no element 'svg'"},
    {"!<!DOCTYPE svg [<!ENTITY x 'y'>]><svg/>", "'<!' begins"},
    {"!<html/>", "'html' where one element 'svg' was expected"},
    {"!<svg/><svg/>", "'svg' where one element 'svg' was expected"},
    {"!<svg/>text", "text outside"},
    {"!<svg><g>", "'g' is not closed"},
    {"!<svg>\xff</svg>", "not UTF-8"},
    {"!<svg>\n\x01</svg>", "'x.svg':2: control character 0x01"},
};

START_TEST(refused)
{
    char svg[200];
    const char *body = hostile[_i][0];
    if (*body == '!')
        snprintf(svg, sizeof svg, "%s", body + 1);
    else
        snprintf(svg, sizeof svg, "<svg>%s</svg>", body);
    free(draw(svg, MOE_ERR_INPUT));
    ck_assert_msg(strstr(err.text, hostile[_i][1]) != NULL, "%s: %s", svg, err.text);
}
END_TEST

START_TEST(depth)
{
    char svg[1000] = "<svg>", *at = svg + 5;
    for (int i = 0; i < MOE_SVG_DEPTH_MAX; i++, at += 3)
        memcpy(at, "<g>", 4);
    free(draw(svg, MOE_ERR_INPUT));
    ck_assert_str_eq(err.text, "'x.svg':1: elements nested deeper than 64");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("svg");
    TCase *t = tcase_create("svg");
    tcase_add_test(t, text_is_escaped);
    tcase_add_test(t, base64);
    tcase_add_test(t, a_plot);
    tcase_add_loop_test(t, refused, 0, sizeof hostile / sizeof *hostile);
    tcase_add_test(t, depth);
    suite_add_tcase(suite, t);
    return run_suite(suite);
}

#include "traces/ignored.h"

#include "base/units.h"

#include <stdio.h>
#include <string.h>

enum { MAX_KNOWN = 32, MAX_NAME = 64 };

/* The name as one printable word; a longer one is shortened where a character starts. */
static void make_word(char word[static MAX_NAME], const char *name, size_t length)
{
    size_t n = length < MAX_NAME ? length : MAX_NAME - 1;
    while (n < length && n > 0 && ((unsigned char)name[n] & 0xc0) == 0x80)
        n--;
    for (size_t i = 0; i < n; i++)
        word[i] = (unsigned char)name[i] <= ' ' || name[i] == 0x7f ? '_' : name[i];
    word[n] = '\0';
    if (n == 0)
        snprintf(word, MAX_NAME, "\"\"");
}

static bool has_word(const char *words, const char *word)
{
    size_t n = strlen(word);
    for (const char *at = words; (at = strstr(at, word)); at += n)
        if ((at == words || at[-1] == ' ') && (at[n] == ' ' || at[n] == '\0'))
            return true;
    return false;
}

static void add_word(struct moe_ignored *ignored, const char *word)
{
    size_t used = strlen(ignored->names);
    if (ignored->cut || has_word(ignored->names, word))
        return;
    if (used + 1 + strlen(word) >= sizeof ignored->names) {
        ignored->cut = true;
        return;
    }
    snprintf(ignored->names + used, sizeof ignored->names - used, "%s%s", used ? " " : "", word);
}

const char *moe_ignored_take(struct moe_ignored *ignored, const char *name, size_t length,
                             const char *const *known, const bool *present, size_t n_known)
{
    char word[MAX_NAME];
    const char *absent[MAX_KNOWN];
    size_t n = 0;
    make_word(word, name, length);
    for (size_t i = 0; i < n_known && n < MAX_KNOWN; i++)
        if (!present[i])
            absent[n++] = known[i];
    const char *near = moe_nearest_name(word, absent, n);
    if (!near)
        add_word(ignored, word);
    return near;
}

void moe_ignored_note(const struct moe_ignored *ignored, const char *what,
                      struct moe_trace_info *info)
{
    if (!ignored->names[0])
        return;
    char text[MOE_TEXT_MAX];
    size_t used = strlen(info->note);
    int n = snprintf(text, sizeof text, "%signored %s: %s%s", used ? "; " : "", what,
                     ignored->names, ignored->cut ? " ..." : "");
    size_t room = sizeof info->note - 1 - used;
    if ((size_t)n > room) { /* a note of the file's own left too little */
        if (room < sizeof "; ...")
            return;
        size_t keep = room - strlen(" ...");
        while (keep > 0 && text[keep] != ' ')
            keep--;
        snprintf(text + keep, sizeof text - keep, " ...");
    }
    memcpy(info->note + used, text, strlen(text) + 1);
}

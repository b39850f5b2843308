/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tokens.c - the tokens file: a principal a line, `NAME sha256:HEX ROLE...`.
 *
 * NAME stands for itself in logs; the hash is that of the token's text, or `-` for one who comes by certificate only.
 * Names inside roles are percent-encoded where they hold a blank, a `%` or (models of join:) a `/`. Lines that begin
 * with # are passed over. Tokens are 256 random bits, so a plain hash is enough: there is nothing to guess.
 *
 * Keeps true: a file is taken whole or not at all; no two lines have one name or one token. Called at start and on a
 * reload, by one thread. O(bytes of the file), and O(tokens^2) for the repeats: at most 10,000 lines.
 */
#include "access/inside.h"

#include "base/slice.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_TOKENS = 10000, MOST_LINE = 8192, MOST_ROLES = 1000, MOST_NAME = 1024 };

static void principal_free(struct principal *principal)
{
    for (size_t i = 0; i < principal->role_count; i++) {
        free(principal->roles[i].name);
        free(principal->roles[i].agent);
    }
    free(principal->roles);
    free(principal->name);
    free(principal);
}

struct principal *principal_ref(struct principal *principal)
{
    atomic_fetch_add(&principal->references, 1);
    return principal;
}

const struct principal *principal_keep(const struct principal *principal)
{
    bool counted = principal && atomic_load(&principal->references) > 0;
    return counted ? principal_ref((struct principal *)(uintptr_t)principal) : principal;
}

void principal_release(const struct principal *released)
{
    struct principal *principal = (struct principal *)(uintptr_t)released; /* its count is ours to change */
    if (principal && atomic_load(&principal->references) > 0 && atomic_fetch_sub(&principal->references, 1) == 1)
        principal_free(principal);
}

static int digit_of(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static bool parse_hash(struct principal *principal, const char *word)
{
    static const char prefix[] = "sha256:";
    if (strcmp(word, "-") == 0)
        return true;
    if (strncmp(word, prefix, sizeof prefix - 1) != 0 || strlen(word) != sizeof prefix - 1 + sizeof principal->hash * 2)
        return false;
    const char *hex = word + sizeof prefix - 1;
    for (size_t i = 0; i < TOKEN_HASH_BYTES; i++) {
        int high = digit_of(hex[2 * i]), low = digit_of(hex[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        principal->hash[i] = (unsigned char)(high << 4 | low);
    }
    principal->has_token = true;
    return true;
}

/* A copy of a percent-encoded name; NULL: it is none, or memory is out. */
static char *decoded_name(const char *text, size_t length)
{
    unsigned char *name = malloc(length + 1);
    size_t to = 0;
    bool good = name != NULL;
    for (size_t i = 0; good && i < length; i++) {
        if (text[i] != '%') {
            name[to++] = (unsigned char)text[i];
            continue;
        }
        int high = length - i > 2 ? digit_of(text[i + 1]) : -1, low = high < 0 ? -1 : digit_of(text[i + 2]);
        good = low >= 0 && (high | low) != 0; /* no NUL */
        if (good)
            name[to++] = (unsigned char)(high << 4 | low);
        i += 2;
    }
    if (!good || to == 0 || to > MOST_NAME) {
        free(name);
        return NULL;
    }
    name[to] = 0;
    return (char *)name;
}

static bool parse_role(struct role *role, const char *word)
{
    static const struct {
        const char *word;
        enum role_kind kind;
    } kinds[] = {{"read", ROLE_READ},
                 {"admin", ROLE_ADMIN},
                 {"model:", ROLE_MODEL},
                 {"report:", ROLE_REPORT},
                 {"join:", ROLE_JOIN}};
    *role = (struct role){0};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        size_t length = strlen(kinds[i].word);
        bool named = kinds[i].word[length - 1] == ':';
        if (strncmp(word, kinds[i].word, length) != 0 || (!named && word[length]))
            continue;
        role->kind = kinds[i].kind;
        const char *name = word + length;
        size_t name_length = role->kind == ROLE_JOIN ? strcspn(name, "/") : strlen(name);
        if (named && !(role->name = decoded_name(name, name_length)))
            return false;
        if (!named || !name[name_length])
            return true;
        name += name_length + 1;
        return (role->agent = decoded_name(name, strlen(name))) != NULL;
    }
    return false;
}

static bool add_role(struct principal *principal, const char *word)
{
    struct role *roles = realloc(principal->roles, (principal->role_count + 1) * sizeof *roles);
    if (!roles)
        return false;
    principal->roles = roles;
    struct role *role = &roles[principal->role_count++];
    if (!parse_role(role, word))
        return false;
    principal->admin |= role->kind == ROLE_ADMIN;
    principal->read |= role->kind == ROLE_READ || role->kind == ROLE_ADMIN;
    return true;
}

/* The principal of a line's words, or NULL: `problem` says what is wrong with which word. */
static struct principal *parse_line(char *line, char *problem, size_t problem_bytes)
{
    char *rest, *name = strtok_r(line, " \t", &rest), *hash = strtok_r(NULL, " \t", &rest), *word;
    struct principal *principal = calloc(1, sizeof *principal);
    if (!principal || !(principal->name = strdup(name))) {
        snprintf(problem, problem_bytes, "out of memory");
        goto failed;
    }
    atomic_store(&principal->references, 1);
    for (const char *c = name; *c; c++)
        if (*c < ' ' || *c == 0x7f) {
            snprintf(problem, problem_bytes, "a name wants printable ASCII");
            goto failed;
        }
    if (!hash || !parse_hash(principal, hash)) {
        snprintf(problem, problem_bytes, "wants sha256: and 64 hexadecimal digits, or -, behind the name");
        goto failed;
    }
    while ((word = strtok_r(NULL, " \t", &rest)))
        if (principal->role_count == MOST_ROLES || !add_role(principal, word)) {
            snprintf(problem, problem_bytes,
                     "wants read, model:MODEL, report:SERVER, join:MODEL, join:MODEL/AGENT or admin, got \"%.64s\"",
                     word);
            goto failed;
        }
    if (principal->role_count == 0) {
        snprintf(problem, problem_bytes, "wants at least one role");
        goto failed;
    }
    return principal;

failed:
    if (principal)
        principal_free(principal);
    return NULL;
}

static bool add_principal(struct tokens *tokens, struct principal *principal, char *problem, size_t problem_bytes)
{
    for (size_t i = 0; i < tokens->count; i++) {
        const struct principal *other = tokens->principals[i];
        bool same_name = strcmp(other->name, principal->name) == 0;
        if (same_name ||
            (other->has_token && principal->has_token && memcmp(other->hash, principal->hash, TOKEN_HASH_BYTES) == 0)) {
            snprintf(problem, problem_bytes, "the %s of an earlier line", same_name ? "name" : "token");
            return false;
        }
    }
    struct principal **more = NULL;
    if (tokens->count < MOST_TOKENS)
        more = realloc(tokens->principals, (tokens->count + 1) * sizeof(struct principal *));
    if (!more) {
        snprintf(problem, problem_bytes, "more than %d lines, or out of memory", MOST_TOKENS);
        return false;
    }
    tokens->principals = more;
    more[tokens->count++] = principal;
    return true;
}

static bool take_line(struct tokens *tokens, char *line, char *problem, size_t problem_bytes)
{
    size_t length = strlen(line);
    if (length == MOST_LINE - 1) {
        snprintf(problem, problem_bytes, "a line of more than %d bytes", MOST_LINE - 2);
        return false;
    }
    line[strcspn(line, "\r\n")] = 0;
    line += strspn(line, " \t");
    if (!*line || *line == '#')
        return true;
    struct principal *principal = parse_line(line, problem, problem_bytes);
    if (principal && !add_principal(tokens, principal, problem, problem_bytes)) {
        principal_free(principal);
        principal = NULL;
    }
    return principal != NULL;
}

bool tokens_load(struct tokens *tokens, const char *path, char *error, size_t error_bytes)
{
    char line[MOST_LINE], problem[256];
    *tokens = (struct tokens){0};
    FILE *file = fopen(path, "re");
    bool good = file != NULL;
    if (!good)
        snprintf(error, error_bytes, "--tokens: cannot read %.200s: %s", path, strerror(errno));
    for (unsigned number = 1; good && fgets(line, sizeof line, file); number++)
        if (!take_line(tokens, line, problem, sizeof problem)) {
            snprintf(error, error_bytes, "--tokens: %.160s:%u: %.200s", path, number, problem);
            good = false;
        }
    if (good && ferror(file)) {
        snprintf(error, error_bytes, "--tokens: cannot read %.200s: %s", path, strerror(errno));
        good = false;
    }
    if (file)
        fclose(file);
    if (good && tokens->count == 0) {
        snprintf(error, error_bytes, "--tokens: %.200s holds no token, so nobody could come in", path);
        good = false;
    }
    if (!good)
        tokens_free(tokens);
    return good;
}

void tokens_free(struct tokens *tokens)
{
    for (size_t i = 0; i < tokens->count; i++)
        principal_release(tokens->principals[i]);
    free(tokens->principals);
    *tokens = (struct tokens){0};
}

static bool same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool same_principal(const struct principal *a, const struct principal *b)
{
    bool same = strcmp(a->name, b->name) == 0 && a->has_token == b->has_token && a->role_count == b->role_count &&
                memcmp(a->hash, b->hash, TOKEN_HASH_BYTES) == 0;
    for (size_t i = 0; same && i < a->role_count; i++)
        same = a->roles[i].kind == b->roles[i].kind && same_text(a->roles[i].name, b->roles[i].name) &&
               same_text(a->roles[i].agent, b->roles[i].agent);
    return same;
}

void tokens_take_over(struct tokens *fresh, struct tokens *old)
{
    for (size_t i = 0; i < old->count; i++) {
        size_t at = 0;
        while (at < fresh->count && !same_principal(old->principals[i], fresh->principals[at]))
            at++;
        if (at < fresh->count) {
            struct principal *same = fresh->principals[at];
            fresh->principals[at] = old->principals[i];
            old->principals[i] = same;
        } else {
            atomic_store(&old->principals[i]->revoked, true);
        }
    }
    tokens_free(old);
}

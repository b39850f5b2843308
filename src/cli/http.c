/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http.c - asking presenced, by libcurl: one request after the other over one connection.
 *
 * Keeps true: what could not be asked ends the program with status 2 and says why; answers are bounded in memory
 * (MOST_ANSWER). One thread. The cost is the round trip.
 */
#include "cli.h"

#include <curl/curl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_ANSWER = 256 * 1024 * 1024, MOST_EVENT = 1024 * 1024, CONNECT_S = 10, ANSWER_S = 120 };

struct text {
    char *data;
    size_t length, capacity, most;
};

static CURL *curl;
static const struct cli *settings;
static char trouble[CURL_ERROR_SIZE + 64];

static bool text_add(struct text *text, const char *data, size_t length)
{
    if (length > text->most || text->length + length > text->most)
        return false;
    if (!text->data || text->length + length + 1 > text->capacity) {
        size_t capacity = 2 * (text->length + length + 1);
        char *grown = realloc(text->data, capacity);
        if (!grown)
            return false;
        text->data = grown;
        text->capacity = capacity;
    }
    memcpy(text->data + text->length, data, length);
    text->length += length;
    text->data[text->length] = 0;
    return true;
}

static void text_free(struct text *text)
{
    free(text->data);
    *text = (struct text){.most = text->most};
}

void http_start(const struct cli *cli)
{
    settings = cli;
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0 || !(curl = curl_easy_init()))
        fail("cannot start libcurl");
}

void http_stop(void)
{
    curl_easy_cleanup(curl);
    curl_global_cleanup();
}

/* --------------------------------------------------------------------------------------------------------- paths -- */

static char *joined(char *path, const char *more)
{
    size_t length = strlen(path), added = strlen(more);
    char *grown = realloc(path, length + added + 1);
    if (!grown)
        fail("out of memory");
    memcpy(grown + length, more, added + 1);
    return grown;
}

static char *encoded(char *path, const char *name)
{
    char *text = curl_easy_escape(curl, name, 0);
    if (!text)
        fail("out of memory");
    /* A segment of dots alone would be taken for a step in the path. */
    if (strcmp(text, ".") == 0 || strcmp(text, "..") == 0)
        path = joined(path, text[1] ? "%2E%2E" : "%2E");
    else
        path = joined(path, text);
    curl_free(text);
    return path;
}

char *http_path(const char *format, ...)
{
    char *path = strdup("");
    va_list names;
    if (!path)
        fail("out of memory");
    va_start(names, format);
    for (const char *at = format; *at;) {
        char part[128];
        size_t length = strcspn(at, "%");
        snprintf(part, sizeof part, "%.*s", (int)length, at);
        path = joined(path, part);
        at += length;
        if (*at) {
            /* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): clang-tidy 14 does not see the va_start above */
            path = encoded(path, va_arg(names, const char *));
            at += 2;
        }
    }
    va_end(names);
    return path;
}

char *http_query(char *path, const char *key, const char *value)
{
    if (!value)
        return path;
    path = joined(path, strchr(path, '?') ? "&" : "?");
    path = joined(path, key);
    path = joined(path, "=");
    return encoded(path, value);
}

/* ----------------------------------------------------------------------------------------------------- requests -- */

static size_t take_text(char *data, size_t size, size_t count, void *context)
{
    return text_add(context, data, size * count) ? size * count : 0;
}

/* What all requests have in common. The URL is to be freed once it is done. */
static char *prepare(const char *method, const char *path, struct curl_slist **headers)
{
    char *url = strdup(settings->url);
    if (!url)
        fail("out of memory");
    while (*url && url[strlen(url) - 1] == '/')
        url[strlen(url) - 1] = 0;
    url = joined(url, path);
    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, trouble);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_S);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "presence/" CLI_VERSION);
    curl_easy_setopt(curl, CURLOPT_TCP_NODELAY, 1L);
    if (settings->unix_socket)
        curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, settings->unix_socket);
    if (settings->ca)
        curl_easy_setopt(curl, CURLOPT_CAINFO, settings->ca);
    if (settings->certificate)
        curl_easy_setopt(curl, CURLOPT_SSLCERT, settings->certificate);
    if (settings->key)
        curl_easy_setopt(curl, CURLOPT_SSLKEY, settings->key);
    if (settings->token) {
        char header[4200];
        snprintf(header, sizeof header, "Authorization: Bearer %s", settings->token);
        *headers = curl_slist_append(*headers, header);
    }
    trouble[0] = 0;
    return url;
}

static void say_trouble(CURLcode code)
{
    if (!*trouble)
        snprintf(trouble, sizeof trouble, "%s", curl_easy_strerror(code));
}

/* What a problem document says, or else the status alone. */
static void fail_with(long status, const char *body)
{
    json_t *problem = json_loads(body ? body : "", 0, NULL);
    const char *detail = json_string_value(json_object_get(problem, "detail"));
    const char *title = json_string_value(json_object_get(problem, "title"));
    const char *hint = status == 401 ? " (--token-file gives a token)" : "";
    if (detail || title)
        fail("%s%s", detail ? detail : title, hint);
    fail("%s answered %ld%s", settings->url, status, hint);
}

long http_ask(const char *method, const char *path, json_t *send, json_t **body, long allowed)
{
    struct curl_slist *headers = curl_slist_append(NULL, "Accept: application/json");
    struct text answer = {.most = MOST_ANSWER};
    char *url = prepare(method, path, &headers), *sent = NULL;
    long status = 0;
    if (send) {
        headers = curl_slist_append(headers, "Content-Type: application/json");
        sent = json_dumps(send, JSON_COMPACT);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, sent);
    } else if (strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, "");
    }
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)ANSWER_S);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_text);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &answer);
    CURLcode code = curl_easy_perform(curl);
    if (code != CURLE_OK) {
        say_trouble(code);
        fail("cannot ask %s: %s", settings->url, trouble);
    }
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    if (status >= 400 && status != allowed)
        fail_with(status, answer.data);
    json_error_t error;
    json_t *json = answer.length > 0 ? json_loadb(answer.data, answer.length, JSON_DECODE_ANY, &error) : NULL;
    if (answer.length > 0 && !json && status < 400)
        fail("%s did not answer JSON: is it presenced?", settings->url);
    if (body)
        *body = json;
    else
        json_decref(json);
    text_free(&answer);
    curl_slist_free_all(headers);
    free(sent);
    free(url);
    return status;
}

/* A status of 400 or more is a problem document, not text to copy. */
struct copy {
    FILE *out;
    struct text problem;
};

static size_t copy_text(char *data, size_t size, size_t count, void *context)
{
    struct copy *copy = context;
    long status = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    if (status >= 400)
        return text_add(&copy->problem, data, size * count) ? size * count : 0;
    return fwrite(data, size, count, copy->out) * size;
}

void http_copy(const char *path, FILE *out)
{
    struct curl_slist *headers = NULL;
    struct copy copy = {out, {.most = MOST_EVENT}};
    char *url = prepare("GET", path, &headers);
    long status = 0;
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, copy_text);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &copy);
    CURLcode code = curl_easy_perform(curl);
    if (code != CURLE_OK) {
        say_trouble(code);
        fail("cannot ask %s: %s", settings->url, trouble);
    }
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    if (status >= 400)
        fail_with(status, copy.problem.data);
    text_free(&copy.problem);
    curl_slist_free_all(headers);
    free(url);
}

/* ------------------------------------------------------------------------------------------ Server-Sent Events -- */

struct follower {
    bool (*event)(const struct sse_event *event, void *context);
    void *context;
    bool done;
    struct text line, kind, id, data, problem;
};

static void set(struct text *text, const char *value)
{
    text->length = 0;
    if (!text_add(text, value, strlen(value)))
        fail("out of memory");
}

/* A blank line ends an event. False: no more is wanted. */
static bool end_event(struct follower *follower)
{
    struct sse_event event = {follower->kind.length ? follower->kind.data : "message",
                              follower->id.data ? follower->id.data : "", follower->data.data};
    bool more = follower->data.length == 0 || follower->event(&event, follower->context);
    follower->kind.length = follower->data.length = 0;
    follower->done = !more;
    return more;
}

static bool take_line(struct follower *follower, char *line)
{
    char *value = strchr(line, ':');
    if (!*line)
        return end_event(follower);
    if (value == line)
        return true; /* a comment: it only shows that the other side is there */
    if (value)
        *value++ = 0;
    if (value && *value == ' ')
        value++;
    if (strcmp(line, "event") == 0)
        set(&follower->kind, value ? value : "");
    else if (strcmp(line, "id") == 0)
        set(&follower->id, value ? value : "");
    else if (strcmp(line, "data") == 0)
        set(&follower->data, value ? value : "");
    return true;
}

static size_t take_events(char *data, size_t size, size_t count, void *context)
{
    struct follower *follower = context;
    size_t length = size * count;
    long status = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    if (status >= 400)
        return text_add(&follower->problem, data, length) ? length : 0;
    for (size_t i = 0; i < length; i++) {
        if (data[i] == '\r')
            continue;
        if (data[i] != '\n') {
            if (!text_add(&follower->line, &data[i], 1))
                return 0;
            continue;
        }
        follower->line.length = 0;
        if (!take_line(follower, follower->line.data ? follower->line.data : (char[]){0}))
            return 0;
        if (follower->line.data)
            follower->line.data[0] = 0;
    }
    return length;
}

bool http_follow(const char *path, const char *last_id, bool (*event)(const struct sse_event *event, void *context),
                 void *context)
{
    struct follower follower = {event,
                                context,
                                false,
                                {.most = MOST_EVENT},
                                {.most = 64},
                                {.most = 64},
                                {.most = MOST_EVENT},
                                {.most = MOST_EVENT}};
    struct curl_slist *headers = curl_slist_append(NULL, "Accept: text/event-stream");
    char *url = prepare("GET", path, &headers), header[128];
    long status = 0;
    if (last_id && *last_id) {
        snprintf(header, sizeof header, "Last-Event-ID: %.64s", last_id);
        headers = curl_slist_append(headers, header);
    }
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_events);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &follower);
    /* A peer that is gone without a word is found within two minutes. */
    curl_easy_setopt(curl, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(curl, CURLOPT_TCP_KEEPIDLE, 60L);
    curl_easy_setopt(curl, CURLOPT_TCP_KEEPINTVL, 20L);
    CURLcode code = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    if (status >= 400)
        fail_with(status, follower.problem.data);
    if (code == CURLE_OK)
        snprintf(trouble, sizeof trouble, "the other side has closed");
    else
        say_trouble(code);
    text_free(&follower.line);
    text_free(&follower.kind);
    text_free(&follower.id);
    text_free(&follower.data);
    text_free(&follower.problem);
    curl_slist_free_all(headers);
    free(url);
    return follower.done;
}

bool http_reachable(void)
{
    struct curl_slist *headers = NULL;
    char *url = prepare("GET", "/healthz", &headers);
    struct text answer = {.most = MOST_EVENT};
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)CONNECT_S);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_text);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &answer);
    CURLcode code = curl_easy_perform(curl);
    text_free(&answer);
    curl_slist_free_all(headers);
    free(url);
    return code == CURLE_OK;
}

const char *http_trouble(void)
{
    return trouble;
}

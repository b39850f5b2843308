/* SPDX-License-Identifier: Apache-2.0 */
/*
 * framing.c - a strict reader of HTTP/1 heads, lengths and chunks, line by line.
 *
 * Keeps true: `out` holds only what this very reader would take unchanged (the fuzzer gives it back to it), whatever
 * the pieces in which the input comes. Lines end with CR LF and hold no other control character but tabs in values.
 *
 * The loop of the connection. A line that comes in one piece is read where it lies.
 */
#include "http/framing.h"

#include "base/slice.h"

#include <event2/http.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST_CHUNK_LINE = 256, SIZE_DIGITS = 24 };

enum seen {
    SEEN_HEAD_METHOD = 1 << 0,
    SEEN_VERSION_0 = 1 << 1,
    SEEN_HOST = 1 << 2,
    SEEN_LENGTH = 1 << 3,
    SEEN_CODING = 1 << 4,
    SEEN_BLANK_LINE = 1 << 5, /* before the request line: one is passed over */
};

static const struct framing_problem not_ended = {400, "a line must end with CR LF, and hold neither alone"},
                                    bad_line = {400, "the request line wants METHOD TARGET HTTP/1.1"},
                                    bad_target = {400, "the target of the request is not a valid one"},
                                    unknown_version = {505, "HTTP/1.0 and HTTP/1.1 are spoken here"},
                                    unknown_method = {501, "there is no such method"},
                                    head_too_long = {431, "the head of the request is larger than max-header-bytes"},
                                    folded = {400, "a header must not go on on a second line"},
                                    bad_name = {400, "a header wants a name without blanks, then a colon"},
                                    bad_value = {400, "a header's value holds a control character"},
                                    two_hosts = {400, "the Host header is there twice"},
                                    two_lengths = {400, "the Content-Length header is there twice"},
                                    bad_length = {400, "Content-Length wants decimal digits and nothing else"},
                                    two_codings = {400, "the Transfer-Encoding header is there twice"},
                                    bad_coding = {400, "no Transfer-Encoding is known but chunked"},
                                    both = {400, "Content-Length and Transfer-Encoding exclude each other"},
                                    old_coding = {400, "HTTP/1.0 knows no Transfer-Encoding"},
                                    head_with_body = {400, "a HEAD request has no body"},
                                    bad_expectation = {417, "nothing can be expected but 100-continue"},
                                    body_too_long = {413, "the body is larger than max-request-bytes"},
                                    bad_chunk = {400, "a chunk wants its length in hexadecimal digits, then its data"};

void framing_free(struct framing *framing)
{
    bytes_free(&framing->line);
    bytes_free(&framing->head);
}

bool framing_is_between(const struct framing *framing)
{
    return framing->stage == FRAMING_REQUEST_LINE && framing->line.length == 0;
}

bool framing_skip(struct framing *framing, size_t length)
{
    if ((framing->stage != FRAMING_BODY && framing->stage != FRAMING_CHUNK) || length >= framing->left)
        return false;
    framing->left -= length;
    return true;
}

static void begin_request(struct framing *framing)
{
    framing->stage = FRAMING_REQUEST_LINE;
    framing->head.length = framing->head_bytes = 0;
    framing->body_bytes = 0;
    framing->seen = 0;
}

static void append_text(struct bytes *out, const char *text)
{
    bytes_append(out, text, strlen(text));
}

/* What evhttp has not got whole is ended in its place: a head by one that stands for it, a body by its last chunk. */
static void refuse(struct framing *framing, const struct framing_problem *problem, struct bytes *out)
{
    if (framing->stage <= FRAMING_FIELDS) {
        append_text(out, framing->seen & SEEN_HEAD_METHOD ? "HEAD / HTTP/1.1\r\n\r\n" : "GET / HTTP/1.1\r\n\r\n");
        framing->requests++;
    } else {
        append_text(out, framing->stage == FRAMING_CHUNK_END ? "\r\n0\r\n\r\n" : "0\r\n\r\n");
    }
    framing->stage = FRAMING_REFUSED;
    framing->problem = problem;
    framing_free(framing);
}

/* ----------------------------------------------------------------------------------------------------- the head -- */

static bool is_token(struct slice text)
{
    static const char others[] = "!#$%&'*+-.^_`|~";
    for (size_t i = 0; i < text.length; i++) {
        char c = text.text[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c && strchr(others, c))))
            return false;
    }
    return text.length > 0;
}

/* No control character: `also` is one that may be there all the same, or a blank. */
static bool is_printable(struct slice text, char also)
{
    for (size_t i = 0; i < text.length; i++) {
        unsigned char c = (unsigned char)text.text[i];
        if ((c < ' ' || c == 0x7f) && c != (unsigned char)also)
            return false;
    }
    return true;
}

/* What comes before the first `mark`; `text` begins behind it then. False: there is none. */
static bool cut_at(struct slice *text, char mark, struct slice *before)
{
    const char *at = memchr(text->text, mark, text->length);
    if (!at)
        return false;
    *before = (struct slice){text->text, (size_t)(at - text->text)};
    *text = (struct slice){at + 1, text->length - before->length - 1};
    return true;
}

/* Whether evhttp, too, can take it apart. */
static bool is_target(struct slice target)
{
    if (target.length == 0 || !is_printable(target, ' '))
        return false;
    if (target.text[0] == '/' && (target.length == 1 || target.text[1] != '/'))
        return true; /* a path: evhttp finds nothing wrong with any */
    char *text = malloc(target.length + 1);
    if (!text)
        return false;
    memcpy(text, target.text, target.length);
    text[target.length] = 0;
    struct evhttp_uri *uri = evhttp_uri_parse_with_flags(text, EVHTTP_URI_NONCONFORMANT);
    bool good = uri;
    if (uri)
        evhttp_uri_free(uri);
    free(text);
    return good;
}

static bool is_method(struct slice method)
{
    static const char *const methods[] = {"GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH"};
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (slice_equals(method, slice_of(methods[i])))
            return true;
    return false;
}

/* NULL: it is good. */
static const struct framing_problem *take_request_line(struct framing *framing, struct slice line)
{
    struct slice method, target, version = line;
    if (!cut_at(&version, ' ', &method) || !cut_at(&version, ' ', &target) || !is_token(method) ||
        version.length != 8 || memcmp(version.text, "HTTP/", 5) != 0 || version.text[6] != '.' ||
        version.text[5] < '0' || version.text[5] > '9' || version.text[7] < '0' || version.text[7] > '9')
        return &bad_line;
    if (version.text[5] != '1')
        return &unknown_version;
    if (!is_method(method))
        return &unknown_method;
    if (!is_target(target))
        return &bad_target;
    framing->seen |= (slice_equals(method, slice_of("HEAD")) ? SEEN_HEAD_METHOD : 0U) |
                     (version.text[7] == '0' ? SEEN_VERSION_0 : 0U);
    framing->left = 0;
    framing->stage = FRAMING_FIELDS;
    bytes_append(&framing->head, line.text, line.length);
    append_text(&framing->head, "\r\n");
    return NULL;
}

/* A field may be there once. */
static bool is_second(struct framing *framing, enum seen which)
{
    bool second = framing->seen & which;
    framing->seen |= which;
    return second;
}

/* Larger numbers than there are count as the largest. False: not digits. */
static bool take_digits(struct slice text, uint64_t *number)
{
    uint64_t value = 0;
    for (size_t i = 0; i < text.length; i++) {
        unsigned digit = (unsigned char)text.text[i] - (unsigned)'0';
        if (digit > 9)
            return false;
        value = value > (UINT64_MAX - digit) / 10 ? UINT64_MAX : value * 10 + digit;
    }
    *number = value;
    return text.length > 0;
}

static const struct framing_problem *take_length(struct framing *framing, struct slice value, bool blank_behind)
{
    char number[SIZE_DIGITS];
    if (is_second(framing, SEEN_LENGTH))
        return &two_lengths;
    if (blank_behind || !take_digits(value, &framing->left))
        return &bad_length;
    if (framing->left > framing->most_body_bytes)
        return &body_too_long;
    snprintf(number, sizeof number, "%" PRIu64 "\r\n", framing->left);
    append_text(&framing->head, "Content-Length: ");
    append_text(&framing->head, number);
    return NULL;
}

/* NULL: it is good. */
static const struct framing_problem *take_field(struct framing *framing, struct slice line)
{
    struct slice name, value = line;
    if (line.text[0] == ' ' || line.text[0] == '\t')
        return &folded;
    if (!cut_at(&value, ':', &name) || !is_token(name))
        return &bad_name;
    for (; value.length > 0 && (*value.text == ' ' || *value.text == '\t'); value.length--)
        value.text++;
    size_t length = value.length;
    while (value.length > 0 && (value.text[value.length - 1] == ' ' || value.text[value.length - 1] == '\t'))
        value.length--;
    if (!is_printable(value, '\t'))
        return &bad_value;
    if (slice_is_word(name, "Content-Length"))
        return take_length(framing, value, length > value.length);
    if (slice_is_word(name, "Transfer-Encoding")) {
        if (is_second(framing, SEEN_CODING))
            return &two_codings;
        if (length > value.length || !slice_is_word(value, "chunked"))
            return &bad_coding;
    } else if (slice_is_word(name, "Host")) {
        if (is_second(framing, SEEN_HOST))
            return &two_hosts;
    } else if (slice_is_word(name, "Expect") && !slice_is_word(value, "100-continue")) {
        return &bad_expectation;
    }
    bytes_append(&framing->head, name.text, name.length);
    append_text(&framing->head, ": ");
    bytes_append(&framing->head, value.text, value.length);
    append_text(&framing->head, "\r\n");
    return NULL;
}

/* The head is whole: NULL, and `out` has it, or what is wrong with it. */
static const struct framing_problem *end_head(struct framing *framing, struct bytes *out)
{
    unsigned seen = framing->seen;
    if ((seen & SEEN_CODING) && (seen & SEEN_LENGTH))
        return &both;
    if ((seen & SEEN_CODING) && (seen & SEEN_VERSION_0))
        return &old_coding;
    if ((seen & SEEN_HEAD_METHOD) && ((seen & SEEN_CODING) || framing->left > 0))
        return &head_with_body; /* evhttp would take the body for the next request */
    bytes_append(out, framing->head.data, framing->head.length);
    append_text(out, "\r\n");
    out->failed |= framing->head.failed;
    framing->requests++;
    if (seen & SEEN_CODING)
        framing->stage = FRAMING_CHUNK_LINE;
    else if (framing->left > 0)
        framing->stage = FRAMING_BODY;
    else
        begin_request(framing);
    return NULL;
}

/* ----------------------------------------------------------------------------------------------------- the body -- */

/* LENGTH[;EXTENSIONS]. NULL: it is good. */
static const struct framing_problem *take_chunk_line(struct framing *framing, struct slice line, struct bytes *out)
{
    char number[SIZE_DIGITS];
    uint64_t size = 0;
    size_t digits = 0;
    for (; digits < line.length; digits++) {
        char c = line.text[digits];
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                         : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A') + 10
                                                : 16;
        if (digit == 16)
            break;
        size = size > UINT64_MAX >> 4 ? UINT64_MAX : size << 4 | digit;
    }
    if (digits == 0 || (digits < line.length && line.text[digits] != ';') || !is_printable(line, '\t'))
        return &bad_chunk;
    if (size > framing->most_body_bytes - framing->body_bytes)
        return &body_too_long;
    framing->body_bytes += size;
    framing->left = size;
    framing->stage = size > 0 ? FRAMING_CHUNK : FRAMING_TRAILERS;
    snprintf(number, sizeof number, "%" PRIx64 "\r\n", size);
    if (size > 0)
        append_text(out, number);
    return NULL;
}

/* Trailers are checked as headers are, and dropped: evhttp would take them for headers. */
static const struct framing_problem *take_trailer(struct framing *framing, struct slice line, struct bytes *out)
{
    struct slice name, value = line;
    if (line.length == 0) {
        append_text(out, "0\r\n\r\n");
        begin_request(framing);
        return NULL;
    }
    if (line.text[0] == ' ' || line.text[0] == '\t')
        return &folded;
    if (!cut_at(&value, ':', &name) || !is_token(name))
        return &bad_name;
    return is_printable(value, '\t') ? NULL : &bad_value;
}

/* A whole line, with its end. NULL: it is good. */
static const struct framing_problem *take_line(struct framing *framing, struct slice line, struct bytes *out)
{
    if (line.length < 2 || line.text[line.length - 2] != '\r' || memchr(line.text, '\r', line.length - 2))
        return framing->stage >= FRAMING_CHUNK_LINE ? &bad_chunk : &not_ended;
    line.length -= 2;
    switch (framing->stage) {
    case FRAMING_REQUEST_LINE:
        if (line.length == 0 && !is_second(framing, SEEN_BLANK_LINE))
            return NULL;
        return take_request_line(framing, line);
    case FRAMING_FIELDS:
        return line.length > 0 ? take_field(framing, line) : end_head(framing, out);
    case FRAMING_CHUNK_LINE:
        return take_chunk_line(framing, line, out);
    case FRAMING_CHUNK_END:
        if (line.length > 0)
            return &bad_chunk;
        append_text(out, "\r\n");
        framing->stage = FRAMING_CHUNK_LINE;
        return NULL;
    case FRAMING_TRAILERS:
        return take_trailer(framing, line, out);
    case FRAMING_BODY:
    case FRAMING_CHUNK:
    case FRAMING_REFUSED:
        break;
    }
    return NULL;
}

/* As much of the data as belongs to the line: counted, kept if its end is to come, read if it is there. */
static size_t take_line_part(struct framing *framing, const char *data, size_t length, struct bytes *out)
{
    const char *end = memchr(data, '\n', length);
    size_t part = end ? (size_t)(end - data) + 1 : length;
    bool of_chunk = framing->stage == FRAMING_CHUNK_LINE || framing->stage == FRAMING_CHUNK_END;
    const struct framing_problem *problem = NULL;
    if (!of_chunk)
        framing->head_bytes += part;
    if (!of_chunk && framing->head_bytes > framing->most_head_bytes) {
        problem = &head_too_long;
    } else if (of_chunk && framing->line.length + part > MOST_CHUNK_LINE) {
        problem = &bad_chunk;
    } else if (!end || framing->line.length > 0) {
        bytes_append(&framing->line, data, part);
        out->failed |= framing->line.failed;
        if (end && framing->line.data && !framing->line.failed) {
            problem = take_line(framing, (struct slice){framing->line.data, framing->line.length}, out);
            framing->line.length = 0;
        }
    } else {
        problem = take_line(framing, (struct slice){data, part}, out);
    }
    if (problem)
        refuse(framing, problem, out);
    return part;
}

void framing_take(struct framing *framing, const char *data, size_t length, struct bytes *out)
{
    while (length > 0 && framing->stage != FRAMING_REFUSED && !out->failed) {
        size_t part = length;
        if (framing->stage == FRAMING_BODY || framing->stage == FRAMING_CHUNK) {
            part = framing->left < part ? (size_t)framing->left : part;
            bytes_append(out, data, part);
            framing->left -= part;
            if (framing->left == 0 && framing->stage == FRAMING_BODY)
                begin_request(framing);
            else if (framing->left == 0)
                framing->stage = FRAMING_CHUNK_END;
        } else {
            part = take_line_part(framing, data, length, out);
        }
        data += part;
        length -= part;
    }
    if (framing_is_between(framing)) /* a connection at rest holds nothing */
        framing_free(framing);
}

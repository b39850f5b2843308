/* SPDX-License-Identifier: Apache-2.0 */
/*
 * page.c - the dashboard's files. They may load nothing but each other, and talk to nobody but us: the policy says so
 * to the browser, and would hold even if a name of somebody's found a way to be taken for HTML. Any loop.
 */
#include "http/page.h"

#include "http/exchange.h"

#include <stdlib.h>

static const char policy[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

void page_answer(struct exchange *exchange, const char *name)
{
    const struct page *page = pages;
    while (page < pages + page_count && strcmp(page->path, name) != 0)
        page++;
    if (page == pages + page_count) {
        exchange_problem(exchange, 404, "ERR", "this presenced was built without its page");
        return;
    }
    const char *known = exchange_asked(exchange, "If-None-Match");
    exchange_header(exchange, "ETag", page->tag);
    exchange_header(exchange, "Content-Security-Policy", policy);
    exchange_header(exchange, "Referrer-Policy", "no-referrer");
    exchange_header(exchange, "Cross-Origin-Opener-Policy", "same-origin");
    if (known && strstr(known, page->tag))
        exchange_send(exchange, 304, NULL, NULL, 0);
    else
        exchange_send(exchange, 200, page->type, page->data, page->length);
}

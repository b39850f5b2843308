/* SPDX-License-Identifier: Apache-2.0 */
/*
 * driver_hold.c - views that are held while the record goes on, compared later with what the shadow was, and freed in
 * any order; and the end of a run, where the recorder may go before its views. Watches are in driver_watch.c.
 */
#include "driver_inside.h"

#include <stdlib.h>

static void keep_view(struct driver *driver, struct driver_view *place, presence_connections *view,
                      struct driver_filter filter, const struct shadow *shown)
{
    presence_connections_free(place->view);
    struct shadow *copy = malloc(sizeof *copy);
    if (copy == NULL) {
        driver_differs(driver, "no memory for a shadow");
    }
    *copy = *shown;
    free(place->shown);
    *place = (struct driver_view){view, filter, copy};
}

void driver_take_view(struct driver *driver)
{
    struct driver_view *place = &driver->views[script_below(&driver->script, DRIVER_VIEWS)];
    driver_says(driver, "take a view at %llu", (unsigned long long)driver->shadow.revision);
    driver_arm(driver);
    presence_connections *view = presence_recorder_connections(driver->recorder);
    driver_disarm(driver);
    bool may_fail = driver->armed;
    driver->armed = false;
    if (view == NULL) {
        if (!may_fail) {
            driver_differs(driver, "no memory for a view");
        }
        return;
    }
    keep_view(driver, place, view, DRIVER_EVERYTHING, &driver->shadow);
}

/* A slice of a held view takes another place, and outlives it. */
void driver_slice_view(struct driver *driver)
{
    struct driver_view *from = &driver->views[script_below(&driver->script, DRIVER_VIEWS)];
    struct driver_view *to = &driver->views[script_below(&driver->script, DRIVER_VIEWS)];
    int kind = (int)script_below(&driver->script, 3);
    int name = kind == 0   ? (int)script_below(&driver->script, (unsigned)driver->shadow.models)
               : kind == 1 ? driver_server(driver)
                           : (int)script_below(&driver->script, (unsigned)driver->shadow.agents);
    if (from->view == NULL) {
        return;
    }
    driver_says(driver, "slice view %d by kind %d, %d", (int)(from - driver->views), kind, name);
    presence_connections *slice = driver_slice(driver, from->view, kind, name);
    struct shadow shown = *from->shown;
    keep_view(driver, to, slice, driver_narrow(from->filter, kind, name), &shown);
}

static void check_view(struct driver *driver, const struct driver_view *held)
{
    driver_check_slice(driver, held->view, held->shown, &held->filter);
}

static void drop(struct driver_view *held)
{
    presence_connections_free(held->view);
    free(held->shown);
    *held = (struct driver_view){.view = NULL};
}

void driver_drop_view(struct driver *driver)
{
    struct driver_view *held = &driver->views[script_below(&driver->script, DRIVER_VIEWS)];
    if (held->view == NULL) {
        return;
    }
    driver_says(driver, "drop view %d of %llu", (int)(held - driver->views), (unsigned long long)held->shown->revision);
    check_view(driver, held);
    drop(held);
}

void driver_check_held_views(struct driver *driver)
{
    for (int at = 0; at < DRIVER_VIEWS; at++) {
        /* Each whole comparison visits a third of them, so that it does not cost eight times as much. */
        if (driver->views[at].view != NULL && ((size_t)at + driver->step) % 3 == 0) {
            check_view(driver, &driver->views[at]);
        }
    }
}

void driver_trim(struct driver *driver)
{
    driver_says(driver, "trim");
    presence_recorder_trim(driver->recorder);
}

void driver_let_go(struct driver *driver)
{
    for (int at = 0; at < DRIVER_WATCHES; at++) {
        presence_watch_free(driver->watches[at].watch);
    }
    presence_statement_reader_free(driver->statements.reader);
    driver_end_fills(driver, false);
    unsigned first = script_byte(&driver->script);
    unsigned before_recorder = script_below(&driver->script, DRIVER_VIEWS + 1);
    for (unsigned at = 0; at < DRIVER_VIEWS; at++) {
        if (at == before_recorder) {
            presence_recorder_free(driver->recorder);
            driver->recorder = NULL;
        }
        struct driver_view *held = &driver->views[(first + at * 3) % DRIVER_VIEWS];
        if (held->view != NULL) {
            check_view(driver, held);
            drop(held);
        }
    }
    presence_recorder_free(driver->recorder);
}

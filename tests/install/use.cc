/* SPDX-License-Identifier: Apache-2.0 */
/*
 * use.cc - a user's C++ program: the C types in a class of its own, a view walked with a cursor, a watch. Built as
 * C++11 to C++20 by headers.sh, and run against the installed library by install.sh.
 */
#include <presence/presence.h>
#include <presence/replica.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>

namespace
{

struct release {
    void operator()(presence_recorder *recorder) const
    {
        presence_recorder_free(recorder);
    }
    void operator()(presence_connections *connections) const
    {
        presence_connections_free(connections);
    }
    void operator()(presence_watch *watch) const
    {
        presence_watch_free(watch);
    }
};

presence_time noon(void *)
{
    return 43200000000000;
}

const char model[] = "6a3c1f1e-2f0a-4f3b-8f64-0d2f5d3c9a11";

/* Each event that is pending, as a string of kinds. */
std::string kinds(presence_watch *watch)
{
    std::string told;
    presence_event event = presence_event();
    while (presence_watch_next(watch, &event) == 1) {
        told += std::to_string(static_cast<int>(event.kind));
    }
    return told;
}

bool tell()
{
    const presence_clock clock = {noon, nullptr};
    std::unique_ptr<presence_recorder, release> recorder(presence_recorder_new(&clock));
    if (!recorder) {
        return false;
    }
    presence_recorder_enable(recorder.get());

    presence_watch *opened = nullptr;
    presence_error error = presence_error();
    if (presence_watch_open(recorder.get(), nullptr, &opened, &error) != PRESENCE_OK) {
        return false;
    }
    std::unique_ptr<presence_watch, release> watch(opened);

    for (std::uint64_t id = 1; id <= 3; id++) {
        const std::string agent = "machine-" + std::to_string(id);
        const char *const server = "machine-0";
        if (presence_recorder_connect(recorder.get(), server, model, agent.c_str(), id, false, "") != PRESENCE_OK) {
            return false;
        }
    }

    std::unique_ptr<presence_connections, release> all(presence_recorder_connections(recorder.get()));
    std::unique_ptr<presence_connections, release> slice(presence_connections_for_model(all.get(), model));
    presence_cursor cursor = presence_cursor();
    presence_value value = presence_value();
    std::size_t walked = 0;
    while (presence_connections_next(slice.get(), &cursor, &value)) {
        if (value.last_seen != noon(nullptr) || value.status != PRESENCE_ALIVE) {
            return false;
        }
        walked++;
    }
    return walked == 3 && presence_connections_count(slice.get()) == 3 && kinds(watch.get()) == "111";
}

} // namespace

int main()
{
    if (!tell()) {
        std::fprintf(stderr, "the record is not what it should be\n");
        return 1;
    }
    std::puts(presence_version());
    return 0;
}

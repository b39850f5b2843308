/* SPDX-License-Identifier: Apache-2.0 */
/*
 * measure.c - clocks, samples, histograms, memory readings and the description of the machine.
 *
 * Keeps true: nothing is subtracted from a measured time, and no sample is thrown away for being an outlier; the median
 * copes with noise, and the spread shows it. Called by every other file of the benchmark, from any of its threads (a
 * samples or histogram object by one thread at a time). Costs: adding to a histogram is about 2 ns.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "measure.h"

#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#if defined __has_include
#if __has_include(<sys/single_threaded.h>)
#include <sys/single_threaded.h>
#define ONE_THREAD __libc_single_threaded
#endif
#endif
#ifndef ONE_THREAD
#define ONE_THREAD false
#endif
#include <unistd.h>

clockid_t stopwatch_clock = CLOCK_MONOTONIC;

double clock_cost_ns(clockid_t clock)
{
    struct samples samples;
    samples_clear(&samples);
    for (int round = 0; round < 21; round++) {
        enum { READINGS = 2000 };
        uint64_t start = wall_ns();
        for (int i = 0; i < READINGS; i++) {
            (void)clock_read_ns(clock);
        }
        samples_add(&samples, (double)(wall_ns() - start) / READINGS);
    }
    return samples_median(&samples);
}

void samples_clear(struct samples *samples)
{
    samples->count = 0;
}

void samples_add(struct samples *samples, double value)
{
    if (samples->count < SAMPLES_MAX) {
        samples->value[samples->count++] = value;
    }
}

static int compare_doubles(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

double samples_median(const struct samples *samples)
{
    if (samples->count == 0) {
        return 0;
    }
    double sorted[SAMPLES_MAX];
    memcpy(sorted, samples->value, samples->count * sizeof sorted[0]);
    qsort(sorted, samples->count, sizeof sorted[0], compare_doubles);
    size_t middle = samples->count / 2;
    return samples->count % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

double samples_min(const struct samples *samples)
{
    double least = samples->count ? samples->value[0] : 0;
    for (size_t i = 1; i < samples->count; i++) {
        least = samples->value[i] < least ? samples->value[i] : least;
    }
    return least;
}

double samples_max(const struct samples *samples)
{
    double most = samples->count ? samples->value[0] : 0;
    for (size_t i = 1; i < samples->count; i++) {
        most = samples->value[i] > most ? samples->value[i] : most;
    }
    return most;
}

void histogram_clear(struct histogram *histogram)
{
    memset(histogram, 0, sizeof *histogram);
}

/* The exponent and the five bits below the leading one; values below 32 have a bucket each. */
static unsigned histogram_bucket_of(uint64_t value)
{
    if (value < HISTOGRAM_STEPS) {
        return (unsigned)value;
    }
    unsigned exponent = 63u - (unsigned)__builtin_clzll(value);
    unsigned step = (unsigned)(value >> (exponent - 5u)) & (HISTOGRAM_STEPS - 1u);
    return (exponent - 4u) * HISTOGRAM_STEPS + step;
}

static double histogram_bucket_value(unsigned bucket)
{
    if (bucket < HISTOGRAM_STEPS) {
        return (double)bucket;
    }
    unsigned exponent = bucket / HISTOGRAM_STEPS + 4u, step = bucket % HISTOGRAM_STEPS;
    uint64_t width = (uint64_t)1 << (exponent - 5u);
    return (double)((HISTOGRAM_STEPS + (uint64_t)step) * width) + (double)width / 2;
}

static void histogram_keep_worst(struct histogram *histogram, uint64_t value, uint64_t position)
{
    int at = HISTOGRAM_WORST - 1;
    while (at > 0 && histogram->worst[at - 1] < value) {
        histogram->worst[at] = histogram->worst[at - 1];
        histogram->worst_at[at] = histogram->worst_at[at - 1];
        at--;
    }
    histogram->worst[at] = value;
    histogram->worst_at[at] = position;
}

void histogram_add(struct histogram *histogram, uint64_t value, uint64_t position)
{
    histogram->count++;
    histogram->bucket[histogram_bucket_of(value)]++;
    if (value > histogram->worst[HISTOGRAM_WORST - 1]) {
        histogram_keep_worst(histogram, value, position);
    }
}

double histogram_percentile(const struct histogram *histogram, double percent)
{
    uint64_t wanted = (uint64_t)((double)histogram->count * percent / 100.0), seen = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += histogram->bucket[i];
        if (seen > wanted) {
            return histogram_bucket_value(i);
        }
    }
    return (double)histogram->worst[0];
}

/* ----------------------------------------------------------------------------------------------------- machine -- */

/* The first line of a small file without its end of line; "" if there is none. */
static void read_line(const char *path, char *text, size_t capacity)
{
    text[0] = 0;
    FILE *file = fopen(path, "re");
    if (file) {
        if (fgets(text, (int)capacity, file)) {
            text[strcspn(text, "\n")] = 0;
        }
        fclose(file);
    }
}

static void read_cpu_model(char *text, size_t capacity)
{
    snprintf(text, capacity, "unknown");
    FILE *file = fopen("/proc/cpuinfo", "re");
    if (!file) {
        return;
    }
    char line[256];
    while (fgets(line, sizeof line, file)) {
        if (strncmp(line, "model name", 10) == 0 && strchr(line, ':')) {
            const char *name = strchr(line, ':') + 1;
            name += strspn(name, " \t");
            snprintf(text, capacity, "%.*s", (int)strcspn(name, "\n"), name);
            break;
        }
    }
    fclose(file);
}

static void read_caches(char *text, size_t capacity)
{
    size_t used = 0;
    text[0] = 0;
    for (int index = 0; index < 8; index++) {
        char path[96], level[16], type[32], size[32];
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/level", index);
        read_line(path, level, sizeof level);
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/type", index);
        read_line(path, type, sizeof type);
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", index);
        read_line(path, size, sizeof size);
        if (!level[0] || !size[0] || strcmp(type, "Instruction") == 0 || used >= capacity) {
            continue;
        }
        int wrote = snprintf(text + used, capacity - used, "%sL%s%s %s", used ? ", " : "", level,
                             strcmp(type, "Data") == 0 ? "d" : "", size);
        used += wrote > 0 ? (size_t)wrote : 0;
    }
    if (!text[0]) {
        snprintf(text, capacity, "unknown");
    }
}

void machine_read_load(char *text, size_t capacity)
{
    double load[3] = {0, 0, 0};
    if (getloadavg(load, 3) != 3) {
        snprintf(text, capacity, "unknown");
        return;
    }
    snprintf(text, capacity, "%.2f %.2f %.2f", load[0], load[1], load[2]);
}

void machine_read(struct machine *machine, const char *library_version)
{
    memset(machine, 0, sizeof *machine);
    read_cpu_model(machine->cpu, sizeof machine->cpu);
    read_caches(machine->caches, sizeof machine->caches);
    struct utsname system;
    if (uname(&system) == 0) {
        snprintf(machine->kernel, sizeof machine->kernel, "%.40s %.60s %.40s", system.sysname, system.release,
                 system.machine);
    }
    read_line("/sys/kernel/mm/transparent_hugepage/enabled", machine->huge_pages, sizeof machine->huge_pages);
    if (!machine->huge_pages[0]) {
        snprintf(machine->huge_pages, sizeof machine->huge_pages, "none");
    }
#if defined(__clang__)
    snprintf(machine->compiler, sizeof machine->compiler, "clang %s", __clang_version__);
#else
    snprintf(machine->compiler, sizeof machine->compiler, "gcc %s", __VERSION__);
#endif
    snprintf(machine->library, sizeof machine->library, "%s", library_version);
    machine->cores = sysconf(_SC_NPROCESSORS_ONLN);
    machine->memory_gib = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE) / (1024.0 * 1024 * 1024);
    machine->cpu_used = -1;
    machine_read_load(machine->load, sizeof machine->load);
}

static cpu_set_t allowed_at_start;
static bool allowed_was_read;

static bool read_allowed(void)
{
    if (!allowed_was_read) {
        allowed_was_read = sched_getaffinity(0, sizeof allowed_at_start, &allowed_at_start) == 0;
    }
    return allowed_was_read;
}

int machine_pin(int cpu)
{
    if (!read_allowed()) {
        return -1;
    }
    for (int i = CPU_SETSIZE - 1; cpu < 0 && i >= 0; i--) {
        cpu = CPU_ISSET((size_t)i, &allowed_at_start) ? i : cpu;
    }
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((size_t)cpu, &one);
    return sched_setaffinity(0, sizeof one, &one) == 0 ? cpu : -1;
}

int machine_other_cpu(int cpu)
{
    for (int i = 0; read_allowed() && i < CPU_SETSIZE; i++) {
        if (i != cpu && CPU_ISSET((size_t)i, &allowed_at_start)) {
            return i;
        }
    }
    return -1;
}

uint64_t resident_bytes(void)
{
    char line[128], *after_total;
    read_line("/proc/self/statm", line, sizeof line);
    (void)strtoull(line, &after_total, 10);
    return strtoull(after_total, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE);
}

enum { HUGE_PAGE_BYTES = 2 * 1024 * 1024 };

static size_t whole_huge_pages(size_t bytes)
{
    return (bytes + HUGE_PAGE_BYTES - 1) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
}

void *huge_memory_new(size_t bytes)
{
    size_t rounded = whole_huge_pages(bytes);
    char *memory = mmap(NULL, rounded + HUGE_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        return NULL;
    }
    size_t before = (HUGE_PAGE_BYTES - (uintptr_t)memory % HUGE_PAGE_BYTES) % HUGE_PAGE_BYTES;
    if (before > 0) {
        munmap(memory, before);
    }
    munmap(memory + before + rounded, HUGE_PAGE_BYTES - before);
    (void)madvise(memory + before, rounded, MADV_HUGEPAGE); /* only advice: refused where there are none */
    memset(memory + before, 0, rounded);
    return memory + before;
}

void huge_memory_free(void *memory, size_t bytes)
{
    if (memory) {
        munmap(memory, whole_huge_pages(bytes));
    }
}

void huge_page_faults(struct samples *samples, size_t pages)
{
    const size_t huge = (size_t)2 << 20;
    size_t bytes = (pages + 1) * huge;
    samples_clear(samples);
    char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        return;
    }
    char *aligned = (char *)(((uintptr_t)memory + huge - 1) & ~(uintptr_t)(huge - 1));
    (void)madvise(aligned, pages * huge, MADV_HUGEPAGE); /* only advice */
    for (size_t i = 0; i < pages; i++) {
        uint64_t start = thread_cpu_ns();
        *(volatile char *)(aligned + i * huge) = 1;
        samples_add(samples, (double)(thread_cpu_ns() - start));
    }
    munmap(memory, bytes);
}

bool process_has_one_thread(void)
{
    return ONE_THREAD;
}

uint64_t thread_preemptions(void)
{
    struct rusage usage;
    return getrusage(RUSAGE_THREAD, &usage) == 0 ? (uint64_t)usage.ru_nivcsw : 0;
}

void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("bench_recorder: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

void *allocate_or_die(size_t count, size_t each_bytes)
{
    void *memory = calloc(count ? count : 1, each_bytes);
    if (!memory) {
        die("out of memory for %zu elements of %zu bytes", count, each_bytes);
    }
    /* Written, not only mapped: later page faults belong to the recorder alone. */
    for (size_t at = 0; at < count * each_bytes; at += 4096) {
        ((volatile char *)memory)[at] = 0;
    }
    return memory;
}

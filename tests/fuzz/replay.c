/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay.c - a main for the fuzz targets where there is no fuzzer: runs each file, and each file of each folder, that
 * is given as an argument, and fails if there was none. With it a corpus is part of the tests, with any compiler.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

enum { MOST_BYTES = 1 << 20, MOST_PATH = 4096 };

static int run_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint8_t *bytes = malloc(MOST_BYTES);
    if (file == NULL || bytes == NULL) {
        fprintf(stderr, "replay: cannot read %s\n", path);
        exit(2);
    }
    size_t length = fread(bytes, 1, MOST_BYTES, file);
    fclose(file);
    uint8_t *exact = malloc(length == 0 ? 1 : length); /* so that a read past the end is seen by a sanitizer */
    if (exact == NULL) {
        exit(2);
    }
    memcpy(exact, bytes, length);
    free(bytes);
    printf("%s\n", path);
    fflush(stdout);
    LLVMFuzzerTestOneInput(exact, length);
    free(exact);
    return 1;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int run_folder(const char *path)
{
    struct dirent **entries = NULL;
    int count = scandir(path, &entries, NULL, by_name), ran = 0;
    for (int at = 0; at < count; at++) {
        char inside[MOST_PATH];
        if (entries[at]->d_name[0] != '.') {
            snprintf(inside, sizeof inside, "%s/%s", path, entries[at]->d_name);
            ran += run_file(inside);
        }
        free(entries[at]);
    }
    free(entries);
    return ran;
}

int main(int count, char **words)
{
    int ran = 0;
    for (int at = 1; at < count; at++) {
        struct stat status;
        if (stat(words[at], &status) != 0) {
            fprintf(stderr, "replay: no such file or folder: %s\n", words[at]);
            return 2;
        }
        ran += S_ISDIR(status.st_mode) ? run_folder(words[at]) : run_file(words[at]);
    }
    if (ran == 0) {
        fprintf(stderr, "usage: replay FILE-OR-FOLDER...\n");
        return 2;
    }
    printf("replay: %d inputs, no difference\n", ran);
    return 0;
}

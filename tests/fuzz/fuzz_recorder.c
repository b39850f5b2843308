/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_recorder.c - the model test's driver, with its operations chosen by a fuzzer's bytes.
 *
 * Any difference between the recorder and its shadow aborts. Linked with libFuzzer, or with replay.c, which runs the
 * corpus. Cost: some tens of microseconds for each operation, of which an input makes at most STEPS.
 */
#include "model/driver.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

enum { STEPS = 1500, EVERY = 5 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    static const uint8_t nothing;
    struct driver_run run = {.bytes = length == 0 ? &nothing : bytes, .length = length, .steps = STEPS, .every = EVERY};
    driver_run(&run);
    return 0;
}

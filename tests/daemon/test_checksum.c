/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_checksum.c - CRC-32C against the values of RFC 3720, and the two ways to compute it against each other.
 */
#include "base/checksum.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void expect(const void *data, size_t length, uint32_t wanted)
{
    assert_int_equal(checksum_of(data, length), wanted);
    assert_int_equal(checksum_by_table(data, length), wanted);
}

static void known_values_are_met(void **unused)
{
    (void)unused;
    unsigned char bytes[32];
    expect("", 0, 0);
    expect("123456789", 9, 0xe3069283U);
    expect(memset(bytes, 0, sizeof bytes), sizeof bytes, 0x8a9136aaU);
    expect(memset(bytes, 0xff, sizeof bytes), sizeof bytes, 0x62a8ab43U);
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)i;
    expect(bytes, sizeof bytes, 0x46dd794eU);
}

/* Every length and alignment; each in memory of its own size, so that a sanitizer sees a read behind its end. */
static void both_ways_agree(void **unused)
{
    (void)unused;
    uint32_t random = 1;
    for (size_t length = 0; length < 300; length++) {
        unsigned char *bytes = malloc(length + 1);
        assert_non_null(bytes);
        for (size_t i = 0; i <= length; i++)
            bytes[i] = (unsigned char)((random = random * 1664525U + 1013904223U) >> 24);
        assert_int_equal(checksum_of(bytes + 1, length), checksum_by_table(bytes + 1, length));
        if (length > 0) { /* and a bit makes a difference */
            uint32_t before = checksum_of(bytes + 1, length);
            bytes[1 + length / 2] ^= 4;
            assert_int_not_equal(checksum_of(bytes + 1, length), before);
        }
        free(bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_values_are_met),
        cmocka_unit_test(both_ways_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

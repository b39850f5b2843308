/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_wire_golden.c - the format, byte for byte: what older nodes send is read, and what we send they can read. The
 * bytes below stay as they are; how the format may grow is told at the top of src/wire/cluster.proto.
 */
#include "wire/exchange.h"

#include <stdio.h>
#include <string.h>

/* The samples in their order. */
static const char *const golden[SAMPLES] = {
    /* beat */
    "080112066e6f64652d6119887766554433221152a4010807111032547698badcfe18f40320b81728013001380140ffff034a380a"
    "096d616368696e652d30120d0805100219a8a7a6a5a4a3a2a118e807208407280c300b39ffffffffffffffff4101000000000000"
    "0048014a440a0a6d616368696e652dc3a9121f08ffffffffffffffffff0110ffffffffffffffffff0119ffffffffffffffff18ff"
    "ffffffffffffffff015001580162066e6f64652d62510807060504030201",
    /* changes */
    "080112066e6f64652d611988776655443322115af4010a096d616368696e652d30120d0805100219a8a7a6a5a4a3a2a118292224"
    "30613266396331652d366337622d346435392d386430652d316635623761336339643031222437623431643261612d393363652d"
    "346630622d626236642d3532633865306636613930322a2b080110ffffffffffffffffff012208756e69742d612d302a077b226b"
    "223a317d30013915cd55f5517286182a17080118012208756e69742d622d3039ffffffffffffffff2a18080110ac022208756e69"
    "742d632d303916cd55f5517286182a0e080210ac023917cd55f5517286182a0d08033918cd55f55172861840062a0b08043919cd"
    "55f551728618",
    /* activity */
    "080112066e6f64652d61198877665544332211623d0a096d616368696e652d30120d0805100219a8a7a6a5a4a3a2a118632115cd"
    "55f5517286182a0e0007a502d3fdffffffffffffff0132060009c0b80202",
    /* ask */
    "080112066e6f64652d611988776655443322116a8001080212096d616368696e652d301a0d0805100219a8a7a6a5a4a3a2a12028"
    "298967452301efcdab3200320408031007321608feffffffffffffffff0110ffffffffffffffffff013a2430613266396331652d"
    "366337622d346435392d386430652d3166356237613363396430314208756e69742d612d30494d00000000000000",
    /* chunk */
    "080112066e6f64652d6119887766554433221172d7010a096d616368696e652d30120d0805100219a8a7a6a5a4a3a2a1182e202d"
    "28073115750efd43728618398967452301efcdab40ac02480150b3ea015915cd55f551728618622437623431643261612d393363"
    "652d346630622d626236642d353263386530663661393032622430613266396331652d366337622d346435392d386430652d3166"
    "356237613363396430316a1108091a08756e69742d622d3022017830016a1f08ffffffffffffffffff0110011a08756e69742d61"
    "2d302801380140bf843d6a111a08756e69742d622d313880f0b2524001",
    /* known */
    "080112066e6f64652d611988776655443322117a8b01094d0000000000000010011a380a096d616368696e652d30120d08051002"
    "19a8a7a6a5a4a3a2a118e807208407280c300b39ffffffffffffffff41010000000000000048011a440a0a6d616368696e652dc3"
    "a9121f08ffffffffffffffffff0110ffffffffffffffffff0119ffffffffffffffff18ffffffffffffffffff015001580162066e"
    "6f64652d62",
    /* forget */
    "080112066e6f64652d611988776655443322118201210a096d616368696e652d30120d0805100219a8a7a6a5a4a3a2a118808080"
    "808020",
    /* evidence */
    "080112066e6f64652d611988776655443322118a01a101094d00000000000000122430613266396331652d366337622d34643539"
    "2d386430652d3166356237613363396430311a08756e69742d612d30200228023115cd55f5517286183916cd55f5517286184001"
    "4a290a096d616368696e652d3010ffffffffffffffffff0118012915cd55f55172861832066e6f64652d624a200a096d61636869"
    "6e652d31200129eb32aa0aae8d79e732066e6f64652d63380150ac02",
};

enum { MOST_BYTES = 1024 };

static size_t from_hex(const char *hex, uint8_t *bytes)
{
    size_t length = strlen(hex) / 2;
    must(length <= MOST_BYTES);
    for (size_t i = 0; i < length; i++) {
        unsigned byte;
        must(sscanf(hex + 2 * i, "%2x", &byte) == 1);
        bytes[i] = (uint8_t)byte;
    }
    return length;
}

static void samples_are_said_in_these_bytes(void **state)
{
    struct exchange *exchange = *state;
    for (size_t i = 0; i < SAMPLES; i++) {
        uint8_t bytes[MOST_BYTES];
        size_t length = from_hex(golden[i], bytes);
        assert_int_equal(say(exchange, &samples[i].message), WIRE_OK);
        assert_int_equal(exchange->length, length);
        assert_memory_equal(exchange->bytes, bytes, length);
    }
}

static void these_bytes_are_heard_as_the_samples(void **state)
{
    struct exchange *exchange = *state;
    for (size_t i = 0; i < SAMPLES; i++) {
        uint8_t bytes[MOST_BYTES];
        assert_int_equal(hear(exchange, bytes, from_hex(golden[i], bytes)), WIRE_OK);
        expect_same(&exchange->heard, &samples[i].message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story(samples_are_said_in_these_bytes),
        story(these_bytes_are_heard_as_the_samples),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

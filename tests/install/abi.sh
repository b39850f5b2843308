#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A program that was linked with the library of the committed snapshot still works with this one: abidiff finds no
# difference in the exported functions and the public types. After a change on purpose: scripts/abi-update.
#   abi.sh SOURCE_ROOT SHARED_LIBRARY SNAPSHOT      SNAPSHOT: its name in abi/
set -u
. "$(dirname "$0")/story.sh"

root=$1
library=$2
snapshot=$root/abi/$3
same="the ABI is that of abi/$3"
complete="the snapshot knows every exported function"

same_as_snapshot() {
    abidiff "$snapshot" "$scratch/now.abi"
}

knows_every_function() {
    nm -D --defined-only "$library" | awk '{ print $NF }' | sort -u >"$scratch/exported"
    grep -o "<elf-symbol name='[^']*'" "$snapshot" | cut -d"'" -f2 | sort -u | diff - "$scratch/exported"
}

# The comparison is alive: the same text with one member of a public struct narrowed is told apart.
tells_a_difference() {
    grep -q "<var-decl name='connection_id' type-id=" "$scratch/now.abi"
    sed "s/<var-decl name='connection_id' type-id='[^']*'/<var-decl name='connection_id_was' type-id='$(
        grep -o "<var-decl name='controller_agent' type-id='[^']*'" "$scratch/now.abi" | head -n 1 | cut -d"'" -f4
    )'/" "$scratch/now.abi" >"$scratch/other.abi"
    # abidiff's status is a sum: 4 says that the ABI changed; 1 and 2 say that it could not compare.
    local status=0
    abidiff "$snapshot" "$scratch/other.abi" || status=$?
    [ $((status & 7)) -eq 4 ]
}

nothing_of_a_machine() {
    none -nE "='[^']*/|comp-dir-path|filepath" <"$snapshot"
}

if ! have abidw || ! have abidiff; then
    skip "$same" "abigail-tools is not installed"
elif [ "$(uname -m)" != x86_64 ]; then
    skip "$same" "the snapshot is of x86_64, this is $(uname -m)"
elif ! readelf -S "$library" | grep -q '\.debug_info'; then
    skip "$same" "the library was built without debug information"
else
    "$root/scripts/abi-update" --write "$(realpath "$library")" >"$scratch/now.abi"
    story "$same" same_as_snapshot
    story "$complete" knows_every_function
    story "a changed public struct would be noticed" tells_a_difference
fi
story "the snapshot holds no path" nothing_of_a_machine
end_of_stories

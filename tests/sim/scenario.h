/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scenario.h - a bad day of a random cluster, made by a seed: nodes, gateways, weather and faults, then rest.
 */
#ifndef SIM_SCENARIO_H
#define SIM_SCENARIO_H

#include "world.h"

void scenario_run(struct world *world);

#endif

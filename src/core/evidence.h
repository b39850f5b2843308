/* SPDX-License-Identifier: Apache-2.0 */
/*
 * evidence.h - why and since when an agent's best status is what it is.
 *
 * A change of one of an agent's own connections is written into the agent's record: status, reason, since. A change
 * of a whole server (down, lapse, restore, a list becoming visible) touches no agent, and must not: it is O(1). So the
 * evidence now is the recorded one, plus whatever happened to the agent's servers after the record's *basis*, which is
 * the revision up to which everything is in the record already. It is found from the rows' own revisions and the
 * servers' last events.
 *
 * The basis of an agent with AGENT_BASIS stands in the extras of its first row; else it is that row's own revision.
 *
 * Not known: of lapses, a server keeps the last only; of downs, the last sixteen between which connections stayed
 * missing. Where an agent has connections on several servers that lapsed repeatedly since its own last change, `since`
 * can therefore tell the latest of these changes only if it belongs to a server's last lapse.
 */
#ifndef EVIDENCE_H
#define EVIDENCE_H

#include "registry.h"

struct evidence {
    presence_status status;
    presence_reason reason;
    presence_time since;
};

/* Controller agents' connections do not count. O(1) for an agent with one connection, or if no server changed as a
 * whole since the agent's last own change; else O(connections of the agent up to the first alive one). */
presence_status evidence_best(const struct roots *roots, uint32_t agent);
/* The same of the live record. Where servers changed as a whole since the agent's last own change, and its status is
 * what it was, it notes that in the agent's record, so that the next answer is found there. Needs no memory. */
presence_status evidence_best_by_rows(struct registry *registry, uint32_t agent);
static inline presence_status evidence_best_live(struct registry *registry, uint32_t number)
{
    const struct agent *agent = agent_get(&registry->now, number);
    return __builtin_expect(agent->events == registry->now.events, 1) ? agent_recorded_status(agent)
                                                                      : evidence_best_by_rows(registry, number);
}

/* The same by looking at the connections in any case. */
presence_status evidence_walked(const struct roots *roots, uint32_t agent);
presence_status evidence_best_on_server(const struct roots *roots, uint32_t agent, uint32_t server);
struct evidence evidence_now(const struct roots *roots, uint32_t agent);
void evidence_fill(const struct roots *roots, uint32_t agent, presence_evidence *out);

/* Writer: the agent's record says this, and everything up to the present revision is in it. */
void evidence_record(struct registry *registry, uint32_t agent, struct evidence evidence);
/* The same for an agent whose only row was connected just now: nothing that its server went through counts. */
void evidence_record_first(struct registry *registry, uint32_t agent, struct evidence evidence);
/* Writer, after a change of the agent's rows: records `before` if the best status is what it was, else the new one
 * for that reason. Returns the best status. gained: the change can have made it better; else it can only have become
 * worse. */
presence_status evidence_changed(struct registry *registry, uint32_t agent, struct evidence before, bool gained,
                                 presence_reason reason, presence_time when);

#endif
